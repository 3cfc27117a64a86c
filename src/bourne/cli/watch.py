"""`bourne watch`: a view's rows, kept up to date in the terminal.

Nothing is looked at in intervals: it sleeps until the view, or what the view reads, is written to.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import closing
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final, Protocol

import typer

from bourne.cli.options import DATA, Data, Stop, end_with_reader, stop_on_signals

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from rich.console import Console
    from rich.text import Text

    from bourne.cli.watched import LastRecords, Shown, Target, WatchedRows
    from bourne.instance import Instance
    from bourne.views.catalog import Catalog

# What changes faster is shown so often, in seconds: about eight times in one.
_PAUSE_S: Final = 0.125

# How long to sleep at most: the window may have another size then, the view a new version, and some systems tell of
# no write (a network file system).
_LOOK_S: Final = 1.0

# What one cell may take of the window, and what is looked at of a value to fill it.
_CELL_WIDTH: Final = 60
_CELL_CHARS: Final = 240

# Lines that are no rows: the title, the header and its rule, and what is left out.
_FRAME_LINES: Final = 4


class WatchFormat(StrEnum):
    """What `--format` takes."""

    TABLE = "table"
    JSONL = "jsonl"


def watch(
    view: Annotated[str, typer.Argument(metavar="VIEW", help="The view, or the log, to watch.")],
    data: Data = DATA,
    columns: Annotated[
        str | None, typer.Option("--columns", metavar="A,B", help="Which columns, in this order. By default all.")
    ] = None,
    order: Annotated[
        str | None,
        typer.Option("--order", metavar="A,B.desc", help="Which rows come first. By default by the columns, from the left."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", "-n", min=1, metavar="N", help="How many rows at most. By default as many as fit."),
    ] = None,
    kind: Annotated[
        WatchFormat | None,
        typer.Option("--format", help="table, or jsonl: a line per change. By default a table on a terminal, else jsonl."),
    ] = None,
) -> None:  # fmt: skip
    """Show the rows of a view as they are, and go on as they change, until Ctrl-C."""
    end_with_reader()
    with stop_on_signals() as stop:
        from rich.console import Console

        import bourne
        from bourne.views.catalog import Catalog

        console = Console(highlight=False)
        can_draw = sys.stdout.isatty() and console.is_terminal and not console.is_dumb_terminal
        if kind is None:
            kind = WatchFormat.TABLE if can_draw else WatchFormat.JSONL
        if kind is WatchFormat.TABLE and not can_draw:
            raise typer.BadParameter("a table that changes needs a terminal", param_hint="'--format'")
        if kind is WatchFormat.JSONL and (order is not None or limit is not None):
            raise typer.BadParameter(
                "changes come as they are made: --order and --limit are for the table",
                param_hint="'--format'",
            )
        with bourne.open(data=data) as instance:
            catalog = Catalog(data)
            if kind is WatchFormat.JSONL:
                _follow(catalog, view, stop, lambda target: ChangeLines(target, columns, stop))
                return
            with LiveTable(console, limit) as table:
                _follow(catalog, view, stop, lambda target: table.of(_watched(target, instance, catalog, columns, order)))  # fmt: skip


def _watched(
    target: Target, instance: Instance, catalog: Catalog, columns: str | None, order: str | None
) -> WatchedRows | LastRecords:
    from bourne.cli.watched import LastRecords, WatchedRows, is_tail

    if is_tail(target, order):
        return LastRecords(instance.log(target.name), columns=columns)
    return WatchedRows(target, catalog, columns=columns, order=order)


class _Follower(Protocol):
    """Shows what is there, each time that there may be something new."""

    def show(self) -> float:
        """Show it; return after how many seconds to do so again even if nothing is new."""
        ...

    def leave(self) -> None:
        """Take back what was shown: the view has a new version."""
        ...

    def close(self) -> None:
        """Let go of the files."""
        ...


def _follow(catalog: Catalog, name: str, stop: Stop, follower: Callable[[Target], _Follower]) -> None:
    """Show a view or log until the stop; of a view that gets a new version, that one from then on."""
    from bourne.cli.watched import find
    from bourne.log.wake import Wake

    with Wake((), stop=stop.event) as pause:
        while not stop.event.is_set():
            target = find(catalog, name)
            # Watched before it is read, so that no commit in between is missed.
            with (
                Wake(target.folders(catalog), stop=stop.event) as wake,
                closing(follower(target)) as shown,
            ):
                while not stop.event.is_set():
                    again_s = shown.show()
                    pause.wait(_PAUSE_S)
                    wake.wait(again_s)
                    if not target.is_same(find(catalog, name)):
                        shown.leave()
                        break


# --- changes as lines ------------------------------------------------------------------------------------


class ChangeLines:
    """Prints each change as a line of JSON: first the rows as they are, then what becomes of them."""

    def __init__(self, target: Target, columns: str | None, stop: Stop) -> None:
        from bourne.cli.watched import pick
        from bourne.log.relation import relation_schema
        from bourne.views.changes import Changes

        schema = relation_schema(target.info)
        self._columns = pick(schema.names, columns)
        self._json_columns = {column.name for column in schema.columns if column.type == "JSON"}
        self._target, self._stop = target, stop
        self._changes = Changes(target.folder, target.info)

    def show(self) -> float:
        """Print what has changed since the last time."""
        from bourne.limits import DELIVERY_BYTES
        from bourne.log.relation import only_grows

        # What is never taken back need not be held in memory whole.
        bytes_max = DELIVERY_BYTES if only_grows(self._target.info) else 1 << 62
        while not self._stop.event.is_set():
            change = self._changes.read(bytes_max=bytes_max)
            if change is None:
                break
            self._print(change.table, change.weights)
        return _LOOK_S

    def leave(self) -> None:
        """Take back all rows."""
        import numpy as np

        from bourne.views.fold import Fold

        with closing(Fold(self._target.folder, self._target.info)) as fold:
            fold.refresh()
            table = fold.table()
        self._print(table, np.full(table.num_rows, -1))

    def _print(self, table: pa.Table, weights: NDArray[np.int64] | None) -> None:
        import numpy as np
        import pyarrow as pa

        from bourne.connect.row_texts import json_rows
        from bourne.views.changes import net

        if weights is None:
            weights = np.ones(table.num_rows, np.int64)
        else:  # rows that differ in other columns only have not changed
            change = net(table.select(self._columns), weights)
            assert change.weights is not None
            order = np.argsort(
                change.weights > 0, kind="stable"
            )  # a row goes before the one in its place comes
            table, weights = change.table.take(pa.array(order)), change.weights[order]
        rows = json_rows(table.select(self._columns), json_columns=self._json_columns)
        sys.stdout.writelines(
            f'{{"weight": {weight}, "row": {row}}}\n' for weight, row in zip(weights, rows, strict=True)
        )
        sys.stdout.flush()

    def close(self) -> None:
        """Let go of the files."""
        self._changes.close()


# --- rows as a table -------------------------------------------------------------------------------------


class LiveTable:
    """The whole window while it runs, so that it may change its size; the last state stays when it ends."""

    def __init__(self, console: Console, limit: int | None) -> None:
        from rich.live import Live

        self._console = console
        self._limit = limit
        self._watched: WatchedRows | LastRecords | None = None
        self._widths: dict[str, int] = {}
        self._last: Text | None = None
        self._live = Live(
            console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )

    def of(self, watched: WatchedRows | LastRecords) -> LiveTable:
        """Show these rows from now on."""
        self._watched = watched
        self._widths.clear()
        return self

    def show(self) -> float:
        """Draw what is there now."""
        from bourne.cli.watched import NEW_S

        assert self._watched is not None
        width, height = self._size()
        room = max(1, height - _FRAME_LINES)
        shown = self._watched.look(room if self._limit is None else min(room, self._limit))
        if not self._live.is_started:  # not before something is there to be drawn: an error needs no window
            self._live.start()
        self._last = draw(shown, width, self._widths)
        self._live.update(self._last, refresh=True)
        return NEW_S / 3 if self._watched.fades else _LOOK_S

    def _size(self) -> tuple[int, int]:
        """Return the window's width and height now: not what COLUMNS and LINES said when it was another one."""
        size = os.get_terminal_size(sys.stdout.fileno())
        if size.columns and size.lines:  # some terminals do not know
            self._console.size = size
        return self._console.size

    def leave(self) -> None:
        """Do nothing: the next picture takes this one's place."""

    def close(self) -> None:
        """Let go of the rows."""
        if self._watched is not None:
            self._watched.close()

    def __enter__(self) -> LiveTable:
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        if self._last is not None:
            self._console.print(self._last)


def draw(shown: Shown, width: int, widths: dict[str, int]) -> Text:
    """Return rows as lines of at most `width` cells, new ones bold. `widths` are the columns', which only widen."""
    from rich.cells import cell_len
    from rich.text import Text

    from bourne.connect.row_texts import is_number

    names = [name.removeprefix("__") for name in shown.table.column_names]
    columns = [[_cell(name), *column] for name, column in zip(names, _cells(shown.table), strict=True)]
    for name, column in zip(names, columns, strict=True):
        widths[name] = max(widths.get(name, 0), *map(cell_len, column))
    count = _fitting([widths[name] for name in names], width)
    lines = [Text(_title(shown), style="dim")]
    is_right = [is_number(kind) for kind in shown.table.schema.types]
    sizes = [min(widths[name], width) for name in names[:count]]
    for number, row in enumerate(zip(*columns[:count], strict=True)):
        cells = "  ".join(map(_padded, row, sizes, is_right))
        is_new = number > 0 and shown.is_new[number - 1]
        lines.append(Text(cells.rstrip(), style="bold" if is_new else ""))
        if number == 0:
            lines.append(Text("  ".join("─" * size for size in sizes)))
    more_rows, more_columns = shown.rows - shown.table.num_rows, len(names) - count
    more = [f"{more_rows:,} more {_plural(shown.unit, more_rows)}"] if more_rows > 0 else []
    more += [f"{more_columns:,} more {_plural('column', more_columns)} (--columns)"] if more_columns else []
    if more:
        lines.append(Text(f"… {', '.join(more)}", style="dim"))
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return Text("\n").join(lines)


def _title(shown: Shown) -> str:
    return f"{shown.rows:,} {_plural(shown.unit, shown.rows)} of {shown.title}"


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"


def _cells(table: pa.Table) -> list[list[str]]:
    from bourne.connect.row_texts import text_columns

    return [[_cell(value) for value in column.to_pylist()] for column in text_columns(table)]


def _cell(value: str | None) -> str:
    """Return a value in one line of a bounded width, without control characters."""
    from rich.cells import cell_len, set_cell_size

    from bourne.cli.formats import cell

    text = cell(value if value is None else value[:_CELL_CHARS])
    is_whole = cell_len(text) <= _CELL_WIDTH and (value is None or len(value) <= _CELL_CHARS)
    return text if is_whole else set_cell_size(text, _CELL_WIDTH - 1).rstrip() + "…"


def _padded(text: str, size: int, is_right: bool) -> str:
    from rich.cells import cell_len, set_cell_size

    gap = size - cell_len(text)
    if gap < 0:
        return set_cell_size(text, size - 1) + "…" if size > 1 else "…"
    return " " * gap + text if is_right else text + " " * gap


def _fitting(widths: list[int], width: int) -> int:
    """Return how many columns fit, at least one."""
    used = 0
    for number, each in enumerate(widths):
        used += each + (2 if number else 0)
        if used > width and number:
            return number
    return len(widths)
