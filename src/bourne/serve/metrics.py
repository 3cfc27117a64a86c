"""How all is, as Prometheus reads it: the text format 0.0.4."""

from __future__ import annotations

from collections.abc import Iterable

from bourne.jobs.counting import RowsCounted, RunsCounted
from bourne.status import Status

_Sample = tuple[dict[str, str], float | int | None]


def metrics_text(status: Status, subscribers: int) -> str:
    """Return all metrics."""
    parts = [
        _metric("bourne_log_records_total", "counter", "Records that were appended to a log.",
                [({"log": each.name}, each.end) for each in status.logs]),
        _metric("bourne_log_bytes", "gauge", "Bytes that a log has on disk.",
                [({"log": each.name}, each.bytes) for each in status.logs]),
        _metric("bourne_view_records_total", "counter", "Records that a view has taken in.",
                [({"view": each.name}, each.position) for each in status.views]),
        _metric("bourne_view_lag_records", "gauge", "Records that a view has still to take in.",
                [({"view": each.name}, each.lag_records) for each in status.views]),
        _metric("bourne_view_rows", "gauge", "Rows of a view.",
                [({"view": each.name}, each.rows) for each in status.views]),
        _metric("bourne_view_state_bytes", "gauge", "Memory of what a view's operators remember.",
                [({"view": each.name}, each.state_bytes) for each in status.views]),
        _metric("bourne_view_watermark_seconds", "gauge", "How far a view's event time has come, since 1970.",
                [({"view": each.name}, None if each.watermark_us is None else each.watermark_us / 1e6)
                 for each in status.views]),
        _metric("bourne_view_late_records_total", "counter", "Records that came too late for a view.",
                [({"view": each.name}, each.late_records) for each in status.views]),
        _metric("bourne_view_failed_records_total", "counter", "Records that a view goes on without.",
                [({"view": each.name}, each.failed_records) for each in status.views]),
        _metric("bourne_source_up", "gauge", "Whether a source is at work.",
                [({"source": each.name, "log": each.log}, int(each.state == "running")) for each in status.sources]),
        _metric("bourne_source_lag_records", "gauge", "Records that a source has still to bring.",
                [({"source": each.name, "log": each.log}, each.lag_records) for each in status.sources]),
        _metric("bourne_source_dead_letters", "gauge", "Records that a source could not take in, since it was started.",
                [({"source": each.name, "log": each.log}, each.dead_letters) for each in status.sources]),
        _metric("bourne_sink_up", "gauge", "Whether a sink is at work.",
                [({"sink": each.name, "view": each.view}, int(each.state == "running")) for each in status.sinks]),
        _metric("bourne_sink_lag_records", "gauge", "Records that are still to be delivered to a sink.",
                [({"sink": each.name, "view": each.view}, each.lag_records) for each in status.sinks]),
        _metric("bourne_subscribers", "gauge", "Subscriptions of views.", [({}, subscribers)]),
    ]  # fmt: skip
    return "".join(parts)


def jobs_text(
    runs: Iterable[RunsCounted], rows: Iterable[RowsCounted], waiting: Iterable[tuple[str, int]]
) -> str:
    """Return the metrics of jobs. They are of what the history remembers, so they are no counters."""
    counted = list(runs)
    kinds = [
        ({"job": each.job, "kind": kind}, value)
        for each in rows
        for kind, value in (("read", each.read), ("filtered", each.filtered), ("written", each.written), ("skipped", each.skipped))
    ]  # fmt: skip
    parts = [
        _metric("bourne_job_runs", "gauge", "Runs of a job that are remembered, by status.",
                [({"job": each.job, "status": each.status}, each.runs) for each in counted]),
        _metric("bourne_job_runs_at_work", "gauge", "Runs of jobs that are at work.",
                [({}, sum(each.runs for each in counted if each.status == "STARTED"))]),
        _metric("bourne_job_rows", "gauge", "Rows that the remembered runs of a job have read, filtered, written and skipped.", kinds),
        _metric("bourne_job_fires_waiting", "gauge", "Fires of a schedule that wait to begin.",
                [({"schedule": name}, count) for name, count in waiting]),
    ]  # fmt: skip
    return "".join(parts)


def _metric(name: str, kind: str, help_: str, samples: Iterable[_Sample]) -> str:
    lines = [f"{name}{_labels(labels)} {value}\n" for labels, value in samples if value is not None]
    return f"# HELP {name} {help_}\n# TYPE {name} {kind}\n{''.join(lines)}" if lines else ""


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
