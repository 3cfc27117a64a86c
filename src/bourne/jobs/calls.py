"""Calls: events that somebody tells of, over HTTP or in Python, in whichever process.

Law: a call is durable when `note_call` returns, and one that is repeated under its id does nothing more (unless
`CALLS_KEPT` others were answered since): so who got no answer asks again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bourne.batch.scheduled import ScheduleDefinition
from bourne.batch.triggers import HttpCall
from bourne.errors import BourneError, InputError, UnknownName
from bourne.jobs.fires import Fire, Fires, New
from bourne.limits import CALL_ID_CHARS_MAX, FIRES_WAITING_MAX


def note_call(
    fires: Fires, schedules: Iterable[ScheduleDefinition], name: str, *, request_id: str,
    details: Mapping[str, Any] | None, now_us: int,
) -> list[Fire]:  # fmt: skip
    """Note a call for each schedule that waits for one of that name, and return their fires.

    Raises:
        UnknownName: no schedule waits for such a call.
        BourneError: too many wait already.
        InputError: the id is empty or too long, or the details are not JSON.
    """
    where = f"call {name!r}"
    known = [(each.when.name, each) for each in schedules if isinstance(each.when, HttpCall)]
    called = [each for its_name, each in known if its_name == name]
    if not called:
        raise UnknownName(
            "no schedule waits for such a call", where=where, found=name,
            expected=", ".join(sorted({its_name for its_name, _ in known})) or "none waits for any",
        )  # fmt: skip
    if not 0 < len(request_id) <= CALL_ID_CHARS_MAX:
        raise InputError(
            "a call needs an id, so that it can be repeated", where=where,
            expected=f"1 to {CALL_ID_CHARS_MAX} characters", found=len(request_id),
        )  # fmt: skip
    return [_noted(fires, each, New(f"{name} {request_id}", now_us, details), where) for each in called]


def _noted(fires: Fires, definition: ScheduleDefinition, call: New, where: str) -> Fire:
    known = fires.by_key(definition.name, call.key)
    if known is not None:
        return known
    if fires.waiting(definition.name) >= FIRES_WAITING_MAX:
        raise BourneError(
            "too many calls wait",
            where=where,
            expected=f"fewer than {FIRES_WAITING_MAX}",
            hint="call again later",
        )
    try:
        fires.note(definition.name, definition.declared, 0, [call])
    except (TypeError, ValueError) as error:
        raise InputError("the details of a call are not JSON", where=where, found=str(error)) from error
    noted = fires.by_key(definition.name, call.key)
    assert noted is not None  # what waits is not forgotten
    return noted
