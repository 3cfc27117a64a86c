"""Random relations with small domains, NULLs and duplicates, and random histories of changes to them.

Law: at every step's end every relation is a multiset: no row is there less than zero times. A relation either only
grows, or has inserts, updates (the old row goes, the new one comes) and deletes of rows that are there.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from random import Random
from typing import Any, Literal

Row = tuple[Any, ...]
Change = tuple[Row, int]  # a row and how many times more it is there
Step = Mapping[str, Sequence[Change]]
Restart = Literal["none", "replay", "save"]

_NOON = datetime.datetime(2024, 2, 28, 12)

DOMAINS: dict[str, tuple[Any, ...]] = {
    "integer": (0, 1, 2, 3, 4, -1, 7),
    "bigint": (0, 1, 2, 3, -2, 3_000_000_000),
    "smallint": (0, 1, 2, 3, -7, 30),
    "decimal(9,2)": tuple(Decimal(text) for text in ("0.00", "1.50", "2.25", "-2.25", "3.10", "99.99")),
    "double": (0.0, 0.25, 1.5, -2.0, 10.75),
    "varchar": ("a", "b", "ab", "B", "", "3", "한글", "a b", "ba"),
    "boolean": (True, False),
    "date": tuple(datetime.date(2024, 2, 27) + datetime.timedelta(days) for days in (0, 1, 2, 3, 40)),
    "timestamp": tuple(_NOON + datetime.timedelta(minutes=m) for m in (0, 30, 61, 600, 1441, -70000)),
    "integer[]": ([], [1], [1, 2], [2, 1, 2], [None], [3, None]),
    "struct(a integer, b varchar)": ({"a": 1, "b": "a"}, {"a": 2, "b": None}, {"a": None, "b": "b"}, {"a": 1, "b": "b"}),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Relation:
    """A table's columns (name to type), and whether it only ever grows."""

    schema: Mapping[str, str]
    is_growing: bool


def draw_relations(random: Random) -> dict[str, Relation]:
    """Draw two to four relations, the first column of each likely of a type that joins."""
    common = random.sample(["integer", "varchar", "date", "bigint", "integer"], 2)
    found = {}
    for name in "abcd"[: random.choice([2, 2, 3, 3, 4])]:
        types = [random.choice(common), *random.choices(list(DOMAINS), k=random.randint(1, 4))]
        schema = {f"{name}{i}": type_name for i, type_name in enumerate(types)}
        found[name] = Relation(schema, random.random() < 0.4)
    return found


class _History:
    """A relation in the course of its changes."""

    def __init__(self, random: Random, relation: Relation) -> None:
        self.random, self.relation = random, relation
        self.null_share = random.uniform(0.12, 0.27)
        self.domains = [DOMAINS[t][: random.choice([2, 3, 5, 9])] for t in relation.schema.values()]
        self.rows: list[Row] = []

    def row(self) -> Row:
        if self.rows and self.random.random() < 0.15:
            return self.random.choice(self.rows)
        return tuple(
            None if self.random.random() < self.null_share else self.random.choice(domain)
            for domain in self.domains
        )

    def insert(self) -> list[Change]:
        row, times = self.row(), 1 if self.relation.is_growing or self.random.random() < 0.95 else 2
        self.rows += [row] * times
        return [(row, times)]

    def delete(self) -> list[Change]:
        index = self.random.randrange(len(self.rows))
        self.rows[index], self.rows[-1] = self.rows[-1], self.rows[index]
        return [(self.rows.pop(), -1)]

    def update(self) -> list[Change]:
        gone = self.delete()
        kept = list(gone[0][0])
        index = self.random.randrange(len(kept))
        kept[index] = self.row()[index]
        self.rows.append(tuple(kept))
        return [*gone, (tuple(kept), 1)]

    def change(self, shrink: float) -> list[Change]:
        draw = self.random.random()
        if self.relation.is_growing or not self.rows or draw > shrink + 0.2:
            return self.insert()
        return self.delete() if draw < shrink else self.update()


def draw_history(random: Random, relations: Mapping[str, Relation], *, rows: int) -> list[Step]:
    """Draw changes to all relations, about `rows` for each, interleaved and cut into steps; some are empty."""
    histories = {name: _History(random, relation) for name, relation in relations.items()}
    names = list(relations)
    changes: list[tuple[str, Change]] = []
    shrink = 0.1
    for _ in range(rows * len(names)):
        if random.random() < 0.03:
            shrink = random.choice([0.05, 0.1, 0.3, 0.75])
        name = random.choice(names)
        changes += [(name, change) for change in histories[name].change(shrink)]
    if random.random() < 0.15:  # all gone, then something again
        for name, history in histories.items():
            while history.rows and not history.relation.is_growing:
                changes += [(name, change) for change in history.delete()]
        cut = len(changes)
        changes += [(name, change) for name in names for change in histories[name].insert()]
    else:
        cut = random.randint(0, len(changes))
    ends = sorted(
        {
            0,
            len(changes),
            cut,
            *(random.randint(0, len(changes)) for _ in range(random.choice([0, 1, 2, 3, 5]))),
        }
    )
    steps = [_step(changes[start:end]) for start, end in itertools.pairwise(ends)]
    if random.random() < 0.1:
        steps.insert(random.randint(0, len(steps)), {})
    return steps


def _step(changes: Sequence[tuple[str, Change]]) -> Step:
    step: dict[str, list[Change]] = {}
    for name, change in changes:
        step.setdefault(name, []).append(change)
    return step


def draw_restarts(random: Random, steps: int) -> list[Restart]:
    """Draw what happens after each step."""
    return [random.choice(["none", "none", "none", "none", "replay", "save"]) for _ in range(steps)]


def apply_step(rows: Mapping[str, Sequence[Row]], step: Step) -> dict[str, list[Row]]:
    """Return the relations after a step.

    Raises:
        ValueError: a row that is not there would go.
    """
    after = {name: list(before) for name, before in rows.items()}
    for name, changes in step.items():
        for row, weight in changes:
            if weight > 0:
                after[name] += [row] * weight
            for _ in range(-weight):
                after[name].remove(row)
    return after
