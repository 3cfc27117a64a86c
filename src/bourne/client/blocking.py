"""The client that waits: `Client`, and its `Replica`, which a thread keeps current."""

from __future__ import annotations

import contextlib
import itertools
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

import httpx

from bourne.client.asking import WAIT_S, Answer, Asking, HasPosition, Request, Sent
from bourne.client.copy import Copied, ReplicaState, text_of
from bourne.client.cut import Cut
from bourne.client.following import Change, Following
from bourne.errors import BourneError, Closed, Unreachable

T = TypeVar("T")

Tell = Callable[[ReplicaState], None]


class Client:
    """A client of a server of Bourne's. Safe in several threads.

    Every method raises `Unreachable` if the server cannot be reached, `NotAllowed` without the right token, `UnknownName`,
    `QueryError` or `InputError` where the server refuses, and `ServerRefused` for what else it says.
    """

    def __init__(self, url: str, *, token: str | None = None, is_monotonic: bool = False) -> None:
        """Connects with the first call.

        Args:
            token: as `bourne token create` prints it.
            is_monotonic: each answer reflects at least what this client saw or appended before; so it may wait for it.
        """
        self._asking = Asking(url, token, is_monotonic=is_monotonic)
        self._cut = Cut()
        self._mutex = threading.Lock()
        self._streams: set[Cut] = set()
        self._http = self._connect()

    def append(self, log: str, rows: Any, *, request_id: str | None = None) -> Sent:
        """Append records; they are durable when this returns.

        Args:
            rows: a list of dicts; or an Arrow, Polars or pandas table, or anything else with the Arrow PyCapsule interface.
            request_id: an id of this call: a repeat writes nothing. By default one of its own, so that a try after a lost
                answer does no harm.
        """
        return self._ask(self._asking.append(log, rows, request_id))

    def view(
        self, view: str, *, filter: Mapping[str, Any] | None = None, where: str | None = None,
        columns: Sequence[str] | None = None, order: Sequence[str] = (), limit: int | None = None, page: int | None = None,
        at_least: str | HasPosition | None = None, wait_s: float = WAIT_S,
    ) -> Answer:  # fmt: skip
        """Return rows of a view, by default the first 1,000; `is_more` says whether there are others.

        Args:
            filter: values that columns have.
            where: a condition over the columns, without functions.
            order: columns; `"total.desc"` the other way round.
            at_least: a position, or what has one, such as what `append` returned: its records are in the answer.
            wait_s: how long the server waits for that; then it is `Behind`.
        """
        return self._ask(
            self._asking.view(view, filter, where, columns, order, limit, page, at_least, wait_s)
        )

    def query(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None, *,
        at_least: str | HasPosition | None = None, wait_s: float = WAIT_S,
    ) -> Answer:  # fmt: skip
        """Return the answer to one SELECT over views and logs, all at one position."""
        return self._ask(self._asking.query(sql, parameters, at_least, wait_s))

    def log(
        self, log: str, *, start: int | None = None, last: int | None = None, partition: int | None = None,
        limit: int | None = None, columns: Sequence[str] | None = None,
    ) -> Answer:  # fmt: skip
        """Return records of a log with their offsets: from one on, or the last ones."""
        return self._ask(self._asking.log(log, start, last, partition, limit, columns))

    def status(self) -> dict[str, Any]:
        """Return how logs, views, sources and sinks are."""
        return self._ask(self._asking.status())

    def follow(
        self, view: str, *, filter: Mapping[str, Any] | None = None, where: str | None = None,
        columns: Sequence[str] | None = None, after: str | None = None, snapshot: bool = True, positions: bool = False,
    ) -> Iterator[Change]:  # fmt: skip
        """Yield the view as it is, and then what becomes of it, for ever: across cuts and restarts without gap or repeat.

        Args:
            after: the id of the last change that was dealt with: go on from there.
            snapshot: without it, and without `after`, only what changes from now on.
            positions: also yield changes without rows, which say that the view reflects later records.

        Ends when the client is closed. Raises what a server that refuses says; one that is not there is tried again.
        """
        following = Following(
            self._asking, view, filter=filter, where=where, columns=columns, after=after, snapshot=snapshot,
            positions=positions,
        )  # fmt: skip
        return self._changes(following, Cut(), lambda state: None)

    def replica(
        self, view: str, *, filter: Mapping[str, Any] | None = None, where: str | None = None,
        columns: Sequence[str] | None = None, on_change: Callable[[Replica], None] | None = None, wait_s: float = 30.0,
    ) -> Replica:  # fmt: skip
        """Return a local copy of a view, to be used in a `with` block: entering it waits for the first state.

        Args:
            on_change: called in the replica's thread after each change of its rows. If it raises, the replica ends with that.
            wait_s: how long entering waits; then it is `Behind`.
        """
        following = Following(self._asking, view, filter=filter, where=where, columns=columns, positions=True)
        return Replica(lambda cut, tell: self._changes(following, cut, tell), on_change, wait_s)

    def close(self) -> None:
        """End what follows, and the connections. Safe to call twice, and from any thread."""
        self._cut.close()
        with self._mutex:
            streams = list(self._streams)
        for cut in streams:
            cut.close()
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- over the wire -----------------------------------------------------------------------------------------

    def _connect(self) -> httpx.Client:
        return httpx.Client(base_url=self._asking.url, headers=self._asking.headers, verify=tls(self._asking))

    def _ask(self, request: Request[T]) -> T:
        for failures in itertools.count():
            self._check_open()
            try:
                return self._asking.read(request, self._http.request(**request.arguments()))
            except (httpx.HTTPError, BourneError) as error:
                pause_s = self._asking.pause_s(error, failures)
            self._cut.wait(pause_s)
        raise AssertionError

    def _changes(self, following: Following, cut: Cut, tell: Tell) -> Iterator[Change]:
        self._check_open()
        with self._mutex:
            self._streams.add(cut)
        try:
            with self._connect() as http:
                while not (cut.is_closed or self._cut.is_closed):
                    error: Exception = Unreachable("the server ended the stream", where=self._asking.url)
                    try:
                        yield from self._stream(http, following, cut, tell)
                    except (httpx.HTTPError, BourneError) as raised:
                        error = raised
                    tell("offline")
                    if not (cut.is_closed or self._cut.is_closed):
                        cut.wait(following.pause_s(error))
        finally:
            with self._mutex:
                self._streams.discard(cut)

    def _stream(self, http: httpx.Client, following: Following, cut: Cut, tell: Tell) -> Iterator[Change]:
        """Yield what comes over one connection."""
        if (request := following.columns_request) is not None:
            response = http.request(**request.arguments(), extensions={"trace": cut.note})
            following.take_columns(self._asking.read(request, response))
        with http.stream(**following.arguments(), extensions={"trace": cut.note}) as response:
            if not response.is_success:
                response.read()
            following.check(response)
            tell("catching up")
            for data in response.iter_raw():
                yield from following.take(data)

    def _check_open(self) -> None:
        if self._cut.is_closed:
            raise Closed("the client is closed", where=self._asking.url)


class Replica(Copied):
    """A copy of a view that a thread keeps current. `state` says how it is, `error` why it has ended."""

    def __init__(
        self, changes: Callable[[Cut, Tell], Iterator[Change]], on_change: Callable[[Replica], None] | None, wait_s: float
    ) -> None:  # fmt: skip
        super().__init__()
        self._changes = changes
        self._on_change = on_change
        self._wait_s = wait_s
        self._cut = Cut()
        self._thread = threading.Thread(target=self._run, name="bourne-replica", daemon=True)
        self._fault: BaseException | None = None

    def reaches(self, position: str | HasPosition, timeout_s: float = 30.0) -> None:
        """Wait until it reflects a position.

        Raises:
            Behind: not in time.
            BourneError: it never will: why the replica has ended.
        """
        wanted = text_of(position)
        if self._thread.ident is None:
            raise self._not_entered()
        with self._changed:
            if not self._changed.wait_for(lambda: self._fault is not None or self._has(wanted), timeout_s):
                raise self._late(wanted)
            if self._fault is not None:
                raise self._fault

    def close(self) -> None:
        """Stop following; the copy stays as it is. Safe to call twice."""
        self._cut.close()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()
        self._become("closed")

    def __enter__(self) -> Replica:
        self._thread.start()
        try:
            self.reaches("", self._wait_s)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        try:
            with contextlib.closing(self._changes(self._cut, self._become)) as changes:  # type: ignore[type-var]
                for change in changes:
                    with self._changed:
                        self._copy.take(change)
                    self._become("live")
                    if self._on_change is not None and (change.raw or change.is_snapshot):
                        self._on_change(self)
        except BourneError as error:
            self.error = error
        except BaseException as error:  # noqa: BLE001  (raised where it is waited for)
            self._fault = error
        self._become("closed")

    def _become(self, state: ReplicaState) -> None:
        with self._changed:
            self.state = state
            self._changed.notify_all()


def tls(asking: Asking) -> ssl.SSLContext | bool:
    """Return what httpx needs: without https nothing, but reading all certificates would take longer than a request."""
    return True if asking.is_https else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
