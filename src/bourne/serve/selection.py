"""What subscribers asked for of a view, applied to what changes.

Law: who applies the changes of a selection to the rows of that selection has its rows after them. By key, a row that is not
selected (any more) is told as gone to whoever may have it; telling it of a key that is not there does no harm.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from bourne.serve.asked import Selected
from bourne.serve.delta import Delta


def selected_rows(delta: Delta, selected: Selected) -> Sequence[int]:
    """Return the numbers of the rows of a change that are selected, in order.

    Raises:
        QueryError: the condition cannot be evaluated on them.
    """
    numbers: Sequence[int] = range(delta.table.num_rows)
    if selected.filter:
        (first, text), *others = selected.filter
        numbers = delta.places(first).get(text, ())
        for name, text in others:
            texts = delta.texts(name)
            numbers = [number for number in numbers if texts[number] == text]
    if selected.where is not None and numbers:
        numbers = delta.meets(selected.where, numbers)
    return numbers


Change: TypeAlias = tuple[int | None, str]
"""A change as a JSON object, and the key that it is about; of rows without keys, None."""


def changes(delta: Delta, selected: Selected, held: set[int] | None) -> list[Change]:
    """Return what a commit means to a selection.

    Args:
        held: the keys whose rows are selected before it, and, on return, after it. None: it is not known, so every key
            whose row is not selected is told as gone.
    """
    if not delta.table.num_rows:
        return []
    chosen = selected_rows(delta, selected)
    rows = delta.rows(selected.columns) if len(chosen) else []
    if delta.keys is None:
        weights = delta.weights.tolist()
        return [(None, f'{{"row": {rows[number]}, "weight": {weights[number]}}}') for number in chosen]
    keys, there = delta.keys.tolist(), (delta.weights > 0).tolist()
    last = delta.key_rows
    kept = {keys[number]: number for number in chosen if there[number] and last[keys[number]] == number}
    gone: Iterable[int]
    if held is None:
        gone = (key for key in last if key not in kept)
    else:
        few, many = (held, last) if len(held) < len(last) else (last, held)
        gone = [key for key in few if key in many and key not in kept]
        held.difference_update(gone)
        held.update(kept)
    return [(key, f'{{"key": {key}, "row": null}}') for key in gone] + [
        (key, f'{{"key": {key}, "row": {rows[number]}}}') for key, number in kept.items()
    ]


def together(parts: Iterable[Sequence[Change]]) -> list[str]:
    """Return the changes of several commits as one: of each key the last, all others as they came."""
    others: list[str] = []
    last: dict[int, str] = {}
    for part in parts:
        for key, text in part:
            if key is None:
                others.append(text)
            else:
                last[key] = text
    return others or list(last.values())
