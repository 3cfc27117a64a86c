"""What a view does and costs: told truly, drawn as valid graphs, and warned of where its state has no bound."""

from __future__ import annotations

import itertools
import re
import warnings
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bourne
from bourne.engine.picture import Box, Edge, Shape, draw_dot, draw_mermaid, draw_svg

# A view, and the operators that keep every row of what never ends.
GROWING = {
    "SELECT id, rating FROM orders JOIN visits USING (user)": ["inner join"],
    "SELECT id, rating FROM orders LEFT JOIN visits USING (user)": ["left join"],
    "SELECT id FROM orders WHERE user IN (SELECT user FROM visits)": ["semi join"],
    "SELECT o.id, v.rating FROM orders AS o, visits AS v": ["cross join"],
    "SELECT o.id, u.city FROM orders AS o JOIN users AS u ON o.user = u.user": ["inner join"],
    "SELECT o.id FROM orders AS o JOIN (VALUES (1), (2)) AS v(q) ON o.qty = v.q": ["inner join"],
    "SELECT id, rank() OVER (PARTITION BY user ORDER BY id) AS place FROM orders": ["window rank"],
    "SELECT user, string_agg(id::VARCHAR ORDER BY id) AS ids FROM orders GROUP BY user": ["aggregate string_agg"],
    "SELECT id FROM orders ORDER BY id LIMIT 3 OFFSET 2": ["top 3"],
    "SELECT item FROM counted": ["input counted"],
    "SELECT a.n FROM (SELECT o.user, rating AS n FROM orders AS o JOIN visits AS v USING (user)) AS a JOIN users USING (user)":
        ["inner join", "inner join"],
    "SELECT s.ids FROM (SELECT user, string_agg(id::VARCHAR ORDER BY id) AS ids FROM orders GROUP BY user) AS s "
    "JOIN users USING (user)": ["aggregate string_agg"],
}  # fmt: skip

# What a view remembers is as much as there are groups, keys or first rows, or nothing.
BOUNDED = [
    "SELECT id + 1 AS id FROM orders WHERE qty > 1",
    "SELECT user, sum(qty) AS total FROM orders GROUP BY user",
    "SELECT count(DISTINCT user) AS n FROM orders",
    "SELECT DISTINCT user FROM orders",
    "SELECT user FROM orders UNION ALL SELECT user FROM visits",
    "SELECT user FROM orders EXCEPT SELECT user FROM visits",
    "SELECT id FROM orders ORDER BY id LIMIT 3",
    "SELECT id FROM orders QUALIFY row_number() OVER (PARTITION BY user ORDER BY id) <= 2",
    "SELECT a.city FROM users AS a JOIN users AS b USING (city)",
    "SELECT city, rank() OVER (ORDER BY city) AS place FROM users",
    "SELECT u.city, s.n FROM users AS u JOIN (SELECT user, count(*) AS n FROM orders GROUP BY user) AS s USING (user)",
    "SELECT t.id, city FROM (SELECT * FROM orders ORDER BY id LIMIT 3) AS t JOIN users USING (user)",
]


def shop(sql: str, *, grows: bool = False) -> bourne.App:
    app = bourne.App("shop")
    app.log("orders", schema={"id": "bigint", "user": "varchar", "qty": "integer"})
    app.log("visits", schema={"user": "varchar", "rating": "integer"})
    app.log("users", schema={"user": "varchar", "city": "varchar"}, key="user", changes="upsert")
    app.log("counted", schema={"item": "varchar", "n": "bigint"}, weight="n", changes="weights")
    app.view("v", sql, grows=grows)
    return app


def explain(sql: str, folder: Path) -> bourne.Explanation:
    with bourne.open(shop(sql, grows=True), data=folder) as instance:
        return instance.explain("v")


# --- what grows ---


@pytest.mark.parametrize("sql", GROWING)
def test_state_without_bound_is_warned_of(sql: str, tmp_path: Path) -> None:
    with pytest.warns(bourne.GrowingState) as caught:
        bourne.open(shop(sql), data=tmp_path).close()
    (warning,) = caught
    message = warning.message
    assert isinstance(message, bourne.GrowingState) and message.view == "v" and "\n" not in str(message)
    assert Path(warning.filename) == Path(__file__)  # the line that opened it, not one of Bourne's
    with bourne.open(shop(sql, grows=True), data=tmp_path) as instance:
        found = instance.explain("v")
    growing = [each for each in found.operators if each.grows_for_ever]
    assert [each.label for each in growing] == GROWING[sql]
    assert all(
        f"{each.label} (operator {each.number}) remembers {each.remembers}" in str(message)
        for each in growing
    )
    assert found.warning == str(message) and str(message) in found.text


@pytest.mark.parametrize("sql", BOUNDED)
def test_state_that_may_be_small_is_not_warned_of(sql: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", bourne.GrowingState)
        bourne.open(shop(sql), data=tmp_path).close()
    found = explain(sql, tmp_path)
    assert found.warning is None and not any(each.grows_for_ever for each in found.operators)


@pytest.mark.parametrize("sql", GROWING)
def test_growth_that_is_meant_is_not_warned_of(sql: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", bourne.GrowingState)
        bourne.open(shop(sql, grows=True), data=tmp_path).close()


def test_a_warning_as_an_error_leaves_nothing_open(tmp_path: Path) -> None:
    with warnings.catch_warnings(), pytest.raises(bourne.GrowingState):
        warnings.simplefilter("error", bourne.GrowingState)
        bourne.open(shop(next(iter(GROWING))), data=tmp_path)


# --- what is told ---


@pytest.mark.parametrize("sql", [*GROWING, *BOUNDED])
def test_every_operator_is_told_and_every_state_has_its_reason(sql: str, tmp_path: Path) -> None:
    with bourne.open(shop(sql, grows=True), data=tmp_path) as instance:
        instance.append("orders", [{"id": i, "user": "ann", "qty": i} for i in range(4)])
        instance.append("visits", [{"user": "ann", "rating": 1}])
        instance.append("users", [{"user": "ann", "city": "Seoul"}])
        instance.append("counted", [{"item": "tea", "n": 2}])
        instance.catch_up()
        found, (status,) = instance.explain("v"), instance.status().views
    assert found.epoch == status.epoch
    assert [
        (each.number, each.label, each.rows, each.bytes) for each in found.operators if each.rows is not None
    ] == [(each.number, each.operator, each.rows, each.bytes) for each in status.state]
    for each in found.operators:
        assert each.label and each.detail and each.cost and f"  {each.detail}\n" in found.text
        assert each.is_generic == ("computed anew: " in each.rule)
        if each.rows is not None:  # it has a state: that of one size is an aggregate's over everything
            assert each.remembers or each.label.startswith("aggregate")
        else:
            assert each.remembers is None


def test_the_generic_rule_says_why(tmp_path: Path) -> None:
    found = explain("SELECT user, string_agg(city ORDER BY city) AS c FROM users GROUP BY user", tmp_path)
    (generic,) = [each for each in found.operators if each.is_generic]
    assert generic.rule == "touched groups computed anew: string_agg with ORDER BY has no accumulator"
    assert generic.cost == "O(group)" and generic.remembers == "every row" and not generic.grows_for_ever


def test_text(tmp_path: Path) -> None:
    sql = "SELECT city, count(DISTINCT rating) AS n FROM visits JOIN users USING (user) WHERE rating > 1 GROUP BY city"
    assert (
        explain(sql, tmp_path).text.partition("\n\nnote: ")[0]
        == """\
view v: city, n

plan
  aggregate by city: count(DISTINCT rating) AS n
    inner join on visits.user = users.user
      filter rating > 1
        visits: user, rating
      users: user, city

operators
  0  input visits: user, rating
       O(delta); each record is a row
  1  filter rating > 1
       reads 0; O(delta); one DuckDB query
  2  input users: user, city
       O(delta); the newest record of a key is its row
       remembers a row per key
  3  inner join on visits.user = users.user
       reads 1, 2; O(delta and its matches); rows of each side by key
       remembers every row of both sides, for ever
  4  columns city, rating
       reads 3; O(delta)
  5  aggregate by city: count(DISTINCT rating) AS n
       reads 4; O(delta); a row per group, updated in place
       remembers a row per group, and the distinct values of each"""
    )


def test_without_an_app_and_of_what_is_not_there(tmp_path: Path) -> None:
    sql = BOUNDED[1]
    with bourne.open(shop(sql), data=tmp_path) as instance:
        declared = instance.explain("v")
    with bourne.open(data=tmp_path) as instance:
        assert instance.explain("v") == declared
        with pytest.raises(bourne.UnknownName, match="no view 'nothing'"):
            instance.explain("nothing")
    with pytest.raises(bourne.Closed):
        instance.explain("v")


def test_a_notebook_gets_text_and_picture(tmp_path: Path) -> None:
    found = explain(BOUNDED[1], tmp_path)
    assert repr(found) == found.text
    assert found._repr_mimebundle_() == {
        "text/plain": found.text, "text/html": found._repr_html_(), "text/vnd.mermaid": found.mermaid,
    }  # fmt: skip


def test_a_notebook_gets_all_that_the_text_says(tmp_path: Path) -> None:
    sql = "SELECT o.user, count(*) AS \"<b>&\" FROM orders o JOIN orders p ON o.user = p.user WHERE o.user <> '</td><script>' GROUP BY o.user"
    with bourne.open(shop(sql, grows=True), data=tmp_path) as instance:
        instance.catch_up()
        found = instance.explain("v")
    html = found._repr_html_()
    assert "<script>" not in html and "<b>" not in html
    root = ElementTree.fromstring(html)  # every element is closed in its place, and every text escaped
    said = [text.strip() for text in root.itertext()]
    assert found.warning in said and set(found.plan) <= {*"\n".join(root.itertext()).split("\n")}
    for each in found.operators:
        assert {each.detail, each.cost, str(each.number)} <= {*said}
    assert len(list(root.iter("{http://www.w3.org/2000/svg}rect"))) == len(found.operators) + 2


def test_the_picture_is_drawn_from_top_to_bottom_without_overlaps(tmp_path: Path) -> None:
    found = explain(
        "SELECT a.user, n FROM orders a JOIN (SELECT user, count(*) AS n FROM orders GROUP BY user) b ON a.user = b.user",
        tmp_path,
    )
    root = ElementTree.fromstring(found.svg)
    svg = "{http://www.w3.org/2000/svg}"
    boxes = [
        tuple(float(each.attrib[name]) for name in ("x", "y", "width", "height"))
        for each in root.iter(f"{svg}rect")
    ]
    for (x, y, w, h), (x2, y2, w2, h2) in itertools.combinations(boxes, 2):
        assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y
    arrows = [each.attrib["d"].replace("C", " ").split("L")[0].split() for each in root.iter(f"{svg}path")]
    assert len(arrows) >= len(found.operators)
    assert all(float(arrow[1]) < float(arrow[-1].split("M")[0]) for arrow in arrows)


def test_what_is_read_is_a_log_a_table_or_a_view(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("user,x\nann,1\n")
    app = shop("SELECT user, qty FROM orders", grows=True)
    app.table("t", tmp_path / "t.csv")
    app.view("w", "SELECT v.qty, t.x, rating FROM v JOIN t USING (user) JOIN visits USING (user)", grows=True)
    with bourne.open(app, data=tmp_path / "data") as instance:
        found = instance.explain("w")
    assert {(each.name, each.kind) for each in found.sources} == {
        ("v", "view"),
        ("t", "table"),
        ("visits", "log"),
    }
    assert '[("table t")]' in found.mermaid and 'label="view v"' in found.dot


# --- pictures ---

# What Mermaid's own parser takes for a box with a quoted label, and for an arrow.
MERMAID_BOX = re.compile(r'    (\w+)(\[\("|\[\["|\["|\(\[")([^"]*)("\)\]|"\]\]|"\]|"\]\))')
MERMAID_EDGE = re.compile(r"    (\w+) --> (\w+)")
DOT_BOX = re.compile(r'    (\w+) \[shape=\w+ label="((?:[^"\\]|\\.)*)"\]')
DOT_EDGE = re.compile(r"    (\w+) -> (\w+)")


@pytest.mark.parametrize("sql", [*GROWING, *BOUNDED])
def test_each_operator_is_a_box_and_each_input_an_arrow(sql: str, tmp_path: Path) -> None:
    found = explain(sql, tmp_path)
    sources = {each.name: f"s{i}" for i, each in enumerate(found.sources)}
    expected = [(f"n{i}", f"n{each.number}") for each in found.operators for i in each.inputs]
    expected += [(sources[each.relation], f"n{each.number}") for each in found.operators if each.relation]
    expected.append((f"n{len(found.operators) - 1}", "v"))
    names = [*sources.values(), *(f"n{each.number}" for each in found.operators), "v"]
    for text, head, edge, box in (
        (found.mermaid, ["flowchart LR"], MERMAID_EDGE, MERMAID_BOX),
        (found.dot, ["digraph {", "    rankdir=LR"], DOT_EDGE, DOT_BOX),
    ):
        lines = text.removesuffix("\n}").split("\n")
        assert lines[: len(head)] == head
        boxes = [match for line in lines[len(head) :] if (match := box.fullmatch(line))]
        edges = [match for line in lines[len(head) :] if (match := edge.fullmatch(line))]
        assert len(boxes) + len(edges) == len(lines) - len(head)
        assert [match[1] for match in boxes] == names
        assert sorted((match[1], match[2]) for match in edges) == sorted(expected)


def shown(line: str) -> str:
    """Return what a reader is to see of a line."""
    plain = " ".join(line.split())
    return plain if len(plain) <= 80 else plain[:79] + "…"


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(st.text(), min_size=1, max_size=3), st.sampled_from(Shape))
def test_labels_hold_any_text(lines: list[str], shape: Shape) -> None:
    boxes, edges = [Box("a", tuple(lines), shape), Box("b", ("x",), shape)], [Edge("a", "b")]
    _, box, _, _ = draw_mermaid(boxes, edges).split("\n")
    match = MERMAID_BOX.fullmatch(box)
    assert match is not None
    read = [re.sub(r"#(\d+);", lambda code: chr(int(code[1])), line) for line in match[3].split("<br>")]
    assert read == [shown(line) for line in lines]
    _, _, box, _, _, _ = draw_dot(boxes, edges).split("\n")
    match = DOT_BOX.fullmatch(box)
    assert match is not None
    read = "".join(
        {r"\n": "\n", r"\"": '"', "\\\\": "\\"}.get(part, part) for part in re.findall(r"\\.|.", match[2])
    )
    assert read.split("\n") == [shown(line) for line in lines]
    root = ElementTree.fromstring(draw_svg(boxes, edges))
    texts = [each.text or "" for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert len(texts) == len(lines) + 1
    for text, line in zip(texts, lines, strict=False):
        plain = "".join(each if each.isprintable() else "�" for each in " ".join(line.split()))
        assert text == (plain if len(plain) <= 60 else plain[:59] + "…")
