"""Batch jobs over HTTP: asked about, begun, stopped, gone on with and called, on the real server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import Enum
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic_core import core_schema

import bourne
from bourne.batch import chunk, cron, every, http_call, task
from bourne.errors import LogLocked
from bourne.jobs.history import StepRun
from bourne.ports import SystemClock
from bourne.serve import jobs_asked
from bourne.serve.jobs_told import left_us, plain
from bourne.serve.tokens import Role, Tokens
from serve.served import Served, served
from waiting import until

ROWS = 30


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Odd:
    """A type that pydantic checks, and JSON has no schema for."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return core_schema.is_instance_schema(cls)


@dataclass
class Plant:
    """An app whose steps wait at gates that the test opens."""

    folder: Path
    app: bourne.App = field(default_factory=lambda: bourne.App("plant"))
    gate: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)
    called: list[Any] = field(default_factory=list)
    fails: bool = True

    def __post_init__(self) -> None:
        source = self.folder / "rows.csv"
        source.write_text("id\n" + "".join(f"{n}\n" for n in range(ROWS)))

        def slowly(table: Any) -> Any:
            self.begun.set()
            assert self.gate.wait(60)
            return table

        def may_fail() -> None:
            if self.fails:
                raise ValueError("망가졌다 <script>alert(1)</script>")

        @self.app.job
        def load(day: date, *, workers: int = 1, how: Literal["fast", "well"] = "fast", share: float = 0.5,
                 price: Decimal = Decimal("1.10"), colour: Colour = Colour.RED, dry: bool = False, note: str | None = None):  # fmt: skip
            """Load the rows of a day."""
            target = self.folder / f"{day}.jsonl"
            return chunk("copy", read=str(source), process=slowly, write=str(target), size=10)

        @self.app.job(name="마감")
        def close():
            """하루를 마감한다."""
            return task("끝", may_fail)

        @self.app.job
        def note(what: str):
            return task("note", lambda: self.called.append(what))

        @self.app.job
        def odd(how: Odd = Odd(), *, far: float = float("inf")):  # noqa: B008  (it is never changed)
            return task("nothing", lambda: None)

        @self.app.job
        def broken(far: float = 0.0):
            raise LookupError("그런 것은 없다")

        @self.app.job
        def calls():
            return task("nothing", lambda: None)

        self.app.schedule(load, cron("0 2 * * *", zone="Europe/Berlin"), params={"day": date(2026, 1, 1)})
        self.app.schedule(note, http_call("ring"), name="ring", params=lambda event: {"what": event.details.get("what", "?")},
                          parallel_max=4)  # fmt: skip
        self.app.schedule("마감", every("15 minutes"))


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    made = Plant(tmp_path)
    yield made
    made.gate.set()


@pytest.fixture
def site(plant: Plant) -> Iterator[Served]:
    with served(plant.app, plant.folder / "data", runs=False) as found:
        yield found
        plant.gate.set()


def ended(site: Served, run: int) -> dict[str, Any]:
    """Wait until a run has ended, and return all that is said of it."""

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = site.get(f"/jobs/runs/{run}").json()
        return found if found["run"]["status"] != "STARTED" else None

    found = until(look, what="the run's end")
    assert found is not None
    return found


def started(site: Served, job: str = "load", again: bool = False, **parameters: Any) -> int:
    response = site.http.post(f"/jobs/{job}/runs", params={"again": again}, json=parameters)
    assert response.status_code == HTTPStatus.ACCEPTED, response.text
    return int(response.json()["run"]["id"])


def test_which_jobs_there_are(site: Served) -> None:
    found = site.get("/jobs").json()
    assert found["begins_here"] and found["now_us"] > 0
    load, close, note, odd, *_ = found["jobs"]
    assert (load["name"], load["description"], load["last_runs"]) == ("load", "Load the rows of a day.", [])
    assert [each["name"] for each in load["parameters"] if each["required"]] == ["day"]
    assert [each["name"] for each in load["parameters"] if each["identifies"]] == ["day"]
    schemas = {each["name"]: each["schema"] for each in load["parameters"]}
    assert schemas["day"] == {"type": "string", "format": "date"}
    assert schemas["workers"] == {"type": "integer", "default": 1}
    assert schemas["how"]["enum"] == ["fast", "well"]
    assert schemas["colour"]["enum"] == ["red", "blue"] and schemas["colour"]["default"] == "red"
    assert schemas["price"]["default"] == "1.10" and schemas["note"]["default"] is None
    assert load["parameters"][0]["text"] == "day: date"
    (at_two,) = load["schedules"]
    assert at_two["when"] == "cron 0 2 * * * (Europe/Berlin)" and at_two["waiting"] == 0
    assert 0 < at_two["next_us"] - found["now_us"] <= 86_400_000_000 + 3_600_000_000
    assert [(each["required"], each["schema"]) for each in odd["parameters"]] == [(False, {}), (False, {})]
    assert (close["name"], close["schedules"][0]["when"]) == ("마감", "every 15 minutes")
    assert (note["schedules"][0]["when"], note["schedules"][0]["next_us"]) == ("when it is called: POST /jobs/calls/ring", None)  # fmt: skip


def test_a_run_is_begun_looked_at_and_completes(site: Served, plant: Plant) -> None:
    number = started(site, day="2026-01-31", workers="1")
    assert plant.begun.wait(60)
    found = site.get(f"/jobs/runs/{number}").json()
    assert found["run"]["status"] == "STARTED" and found["run"]["trigger"] == "over HTTP by 127.0.0.1"
    assert found["run"]["parameters"]["day"] == "2026-01-31"
    assert [(each["step"], each["kind"]) for each in found["steps"]] == [("copy", "chunk")]
    assert site.get("/jobs/runs", status="STARTED").json()["runs"][0]["id"] == number
    assert "bourne_job_runs_at_work 1\n" in site.get("/metrics").text
    refused = site.http.post("/jobs/load/runs", json={"day": "2026-01-31"})
    assert refused.status_code == HTTPStatus.CONFLICT and "is running" in refused.json()["title"]
    plant.gate.set()
    found = ended(site, number)
    (step,) = found["steps"]
    assert found["run"]["error"] is None
    assert (found["run"]["status"], step["read"], step["written"], step["left_us"]) == ("COMPLETED", ROWS, ROWS, None)  # fmt: skip
    assert (plant.folder / "2026-01-31.jsonl").read_text().count("\n") == ROWS
    chunks = site.get(f"/jobs/runs/{number}/chunks", step="copy", limit=2).json()
    assert [each["number"] for each in chunks["chunks"]] == [3, 2] and chunks["more"]
    assert site.get(f"/jobs/runs/{number}/chunks", step="none").json() == {"chunks": [], "more": False}
    messages = site.get(f"/jobs/runs/{number}/messages").json()["messages"]
    assert [each["text"] for each in messages] == ["began", "ended: COMPLETED"]
    after = site.get(f"/jobs/runs/{number}/messages", after=messages[0]["id"]).json()
    assert [each["text"] for each in after["messages"]] == ["ended: COMPLETED"]
    last = site.get(f"/jobs/runs/{number}/messages", limit=1).json()
    assert [each["text"] for each in last["messages"]] == ["ended: COMPLETED"] and last["more"]
    refused = site.http.post("/jobs/load/runs", json={"day": "2026-01-31"})
    assert refused.status_code == HTTPStatus.CONFLICT and "has completed" in refused.json()["title"]
    assert site.http.post(f"/jobs/runs/{number}/restart").status_code == HTTPStatus.CONFLICT
    assert site.http.post(f"/jobs/runs/{number}/stop").status_code == HTTPStatus.CONFLICT
    again = started(site, again=True, day="2026-01-31")
    assert ended(site, again)["run"]["generation"] == 2
    metrics = site.get("/metrics").text
    assert 'bourne_job_runs{job="load",status="COMPLETED"} 2\n' in metrics
    assert f'bourne_job_rows{{job="load",kind="written"}} {2 * ROWS}\n' in metrics
    assert 'bourne_job_fires_waiting{schedule="ring"} 0\n' in metrics


def test_a_run_is_stopped_and_gone_on_with(site: Served, plant: Plant) -> None:
    number = started(site, day="2026-02-01")
    assert plant.begun.wait(60)
    response = site.http.post(f"/jobs/runs/{number}/stop")
    assert response.status_code == HTTPStatus.ACCEPTED and response.json()["run"]["stop_asked"]
    plant.gate.set()
    assert ended(site, number)["run"]["status"] == "STOPPED"
    response = site.http.post(f"/jobs/runs/{number}/restart")
    assert response.status_code == HTTPStatus.ACCEPTED
    second = response.json()["run"]
    assert second["trigger"] == f"restart of {number}"
    found = ended(site, second["id"])
    assert (found["run"]["status"], found["steps"][0]["written"]) == ("COMPLETED", ROWS)
    of_instance = site.get("/jobs/runs", same_as=number).json()["runs"]
    assert [each["id"] for each in of_instance] == [second["id"], number]
    assert f'bourne_job_rows{{job="load",kind="read"}} {ROWS}\n' in site.get("/metrics").text


def test_a_run_that_fails_says_why_and_goes_on_when_it_is_mended(site: Served, plant: Plant) -> None:
    number = started(site, "마감")
    found = ended(site, number)
    assert found["run"]["status"] == "FAILED" and "망가졌다 <script>" in found["run"]["error"]
    assert "망가졌다" in site.get(f"/jobs/runs/{number}/messages").text
    plant.fails = False
    second = site.http.post(f"/jobs/runs/{number}/restart").json()["run"]["id"]
    assert ended(site, second)["run"]["status"] == "COMPLETED"
    close = site.get("/jobs").json()["jobs"][1]
    assert [each["status"] for each in close["last_runs"]] == ["COMPLETED", "FAILED"]


def test_a_call_begins_one_run_however_often_it_is_repeated(site: Served, plant: Plant) -> None:
    def ring(key: str | None, **details: Any) -> Any:
        headers = {} if key is None else {"Idempotency-Key": key}
        return site.http.post("/jobs/calls/ring", json=details, headers=headers)

    for _ in range(3):
        response = ring("first", what="🎉")
        assert response.status_code == HTTPStatus.ACCEPTED, response.text
        assert [each["schedule"] for each in response.json()["fires"]] == ["ring"]
    until(lambda: plant.called == ["🎉"], what="the run of the call")
    assert ring(None, what="b").status_code == HTTPStatus.ACCEPTED
    assert ring(None, what="b").json()["id"] != ring(None, what="b").json()["id"]
    until(lambda: sorted(plant.called) == ["b", "b", "b", "🎉"], what="the runs of the calls")
    fires = until(
        lambda: [each for each in ring("first", what="🎉").json()["fires"] if each["state"] == "done"]
    )
    assert site.get(f"/jobs/runs/{fires[0]['run']}").json()["run"]["trigger"] == "schedule ring ring first"
    assert ring("first", what="another").status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert ring("x" * 201).status_code == HTTPStatus.BAD_REQUEST
    unknown = site.http.post("/jobs/calls/knock")
    assert (unknown.status_code, unknown.json()["expected"]) == (HTTPStatus.NOT_FOUND, "ring")
    assert len(plant.called) == 4


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, "no JSON"),
        (b'{"day": NaN}', 400, "NaN is no number"),
        (b'{"day": "\\ud800"}', 400, "no JSON"),
        (b"\xff\xfe\x00", 400, "no JSON"),
        (b"[" * 100_000, 400, "no JSON"),
        (b'{"day": "2026-01-01", "day": "2026-01-02"}', 400, "'day' is given twice"),
        (b"[]", 422, "no JSON object"),
        (b"{}", 422, "day: missing"),
        (b'{"day": "tomorrow"}', 422, "day: "),
        (b'{"day": "2026-01-01", "nothing": 1}', 422, "nothing: "),
        (b'{"day": "2026-01-01", "workers": 1e999}', 422, "workers: "),
        (b'{"day": "' + b"x" * (1 << 20) + b'"}', 413, "too large"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, bytes) else None,
)
def test_parameters_that_do_not_fit_are_refused(site: Served, body: bytes, status: int, words: str) -> None:
    response = site.http.post("/jobs/load/runs", content=body)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert words in json.dumps(response.json(), ensure_ascii=False)
    assert site.get("/jobs/runs").json() == {"runs": [], "more": False}


def test_a_job_that_cannot_be_run_is_refused(site: Served) -> None:
    response = site.http.post("/jobs/odd/runs")
    assert response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert "the history cannot keep" in response.json()["title"]
    response = site.http.post("/jobs/broken/runs", json={"far": 2.5})
    assert response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert "그런 것은 없다" in response.json()["found"]


def test_names_and_numbers_that_are_not_there(site: Served) -> None:
    assert site.http.post("/jobs/none/runs").status_code == HTTPStatus.NOT_FOUND
    for path in ("/jobs/runs/7", "/jobs/runs/7/chunks", "/jobs/runs/7/messages"):
        assert site.get(path).status_code == HTTPStatus.NOT_FOUND, path
    for path in ("/jobs/runs/7/stop", "/jobs/runs/7/restart"):
        assert site.http.post(path).status_code == HTTPStatus.NOT_FOUND, path
    assert site.get("/jobs/runs", same_as=7).status_code == HTTPStatus.NOT_FOUND
    assert site.get("/jobs/runs/x").status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert site.get("/jobs/runs", status="DONE").status_code == HTTPStatus.UNPROCESSABLE_ENTITY


def test_a_job_may_be_called_calls(site: Served) -> None:
    assert ended(site, started(site, "calls"))["run"]["status"] == "COMPLETED"


def test_runs_are_paged(site: Served) -> None:
    numbers = [started(site, "note", what=f"w{n}") for n in range(5)]
    for number in numbers:
        ended(site, number)
    page = site.get("/jobs/runs", limit=2).json()
    assert ([each["id"] for each in page["runs"]], page["more"]) == ([5, 4], True)
    page = site.get("/jobs/runs", limit=3, before=4, job="note").json()
    assert ([each["id"] for each in page["runs"]], page["more"]) == ([3, 2, 1], False)
    assert site.get("/jobs/runs", job="load").json()["runs"] == []
    assert site.get("/jobs/runs", job="load", same_as=1).json()["runs"] == []


def test_so_many_runs_at_once(site: Served, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_asked, "SERVED_RUNS_AT_WORK", 2)
    for day in (1, 2):
        started(site, day=f"2026-03-0{day}")
    response = site.http.post("/jobs/load/runs", json={"day": "2026-03-03"})
    assert response.status_code == HTTPStatus.TOO_MANY_REQUESTS and "retry-after" in response.headers
    plant.gate.set()


def test_roles(plant: Plant) -> None:
    folder = plant.folder / "data"
    bourne.open(plant.app, data=folder).close()
    tokens = Tokens(folder)
    secrets = {role: tokens.create(role.name.lower(), role, SystemClock()) for role in Role}
    plant.gate.set()
    with served(plant.app, folder, runs=False, token=secrets[Role.WRITER]) as site:
        number = started(site, day="2026-01-01")
        assert ended(site, number)["run"]["trigger"] == "over HTTP by writer"
        reader = {"Authorization": f"Bearer {secrets[Role.READER]}"}
        for path in ("/jobs", "/jobs/runs", f"/jobs/runs/{number}", f"/jobs/runs/{number}/chunks"):
            assert site.http.get(path, headers=reader).status_code == HTTPStatus.OK, path
            assert (
                site.http.get(path, headers={"Authorization": "Bearer x"}).status_code
                == HTTPStatus.UNAUTHORIZED
            )
        for path in ("/jobs/note/runs", f"/jobs/runs/{number}/stop", f"/jobs/runs/{number}/restart", "/jobs/calls/ring"):  # fmt: skip
            assert site.http.post(path, headers=reader).status_code == HTTPStatus.FORBIDDEN, path
        assert len(site.get("/jobs/runs").json()["runs"]) == 1


def test_where_no_runs_are_begun_they_are_looked_at_and_stopped(plant: Plant) -> None:
    folder = plant.folder / "data"
    with (
        served(plant.app, folder, runs=False) as first,
        served(plant.app, folder, runs=False, begins=False) as second,
    ):
        with pytest.raises(LogLocked), second.instance.jobs.scheduled():
            pass
        number = started(first, day="2026-01-01")
        assert plant.begun.wait(60)
        assert second.get("/jobs").json()["begins_here"] is False
        assert second.get(f"/jobs/runs/{number}").json()["run"]["status"] == "STARTED"
        for path in ("/jobs/note/runs", f"/jobs/runs/{number}/restart", "/jobs/calls/ring"):
            refused = second.http.post(path)
            assert refused.status_code == HTTPStatus.CONFLICT, path
            assert refused.json()["title"] == "this process begins no runs"
        assert second.http.post(f"/jobs/runs/{number}/stop").status_code == HTTPStatus.ACCEPTED
        until(lambda: first.instance.jobs.run(number).stop_asked)
        plant.gate.set()
        # It hears of it with its next sign of life: by then its three chunks may be done.
        assert ended(second, number)["run"]["status"] in ("STOPPED", "COMPLETED")


def test_a_folder_without_jobs(tmp_path: Path) -> None:
    with served(bourne.App("empty"), tmp_path, runs=False) as site:
        assert site.get("/jobs").json()["jobs"] == []
        assert site.get("/jobs/runs").json() == {"runs": [], "more": False}
        assert "bourne_job" not in site.get("/metrics").text
        assert not (tmp_path / "jobs").exists()


SECOND = 1_000_000


@pytest.mark.parametrize(
    ("share", "read", "here", "expected"),
    [
        (0.25, 100, 100, 30 * SECOND),  # a quarter in ten seconds
        (0.75, 300, 100, 10 * SECOND),  # two quarters were done by an earlier run
        (0.75, 300, 0, None),
        (1.0, 300, 300, 0),
        (0.0, 0, 0, None),
        (None, 100, 100, None),
        (0.5, 0, 0, 10 * SECOND),
    ],
)
def test_how_long_a_step_may_still_take(
    share: float | None, read: int, here: int, expected: int | None
) -> None:
    step = StepRun(1, "copy", "", "chunk", "STARTED", 5 * SECOND, read=read, share=share)
    assert left_us(step, here, 15 * SECOND) == expected


def test_numbers_that_json_does_not_have_are_texts() -> None:
    found = plain({"a": [float("nan"), float("inf"), -float("inf"), 1.5], 2: (True, None, "x")})
    assert found == {"a": ["NaN", "Infinity", "-Infinity", 1.5], "2": [True, None, "x"]}
