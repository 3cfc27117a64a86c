"""The dashboard, as people see it: in a real browser, by keyboard, on a phone, with data that means harm."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from serve.fake_dashboard_api import EVIL, HUGE, FakeApi, Shop, serving
from waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Page

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

PAGES = ["view/spend", "view/margin", "view/지우의_주문", "log/orders", "log/clicks", "source/pg_customers", "sink/to_redis", "dead-letters", "sql", "nowhere"]  # fmt: skip


# Who waits for the next second waits a fifth of it.
HURRY = """{
    const wait = window.setTimeout;
    window.setTimeout = (call, ms, ...more) => wait(call, ms >= 500 ? ms / 5 : ms, ...more);
}"""


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def api(shop: Shop) -> Iterator[FakeApi]:
    with serving(shop) as started:
        yield started


@pytest.fixture
def seen(page: Page) -> Iterator[Page]:
    """A page that may not break its own policy, and whose clock is in a hurry."""
    page.add_init_script(HURRY)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    yield page
    broken = [text for text in said if "Content Security Policy" in text or "Refused to" in text]
    assert not broken, broken


def visit(page: Page, api: FakeApi, hash: str = "") -> None:
    """Open a page of the dashboard, and wait until it shows what the server says."""
    page.goto(f"{api.url}#/{hash}")
    expect(page.locator("#pulse")).to_have_text("live")
    expect(page.locator("main .loading")).to_have_count(0)


def turn(page: Page, api: FakeApi, hash: str) -> None:
    """Go on to another page without a reload, and wait until it shows what the server says."""
    page.evaluate(
        "document.querySelector('main').replaceChildren()"
    )  # what is there later is of the new page
    page.goto(f"{api.url}#/{hash}")
    expect(page.locator("main")).not_to_be_empty()
    expect(page.locator("main .loading")).to_have_count(0)


def cell(page: Page, node: str, column: int) -> sync_api.Locator:
    return page.locator(f'tr[data-id="{node}"] td').nth(column)


def tab_to(page: Page, wanted: str) -> None:
    """Press Tab until what matches the selector has the focus; each stop on the way must show it."""
    for _ in range(120):
        page.keyboard.press("Tab")
        found, seen, where = page.evaluate(
            """(wanted) => {
                const at = document.activeElement;
                const seen = at === document.body || getComputedStyle(at).outlineStyle !== "none";
                return [at.matches(wanted), seen, at.outerHTML.slice(0, 200)];
            }""",
            wanted,
        )
        assert seen, where
        if found:
            return
    pytest.fail(f"no Tab leads to {wanted}")


def changes(page: Page, locator: sync_api.Locator) -> None:
    """Wait until a text becomes another one."""
    handle, before = locator.element_handle(), locator.inner_text()
    page.wait_for_function("([element, before]) => element.innerText !== before", arg=[handle, before])


def test_figures_move(seen: Page, api: FakeApi) -> None:
    visit(seen, api)
    changes(seen, cell(seen, "log/orders", 4))
    expect(cell(seen, "log/orders", 2)).to_have_text(re.compile(r"^[\d.]+$"))
    node = seen.locator('a.node[data-id="log/clicks"]')
    expect(node).to_have_attribute("href", "#/log/clicks")
    expect(node.locator(".node-figures")).to_have_text(re.compile(r"/s · .*records"))
    expect(seen.locator("path.edge.flows").first).to_be_attached()


def test_edges_stand_still_for_who_asks_for_less_motion(seen: Page, api: FakeApi) -> None:
    visit(seen, api)
    motion = "getComputedStyle(document.querySelector('path.flows')).animationName"
    expect(seen.locator("path.edge.flows").first).to_be_attached()
    assert seen.evaluate(motion) == "none"
    seen.emulate_media(reduced_motion="no-preference")
    assert seen.evaluate(motion) == "flow"


def test_failures_are_said_in_words(seen: Page, api: FakeApi) -> None:
    visit(seen, api)
    expect(cell(seen, "view/margin", 1)).to_contain_text("division by zero")
    expect(cell(seen, "source/pg_customers", 1)).to_have_text(
        "waiting: cannot connect to db: connection refused"
    )
    expect(seen.locator('a.node[data-id="sink/to_redis"]')).to_contain_text("Redis says")
    visit(seen, api, "view/margin")
    expect(seen.locator(".trouble")).to_contain_text("It stands still: cannot divide")
    visit(seen, api, "sink/to_redis")
    expect(seen.locator(".trouble")).to_contain_text("OOM command not allowed")


def test_all_pages_by_keyboard_alone(seen: Page, api: FakeApi) -> None:
    visit(seen, api)
    tab_to(seen, ".skip")
    seen.keyboard.press("Enter")
    assert seen.evaluate("document.activeElement.id") == "main"
    for wanted, heading in [
        ('a.node[data-id="source/kafka_orders"]', "kafka_orders"),
        (".lineage a", "orders"),
        ('.lineage a[href="#/view/spend"]', "spend"),
    ]:
        tab_to(seen, wanted)
        seen.keyboard.press("Enter")
        expect(seen.locator("h1")).to_have_text(heading)
    for page, heading in [("sql", "SQL"), ("dead-letters", "Dead letters"), ("", "Overview")]:
        seen.keyboard.press("/")
        assert seen.evaluate("document.activeElement.id") == "jump"
        tab_to(seen, f'nav a[data-page="{page}"]')
        seen.keyboard.press("Enter")
        expect(seen.locator("h1")).to_have_text(heading)
    seen.keyboard.press("/")
    seen.keyboard.type("지우의_주문")
    seen.keyboard.press("Enter")
    expect(seen.locator("h1")).to_have_text("지우의_주문")


def test_nothing_overflows_a_phone(seen: Page, api: FakeApi) -> None:
    seen.set_viewport_size({"width": 360, "height": 740})
    visit(seen, api)
    for path in [*PAGES, ""]:
        turn(seen, api, path)
        assert seen.evaluate("document.scrollingElement.scrollWidth <= innerWidth"), path
        assert seen.locator("nav").bounding_box()["y"] < 100, path  # type: ignore[index]


def test_light_and_dark(seen: Page, api: FakeApi) -> None:
    brightness = "Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])"
    seen.emulate_media(color_scheme="dark")
    visit(seen, api)
    assert seen.evaluate(brightness) < 60
    seen.emulate_media(color_scheme="light")
    assert seen.evaluate(brightness) > 200
    seen.get_by_role("button", name="Use dark colours").click()
    assert seen.evaluate(brightness) < 60
    seen.reload()
    expect(seen.get_by_role("button", name="Use light colours")).to_be_visible()
    assert seen.evaluate(brightness) < 60


def test_data_is_never_html(seen: Page, api: FakeApi) -> None:
    visit(seen, api)
    for path in ["view/spend", "log/orders", "dead-letters", "sql?q=SELECT%20*%20FROM%20spend", ""]:
        turn(seen, api, path)
        if path:
            expect(seen.get_by_text("<script>window.evil = 1</script>").first).to_be_visible()
        assert seen.evaluate("window.evil") is None, path
        assert seen.locator("main script, main img").count() == 0, path


def test_rows_are_live_and_keep_their_digits(seen: Page, api: FakeApi) -> None:
    visit(seen, api, "view/spend")
    rows = seen.locator("table.records tbody tr")
    expect(rows).to_have_count(30)
    expect(rows.nth(3).locator("td").nth(2)).to_have_text(str(HUGE))
    expect(rows.nth(3).locator("td").nth(3)).to_have_text(re.compile(r"^\d+\.50$"))
    expect(rows.nth(10).locator(".null")).to_have_text("NULL")
    expect(seen.locator("tr.changed").first).to_be_attached()
    changes(seen, seen.locator("section .foot .note"))
    expect(seen.locator("pre.sql .sql-keyword").first).to_have_text("SELECT")
    expect(seen.get_by_role("region", name="Operators")).to_contain_text("grows for ever")


def test_rows_are_sorted_and_filtered(seen: Page, api: FakeApi) -> None:
    visit(seen, api, "view/spend")
    orders = seen.get_by_role("button", name="orders bigint")
    orders.click()
    orders.click()
    expect(seen.locator("th[aria-sort=descending]")).to_contain_text("orders")
    expect(seen.locator("table.records tbody tr").first.locator("td").nth(2)).to_have_text(str(HUGE))
    where = seen.get_by_label("Where")
    where.fill("name = 'ann'")
    where.press("Enter")
    expect(seen.locator("table.records tbody tr")).to_have_count(3)
    where.fill("name = = 'ann'")
    where.press("Enter")
    expect(seen.get_by_role("alert").filter(has_text="where= is no condition")).to_be_visible()
    where.fill("name = 'nobody'")
    where.press("Enter")
    expect(seen.get_by_text("No row is like that.")).to_be_visible()


def test_of_a_large_view_only_what_is_shown_is_asked_for(seen: Page, api: FakeApi, shop: Shop) -> None:
    shop.rows_said = 6_000
    visit(seen, api, "view/spend")
    rows = seen.locator("table.records tbody tr")
    expect(rows).to_have_count(30)
    expect(seen.locator("tr.changed").first).to_be_attached()
    seen.get_by_role("button", name="orders bigint").click()
    seen.get_by_role("button", name="orders bigint").click()
    expect(rows.first.locator("td").nth(2)).to_have_text(str(HUGE))
    assert ("/views/spend", {"order": "orders.desc", "limit": "200"}) in shop.asked


def test_a_view_that_grows_too_large_is_not_followed_any_more(seen: Page, api: FakeApi, shop: Shop) -> None:
    shop.is_moving = False
    shop.spend = {number: {"name": "ann", "total": number} for number in range(20_001)}
    shop.rows_said = 30
    visit(seen, api, "view/spend")
    expect(seen.locator("section .foot .note")).to_contain_text("the first 200 of 30 rows")
    expect(seen.locator("table.records tbody tr")).to_have_count(200)
    assert ("/views/spend", {"limit": "200"}) in shop.asked
    until(lambda: shop.followers == 0, what="the end of the stream")


def test_a_view_is_followed_while_it_is_looked_at(seen: Page, api: FakeApi, shop: Shop) -> None:
    visit(seen, api, "view/spend")
    expect(seen.locator("table.records tbody tr")).to_have_count(30)
    where = seen.get_by_label("Where")
    where.fill("name = 'ann'")
    where.press("Enter")
    expect(seen.locator("table.records tbody tr")).to_have_count(3)
    until(lambda: shop.followers == 1, what="the end of the other stream")
    assert shop.followed == [{}, {"where": "name = 'ann'"}]
    seen.locator('nav a[data-page="sql"]').click()
    until(lambda: shop.followers == 0, what="the end of the stream")


def test_charts_say_their_values_by_keyboard(seen: Page, api: FakeApi) -> None:
    visit(seen, api, "view/spend")
    chart = seen.get_by_role("group", name=re.compile("Lag in records"))
    expect(chart.locator("path.line")).to_be_attached()
    chart.focus()
    seen.keyboard.press("ArrowLeft")
    expect(seen.locator(".chart-tip").nth(1)).to_have_text(re.compile(r"^\d+ at \d\d:\d\d:\d\d$"))
    seen.keyboard.press("Escape")
    expect(seen.locator(".chart-tip").nth(1)).to_be_empty()


def test_a_server_that_goes_and_comes_back(seen: Page, api: FakeApi, shop: Shop) -> None:
    visit(seen, api, "view/spend")
    expect(seen.locator("table.records tbody tr")).to_have_count(30)
    api.stop()
    expect(seen.locator("#banner")).to_contain_text("Not reachable since")
    expect(seen.locator("section .foot .note")).to_have_text("waiting for the server…")
    expect(seen.locator("table.records tbody tr")).to_have_count(30)
    expect(seen.locator(".figures")).to_contain_text("4,210 rows")
    api.start()
    expect(seen.locator("#banner")).to_be_hidden()
    expect(seen.locator("section .foot .note")).to_contain_text("30 rows, at")
    assert "after" in shop.followed[-1]
    changes(seen, seen.locator("section .foot .note"))


def test_log(seen: Page, api: FakeApi, shop: Shop) -> None:
    visit(seen, api, "log/orders")
    first = seen.locator("table.records tbody tr").first.locator("td").first
    changes(seen, seen.locator("table.records tbody"))
    expect(first).to_have_text(re.compile(r"^\d+$"))
    expect(seen.locator("main")).to_contain_text(
        "deletes records older than 7 days, keeps the newest record of each key"
    )
    expect(seen.get_by_role("region", name="Partitions")).to_contain_text("view spend from")
    seen.get_by_role("button", name="Verify").click()
    expect(seen.get_by_text("Every byte is as it was written.")).to_be_visible()
    shop.refuses_verify = True
    seen.get_by_role("button", name="Verify").click()
    expect(seen.get_by_role("alert").filter(has_text="a frame is not what was written")).to_contain_text(
        "bourne repair clicks"
    )


def test_dead_letters(seen: Page, api: FakeApi, shop: Shop) -> None:
    visit(seen, api, "dead-letters")
    rows = seen.get_by_role("region", name="Dead letters").locator("tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.nth(1)).to_contain_text(EVIL[:40])
    rows.first.get_by_role("button", name="Retry").click()
    expect(rows).to_have_count(2)
    expect(seen.get_by_role("status").filter(has_text="tried again")).to_be_visible()
    discard = rows.first.get_by_role("button", name=re.compile("iscard letter"))
    discard.click()
    expect(discard).to_have_text("Sure?")
    discard.click()
    expect(rows).to_have_count(1)
    assert shop.asked == [("/dead-letters/retry", ["a1"]), ("/dead-letters/discard", ["a2"])]


def test_a_reader_sees_letters_and_no_buttons(seen: Page, api: FakeApi, shop: Shop) -> None:
    shop.role = "reader"
    visit(seen, api, "dead-letters")
    expect(seen.get_by_text("duplicate key value")).to_be_visible()
    expect(seen.get_by_role("button", name="Retry")).to_have_count(0)


def test_sql_by_keyboard(seen: Page, api: FakeApi) -> None:
    visit(seen, api, "sql")
    area = seen.get_by_label("SQL", exact=True)
    area.fill("")
    area.press_sequentially("SELECT na")
    area.fill("SELECT  FROM spend s WHERE city IS NULL")
    for _ in range(" FROM spend s WHERE city IS NULL".__len__()):
        area.press("ArrowLeft")
    area.press_sequentially("n")
    options = seen.get_by_role("option")
    expect(options.first).to_contain_text("name")
    area.press("ArrowDown")
    expect(seen.locator("[aria-selected=true]")).not_to_contain_text("spend")
    area.press("ArrowUp")
    area.press("Tab")
    expect(area).to_have_value("SELECT name FROM spend s WHERE city IS NULL")
    area.press_sequentially(", s.")
    expect(options).to_have_count(4)
    area.press("Escape")
    expect(options).to_have_count(0)
    assert seen.evaluate("document.activeElement.id") == "sql"
    area.press_sequentially("or")
    area.press("Enter")
    area.press_sequentially(", s.total, s.city")
    area.press("Control+Enter")
    expect(seen.locator("#result tbody tr")).to_have_count(6)
    expect(
        seen.get_by_role("status").filter(has_text=re.compile(r"6 rows in \d+ ms, at orders:\d+"))
    ).to_be_visible()
    expect(seen.locator("#result tbody tr").first.locator("td.number")).to_have_count(2)
    expect(seen.locator("#result .null").first).to_have_text("NULL")
    assert "SELECT%20name" in seen.url
    expect(seen.locator(".past li").first).to_contain_text("SELECT name, s.orders")
    seen.reload()
    expect(seen.locator("#result tbody tr")).to_have_count(6)


def test_names_are_offered_after_from_and_quoted_where_needed(seen: Page, api: FakeApi) -> None:
    visit(seen, api, "sql")
    area = seen.get_by_label("SQL", exact=True)
    area.fill("")
    area.press_sequentially("SELECT * FROM ")
    expect(seen.get_by_role("option").first).to_contain_text("spend")
    area.press_sequentially("지")
    area.press("Enter")
    expect(area).to_have_value('SELECT * FROM "지우의_주문"')
    area.press_sequentially(" WHERE x = 'or")
    expect(seen.get_by_role("option")).to_have_count(0)
    area.press("Tab")
    assert seen.evaluate("document.activeElement.id") != "sql"


def test_sql_errors_are_said_in_words(seen: Page, api: FakeApi, tmp_path: Path) -> None:
    visit(seen, api, "sql")
    area = seen.get_by_label("SQL", exact=True)
    area.fill("SELECT *\nFROM nowhere")
    area.press("Control+Enter")
    error = seen.get_by_role("alert").filter(has_text="nowhere does not exist")
    expect(error).to_contain_text("line 2, column 6")
    expect(error).to_contain_text("^^^^^^^")
    expect(error).to_contain_text("To do")
    area.fill("SELECT 1 AS one")
    with seen.expect_download() as download:
        seen.get_by_role("button", name="Download CSV").click()
    download.value.save_as(tmp_path / "result.csv")
    assert (tmp_path / "result.csv").read_text() == "name,total\nann,1.50\n"


def test_sign_in_and_out(seen: Page, api: FakeApi, shop: Shop) -> None:
    shop.token = "secret"
    seen.goto(api.url)
    token = seen.get_by_label("Token")
    expect(token).to_be_focused()
    seen.keyboard.type("wrong")
    seen.keyboard.press("Enter")
    expect(seen.get_by_role("alert").filter(has_text="not known")).to_be_visible()
    seen.keyboard.type("secret")
    seen.keyboard.press("Enter")
    expect(token).to_be_hidden()
    expect(cell(seen, "log/orders", 0)).to_have_text("log")
    cookies = seen.context.cookies()
    assert [each["httpOnly"] for each in cookies] == [True]
    seen.reload()
    seen.get_by_role("button", name="Sign out").click()
    expect(token).to_be_focused()
    assert seen.context.cookies() == []


def test_nothing_declared_yet(seen: Page, api: FakeApi, shop: Shop) -> None:
    shop.is_empty = True
    visit(seen, api)
    expect(seen.get_by_text("Nothing is declared yet.")).to_be_visible()
    expect(seen.locator("main")).to_contain_text("bourne run app.py")
    shop.is_empty = False
    expect(seen.locator('a.node[data-id="view/spend"]')).to_be_visible()
    expect(seen.locator("#app-name")).to_have_text("Bourne · shop")


def test_many_nodes_do_not_cover_each_other(seen: Page, api: FakeApi, shop: Shop) -> None:
    shop.many = 60
    visit(seen, api)
    expect(seen.locator("a.node")).to_have_count(87)
    boxes = seen.evaluate(
        "[...document.querySelectorAll('a.node')].map((each) => { const box = each.getBoundingClientRect(); return [box.left, box.top, box.right, box.bottom]; })"
    )
    for index, (left, top, right, bottom) in enumerate(boxes):
        for other in boxes[:index]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top


def test_a_new_view_shows_without_a_reload(seen: Page, api: FakeApi, shop: Shop) -> None:
    visit(seen, api)
    seen.locator('a.node[data-id="view/spend"]').focus()
    shop.many = 1
    expect(seen.locator('a.node[data-id="view/more_0"]')).to_be_visible()


def test_lines_of_the_picture_do_not_cross_where_they_need_not(seen: Page, api: FakeApi) -> None:
    visit(seen, api)
    heights = seen.evaluate(
        """async () => {
            const { layOut } = await import("/static/layout.js");
            const names = ["a", "b", "c", "d"];
            const nodes = [...names.map((id) => ({ id: `s${id}`, kind: "source" })), ...names.map((id) => ({ id: `l${id}`, kind: "log" }))];
            const edges = names.map((id, index) => ({ from: `s${id}`, to: `l${names[(index * 3 + 1) % 4]}` }));
            const { nodes: places } = layOut(nodes, edges);
            return edges.map((edge) => [places.get(edge.from).y, places.get(edge.to).y]);
        }"""
    )
    assert all(abs(left - right) < 1 for left, right in heights)


def test_numbers_keep_their_digits(seen: Page, api: FakeApi) -> None:
    visit(seen, api)
    text = (
        '{"a": 9223372036854775807, "b": 12.50, "c": "1.50 \\" 2.50", "d": [1.10, null], "e": -1e400, "f": 7}'
    )
    found = seen.evaluate(
        """async (text) => {
            const { parseExact, valueText } = await import("/static/format.js");
            return Object.values(parseExact(text)).map(valueText);
        }""",
        text,
    )
    assert found == [str(HUGE), "12.50", '1.50 " 2.50', "[1.10, null]", "-1e400", "7"]
    assert json.loads(text)["f"] == 7


def test_a_page_that_nobody_sees_asks_seldom(seen: Page, api: FakeApi) -> None:
    seen.add_init_script(
        """window.delays = [];
        const real = window.setTimeout;
        window.setTimeout = (call, ms, ...more) => { window.delays.push(ms); return real(call, ms, ...more); };"""
    )
    visit(seen, api)
    seen.evaluate("Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
    seen.wait_for_function("() => window.delays.at(-1) === 15000")
    with seen.expect_request("**/status"):
        seen.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")


def test_a_chosen_name_opens_its_page_and_a_half_typed_one_does_not(seen: Page, api: FakeApi) -> None:
    visit(seen, api)
    jump = seen.get_by_label("Go to a log, view, source or sink")
    jump.fill("ord")
    jump.blur()
    assert seen.url.endswith("#/")
    jump.fill("ord")
    jump.press("Enter")
    expect(seen.locator("h1")).to_have_text("orders")


def test_failed_questions_leave_the_page_usable(seen: Page, api: FakeApi) -> None:
    visit(seen, api, "view/nobody")
    expect(seen.get_by_text("There is no view nobody.")).to_be_visible()
    visit(seen, api, "sql")
    api.stop()
    seen.get_by_label("SQL", exact=True).press("Control+Enter")
    expect(seen.locator("#result")).to_contain_text("The server does not answer.")
    api.start()
    expect(seen.locator("#pulse")).to_have_text("live")
    seen.get_by_role("button", name="Run").click()
    expect(seen.locator("#result tbody tr").first).to_be_visible()
