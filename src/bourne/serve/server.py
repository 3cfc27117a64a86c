"""The server of an instance: a thread with uvicorn in it, at one address.

Law: it listens before `serve` returns, or says why not; it ends with `close`, whoever is still connected.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import resource
import socket
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import uvicorn

from bourne.errors import DefinitionError, StorageError
from bourne.instance import Instance
from bourne.jobs.jobs import Scheduled
from bourne.limits import HTTP_IDLE_S, SERVE_CONNECTIONS_MAX, SERVE_SEND_BUFFER_BYTES
from bourne.running import Progress
from bourne.serve.api import make_app
from bourne.serve.connection import Connection, Messages, Waiting
from bourne.serve.guard import ClientGone, Guard
from bourne.serve.service import Service
from bourne.serve.tokens import Tokens

HOST: Final = "127.0.0.1"
PORT: Final = 8040

# How many connections may wait to be accepted.
_BACKLOG: Final = 2_048

# How long requests in work have to end, in seconds, before they are cut off.
_END_S: Final = 2

# Files that the process needs beside connections.
_OTHER_FILES: Final = 1_024


class Server:
    """Serves an instance until it is closed."""

    def __init__(
        self, instance: Instance, address: tuple[str, int] | None = None, *, file: Path | None = None, name: str | None = None,
        jobs: Scheduled | None = None,
    ) -> None:  # fmt: skip
        """Listen; port 0 is any free one, and so is a taken default one: see `url`.

        Args:
            address: host and port; by default 127.0.0.1 and 8040.
            file: the Python file that declares the app, whose functions `/query` may call; `name` says which app.
            jobs: what begins runs of the app's jobs (`instance.jobs.scheduled()`), to be closed after the server; without
                it runs are shown, and none begun.

        Raises:
            DefinitionError: other machines could ask, and there are no tokens.
            StorageError: the port is taken or may not be used; the tokens cannot be read.
        """
        self.progress: dict[str, Progress] = {}
        tokens = Tokens(instance.folder)
        host = (address or (HOST, PORT))[0]
        is_local = _is_loopback(host)
        if not is_local and not tokens.are_set_up:
            raise DefinitionError(
                "other machines could read and write everything", where=f"address {host}",
                expected="127.0.0.1, [::1] or localhost", found=host,
                hint="set up tokens first: bourne token create NAME --role reader",
            )  # fmt: skip
        _allow_files()
        self._socket = _listen(address)
        self.address: tuple[str, int] = self._socket.getsockname()[:2]

        def make_service() -> Service:
            return Service(instance, file=file, name=name, progress=self.progress, jobs=jobs)

        inner = make_app(make_service, tokens)
        app: Any = Guard(inner, tokens, local_host=host if is_local else None)
        config = uvicorn.Config(
            app, loop="asyncio", http=Connection, ws=Messages, lifespan="on", log_config=None, access_log=False,
            proxy_headers=False, server_header=False, backlog=_BACKLOG, limit_concurrency=SERVE_CONNECTIONS_MAX,
            timeout_keep_alive=HTTP_IDLE_S, timeout_graceful_shutdown=_END_S, ws_max_size=1 << 16, ws_max_queue=16,
            ws_per_message_deflate=False,
        )  # fmt: skip
        config.waiting = Waiting()  # type: ignore[attr-defined]

        async def end_streams() -> None:
            await inner.state.service.end_streams()

        self._server = _Server(config, end_streams)
        self._failure: BaseException | None = None
        logging.getLogger("uvicorn.error").addFilter(_FAULTS)
        self._thread = threading.Thread(target=self._run, name="bourne-serve", daemon=True)
        self._thread.start()
        self._server.is_up.wait()
        if self._failure is not None or not self._server.started:
            self.close()
            raise StorageError("the server could not be started", found=str(self._failure)) from self._failure

    def _run(self) -> None:
        try:
            asyncio.run(self._server.serve([self._socket]))
        except BaseException as error:  # noqa: BLE001  (raised where it was started)
            self._failure = error
        finally:
            self._server.is_up.set()

    @property
    def url(self) -> str:
        """Where it is, for a browser."""
        host, port = self.address
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def note(self, progress: list[Progress]) -> None:
        """Take in where the views are. From any thread."""
        self.progress.update({each.view: each for each in progress if not each.is_new})

    def close(self) -> None:
        """End, and free the port. Safe to call twice."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Server(uvicorn.Server):
    """Says when it is up, leaves signals alone, and ends streams before it waits for requests in work."""

    def __init__(self, config: uvicorn.Config, end_streams: Callable[[], Awaitable[None]]) -> None:
        super().__init__(config)
        self.is_up = threading.Event()
        self._end_streams = end_streams

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve."""
        await super().startup(sockets)
        self.is_up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End."""
        await self._end_streams()
        await super().shutdown(sockets)


class _Faults(logging.Filter):
    """Lets through what is our fault: what clients do wrong is told to them, not to who runs the server."""

    def filter(self, record: logging.LogRecord) -> bool:
        found = record.exc_info[1] if record.exc_info else None
        return isinstance(found, Exception) and not isinstance(found, ClientGone)


_FAULTS: Final = _Faults()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return False


def _listen(address: tuple[str, int] | None) -> socket.socket:
    tries = [(HOST, PORT), (HOST, 0)] if address is None else [address]
    for number, (host, port) in enumerate(tries, 1):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            found = socket.create_server((host.strip("[]"), port), family=family, backlog=_BACKLOG)
        except OSError as error:
            if number == len(tries):
                raise StorageError(
                    f"cannot listen on {host}:{port}", found=str(error),
                    hint="choose another port with --address, or stop what uses it",
                ) from error  # fmt: skip
            continue
        # Connections inherit it: else a short answer in two writes waits for the client's delayed acknowledgement.
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SERVE_SEND_BUFFER_BYTES)
        return found
    raise AssertionError


def _allow_files() -> None:
    """Let the process have as many open files as it needs for its connections, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = SERVE_CONNECTIONS_MAX + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
