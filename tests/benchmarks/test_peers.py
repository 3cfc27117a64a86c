"""The harness against peers, without the peers that must be installed: statements, processes, the page."""

from __future__ import annotations

import os
import re
import sys
from datetime import UTC
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from benchmarks.nexmark import generator
from benchmarks.nexmark.formulas import Settings
from benchmarks.nexmark.queries import inputs_of
from benchmarks.peers import __main__ as peers
from benchmarks.peers import flink, pathway_peer, report
from benchmarks.peers.flink_queries import FLINK_QUERIES
from benchmarks.peers.flink_tables import letters_source, tables
from benchmarks.peers.processes import PeerFailed, PeerTimes, run

EVENTS = 500


def rows_by_flinks_formulas(relation: str, columns: list[str]) -> list[tuple[object, ...]]:
    """Run the statements for Flink in DuckDB, with Flink's functions as macros."""
    text = re.search(r'TEXT = "([a-z]+)"', letters_source(Settings()))
    assert text is not None
    with duckdb.connect(config={"integer_division": True}) as connection:
        connection.execute(f"CREATE MACRO letters(start, length) AS substring('{text[1]}', start, length)")
        connection.execute("CREATE MACRO rand_integer(below) AS 0")
        connection.execute("CREATE MACRO to_timestamp_ltz(ms, digits) AS make_timestamp(1000 * (ms))")
        numbers, view = tables({relation: columns}, EVENTS, Settings(), has_event_time=True)
        last = re.search(r"'fields.k.end' = '(\d+)'", numbers)
        computed = re.search(r"k BIGINT(?:, date_time AS (.*), WATERMARK .*)?\) WITH", numbers)
        assert last is not None and computed is not None
        instant = f", {computed[1]} AS date_time" if computed[1] else ""
        connection.execute(
            f"CREATE TABLE {relation}_numbers AS SELECT k{instant} FROM range({last[1]} + 1) AS t(k)"
        )
        connection.execute(view)
        return connection.execute(f"SELECT {', '.join(columns)} FROM {relation}").fetchall()


@pytest.mark.parametrize("query", FLINK_QUERIES)
def test_flink_reads_our_rows(query: str) -> None:
    for relation, columns in FLINK_QUERIES[query].reads.items():
        expected = generator.rows(relation, 0, EVENTS).select(columns).to_pylist()
        assert rows_by_flinks_formulas(relation, columns) == [tuple(row.values()) for row in expected]


@pytest.mark.parametrize("relation", generator.SCHEMAS)
def test_flinks_whole_rows_are_ours(relation: str) -> None:
    columns = list(generator.SCHEMAS[relation])
    expected = generator.rows(relation, 0, EVENTS).to_pylist()
    assert rows_by_flinks_formulas(relation, columns) == [tuple(row.values()) for row in expected]


@pytest.mark.parametrize("query", FLINK_QUERIES)
def test_flink_is_asked_the_same_query_of_the_same_logs(query: str) -> None:
    assert sorted(FLINK_QUERIES[query].reads) == inputs_of(query)


@pytest.mark.parametrize("query", pathway_peer.QUERIES)
def test_pathway_reads_our_rows(query: str, tmp_path: Path) -> None:
    for relation, columns in FLINK_QUERIES[query].reads.items():
        kinds = pathway_peer.write(relation, columns, EVENTS, Settings(), tmp_path)
        expected = generator.rows(relation, 0, EVENTS).select(columns)
        with duckdb.connect() as connection:
            file = str(tmp_path / f"{relation}.csv")
            types = {name: {"int": "BIGINT", "str": "VARCHAR"}[kind] for name, kind in kinds.items()}
            found = connection.read_csv(file, dtype=types).fetchall()
        times = [pa.types.is_timestamp(field.type) for field in expected.schema]
        assert found == [
            tuple(round(v.replace(tzinfo=UTC).timestamp() * 1000) if t else v for t, v in zip(times, row.values(), strict=True))
            for row in expected.to_pylist()
        ]  # fmt: skip


def test_every_query_of_pathway_has_a_program() -> None:
    source = Path(pathway_peer.__file__).with_name("pathway_child.py").read_text(encoding="utf-8")
    assert re.findall(r"^def (q\d+)\(", source, re.MULTILINE) == list(pathway_peer.QUERIES)


def test_a_checksum_notices_other_rows() -> None:
    for relation in generator.SCHEMAS:
        sums = flink.our_checksum(relation, EVENTS, Settings())
        assert len(sums) == 1 + len(generator.SCHEMAS[relation])
        others = flink.our_checksum(relation, EVENTS, Settings(seed=1, events_per_s=1000))
        same = [number for number, (one, other) in enumerate(zip(sums, others, strict=True)) if one == other]
        by_number_alone = [0] if relation == "bids" else [0, 1]  # ids do not depend on the seed
        assert same == by_number_alone


def test_bourne_and_duckdb_are_measured_in_processes_of_their_own(tmp_path: Path) -> None:
    (line,) = peers.measure_all(["q3"], 5000, tmp_path, ())
    assert (line.query, line.records) == ("q3", 400)
    assert line.rows > 0 and line.ours_s > 0 and line.duckdb_s > 0
    assert min(line.ours_bytes, line.duckdb_bytes) > 10_000_000
    assert not list(tmp_path.iterdir())


def test_a_failing_peer_says_why() -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('out of luck')"]
    with pytest.raises(PeerFailed, match=r"(?s)ended with 1.*out of luck"):
        run(command, environment=dict(os.environ), folder=Path.cwd(), timeout_s=60)


def test_a_peer_that_does_not_end_is_killed() -> None:
    command = [sys.executable, "-c", "import threading; threading.Event().wait()"]
    with pytest.raises(PeerFailed, match="ended with -9"):
        run(command, environment=dict(os.environ), folder=Path.cwd(), timeout_s=0.1)


def test_a_peer_that_takes_too_much_memory_is_killed() -> None:
    command = [sys.executable, "-c", "import threading; held = b'1' * 300_000_000; threading.Event().wait()"]
    with pytest.raises(PeerFailed, match=r"ended with -9.* 0\.2 GB \(it had 0\."):
        run(command, environment=dict(os.environ), folder=Path.cwd(), timeout_s=60, memory=200_000_000)


def test_the_page_has_ratios_and_their_means() -> None:
    fast = PeerTimes(seconds=16, rows_s=8, start_s=3, bytes_max=10**9)
    slow = PeerTimes(seconds=4, rows_s=5, start_s=4, bytes_max=10**9)
    lines = [
        report.Line("q0", 10_000_000, 7, 2.0, 10**8, 1.0, 10**8, {"flink": fast, "pathway": slow}),
        report.Line("q1", 10_000_000, 7, 2.0, 10**8, 4.0, 10**8, {"flink": slow}),
    ]
    page = report.page(lines, 10_000_000)
    assert "| q0 | 10,000,000 | 7 | 5.00 | 10.00 | 0.50 | 100 | 100 |" in page
    assert "Against DuckDB: geometric mean 1.00, lowest 0.50 (q0), of 2 queries." in page
    assert "| q0 | 5.00 | 0.62 | 1.25 | 8.0 | 4.0 | 1,000 |" in page
    assert "| q1 | 5.00 | 2.50 | 2.00 | 2.0 | - | 1,000 |" in page  # generating alone took longer than q1
    assert "Against Flink: geometric mean 4.00, lowest 2.00 (q1), of 2 queries." in page
    assert "nothing: geometric mean 4.00, lowest 4.00 (q0), of 1 queries." in page
    assert "Against Pathway: geometric mean 2.00, lowest 2.00 (q0), of 1 queries." in page
    assert "| q1 | 5.00 | - | - | - | - | - |" in page  # Pathway was not asked q1
    failed = report.page([report.Line("q0", 10, 7, 2.0, 1, 1.0, 1, {"flink": None})], 10)
    assert "| q0 | 0.00 | failed | - | - | - | - |" in failed
    assert "Against Flink: no query has one." in failed
    assert "Pathway was not asked in this run." in failed
