"""Which views read which: the order in which they have to step, and which have to step together.

Law: a view over views is a function of the logs below. So the views that are connected, by one reading another, take in
the same records of the logs in each round, the lower ones first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bourne.views.catalog import ViewInfo


def levels(views: Mapping[str, ViewInfo]) -> list[list[str]]:
    """Return the views' names, level by level: each reads logs and views of lower levels only."""
    level: dict[str, int] = {}

    def of(name: str) -> int:
        if name not in level:
            level[name] = 1 + max((of(below) for below in _below(views, name)), default=-1)
        return level[name]

    for name in views:
        of(name)
    found: list[list[str]] = [[] for _ in range(max(level.values(), default=-1) + 1)]
    for name in views:
        found[level[name]].append(name)
    return found


def families(views: Mapping[str, ViewInfo]) -> list[list[str]]:
    """Return the views in groups: two that one reads the other, or that a third one reads, are in the same."""
    family = {name: [name] for name in views}
    for name in views:
        for below in _below(views, name):
            if family[below] is not family[name]:
                joined = family[name] + family[below]
                for member in joined:
                    family[member] = joined
    return list({id(found): found for found in family.values()}.values())


def _below(views: Mapping[str, ViewInfo], name: str) -> Sequence[str]:
    return [each.name for each in views[name].inputs if each.name in views]
