"""A sink's position as text, and the compare and set of it.

Law: two positions are the same if their texts are; a sink that holds another one than its writer thinks has another
writer, or got a write that was thought lost, and takes nothing before it is opened again.
"""

from __future__ import annotations

import json

from bourne.connect.source import Position
from bourne.errors import SinkFailed, Unreachable

POSITIONS_TABLE = "bourne_positions"


def position_text(position: Position | None) -> str | None:
    """Return the one JSON text of a position; None for none."""
    if position is None:
        return None
    return json.dumps(position, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def read_position(text: str | None, *, where: str) -> Position | None:
    """Read back what `position_text` wrote.

    Raises:
        SinkFailed: it is something else.
    """
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise SinkFailed(
            "the position that is kept there is not Bourne's", where=where, expected="JSON", found=text[:80],
            hint="let nobody else write it",
        ) from error  # fmt: skip


def check_held(held: Position | None, before: Position | None, *, where: str) -> None:
    """Let a write go on only if the other side holds the position that its writer thinks.

    Raises:
        Unreachable: it holds another one.
    """
    if position_text(held) != position_text(before):
        raise moved(position_text(held), before, where=where)


def moved(held: str | None, before: Position | None, *, where: str) -> Unreachable:
    """Return the error of a write that comes too late."""
    return Unreachable(
        "somebody else has written there meanwhile, or a write that was thought lost came through",
        where=where,
        expected=f"position {position_text(before) or 'none'}",
        found=f"position {held or 'none'}",
        hint="it is opened again; if this goes on, two instances write to it: stop one",
    )
