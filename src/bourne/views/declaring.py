"""Which version of each view an app's definitions are: one that is there, or a new one; and what is to become of new ones.

Law: what is served stays served until a build ends. A view's very first version is served at once, if all that it reads is:
there is nothing that a reader could see instead. All others wait in a build, together with those that read each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from bourne.log.catalog import LogInfo
from bourne.ports import Files
from bourne.views.catalog import Catalog, ViewInfo, is_same_definition
from bourne.views.families import families, reads
from bourne.views.serving import Serving


def declare_views(
    catalog: Catalog, drafts: Sequence[ViewInfo], logs: Mapping[str, LogInfo], files: Files
) -> dict[str, ViewInfo]:
    """Return, by name, the version of each view that has this definition. Only within `Catalog.alone`.

    `drafts` come in the order in which they read each other.

    Raises:
        DefinitionError: a log has a view's name.
        StorageError: a version cannot be made.
    """
    before = catalog.serving()
    serving = _named(catalog, before)
    if (
        serving != before
    ):  # first: a version that is made now must not be the newest of a view that nothing is said of
        catalog.serve(serving, files)
    found: dict[str, ViewInfo] = {}
    known = dict(logs)
    for draft in drafts:
        draft = replace(draft, inputs=tuple(known[each.name] for each in draft.inputs))
        same = next(
            (each for each in _candidates(catalog, serving, draft.name) if is_same_definition(each, draft)),
            None,
        )
        view = catalog.make_version(draft, files) if same is None else replace(same, inputs=draft.inputs)
        found[draft.name] = view
        known[draft.name] = view.output
    after = arranged(serving, found)
    if after != serving:
        catalog.serve(after, files)
    return found


def is_held(view: ViewInfo, views: Mapping[str, ViewInfo], serving: Serving) -> bool:
    """Say whether a view was rolled back from this version, or reads one that was."""
    if serving.held.get(view.name.casefold()) == view.version:
        return True
    by_id = {each.id: each for each in views.values()}
    return any(is_held(by_id[each.id], views, serving) for each in view.inputs if each.id in by_id)


def arranged(serving: Serving, found: Mapping[str, ViewInfo]) -> Serving:
    """Return what is served and built once an app has declared these versions."""
    new = {
        view.name.casefold(): view
        for view in found.values()
        if serving.views.get(view.name.casefold()) != view.version
    }
    held = [name for name, view in new.items() if is_held(view, found, serving)]
    waiting = {name: view for name, view in new.items() if name not in held}
    views = dict(serving.views)
    by_id = {view.id: name for name, view in new.items()}
    for name, view in list(waiting.items()):  # those that others read come first
        is_first = not views.get(name)
        if is_first and not any(by_id.get(each.id) in waiting for each in view.inputs):
            views[name] = view.version
            del waiting[name]
    views |= {name: 0 for name in new if not views.get(name)}
    serving = replace(serving, views=views)
    wanted = [{name: waiting[name].version for name in members} for members in families(waiting)]
    mine = {name.casefold() for name in found}
    over = [
        build.number
        for build in serving.builds
        if build.why == "change" and build.views.keys() & mine and build.views not in wanted
    ]
    serving = serving.give_up(over, "the definition has changed again")
    going_on = [build.views for build in serving.builds]
    for versions in wanted:
        if versions not in going_on:
            serving = serving.begin(versions, "change")
    return serving


def above(names: set[str], views: Mapping[str, ViewInfo]) -> set[str]:
    """Return these views, and all that read them, directly or not."""
    found, size = set(names), 0
    while size != len(found):
        size = len(found)
        found |= {name for name, lower in reads(views).items() if found & set(lower)}
    return found


def _named(catalog: Catalog, serving: Serving) -> Serving:
    """Return it with all views named that are there, and without versions that somebody has deleted."""
    views: dict[str, int] = {}
    for name in catalog.view_names():
        number = serving.views.get(name)
        if number and catalog.version(name, number) is None:
            number = None
        newest = catalog.newest(name) if number is None else None
        if number is None and newest is not None:
            number = newest.version
        if number is not None:
            views[name] = number
    gone = [build.number for build in serving.builds if not _is_there(catalog, build.views)]
    return replace(serving.give_up(gone, "its files are gone"), views=views)


def _is_there(catalog: Catalog, versions: Mapping[str, int]) -> bool:
    return all(catalog.version(name, number) is not None for name, number in versions.items())


def _candidates(catalog: Catalog, serving: Serving, name: str) -> list[ViewInfo]:
    """Return the versions that a definition may be: the served one, one that is being built, one that was rolled back."""
    key = name.casefold()
    served = serving.views.get(key, 0)
    given_up = {number for each, number in serving.given_up if each == key}
    newer = [
        number
        for number in reversed(catalog.version_numbers(name))
        if (number > served or number == serving.held.get(key)) and number not in given_up
    ]
    found = [catalog.version(name, number) for number in (served, *newer) if number]
    return [each for each in found if each is not None]
