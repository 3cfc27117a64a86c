"""Which views read which: the order in which they have to step, and which have to step together.

Law: a view over views is a function of the logs below. So the views that are connected, by one reading another, take in
the same records of the logs in each round, the lower ones first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bourne.errors import DefinitionError
from bourne.log.relation import is_exact
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


def _below(views: Mapping[str, ViewInfo], name: str) -> Sequence[str]:
    return [each.name for each in views[name].inputs if each.name in views]
