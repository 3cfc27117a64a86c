"""`bourne run`: keeps an app's views up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bourne.cli.options import DATA, Data, stop_on_signals


def run(
    file: Annotated[Path, typer.Argument(metavar="APP.py", help="The Python file that declares the app.")],
    data: Data = DATA,
    until_caught_up: Annotated[
        bool,
        typer.Option(
            "--until-caught-up", help="End when the sources have ended and all views are up to date."
        ),
    ] = False,
    final: Annotated[
        bool,
        typer.Option(
            "--final", help="With --until-caught-up: nothing follows, so every window closes. For ever."
        ),
    ] = False,
    name: Annotated[
        str | None, typer.Option("--app", metavar="NAME", help="Which app, if the file declares several.")
    ] = None,
) -> None:
    """Open an app, take in what its sources bring, and keep its views up to date.

    Makes the data folder, the logs and the views that are missing. Ctrl-C or SIGTERM finish the current epoch, save
    what is worth saving, and end.
    """
    if final and not until_caught_up:
        raise typer.BadParameter("--final says that nothing follows: it needs --until-caught-up")
    with stop_on_signals() as stop:
        from rich.console import Console

        import bourne
        from bourne.cli.loading import load_app
        from bourne.cli.notices import calm_warnings, tell_state
        from bourne.cli.progress import ViewProgress

        console = Console(highlight=False)
        app = load_app(file, name=name)
        with calm_warnings():
            opened = bourne.open(app, data=data)
        with opened as instance:
            console.print(
                f"{app.name}: {len(app.views)} views follow {len(app.logs)} logs in {data}", soft_wrap=True
            )
            with ViewProgress(console) as progress:
                instance.run(
                    until_caught_up=until_caught_up, final=final, on_progress=progress.update, stop=stop.event,
                    on_state=lambda state: tell_state(console, state),
                )  # fmt: skip
    if stop.signal_number is not None and until_caught_up:
        raise typer.Exit(128 + stop.signal_number)  # ended before its aim
