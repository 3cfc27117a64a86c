"""How all in a data folder is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bourne.connect.states import SinkState, SourceState
from bourne.engine.explain import size_text
from bourne.html_table import HtmlColumn, html_table
from bourne.views.status import LogStatus, ViewStatus


@dataclass(frozen=True, slots=True)
class Status:
    """All logs, views, sources and sinks of a data folder, by name."""

    logs: tuple[LogStatus, ...]
    views: tuple[ViewStatus, ...]
    sources: tuple[SourceState, ...] = ()
    sinks: tuple[SinkState, ...] = ()

    def _repr_html_(self) -> str:
        """Return a table of each kind for a notebook."""
        return "".join(["<div>", *(_table(rows) for rows in _tables(self) if rows), "</div>"])


# What is to the right in the tables.
_NUMBERS = {"version", "records", "size", "position", "lag", "rows", "state size", "late", "failed", "dead"}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant_text(instant_us: int | None) -> str:
    """Return an instant in UTC for people."""
    if instant_us is None:
        return "-"
    try:
        return str((_EPOCH + timedelta(microseconds=instant_us)).replace(tzinfo=None))
    except OverflowError:  # beyond what Python's own type can say
        return f"{instant_us} us"


def _tables(status: Status) -> Sequence[Sequence[dict[str, str]]]:
    logs = [
        {"log": each.name, "records": f"{each.records:,}", "size": size_text(each.bytes)}
        for each in status.logs
    ]
    views = [
        {
            "view": each.name,
            "version": str(each.version)
            if each.building is None
            else f"{each.version} ({each.building.version} is built)",
            "of": ", ".join(each.inputs),
            "position": f"{each.position:,}",
            "lag": f"{each.lag_records:,}",
            "rows": f"{each.rows:,}",
            "state size": size_text(each.state_bytes),
            "watermark": "end" if each.is_complete else instant_text(each.watermark_us),
            "late": f"{each.late_records:,}",
            "failed": f"{each.failed_records:,}",
        }
        for each in status.views
    ]
    sources = [
        {
            "source": each.name,
            "into": each.log,
            "delivery": each.delivery,
            "state": each.state,
            "records": f"{each.records:,}",
            "lag": lag_text(each.lag_records, each.lag_bytes),
            "dead": f"{each.dead_letters:,}",
            "note": each.error or each.note or "",
        }
        for each in status.sources
    ]
    sinks = [
        {
            "sink": each.name,
            "of": each.view,
            "delivery": each.delivery,
            "state": each.state,
            "position": f"{each.position:,}",
            "lag": lag_text(each.lag_records, None),
            "dead": f"{each.dead_letters:,}",
            "note": each.error or "",
        }
        for each in status.sinks
    ]
    return logs, views, sources, sinks


def lag_text(records: int | None, size: int | None) -> str:
    """Return how far something is behind, in records or else in bytes, for people."""
    if records is not None:
        return f"{records:,}"
    return "?" if size is None else size_text(size)


def _table(rows: Sequence[dict[str, str]]) -> str:
    columns = [HtmlColumn(name, is_right=name in _NUMBERS) for name in rows[0]]
    return html_table(columns, [list(row.values()) for row in rows])
