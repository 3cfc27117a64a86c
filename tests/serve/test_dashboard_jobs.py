"""The dashboard's pages of jobs on the real server: a run moves as its chunks commit, is stopped, gone on with, and says why it failed.

With BOURNE_SCREENSHOTS set, this makes the picture of docs/jobs.md anew.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Literal

import pytest

import bourne
from bourne.batch import by_file, check, chunk, cron, task
from bourne.ports import SystemClock
from bourne.serve.tokens import Role, Tokens
from serve.served import Served, served
from waiting import until

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect
Page = sync_api.Page

DOCS = Path(__file__).parents[2] / "docs"
WHERE = os.environ.get("BOURNE_SCREENSHOTS")
EVIL = '<script>window.evil = 1</script><img src=x onerror="window.evil = 2">'
ROWS = 300
FIELDS = (
    "서울",
    "berlin",
    "lisbon",
    "oslo",
    "paris",
    "porto",
    "quito",
    "riga",
    "rome",
    "seville",
    "turin",
    "wien",
)


@dataclass
class Mill:
    """An app whose chunks are let through one by one."""

    folder: Path
    app: bourne.App = field(default_factory=lambda: bourne.App("mill"))
    turns: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    fails: bool = True

    def __post_init__(self) -> None:
        for name in FIELDS:
            lines = "".join(f"{n},{n % 7}\n" for n in range(ROWS))
            (self.folder / f"{name}.csv").write_text(f"id,grade\n{lines}")

        def grind(table: Any) -> Any:
            assert self.turns.acquire(timeout=60)
            return table

        def may_fail() -> None:
            if self.fails:
                raise ValueError(f"the stone is broken: {EVIL}")

        self.app.log("flour", schema={"id": "bigint", "grade": "bigint"})

        @self.app.job
        def grinding(
            day: date,
            *,
            fineness: Literal["coarse", "fine"] = "coarse",
            stones: int = 2,
            is_wet: bool = False,
        ):
            """Grind the corn of a day."""
            corn = chunk(
                "grind", read=str(self.folder / "*.csv"), process=("SELECT * FROM input WHERE grade > 0", grind),
                write="log:flour", size=20, partition=by_file(), workers=3,
            )  # fmt: skip
            return task("weigh", lambda: None) >> corn >> check("enough", lambda: True)

        @self.app.job(name="sharpening", description=f"Sharpen the stones {EVIL}")
        def sharpening(note: str = "돌"):
            return task("sharpen", may_fail)

        self.app.schedule(grinding, cron("0 2 * * *", zone="Europe/Berlin"), params={"day": date(2026, 1, 1)})

    def go(self, chunks: int = 1) -> None:
        self.turns.release(chunks)

    @contextmanager
    def going(self) -> Iterator[None]:
        """Let one chunk through after the other while the block runs, slowly enough to be looked at."""
        is_over = threading.Event()

        def turn() -> None:
            while not is_over.wait(0.05):
                self.go()

        thread = threading.Thread(target=turn)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()


@pytest.fixture
def mill(tmp_path: Path) -> Iterator[Mill]:
    made = Mill(tmp_path)
    yield made
    made.go(1_000)


@pytest.fixture
def site(mill: Mill) -> Iterator[Served]:
    with served(mill.app, mill.folder / "data", runs=False) as found:
        yield found
        mill.go(1_000)


@pytest.fixture
def seen(page: Page) -> Iterator[Page]:
    """A page that may not break its own policy."""
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    yield page
    broken = [text for text in said if "Content Security Policy" in text or "Refused to" in text]
    assert not broken, broken


def figure(page: Page, name: str) -> Any:
    return page.locator(".figures div").filter(has=page.get_by_text(name, exact=True)).locator("dd")


def begun(site: Served, job: str = "grinding", **parameters: Any) -> int:
    if job == "grinding":
        parameters = {"day": "2026-01-31", **parameters}
    return int(site.http.post(f"/jobs/{job}/runs", json=parameters).json()["run"]["id"])


def overflows(page: Page) -> bool:
    return bool(page.evaluate("document.scrollingElement.scrollWidth > innerWidth"))


# The share of small files is known when each ends: their bytes are read at once.
def test_a_run_is_started_moves_is_stopped_and_gone_on_with(site: Served, mill: Mill, seen: Page) -> None:
    seen.goto(f"{site.url}/#/jobs")
    row = seen.get_by_role("row").filter(has_text="Grind the corn of a day.")
    expect(row).to_contain_text("cron 0 2 * * * (Europe/Berlin)")
    expect(row).to_contain_text("never ran")
    # By keyboard alone.
    button = seen.get_by_role("button", name="Start grinding")
    for _ in range(60):
        seen.keyboard.press("Tab")
        if button.evaluate("each => each === document.activeElement"):
            break
    expect(button).to_be_focused()
    seen.keyboard.press("Enter")
    expect(seen.get_by_role("dialog")).to_be_visible()
    day = seen.get_by_label("day")
    expect(day).to_be_focused()
    expect(seen.get_by_label("fineness").locator("option")).to_have_text(
        ["default: coarse", "coarse", "fine"]
    )
    seen.get_by_label("stones").fill("many")
    day.fill("2026-01-31")
    seen.get_by_label("fineness").select_option("fine")
    seen.get_by_label("is_wet").check()
    seen.get_by_role("button", name="Start", exact=True).click()
    expect(seen.get_by_role("dialog").get_by_role("alert")).to_contain_text("stones")
    seen.get_by_label("stones").fill("3")
    seen.keyboard.press("Enter")
    expect(seen.locator("h1")).to_have_text("grinding")
    expect(seen).to_have_url(re.compile(r"#/run/1$"))
    expect(seen.locator(".parameters")).to_contain_text("fine")
    assert site.get("/jobs/runs/1").json()["run"]["parameters"] == {
        "day": "2026-01-31", "fineness": "fine", "stones": 3, "is_wet": True,
    }  # fmt: skip
    # As its chunks commit, it moves.
    expect(seen.locator(".title .status")).to_have_text("running")
    bars = seen.locator(".gantt-row").last.locator("rect")
    expect(bars).to_have_count(1)  # the step: a part begins with its first chunk
    with mill.going():
        read = figure(seen, "Read")
        for _ in range(2):
            before = read.inner_text()
            expect(read).not_to_have_text(before)
        expect(seen.locator(".progress")).to_have_text(re.compile(r"grind\d+%, .* left$"))
        expect(figure(seen, "Left")).to_have_text(re.compile("second|minute"))
        expect(seen.get_by_role("region", name="Last chunks").get_by_role("row")).to_have_count(21)
        expect(seen.locator(".gantt-row")).to_have_count(2)
        expect(
            seen.get_by_role("region", name="Steps").get_by_role("rowheader", name="berlin.csv")
        ).to_be_visible()
        until(lambda: bars.count() > 1 + 3, what="the next part")
    seen.set_viewport_size({"width": 1100, "height": 1180})
    if WHERE is not None:
        seen.screenshot(path=str(DOCS / "dashboard_jobs.png"))
    seen.get_by_role("button", name="Stop").click()
    expect(seen.get_by_role("status").filter(has_text="after the chunks at hand")).to_be_visible()
    with mill.going():
        expect(seen.locator(".title .status")).to_have_text("stopped")
    assert 0 < int(figure(seen, "Read").inner_text().replace(",", "")) < ROWS * len(FIELDS)
    seen.get_by_role("button", name="Restart").click()
    expect(seen).to_have_url(re.compile(r"#/run/2$"))
    mill.go(1_000)
    expect(seen.locator(".title .status")).to_have_text("completed")
    expect(figure(seen, "Read")).to_have_text("3,600")
    expect(seen.get_by_role("button", name="Restart")).to_be_hidden()
    expect(seen.get_by_role("region", name="Runs of this instance").get_by_role("row")).to_have_count(3)


def test_a_failed_run_shows_why_and_data_is_never_html(site: Served, seen: Page) -> None:
    number = begun(site, "sharpening", note=EVIL)
    seen.goto(f"{site.url}/#/run/{number}")
    expect(seen.locator(".trouble")).to_contain_text("the stone is broken: <script>")
    expect(seen.locator(".title .status")).to_have_text("failed")
    expect(seen.locator(".messages li[data-level=error]")).to_contain_text("ValueError")
    expect(seen.locator(".parameters")).to_contain_text(EVIL)
    expect(seen.get_by_role("button", name="Restart")).to_be_enabled()
    seen.goto(f"{site.url}/#/jobs")
    expect(seen.get_by_role("region", name="Jobs")).to_contain_text(EVIL)
    expect(seen.get_by_role("region", name="Runs")).to_contain_text("failed")
    assert seen.evaluate("window.evil") is None
    assert seen.locator("main script, main img").count() == 0


def test_nothing_overflows_a_phone(site: Served, mill: Mill, seen: Page) -> None:
    mill.go(5)
    number = begun(site)
    begun(site, "sharpening", note="x" * 300)
    seen.set_viewport_size({"width": 360, "height": 740})
    seen.goto(f"{site.url}/#/jobs")
    expect(seen.get_by_role("region", name="Runs").get_by_role("row")).to_have_count(3)
    assert not overflows(seen)
    seen.get_by_role("button", name="Start sharpening").click()
    expect(seen.get_by_role("dialog")).to_be_visible()
    assert not overflows(seen)
    seen.keyboard.press("Escape")
    expect(seen.get_by_role("dialog")).to_have_count(0)
    for each, rows in ((number, 2), (number + 1, 1)):
        seen.goto(f"{site.url}/#/run/{each}")
        expect(seen.locator(".gantt-row")).to_have_count(rows)
        assert not overflows(seen), each
    seen.goto(f"{site.url}/#/run/77")
    expect(seen.get_by_role("alert").filter(has_text="there is no run 77")).to_be_visible()
    seen.goto(f"{site.url}/#/run/x")
    expect(seen.locator("main")).to_contain_text("There is no run x.")


def test_runs_are_chosen_and_paged(site: Served, mill: Mill, seen: Page) -> None:
    mill.fails = False
    for number in range(23):
        begun(site, "sharpening", note=f"stone {number}")
    until(lambda: len(site.instance.jobs.runs(status="COMPLETED")) == 23)
    mill.go(1_000)
    begun(site)
    seen.goto(f"{site.url}/#/jobs")
    rows = seen.get_by_role("region", name="Runs").locator("tbody tr")
    expect(rows).to_have_count(20)
    expect(rows.first).to_contain_text("grinding")
    seen.get_by_role("button", name="Older runs").click()
    expect(rows).to_have_count(4)
    expect(rows.last).to_contain_text("stone 0")
    seen.get_by_role("button", name="Newest runs").click()
    expect(rows).to_have_count(20)
    seen.get_by_label("Job", exact=True).select_option("grinding")
    expect(rows).to_have_count(1)
    seen.get_by_label("How it is").select_option("failed")
    expect(seen.get_by_text("No runs yet.")).to_be_visible()
    bars = seen.get_by_role("row").filter(has_text="Sharpen the stones").locator(".run-bars rect")
    expect(bars).to_have_count(20)


def test_readers_look_and_start_nothing(mill: Mill, seen: Page) -> None:
    folder = mill.folder / "data"
    bourne.open(mill.app, data=folder).close()
    secrets = {role: Tokens(folder).create(role.name.lower(), role, SystemClock()) for role in Role}
    with served(mill.app, folder, runs=False, token=secrets[Role.WRITER]) as site:
        number = begun(site)
        seen.context.add_cookies([{"name": "bourne_session", "value": secrets[Role.READER], "url": site.url}])
        seen.goto(f"{site.url}/#/jobs")
        expect(seen.get_by_role("button", name="Start grinding")).to_be_disabled()
        expect(seen.get_by_text("you need the role writer")).to_be_visible()
        seen.goto(f"{site.url}/#/run/{number}")
        expect(seen.get_by_role("button", name="Stop")).to_be_disabled()
        mill.go(1_000)
