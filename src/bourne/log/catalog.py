"""What a log is, kept beside it in `log.json`, so that any process can read the log without the app."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bourne.errors import FormatTooNew, StorageError
from bourne.ports import Files, make_folder_durably, write_durably
from bourne.schema import Schema

FORMAT = 1

Changes = Literal["append", "upsert"]


@dataclass(frozen=True, slots=True)
class LogInfo:
    """A log's name, columns and promises. `watermark_us` is the lateness that its records may have."""

    name: str
    schema: Schema
    key: str | None = None
    time: str | None = None
    watermark_us: int = 0
    changes: Changes = "append"
    partitions: int = 1

    def to_json(self) -> dict[str, Any]:
        """Return the content of `log.json`."""
        return {
            "format": FORMAT,
            "name": self.name,
            "columns": self.schema.to_json(),
            "key": self.key,
            "time": self.time,
            "watermark_us": self.watermark_us,
            "changes": self.changes,
            "partitions": self.partitions,
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
    )


def partition_folder(log_folder: Path, partition: int = 0) -> Path:
    """Return the folder of one partition."""
    return log_folder / str(partition)


def write_log_info(folder: Path, info: LogInfo, files: Files) -> None:
    """Create the log's folder and write `log.json` durably."""
    make_folder_durably(files, partition_folder(folder))
    content = json.dumps(info.to_json(), indent=1, ensure_ascii=False)
    write_durably(files, folder / "log.json", content.encode())


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
    except (KeyError, IndexError, TypeError) as error:
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
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StorageError(f"cannot read {path.name}", where=str(path), found=str(error)) from error
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise StorageError(
            f"{path.name} is not Bourne's", where=str(path), expected='a JSON object with "format"',
            hint="is this the right folder?",
        )  # fmt: skip
    if content["format"] > FORMAT:
        raise FormatTooNew(
            "this folder was written by a newer Bourne",
            where=str(path),
            expected=f"format {FORMAT} or older",
            found=f"format {content['format']}",
            hint="upgrade Bourne",
        )
    return content
