"""Cuts: what is read together is one state of the world, the newest one that there is."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bourne.log.catalog import LogInfo
from bourne.schema import declare_schema
from bourne.views.catalog import ViewInfo
from bourne.views.cut import Cut, _Place, below, newest_cut

COLUMNS = declare_schema({"n": "integer"}, where="test")


def view(name: str, inputs: list[LogInfo]) -> ViewInfo:
    return ViewInfo(name, 1, "", tuple(inputs), COLUMNS, "append", Path(name))


LOGS = {"a": LogInfo("a", COLUMNS), "b": replace(LogInfo("b", COLUMNS), partitions=2)}
VIEWS = {"low": view("low", [LOGS["a"]])}
VIEWS["side"] = view("side", [LOGS["a"], LOGS["b"]])
VIEWS["high"] = view("high", [VIEWS["low"].output, LOGS["b"]])
VIEWS["top"] = view("top", [VIEWS["high"].output, VIEWS["low"].output])


def history(random_: random.Random) -> dict[str, list[_Place]]:
    """Return frames as views could have made them: each of what its inputs had at some moment."""
    at: dict[str, tuple[int, ...]] = {"a": (0,), "b": (0, 0)}
    ends = dict.fromkeys(VIEWS, 0)
    places: dict[str, list[_Place]] = {
        name: [_Place(0, {each.name: (0,) * each.partitions for each in info.inputs})]
        for name, info in VIEWS.items()
    }
    for _ in range(random_.randrange(1, 12)):
        at = {log: tuple(end + random_.randrange(3) for end in offsets) for log, offsets in at.items()}
        for name, info in VIEWS.items():  # those below come first
            if random_.random() < 0.7:
                inputs = {each.name: at.get(each.name, (ends.get(each.name, 0),)) for each in info.inputs}
                ends[name] += random_.randrange(3)
                places[name].append(_Place(ends[name], inputs))
    first = random_.choice([0, 0, 1, 3])
    return {name: found[first:] or found[-1:] for name, found in places.items()}


def all_cuts(names: list[str], places: dict[str, list[_Place]], least: dict[str, int]) -> list[Cut]:
    """Return every cut that holds."""
    members = below(names, VIEWS)
    found = []
    for chosen in itertools.product(*(places[name] for name in members)):
        at = dict(zip(members, chosen, strict=True))
        logs: dict[str, tuple[int, ...]] = {}
        is_cut = all(at[name].end >= least.get(name, 0) for name in members)
        for name, source in ((each, source) for each in members for source in at[each].inputs):
            has = (at[source].end,) if source in at else logs.setdefault(source, at[name].inputs[source])
            is_cut = is_cut and has == at[name].inputs[source]
        if is_cut:
            found.append(Cut({name: place.end for name, place in at.items()}, logs))
    return found


@pytest.mark.parametrize("seed", range(400))
def test_the_newest_cut(seed: int) -> None:
    random_ = random.Random(seed)
    places = history(random_)
    names = random_.sample(list(VIEWS), random_.randrange(1, 4))
    least: dict[str, int] = {name: random_.choice([0, 0, 2, places[name][-1].end]) for name in names}
    cuts = all_cuts(names, places, least)
    found = newest_cut(names, VIEWS, places, least)
    if not cuts:
        assert found is None
        return
    assert found in cuts

    def reached(cut: Cut) -> list[Any]:
        return [sum(offsets) for _, offsets in sorted(cut.logs.items())] + list(cut.views.values())

    assert all(
        left >= right for cut in cuts for left, right in zip(reached(found), reached(cut), strict=True)
    )


def test_logs_alone_and_nothing_at_all() -> None:
    assert newest_cut(["a"], VIEWS, {}, {}) == Cut({}, {})
    assert newest_cut([], {}, {}, {}) == Cut({}, {})
