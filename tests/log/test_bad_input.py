"""What users and disks do wrong: a clear error, nothing of the call is kept, and the log goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

import bourne
from bourne.errors import DiskFull, FormatTooNew, InputError, StorageError, ValueMismatch
from bourne.limits import FRAME_BYTES_MAX
from bourne.log.verify import verify_log
from bourne.testing import SimulatedClock


def shop(folder: Path, **options: Any) -> bourne.Instance:
    app = bourne.App("shop")
    app.log("orders", schema={"user": "varchar", "amount": "decimal(10,2)"}, **options)
    return bourne.open(app, data=folder)


@pytest.mark.parametrize(
    "bad",
    [
        [{"user": "a", "amount": 1}, {"user": None, "amount": 1}],
        [{"user": "a", "amount": 1}, {"amount": 1}],
        [{"user": "a", "amount": "1.234"}],
        [{"user": "a", "sum": 1}],
        [{"user": "a", "amount": "many"}],
        [{"user": 1, "amount": 1}],
    ],
)
def test_what_does_not_fit_stores_nothing_in_any_partition(tmp_path: Path, bad: list[dict[str, Any]]) -> None:
    with shop(tmp_path, key="user", partitions=4) as instance:
        instance.append("orders", [{"user": "김", "amount": 1}])
        ends = instance.log("orders").end_offsets()
        with pytest.raises(InputError) as caught:
            instance.append("orders", bad)
        assert "expected" in str(caught.value) and "found" in str(caught.value)
        assert instance.log("orders").end_offsets() == ends
        instance.append("orders", [{"user": "김", "amount": 2}])
        assert sum(instance.log("orders").end_offsets()) == 2


def test_a_null_key_names_its_row(tmp_path: Path) -> None:
    with shop(tmp_path, key="user", partitions=2) as instance, pytest.raises(ValueMismatch, match="row 2"):
        instance.append("orders", [{"user": "a"}, {"user": "b"}, {"user": None}])


def test_a_record_beyond_the_limit_is_refused_and_says_the_limit(tmp_path: Path) -> None:
    with shop(tmp_path) as instance:
        with pytest.raises(InputError, match=f"{FRAME_BYTES_MAX:,} bytes"):
            instance.append("orders", [{"user": "x" * (FRAME_BYTES_MAX + 1)}])
        done = instance.append("orders", [{"user": "x" * (FRAME_BYTES_MAX - 5000)}, {"user": "y"}])
        assert done.offsets.tolist() == [0, 1]
        assert instance.tail("orders", start=1).to_pydict()["user"] == ["y"]


@pytest.mark.parametrize("start", [-1, 3, 10**18])
def test_an_offset_out_of_range_says_the_range(tmp_path: Path, start: int) -> None:
    with shop(tmp_path) as instance:
        instance.append("orders", [{"user": "a"}, {"user": "b"}])
        with pytest.raises(InputError, match="0 to 2") as caught:
            list(instance.log("orders").batches(start=start))
        assert str(start) in str(caught.value)
        with pytest.raises(InputError):
            instance.tail("orders", start=start)


@pytest.mark.parametrize("name", ["bourne.json", "logs/orders/log.json"])
def test_a_folder_of_a_newer_format_is_left_alone(tmp_path: Path, name: str) -> None:
    with shop(tmp_path) as instance:
        instance.append("orders", [{"user": "a"}])
    path = tmp_path / name
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"format": content["format"] + 1}))
    before = {each: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()}
    with pytest.raises(FormatTooNew, match="upgrade Bourne"), shop(tmp_path) as instance:
        instance.append("orders", [{"user": "b"}])
    assert {each: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()} == before


FULL = """
import resource, signal, sys
import bourne
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with bourne.open(data=sys.argv[1]) as instance:
    log = instance.log("orders")
    log.append([{"user": "before"}])
    room = (log.folder / "0" / "00000000000000000000.seg").stat().st_size + int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    try:
        log.append([{"user": "x" * 300_000}])
    except bourne.DiskFull as error:
        print(error.exit_code, log.end_offsets())
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(log.append([{"user": "after"}]).offsets.tolist())
"""


@pytest.mark.parametrize("room", [0, 100, 192, 1000, 299_000])
def test_a_disk_that_fills_up_in_the_middle_of_a_frame(tmp_path: Path, room: int) -> None:
    """The system itself refuses; the file size limit stands for the full disk."""
    shop(tmp_path).close()
    command = [sys.executable, "-c", FULL, str(tmp_path), str(room)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split("\n")[:2] == [f"{DiskFull.exit_code} (1,)", "[1]"]
    with bourne.open(data=tmp_path) as instance:
        log = instance.log("orders")
        assert [row["user"] for row in log.rows()] == ["before", "after"]
        verify_log(log.folder, log.info)


READ_ONLY = """
import os, sys
import bourne

def use(data):
    with bourne.open(data=data) as instance:
        print([row["user"] for row in instance.log("orders").rows()])
        print(instance.query("SELECT count(*) FROM orders").fetchall())
        print(instance.status().logs[0].records)
        try:
            instance.append("orders", [{"user": "b"}])
        except bourne.StorageError as error:
            print(error.exit_code, "Permission denied" in str(error))
        print([row["user"] for row in instance.log("orders").rows()])

use(sys.argv[1])  # all that is loaded when it is first needed may be out of reach later
os.seteuid(65534)
use(sys.argv[2])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may only read")
def test_who_may_only_read_can_read_and_nothing_else() -> None:
    with tempfile.TemporaryDirectory() as name:  # where everybody may go
        folder = Path(name)
        folder.chmod(0o755)
        for each in (folder / "mine", folder / "yours"):
            with shop(each) as instance:
                instance.append("orders", [{"user": "a"}])
        paths = [folder / "yours", *(folder / "yours").rglob("*")]
        for path in paths:
            path.chmod(0o555 if path.is_dir() else 0o444)
        command = [sys.executable, "-c", READ_ONLY, str(folder / "mine"), str(folder / "yours")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        expected = [
            "['a']",
            "[(1,)]",
            "1",
            "['a', 'b']",
            "['a']",
            "[(1,)]",
            "1",
            f"{StorageError.exit_code} True",
            "['a']",
        ]
        assert done.stdout.splitlines() == expected, done.stderr


def test_a_clock_that_jumps_back_changes_no_order(tmp_path: Path) -> None:
    clock = SimulatedClock(1_700_000_000_000_000)
    app = bourne.App("shop")
    app.log("orders", schema={"user": "varchar"}, keep="1 day", cold_after="1 hour")
    with bourne.open(app, data=tmp_path, clock=clock) as instance:
        times = []
        for number, jump in enumerate([0, -(10**9), 5, -(10**15), 10**9]):
            clock.advance(jump)
            instance.append("orders", [{"user": str(number)}])
            instance.maintain()
            times.append(clock.now_us())
        assert [row["user"] for row in instance.log("orders").rows()] == ["0", "1", "2", "3", "4"]
        log = instance.log("orders")
        with log.batches() as batches:
            stamps = [batch.append_time_us for batch in batches]
        assert stamps == sorted(stamps) and stamps[0] == 1_700_000_000_000_000
        verify_log(log.folder, log.info)


def test_nothing_is_there_is_no_error(tmp_path: Path) -> None:
    with shop(tmp_path, key="user", partitions=3) as instance:
        log = instance.log("orders")
        assert log.end_offsets() == log.first_offsets() == (0, 0, 0)
        assert list(log.rows()) == [] and instance.append("orders", []).ranges == {}
        assert instance.maintain() == [] and log.head().hash == ""
        assert [head.offset for head in verify_log(log.folder, log.info)] == [0, 0, 0]
