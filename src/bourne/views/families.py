"""Which views read which: the order in which they have to step, and which have to step together.

Law: a view over views is a function of the logs below. So the views that are connected, by one reading another, take in
the same records of the logs in each round, the lower ones first. A version reads a version: names do not tell them apart,
ids do, so views are known by their keys here.
"""

from __future__ import annotations

from collections.abc import Mapping

from bourne.errors import DefinitionError
from bourne.log.relation import is_exact
from bourne.views.catalog import ViewInfo


def reads(views: Mapping[str, ViewInfo]) -> dict[str, list[str]]:
    """Return of each view which of the views it reads itself."""
    keys = {view.id: key for key, view in views.items()}
    return {key: [keys[each.id] for each in view.inputs if each.id in keys] for key, view in views.items()}


def levels(views: Mapping[str, ViewInfo]) -> list[list[str]]:
    """Return the views, level by level: each reads logs and views of lower levels only."""
    below = reads(views)
    level: dict[str, int] = {}

    def of(key: str) -> int:
        if key not in level:
            level[key] = 1 + max((of(lower) for lower in below[key]), default=-1)
        return level[key]

    for key in views:
        of(key)
    found: list[list[str]] = [[] for _ in range(max(level.values(), default=-1) + 1)]
    for key in views:
        found[level[key]].append(key)
    return found


def families(views: Mapping[str, ViewInfo]) -> list[list[str]]:
    """Return the views in groups: two that one reads the other, or that a third one reads, are in the same."""
    family = {key: [key] for key in views}
    for key, lower in reads(views).items():
        for below in lower:
            if family[below] is not family[key]:
                joined = family[key] + family[below]
                for member in joined:
                    family[member] = joined
    return list({id(found): found for found in family.values()}.values())


def check_side_logs(views: Mapping[str, ViewInfo], owners: Mapping[str, str]) -> None:
    """Refuse side logs that cannot be kept: of views whose inputs are no plain rows, or that depend on their own.

    `owners` are the views by their side logs.

    Raises:
        DefinitionError: names the view and the input.
    """
    for name in dict.fromkeys(owners.values()):
        for each in views[name].inputs:
            if views[name].on_error == "log" and not is_exact(each):
                raise DefinitionError(
                    f"a record of {each.name!r} that cannot be computed cannot be left out: it says what becomes of "
                    "rows that were there before",
                    where=f"view {name!r}", expected="inputs of which each record is a row by itself",
                    found=f"{each.name!r} of changes={each.changes!r}",
                    hint='compute it in a view with on_error="fail", or with TRY_CAST and CASE',
                )  # fmt: skip
        seen, waiting = set[str](), [name]
        while waiting:
            for each in views[waiting.pop()].inputs:
                below = owners.get(each.name, each.name)
                if below == name:
                    raise DefinitionError(
                        f"view {name!r} depends on the log of what it goes on without", where=f"view {name!r}",
                        found=f"it, or a view that it reads, reads {each.name!r}",
                        hint="read that log in a view that this one does not read",
                    )  # fmt: skip
                if below in views and below not in seen:
                    seen.add(below)
                    waiting.append(below)
