"""The benchmark of a step's cost measures what it says: right views, steps of one size, a document of all of it."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from benchmarks.cost_curve import Settings, opened, run, spread
from benchmarks.cost_shapes import CURVES, LATENCIES, Shape
from benchmarks.line_plot import Panel, draw

TINY = Settings(
    keys=(20, 60), flat_from=20, growing_to=60, step_rows=10, steps=3, fill_rows=15, latency_keys=30,
    latency_rows=5, latency_steps=3,
)  # fmt: skip

SHAPES = {shape.title: shape for shape in (*CURVES, *LATENCIES)}
SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_view_that_is_measured_is_right(shape: Shape, tmp_path: Path) -> None:
    with opened(shape, tmp_path / "data") as bench:
        bench.catch_up(shape.fill(np.arange(30), 0))
        for number, first in ((1, 0), (2, 5), (3, 0)):
            step = bench.step(shape.change(np.arange(first, first + 20), number))
            assert 0 < step.circuit_s < step.total_s
        ours, theirs = bench.answers()
        assert ours == theirs
        assert ours
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("shape", CURVES, ids=lambda shape: shape.title)
def test_steps_give_as_many_rows_whatever_the_state(shape: Shape, tmp_path: Path) -> None:
    found = set()
    for keys in (20, 200):
        with opened(shape, tmp_path / f"{keys}") as bench:
            bench.catch_up(shape.fill(np.arange(keys), 0))
            found.add(bench.step(shape.change(np.arange(20), 1)).rows_out)
    assert len(found) == 1
    assert found.pop() >= 20


def test_document_and_picture_have_all_of_it(tmp_path: Path) -> None:
    curves, latencies = CURVES[:2], LATENCIES[:1]
    page, drawn = run(tmp_path, TINY, curves, latencies)
    for shape in (*curves, *latencies):
        assert f"| {shape.title} |" in page
    for shape in curves:
        section = page.split(f"**{shape.title}**")[1]
        assert re.findall(r"^\| (\d+) \|", section, re.MULTILINE)[:2] == ["20", "60"]
    root = ElementTree.fromstring(drawn)
    assert len(root.findall(f".//{SVG}circle")) == (2 * 2 + 3) * len(curves)
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert all(shape.title in texts for shape in curves)


def test_larger_times_are_drawn_higher_and_larger_sizes_further_right() -> None:
    drawn = draw([Panel("one", {"a < b": [(10, 1.0), (1000, 4.0)]})], title="t", x_label="x", y_label="y")
    first, second, *_ = ElementTree.fromstring(drawn).iter(f"{SVG}circle")
    assert float(first.attrib["cx"]) < float(second.attrib["cx"])
    assert float(first.attrib["cy"]) > float(second.attrib["cy"])
    assert float(second.attrib["cy"]) >= 0


def test_spread_is_the_greatest_over_the_least() -> None:
    assert spread([2.0, 1.0, 3.0]) == 3
