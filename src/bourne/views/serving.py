"""Which version of each view is served, which was before, and which are being built: one small file, `views/serving.json`.

Law: the file is replaced as a whole, so what it says is said of all views at once: who reads it once never mixes what was
served before with what is served now.

Names are kept without case, as SQL compares them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from bourne.errors import StorageError
from bourne.limits import BUILD_OUTCOMES_MAX
from bourne.log.catalog import FORMAT, checked_json
from bourne.log.disk import disk_errors
from bourne.ports import Files, write_durably

# Why a version is built: its definition changed, it is computed again from the log, or an earlier one comes back.
Why = Literal["change", "replay", "rollback"]

FILE: Final = "serving.json"


@dataclass(frozen=True, slots=True)
class Build:
    """Versions that are to be served together, once they have taken in what those have that are served.

    `accepts` says that they may have other rows than those.
    """

    number: int
    views: Mapping[str, int]
    why: Why
    accepts: bool = True


@dataclass(frozen=True, slots=True)
class Difference:
    """How the rows of a view's new version differ from those of the served one, both at one position: how many, and a few."""

    view: str
    rows: int
    gone: int
    come: int
    gone_rows: tuple[str, ...] = ()
    come_rows: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a build ended. `differences` of the views that could be compared; `error` says why it is not served."""

    number: int
    views: Mapping[str, int]
    why: Why
    is_served: bool
    differences: tuple[Difference, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Serving:
    """What the file says. A view that `views` does not name is served in its newest version, as in older data folders; 0
    is none: it waits for a build.

    `before` are the versions that were served before, `held` those that were rolled back: they are not served again by
    themselves. `given_up` are versions that never were served and never will be: their files may go.
    """

    views: Mapping[str, int] = field(default_factory=dict)
    before: Mapping[str, int] = field(default_factory=dict)
    held: Mapping[str, int] = field(default_factory=dict)
    builds: tuple[Build, ...] = ()
    given_up: tuple[tuple[str, int], ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    builds_begun: int = 0

    def build(self, number: int) -> Build | None:
        """Return a build that has not ended."""
        return next((build for build in self.builds if build.number == number), None)

    def outcome(self, number: int) -> Outcome | None:
        """Return how a build ended, if that was not long ago."""
        return next((outcome for outcome in self.outcomes if outcome.number == number), None)

    def building(self, name: str) -> Build | None:
        """Return the build that a view is in."""
        return next((build for build in self.builds if name.casefold() in build.views), None)

    # --- what becomes of it ---

    def begin(self, views: Mapping[str, int], why: Why, *, accepts: bool = True) -> Serving:
        """Return it with one more build; those of the same views are given up for it, but for versions that it goes on with."""
        number = self.builds_begun + 1
        kept = self.give_up(each.number for each in self.builds if each.views.keys() & views.keys())
        build = Build(number, dict(views), why, accepts)
        given_up = tuple(each for each in kept.given_up if each not in views.items())
        return replace(kept, builds=(*kept.builds, build), given_up=given_up, builds_begun=number)

    def give_up(self, numbers: Iterable[int], error: str = "another one took its place") -> Serving:
        """Return it without some builds."""
        found = self
        for number in numbers:
            build = found.build(number)
            if build is not None:
                found = found.end(Outcome(number, build.views, build.why, is_served=False, error=error))
        return found

    def end(self, outcome: Outcome) -> Serving:
        """Return it after a build ended: its versions are served from now on, or given up."""
        build = self.build(outcome.number)
        assert build is not None
        rest = tuple(each for each in self.builds if each is not build)
        ended = replace(self, builds=rest, outcomes=(*self.outcomes, outcome)[-BUILD_OUTCOMES_MAX:])
        if not outcome.is_served:
            gone = () if build.why == "rollback" else tuple(build.views.items())
            return replace(ended, given_up=(*self.given_up, *gone))
        left = {name: self.views[name] for name in build.views if self.views.get(name)}
        held = {name: number for name, number in self.held.items() if name not in build.views}
        return replace(
            ended, views={**self.views, **build.views}, before={**self.before, **left},
            held={**held, **left} if build.why == "rollback" else held,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Return what the file says."""
        return {"format": FORMAT, **asdict(self)}


def serving_from_json(content: Mapping[str, Any]) -> Serving:
    """Read back what `Serving.to_json` returned."""
    return Serving(
        content["views"],
        content["before"],
        content["held"],
        tuple(Build(**each) for each in content["builds"]),
        tuple((name, number) for name, number in content["given_up"]),
        tuple(_outcome(each) for each in content["outcomes"]),
        content["builds_begun"],
    )


def _outcome(content: Mapping[str, Any]) -> Outcome:
    differences = tuple(
        Difference(**{**each, "gone_rows": tuple(each["gone_rows"]), "come_rows": tuple(each["come_rows"])})
        for each in content["differences"]
    )
    return Outcome(**{**content, "differences": differences})


class ServingFile:
    """The file in the folder of the views. From any thread."""

    def __init__(self, views: Path) -> None:
        self._path = views / FILE
        self._known: tuple[bytes, Serving] = (b"", Serving())

    def read(self) -> Serving:
        """Return what it says; without it, nothing. As long as it stays as it is, that is the same object.

        Raises:
            FormatTooNew, StorageError: it cannot be understood.
        """
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            text = b""
        except OSError as error:
            raise StorageError(f"cannot read {FILE}", where=str(self._path), found=str(error)) from error
        known = self._known
        if known[0] != text:
            known = self._known = (text, self._parsed(text) if text else Serving())
        return known[1]

    def _parsed(self, text: bytes) -> Serving:
        try:
            return serving_from_json(checked_json(self._path, text))
        except (KeyError, TypeError, ValueError) as error:
            raise StorageError(
                f"{FILE} does not say which views are served", where=str(self._path), found=repr(error),
                hint="restore that file from a copy, or delete it: the newest version of each view is served then",
            ) from error  # fmt: skip

    def write(self, serving: Serving, files: Files) -> None:
        """Replace it, durably. Nobody else may be at it: `Catalog.alone`."""
        text = json.dumps(serving.to_json(), indent=1, ensure_ascii=False)
        with disk_errors(self._path.parent, "cannot say which views are served"):
            write_durably(files, self._path, text.encode())
