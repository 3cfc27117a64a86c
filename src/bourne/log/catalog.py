"""What a log is, kept beside it in `log.json`, so that any process can read the log without the app."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from bourne.errors import FormatTooNew, StorageError
from bourne.ports import Files, make_folder_durably, write_durably
from bourne.schema import Schema

FORMAT = 2

# How records change the relation that SQL sees of a log: `bourne.log.relation` says what each means.
Changes = Literal["append", "upsert", "before_after", "weights"]

Durability = Literal["fsync", "interval", "none"]


@dataclass(frozen=True, slots=True)
class Retention:
    """How long records are kept, and in which form; None and False mean: for ever, as they were written.

    Records older than `keep_us`, or beyond the newest `keep_bytes` of a partition, are deleted, a segment at a time.
    What is older than `cold_after_us` becomes Parquet. With `is_compacted` only the newest record per key is kept.
    """

    keep_us: int | None = None
    keep_bytes: int | None = None
    cold_after_us: int | None = None
    is_compacted: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return what of it is set."""
        return {name: value for name, value in asdict(self).items() if value}


@dataclass(frozen=True, slots=True)
class LogInfo:
    """A log's name, columns and promises. `watermark_us` is the lateness that its records may have.

    `schema` is that of the records; what SQL sees is `bourne.log.relation.relation_schema`. `key` and `time` name columns
    of the rows, `tombstone` the one that says that a key is gone, `weight` the one that says how many times more a row is
    there, `request_id` the one that holds ids of records. `table` is the file that the log of a static table follows.
    `idle_us` is after how long a partition from which nothing comes does not hold the watermark back, `punctuation` an
    expression that says the watermark instead. Of a view's output, `bounds` says how far columns have come by its
    watermark (`bourne.engine.bounds`). `seen` names logs, and for each the column that says which position in it a
    record's author had seen. `id` tells this log from any other of the same name.
    """

    name: str
    schema: Schema
    key: str | None = None
    time: str | None = None
    watermark_us: int = 0
    changes: Changes = "append"
    partitions: int = 1
    durability: Durability = "fsync"
    request_id: str | None = None
    retention: Retention = Retention()
    tombstone: str | None = None
    weight: str | None = None
    table: str | None = None
    idle_us: int | None = None
    punctuation: str | None = None
    bounds: tuple[tuple[str, str], ...] = ()
    seen: tuple[tuple[str, str], ...] = ()
    id: bytes = field(default=bytes(16), compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return the content of `log.json`."""
        more = {
            "idle_us": self.idle_us,
            "punctuation": self.punctuation,
            "bounds": [list(pair) for pair in self.bounds],
            "seen": [list(pair) for pair in self.seen],
        }
        return {
            "format": FORMAT,
            "name": self.name,
            "id": self.id.hex(),
            "columns": self.schema.to_json(),
            "key": self.key,
            "time": self.time,
            "watermark_us": self.watermark_us,
            "changes": self.changes,
            "tombstone": self.tombstone,
            "weight": self.weight,
            "table": self.table,
            "partitions": self.partitions,
            "durability": self.durability,
            "request_id": self.request_id,
            "retention": self.retention.to_json(),
            **{name: value for name, value in more.items() if value},
        }


def log_info_from_json(content: dict[str, Any]) -> LogInfo:
    """Read back what `LogInfo.to_json` wrote."""
    return LogInfo(
        name=content["name"],
        schema=Schema.from_json(content["columns"]),
        key=content["key"],
        time=content["time"],
        watermark_us=content["watermark_us"],
        changes=content["changes"],
        partitions=content["partitions"],
        durability=content["durability"],
        request_id=content["request_id"],
        retention=Retention(**content.get("retention", {})),
        tombstone=content.get("tombstone"),
        weight=content.get("weight"),
        table=content.get("table"),
        idle_us=content.get("idle_us"),
        punctuation=content.get("punctuation"),
        bounds=tuple((name, text) for name, text in content.get("bounds", [])),
        seen=tuple((log, column) for log, column in content.get("seen", [])),
        id=bytes.fromhex(content["id"]),
    )


def partition_folder(log_folder: Path, partition: int = 0) -> Path:
    """Return the folder of one partition."""
    return log_folder / str(partition)


def write_log_info(folder: Path, info: LogInfo, files: Files) -> LogInfo:
    """Create the log's folders and write `log.json` durably; return the log with its id, a new one if it has none."""
    if not any(info.id):
        info = replace(info, id=uuid.uuid4().bytes)
    for partition in range(info.partitions):
        make_folder_durably(files, partition_folder(folder, partition))
    content = json.dumps(info.to_json(), indent=1, ensure_ascii=False)
    write_durably(files, folder / "log.json", content.encode())
    return info


def read_log_info(folder: Path) -> LogInfo | None:
    """Return what `log.json` says, or None if there is no such log.

    Raises:
        FormatTooNew, StorageError: it is there but cannot be understood.
    """
    content = read_json(folder / "log.json")
    if content is None:
        return None
    try:
        return log_info_from_json(content)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise StorageError(
            "log.json is not a log's", where=str(folder / "log.json"), found=f"{error!r}",
            hint="restore that file from a copy",
        ) from error  # fmt: skip


def read_json(path: Path) -> dict[str, Any] | None:
    """Read one of Bourne's own JSON files; None if there is none.

    Raises:
        FormatTooNew: its `format` is newer than this Bourne.
        StorageError: it is no JSON object, or cannot be read.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"cannot read {path.name}", where=str(path), found=str(error)) from error
    return checked_json(path, text)


def checked_json(path: Path, text: bytes) -> dict[str, Any]:
    """Return what the text of one of Bourne's own JSON files says. Raises: as `read_json`."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise StorageError(f"cannot read {path.name}", where=str(path), found=str(error)) from error
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise StorageError(
            f"{path.name} is not Bourne's", where=str(path), expected='a JSON object with "format"',
            hint="is this the right folder?",
        )  # fmt: skip
    if content["format"] < FORMAT:
        raise StorageError(
            "this folder was written by an unreleased Bourne whose format is not read any more",
            where=str(path),
            expected=f"format {FORMAT}",
            found=f"format {content['format']}",
            hint="append the data to a new folder",
        )
    if content["format"] > FORMAT:
        raise FormatTooNew(
            "this folder was written by a newer Bourne",
            where=str(path),
            expected=f"format {FORMAT}",
            found=f"format {content['format']}",
            hint="upgrade Bourne",
        )
    return content
