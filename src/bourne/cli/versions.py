"""What `bourne replay` and `bourne rollback` say: how far a build is, how rows differ, what is served now."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from bourne.instance import Instance
    from bourne.views.serving import Build, Outcome

# How often a line says how far it is.
_EVERY_S: Final = 2.0


def opened(data: Path, file: Path | None, name: str | None) -> Instance:
    """Open a data folder, with the app that declares its views if there is a file."""
    import bourne
    from bourne.cli.notices import calm_warnings
    from bourne.loading import load_app

    if file is None:
        return bourne.open(data=data)
    with calm_warnings():
        return bourne.open(load_app(file, name=name), data=data)


class Told:
    """Prints it."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._told_s = time.monotonic()

    def progress(self, build: Build, is_here: bool) -> None:
        """Say now and then how far a build is, and who does it."""
        if time.monotonic() < self._told_s + _EVERY_S:
            return
        self._told_s = time.monotonic()
        for view in self._instance.status().views:
            if view.building is not None and view.name.casefold() in build.views:
                who = "" if is_here else ", by the process that runs the views"
                print(
                    f"{view.name}: version {view.building.version} at position {view.building.position:,}, "
                    f"lag {view.building.lag_records:,}{who}", flush=True,
                )  # fmt: skip

    def differences(self, outcome: Outcome) -> None:
        """Say how the rows of each view compare."""
        for each in outcome.differences:
            number = outcome.views[each.view.casefold()]
            if not each.gone and not each.come:
                print(f"{each.view}: version {number} has the same {each.rows:,} rows")
                continue
            print(
                f"{each.view}: version {number} has {each.rows:,} rows: {each.come:,} new, {each.gone:,} gone"
            )
            for sign, rows in (("+", each.come_rows), ("-", each.gone_rows)):
                for row in rows:
                    print(f"  {sign} {row}")

    def served(self, outcome: Outcome) -> None:
        """Say what is served now."""
        print(f"served now: {self.versions(outcome)}")

    @staticmethod
    def versions(outcome: Outcome) -> str:
        """Return the versions of a build for people."""
        return ", ".join(f"{name} version {number}" for name, number in outcome.views.items())
