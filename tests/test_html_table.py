"""What a notebook shows: any text is text, and a page is no larger than a page."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pytest

import bourne
from bourne.html_table import CELL_CHARS_MAX, HtmlColumn, html_table
from bourne.result import Result

HOSTILE = [
    "<script>alert(1)</script>", "</td></table><img src=x onerror=alert(1)>", "a & b &lt;", '"quoted" \'single\'', "김민수 🚲",
    "line\nbreak\x00\x1b[31m\u202e", "", "  spaces  ", "&#60;", "]]>", "{{x}}",
]  # fmt: skip


class Page(HTMLParser):
    """Reads HTML as a browser does: which elements there are, and what each cell says. Every element is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.styles: list[str] = []
        self.cells: list[str] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert {name for name, _ in attrs} <= {"style"}
        if tag != "br":
            self._open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")
            self.styles.append(dict(attrs)["style"] or "")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if "td" in self._open or "th" in self._open:
            self.cells[-1] += data


OURS = {"div", "strong", "table", "thead", "tbody", "tr", "th", "td", "span", "br"}


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_is_text(text: str) -> None:
    page = Page(html_table([HtmlColumn(text, text)], [[text], [text]], title=text, note=text))
    shown = "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
    assert page.cells == [shown * 2, shown, shown]
    assert page.tags <= OURS
    assert page.texts.count(shown) == (6 if shown else 0)


def test_null_is_not_the_text_null() -> None:
    html = html_table([HtmlColumn("x")], [[None], ["NULL"]])
    assert Page(html).cells == ["x", "NULL", "NULL"]
    null, text = re.findall(r"<td[^>]*>(.*?)</td>", html)
    assert null != text == "NULL"


def test_long_texts_are_cut() -> None:
    page = Page(html_table([HtmlColumn("x" * 10_000)], [["한" * 10_000]]))
    assert [len(cell) for cell in page.cells] == [CELL_CHARS_MAX] * 2
    assert all(cell.endswith("…") for cell in page.cells)


def test_nothing_is_fetched_and_no_colour_is_set() -> None:
    html = html_table([HtmlColumn("x", "INTEGER", True)], [["1"]], title="t", note="n")
    assert not re.search(r"http|url\(|src=|href=|<style|#[0-9a-f]{3}|(?<!-)color:", html)
    assert "currentColor" in html


# --- results ---


def test_a_result_has_names_types_and_numbers_to_the_right() -> None:
    table = pa.table(
        {"user": HOSTILE, "n": range(len(HOSTILE)), "x": [float("nan"), None, *[0.5] * (len(HOSTILE) - 2)]}
    )
    page = Page(Result(table)._repr_html_())
    assert page.cells[:3] == ["userVARCHAR", "nBIGINT", "xDOUBLE"]
    assert page.cells[5::3][:3] == ["nan", "NULL", "0.5"]
    assert page.cells[3::3][:2] == HOSTILE[:2]
    assert ["right" in style for style in page.styles[3:6]] == [False, True, True]
    assert page.tags <= OURS and page.texts[-1] == f"{len(HOSTILE)} rows"


def test_the_types_are_those_of_sql() -> None:
    table = pa.table({"a": pa.array([3], pa.decimal128(38, 0)), "b": pa.array([[1, None]]), "c": [b"\x00a"]})
    page = Page(Result(table, ["HUGEINT", "INTEGER[]", "BLOB"])._repr_html_())
    assert Page(Result(pa.table({"z": pa.nulls(1)}))._repr_html_()).cells == ["zNULL", "NULL"]
    assert page.cells == ["aHUGEINT", "bINTEGER[]", "cBLOB", "3", "[1, NULL]", "\\x00a"]
    assert ["right" in style for style in page.styles[:3]] == [True, False, False]


def test_a_large_result_is_a_small_page() -> None:
    table = pa.table({"n": range(1_000_000), "text": pa.array(["x" * 100]).take(pa.array([0] * 1_000_000))})
    html = Result(table)._repr_html_()
    assert len(html) < 50_000 and "the first 40 of 1,000,000 rows" in html
    wide = pa.table({f"c{number}": ["y" * 1_000_000] for number in range(300)})
    html = Result(wide)._repr_html_()
    assert len(html) < 100_000 and "1 row, the first 100 of 300 columns" in html


def test_results_of_nothing_and_of_equal_names() -> None:
    assert "no columns" in Result(pa.table({}))._repr_html_()
    assert Page(Result(pa.table({"a": pa.array([], pa.int32())}))._repr_html_()).cells == ["aINTEGER"]
    twice = pa.Table.from_arrays([pa.array([1]), pa.array(["b"])], names=["a", "a"])
    assert Page(Result(twice)._repr_html_()).cells == ["aBIGINT", "aVARCHAR", "1", "b"]


# --- a data folder ---


def test_an_instance_shows_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("user\nann\n김\n")
    app = bourne.App("shop")
    app.log("주문", schema={"user": "varchar"})
    app.view("counts", "SELECT user, count(*) AS n FROM 주문 GROUP BY user")
    app.source(f"{tmp_path}/in/?settle=0", into="주문", name="<b>in")
    app.sink("counts", f"jsonl:{tmp_path}/out.jsonl", name="out & on")
    with bourne.open(app, data=tmp_path / "data") as instance:
        assert "주문" in Page(instance._repr_html_()).cells
        instance.run(until_caught_up=True)
        page = Page(instance._repr_html_())
        assert page.tags <= OURS and page.texts[0] == repr(instance)
        for name in ("주문", "counts", "<b>in", "out & on"):
            assert name in page.cells
        heads = [cell for cell in page.cells if cell in ("log", "view", "source", "sink")]
        assert heads == ["log", "view", "source", "sink"]
        at = page.cells.index("counts")
        assert page.cells[at : at + 6] == ["counts", "1", "주문", "2", "0", "2"]
        assert Page(instance.status()._repr_html_()).cells == page.cells
    assert "this data folder is closed" in Page(instance._repr_html_()).texts


def test_an_empty_instance(tmp_path: Path) -> None:
    with bourne.open(bourne.App("nothing"), data=tmp_path / "data") as instance:
        assert Page(instance._repr_html_()).texts == [repr(instance)]
