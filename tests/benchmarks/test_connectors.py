"""The benchmark of sources and sinks runs, brings every record, and says so on a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from benchmarks.main_path import make_events

from benchmarks import connectors

if TYPE_CHECKING:
    from servers.kafka import KafkaServer
    from servers.postgres import PostgresServer

ROWS = 2_000


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connectors, "TRANSACTION", {"insert": 60, "update": 30, "delete": 10})


def test_files_are_measured_and_the_page_has_them(tmp_path: Path) -> None:
    lines = connectors.measure_files(tmp_path, make_events(ROWS), 1)
    assert [line.what.partition(":")[0] for line in lines] == ["CSV", "JSON lines"]
    check(lines, ROWS)


def test_a_topic_is_measured(kafka: KafkaServer, tmp_path: Path) -> None:
    check(connectors.measure_kafka(kafka, tmp_path, make_events(ROWS), 1), ROWS)


def test_changes_and_rows_of_postgresql_are_measured(postgres: PostgresServer, tmp_path: Path) -> None:
    check(connectors.measure_changes(postgres, tmp_path, ROWS, 1), ROWS)
    check(connectors.measure_sink(postgres, tmp_path, make_events(ROWS), 1), ROWS)


def check(lines: list[connectors.Line], rows: int) -> None:
    pytest.importorskip("psycopg")
    pytest.importorskip("confluent_kafka")
    text = connectors.page(lines, rows=rows, rounds=1)
    assert f"{rows:,} records" in text
    for line in lines:
        assert line.rows == rows
        assert line.ratio > 0
        assert line.markdown() in text
