"""`bourne explain`, the operators in `bourne status`, and the note about state that grows for ever."""

from __future__ import annotations

import json
import sys
import warnings

import pytest

import bourne
from bourne.cli.notices import calm_warnings

APP = """
import bourne

app = bourne.App("shop")
app.log("orders", schema={"id": "bigint", "user": "varchar"})
app.log("visits", schema={"user": "varchar"})
app.view("counts", "SELECT user, count(*) AS n FROM orders GROUP BY user")
app.view("pairs", "SELECT id FROM orders JOIN visits USING (user)")
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "app.py"
    path.write_text(APP, encoding="utf-8")
    return path


def test_before_anything_is_run(bourne_here, file, tmp_path):
    done = bourne_here("explain", "counts", file)
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        done.stdout
        == """\
view counts: user, n

plan
  aggregate by user: count(*) AS n
    orders: user

operators
  0  input orders: user
       O(delta); each record is a row
  1  aggregate by user: count(*) AS n
       reads 0; O(delta); a row per group, updated in place
       remembers a row per group
"""
    )
    assert {path.name for path in tmp_path.iterdir()} <= {"app.py", "__pycache__"}


def test_growth_is_part_of_the_answer_and_no_warning(bourne_here, file):
    done = bourne_here("explain", "pairs", file)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1].startswith(
        "note: the state of view 'pairs' grows for ever: inner join"
    )


def test_with_the_state_of_the_data_folder(bourne_here, file, tmp_path):
    bourne_here("run", file, "--until-caught-up")
    (tmp_path / "orders.csv").write_text("id,user\n1,ann\n2,bo\n3,ann\n")
    bourne_here("append", "orders", tmp_path / "orders.csv")
    bourne_here("run", file, "--until-caught-up")
    of_app = bourne_here("explain", "counts", file).stdout
    assert "operators, after epoch 0\n" in of_app and "now 2 rows, " in of_app
    assert bourne_here("explain", "counts").stdout == of_app
    file.write_text(
        APP.replace("count(*) AS n", "max(id) AS n"), encoding="utf-8"
    )  # another view of that name
    changed = bourne_here("explain", "counts", file).stdout
    assert "max(id) AS n" in changed and "after epoch" not in changed
    assert "max(id)" not in bourne_here("explain", "counts").stdout  # nothing was changed


def test_formats(bourne_here, file):
    found = json.loads(bourne_here("explain", "counts", file, "--format", "json").stdout)
    assert found["plan"] == ["aggregate by user: count(*) AS n", "  orders: user"]
    assert [each["remembers"] for each in found["operators"]] == [None, "a row per group"]
    assert (
        bourne_here("explain", "counts", file, "--format", "mermaid").stdout
        == """\
flowchart LR
    s0[("log orders")]
    n0["0 input orders: user<br>O(delta)"]
    n1[["1 aggregate by user: count(*) AS n<br>O(delta)<br>remembers a row per group"]]
    v(["view counts"])
    s0 --> n0
    n0 --> n1
    n1 --> v
"""
    )
    assert (
        bourne_here("explain", "counts", file, "--format", "dot").stdout
        == """\
digraph {
    rankdir=LR
    s0 [shape=cylinder label="log orders"]
    n0 [shape=box label="0 input orders: user\\nO(delta)"]
    n1 [shape=box3d label="1 aggregate by user: count(*) AS n\\nO(delta)\\nremembers a row per group"]
    v [shape=oval label="view counts"]
    s0 -> n0
    n0 -> n1
    n1 -> v
}
"""
    )


def test_what_is_not_there(bourne_here, file):
    done = bourne_here("explain", "nothing", file)
    assert done.returncode == 4 and "counts, pairs" in done.stderr
    assert bourne_here("explain", "counts").returncode == 7  # no data folder
    assert bourne_here("explain", "counts", "other.py").returncode == 3
    assert bourne_here("explain", "counts", file, "--app", "other").returncode == 3
    assert bourne_here("explain", "counts", file, "--format", "svg").returncode == 2
    assert bourne_here("explain").returncode == 2


def test_a_view_that_calls_python_needs_its_app(bourne_here, file):
    twice = '@app.udf(returns="bigint")\ndef twice(x: "bigint"):\n    return x\n'
    file.write_text(
        APP + twice + 'app.view("doubled", "SELECT twice(id) AS d FROM orders")\n', encoding="utf-8"
    )
    bourne_here("run", file, "--until-caught-up")
    assert "project twice(id) AS d" in bourne_here("explain", "doubled", file).stdout
    done = bourne_here("explain", "doubled")
    assert done.returncode == 3 and "twice" in done.stderr


def test_run_says_what_grows_in_one_line(run_bourne, file):
    done = run_bourne("run", file, "--until-caught-up")
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        "note: the state of view 'pairs' grows for ever: inner join (operator 2) remembers every row"
    )
    assert "GrowingState" not in line and done.returncode == 0


@pytest.mark.parametrize("how", ["grows", "filter"])
def test_run_is_silent_where_the_growth_is_meant(run_bourne, file, how):
    silence = {
        "grows": APP.replace('(user)")', '(user)", grows=True)'),
        "filter": APP + 'import warnings\nwarnings.simplefilter("ignore", bourne.GrowingState)\n',
    }
    file.write_text(silence[how], encoding="utf-8")
    assert run_bourne("run", file, "--until-caught-up").stderr == ""


def test_other_warnings_look_as_usual(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = _python_shows
        with calm_warnings():
            warnings.warn("from elsewhere", stacklevel=1)
            warnings.warn(bourne.GrowingState("it grows", view="v"), stacklevel=1)
    elsewhere, growing = capsys.readouterr().err.splitlines()
    assert (elsewhere, growing) == ("UserWarning: from elsewhere", "note: it grows")


def _python_shows(message, category, filename, lineno, file=None, line=None):
    print(f"{category.__name__}: {message}", file=sys.stderr)


def test_status_shows_each_operator(bourne_here, file, tmp_path):
    with bourne.open(_app(), data=tmp_path / "data") as shop:
        shop.append("orders", [{"id": 1, "user": "김"}, {"id": 2, "user": "bo"}])
        shop.append("visits", [{"user": "bo"}])
        shop.catch_up()
    plain, whole = bourne_here("status").stdout, bourne_here("status", "--state").stdout
    assert "inner join" not in plain
    table = whole.split("\n\n")[2].splitlines()
    assert table[0].split() == ["view", "number", "operator", "rows", "state"]
    assert [line.split()[:5] for line in table[2:]] == [
        ["counts", "1", "aggregate", "count_star", "2"],
        ["pairs", "2", "inner", "join", "3"],
    ]
    found = json.loads(bourne_here("status", "--json").stdout)
    assert [[each["number"], each["operator"], each["rows"]] for view in found["views"] for each in view["state"]] == [
        [1, "aggregate count_star", 2], [2, "inner join", 3],
    ]  # fmt: skip


def _app() -> bourne.App:
    names: dict[str, bourne.App] = {}
    exec(APP, names)
    return names["app"]
