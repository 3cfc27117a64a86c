"""What there is and how it is, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from bourne.log.catalog import LogInfo
from bourne.log.relation import relation_schema
from bourne.log.verify import verify_log
from bourne.running import Progress
from bourne.serve.encoding import columns_json
from bourne.serve.service import Service


def views(service: Service) -> list[dict[str, Any]]:
    """Say which views there are."""
    return [
        {
            "name": view.name, "version": view.version, "sql": view.sql, "inputs": [each.name for each in view.inputs],
            "columns": columns_json(view.schema), "keyed": view.changes == "upsert",
        }
        for view in service.reading.views().values()
    ]  # fmt: skip


def logs(service: Service) -> list[dict[str, Any]]:
    """Say which logs there are."""
    return [_log(info) for info in service.reading.logs()]


def _log(info: LogInfo) -> dict[str, Any]:
    retention = {name: value for name, value in asdict(info.retention).items() if value not in (None, False)}
    return {
        "name": info.name, "columns": columns_json(relation_schema(info)), "partitions": info.partitions, "key": info.key,
        "time": info.time, "changes": info.changes, "retention": retention, "table": info.table,
    }  # fmt: skip


def status(service: Service) -> dict[str, Any]:
    """Say how all is; of views that run here, also how fast, and why one stands still."""
    instance = service.instance
    found = asdict(instance.status())
    for view in found["views"]:
        view.update(_at_work(service.progress.get(view["name"])))
    return {
        "app": None if instance.app is None else instance.app.name,
        "subscribers": service.subscribers,
        **found,
    }


def _at_work(progress: Progress | None) -> Mapping[str, Any]:
    failure = None if progress is None or progress.failure is None else str(progress.failure)
    return {"failure": failure}


def not_ready(service: Service) -> list[str]:
    """Return why views do not follow their logs."""
    return [
        f"view {name!r} has failed: {each.failure.what}"
        for name, each in service.progress.items()
        if each.failure is not None
    ]


def explain(service: Service, name: str) -> dict[str, Any]:
    """Say what a view does and costs."""
    found = service.instance.explain(service.view(name).name)
    operators = [
        {"number": each.number, "operator": each.label, "detail": each.detail, "rows": each.rows, "bytes": each.bytes}
        for each in found.operators
    ]  # fmt: skip
    return {
        "view": found.view, "sql": found.sql, "text": found.text, "operators": operators, "mermaid": found.mermaid,
        "warning": found.warning,
    }  # fmt: skip


def letters(service: Service, limit: int) -> dict[str, Any]:
    """List the dead letters that are open, the newest first."""
    found = [letter for letter in reversed(service.instance.dead_letters.all()) if letter.outcome is None]
    shown = [
        {
            "id": each.id, "at": str(each.at), "origin": each.origin, "place": each.place, "log": each.log,
            "reason": each.reason, "payload": each.text()[:2_000],
        }
        for each in found[:limit]
    ]  # fmt: skip
    return {"letters": shown, "more": len(found) > limit}


def retry(service: Service, ids: list[str]) -> dict[str, Any]:
    """Take letters in again.

    Raises:
        UnknownName: there is no such open letter.
    """
    found = service.instance.dead_letters
    done = found.retry(found.chosen(ids))
    return {"letters": [{"id": letter.id, "reason": reason} for letter, reason in done]}


def discard(service: Service, ids: list[str]) -> dict[str, Any]:
    """Give letters up. Raises: as `retry`."""
    found = service.instance.dead_letters
    chosen = found.chosen(ids)
    found.discard(chosen)
    return {"letters": [{"id": letter.id} for letter in chosen]}


def verify(service: Service, name: str) -> dict[str, Any]:
    """Read all of a log; say the head of each partition.

    Raises:
        CorruptFrame: it is not what was written.
    """
    log = service.instance.log(name)
    return {"log": log.info.name, "heads": [asdict(head) for head in verify_log(log.folder, log.info)]}
