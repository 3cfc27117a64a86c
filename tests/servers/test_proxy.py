"""The proxy of the tests does what it says: each fault, and what becomes of connections that live through it."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Iterator

import pytest

from servers.proxy import Proxy
from waiting import until


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that says again what it hears."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(1 << 16):
                connection.sendall(data)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.fixture
def proxy(echo: int) -> Iterator[Proxy]:
    with Proxy(echo) as proxy:
        yield proxy


@contextlib.contextmanager
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as connection:
        yield connection


def said(connection: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count and (piece := connection.recv(count - len(found))):
        found += piece
    return found


def is_silent(connection: socket.socket) -> bool:
    connection.settimeout(0.1)
    try:
        return not connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(20)


def test_it_passes_on(proxy):
    data = random.Random(1).randbytes(1_000_000)
    with client(proxy) as one, client(proxy) as other:
        writing = threading.Thread(target=one.sendall, args=(data,))
        writing.start()
        assert said(one, len(data)) == data
        writing.join()
        other.sendall(b"short")
        other.shutdown(socket.SHUT_WR)
        assert said(other, 100) == b"short"
        assert proxy.bytes_asked == proxy.bytes_answered == len(data) + 5
    until(lambda: proxy.connections == 0)


def test_cut(proxy):
    with client(proxy) as one:
        one.sendall(b"a")
        assert said(one, 1) == b"a"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            one.recv(1)
        with pytest.raises(OSError), client(proxy) as other:
            other.sendall(b"b")
            assert other.recv(1)
            raise OSError("the end")
    proxy.heal()
    with client(proxy) as one:
        one.sendall(b"c")
        assert said(one, 1) == b"c"


@pytest.mark.parametrize("is_reset", [False, True])
def test_half_open(proxy, is_reset):
    with client(proxy) as one:
        one.sendall(b"a")
        assert said(one, 1) == b"a"
        proxy.half_open()
        with client(proxy) as other:
            one.sendall(b"b")
            other.sendall(b"c")
            assert is_silent(one) and is_silent(other)
            assert proxy.bytes_asked == 1
            proxy.heal(reset=is_reset)
            if is_reset:
                with pytest.raises(ConnectionResetError):
                    one.recv(1)
            else:
                assert said(one, 1) == b"b"
                assert said(other, 1) == b"c"


def test_lost_answers(proxy):
    with client(proxy) as one:
        one.sendall(b"a")
        assert said(one, 1) == b"a"
        proxy.once(lambda data: data == b"now", proxy.lose_answers)
        one.sendall(b"b")
        assert said(one, 1) == b"b"
        one.sendall(b"now")
        assert is_silent(one)
        assert (proxy.bytes_asked, proxy.bytes_answered) == (5, 2)
        proxy.heal()
        assert said(one, 3) == b"now"


def test_truncated_answers(proxy):
    with client(proxy) as one, client(proxy) as other:
        proxy.truncate(3)
        one.sendall(b"abcdef")
        assert said(one, 6) == b"abc"
        assert not proxy.is_truncating
        other.sendall(b"abcdef")
        assert said(other, 6) == b"abcdef"


def test_slow_ones(proxy):
    for begin in (lambda: proxy.trickle(1), lambda: proxy.delay(0.01)):
        with client(proxy) as one:
            begin()
            one.sendall(b"abcdef")
            assert said(one, 6) == b"abcdef"


def test_it_ends_in_any_weather(echo):
    for name in ("cut", "half_open", "lose_answers", "heal"):
        with Proxy(echo) as proxy, client(proxy) as one:
            one.sendall(b"a")
            assert said(one, 1) == b"a"
            getattr(proxy, name)()
        until(lambda proxy=proxy: proxy.connections == 0)
