"""Requests of which two servers could think differently where they end (RFC 9112, sections 5, 6 and 7)."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest
import uvicorn

from unmask.web.api.guard import Framing, limit_connections

CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
HOST = b"Host: a\r\n"
POST = b"POST / HTTP/1.1\r\n" + HOST
CODED = b"Transfer-Encoding: chunked\r\n"


@pytest.fixture(scope="module")
def seen() -> list[tuple[str, bytes]]:
    return []


@pytest.fixture(scope="module")
def port(seen: list[tuple[str, bytes]]) -> Iterator[int]:
    """A server as ours, of an application that remembers the paths and bodies it was asked."""

    async def remember(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        seen.append((scope["path"], body))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    listener = socket.create_server(("127.0.0.1", 0))
    protocol = limit_connections(20, head_seconds=2)
    config = uvicorn.Config(
        Framing(remember), http=protocol, ws="none", lifespan="off", log_config=None, proxy_headers=False
    )
    server = uvicorn.Server(config)
    thread = Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join(10)


def talk(port: int, data: bytes) -> bytes:
    """Send bytes and return what comes back until the server closes, or nothing comes for half a second."""
    with socket.create_connection(("127.0.0.1", port), timeout=0.5) as client:
        client.sendall(data)
        answer = b""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                part = client.recv(65536)
            except TimeoutError:
                if answer:
                    return answer + b"(open)"
                continue
            except ConnectionResetError:
                break
            if not part:
                break
            answer += part
    return answer


REFUSED = {
    "length beside chunks": POST + b"Content-Length: 5\r\n" + CODED + b"\r\n" + CHUNKS,
    "chunks beside a length of none": POST + CODED + b"Content-Length: 0\r\n\r\n" + CHUNKS,
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "a list of lengths": POST + b"Content-Length: 5, 6\r\n\r\nhello",
    "length with a sign": POST + b"Content-Length: +5\r\n\r\nhello",
    "length in hexadecimal": POST + b"Content-Length: 0x5\r\n\r\nhello",
    "length below none": POST + b"Content-Length: -5\r\n\r\nhello",
    "two codings": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n" + CHUNKS,
    "codings in two lines": POST + b"Transfer-Encoding: identity\r\n" + CODED + b"\r\n" + CHUNKS,
    "coding of nobody": POST + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKS,
    "coding with a vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + CHUNKS,
    "space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n" + CHUNKS,
    "folded coding": POST + b"Content-Length: 5\r\nTransfer-Encoding:\r\n chunked\r\n\r\n" + CHUNKS,
    "chunks in HTTP/1.0": b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    "two hosts": b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "null in a header": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n",
    "return in a header": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\rTransfer-Encoding: chunked\r\n\r\n",
    "space before the first header": b"GET / HTTP/1.1\r\n Host: a\r\nX: y\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00",
    "another version": b"GET / HTTP/3.7.1\r\n" + HOST + b"\r\n",
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_ambiguous_request_is_refused_and_its_connection_closed(
    port: int, seen: list[tuple[str, bytes]], case: str
) -> None:
    seen.clear()
    answer = talk(port, REFUSED[case] + b"\r\n" * (case == "no HTTP") + SMUGGLED)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400"), answer
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in head.lower()
    assert b"content-type: application/problem+json" in head.lower()
    assert not answer.endswith(b"(open)")
    problem = json.loads(body)
    assert problem["code"] in ("ambiguous_length", "not_http")
    assert problem["detail"]
    assert not seen


@pytest.mark.parametrize(
    "bad",
    [b"5;\n\r\nhello\r\n0\r\n\r\n", b"5\nhello\n0\n\n", b"-5\r\nhello\r\n0\r\n\r\n", b"0x5\r\nhello\r\n0\r\n\r\n",
     b"5\r\nhelloXX0\r\n\r\n", b"fffffffffffffffffffffff\r\nhello"],
)  # fmt: skip
def test_ambiguous_chunk_hides_no_request(port: int, seen: list[tuple[str, bytes]], bad: bytes) -> None:
    seen.clear()
    talk(port, b"POST /a HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + bad + SMUGGLED)
    assert "/smuggled" not in [path for path, _ in seen]


@pytest.mark.parametrize(
    ("request_", "body"),
    [
        (POST + b"Content-Length: 5\r\n\r\nhello", b"hello"),
        (POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
        (POST + b"Transfer-Encoding: Chunked\r\n\r\n" + CHUNKS, b"hello"),
        (POST + b"X: a\r\n b\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
        (b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", b""),
    ],
)
def test_unambiguous_request_is_answered(
    port: int, seen: list[tuple[str, bytes]], request_: bytes, body: bytes
) -> None:
    seen.clear()
    assert talk(port, request_).startswith(b"HTTP/1.1 200")
    assert seen == [("/", body)]


def test_one_address_cannot_take_all_connections(port: int) -> None:
    clients = [socket.create_connection(("127.0.0.1", port), timeout=2) for _ in range(13)]
    try:
        time.sleep(0.2)
        with socket.create_connection(("127.0.0.1", port), timeout=2, source_address=("127.0.0.2", 0)) as other:
            other.sendall(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
            assert other.recv(65536).startswith(b"HTTP/1.1 200")
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            clients[-1].sendall(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
            assert clients[-1].recv(65536) == b""
    finally:
        for client in clients:
            client.close()
