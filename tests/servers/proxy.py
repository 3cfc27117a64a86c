"""A TCP proxy in front of a server: the network's faults, switched on and off by a test while connections live.

    with Proxy(server.port) as proxy:
        connect_to(proxy.port)
        proxy.cut()         # all connections are reset, and new ones, too
        proxy.half_open()   # all is taken, nothing comes out: the dead peer that says nothing
        proxy.heal()        # all goes on; what was held back arrives late, or (`reset=True`) its connections are reset

What is held back stays in its order. Each direction of a connection is a thread.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final

Look = Callable[[bytes], bool]

_PIECE_BYTES: Final = 1 << 16

_HOST: Final = "127.0.0.1"

_SLOW_S: Final = 0.01


@dataclass(frozen=True)
class _Weather:
    """What becomes of what goes through: requests to the server, answers to the client."""

    is_cut: bool = False
    holds_requests: bool = False
    holds_answers: bool = False
    delay_s: float = 0.0
    piece_bytes: int = _PIECE_BYTES


class Proxy:
    """Listens on a free port of its own (`port`), and passes on to a server's port."""

    def __init__(self, server_port: int) -> None:
        """Listen."""
        self._server_port = server_port
        self._listener = socket.create_server((_HOST, 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        self._changed = threading.Condition()
        self._weather = _Weather()
        self._pairs: set[_Pair] = set()
        self._is_closed = False
        self._answer_bytes_left: int | None = None
        self._once: tuple[Look, Callable[[], None]] | None = None
        self.bytes_asked = 0
        self.bytes_answered = 0
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    @property
    def url_host(self) -> str:
        """Its address, as it stands in a URL."""
        return f"{_HOST}:{self.port}"

    # --- faults ------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Reset all connections, and each new one."""
        self._turn(replace(_Weather(), is_cut=True))
        self.reset()

    def half_open(self) -> None:
        """Take what comes and new connections, pass on nothing, and say nothing."""
        self._turn(replace(_Weather(), holds_requests=True, holds_answers=True))

    def lose_answers(self) -> None:
        """Pass on what the client sends; no answer comes back."""
        self._turn(replace(_Weather(), holds_answers=True))

    def delay(self, seconds: float) -> None:
        """Let each piece wait."""
        self._turn(replace(_Weather(), delay_s=seconds))

    @contextlib.contextmanager
    def slowness(self) -> Iterator[None]:
        """Let each piece wait while the block runs."""
        self.delay(_SLOW_S)
        try:
            yield
        finally:
            self.heal()

    def trickle(self, bytes_max: int, seconds: float = 0.0005) -> None:
        """Pass on a few bytes at a time."""
        self._turn(replace(_Weather(), delay_s=seconds, piece_bytes=bytes_max))

    def truncate(self, byte_count: int) -> None:
        """Let so many more bytes of answers through, and then close the connection that the next one is on."""
        with self._changed:
            self._answer_bytes_left = byte_count

    def heal(self, *, reset: bool = False) -> None:
        """End all faults. `reset`: connections that are there do not live on, as after a restart of a firewall."""
        if reset:
            self.reset()
        with self._changed:
            self._answer_bytes_left = self._once = None
        self._turn(_Weather())

    def once(self, look: Look, then: Callable[[], None]) -> None:
        """Do something just before the first piece of a request is passed on that looks so."""
        with self._changed:
            self._once = look, then

    def any_fault(self, rng: random.Random) -> str:
        """Begin one of the faults; return its name."""
        faults: list[tuple[str, Callable[[], None]]] = [
            ("cut", self.cut),
            ("half open", self.half_open),
            ("lost answers", self.lose_answers),
            ("delay", lambda: self.delay(rng.choice([0.005, 0.05]))),
            ("trickle", lambda: self.trickle(rng.randint(1, 50))),
            ("truncated answer", lambda: self.truncate(rng.randint(0, 400))),
        ]
        name, begin = rng.choice(faults)
        begin()
        return name

    def reset(self) -> None:
        """Reset the connections that are there."""
        with self._changed:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            self._end(pair)

    @property
    def connections(self) -> int:
        """How many connections there are."""
        with self._changed:
            return len(self._pairs)

    @property
    def is_truncating(self) -> bool:
        """Say whether a connection is still to be closed in the midst of an answer."""
        return self._answer_bytes_left is not None

    def _turn(self, weather: _Weather) -> None:
        with self._changed:
            self._weather = weather
            self._changed.notify_all()

    # --- its threads -------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            with self._changed:
                is_refused = self._weather.is_cut or self._is_closed
            if is_refused:
                _reset(client)
                continue
            pair = _Pair(client)
            with self._changed:
                self._pairs.add(pair)
            threading.Thread(target=self._serve, args=(pair,), daemon=True).start()

    def _serve(self, pair: _Pair) -> None:
        """Connect to the server as soon as the weather lets through what is sent there; pass on until an end."""
        try:
            self._wait(pair, lambda: self._weather.holds_requests)
            pair.connect(self._server_port)
            back = threading.Thread(
                target=self._pass_on, args=(pair, pair.server, pair.client, False), daemon=True
            )
            back.start()
            self._pass_on(pair, pair.client, pair.server, True)
            back.join()
        except OSError:
            pass
        finally:
            with self._changed:
                self._pairs.discard(pair)
            self._end(pair)

    def _pass_on(self, pair: _Pair, one: socket.socket, other: socket.socket, is_request: bool) -> None:
        try:
            while data := one.recv(self._weather.piece_bytes):
                self._look(data, is_request)
                self._wait(pair, lambda: self._holds(is_request))
                if self._weather.delay_s:
                    pair.ended.wait(self._weather.delay_s)
                allowed = self._allowed(len(data), is_request)
                other.sendall(data[:allowed])
                if allowed < len(data):
                    other.shutdown(socket.SHUT_WR)  # what has passed arrives
                    self._end(pair)
                    return
            self._wait(pair, lambda: self._holds(is_request))
            other.shutdown(socket.SHUT_WR)
        except OSError:
            self._end(pair)

    def _end(self, pair: _Pair) -> None:
        pair.end()
        with self._changed:
            self._changed.notify_all()

    def _holds(self, is_request: bool) -> bool:
        return self._weather.holds_requests if is_request else self._weather.holds_answers

    def _look(self, data: bytes, is_request: bool) -> None:
        then = None
        with self._changed:
            if is_request and self._once is not None and self._once[0](data):
                (_, then), self._once = self._once, None
        if then is not None:
            then()

    def _wait(self, pair: _Pair, holds: Callable[[], bool]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: pair.ended.is_set() or self._is_closed or not holds())
        if pair.ended.is_set() or self._is_closed:
            raise OSError("the connection is cut")

    def _allowed(self, count: int, is_request: bool) -> int:
        """Return how much of a piece passes, and count it."""
        with self._changed:
            if is_request:
                self.bytes_asked += count
                return count
            left = self._answer_bytes_left
            if left is not None:
                is_last, count = left < count, min(left, count)
                self._answer_bytes_left = None if is_last else left - count
            self.bytes_answered += count
            return count

    # --- its life ----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Cut all, and stop listening."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Pair:
    """A client's connection, and the one to the server that belongs to it."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.server = socket.socket()
        self.ended = threading.Event()
        for each in (self.client, self.server):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connect(self, port: int) -> None:
        self.server.connect((_HOST, port))

    def end(self) -> None:
        """Reset both. Safe to call twice."""
        self.ended.set()
        for each in (self.client, self.server):
            _reset(each)


def _reset(connection: socket.socket) -> None:
    """Close a connection as a crash of its host does: what is still to be sent is lost. From any thread."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RD)  # wakes who reads from it
    connection.close()
