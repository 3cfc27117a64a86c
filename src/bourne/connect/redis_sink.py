"""Rows into Redis: `redis://host:port/0?prefix=orders:&as=hash|json|stream` (`rediss://` for TLS).

Law: rows and position change in one Lua script, or, if a change is large, count from one script on
(`bourne.connect.redis_scripts`). So what Redis holds after a crash, on either side, is what the view said at its position;
while a large change is applied, and until the sink is opened again if that was cut short, a reader sees a part of it.

Each row is a key of its own, named by the prefix and the columns of the shape's key. By default it is a hash, with a field
per column and none for NULL: one value can be read alone, and it is what Redis's own indexes read. With `as=json` it is one
JSON text, which keeps NULL and numbers apart from texts. Rows without a key, with weights or not, are the entries of one
stream, called as the prefix says (`as=stream`).

Values are texts, as DuckDB writes them, bytes as they are; so every type is held exactly. A row that is all NULL is
refused as a hash or an entry. With `as=json` a value of type JSON is part of the text: it loses line breaks between
its parts, and its `null` is NULL.

Durable is what the server makes so: with `appendfsync always` all that `write` returned from; with `everysec` a power cut
takes the last second, rows and position together, so that they are written again; without `appendonly` a restart takes
all, and the sink begins anew. A replica that becomes the primary is the same: it may be behind, but it is whole. Do not let
Redis evict keys (`maxmemory-policy noeviction`). Redis Cluster is refused: no script of its can reach all rows.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from bourne.connect.positions import moved, position_text, read_position
from bourne.connect.redis_rows import PART_ROWS, Form, Part, check_rows, parts_of
from bourne.connect.redis_scripts import APPLY, BEGIN, COMMIT, DROP, STAGE, WRITE
from bourne.connect.silence import OPTION as SILENCE
from bourne.connect.silence import read_silence
from bourne.connect.sink import Change, Shape
from bourne.connect.sink_url import check_shape, split_options
from bourne.connect.source import Delivery, Position
from bourne.errors import BourneError, DefinitionError, Rejected, SinkFailed, Unreachable

URL: Final = "redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]?prefix=PREFIX&as=hash|json|stream"

# What Redis answers while it cannot write just now.
_NOT_NOW: Final = (
    "OOM",
    "LOADING",
    "BUSY",
    "READONLY",
    "MISCONF",
    "MASTERDOWN",
    "NOREPLICAS",
    "CLUSTERDOWN",
    "TRYAGAIN",
)


class RedisSink:
    """Keys, or a stream, of one database of a Redis server."""

    delivery: Delivery = "exactly once"

    def __init__(
        self,
        connect: Callable[[], Any],
        shape: Shape,
        *,
        prefix: str,
        form: Form | None = None,
        where: str = "Redis",
        part_rows: int = PART_ROWS,
    ) -> None:
        """Note what to open.

        Args:
            connect: returns a client of the package `redis`, which answers bytes and tries nothing again.
            prefix: what the names of keys begin with; of a stream, its name.
            form: what a row is; by default a hash if the shape has a key, else an entry of a stream.
            where: what errors call the server: without a password.
            part_rows: so many rows are written in one script.

        Raises:
            DefinitionError: Redis cannot hold such rows so.
        """
        check_shape(shape)
        self._form: Form = form or ("hash" if shape.key else "stream")
        if (self._form == "stream") == bool(shape.key):
            raise DefinitionError(
                "a stream's entries cannot be replaced" if shape.key else "rows of Redis need a key",
                where=f"sink {shape.name!r}", expected="a key for as=hash and as=json, none for as=stream",
                found=f"as={self._form}", hint="leave out `as`",
            )  # fmt: skip
        if self._form == "stream" and not prefix:
            raise DefinitionError(
                "a stream needs a name", where=f"sink {shape.name!r}", expected=URL, hint="say prefix=…"
            )
        self._connect, self._shape, self._prefix, self._part_rows = connect, shape, prefix, part_rows
        self._where = f"{where}, {prefix!r}"
        # No row's key: there, % is followed by 25, 3A or N.
        self._key = f"{prefix}%position" + (f"/{shape.name}" if shape.is_shared else "")
        self._client: Any = None
        self._scripts: dict[str, Any] = {}

    @staticmethod
    def from_url(url: str, shape: Shape) -> RedisSink:
        """Return the sink that a URL names. Without `prefix`, it is the shape's name, and a colon if it has a key.

        Raises:
            DefinitionError: it names none.
        """
        redis = _package()
        parts = urlsplit(url)
        options = split_options(parts.query, options=["prefix", "as", SILENCE], form=URL)
        form: Any = options.get("as")
        try:
            where = f"Redis {parts.hostname}:{parts.port or 6379}{parts.path}"
        except ValueError as error:
            raise DefinitionError("the port is no number", expected=URL) from error
        database = parts.path.strip("/")
        if parts.scheme not in ("redis", "rediss") or not parts.hostname or not (database or "0").isdecimal():
            raise DefinitionError(
                "that is not the address of a Redis", expected=URL, found=f"{parts.scheme}: {where}"
            )
        if form not in (None, "hash", "json", "stream"):
            raise DefinitionError("Redis does not hold rows so", expected=URL, found=f"as={form}")

        silence_s = read_silence(options, where=where)

        def connect() -> Any:
            once = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
            return redis.Redis.from_url(
                parts._replace(query="", fragment="").geturl(), retry=once, socket_timeout=silence_s,
                socket_connect_timeout=silence_s,
            )  # fmt: skip

        prefix = options.get("prefix", shape.name + (":" if shape.key else ""))
        return RedisSink(connect, shape, prefix=prefix, form=form, where=where)

    def open(self) -> Position | None:
        """Connect, finish what was cut short, and return the position that is held.

        Raises:
            Unreachable: the server does not answer, or cannot write now.
            SinkFailed: something else is under the prefix, or the server does not let us.
        """
        self.close()
        with self._mapped():
            self._client = self._connect()
            self._scripts = {text: self._client.register_script(text) for text in _ALL}
            if self._client.info("cluster").get("cluster_enabled"):
                raise SinkFailed(
                    "Redis Cluster cannot be written to", where=self._where, expected="one server"
                )
            if self._form == "stream" and (kind := self._client.type(self._prefix)) not in (
                b"none",
                b"stream",
            ):
                raise SinkFailed(
                    "what is there is no stream",
                    where=self._where,
                    expected="a stream, or nothing",
                    found=kind.decode(),
                )
            self._run(DROP)
            self._finish()
            held = {name.decode(): value.decode() for name, value in self._client.hgetall(self._key).items()}
        if held.get("sink", self._shape.name) != self._shape.name:
            raise SinkFailed(
                "under that prefix are the rows of another sink", where=self._where,
                expected=self._shape.name, found=held["sink"], hint="take another prefix",
            )  # fmt: skip
        return read_position(held.get("position"), where=self._where)

    def write(self, change: Change, position: Position, before: Position | None) -> None:
        """Write rows and position; as durable on return as the server has it."""
        check_rows(change, self._form)
        parts = parts_of(change, self._shape, self._form, self._prefix, rows_max=self._part_rows)
        old, new = position_text(before) or "", position_text(position) or ""
        first = next(parts)
        second = next(parts, None)
        with self._mapped():
            if second is None:
                self._check(self._run(WRITE, self._shape.name, old, new, *first), before)
                return
            name = uuid.uuid4().hex
            self._check(self._run(BEGIN, old, name), before)
            count = 0
            for part in _again(first, second, parts):
                self._check(self._run(STAGE, name, count, *part), before)
                count += 1
            self._check(self._run(COMMIT, self._shape.name, old, new, name, count), before)
            self._finish()

    def accepts(self, change: Change) -> bool:
        """Say whether Redis can hold the rows."""
        try:
            check_rows(change, self._form)
        except Rejected:
            return False
        return True

    def close(self) -> None:
        """Let go of the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    # --- scripts and errors ------------------------------------------------------------------------------

    def _run(self, script: str, *values: Any) -> Any:
        if self._client is None:
            raise Unreachable("the connection is not open", where=self._where, hint="open it")
        return self._scripts[script](keys=[self._key], args=values)

    def _finish(self) -> None:
        """Apply what counts already, part by part."""
        while self._run(APPLY)[1]:
            pass

    def _check(self, answer: list[bytes], before: Position | None) -> None:
        if answer[0] == b"moved":
            raise moved(answer[1].decode(errors="replace"), before, where=self._where)

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        """Turn the client's errors into ours."""
        redis = _package()
        try:
            yield
        except (redis.RedisError, OSError) as error:
            raise _error(error, redis, self._where) from error


def _error(error: Exception, redis: Any, where: str) -> BourneError:
    said = str(error)
    refuses_us = isinstance(error, redis.AuthenticationError | redis.exceptions.NoPermissionError)
    errors = redis.exceptions
    gone = (redis.ConnectionError, redis.TimeoutError, OSError, errors.OutOfMemoryError, errors.ReadOnlyError)
    is_gone = isinstance(error, gone) or any(f"{word} " in said for word in _NOT_NOW)
    if is_gone and not refuses_us:
        return Unreachable("Redis cannot write now", where=where, found=said)
    return SinkFailed(
        "Redis cannot do that", where=where, found=said, hint="is that the right server, and user?"
    )


def _again(first: Part, second: Part, rest: Iterator[Part]) -> Iterator[Part]:
    yield first
    yield second
    yield from rest


def _package() -> Any:
    """Return the client's package.

    Raises:
        DefinitionError: it is not installed.
    """
    try:
        import redis
    except ImportError as error:
        raise DefinitionError(
            "the package `redis` is not installed",
            expected="redis 5 or newer",
            hint="pip install 'bourne[redis]'",
        ) from error
    return redis


_ALL: Final = (WRITE, BEGIN, STAGE, COMMIT, APPLY, DROP)
