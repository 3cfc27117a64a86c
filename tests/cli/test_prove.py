"""`bourne prove` and `bourne check-proof`, as their users run them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

import bourne
from bourne.cli.check_proof import _as_json

APP = """
import bourne

app = bourne.App("shop")
app.log("orders", schema={"id": "bigint not null", "user": "varchar", "doc": "json"})
app.log("many", schema={"id": "bigint not null"}, key="id", partitions=2)
"""


@pytest.fixture
def orders(tmp_path: Path, bourne_here) -> bourne.LogHead:
    """Fill a data folder; return the head of `orders`."""
    (tmp_path / "shop.py").write_text(APP, encoding="utf-8")
    assert bourne_here("run", "shop.py", "--until-caught-up").returncode == 0
    with bourne.open(data=tmp_path / "data") as shop:
        docs = ['{"a": [1, null]}', None, '"head"']
        shop.append(
            "orders", [{"id": row, "user": "안 \x1b[31m", "doc": doc} for row, doc in enumerate(docs)]
        )
        shop.append("many", [{"id": row} for row in range(10)])
        return shop.log("orders").head()


def test_a_proof_is_checked_without_the_log(tmp_path: Path, bourne_here, orders) -> None:
    done = bourne_here("prove", "orders", "0", "--out", "proof.json")
    size = (tmp_path / "proof.json").stat().st_size
    assert done.stdout == f"proof.json: {size:,} bytes, under head {orders.hash}\n"
    assert size < 4096
    (log,) = [json.loads(path.read_text()) for path in (tmp_path / "data/logs/orders").glob("log.json")]
    shutil.rmtree(tmp_path / "data")
    done = bourne_here("check-proof", "proof.json", "--head", orders.hash)
    assert done.returncode == 0
    shown = json.loads(done.stdout)
    assert shown.pop("append_time").endswith("+00:00")
    assert shown == {
        "log": "orders", "log_id": log["id"], "partition": 0, "offset": 0, "head": orders.hash, "head_offset": 3,
        "record": {"id": 0, "user": "안 \x1b[31m", "doc": {"a": [1, None]}},
    }  # fmt: skip
    assert "\x1b" not in done.stdout
    assert not (tmp_path / "data").exists()


def test_through_a_pipe(tmp_path: Path, run_bourne, orders) -> None:
    proof = run_bourne("prove", "orders", "2").stdout
    done = run_bourne("check-proof", "-", stdin=proof)
    assert json.loads(done.stdout)["record"]["doc"] == "head"
    changed = json.loads(proof) | {"offset": 7}
    done = run_bourne("check-proof", "-", stdin=json.dumps(changed))
    assert (done.returncode, done.stdout) == (6, "")
    assert "offset 7 is not in its frame" in done.stderr


def test_an_older_head(bourne_here, tmp_path: Path, orders) -> None:
    with bourne.open(data=tmp_path / "data") as shop:
        shop.append("orders", [{"id": 9}])
    bourne_here("prove", "orders", "1", "--head", orders.hash, "--out", "old.json")
    assert json.loads(bourne_here("check-proof", "old.json").stdout)["head"] == orders.hash
    bourne_here("prove", "orders", "1", "--out", "new.json")
    done = bourne_here("check-proof", "new.json", "--head", orders.hash)
    assert (done.returncode, done.stdout) == (6, "")
    assert "another head" in done.stderr and "--head HASH" in done.stderr
    done = bourne_here("prove", "orders", "3", "--head", orders.hash)
    assert done.returncode == 4 and "no such head at or after that record" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("prove", "orders", "3"), 4, "no record at offset 3"),
        (("prove", "orders", "0", "--partition", "1"), 4, "no partition 1"),
        (("prove", "many", "0"), 4, "--partition 0 to 1"),
        (("prove", "none", "0"), 4, "there is no log 'none'"),
        (("prove", "orders", "-1"), 2, "-1"),
        (("prove", "orders", "0", "--head", "x"), 4, "no head hash"),
        (("prove", "orders", "0", "--out", "no/such/folder"), 7, "cannot write no/such/folder"),
        (("check-proof", "shop.py"), 4, "that is no proof"),
        (("check-proof", "none.json"), 10, "cannot read none.json"),
        (("check-proof", "."), 10, "cannot read ."),
        (("check-proof", "/dev/zero"), 4, "that is no proof"),
        (("check-proof", "shop.py", "--head", "x"), 4, "no head hash"),
    ],
)
def test_what_cannot_be(bourne_here, orders, arguments, code: int, message: str) -> None:
    done = bourne_here(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr and "Traceback" not in done.stderr


def test_partitions(bourne_here, orders) -> None:
    for partition in (0, 1):
        bourne_here("prove", "many", "0", "--partition", str(partition), "--out", "p.json")
        assert json.loads(bourne_here("check-proof", "p.json").stdout)["partition"] == partition


def test_what_is_not_json_in_a_json_column_stays_a_text() -> None:
    """A proof is anybody's: its record cannot say anything beside itself."""
    text = '1}, "head": "the one you trust", "x": {"y": 1'
    for value in (text, "NaN", "[" * 10_000, ""):
        field = pa.field("doc", pa.string(), metadata={"bourne:type": "JSON"})
        record = pa.RecordBatch.from_arrays([pa.array([value])], schema=pa.schema([field]))
        proved = bourne.Proved("l", "00", 0, 0, 2**63 - 1, bourne.LogHead(0, 1, "ab"), record)
        shown = json.loads(_as_json(proved))
        assert shown["record"] == {"doc": value} and shown["head"] == "ab"
        assert shown["append_time"] == f"{2**63 - 1} us since 1970"


def test_values_that_cannot_be_shown_are_said_to_be() -> None:
    kind = pa.map_(pa.string(), pa.int8())
    record = pa.RecordBatch.from_arrays([pa.array([[("a", 1), ("a", 2)]], kind)], ["tags"])
    with pytest.raises(bourne.InvalidProof, match="values that no log has"):
        _as_json(bourne.Proved("l", "00", 0, 0, 0, bourne.LogHead(0, 1, "ab"), record))
