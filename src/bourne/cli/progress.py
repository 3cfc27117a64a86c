"""Shows how views get on while they run: a live table on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

if TYPE_CHECKING:
    from bourne.running import Progress

# How often a line per view is printed where there is no terminal.
_LINES_EVERY_S = 5.0

# Rows per second are those of this much time.
_RATE_S = 2.0


class ViewProgress:
    """Give `update` to `Instance.run(on_progress=…)`, inside a `with`."""

    def __init__(self, console: Console, *, now: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._now = now
        self._began = now()
        self._printed = self._began
        self._latest: list[Progress] = []
        self._seen: list[tuple[float, dict[str, int]]] = [(self._began, {})]
        self._busy_until = self._began
        self._live = (
            Live(get_renderable=self._table, console=console, refresh_per_second=8, transient=True)
            if console.is_terminal
            else None
        )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        for each in self._latest:
            rate = each.rows / max(self._busy_until - self._began, 1e-3)
            self._console.print(_line(each, rate), highlight=False, soft_wrap=True)

    def update(self, progress: list[Progress]) -> None:
        """Take in where the views are."""
        now = self._now()
        self._latest, self._busy_until = progress, now
        self._seen = [entry for entry in self._seen if entry[0] > now - _RATE_S] or self._seen[-1:]
        self._seen.append((now, {_label(each): each.rows for each in progress}))
        if self._live is None and now - self._printed >= _LINES_EVERY_S:
            self._printed = now
            for each in progress:
                self._console.print(_line(each, self._rate(each)), highlight=False, soft_wrap=True)

    def _rate(self, view: Progress) -> float:
        """Return the rows per second of late."""
        since, before = self._seen[0]
        return (view.rows - before.get(_label(view), 0)) / max(self._now() - since, 1e-3)

    def _table(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD)
        table.add_column("view")
        for name in ("records", "records/s", "lag"):
            table.add_column(name, justify="right", min_width=11)
        for each in self._latest:
            lag = f"{each.lag_records:,}" if each.failure is None else "failed"
            table.add_row(_label(each), f"{each.rows:,}", f"{self._rate(each):,.0f}", lag)
        return table


def _line(view: Progress, rate: float) -> str:
    failed = "" if view.failure is None else f", failed: {view.failure.what}"
    return f"{_label(view)}: {view.rows:,} records, {rate:,.0f} records/s, lag {view.lag_records:,}{failed}"


def _label(view: Progress) -> str:
    return f"{view.view} (new version)" if view.is_new else view.view
