"""The sinks of an app at work, each on a thread of its own: what becomes of a view's rows goes to the other side.

Law: what a sink holds is what its view said at the sink's position, and the sink says itself what that is. A sink that
delivers exactly once keeps it with its rows; for any other it is kept here, after each write (at least once) or before
it (at most once).

A sink whose other side is away waits and tries again, ever less often, and delays nobody else. It follows the version of its
view that is served; when another one is, it gets the difference, once that version has taken in what is in the logs.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from bourne.connect.dead_letters import DeadLetters
from bourne.connect.rejected import part_of, without_rejected
from bourne.connect.sink import Change, Shape, Sink
from bourne.connect.source import Delivery, Position
from bourne.connect.states import SinkState, StateFile
from bourne.errors import BourneError, LogLocked, Rejected, SinkFailed
from bourne.limits import DELIVERY_BYTES
from bourne.log.at_work import take
from bourne.log.catalog import LogInfo, partition_folder
from bourne.log.disk import disk_errors
from bourne.log.relation import only_grows, relation_schema
from bourne.log.wake import Wake
from bourne.ports import Files, make_folder_durably, write_durably
from bourne.sink_changes import KeyCounts
from bourne.sink_letters import as_letters, as_they_are_now, from_letters
from bourne.views.changes import Changes, RowChange, net
from bourne.views.reach import Reach
from bourne.worker import Worker


@dataclass(frozen=True, slots=True)
class Outlet:
    """A sink, the name of the log or view that it follows, and all versions of that: by the id of the log, where it is.

    `followed` says where the log is, or the version that is served, if there is one. `delivery` is what was asked for, at most
    what the sink can. `reach` begins to watch until a version has taken in what is in its logs.
    """

    url: str
    sink: Sink
    shape: Shape
    delivery: Delivery
    name: str
    followed: Callable[[], tuple[Path, LogInfo] | None]
    versions: Callable[[], dict[str, tuple[Path, LogInfo]]]
    reach: Callable[[], Reach]
    dead_letters: DeadLetters

    def served(self) -> tuple[Path, LogInfo] | None:
        """Return where what the sink follows is now; None as long as that has other columns than the sink is made for."""
        found = self.followed()
        if found is None or relation_schema(found[1]) != self.shape.schema:
            return None
        is_told = bool(self.shape.key) or self.shape.has_weights != only_grows(found[1])
        return found if is_told else None


class Delivering(Worker[SinkState]):
    """One sink at work."""

    def __init__(
        self, outlet: Outlet, state: StateFile[SinkState], folder: Path, *, files: Files, is_patient: bool,
        on_state: Callable[[SinkState], None] | None,
    ) -> None:  # fmt: skip
        """`folder` is where the position of a sink is kept that cannot do so itself, atomically.

        `is_patient`: the other side is waited for without end. `on_state` is told when it changes.
        """
        self._outlet = outlet
        self.name = outlet.shape.name
        now = SinkState(self.name, outlet.url, outlet.name, outlet.delivery)
        super().__init__(f"sink {self.name!r}", now, state, is_patient=is_patient, on_state=on_state)
        self._folder = folder
        self._files = files
        self._records = 0
        self._position: Position | None = None
        # What the sink itself says: another position where less than it can is asked for.
        self._held: Position | None = None
        self._has_begun = False
        self._awaited: Reach | None = None
        self._served: tuple[Path, LogInfo] | None = None  # what it follows now

    def is_behind(self) -> bool:
        """Say whether something is still to be delivered, of what the view has committed until now."""
        if not self.is_alive:
            return False
        served = self._outlet.served()
        if served is None:
            return False
        if not self._has_begun or self._is_other(served):
            awaited = self._awaited
            return awaited is None or awaited.is_reached()
        position, changes = self._position, Changes(*served)
        with contextlib.closing(changes):
            end: int = changes.lag() + sum(changes.positions)
        if position is None:
            return end > 0
        at: int = sum(position["offsets"])
        return at < end or position["of"] != served[1].id.hex()

    def _is_other(self, served: tuple[Path, LogInfo] | None) -> bool:
        """Say whether that is not what it follows."""
        return served is None or self._served is None or served[1].id != self._served[1].id

    # --- its thread --------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep others from delivering to this sink from this folder."""
        with disk_errors(self._folder, f"cannot run sink {self.name!r}"):
            self._folder.mkdir(exist_ok=True)
            descriptor = take(self._state_file.path.with_suffix(".lock"))
        if descriptor is None:
            raise LogLocked(f"sink {self.name!r} is at work already", where=str(self._folder), pid=None)
        try:
            yield
        finally:
            os.close(descriptor)

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._has_begun = False
            served = self._served = self._outlet.served()
            if served is None:
                name = self._outlet.name
                self._show(
                    "waiting", SinkFailed(f"no version of view {name!r} is served that has these columns")
                )
                self._stopping.wait(_SERVED_LOOK_S)
                continue
            try:
                self._deliver(*served)
            finally:
                self._outlet.sink.close()

    def _deliver(self, folder: Path, info: LogInfo) -> None:
        """Bring the sink to what the view says, again and again, until stopped, or another version is served."""
        position = self._open()
        folders = [partition_folder(folder, number) for number in range(info.partitions)]
        with (
            contextlib.closing(Changes(folder, info)) as changes,
            contextlib.closing(Wake(folders, stop=self._stopping)) as wake,
        ):
            counts = KeyCounts(self._outlet.shape)
            if (
                position is not None
                and position["of"] != changes.info.id.hex()
                and not self._is_rebuilt(wake)
            ):
                return
            position = self._position = self._begin(position, changes, counts)
            self._has_begun = True
            while not self._stopping.is_set() and not self._is_other(self._outlet.served()):
                change = changes.read(bytes_max=DELIVERY_BYTES)
                if change is None:
                    self._runs()
                    wake.wait(_LOOK_S)
                    continue
                following = self._place(changes)
                self._write(counts.take(change), following, position)
                position = following
                self._records += change.rows
                self._runs()

    def _is_rebuilt(self, wake: Wake) -> bool:
        """Wait until the version has taken in what is in its logs; False if stopped, or another one is served, before.

        Before that, rows would go from the sink only to come back.
        """
        awaited = self._awaited = self._outlet.reach()
        try:
            while not self._stopping.is_set() and not self._is_other(self._outlet.served()):
                if awaited.is_reached():
                    return True
                name = self._outlet.name
                self._show("waiting", SinkFailed(f"view {name!r} has a new definition, and is computed anew"))
                wake.wait(_LOOK_S)
            return False
        finally:
            self._awaited = None

    def _begin(self, position: Position | None, changes: Changes, counts: KeyCounts) -> Position | None:
        """Stand where the sink stands; return that position."""
        if position is None:
            if changes.is_told:
                return None
            # A view by key: what its rows were once is nobody's business now.
            change = changes.read()
            return position if change is None else self._leap(change, changes, counts, position)
        if position["of"] == changes.info.id.hex():
            self._check_all_there(position["offsets"], changes)
            if (
                changes.is_told and not self._outlet.shape.key
            ):  # nothing has to be remembered of what was before
                changes.seek(position["offsets"])
                return position
            while sum(changes.positions) < sum(position["offsets"]):
                change = changes.read(until=position["offsets"], bytes_max=DELIVERY_BYTES)
                if change is None:
                    raise SinkFailed(
                        f"sink {self.name!r} holds more than {changes.info.name!r} has", where=self._outlet.url,
                        expected=f"at most {changes.positions}", found=str(position["offsets"]),
                        hint="was the data folder restored from an older copy? delete what the sink holds, with its position",
                    )  # fmt: skip
                counts.take(change)
            return position
        before = self._old_rows(position)
        _check_same_columns(before, changes)
        counts.take(before)
        now = changes.read() or RowChange(changes.schema.to_arrow().empty_table())
        return self._leap(_difference(before, now), changes, counts, position)

    def _check_all_there(self, offsets: Sequence[int], changes: Changes) -> None:
        """Refuse to go on behind records that retention deleted before the sink got them."""
        if any(first > offset for first, offset in zip(changes.positions, offsets, strict=True)):
            raise SinkFailed(
                f"records of {changes.info.name!r} were deleted before sink {self.name!r} got them", where=self._outlet.url,
                expected=f"records from {list(offsets)} on", found=f"from {list(changes.positions)} on",
                hint="keep them for longer (keep=…), or let the sink follow a view; to go on without them, give it a new name "
                "and target",
            )  # fmt: skip

    def _leap(
        self, change: RowChange, changes: Changes, counts: KeyCounts, position: Position | None
    ) -> Position:
        following = self._place(changes)
        self._write(counts.take(change), following, position)
        self._records += change.rows
        return following

    def _old_rows(self, position: Position) -> RowChange:
        """Return what the sink holds: the rows of an older version of the view."""
        found = self._outlet.versions().get(position["of"])
        if found is None:
            raise SinkFailed(
                f"sink {self.name!r} holds the rows of another log or view", where=self._outlet.url,
                expected=f"a version of {self._outlet.name!r}", found="one that is not in this data folder",
                hint="give the sink another name and target, or delete what the target holds, with its position; a `bourne pipe` "
                "that is to go on needs --data",
            )  # fmt: skip
        with contextlib.closing(Changes(*found)) as old:
            rows = old.read(until=position["offsets"])
            return rows if rows is not None else RowChange(old.schema.to_arrow().empty_table())

    def _place(self, changes: Changes) -> Position:
        return {"of": changes.info.id.hex(), "offsets": list(changes.positions)}

    # --- writing -----------------------------------------------------------------------------------------

    def _write(self, change: Change, position: Position, before: Position | None) -> None:
        """Write a change; what the other side refuses becomes dead letters.

        Raises:
            SinkFailed: it refuses more than was declared. Nothing of the change is written.
        """
        if self._outlet.delivery == "at most once":
            self._keep(position)
        try:
            self._outlet.sink.write(change, position, self._held)
        except Rejected as error:
            good, bad = self._without_rejected(change, error)
            rate = self._outlet.dead_letters.rate
            letters = as_letters(
                bad, self._outlet.shape, view=self._outlet.name, before=before, reason=f"{error.what}: {error.found}"
            )  # fmt: skip
            if not rate.is_within(good.size, len(letters)):
                raise SinkFailed(
                    f"sink {self.name!r} refuses too many rows", where=self._outlet.url, expected=str(rate),
                    found=f"{len(letters):,} of {change.size:,}; {error.what}: {error.found}",
                    hint="mend the target or the view, or allow more: dead_letters=…",
                ) from error  # fmt: skip
            self._outlet.dead_letters.put(letters)
            self._outlet.sink.write(good, position, self._held)
            rate.count(good.size, len(letters))  # only now: a write that is tried again counts once
        else:
            self._outlet.dead_letters.rate.count(change.size, 0)
        if self._outlet.delivery == "at least once":
            self._keep(position)
        self._position = self._held = position

    def _without_rejected(self, change: Change, error: Rejected) -> tuple[Change, Change]:
        """Return a change without the rows that the other side refuses, and these."""
        return without_rejected(
            self._outlet.sink, change, error, allows=self._outlet.dead_letters.rate.is_within, name=self.name,
            where=self._outlet.url,
        )  # fmt: skip

    # --- rows that were refused, once more ---------------------------------------------------------------

    def again(self, letters: Mapping[str, bytes]) -> dict[str, str | None]:
        """Deliver rows once more that the other side refused, by the id of their letter; not beside `start`.

        By key, what is delivered is the row that the key has now. The ids are in the sink's position in the same write, so
        that a crash doubles nothing.

        Returns: why a row is still refused, None if it is not. What was delivered is noted.

        Raises:
            LogLocked: the sink is at work. Unreachable: its other side is away.
            InputError, SinkFailed: these are rows of another version of the view, or the sink has nothing of it yet.
        """
        with self._alone(), contextlib.closing(self._outlet.sink) as sink:
            position = self._open()
            served = self._served = self._outlet.served()
            if position is None or served is None or position["of"] != served[1].id.hex():
                raise SinkFailed(
                    f"sink {self.name!r} does not stand where its view does", where=self._outlet.url,
                    hint="run the app first, so that the sink gets what the view says now",
                )  # fmt: skip
            settled = dict.fromkeys(position.get("again", ()))
            left = {name: data for name, data in letters.items() if name not in settled}
            changes, owners = self._once_more(list(left.values()), position)
            is_taken = [sink.accepts(change) for change in changes]
            taken = [change for change, is_good in zip(changes, is_taken, strict=True) if is_good]
            ids = [name for name, owner in zip(left, owners, strict=True) if is_taken[owner]]
            if taken:
                sink_position = {key: position[key] for key in ("of", "offsets")} | {"again": ids}
                if self._outlet.delivery == "at most once":
                    self._keep(sink_position)
                sink.write(_together(taken), sink_position, self._held)
                if self._outlet.delivery == "at least once":
                    self._keep(sink_position)
                self._outlet.dead_letters.settle(ids)
        refused = dict.fromkeys(set(left) - set(ids), "the other side refuses it")
        return {name: refused.get(name) for name in letters}

    def _open(self) -> Position | None:
        """Open the sink; note what it says was delivered after all."""
        self._held = self._outlet.sink.open()
        position = self._kept(self._held)
        if position is not None:
            self._outlet.dead_letters.settle(position.get("again", ()))
        return position

    def _once_more(self, texts: Sequence[bytes], position: Position) -> tuple[list[Change], Sequence[int]]:
        """Return what is to be delivered for refused rows, and for each of them which of these changes."""
        if not texts:
            return [], []
        shape = self._outlet.shape
        rows = from_letters(texts, shape)
        if not shape.key:
            numbers = range(len(texts))
            return [part_of(rows, [number]) for number in numbers], numbers
        assert self._served is not None
        with contextlib.closing(Changes(*self._served)) as changes:
            now = changes.read(until=position["offsets"]) or RowChange(
                changes.schema.to_arrow().empty_table()
            )
        found, owners = as_they_are_now(rows, now, shape.key)
        return found, owners.tolist()

    # --- positions of sinks that do not keep them --------------------------------------------------------

    def _kept(self, position: Position | None) -> Position | None:
        """Return where to go on."""
        if self._outlet.delivery == "exactly once":
            return position
        try:
            return json.loads(self._path().read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise SinkFailed(
                f"the position of sink {self.name!r} cannot be read", where=str(self._path()), found=str(error),
                hint="delete that file to deliver everything again",
            ) from error  # fmt: skip

    def _keep(self, position: Position) -> None:
        make_folder_durably(self._files, self._folder)
        write_durably(self._files, self._path(), json.dumps(position).encode())

    def _path(self) -> Path:
        return self._state_file.path.with_suffix(".position")

    # --- showing -----------------------------------------------------------------------------------------

    def _progress(self) -> object:
        return self._position

    def _now(self, state: str, error: BourneError | None) -> SinkState:
        why = None if error is None else error.what if error.found is None else f"{error.what}: {error.found}"
        position = self._position
        served = self._served
        is_this = position is not None and served is not None and position["of"] == served[1].id.hex()
        return replace(
            self._state, state=state, records=self._records, dead_letters=self._outlet.dead_letters.count, error=why,
            position=sum(position["offsets"]) if position is not None and is_this else 0,
        )  # fmt: skip

    def _failed(self, found: str) -> BourneError:
        return SinkFailed(f"{self._what} failed", found=found, hint="please report this")


# How long it sleeps at most before it looks for more, where the system does not tell of appends.
_LOOK_S = 1.0

# How often it looks whether a version is served that it can follow.
_SERVED_LOOK_S = 0.1


def _together(changes: Sequence[Change]) -> Change:
    """Return changes of different rows as one."""
    rows = pa.concat_tables([each.rows for each in changes])
    gone = [each.gone for each in changes if each.gone is not None]
    weights = [each.weights for each in changes if each.weights is not None]
    return Change(
        rows, pa.concat_tables(gone) if gone else None, pa.concat_arrays(weights) if weights else None
    )


def _check_same_columns(before: RowChange, changes: Changes) -> None:
    old, new = before.table.schema, changes.schema.to_arrow()
    if (old.names, old.types) != (new.names, new.types):
        raise SinkFailed(
            "the view has other columns than what its sink holds", expected=", ".join(new.names),
            found=", ".join(old.names),
            hint="give the sink a new name and target, or delete what the target holds, with its position",
        )  # fmt: skip


def _difference(before: RowChange, now: RowChange) -> RowChange:
    """Return what makes the rows of one version those of another."""
    weights = [
        (-1 if each is before else 1)
        * (np.ones(each.rows, np.int64) if each.weights is None else each.weights)
        for each in (before, now)
    ]
    old = pa.Table.from_arrays(before.table.columns, schema=now.table.schema)
    return net(pa.concat_tables([old, now.table]).combine_chunks(), np.concatenate(weights))
