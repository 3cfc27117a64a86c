"""The dashboard and `bourne.js` on the real server: figures move as records flow; a page that was offline is exact again.

With BOURNE_SCREENSHOTS set, these tests make the pictures of docs/serving.md anew.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

import bourne
from bourne.serve.server import Server
from bourne.serve.tokens import Role, Tokens
from serve.served import Served, served, texts

DOCS = Path(__file__).parents[2] / "docs"
WHERE = os.environ.get("BOURNE_SCREENSHOTS")


def shop() -> bourne.App:
    app = bourne.App("shop")
    app.log("orders", schema={"id": "bigint", "user": "varchar", "amount": "decimal(10,2)", "at": "timestamp"}, key="user",
            time="at", watermark="5 seconds")  # fmt: skip
    app.log("clicks", schema={"user": "varchar", "page": "varchar"})
    app.view("spend", "SELECT user, sum(amount) AS total, count(*) AS n FROM orders GROUP BY user")
    app.view("per_minute", "SELECT window_start, sum(amount) AS total "
                           "FROM TUMBLE(orders, at, INTERVAL '1 minute') GROUP BY window_start")  # fmt: skip
    app.view("best", "SELECT * FROM spend WHERE total >= (SELECT avg(total) FROM spend)")
    app.view("활동", "SELECT user, count(*) AS clicks FROM clicks GROUP BY user")
    app.view(
        "users", "SELECT s.user, s.total, a.clicks FROM spend AS s LEFT JOIN 활동 AS a ON s.user = a.user"
    )
    return app


@contextmanager
def flowing(site: Served) -> Iterator[None]:
    """Append all the while."""
    is_over = threading.Event()
    users = ["ann", "bo", "지우", "🎉 eve", "dana"]

    def write() -> None:
        number = 0
        while not is_over.wait(0.02):
            number += 1
            at = datetime(2026, 1, 1) + timedelta(seconds=number)
            site.instance.append(
                "orders",
                [{"id": 10 * number + n, "user": users[(number + n) % 5], "amount": (7 * number + n) % 90, "at": at} for n in range(10)],
            )  # fmt: skip
            site.instance.append("clicks", [{"user": users[number % 3], "page": "/"}])

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Served]:
    with served(shop(), tmp_path) as found:
        yield found


def picture(page: Page, name: str) -> None:
    if WHERE is not None:
        page.screenshot(path=str(DOCS / name))


def test_the_graph_moves_as_records_flow(site: Served, page: Page) -> None:
    page.set_viewport_size({"width": 1100, "height": 620})
    with flowing(site):
        page.goto(site.url)
        row = page.get_by_role("row").filter(has_text="spend")
        expect(row).to_be_visible()
        rate = row.get_by_role("cell").nth(2)
        expect(rate).not_to_have_text("0")
        expect(rate).not_to_have_text("–")
        expect(page.locator("svg .flows").first).to_be_attached()
        rows = page.get_by_role("row").filter(has_text="orders").get_by_role("cell").nth(4)
        before = rows.inner_text()
        expect(rows).not_to_have_text(before)
        picture(page, "dashboard.png")
        page.goto(f"{site.url}/#/view/spend")
        expect(page.get_by_role("cell", name="지우")).to_be_visible()
        cell = page.get_by_role("row").filter(has_text="지우").get_by_role("cell").nth(2)
        before = cell.inner_text()
        expect(cell).not_to_have_text(before)
        page.set_viewport_size({"width": 1100, "height": 900})
        picture(page, "dashboard_view.png")


def test_a_query_in_the_dashboard(site: Served, page: Page) -> None:
    site.instance.append("orders", [{"id": 1, "user": "지우", "amount": 5, "at": None}])
    page.goto(f"{site.url}/#/sql")
    page.get_by_role("textbox", name="SQL").or_(page.locator("textarea")).first.fill(
        "SELECT 1 + 41 AS answer"
    )
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("cell", name="42")).to_be_visible()
    page.locator("textarea").first.fill("SELECT nothing FROM spend")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("Binder Error").first).to_be_visible()


def test_the_page_of_the_api(site: Served, page: Page) -> None:
    page.goto(f"{site.url}/docs")
    expect(page.get_by_text("GET /views/{name}/changes", exact=True)).to_be_visible()
    expect(page.get_by_text("at_least").first).to_be_visible()


def test_signing_in(tmp_path: Path, page: Page) -> None:
    bourne.open(shop(), data=tmp_path).close()
    secret = Tokens(tmp_path).create("jiwoo", Role.READER, bourne.ports.SystemClock())
    with served(shop(), tmp_path, token=secret) as site:
        page.goto(site.url)
        field = page.locator("#token")
        expect(field).to_be_visible()
        field.fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_text("This token is not known")).to_be_visible()
        field.fill(secret)
        page.keyboard.press("Enter")
        expect(page.get_by_role("row").filter(has_text="per_minute")).to_be_visible()
        assert "bourne_" not in page.evaluate("document.cookie")
        page.locator("#sign-out").click()
        expect(page.locator("#token")).to_be_visible()


def test_a_page_that_was_offline_is_exact_again(tmp_path: Path, page: Page) -> None:
    with served(shop(), tmp_path) as site:
        address = site.server.address
        position = site.instance.append(
            "orders", [{"id": 1, "user": "ann", "amount": 5, "at": None}]
        ).position
        page.goto(f"{site.url}/healthz")  # a page of the same site, with nothing else on it
        page.evaluate(
            """async () => {
                const { Bourne } = await import("/static/bourne.js");
                globalThis.replica = await new Bourne().replica("spend").open();
            }"""
        )
        page.evaluate("position => replica.reaches(position, { timeout: 30_000 })", position)
        assert page.evaluate("replica.rows.map(row => row.user)") == ["ann"]
    page.wait_for_function("replica.state === 'offline'")
    assert page.evaluate("replica.rows.map(row => row.user)") == ["ann"]  # still there to look at
    with served(shop(), tmp_path, runs=False) as other, Server(other.instance, address), _running(other):
        rows = [{"id": n, "user": f"u{n % 7}", "amount": n, "at": None} for n in range(200)]
        position = other.instance.append("orders", rows).position
        page.evaluate("position => replica.reaches(position, { timeout: 60_000 })", position)
        found = page.evaluate("replica.rows.map(({ user, n }) => ({ user, n }))")
        expected = other.get("/views/spend", at_least=position, wait=30, columns="user,n").json()["rows"]
        assert texts(found) == texts(expected)


@contextmanager
def _running(site: Served) -> Iterator[None]:
    from bourne.log.wake import WakingEvent  # noqa: PLC0415

    stop = WakingEvent()
    thread = threading.Thread(target=site.instance.run, kwargs={"stop": stop})
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
