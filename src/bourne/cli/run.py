"""`bourne run`: keeps an app's views up to date."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bourne.cli.options import DATA, Data, stop_on_signals

if TYPE_CHECKING:
    from rich.console import Console

    from bourne.instance import Instance
    from bourne.jobs.jobs import Scheduled
    from bourne.running import Progress


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
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Where to serve, port 0 for a free one. By default 127.0.0.1:8040, or a free port if that is taken.",
        ),
    ] = None,
    serve: Annotated[
        bool | None,
        typer.Option(
            "--serve/--no-serve", envvar="BOURNE_SERVE", help="Serve views over HTTP, with a dashboard. By default yes, but not with --until-caught-up.",
            show_default=False,
        ),
    ] = None,
    access_log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to add a line for each request; - for standard error.")
    ] = None,
) -> None:  # fmt: skip
    """Open an app, take in what its sources bring, keep its views up to date, and serve them.

    Makes the data folder, the logs and the views that are missing. Ctrl-C or SIGTERM finish the current epoch, save
    what is worth saving, and end.
    """
    if final and not until_caught_up:
        raise typer.BadParameter("--final says that nothing follows: it needs --until-caught-up")
    place = None if address is None else read_address(address)
    is_serving = serve if serve is not None else address is not None or not until_caught_up
    if address is not None and not is_serving:
        raise typer.BadParameter("--address says where to serve, and --no-serve not to")
    with stop_on_signals() as stop:
        from rich.console import Console

        import bourne
        from bourne.cli.notices import calm_warnings, tell_state
        from bourne.cli.progress import ViewProgress
        from bourne.loading import load_app

        console = Console(highlight=False)
        app = load_app(file, name=name)
        with calm_warnings():
            opened = bourne.open(app, data=data)
        with opened as instance:
            console.print(
                f"{app.name}: {len(app.views)} views follow {len(app.logs)} logs in {data}", soft_wrap=True
            )
            for view in instance.rolled_back:
                console.print(
                    f"note: {view} was rolled back and is served as before; to have what {file.name} declares: "
                    f"bourne rollback {view}", soft_wrap=True,
                )  # fmt: skip
            with ExitStack() as opened_beside:
                note: Callable[[list[Progress]], None] = lambda progress: None  # noqa: E731
                if is_serving:
                    from bourne.serve.server import Server

                    _log_access(access_log, opened_beside)
                    instance.start()  # first: nobody is served what another process runs
                    jobs = None if until_caught_up else _jobs_at_work(instance, opened_beside, console)
                    server = opened_beside.enter_context(
                        Server(instance, place, file=file, name=name, jobs=jobs)
                    )
                    note = server.note
                    console.print(f"serves {server.url}", soft_wrap=True)
                elif app.schedules and not until_caught_up:
                    opened_beside.enter_context(instance.jobs.scheduled())
                if app.schedules and not until_caught_up:
                    console.print(f"begins jobs by {len(app.schedules)} schedules", soft_wrap=True)
                shown = opened_beside.enter_context(ViewProgress(console))

                def update(progress: list[Progress]) -> None:
                    note(progress)
                    shown.update(progress)

                instance.run(
                    until_caught_up=until_caught_up, final=final, on_progress=update, stop=stop.event,
                    on_state=lambda state: tell_state(console, state),
                )  # fmt: skip
    if stop.signal_number is not None and until_caught_up:
        raise typer.Exit(128 + stop.signal_number)  # ended before its aim


def read_address(text: str) -> tuple[str, int]:
    """Return host and port. `[::1]:8040` is one, too."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise typer.BadParameter(f"{text!r} is no address, such as 127.0.0.1:8040 or [::1]:0")
    return host.strip("[]"), int(port)


def _jobs_at_work(instance: Instance, opened: ExitStack, console: Console) -> Scheduled | None:
    """Let the app's jobs be begun, by schedules and requests; None if it has none.

    Raises:
        LogLocked: another process does so, and there are schedules. Without any, nothing but requests is lost: it is said.
    """
    from bourne.errors import LogLocked

    if not instance.jobs.names:
        return None
    try:
        return opened.enter_context(instance.jobs.scheduled())
    except LogLocked:
        if instance.jobs.schedules:
            raise
        console.print(
            "another process begins the jobs of this folder: here they can be looked at", soft_wrap=True
        )
        return None


def _log_access(file: Path | None, opened: ExitStack) -> None:
    from bourne.serve.access_log import log_access

    if file is not None:
        opened.enter_context(log_access(file))
