"""`bourne pipe`: from any source through SQL to any sink, in one line."""

from __future__ import annotations

import http.client
import json
import os
import pty
import signal
import sqlite3
from contextlib import closing

import pytest

from cli.conftest import COMMAND
from waiting import until

LINES = '{"kind": "bus", "n": 1}\n{"kind": "버스🚌", "n": 2}\n{"kind": "bus", "n": 3}\n'
COUNT = "SELECT kind, count(*) AS n FROM input GROUP BY kind"


def records(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_lines_of_json_are_counted(run_bourne):
    done = run_bourne("pipe", "-", COUNT, "-", stdin=LINES)
    assert (done.returncode, done.stderr) == (0, "")
    assert records(done.stdout) == [
        {"kind": "bus", "n": 2, "__weight": 1}, {"kind": "버스🚌", "n": 1, "__weight": 1},
    ]  # fmt: skip


def test_lines_of_text_go_through(run_bourne):
    done = run_bourne(
        "pipe", "-", "SELECT upper(line) AS line FROM input WHERE line <> ''", "-", stdin="a\n\nb b\n"
    )
    assert (done.returncode, records(done.stdout)) == (0, [{"line": "A"}, {"line": "B B"}])
    done = run_bourne("pipe", "-", "-", stdin="")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_csv_comes_in_and_goes_out(run_bourne, tmp_path):
    done = run_bourne("pipe", "stdin:?format=csv", "out.csv", stdin='id,text\n1,"a\nb"\n2,"c, ""d"""\n')
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out.csv").read_text() == 'id,text\n1,"a\nb"\n2,"c, ""d"""\n'
    done = run_bourne("pipe", "out.csv", "SELECT id + 1 AS id, 2 AS two FROM input", "stdout:?format=csv")
    assert done.stdout.split() == ["id,two", "2,2", "3,2"]


def test_a_table_is_kept_by_key_and_gone_on_with(run_bourne, tmp_path):
    (tmp_path / "in").mkdir()
    for number, expected in ((1, [("ann", 1)]), (2, [("ann", 3), ("bo", 2)]), (3, [("ann", 6), ("bo", 5)])):
        rows = [{"user": "ann", "n": number}, *([{"user": "bo", "n": number}] if number > 1 else [])]
        (tmp_path / "in" / f"{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        done = run_bourne(
            "pipe", "in/?settle=0", "SELECT user, sum(n)::bigint AS n FROM input GROUP BY user", "sqlite:out.db?table=sums",
            "--key", "user", "--data", "kept",
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        with closing(sqlite3.connect(tmp_path / "out.db")) as database:
            assert database.execute("SELECT user, n FROM sums ORDER BY user").fetchall() == expected


def test_columns_that_cannot_be_told_are_declared(run_bourne):
    done = run_bourne("pipe", "in/?watch=false", "-")
    assert done.returncode == 3
    assert "--columns" in done.stderr
    done = run_bourne(
        "pipe", "-", "-", "--columns", "kind varchar, price decimal(10,2)", stdin='{"price": 1.5}\n'
    )
    assert records(done.stdout) == [{"kind": None, "price": 1.5}]
    assert run_bourne("pipe", "-", "-", "--columns", "kind").returncode == 3


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("-", "SELECT nobody FROM input", "-"), 3, "nobody"),
        (("-", "SELECT 1 AS one FROM input", "udp:nobody"), 3, "is not a sink"),
        (("udp:nobody", "-"), 3, "is not a source"),
        (("tcp://127.0.0.1:0?format=jsonl", "-"), 3, "does not say which columns"),
        (("no.csv", "-"), 10, "no file"),
    ],
)
def test_what_cannot_be_is_said(run_bourne, arguments, code, said):
    done = run_bourne("pipe", *arguments, stdin=LINES)
    assert done.returncode == code, done.stderr
    assert said in done.stderr


def test_ctrl_c_ends_it(start_bourne, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text('{"n": 1}\n')
    process = start_bourne("pipe", "in/?settle=0", "out.jsonl", "--follow")
    until(lambda: (tmp_path / "out.jsonl").exists() and (tmp_path / "out.jsonl").read_text())
    (tmp_path / "in" / "b.jsonl").write_text('{"n": 2}\n')
    until(lambda: len((tmp_path / "out.jsonl").read_text().splitlines()) == 2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")


def test_on_a_terminal_it_is_a_table(environment, tmp_path):
    (tmp_path / "a.jsonl").write_text(LINES)
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.execve(COMMAND[0], [*COMMAND, "pipe", "a.jsonl", COUNT, "-"], {**environment, "TERM": "xterm"})
    shown = b""
    while True:
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # the terminal's other end is closed
            break
        if not piece:
            break
        shown += piece
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(terminal)
    last = shown.decode().replace("\r", "").splitlines()[-4:]
    assert [line.split() for line in last[-2:]] == [["bus", "2"], ["버스🚌", "1"]]


def test_what_is_pushed_goes_through(start_bourne, tmp_path):
    process = start_bourne(
        "pipe", "http://127.0.0.1:0", "SELECT kind, n + 1 AS n FROM input", "out.jsonl", "--columns", "kind varchar, n int",
        "--data", "kept",
    )  # fmt: skip

    def port() -> int | None:
        assert process.poll() is None
        states = [json.loads(path.read_text()) for path in (tmp_path / "kept" / "sources").glob("*.json")]
        return next((int(state["note"].split()[3]) for state in states), None)

    connection = http.client.HTTPConnection("127.0.0.1", until(port))
    connection.request("POST", "/logs/input", LINES.encode(), {"Content-Type": "application/jsonl"})
    assert connection.getresponse().status == 200
    connection.close()
    assert until(lambda: (tmp_path / "out.jsonl").exists() and records((tmp_path / "out.jsonl").read_text())) == [
        {"kind": "bus", "n": 2}, {"kind": "버스🚌", "n": 3}, {"kind": "bus", "n": 4},
    ]  # fmt: skip
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")


def test_what_is_pushed_needs_columns(run_bourne):
    done = run_bourne("pipe", "http://127.0.0.1:0", "-")
    assert (done.returncode, "--columns" in done.stderr) == (3, True)
