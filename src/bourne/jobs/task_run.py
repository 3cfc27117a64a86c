"""Tasks, gates and views as steps of a run: a call, with a bound on how long it may take."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from bourne.batch.context import Context
from bourne.batch.flow import COMPLETED, STOPPED
from bourne.batch.inputs import Query
from bourne.batch.steps import Check, Exit, Task, View
from bourne.errors import BourneError, DefinitionError, LogLocked, QueryError, ViewFailed
from bourne.jobs.chunk_work import TooLong
from bourne.jobs.host import Host
from bourne.limits import POLL_INTERVAL_S
from bourne.schema import quote

# Rows of what is wrong that an error shows.
_SHOWN: Final = 5


class Wrong(BourneError):
    """A quality gate found something."""

    exit_code = 12


def run_task(step: Task, context: Context) -> str:
    """Call a task's function; return the exit status.

    Raises: what the function raises; `TooLong`; DefinitionError: it returned something else than nothing or an `Exit`.
    """
    found = _within(
        step.timeout_s, step.name, lambda: step.function(*((context,) if step.wants_context else ()))
    )
    if isinstance(found, Exit):
        if not isinstance(found.status, str) or not found.status or found.status == STOPPED:
            raise DefinitionError(
                "a task cannot end so", where=f"step {step.name!r}", expected=f"a text, not {STOPPED!r}: Exit('NO_DATA')",
                found=repr(found.status)[:200], hint="STOPPED is what somebody else stopped; to fail, raise an error",
            )  # fmt: skip
        if found.message:
            context.say(found.message)
        return found.status
    if found is not None:
        raise DefinitionError(
            "a task returns nothing, or an Exit", where=f"step {step.name!r}", expected="None, or Exit('NO_DATA')", found=repr(found)[:200]
        )  # fmt: skip
    return COMPLETED


def run_check(step: Check, context: Context) -> str:
    """Ask a gate.

    Raises:
        Wrong: it found something.
    """
    if step.query is None:
        found = _within(
            step.timeout_s, step.name, lambda: step.function(*((context,) if step.wants_context else ()))
        )
        if found is None:
            return COMPLETED
        if type(found).__name__ not in ("bool", "bool_"):  # NumPy has a False of its own
            raise DefinitionError("a check's function returns True, False or nothing", where=f"step {step.name!r}",
                                  expected="True, False or None", found=repr(found)[:200])  # fmt: skip
        if not found:
            raise Wrong(
                f"check {step.name!r} says no", where=f"step {step.name!r}", expected="True", found="False"
            )
        return COMPLETED
    wrong, count = _wrong_rows(step, context.app)
    if wrong:
        rows = "\n            ".join(str(row) for row in wrong)
        raise Wrong(
            f"check {step.name!r} found {count} rows that should not be", where=f"step {step.name!r}", expected="no rows",
            found=rows + ("\n            …" if len(wrong) == _SHOWN else ""),
        )  # fmt: skip
    return COMPLETED


def _wrong_rows(step: Check, app: Host) -> tuple[list[dict[str, Any]], str]:
    if isinstance(step.query, Query):
        from bourne.jobs.inputs import open_reader  # noqa: PLC0415

        reader = open_reader(step.query, None, host=app, where=f"step {step.name!r}")
        try:
            parts = (
                row for taken in reader.read(None) if taken.rows is not None for row in taken.rows.to_pylist()
            )
            found = list(itertools.islice(parts, _SHOWN))
        finally:
            reader.close()
        return found, f"{len(found)} or more" if len(found) == _SHOWN else str(len(found))
    assert step.query is not None
    result = app.query(step.query, step.parameters, together=True).to_arrow()
    return result.slice(0, _SHOWN).to_pylist(), f"{result.num_rows:,}"


def run_view(step: View, app: Host, stop: threading.Event) -> str:
    """Bring a view up to what its logs hold now: by stepping it, or, if another process does so, by waiting.

    Raises:
        TooLong: it has not come there in time. ViewFailed: it cannot.
    """
    deadline = None if step.timeout_s is None else time.monotonic() + step.timeout_s
    wanted = app.position_of(step.view)
    while not stop.is_set():
        try:
            app.catch_up()
            why = app.standing(step.view)
            if why is not None:
                raise ViewFailed(f"view {step.view!r} stands still: it takes nothing in any more", where=f"step {step.name!r}", found=why,
                                 hint="it was rolled back as it is: bourne rollback once more, or change its definition")  # fmt: skip
            return COMPLETED
        except LogLocked:
            pass  # somebody else keeps it up to date
        try:
            app.query(f"SELECT 1 FROM {quote(step.view)} LIMIT 1", at_least=wanted, wait_s=1.0)
            return COMPLETED
        except QueryError:
            if deadline is not None and time.monotonic() > deadline:
                raise TooLong(f"view {step.view!r} has not come to its logs' end in time", where=f"step {step.name!r}",
                              expected=f"position {wanted}", hint="does the process that keeps it up to date make headway?") from None  # fmt: skip
            stop.wait(POLL_INTERVAL_S)
    return STOPPED


def _within(seconds: float | None, name: str, call: Callable[[], Any]) -> Any:
    """Return what a call returns, if that is within so many seconds."""
    if seconds is None:
        return call()
    answer: list[Any] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            answer.append(call())
        except BaseException as error:  # noqa: BLE001  (raised below, in the step's thread)
            failure.append(error)

    thread = threading.Thread(target=work, name=f"bourne-task-{name}", daemon=True)
    thread.start()
    thread.join(seconds)
    if failure:
        raise failure[0]
    if not answer:
        raise TooLong(f"task {name!r} takes longer than it may", where=f"step {name!r}", expected=f"at most {seconds:g} s",
                      hint="declare a longer timeout; its thread is left alone, and may go on")  # fmt: skip
    return answer[0]
