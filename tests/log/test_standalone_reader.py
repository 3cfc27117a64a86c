"""The page on the format is enough: a reader that was written from it, without Bourne, reads what Bourne reads."""

from __future__ import annotations

import io
import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import bourne
from bourne.testing import ScratchLog

READER = Path(__file__).parent.parent.parent / "examples" / "read_log.py"

# Run the reader where Bourne cannot be imported: None among the modules makes `import bourne` fail.
WITHOUT_BOURNE = """
import runpy, sys
sys.modules["bourne"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
assert not [name for name in sys.modules if name.startswith("bourne.")]
"""

VALUES = {
    "id": "bigint not null",
    "text": "varchar",
    "cents": "decimal(38,2)",
    "huge": "hugeint",
    "part": "double",
    "yes": "boolean",
    "raw": "blob",
    "day": "date",
    "at": "timestamp",
    "zoned": "timestamptz",
    "span": "interval",
    "uuid": "uuid",
    "doc": "json",
    "tags": "varchar[]",
    "pair": "integer[2]",
    "deep": "struct(a integer, b struct(c varchar[], d decimal(5,3)))",
    "counts": "map(varchar, integer)",
}

ROWS: list[dict[str, Any]] = [
    {
        "id": 1, "text": "글 ☕ \u0000 \"'\\", "cents": "-123456789012345678901234567890123456.78", "huge": 10**38 - 1,
        "part": 0.1, "yes": True, "raw": b"\x00\xff", "day": "0001-01-01", "at": "2026-01-01 09:00:00.000001",
        "zoned": "2026-01-01 09:00:00+09:00", "span": timedelta(days=2, microseconds=3),
        "uuid": "00000000-0000-0000-0000-00000000000a", "doc": '{"a": [1, null]}', "tags": ["", None, "é"],
        "pair": [1, None], "deep": {"a": None, "b": {"c": [], "d": "1.500"}}, "counts": {"k": 1, "l": None},
    },
    {"id": 2},
    {"id": 3, "text": "", "tags": [], "deep": {"a": 1, "b": None}, "counts": {}},
]  # fmt: skip


def read_alone(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the reader as an outsider does."""
    return subprocess.run(
        [sys.executable, "-I", "-c", WITHOUT_BOURNE, str(READER), str(folder)],
        capture_output=True, text=True, encoding="utf-8", timeout=120, check=False,
    )  # fmt: skip


def read_here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], object]:
    """Run the reader in this process, for speed; return its lines, and why it ended (None: well)."""
    monkeypatch.setattr(sys, "argv", [str(READER), str(folder)])
    out = io.StringIO()
    try:
        with redirect_stdout(out):
            runpy.run_path(str(READER), run_name="__main__")
    except SystemExit as end:
        return out.getvalue().splitlines(), end.code
    return out.getvalue().splitlines(), None


def lines_of(log: Any, partition: int = 0) -> list[str]:
    """Return what the reader is to print, by Bourne's own reading."""
    return [
        json.dumps({"offset": offset, "record": record}, ensure_ascii=False, default=str)
        for batch in log.batches(partition=partition)
        for offset, record in zip(batch.offsets.tolist(), batch.records.to_pylist(), strict=True)
    ]


def test_values_of_all_types_in_several_partitions(tmp_path: Path) -> None:
    app = bourne.App("shop")
    app.log("orders", schema=VALUES, key="id", partitions=2)
    with bourne.open(app, data=tmp_path) as shop:
        log = shop.log("orders")
        for number in range(6):
            log.append([{**row, "id": row["id"] + 3 * number} for row in ROWS])
        log.append([{"id": 100, "text": "x" * 70_000}, {"id": 101}])  # a body of several Merkle leaves
        for partition in (0, 1):
            expected = lines_of(log, partition)
            read = read_alone(tmp_path / "logs" / "orders" / str(partition))
            assert (read.returncode, read.stderr) == (0, "")
            assert read.stdout.splitlines() == expected and len(expected) > 5


def filled(folder: Path) -> tuple[ScratchLog, list[str]]:
    """Return a log of several segments and frames, and the lines that the reader is to print."""
    log = ScratchLog(folder)
    rows = [(number, f"{number} 글" * number) for number in range(9)]
    with log.writer(segment_bytes=1500) as writer:
        for start in range(0, 9, 3):
            log.append(writer, rows[start : start + 1])
            log.append(writer, rows[start + 1 : start + 3], {"epoch": start})
    assert len(log.segments()) > 2
    return log, [
        json.dumps({"offset": offset, "record": {"number": number, "text": text}}, ensure_ascii=False)
        for offset, (number, text) in enumerate(rows)
    ]


def test_several_segments(tmp_path: Path) -> None:
    log, expected = filled(tmp_path)
    read = read_alone(log.partition)
    assert (read.returncode, read.stderr, read.stdout.splitlines()) == (0, "", expected)


def torn(log: ScratchLog) -> None:
    with log.segments()[-1].open("ab") as file:
        file.write(b"BOURNEFR" + bytes(100))


def written_and_not_published(log: ScratchLog) -> None:
    head = (log.partition / "head").read_bytes()
    with log.writer() as writer:
        log.append(writer, [(99, "nobody was told")])
    (log.partition / "head").write_bytes(head)


def begun_segment(log: ScratchLog) -> None:
    (log.partition / f"{9:020d}.seg").write_bytes(log.segments()[0].read_bytes()[:200])


@pytest.mark.parametrize("crash", [torn, written_and_not_published, begun_segment])
def test_what_a_crash_left_behind_head_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash: Callable[[ScratchLog], None]
) -> None:
    log, expected = filled(tmp_path)
    crash(log)
    assert read_here(log.partition, monkeypatch) == (expected, None)


def test_columns_that_were_added_and_widened(tmp_path: Path) -> None:
    for schema, row in [
        ({"a": "integer"}, {"a": 1}),
        ({"new": "varchar", "a": "bigint"}, {"a": 2**40, "new": "글"}),
    ]:
        app = bourne.App("shop")
        app.log("orders", schema=schema)
        with bourne.open(app, data=tmp_path) as shop:
            shop.append("orders", [row])
    read = read_alone(tmp_path / "logs" / "orders" / "0")
    assert [json.loads(line) for line in read.stdout.splitlines()] == [
        {"offset": 0, "record": {"a": 1}},  # as it was written
        {"offset": 1, "record": {"new": "글", "a": 2**40}},
    ]


def test_every_flipped_bit_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, expected = filled(tmp_path)
    for path in [*log.segments(), log.partition / "head"]:
        content = path.read_bytes()
        for at in range(0, len(content), 7):
            bad = bytearray(content)
            bad[at] ^= 1 << at % 8
            path.write_bytes(bad)
            lines, reason = read_here(log.partition, monkeypatch)
            assert isinstance(reason, str) and reason.startswith(f"{path}, byte "), f"{path.name}, byte {at}"
            assert lines == expected[: len(lines)]
        path.write_bytes(content)
    assert read_here(log.partition, monkeypatch) == (expected, None)


def test_a_missing_segment_or_a_shorter_one_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, expected = filled(tmp_path)
    for path in log.segments()[1:]:
        content = path.read_bytes()
        for left in (None, 0, 100, len(content) - 64):
            path.unlink(missing_ok=True)
            if left is not None:
                path.write_bytes(content[:left])
            lines, reason = read_here(log.partition, monkeypatch)
            assert isinstance(reason, str)
            assert lines == expected[: len(lines)]
        path.write_bytes(content)


def test_it_exits_with_an_error_and_says_where(tmp_path: Path) -> None:
    log, _ = filled(tmp_path)
    last = log.segments()[-1]
    content = bytearray(last.read_bytes())
    content[-100] ^= 1
    last.write_bytes(content)
    read = read_alone(log.partition)
    assert read.returncode == 1
    assert f"{last}, byte " in read.stderr
