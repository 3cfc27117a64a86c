"""`bourne watch`: rows as they are, and as they change, in a terminal and as lines."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

import bourne
from bourne.cli.watch import draw
from bourne.cli.watched import NEW_S, LastRecords, WatchedRows, find, pick, pick_order
from bourne.errors import UnknownColumn
from bourne.views.catalog import Catalog
from cli.conftest import COMMAND
from waiting import until


def shop_app(view: str = "SELECT user, sum(amount) AS total FROM orders GROUP BY user") -> bourne.App:
    app = bourne.App("shop")
    app.log("orders", schema={"user": "varchar", "amount": "integer"})
    app.view("spend", view)
    return app


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[bourne.Instance]:
    with bourne.open(shop_app(), data=tmp_path / "data") as instance:
        yield instance


def add(shop: bourne.Instance, *pairs: tuple[str | None, int]) -> None:
    shop.append("orders", [{"user": user, "amount": amount} for user, amount in pairs])
    shop.catch_up()


# --- what is watched ---


class Now:
    """A time that stands still until it is moved."""

    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


def watched(shop: bourne.Instance, name: str = "spend", *, columns: str | None = None, order: str | None = None, now: Now | None = None) -> WatchedRows:  # fmt: skip
    catalog = Catalog(shop.folder)
    return WatchedRows(find(catalog, name), catalog, columns=columns, order=order, now=now or Now())


def test_rows_are_in_the_order_of_their_columns_or_as_asked(shop: bourne.Instance) -> None:
    add(shop, ("bo", 5), ("ann", 5), (None, 1), ("cy", 9))
    for order, names in [
        (None, ["ann", "bo", "cy", None]),
        ("USER.desc", ["cy", "bo", "ann", None]),
        ("total.desc", ["cy", "ann", "bo", None]),
        ("total, user.desc", [None, "bo", "ann", "cy"]),
    ]:
        found = watched(shop, order=order)
        assert found.look(10).table.column("user").to_pylist() == names
        assert found.look(2).table.column("user").to_pylist() == names[:2]
        assert found.look(2).rows == 4
        found.close()


def test_rows_that_have_just_come_are_new_for_a_moment(shop: bourne.Instance) -> None:
    now = Now()
    add(shop, ("ann", 1), ("bo", 2))
    found = watched(shop, now=now)
    assert found.look(10).is_new == [False, False] and not found.fades
    add(shop, ("bo", 3), ("cy", 0))
    assert found.look(10).is_new == [False, True, True] and found.fades
    now.s += NEW_S / 2
    add(shop, ("ann", 1))
    assert found.look(10).is_new == [True, True, True]
    now.s += NEW_S * 0.6
    assert found.look(10).is_new == [True, False, False]
    now.s += NEW_S
    assert found.look(10).is_new == [False] * 3 and not found.fades
    found.close()


def test_a_change_in_a_column_that_is_not_shown_is_none(shop: bourne.Instance) -> None:
    add(shop, ("ann", 1))
    found = watched(shop, columns="USER", order="total")
    add(shop, ("ann", 1), ("bo", 0))
    shown = found.look(10)
    assert shown.table.to_pylist() == [{"user": "bo"}, {"user": "ann"}]
    assert shown.is_new == [True, False]
    found.close()


def test_the_title_says_how_far_the_view_is(shop: bourne.Instance) -> None:
    found = watched(shop)
    assert found.look(10).title == "spend: position 0, lag 0"
    add(shop, ("ann", 1))
    shop.append("orders", [{"user": "bo"}, {"user": "bo"}])
    title = found.look(10).title
    assert re.fullmatch(r"spend: position 1, lag 2, changed \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", title)
    found.close()


def test_wide_types_are_sorted_as_what_they_are(tmp_path: Path) -> None:
    app = bourne.App("wide")
    app.log(
        "seen",
        schema={"id": "uuid", "n": "hugeint", "data": "json", "l": "integer[]"},
        key="id",
        changes="upsert",
    )
    with bourne.open(app, data=tmp_path / "data") as instance:
        for number in (9, 10, -1):
            instance.append("seen", [{"id": f"00000000-0000-0000-0000-{number & 15:012}", "n": number, "data": "[1]", "l": [number]}])  # fmt: skip
        found = watched(instance, "seen", order="n.desc")
        assert [int(value) for value in found.look(5).table.column("n").to_pylist()] == [10, 9, -1]
        instance.append("seen", [{"id": "00000000-0000-0000-0000-000000000009", "n": 11}])
        shown = found.look(5)
        assert [int(value) for value in shown.table.column("n").to_pylist()] == [11, 10, -1]
        assert shown.is_new == [True, False, False]
        found.close()


@pytest.mark.parametrize("partitions", [1, 3])
def test_the_last_records_of_a_log(tmp_path: Path, partitions: int) -> None:
    now = Now()
    app = bourne.App("logs")
    app.log("seen", schema={"k": "integer not null"}, key="k", partitions=partitions)
    with bourne.open(app, data=tmp_path / "data") as instance:
        found = LastRecords(instance.log("seen"), columns=None, now=now)
        empty = found.look(5)
        assert (empty.table.num_rows, empty.rows, empty.is_new) == (0, 0, [])
        for number in range(100):
            instance.append("seen", [{"k": number}])
        shown = found.look(5)
        assert shown.table.column("k").to_pylist() == [95, 96, 97, 98, 99]
        assert (shown.rows, shown.is_new) == (100, [True] * 5)
        now.s += NEW_S
        assert found.look(5).is_new == [False] * 5 and not found.fades
        instance.append("seen", [{"k": 100}])
        assert found.look(5).is_new == [False] * 4 + [True]
        assert ("__partition" in shown.table.column_names) == (partitions > 1)
        found.close()


def test_columns_and_orders_that_are_not_there() -> None:
    assert pick(["a", "B.desc"], "b.DESC") == ["B.desc"]
    assert pick_order(["a", "B", "x.desc"], "b.DESC") == [("B", True), ("a", False), ("x.desc", False)]
    for text in ("c", "", "a,,b", "a.down"):
        with pytest.raises(UnknownColumn):
            pick(["a", "b"], text)
        with pytest.raises(UnknownColumn):
            pick_order(["a", "b"], text)


# --- how it is drawn ---


def drawn(shop: bourne.Instance, width: int, height: int, **options: str) -> list[str]:
    found = watched(shop, **options)
    console = Console(width=width, height=height, no_color=True)
    with console.capture() as captured:
        console.print(draw(found.look(height - 4), width, {}))
    found.close()
    return captured.get().splitlines()


def test_columns_align_whatever_is_in_them(shop: bourne.Instance) -> None:
    add(shop, ("ann", 12), ("김민수", 3), ("🚲bike", 100), ("a\x1b[31m\n[red]b", 1), (None, 2))
    title, header, rule, *rows = drawn(shop, 80, 24)
    assert title.startswith("5 rows of spend: position 5, lag 0, changed ")
    assert [line.split("  ")[0].strip() for line in rows] == [
        "a\\x1b[31m\\n[red]b",
        "ann",
        "김민수",
        "🚲bike",
        "NULL",
    ]
    assert {cell_len(line) for line in (header, rule, *rows)} == {
        cell_len(rule)
    }  # the totals end in one cell
    assert [line.split()[-1] for line in rows] == ["1", "12", "3", "100", "2"]


def test_it_fits_the_window_and_says_what_does_not(shop: bourne.Instance) -> None:
    add(shop, *((f"user{number:03}" + "한" * number, number) for number in range(200)))
    lines = drawn(shop, 40, 10)
    assert len(lines) == 10 and max(map(cell_len, lines)) <= 40
    assert lines[-1] == "… 194 more rows" and lines[0].startswith("200 rows of spend")
    lines = drawn(shop, 40, 10, order="total.desc")
    assert lines[-1].startswith("… 194 more rows, 1 more")
    assert lines[3].startswith("user199한") and lines[3].endswith("…")
    assert max(map(cell_len, drawn(shop, 5, 10))) <= 5


# --- as lines ---


def lines_until(process, done) -> list[dict]:
    """Return the lines until `done` says of the rows that they amount to that it is all."""
    rows: Counter[str] = Counter()
    found = []
    while not done({row for row, count in rows.items() if count}):
        line = process.stdout.readline()
        assert line, process.stderr.read()
        change = json.loads(line)
        found.append(change)
        rows[json.dumps(change["row"])] += change["weight"]
        assert set(change) == {"weight", "row"}
    return found


def rows_of(**totals: int) -> set[str]:
    return {json.dumps({"user": user, "total": total}) for user, total in totals.items()}


def test_elsewhere_changes_come_as_lines(shop, start_bourne):
    add(shop, ("ann", 1), ("ann", 2), ("bo", 5))
    process = start_bourne("watch", "spend")
    first = lines_until(process, lambda rows: rows == rows_of(ann=3, bo=5))
    assert [change["weight"] for change in first] == [1, 1]  # as they are, not how they came to be so
    add(shop, ("ann", 1))
    assert lines_until(process, lambda rows: rows == rows_of(ann=4) or len(rows) == 1)[0]["weight"] == -1
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert [json.loads(line)["row"]["total"] for line in out.splitlines()] in ([], [4])


def test_lines_of_some_columns(shop, start_bourne):
    add(shop, ("ann", 1), ("bo", 1))
    process = start_bourne("watch", "spend", "--columns", "total")
    assert json.loads(process.stdout.readline()) == {"weight": 2, "row": {"total": 1}}
    add(shop, ("ann", 1))
    assert [json.loads(process.stdout.readline()) for _ in range(2)] == [
        {"weight": -1, "row": {"total": 1}}, {"weight": 1, "row": {"total": 2}},
    ]  # fmt: skip
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 0


def test_a_new_version_takes_the_place_of_the_old_one(tmp_path, start_bourne):
    with bourne.open(shop_app(), data=tmp_path / "data") as instance:
        add(instance, ("ann", 1), ("bo", 2))
        process = start_bourne("watch", "spend")
        lines_until(process, lambda rows: rows == rows_of(ann=1, bo=2))
    with bourne.open(
        shop_app("SELECT user, 10 * amount AS total FROM orders"), data=tmp_path / "data"
    ) as instance:
        instance.catch_up()
        rows = Counter(dict.fromkeys(rows_of(ann=1, bo=2), 1))
        while {row for row, count in rows.items() if count} != rows_of(ann=10, bo=20):
            change = json.loads(process.stdout.readline())
            rows[json.dumps(change["row"])] += change["weight"]
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("", "")


def test_a_log_as_lines(shop, start_bourne):
    shop.append("orders", [{"user": "한\n", "amount": None}])
    process = start_bourne("watch", "orders")
    assert json.loads(process.stdout.readline()) == {"weight": 1, "row": {"user": "한\n", "amount": None}}
    shop.append("orders", [{"user": "ann", "amount": 2}])
    assert json.loads(process.stdout.readline())["row"] == {"user": "ann", "amount": 2}
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("", "")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("nothing",), 4),
        (("spend", "--columns", "none"), 4),
        (("spend", "--format", "table"), 2),
        (("spend", "--order", "user"), 2),
        (("spend", "--limit", "0"), 2),
        (("spend", "--data", "elsewhere"), 7),
    ],
)
def test_what_cannot_be_is_said(shop, bourne_here, arguments, code):
    done = bourne_here("watch", *arguments)
    assert (done.returncode, done.stdout) == (code, "") and "Traceback" not in done.stderr


# --- in a terminal ---


class Terminal:
    """A terminal of 60 by 10 cells, whatever COLUMNS says, in which the command runs. Remembers what is written."""

    def __init__(self, environment: dict[str, str], folder: Path, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        self.resize(10, 60)
        self._process = subprocess.Popen(
            [*COMMAND, *arguments], stdin=slave, stdout=slave, stderr=slave, cwd=folder,
            env={**environment, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
        )  # fmt: skip
        os.close(slave)
        self.written = b""
        self._forgotten = 0
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def _take(self) -> None:
        try:
            while piece := os.read(self._master, 4096):
                self.written += piece
        except OSError:  # the other end is closed
            pass

    def screens(self) -> list[str]:
        """Return what the window showed, one state after another; the last one may not be whole yet."""
        text = self.written.decode(errors="replace").replace("\r", "")
        return [re.sub(r"\x1b\[\?[0-9]+[hl]", "", each) for each in text.split("\x1b[H")[1:]]

    def shows(self, *parts: str) -> str | None:
        """Return the first whole state since the last `forget` that has all these parts in it."""
        for screen in self.screens()[self._forgotten : -1]:
            plain = re.sub(r"\x1b\[[0-9;]*m", "", screen)
            if all(part in plain for part in parts):
                return screen
        return None

    def forget(self) -> None:
        """Let what was shown so far not count any more."""
        self._forgotten = len(self.screens())

    def resize(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def end(self, number: int | None = None) -> int:
        """Send a signal, or wait for an end of its own accord; return the exit code."""
        if number is not None:
            self._process.send_signal(number)
        code = self._process.wait(timeout=60)
        self._thread.join(timeout=60)
        os.close(self._master)
        return code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_table_that_changes_in_place(shop, environment, tmp_path, number):
    add(shop, ("ann", 1), ("김", 2))
    terminal = Terminal(environment, tmp_path, "watch", "spend", "--order", "total.desc")
    first = until(lambda: terminal.shows("2 rows of spend", "ann", "김"))
    assert "\x1b[1m" not in first
    add(shop, ("ann", 41))
    changed = until(lambda: terminal.shows("ann", "42"))
    assert re.search(r"\x1b\[1mann +42\x1b\[0m", changed) and "\x1b[1m김" not in changed
    until(lambda: "\x1b[1m" not in terminal.screens()[-2], what="the moment to be over")
    shop.append("orders", [{"user": "bo"}])
    until(lambda: terminal.shows("position 3, lag 1"))  # what the view has not taken in yet
    terminal.resize(6, 60)
    add(shop, ("cy", 1), ("dy", 2))
    until(lambda: terminal.shows("ann", "… 3 more rows"))
    assert terminal.end(number) == 0
    text = terminal.written.decode()
    assert text.count("\x1b[?1049h") == text.count("\x1b[?1049l") == 1
    after = text.split("\x1b[?1049l")[1]
    assert "5 rows of spend" in after and "dy" in after  # the last state stays


def test_many_changes_are_few_pictures(shop, environment, tmp_path):
    add(shop, ("ann", 0))
    terminal = Terminal(environment, tmp_path, "watch", "spend")
    until(lambda: terminal.shows("ann"))
    terminal.forget()
    before, began = len(terminal.screens()), time.monotonic()
    for _ in range(100):
        add(shop, ("ann", 1))
    until(lambda: terminal.shows("ann", "100", "position 101"))
    drawn = len(terminal.screens()) - before
    assert drawn <= (time.monotonic() - began) / 0.125 + 2
    assert terminal.end(signal.SIGINT) == 0


def test_an_error_leaves_the_terminal_as_it_was(shop, environment, tmp_path):
    terminal = Terminal(environment, tmp_path, "watch", "spend", "--order", "none")
    assert terminal.end() == 4
    assert b"there is no column 'none'" in terminal.written and b"\x1b[?1049h" not in terminal.written
