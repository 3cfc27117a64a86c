"""What of an input each run takes: all of it, what is beyond the last run, or what is other than it was then."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeAlias

from bourne.batch.inputs import Input, Query, Records
from bourne.errors import DefinitionError
from bourne.schema import interval_us

Overlap: TypeAlias = int | timedelta
"""How far before the last run's end the next one begins: a time, or of a column of numbers a number."""


def overlap_of(declared: str | int | None, *, where: str) -> Overlap | None:
    """Return what an overlap says.

    Raises:
        DefinitionError: it is neither a time nor a number from 0 on.
    """
    if declared is None or (isinstance(declared, int) and declared >= 0):
        return declared
    if not isinstance(declared, str):
        raise DefinitionError(
            "no overlap", where=where, expected="a time such as '5 minutes', or a number", found=declared
        )
    return timedelta(microseconds=interval_us(declared, where=where))


def check_increments(
    read: Input, *, since: str | None, overlap: str | int | None, changed: bool, has_key: bool, mode: str | None,
    is_parted: bool, where: str,
) -> None:  # fmt: skip
    """Refuse what does not fit together.

    Raises:
        DefinitionError: it does not.
    """
    if since is not None and not isinstance(read, Query):
        hint = (
            "records(…) goes on by itself" if isinstance(read, Records) else "files: changed=True, with a key"
        )
        raise DefinitionError("only a query has a column to go on behind", where=where, expected="read=query(…)",
                              found=f"since={since!r}", hint=hint)  # fmt: skip
    if changed and isinstance(read, Records):
        raise DefinitionError("a log says itself what has changed", where=where, expected="read=records(…) alone",
                              found="changed=True")  # fmt: skip
    if since is not None and changed:
        raise DefinitionError("what is beyond the last run, or what is other than in it?", where=where,
                              expected="since=… or changed=True", found="both")  # fmt: skip
    goes_on = f"since={since!r}" if since is not None else "changed=True" if changed else None
    if goes_on is not None and (mode == "replace" or is_parted):
        raise DefinitionError(
            "what the last run did is added to", where=where, expected="mode='append', and no partition",
            found=f"{goes_on}, mode={mode!r}{', a partition' if is_parted else ''}",
        )  # fmt: skip
    if overlap is not None and since is None:
        raise DefinitionError(
            "an overlap of what?", where=where, expected="since=…", found=f"overlap={overlap!r}"
        )
    if (overlap is not None or changed) and not has_key:
        raise DefinitionError(
            "rows come again, and without a key they would be there twice" if overlap is not None
            else "what is new, other or gone is told by a key",
            where=where, expected="key=…", found="no key",
        )  # fmt: skip
