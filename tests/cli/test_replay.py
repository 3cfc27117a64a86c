"""`bourne replay` and `bourne rollback`, beside a `bourne run` that serves, or alone, or killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import bourne
from bourne.log.at_work import is_taken
from serve.served import Subscriber
from waiting import until

USERS = 7
# As many records before the replay begins; the long run takes millions.
RECORDS = 2_000_000 if os.environ.get("BOURNE_LONG") else 60_000

# While the file `hold` is there, a record of the function's waits: so a test can stop in the middle.
APP = f"""
import time
from pathlib import Path
import bourne

app = bourne.App("shop")
app.log("orders", schema={{"id": "bigint not null"}})


@app.udf(returns="bigint", arguments=["bigint"], scalar=True, version="1")
def patient(id: int) -> int:
    while Path(__file__).with_name("hold").exists():
        time.sleep(0.01)
    return id


app.view("spend", "SELECT id % {USERS} AS user, count(*) AS n, sum(id) AS total FROM orders GROUP BY ALL")
app.view("best", "SELECT user, n FROM spend WHERE total >= (SELECT avg(total) FROM spend)")
app.view("slow", "SELECT patient(id) AS m FROM orders WHERE id < 100")
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / "app.py"
    path.write_text(APP, encoding="utf-8")
    return path


def records(first: int, count: int) -> list[dict[str, int]]:
    return [{"id": number} for number in range(first, first + count)]


def spend_of(end: int) -> dict[int, tuple[int, int]]:
    """Return what `spend` is once so many orders are in it: by user, how many, and their sum."""
    found = {}
    for user in range(min(USERS, end)):
        count = (end - user + USERS - 1) // USERS
        found[user] = (count, user * count + USERS * count * (count - 1) // 2)
    return found


def end_of(position: str) -> int:
    return int(position.partition(":")[2] or 0)


@contextmanager
def running(start_bourne: Any, app: Path) -> Iterator[tuple[Any, str]]:
    process = start_bourne("run", app, "--serve", "--address", "127.0.0.1:0")
    try:
        for line in process.stdout:
            if line.startswith("serves "):
                break
        else:
            raise AssertionError(process.communicate())
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield process, line.split()[1]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


class Readers:
    """Threads that append, ask and follow until they are told to end, and check every answer."""

    def __init__(self, data: Path, url: str, end: int) -> None:
        self._data, self._url = data, url
        self.end = end
        self.answers: Counter[str] = Counter()
        self.failures: list[BaseException] = []
        self._is_over = threading.Event()
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,))
            for work in (self._append, self._ask, self._ask_sql, self._follow)
        ]

    def __enter__(self) -> Readers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(60)
        assert not self.failures, self.failures

    def _guarded(self, work: Any) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  (shown by the test)
            self.failures.append(error)

    def _append(self) -> None:
        with bourne.open(data=self._data) as it:
            while not self._is_over.wait(0.01):
                it.append("orders", records(self.end, 50))
                self.end += 50
                self.answers["append"] += 1

    def _ask(self) -> None:
        before = 0
        with httpx.Client(base_url=self._url, timeout=60) as http:
            while not self._is_over.is_set():
                found = http.get("/views/spend")
                assert found.status_code == 200, found.text
                end = end_of(found.json()["position"])
                assert end >= before, (end, before)
                before = end
                rows = {row["user"]: (row["n"], int(row["total"])) for row in found.json()["rows"]}
                assert rows == spend_of(end), end
                self.answers["view"] += 1

    def _ask_sql(self) -> None:
        sql = "SELECT s.user, s.n, b.n AS m FROM spend s LEFT JOIN best b ON s.user = b.user"
        with httpx.Client(base_url=self._url, timeout=60) as http:
            while not self._is_over.is_set():
                found = http.post("/query", json={"sql": sql, "wait": 20})
                assert found.status_code == 200, found.text
                expected = spend_of(end_of(found.json()["position"]))
                mean = sum(total for _, total in expected.values()) / max(1, len(expected))
                rows = {(row["user"], row["n"], row["m"]) for row in found.json()["rows"]}
                assert rows == {
                    (user, n, n if total >= mean else None) for user, (n, total) in expected.items()
                }
                self.answers["query"] += 1

    def _follow(self) -> None:
        follower = Subscriber(f"{self._url}/views/spend/changes")
        for event in follower.events():
            if self._is_over.is_set():
                break
            follower.replica.take(event)
            if event.id is not None:
                rows = {row["user"]: (row["n"], int(row["total"])) for row in follower.replica.rows.values()}
                assert rows == spend_of(end_of(follower.replica.position)), event
                self.answers[event.name] += 1
        follower.close()


def versions(url: str) -> dict[str, int]:
    return {view["name"]: view["version"] for view in httpx.get(f"{url}/status", timeout=60).json()["views"]}


def test_readers_of_a_running_app_see_whole_versions_only(app, start_bourne, run_bourne, tmp_path):
    data = tmp_path / "data"
    assert run_bourne("run", app, "--until-caught-up").returncode == 0
    with bourne.open(data=data) as it:
        it.append("orders", records(0, RECORDS))
    with running(start_bourne, app) as (process, url), Readers(data, url, RECORDS) as readers:
        until(
            lambda: readers.answers["view"] > 3 and readers.answers["query"] and readers.answers["snapshot"]
        )
        done = run_bourne("replay", "spend")
        assert done.returncode == 0, done.stderr
        assert f"spend: version 2 has the same {USERS} rows" in done.stdout
        assert "best: version 2 has the same" in done.stdout
        assert done.stdout.endswith("served now: spend version 2, best version 2\n")
        until(lambda: versions(url) == {"spend": 2, "best": 2, "slow": 1})
        until(lambda: readers.answers["snapshot"] >= 2)
        asked = readers.answers.copy()
        until(
            lambda: all(readers.answers[name] > asked[name] for name in ("view", "query", "change", "append"))
        )
        done = run_bourne("rollback", "best")
        assert done.returncode == 0, done.stderr
        until(lambda: versions(url) == {"spend": 1, "best": 1, "slow": 1})
        until(lambda: readers.answers["snapshot"] >= 3)
        assert process.poll() is None
    assert (
        "spend was rolled back" not in run_bourne("run", app, "--until-caught-up").stdout
    )  # the same definition


@pytest.mark.parametrize("who", [pytest.param("replay", marks=pytest.mark.long), "run"])
def test_whoever_is_killed_in_the_middle_the_old_version_is_served(
    app, start_bourne, run_bourne, tmp_path, who
):
    data, hold = tmp_path / "data", tmp_path / "hold"
    assert run_bourne("run", app, "--until-caught-up").returncode == 0
    assert (
        run_bourne("append", "orders", "-", "--format", "jsonl", stdin=json.dumps({"id": 1})).returncode == 0
    )
    assert run_bourne("run", app, "--until-caught-up").returncode == 0
    hold.touch()
    run = start_bourne("run", app, "--no-serve") if who == "run" else None
    if run is not None:
        until(lambda: is_taken(data / "views" / "slow" / "1" / "0" / "lock"))
    replay = start_bourne(
        "replay", "slow", *(["--file", app] if run is None else [])
    )  # else that one knows the function

    def building() -> Any:
        with bourne.open(data=data) as it:
            return next(view.building for view in it.status().views if view.name == "slow")

    until(building)
    until((data / "views" / "slow" / "2" / "0" / "lock").exists)  # it is being computed
    for process in (replay, run):
        if process is not None:
            process.kill()
            process.wait()
    with bourne.open(data=data) as it:
        assert it.query("FROM slow").fetchall() == [(1,)]
        assert {view.version for view in it.status().views} == {1}
    hold.unlink()
    assert run_bourne("run", app, "--until-caught-up").returncode == 0  # which finishes what was begun
    with bourne.open(data=data) as it:
        assert {view.name: view.version for view in it.status().views} == {"spend": 1, "best": 1, "slow": 2}
        assert it.query("FROM slow").fetchall() == [(1,)]
    again = run_bourne("replay", "slow", "--file", app)
    assert again.returncode == 0 and "served now: slow version 3" in again.stdout


def test_a_replay_that_is_stopped_changes_nothing(app, start_bourne, run_bourne, tmp_path):
    assert run_bourne("run", app, "--until-caught-up").returncode == 0
    assert (
        run_bourne("append", "orders", "-", "--format", "jsonl", stdin=json.dumps({"id": 1})).returncode == 0
    )
    assert run_bourne("run", app, "--until-caught-up").returncode == 0
    (tmp_path / "hold").touch()
    with running(start_bourne, app):
        replay = start_bourne("replay", "slow", "--file", app)
        until((tmp_path / "data" / "views" / "slow" / "2" / "0" / "lock").exists)
        replay.send_signal(signal.SIGINT)
        stdout, stderr = replay.communicate(timeout=60)
        assert (replay.returncode, stderr) == (130, "")
        assert "what was served before is served" in stdout
        (tmp_path / "hold").unlink()
        with bourne.open(data=tmp_path / "data") as it:
            assert next(view for view in it.status().views if view.name == "slow").building is None
            until(lambda: not list((tmp_path / "data" / "views" / "slow" / "2").iterdir()))


def test_what_cannot_be_is_said(app, run_bourne):
    assert run_bourne("run", app, "--until-caught-up").returncode == 0
    for arguments, code, what in [
        (["replay", "nobody"], 4, "no view 'nobody'"),
        (["rollback", "nobody"], 4, "no view 'nobody'"),
        (["rollback", "spend"], 3, "no other version of 'spend' was served before"),
        (["replay", "slow"], 9, "cannot be run any more"),
    ]:
        done = run_bourne(*arguments)
        assert done.returncode == code
        assert what in done.stderr
