"""uvicorn as this service uses it: a socket that is taken before the network is read, and an end that loses nothing."""

from __future__ import annotations

import contextlib
import socket
import webbrowser
from collections.abc import Iterator
from typing import Any

import uvicorn

from serving.options import ServiceOptions
from utils import UserError

IDLE = 15  # seconds that a connection is kept without a request


@contextlib.contextmanager
def listen(options: ServiceOptions) -> Iterator[socket.socket]:
    """The socket of the service.

    Raises:
        UserError: the address is none of this machine, or the port is taken.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0]
        server = socket.create_server(address[:2], family=family, backlog=1024)
    except OSError as error:
        raise UserError(f"--host {options.host} --port {options.port}, where nothing can listen ({error.strerror})",
                        "an address of this machine and a free port", "choose another --port, or 0 for a free one",
                        ) from error
    with server:
        yield server


def serve(app: Any, server: socket.socket, *, open_page: bool) -> None:
    """Answer requests until SIGINT or SIGTERM; then those accepted; the signal is raised again."""
    host, port = server.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    print(f"listening on {address}; Ctrl-C ends it", flush=True)
    if open_page:
        webbrowser.open(address)  # its connection waits until the app has started
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, timeout_keep_alive=IDLE,
                            proxy_headers=False)
    uvicorn.Server(config).run(sockets=[server])
