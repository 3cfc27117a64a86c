"""`bourne replay`: computes a view again from the log, beside the version that is served."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bourne.cli.options import DATA, Data, stop_on_signals

File = Annotated[
    Path | None,
    typer.Option(
        "--file", metavar="APP.py", help="The Python file that declares the app: only for views that call its functions."
    ),
]  # fmt: skip
Name = Annotated[
    str | None, typer.Option("--app", metavar="NAME", help="Which app, if the file declares several.")
]


def replay(
    view: Annotated[str, typer.Argument(metavar="VIEW", help="The view to compute again.")],
    data: Data = DATA,
    file: File = None,
    name: Name = None,
    accept_differences: Annotated[
        bool,
        typer.Option("--accept-differences", help="Serve the new version also if it has other rows than the one before."),
    ] = False,
) -> None:  # fmt: skip
    """Compute a view, and those that read it, again from the log; compare; serve the new version if its rows are the same.

    Until then, and if it is stopped, the version that is there is served. While another process runs the views, that one does
    it, and this command waits for it. The version before is kept: bourne rollback VIEW.
    """
    with stop_on_signals() as stop:
        from bourne.cli.versions import Told, opened
        from bourne.errors import ViewFailed

        with opened(data, file, name) as instance:
            told = Told(instance)
            outcome = instance.replay(
                view, accept_differences=accept_differences, on_progress=told.progress, stop=stop.event
            )
        if outcome is None:
            print(f"stopped: what was served before is served, {view} too")
            raise typer.Exit(128 + (stop.signal_number or 0))
        told.differences(outcome)
        if not outcome.is_served:
            raise ViewFailed(
                f"{view} is served as before: {outcome.error}", where=told.versions(outcome),
                hint="see which rows differ; to serve the new version all the same: --accept-differences"
                if any(each.gone or each.come for each in outcome.differences) else "see bourne status",
            )  # fmt: skip
        told.served(outcome)
