"""How the server ends: what has connected is answered, and only then does it close."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from serving.options import ServiceOptions

REASON = "the packages of requirements-serve.txt are not installed"
serving = pytest.importorskip("serving.server", reason=REASON)
requests = pytest.importorskip("starlette.requests", reason=REASON)
responses = pytest.importorskip("starlette.responses", reason=REASON)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """An application that answers with the body."""
    if scope["type"] == "http":
        await responses.PlainTextResponse(await requests.Request(scope, receive).body())(scope, receive, send)


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, int, threading.Thread]]:
    """A server in a thread, and its port; requests on their way have a minute."""
    monkeypatch.setattr("serving.server.GRACE", 60)
    with serving.listen(ServiceOptions(port=0)) as listener:
        server = serving.Server(echo)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield server, listener.getsockname()[1], thread
        server.should_exit = server.force_exit = True
        thread.join(60)


def connect(port: int) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.connect()
    return connection


def takes_connections(port: int) -> bool:
    """Whether a new connection is made."""
    with contextlib.suppress(ConnectionRefusedError):
        connect(port).close()
        return True
    return False


def answer(connection: http.client.HTTPConnection) -> tuple[bytes, str | None]:
    """The body of an answer, and whether the connection is kept."""
    response = connection.getresponse()
    return response.read(), response.getheader("connection")


def test_an_answer_does_not_wait_for_its_head_to_be_acknowledged() -> None:
    with serving.listen(ServiceOptions(port=0)) as server:
        client = socket.create_connection(server.getsockname())
        connection, _ = server.accept()
        with client, connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_what_has_connected_before_the_end_is_answered(running: tuple[Any, int, threading.Thread]) -> None:
    server, port, thread = running
    kept, silent, half = connect(port), connect(port), connect(port)
    kept.request("POST", "/", b"first")
    assert answer(kept) == (b"first", None)
    half.putrequest("POST", "/")
    half.putheader("Content-Length", "4")
    half.endheaders(b"ha")
    server.should_exit = True
    while takes_connections(port):  # uvicorn alone has closed the connections by then
        time.sleep(0.01)
    for connection, body in ((kept, b"second"), (silent, b"only")):
        connection.request("POST", "/", body)
        assert answer(connection) == (body, "close")
    half.send(b"lf")
    assert answer(half) == (b"half", "close")
    thread.join(60)  # it waits for no more, as no connection is left
    assert not thread.is_alive()
