"""What a service may do and how much it takes, and who may ask it. Needs neither torch nor FastAPI."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from runtime.arguments import flag
from utils import UserError, read_bytes

KEY_VARIABLE = "LSNET_API_KEY"
SHORTEST_KEY, LONGEST_KEY = 16, 4096  # letters


@dataclass(frozen=True, kw_only=True)
class ServiceOptions:
    """Service."""

    host: str = flag("127.0.0.1", "address to listen on; one that other machines can reach needs an API key",
                     common=True)
    port: int = flag(8000, "port to listen on; 0 takes any free one", at_least=0, at_most=65535, common=True)
    writable: bool = flag(False, "let requests add artists to the gallery and remove them", common=True)
    api_key_file: Path | None = flag(None, f"file with the key that requests must send (default: the environment's "
                                           f"{KEY_VARIABLE}, else no key)", metavar="FILE", common=True)
    insecure: bool = flag(False, "let other machines in without an API key: whoever reaches the service may use it")
    allow_host: tuple[str, ...] = flag((), "further host names that requests may use, besides IP addresses, localhost "
                                           "and --host", metavar="NAME")
    allow_origin: tuple[str, ...] = flag((), "web pages of these origins may send requests, such as "
                                             "https://gallery.example", metavar="ORIGIN")
    queue: int = flag(256, "at most so many pictures wait; then requests are answered with 429", at_least=1)
    max_upload: int = flag(64, "largest request, MiB", at_least=1, at_most=2047, metavar="MIB", common=True)
    max_pictures: int = flag(64, "most pictures in a request", at_least=1)
    upload_time: int = flag(60, "seconds within which a request must have arrived", at_least=1, metavar="SECONDS")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the service."""
        return self.host == "localhost" or _is_loopback(self.host)

    def read_key(self) -> str | None:
        """The API key; None for none.

        Raises:
            UserError: the file cannot be read, the key is no key, or none protects a service that others can reach.
        """
        key = os.environ.get(KEY_VARIABLE) or None
        where = f"the environment's {KEY_VARIABLE}"
        if self.api_key_file:
            where = f"--api-key-file {self.api_key_file}"
            try:
                key = read_bytes(self.api_key_file, LONGEST_KEY).decode("ascii").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(f"{where}, which cannot be read ({error})", "a file with one line of ASCII",
                                "check the path") from error
        if key is not None and not (len(key) >= SHORTEST_KEY and key.isascii() and key.isprintable()
                                    and " " not in key):
            raise UserError(f"{where} with a key of {len(key)} letters",
                            f"{SHORTEST_KEY} or more letters and digits, without spaces", "choose a longer one")
        if key is None and not self.is_local and not self.insecure:
            raise UserError(f"--host {self.host} without an API key", "a key, as other machines can reach this address",
                            f"set {KEY_VARIABLE} or give --api-key-file, or add --insecure")
        return key


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
