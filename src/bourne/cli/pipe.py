"""`bourne pipe`: one source, one SELECT, one sink, in one line."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bourne.cli.options import end_with_reader, stop_on_signals

if TYPE_CHECKING:
    from rich.console import Console

    from bourne.instance import Instance

# Rows of the live table, at most; the terminal's height less a little, where that is known.
_ROWS_MAX = 40


def pipe(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Where records come from: a URL or path, or - for lines.")
    ],
    middle: Annotated[
        str,
        typer.Argument(
            metavar="[SQL]", help="A SELECT over input; by default all of it.", show_default=False
        ),
    ],
    end: Annotated[
        str | None,
        typer.Argument(
            metavar="SINK",
            help="Where its rows go: a URL or path, or - for standard output.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="A data folder to keep: run again, it goes on where it was. By default none is kept.",
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            metavar="COLUMN,...",
            help="The columns that say what a row is about; rows replace others.",
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns",
            metavar="TEXT",
            help="The columns of input, as 'kind varchar, n double'; by default told by it.",
        ),
    ] = None,
    follow: Annotated[
        bool | None,
        typer.Option(
            "--follow/--no-follow", help="Go on for ever, or end with what is there; by default files end."
        ),
    ] = None,
) -> None:
    """Run a SELECT over a source and bring its rows to a sink, until the source ends or Ctrl-C.

    On a terminal, - is a live table; elsewhere it is JSON lines. Rows that a changing SELECT takes back have the weight -1.
    """
    end_with_reader()
    sql, sink = (None, middle) if end is None else (middle, end)
    with stop_on_signals() as stop, ExitStack() as opened:
        from rich.console import Console

        import bourne
        from bourne.cli.notices import calm_warnings, tell_state
        from bourne.piping import has_end, pipe_app

        console, errors = Console(highlight=False), Console(stderr=True, highlight=False)
        is_live = sink in ("-", "stdout:") and console.is_terminal
        names = [name.strip() for name in key.split(",")] if key else []
        app = pipe_app(source, sql, None if is_live else sink, columns=columns, key=names)
        folder = data or Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="bourne-pipe-")))
        with calm_warnings():
            instance = opened.enter_context(bourne.open(app, data=folder))
        ends_by_itself = has_end(source) if follow is None else not follow
        if is_live:
            _show_live(instance, console, stop, ends_by_itself=ends_by_itself)
        else:
            instance.run(
                until_caught_up=ends_by_itself, final=ends_by_itself and data is None, stop=stop.event,
                on_state=lambda state: tell_state(errors, state),
            )  # fmt: skip
    if stop.signal_number is not None and ends_by_itself:
        raise typer.Exit(128 + stop.signal_number)  # ended before its aim


def _show_live(instance: Instance, console: Console, stop: object, *, ends_by_itself: bool) -> None:
    """Show the view's rows as they are, until it ends; then once more, to stay."""
    import threading

    from rich.live import Live
    from rich.text import Text

    from bourne.cli.formats import AlignedRows

    event: threading.Event = stop.event  # type: ignore[attr-defined]

    def picture() -> Text:
        rows = instance.query("SELECT * FROM output").to_arrow()
        shown = rows.slice(0, min(_ROWS_MAX, max(1, console.height - 4)))
        more = f"({rows.num_rows:,} rows)\n" if rows.num_rows > shown.num_rows else ""
        return Text("".join(AlignedRows().lines(shown)) + more, no_wrap=True)

    with Live(get_renderable=picture, console=console, refresh_per_second=8, transient=True):
        instance.run(until_caught_up=ends_by_itself, final=ends_by_itself, stop=event)
    console.print(picture(), end="")
