"""`bourne tail`, `query`, `status`, and the command line as such."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from decimal import Decimal

import pytest

import bourne

CSV = 'id,user,amount,at\n1,ann,12.50,2024-01-01 10:00:00\n2,"한\n🚲",,\n3,"",200.00,2024-01-01 10:00:00.5\n'


@pytest.fixture(autouse=True)
def filled(shop, bourne_here):
    assert bourne_here("run", shop, "--until-caught-up").returncode == 0
    assert bourne_here("append", "orders", "-", "--format", "csv", stdin=CSV).returncode == 0
    assert bourne_here("run", shop, "--until-caught-up").returncode == 0


# --- tail ---


def test_tail_shows_the_last_records_with_their_offsets(bourne_here):
    done = bourne_here("tail", "orders")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "offset  id  user    amount  at",
        "──────  ──  ──────  ──────  ─────────────────────",
        "     0   1  ann      12.50  2024-01-01 10:00:00",
        "     1   2  한\\n🚲    NULL  NULL",
        "     2   3          200.00  2024-01-01 10:00:00.5",
    ]


@pytest.mark.parametrize(
    ("arguments", "offsets"),
    [
        ((), [0, 1, 2]),
        (("-n", "2"), [1, 2]),
        (("-n", "0"), []),
        (("--from", "1"), [1, 2]),
        (("--from", "0", "--limit", "2"), [0, 1]),
        (("--from", "3"), []),
        (("--from", "0", "--limit", "2", "--follow"), [0, 1]),
    ],
)
def test_tail_from_and_limit(bourne_here, arguments, offsets):
    done = bourne_here("tail", "orders", "--format", "jsonl", *arguments)
    assert done.returncode == 0
    assert [json.loads(line)["__offset"] for line in done.stdout.splitlines()] == offsets


def test_tail_of_what_is_not_there(bourne_here):
    assert bourne_here("tail", "orders", "--from", "4").returncode == 4
    assert bourne_here("tail", "orders", "--from", "-1").returncode == 2
    assert bourne_here("tail", "nothing").returncode == 4
    assert bourne_here("tail", "orders", "--data", "elsewhere").returncode == 7


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_what_tail_prints_append_reads(bourne_here, tmp_path, kind):
    text = bourne_here("tail", "orders", "--format", kind).stdout
    if kind == "csv":
        text = "".join(
            line.split(",", 1)[1] if not line.startswith("🚲") else line for line in text.splitlines(True)
        )
    else:
        rows = [json.loads(line, parse_float=Decimal) for line in text.splitlines()]
        text = "".join(
            json.dumps(
                {k: str(v) if isinstance(v, Decimal) else v for k, v in row.items() if k != "__offset"}
            )
            + "\n"
            for row in rows
        )
    assert bourne_here("append", "orders", "-", "--format", kind, stdin=text).returncode == 0
    with bourne.open(data=tmp_path / "data") as data:
        rows = data.query("SELECT * FROM orders").fetchall()
    assert rows[:3] == rows[3:]


def test_tail_follows_until_ctrl_c(start_bourne, bourne_here):
    process = start_bourne("tail", "orders", "--follow", "--from", "1", "--format", "jsonl")
    assert [json.loads(process.stdout.readline())["__offset"] for _ in range(2)] == [1, 2]
    for number in (3, 4):
        bourne_here("append", "orders", "-", "--format", "csv", stdin=f"id\n{number}\n")
        assert json.loads(process.stdout.readline())["__offset"] == number
    process.send_signal(2)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 0


# --- query ---


def test_query_as_a_table(bourne_here):
    done = bourne_here("query", "SELECT user, total FROM spend ORDER BY total")
    assert done.stdout.splitlines() == [
        "user     total",
        "──────  ──────",
        "ann      12.50",
        "        200.00",
        "한\\n🚲    NULL",
        "(3 rows)",
    ]


def test_a_long_table_is_cut_and_says_so(bourne_here):
    out = bourne_here("query", "SELECT range AS n FROM range(1234)").stdout.splitlines()
    assert len(out) == 103 and out[-1] == "(1,234 rows, the first 100 are shown)"
    assert (
        len(
            bourne_here("query", "SELECT range AS n FROM range(70000)", "--format", "csv").stdout.splitlines()
        )
        == 70001
    )


def test_query_as_csv_and_json_keeps_values_exact(bourne_here):
    sql = (
        "SELECT 12345678901234567890123.4500::DECIMAL(38,4) AS d, 9223372036854775807 AS n, 0.1::DOUBLE AS f, 'nan'::DOUBLE AS x, "
        "'a,\"b' AS t, '' AS e, NULL AS z, true AS b, [1, NULL] AS l, {'k': 1.50} AS s, DATE '2024-02-29' AS day, 1 AS a, 2 AS a"
    )
    done = bourne_here("query", sql, "--format", "csv")
    assert next(csv.reader(io.StringIO(done.stdout.splitlines()[1]))) == [
        "12345678901234567890123.4500", "9223372036854775807", "0.1", "nan", 'a,"b', "", "", "true", "[1, null]",
        '{"k": 1.50}', "2024-02-29", "1", "2",
    ]  # fmt: skip
    assert ',"",,true' in done.stdout
    done = bourne_here("query", sql.replace(", 2 AS a", ""), "--format", "json")
    (row,) = json.loads(done.stdout, parse_float=Decimal)
    assert row == {
        "d": Decimal("12345678901234567890123.4500"), "n": 9223372036854775807, "f": Decimal("0.1"), "x": "NaN",
        "t": 'a,"b', "e": "", "z": None, "b": True, "l": [1, None], "s": {"k": Decimal("1.50")}, "day": "2024-02-29", "a": 1,
    }  # fmt: skip


def test_no_rows_in_every_format(bourne_here):
    sql = "SELECT id, user FROM orders WHERE false"
    assert bourne_here("query", sql).stdout.splitlines()[-1] == "(0 rows)"
    assert bourne_here("query", sql, "--format", "csv").stdout == "id,user\n"
    assert json.loads(bourne_here("query", sql, "--format", "json").stdout) == []


def test_query_from_standard_input(bourne_here):
    assert (
        bourne_here("query", "-", "--format", "csv", stdin="SELECT count(*) AS n\nFROM orders").stdout
        == "n\n3\n"
    )


@pytest.mark.parametrize(
    "sql", ["SELEC 1", "SELECT * FROM nowhere", "DROP TABLE x", "", "SELECT 1; SELECT 2", "SELECT 'x'::INT"]
)
def test_a_wrong_query_is_an_error(bourne_here, sql):
    done = bourne_here("query", sql)
    assert (done.returncode, done.stdout) == (8, "") and done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_output_to_a_reader_that_goes_away_ends_silently(environment, tmp_path):
    program = f"{sys.executable} -c 'from bourne.cli import main; main()'"
    for command in ("query 'SELECT * FROM range(1000000)' --format csv", "tail orders --follow"):
        line = f"set -o pipefail; {program} {command} | head -1"
        if "follow" in command:
            line = f"set -o pipefail; {program} {command} --limit 3 --from 0 | head -1"
        done = subprocess.run(
            ["bash", "-c", line],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stderr == "" and len(done.stdout.splitlines()) == 1
        assert done.returncode in (0, 141)


# --- status ---


def test_status(bourne_here, tmp_path):
    done = bourne_here("status")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["log", "records", "size"] and lines[2].split()[:2] == ["orders", "3"]
    assert lines[4].split() == [
        "view",
        "version",
        "of",
        "position",
        "lag",
        "rows",
        "state",
        "output",
        "watermark",
        "late",
        "failed",
    ]
    assert lines[6].split()[:6] == ["large", "1", "orders", "3", "0", "1"]
    found = json.loads(bourne_here("status", "--json").stdout)
    (log,) = found["logs"]
    assert (log["name"], log["records"]) == ("orders", 3) and log["bytes"] > 0
    assert {
        view["name"]: (view["position"], view["lag_records"], view["rows"]) for view in found["views"]
    } == {
        "large": (3, 0, 1),
        "spend": (3, 0, 3),
    }


def test_status_says_how_far_views_lag(bourne_here):
    bourne_here("append", "orders", "-", "--format", "csv", stdin="id\n4\n5\n")
    assert [view["lag_records"] for view in json.loads(bourne_here("status", "--json").stdout)["views"]] == [
        2,
        2,
    ]


# --- the command line as such ---


def test_version_help_and_usage(bourne_here):
    assert bourne_here("--version").stdout == f"bourne {bourne.__version__}\n"
    assert bourne_here("--help").returncode == 0
    assert bourne_here("nonsense").returncode == 2
    assert bourne_here("query").returncode == 2
    assert bourne_here("query", "SELECT 1", "--format", "xml").returncode == 2
    assert bourne_here().returncode != 0


def test_a_damaged_log_exits_6_and_names_the_place(bourne_here, tmp_path):
    segment = max(
        (tmp_path / "data" / "logs" / "orders" / "0").iterdir(), key=lambda file: file.stat().st_size
    )
    content = bytearray(segment.read_bytes())
    content[-100] ^= 0xFF
    segment.write_bytes(content)
    done = bourne_here("query", "SELECT count(id) FROM orders")
    assert done.returncode == 6 and segment.name in done.stderr and "Traceback" not in done.stderr


def test_an_unforeseen_error_exits_1_with_a_traceback(environment, tmp_path):
    code = "import bourne.cli.program as p, bourne.instance as i; i.Instance.status = None; p.main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "status"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "Traceback" in done.stderr


def test_errors_are_red_on_a_terminal_only(bourne_here, monkeypatch):
    assert "\x1b" not in bourne_here("tail", "nothing").stderr
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b[31m" in bourne_here("tail", "nothing").stderr


def test_status_and_maintain_say_who_holds_old_records(bourne_here, tmp_path):
    app = bourne.App("shop")
    app.log("orders", schema={"user": "varchar"}, keep="1 day")
    app.view("users", "SELECT user, count(*) AS n FROM orders GROUP BY user")
    with bourne.open(app, data=tmp_path / "kept") as instance:
        instance.append("orders", [{"user": "김"}])
    shown = bourne_here("status", "--data", str(tmp_path / "kept")).stdout
    assert "kept from" in shown and "view users" in shown
    done = bourne_here("maintain", "--data", str(tmp_path / "kept")).stdout
    assert done.startswith("orders, partition 0: segments deleted: 0, compacted: 0, made cold: 0")
