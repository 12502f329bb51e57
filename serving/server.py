"""uvicorn as this service uses it: a socket that is taken before the network is read, and an end that loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import socket
import struct
import sys
import time
import webbrowser
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.options import ServiceOptions
from utils import UserError

IDLE = 15  # seconds that a connection is kept without a request
HANDSHAKE, GRACE = 0.2, 1.0  # seconds at the end: for connections half made, and for requests on their way
# Linux's setting for a filter of packets, and one that drops those which open a connection: load byte 13, the flags of
# TCP; where SYN is not set, skip a line; drop; let through. A code is (operation, jump if true, if false, operand).
SO_ATTACH_FILTER = 26
DROP_SYN = [(0x30, 0, 0, 13), (0x45, 0, 1, 2), (0x06, 0, 0, 0), (0x06, 0, 0, 2**32 - 1)]


@contextlib.contextmanager
def listen(options: ServiceOptions) -> Iterator[socket.socket]:
    """The socket of the service.

    Raises:
        UserError: the address is none of this machine, or the port is taken.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0]
        server = socket.create_server(address[:2], family=family, backlog=1024)
        # Connections inherit it; else the body of an answer waits 40 ms for its head to be acknowledged. asyncio sets
        # it only where a socket names its protocol, and this one does not.
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        raise UserError(f"--host {options.host} --port {options.port}, where nothing can listen ({error.strerror})",
                        "an address of this machine and a free port", "choose another --port, or 0 for a free one",
                        ) from error
    with server:
        yield server


def serve(app: ASGIApp, server: socket.socket, *, open_page: bool) -> None:
    """Answer requests until SIGINT or SIGTERM; then those accepted, see `Server`; the signal is raised again."""
    host, port = server.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    print(f"listening on {address}; Ctrl-C ends it", flush=True)
    if open_page:
        webbrowser.open(address)  # its connection waits until the app has started
    # Python searches all objects for garbage once a quarter of them is new. With the 420,000 of the start, which stay,
    # 10 MB of garbage came together first, and a request waited for the search. Without them it is little each time.
    gc.collect()
    gc.freeze()
    Server(app).run(sockets=[server])


class LastAnswers:
    """ASGI middleware that says `Connection: close` with each answer once the service ends.

    Without it, a client that keeps its connection sends the next request into one that is being closed.

    Attributes:
        ending: whether the service ends.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self.app, self.ending = app, False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_marked(message: Message) -> None:
            if self.ending and message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        await self.app(scope, receive, send_marked)


class Server(uvicorn.Server):
    """uvicorn, whose end loses no request that was accepted.

    uvicorn alone closes the listening socket, which resets the connections that wait in it, and closes connections
    without a request, on one of which a client may just have sent one. Here, connections that were made before the
    signal are taken, and each may still bring a request within `GRACE` seconds; its answer says `Connection: close`.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Serve `app`."""
        self.answers = LastAnswers(app)
        super().__init__(uvicorn.Config(self.answers, log_level="warning", access_log=False, server_header=False,
                                        timeout_keep_alive=IDLE, proxy_headers=False))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take what has connected, refuse new connections, answer requests; then end as uvicorn does."""
        self.answers.ending = True
        for listener in sockets or []:
            _let_none_connect(listener)
        await asyncio.sleep(HANDSHAKE)  # the loop takes the connections that wait
        for listening in self.servers:
            listening.close()
        end = time.monotonic() + GRACE
        while self.server_state.connections and time.monotonic() < end and not self.force_exit:
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)


def _let_none_connect(listener: socket.socket) -> None:
    """Have the system ignore new connections, while those made are taken; where it cannot, a few may still be made."""
    if sys.platform != "linux":
        return
    codes = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *code) for code in DROP_SYN))
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER,
                            struct.pack("HP", len(DROP_SYN), ctypes.addressof(codes)))
