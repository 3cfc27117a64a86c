"""How a replay and a rollback begin: which versions they are of, and what cannot be.

Law: nothing is served otherwise when they begin: a build is noted, and whoever runs the views takes it up. A view brings along
all that read it, as views over views are served together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bourne.errors import DefinitionError, UnknownName, ViewFailed
from bourne.log.catalog import LogInfo
from bourne.log.reader import LogReader
from bourne.ports import Files
from bourne.views.catalog import Catalog, ViewInfo
from bourne.views.declaring import above
from bourne.views.families import families
from bourne.views.pins import check_can_go_on, first_offsets
from bourne.views.serving import Build, Outcome, Serving
from bourne.views.versions import Versions, lower_first


def begin_replay(versions: Versions, name: str, *, accepts: bool, files: Files) -> Build:
    """Note that a view, and those over it, are to be computed again from the log; return the build.

    One that was begun before and has not ended goes on.

    Raises:
        UnknownName: there is no such view.
        DefinitionError: it is being built already, for another reason, or its inputs are not what they were; or it was rolled
            back, and another definition of it is declared.
        ViewFailed: records that it was computed from are not there any more, or its inputs have ended.
    """
    catalog = versions.catalog
    with catalog.alone():
        serving, served = catalog.serving(), _all_served(catalog)
        view = _find(catalog, served, name)
        members = above({view.name}, served)
        begun = _begun(serving, members)
        if begun is not None and begun.why == "replay":
            if begun.accepts == accepts:
                return begun
            serving = serving.give_up([begun.number])
        elif begun is not None:
            raise _is_built(view, begun)
        held = sorted(name for name in members if name.casefold() in versions.held())
        if held:  # once its rows are those of a newer version, nothing would say that it was rolled back
            raise DefinitionError(
                f"view {held[0]!r} cannot be replayed: it was rolled back", where=f"view {held[0]!r}",
                expected="the definition that is served", found="another one is declared",
                hint="declare the one that is served (and name the app: --file APP.py), or roll it back once more",
            )  # fmt: skip
        made: dict[bytes, LogInfo] = {}
        numbers: dict[str, int] = {}
        fed = [versions.fed(each) for each in lower_first(served) if each.name in members]
        for each in fed:
            _check_kept(catalog, each)
        for each in fed:
            inputs = tuple(made.get(below.id, below) for below in each.inputs)
            new = catalog.make_version(replace(each, inputs=inputs), files)
            made[each.id] = new.output
            numbers[new.name.casefold()] = new.version
        serving = serving.begin(numbers, "replay", accepts=accepts)
        catalog.serve(serving, files)
        return serving.builds[-1]


def begin_rollback(versions: Versions, name: str, *, files: Files, as_it_is: bool) -> Build:
    """Note that the version of a view that was served before is to be served again, with those of the views over it.

    `as_it_is`: at once, without what came since; it stands still if it cannot be run.

    Raises:
        UnknownName: there is no such view.
        DefinitionError: no other version was served before, or it does not fit the views that it is read by or reads; or one of
            these has a new definition, whose version is being built.
    """
    catalog = versions.catalog
    with catalog.alone():
        serving, served = catalog.serving(), _all_served(catalog)
        view = _find(catalog, served, name)
        begun = _begun(serving, {view.name})
        if begun is not None and begun.why == "rollback" and not as_it_is:
            return begun
        wanted = _versions_before(catalog, serving, served, view)
        for each in wanted.values():
            changed = serving.building(each.name)
            if changed is not None and changed.why == "change":
                raise _is_built(each, changed)
        if not as_it_is:
            for each in wanted.values():
                fed = versions.fed(each)
                versions.query_of(fed)
                check_can_go_on(catalog, fed)
        serving = serving.begin({key: each.version for key, each in wanted.items()}, "rollback")
        build = serving.builds[-1]
        if as_it_is:
            serving = serving.end(Outcome(build.number, build.views, "rollback", is_served=True))
        catalog.serve(serving, files)
        return build


def family(catalog: Catalog, name: str) -> list[str]:
    """Return the names of the views that have to run so that one is built: all that it is connected with.

    Raises:
        UnknownName: there is no such view.
    """
    served = _all_served(catalog)
    view = _find(catalog, served, name)
    return next(members for members in families(served) if view.name in members)


def _all_served(catalog: Catalog) -> dict[str, ViewInfo]:
    return {view.name: view for view in catalog.views()}


def _find(catalog: Catalog, served: Mapping[str, ViewInfo], name: str) -> ViewInfo:
    for view in served.values():
        if view.name.casefold() == name.casefold():
            return view
    raise UnknownName(
        f"there is no view {name!r}", where=str(catalog.folder), expected=", ".join(served) or "none", found=name
    )  # fmt: skip


def _begun(serving: Serving, names: set[str]) -> Build | None:
    return next((build for name in sorted(names) if (build := serving.building(name)) is not None), None)


def _is_built(view: ViewInfo, build: Build) -> DefinitionError:
    why = {
        "change": "its definition has changed",
        "rollback": "it is rolled back",
        "replay": "it is replayed",
    }
    return DefinitionError(
        f"view {view.name!r} is being built already", where=", ".join(f"{name}/{number}" for name, number in build.views.items()),
        found=why[build.why], hint="wait until that version is served: bourne status",
    )  # fmt: skip


# --- what a replay needs -------------------------------------------------------------------------------------


def _check_kept(catalog: Catalog, view: ViewInfo) -> None:
    """Refuse to replay what could not come to the same rows."""
    first, last = _ends_of(view)
    if last.get("end"):
        raise ViewFailed(
            f"view {view.name!r} cannot be replayed: its inputs were said to have ended (final)", where=f"view {view.name!r}",
            hint="what closed its windows is not in the log; change its definition to compute it from the log alone",
        )  # fmt: skip
    began: Mapping[str, Any] = first.get("from", {})
    for each in view.inputs:
        if catalog.log(each.name) is None:
            continue
        kept = first_offsets(catalog, each)
        needed = began.get(each.name, (0,) * each.partitions) if first else kept
        if any(at > start for at, start in zip(kept, needed, strict=True)):
            raise ViewFailed(
                f"view {view.name!r} cannot be replayed: records that it was computed from are gone", where=f"log {each.name!r}",
                expected=f"records from offset {', '.join(map(str, needed))} on",
                found=f"records from offset {', '.join(map(str, kept))} on",
                hint="its rows cannot be made again from what the log still keeps; a changed definition starts from there",
            )  # fmt: skip


def _ends_of(view: ViewInfo) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return what the first and the last commit of a view say beside their rows."""
    reader = LogReader(view.folder, view.output)
    try:
        last = reader.last_frame()
        if last is None:
            return {}, {}
        reader.seek(reader.first_offset)
        return reader.read(rows_max=1)[0].meta, last.meta
    finally:
        reader.close()


# --- what a rollback needs -----------------------------------------------------------------------------------


def _versions_before(
    catalog: Catalog, serving: Serving, served: Mapping[str, ViewInfo], view: ViewInfo
) -> dict[str, ViewInfo]:
    """Return the versions that were served before, of a view and of all that have to go back with it: together they fit."""
    now = {each.name.casefold(): each for each in served.values()}
    wanted: dict[str, ViewInfo] = {}
    waiting = [view.name.casefold()]
    while waiting:
        name = waiting.pop()
        if name in wanted:
            continue
        number = serving.before.get(name)
        found = None if number is None else catalog.version(name, number)
        if found is None:
            raise DefinitionError(
                f"view {view.name!r} cannot be rolled back: no other version of {name!r} was served before",
                where=f"view {view.name!r}", expected=f"a version of {name!r} from before this one",
                hint="change the definition instead",
            )  # fmt: skip
        wanted[name] = found
        ids = {each.id for key, each in now.items() if key in wanted}
        waiting += [key for key, each in now.items() if key not in wanted and _reads(each, ids)]
        mine = {each.id for key, each in now.items() if key not in wanted} | {
            each.id for each in wanted.values()
        }
        waiting += [
            each.name.casefold()
            for each in found.inputs
            if each.name.casefold() in now and each.id not in mine
        ]
    together = {**now, **wanted}
    ids = {each.id for each in together.values()}
    for found in wanted.values():
        for each in found.inputs:
            if catalog.log(each.name) is None and each.id not in ids:
                raise DefinitionError(
                    f"view {view.name!r} cannot be rolled back: the versions that were served before do not fit together",
                    where=f"version {found.version} of view {found.name!r}",
                    expected=f"the version of {each.name!r} that it reads", found="another one",
                    hint="change the definitions instead",
                )  # fmt: skip
    return wanted


def _reads(view: ViewInfo, ids: set[bytes]) -> bool:
    return any(each.id in ids for each in view.inputs)
