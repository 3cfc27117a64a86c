"""`bourne run`: finds the app, shows progress, and ends when it is asked to, cleanly."""

from __future__ import annotations

import io
import signal

import httpx
import pytest
from rich.console import Console

import bourne
from bourne.cli.progress import ViewProgress
from bourne.errors import ViewFailed
from waiting import until

CSV = "id,user,amount\n" + "".join(f"{n},u{n % 7},{n}.50\n" for n in range(300))


def append(bourne_here, text: str = CSV) -> None:
    assert bourne_here("append", "orders", "-", "--format", "csv", stdin=text).returncode == 0


def test_until_caught_up_brings_every_view_up_to_date_and_says_so(shop, bourne_here):
    done = bourne_here("run", shop, "--until-caught-up")
    assert (done.returncode, done.stderr) == (0, "")
    append(bourne_here)
    done = bourne_here("run", shop, "--until-caught-up")
    assert (done.returncode, done.stderr) == (0, "")
    assert "shop: 2 views follow 1 log" in done.stdout
    for view in ("spend", "large"):
        assert f"{view}: 300 records, " in done.stdout
    assert done.stdout.count("lag 0") == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly_with_everything_committed(
    number, shop, bourne_here, start_bourne, tmp_path
):
    bourne_here("run", shop, "--until-caught-up")
    process = start_bourne("run", shop)
    append(bourne_here)
    with bourne.open(data=tmp_path / "data") as data:
        until(lambda: data.query("SELECT count(*) FROM large").fetchall() == [(200,)])
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "spend: 300 records" in out
    assert bourne_here("run", shop, "--until-caught-up").returncode == 0  # the locks are free


def test_who_comes_second_serves_nothing(shop, bourne_here, start_bourne):
    first = start_bourne("run", shop, "--serve", "--address", "127.0.0.1:0")
    until(lambda: "serves http" in first.stdout.readline())
    second = bourne_here("run", shop, "--serve", "--address", "127.0.0.1:0")
    assert second.returncode == 5
    assert "another process" in second.stderr and "serves http" not in second.stdout
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=60) == 0


JOBS = """
import bourne
from bourne.batch import task

app = bourne.App("jobs")


@app.job
def greet(name: str):
    return task("greet", lambda: print("hello", name, flush=True))
"""


def test_an_app_of_jobs_alone_is_run_so_that_they_are_begun_over_http(tmp_path, start_bourne):
    app = tmp_path / "jobs.py"
    app.write_text(JOBS, encoding="utf-8")
    first = start_bourne("run", app, "--serve", "--address", "127.0.0.1:0")
    url = until(lambda: address(first.stdout.readline()))
    begun = httpx.post(f"{url}/jobs/greet/runs", json={"name": "지우"}, timeout=60)
    assert begun.status_code == 202
    until(lambda: "hello 지우" in first.stdout.readline())
    second = start_bourne("run", app, "--serve", "--address", "127.0.0.1:0")
    until(lambda: "another process begins the jobs" in second.stdout.readline())
    other = until(lambda: address(second.stdout.readline()))
    assert httpx.post(f"{other}/jobs/greet/runs", json={"name": "bo"}, timeout=60).status_code == 409
    assert len(httpx.get(f"{other}/jobs/runs", timeout=60).json()["runs"]) == 1
    for process in (second, first):
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")


def address(line: str) -> str | None:
    return line.split()[1] if line.startswith("serves http") else None


def test_final_needs_an_end(shop, bourne_here):
    done = bourne_here("run", shop, "--final")
    assert done.returncode == 2
    assert "--until-caught-up" in done.stderr


def test_a_signal_before_its_aim_is_not_success(tmp_path, start_bourne):
    app = tmp_path / "app.py"
    app.write_text(
        "import bourne\napp = bourne.App('lines')\napp.log('seen', schema={'what': 'varchar'})\n"
        "app.source('stdin:', into='seen')\napp.view('n', 'SELECT what, count(*) AS n FROM seen GROUP BY what')\n"
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        process = start_bourne("run", app, "--until-caught-up")
        process.stdin.write("car\n")
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 128 + number and "Traceback" not in err
    process = start_bourne("run", app, "--until-caught-up")
    out, _ = process.communicate("car\nbus\n한", timeout=60)
    assert process.returncode == 0 and "lag 0" in out


def test_two_runs_of_the_same_views_are_one_too_many(shop, bourne_here, start_bourne):
    process = start_bourne("run", shop)
    process.stdout.readline()
    until(lambda: bourne_here("run", shop, "--until-caught-up").returncode == 5)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_queries_tail_and_status_answer_while_it_runs(shop, bourne_here, start_bourne):
    process = start_bourne("run", shop)
    process.stdout.readline()
    append(bourne_here)
    until(
        lambda: bourne_here("query", "SELECT count(*) FROM large", "--format", "csv").stdout.endswith("200\n")
    )
    assert bourne_here("tail", "orders", "-n", "1").returncode == 0
    assert bourne_here("status").returncode == 0
    process.terminate()
    process.communicate(timeout=60)


# --- finding the app ---


@pytest.mark.parametrize(
    ("code", "arguments", "words"),
    [
        (None, (), "there is no file"),
        ("x = 1", (), "declares no app"),
        ("import bourne\na = bourne.App('a')\nb = bourne.App('b')", (), "2 apps"),
        ("import bourne\na = bourne.App('a')\nb = bourne.App('b')", ("--app", "c"), "no app 'c'"),
        ("import bourne\n\nimport no_such_module", (), "app.py, line 3"),
        ("import bourne\n\ndef f(:\n", (), "app.py, line 3"),
        ("def f():\n    raise ValueError('my words')\n\nf()", (), "app.py, line 2"),
        ("raise SystemExit(0)", (), "app.py, line 1"),
        ("import bourne\na = bourne.App('a')\na.log('l', schema={'x': 'bigit'})", (), "app.py, line 3"),
        ("import bourne\na = bourne.App('a')\na.view('v', 'SELECT * FROM nowhere')", (), "nowhere"),
        ("import bourne\na = bourne.App('a')\na.log('l', schema={'x': 'int'})\n"
         "a.view('v', 'SELECT x FROM l LIMIT 3')", (), "LIMIT"),
    ],
)  # fmt: skip
def test_an_app_that_cannot_be_found_or_is_wrong_is_named(bourne_here, tmp_path, code, arguments, words):
    path = tmp_path / "app.py"
    if code is not None:
        path.write_text(code)
    done = bourne_here("run", path, "--until-caught-up", *arguments)
    assert (done.returncode, done.stdout) == (3, "")
    assert words in done.stderr and "Traceback" not in done.stderr


def test_one_of_several_apps_is_chosen_by_either_name_and_one_app_may_have_two(bourne_here, tmp_path):
    path = tmp_path / "app.py"
    path.write_text("import bourne\na = same = bourne.App('first')\n")
    assert "first:" in bourne_here("run", path, "--until-caught-up").stdout
    path.write_text("import bourne\na = bourne.App('first')\nb = bourne.App('second')\n")
    for name in ("b", "second"):
        done = bourne_here("run", path, "--app", name, "--until-caught-up", "--data", f"data-{name}")
        assert "second:" in done.stdout, done.stderr


def test_an_app_may_import_its_neighbours(bourne_here, tmp_path):
    (tmp_path / "neighbour_of_app.py").write_text("NAME = 'kim'\n")
    (tmp_path / "app.py").write_text(
        "import bourne\nfrom neighbour_of_app import NAME\napp = bourne.App(NAME)\n"
    )
    assert bourne_here("run", "app.py", "--until-caught-up").returncode == 0


def test_a_record_that_a_view_cannot_compute_is_named_and_the_other_views_go_on(bourne_here, tmp_path):
    (tmp_path / "app.py").write_text(
        "import bourne\napp = bourne.App('a')\napp.log('l', schema={'x': 'varchar'})\n"
        "app.view('bad', 'SELECT CAST(x AS INTEGER) AS n FROM l')\napp.view('good', 'SELECT x FROM l')\n"
    )
    bourne_here("run", "app.py", "--until-caught-up")
    bourne_here("append", "l", "-", "--format", "csv", stdin="x\n1\n2\nthree\n")
    done = bourne_here("run", "app.py", "--until-caught-up")
    assert done.returncode == 9 and "offset 2" in done.stderr and "Traceback" not in done.stderr
    assert "good: 3 records" in done.stdout and "bad: 0 records" in done.stdout and "failed" in done.stdout


# --- showing progress ---


class Wall:
    """A clock on the wall that is moved by hand."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def shown(*, terminal: bool) -> tuple[Console, io.StringIO, Wall]:
    out = io.StringIO()
    return Console(file=out, force_terminal=terminal, width=100), out, Wall()


def test_elsewhere_than_on_a_terminal_there_is_a_line_per_view_now_and_then():
    console, out, wall = shown(terminal=False)
    with ViewProgress(console, now=wall) as progress:
        for second in range(1, 12):
            wall.now_s = second
            progress.update([bourne.Progress("spend", 1000 * second, 1.0, 5)])
        assert out.getvalue().splitlines() == [
            "spend: 5,000 records, 1,000 records/s, lag 5",
            "spend: 10,000 records, 1,000 records/s, lag 5",
        ]
    assert out.getvalue().splitlines()[2:] == ["spend: 11,000 records, 1,000 records/s, lag 5"]


def test_on_a_terminal_there_is_a_live_table_and_it_ends_as_lines():
    console, out, wall = shown(terminal=True)
    with ViewProgress(console, now=wall) as progress:
        wall.now_s = 1
        progress.update(
            [bourne.Progress("spend", 1000, 1.0, 5), bourne.Progress("bad", 0, 0.0, 9, ViewFailed("oh"))]
        )
        table = Console(file=io.StringIO(), width=100)
        table.print(progress._table())
        seen = table.file.getvalue()
        assert "records/s" in seen and "1,000" in seen and "failed" in seen
        wall.now_s = 100
        assert progress._rate(bourne.Progress("spend", 1000, 1.0, 5)) < 50
    assert "spend: 1,000 records, 1,000 records/s, lag 5" in out.getvalue()
    assert "failed: oh" in out.getvalue()
