"""`bourne repair`: a damaged log's records in a new log, a list of what was lost, and exit codes that say so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture
def orders(bourne_here, shop: Path, tmp_path: Path) -> Path:
    """The only segment of a log of three appends."""
    bourne_here("run", shop, "--until-caught-up")
    for number in range(3):
        row = {"id": number, "user": "김", "amount": "1.00", "at": "2026-01-01"}
        (tmp_path / "one.jsonl").write_text(json.dumps(row), encoding="utf-8")
        assert bourne_here("append", "orders", "one.jsonl").returncode == 0
    (path,) = (tmp_path / "data/logs/orders/0").glob("*.seg")
    return path


def ids(bourne_here, log: str) -> list[int]:
    shown = bourne_here("tail", log, "--format", "jsonl").stdout
    return [json.loads(line)["id"] for line in shown.splitlines()]


def test_a_sound_log_is_copied_with_exit_code_0(bourne_here, orders):
    done = bourne_here("repair", "ORDERS", "--to", "주문2")
    assert (done.returncode, done.stdout) == (0, "partition 0: 3 records copied to 주문2, 0 lost\n")
    assert ids(bourne_here, "주문2") == [0, 1, 2]
    assert bourne_here("verify", "주문2").returncode == 0


def test_what_is_lost_is_listed_with_exit_code_6(bourne_here, orders):
    content = bytearray(orders.read_bytes())
    content[-100] ^= 1
    orders.write_bytes(content)
    assert bourne_here("verify", "orders").returncode == 6
    done = bourne_here("repair", "orders", "--to", "saved")
    lost, count = done.stdout.splitlines()
    assert done.returncode == 6 and done.stderr == ""
    assert lost.startswith(f"lost: partition 0, offset 2, file {orders.name}, byte ")
    assert lost.endswith(": its checksum does not match its bytes")
    assert count == "partition 0: 2 records copied to saved, 1 lost"
    assert ids(bourne_here, "saved") == [0, 1]
    assert bytearray(orders.read_bytes()) == content


def test_a_lost_schema_can_be_trusted(bourne_here, orders):
    content = orders.read_bytes()
    start = content.index(b"BOURNEFR", 1)
    orders.write_bytes(bytes(start) + content[start:])
    done = bourne_here("repair", "orders", "--to", "saved")
    assert done.returncode == 6 and "offsets 0 to 2" in done.stdout and "schema" in done.stdout
    done = bourne_here("repair", "orders", "--to", "trusted", "--trust-schema")
    assert done.returncode == 0 and ids(bourne_here, "trusted") == [0, 1, 2]


def test_the_end_that_nobody_knows_is_told(bourne_here, orders):
    (orders.parent / "head").unlink()
    orders.write_bytes(orders.read_bytes()[:-100])
    done = bourne_here("repair", "orders", "--to", "saved")
    assert done.returncode == 6 and "offsets from 2 on" in done.stdout
    assert done.stdout.endswith("2 records copied to saved, 0 lost, and nobody knows how many more\n")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["orders", "--to", "Orders"], 3, "is taken"),
        (["orders", "--to", "spend"], 3, "is taken"),
        (["orders", "--to", "no name"], 3, "cannot be a log name"),
        (["orders", "--to", "../x"], 3, "cannot be a log name"),
        (["spend", "--to", "new"], 4, "there is no log 'spend'"),
        (["orders"], 2, "--to"),
    ],
)
def test_what_cannot_be_is_refused(bourne_here, orders, arguments, code, message):
    before = sorted(orders.parents[3].rglob("*"))
    done = bourne_here("repair", *arguments)
    assert done.returncode == code and message in done.stderr
    assert sorted(orders.parents[3].rglob("*")) == before


def test_without_a_definition_it_says_what_to_do(bourne_here, orders, tmp_path):
    (orders.parents[1] / "log.json").unlink()
    done = bourne_here("repair", "orders", "--to", "new")
    assert done.returncode == 7 and "put the id of this log's frames into it" in done.stderr
    assert bourne_here("repair", "orders", "--to", "new", "--data", tmp_path / "none").returncode == 7
