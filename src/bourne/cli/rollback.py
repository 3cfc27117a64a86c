"""`bourne rollback`: serves the version of a view again that was served before."""

from __future__ import annotations

from typing import Annotated

import typer

from bourne.cli.options import DATA, Data, stop_on_signals
from bourne.cli.replay import File, Name


def rollback(
    view: Annotated[str, typer.Argument(metavar="VIEW", help="The view whose version before is to be served.")],
    data: Data = DATA,
    file: File = None,
    name: Name = None,
    as_it_is: Annotated[
        bool, typer.Option("--as-it-is", help="Serve it at once, without what came since.")
    ] = False,
) -> None:  # fmt: skip
    """Serve the version of a view again that was served before it, and so for the views that read it, once it has caught up.

    The app that declares the other definition does not bring it back when it is started; another rollback does.
    """
    with stop_on_signals() as stop:
        from bourne.cli.versions import Told, opened
        from bourne.errors import ViewFailed

        with opened(data, file, name) as instance:
            told = Told(instance)
            outcome = instance.rollback(view, as_it_is=as_it_is, on_progress=told.progress, stop=stop.event)
        if outcome is None:
            print(f"stopped: what was served before is served, {view} too")
            raise typer.Exit(128 + (stop.signal_number or 0))
        if not outcome.is_served:
            raise ViewFailed(
                f"{view} is served as before: {outcome.error}", where=told.versions(outcome),
                hint="to serve it without what came since: --as-it-is",
            )  # fmt: skip
        told.served(outcome)
