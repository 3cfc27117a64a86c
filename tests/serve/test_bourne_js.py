"""The browser's client, in a browser: what a page shows is one whole state of a view, and in the end the newest.

The page and the module are handed to the browser here, not by the server: so they are there when the server is not, as they
are for a page with a service worker. Nothing else is: the module is one file, which can be copied alone.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response

from serve.fake_server import Change, FakeServer, FakeView, Net, Row, problem
from waiting import until

pytest.importorskip("playwright")
from playwright.sync_api import BrowserContext, Page, expect

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "src" / "bourne" / "serve" / "static" / "bourne.js"
SEEDS, COMMITS = (10, 300) if os.environ.get("BOURNE_LONG") else (1, 100)
SPEND = {"user": "VARCHAR", "total": "BIGINT"}

# `record` keeps every state that a watcher, or anybody who looks, could see.
PAGE = """<!doctype html><meta charset="utf-8"><title>a page</title><body><script type="module">
import * as module from "./static/bourne.js";
const json = (value) => JSON.stringify(value, (_, member) => (typeof member === "bigint" ? JSON.rawJSON(String(member)) : member));
const limits = { retryFirst: 2, retryMost: 20, missing: 50, frame: 20 };
Object.assign(window, module, {
  json,
  make: (options) => new module.Bourne(undefined, { ...options, limits: { ...limits, ...options?.limits } }),
  record: (replica) => {
    window.seen = [];
    replica.watch(({ rows, state, position }) => window.seen.push([position, rows.map(json).sort(), state]));
  },
  stored: async () => {
    const found = await indexedDB.databases();
    const opening = indexedDB.open(found[0].name, 1);
    await new Promise((done) => (opening.onsuccess = done));
    const both = opening.result.transaction(["about", "entries"]);
    const [about, who] = [both.objectStore("about").get(0), both.objectStore("about").get(1)];
    const entries = both.objectStore("entries").getAll();
    await new Promise((done) => (both.oncomplete = done));
    opening.result.close();
    return { ...about.result, ...who.result, rows: entries.result.flatMap(({ row, weight }) => Array(weight).fill(json(row))).sort() };
  },
});
window.ready = true;
</script>"""


def visit(page: Page, server: FakeServer) -> Page:
    """Open the page, whether the server is there or not."""
    page.route(f"{server.url}/page", lambda route: route.fulfill(body=PAGE, content_type="text/html"))
    page.route(f"{server.url}/static/bourne.js", lambda route: route.fulfill(path=MODULE))
    page.goto(f"{server.url}/page")
    page.wait_for_function("window.ready")
    return page


def replicate(page: Page, *, options: Row | None = None, bourne: Row | None = None) -> None:
    """Open a replica, and record what it shows."""
    page.evaluate(
        """async ([options, bourne]) => {
            window.bourne = make(bourne);
            window.replica = window.bourne.replica("spend", options);
            record(window.replica);
            await window.replica.open();
        }""",
        [options or {}, bourne or {}],
    )


def shown(page: Page) -> list[str]:
    return [as_text(row) for row in page.evaluate("replica.rows.map(json)")]


def as_text(row: str) -> str:
    return json.dumps(json.loads(row), ensure_ascii=False)


def becomes(page: Page, state: str = "live") -> None:
    page.wait_for_function("(state) => replica.state === state", arg=state)


def catches_up(page: Page, server: FakeServer) -> None:
    """Wait until the page reflects all that the server has, and see that it is the same."""
    page.wait_for_function(
        "(position) => replica.position === position && replica.state === 'live'", arg=server.view.position
    )
    assert sorted(shown(page)) == server.view.state()


def is_stored(page: Page, server: FakeServer) -> None:
    """Wait until the newest state is stored, and see that it is the same."""
    position = server.view.position  # (`wait_for_function` does not wait for a promise)
    until(lambda: page.evaluate("stored()").get("position") == position, what="the store")
    found = page.evaluate("stored()")
    assert found["id"] == server.view.id
    assert sorted(as_text(row) for row in found["rows"]) == server.view.state()


def all_seen_was_true(page: Page, states: dict[str, list[str]]) -> int:
    """Check that each state the page has shown was one of the view, at that position; return how many it were."""
    seen = [each for each in page.evaluate("seen") if each[0]]
    for position, rows, _ in seen:
        assert sorted(as_text(row) for row in rows) == states[position], position
    return len(seen)


def spend(user: str, total: int, key: Any = None) -> Change:
    return {"key": user if key is None else key, "row": {"user": user, "total": total}}


def times(user: str, total: int, weight: int = 1) -> Change:
    return {"row": {"user": user, "total": total}, "weight": weight}


@pytest.fixture(params=[True, False], ids=["keyed", "not keyed"])
def keyed(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer(FakeView("spend", keyed=True, columns=SPEND)) as started:
        yield started


@pytest.fixture
def bag() -> Iterator[FakeServer]:
    """One whose view has no keys."""
    with FakeServer(FakeView("spend", keyed=False, columns=SPEND)) as started:
        yield started


@pytest.fixture
def context(page: Page) -> BrowserContext:
    return page.context


def test_snapshot_then_changes(page, server):
    server.commit(spend("ann", 3), spend("bob", 4))
    replicate(visit(page, server))
    catches_up(page, server)
    server.commit(spend("ann", 5), {"key": "bob", "row": None}, {"key": "never there", "row": None})
    server.commit(spend("cee", 1))
    catches_up(page, server)
    assert page.evaluate(
        "[replica.get('ann').total, replica.get('bob') ?? null, replica.keyed, replica.version]"
    ) == [
        5,
        None,
        True,
        1,
    ]
    assert page.evaluate("replica.columns") == server.view.columns
    assert page.evaluate("replica.rows === replica.rows")
    all_seen_was_true(page, server.view.states)


def test_rows_without_keys_are_there_as_often_as_they_are(page, bag):
    bag.commit(times("ann", 1, 2), times("bob", 1))
    replicate(visit(page, bag))
    catches_up(page, bag)
    assert len(shown(page)) == 3
    bag.commit(times("ann", 1, -1), times("bob", 1, -1), times("cee", 2, 3))
    catches_up(page, bag)
    assert len(shown(page)) == 4


def test_watchers_hear_what_became_of_rows(page, server):
    server.commit(spend("ann", 3), spend("bob", 4))
    replicate(visit(page, server))
    catches_up(page, server)
    page.evaluate(
        "window.heard = []; void (window.unwatch = replica.watch((seen) => heard.push(...seen.changes)))"
    )
    assert page.evaluate("heard") == [{**spend(*each), "before": None} for each in (("ann", 3), ("bob", 4))]
    server.commit(spend("ann", 5), {"key": "bob", "row": None}, spend("cee", 1))
    page.wait_for_function("heard.length === 5")
    assert page.evaluate("heard.slice(2)") == [
        {"key": "ann", "row": {"user": "ann", "total": 5}, "before": {"user": "ann", "total": 3}},
        {"key": "bob", "row": None, "before": {"user": "bob", "total": 4}},
        {"key": "cee", "row": {"user": "cee", "total": 1}, "before": None},
    ]
    server.stop()
    becomes(page, "offline")
    server.commit(spend("cee", 2))
    server.forget()  # a snapshot tells of what is another row now, and of nothing else
    server.start()
    catches_up(page, server)
    page.wait_for_function("heard.length > 5")
    assert [change["key"] for change in page.evaluate("heard.slice(5)")] == ["cee"]
    page.evaluate("unwatch()")
    server.commit(spend("dee", 1))
    page.wait_for_function("seen.at(-1)[1].length === 3")
    assert page.evaluate("heard.length") == 6


def test_a_watcher_may_add_another_which_hears_each_change_once(page, server):
    replicate(visit(page, server))
    catches_up(page, server)
    page.evaluate(
        """() => {
            window.heard = [];
            const unwatch = replica.watch(({ rows }) => {
                if (!rows.length || heard.length) return;
                unwatch();
                replica.watch(({ changes }) => heard.push(...changes.map(({ row }) => row.total)));
            });
        }"""
    )
    for total in (1, 2):
        server.commit(spend("ann", total))
        catches_up(page, server)
        page.wait_for_function("(total) => heard.at(-1) === total", arg=total)
    assert page.evaluate("heard") == [1, 2]


def test_a_watcher_that_fails_stops_nobody(browser, server):
    page = browser.new_page()
    replicate(visit(page, server))
    page.evaluate("replica.watch(() => { throw new Error('mine'); })")
    server.commit(spend("ann", 1))
    catches_up(page, server)
    page.context.close()


def test_a_change_in_parts_is_shown_as_a_whole(page, bag):
    bag.net.part, bag.net.interrupted = (lambda: 1), True
    bag.commit(*(times(str(number), 0, 2) for number in range(50)))
    replicate(visit(page, bag))
    catches_up(page, bag)
    for turn in range(10):
        bag.commit(
            *(times(str(number), turn, -2) for number in range(50)),
            *(times(str(number), turn + 1, 2) for number in range(50)),
        )
    catches_up(page, bag)
    is_stored(page, bag)
    assert all_seen_was_true(page, bag.view.states) > 1


def test_offline_changes_are_made_up_for(page, server):
    server.commit(spend("ann", 3), spend("bob", 4))
    replicate(visit(page, server))
    catches_up(page, server)
    page.context.set_offline(True)
    server.stop()
    becomes(page, "offline")
    assert page.evaluate("replica.error.status") == 0
    for number in range(20):
        server.commit(spend("ann", number), spend(f"user {number}", number))
    server.commit({"key": "bob", "row": None})
    server.start()
    page.context.set_offline(False)
    catches_up(page, server)
    assert page.evaluate("replica.error") is None
    assert "after" in server.requests[-1].query_params


def test_a_page_reloaded_offline_shows_its_last_state(page, keyed):
    view = FakeView("spend", keyed=keyed, columns=SPEND)
    with FakeServer(view) as server:
        for number in range(5):
            server.commit(
                *(
                    [spend("ann", number), spend("bob", 1)]
                    if keyed
                    else [times("ann", 1), times("bob", number)]
                )
            )
        replicate(visit(page, server))
        catches_up(page, server)
        order = shown(page)
        is_stored(page, server)
        server.stop()
        replicate(visit(page, server))
        assert (shown(page), page.evaluate("replica.position")) == (order, view.position)
        assert page.evaluate("replica.state") == "offline"
        assert page.evaluate("replica.stored")
        server.commit(*([spend("cee", 1)] if keyed else [times("cee", 1)]))
        server.start()
        catches_up(page, server)
        assert [request.query_params.get("after") for request in server.requests][
            -1
        ] == f"a-{len(view.commits) - 1}"
        assert shown(page)[: len(order)] == order


def random_change(chance: random.Random, view: FakeView) -> list[Change]:
    """Some rows come, some go, and some are another one: also nothing at all."""
    changes: list[Change] = []
    users = [*"abcdefgh", "앤 🦊", '"quoted"', "a\nb\r\n\u2028"]
    for _ in range(chance.randrange(6)):
        row = {
            "user": chance.choice(users),
            "total": chance.choice([chance.randrange(4), 2**60 + chance.randrange(3)]),
        }
        if view.keyed:
            key = chance.choice([1, "1", "둘", 2**60, 2**60 + 1, *range(5, 15)])
            changes.append({"key": key, "row": row if chance.random() < 0.7 else None})
        elif chance.random() < 0.5 or not view.rows():
            changes.append({"row": row, "weight": chance.randrange(1, 4)})
        else:
            gone = chance.choice(view.rows())
            if not any(change["row"] == gone for change in changes):
                changes.append({"row": gone, "weight": -1})
    return changes


def bad_net(chance: random.Random) -> Net:
    return Net(
        cut_after=lambda: chance.choice([None, chance.randrange(1, 4000)]),
        piece=lambda: chance.choice([1, 3, 50, 1000]),
        part=lambda: chance.choice([1, 2, 1000]),
    )


@pytest.mark.parametrize("seed", range(SEEDS))
def test_any_history_over_any_net_ends_in_the_view(page, keyed, seed):
    chance = random.Random(seed)
    view = FakeView("spend", keyed=keyed, columns=SPEND)
    with FakeServer(view, net=bad_net(chance)) as server:
        replicate(visit(page, server))
        for number in range(COMMITS):
            server.commit(*random_change(chance, view))
            what = chance.random()
            if what < 0.05:
                server.cut()
            elif what < 0.10:
                server.stop()
                server.commit(*random_change(chance, view))
                if chance.random() < 0.5:
                    server.forget()
                server.start()
            elif what < 0.13:  # a reload shows a state that was, and goes on from it
                all_seen_was_true(page, view.states)
                if chance.random() < 0.5:
                    server.stop()
                replicate(visit(page, server))
                server.stop()
                server.start()
            elif what < 0.5:
                page.evaluate("new Promise(requestAnimationFrame)")
            if number % 10 == 0:
                stored = page.evaluate("stored()")
                if stored.get("id"):
                    assert sorted(as_text(row) for row in stored["rows"]) == view.states[stored["position"]]
        server.net = Net()
        server.cut()
        catches_up(page, server)
        is_stored(page, server)
        assert all_seen_was_true(page, view.states) > 0
        server.stop()
        replicate(visit(page, server))
        assert sorted(shown(page)) == view.state()


def test_a_view_with_a_new_definition_comes_as_a_snapshot(page, server):
    server.commit(spend("ann", 3))
    replicate(visit(page, server))
    catches_up(page, server)
    server.redefine({"total": "BIGINT"}, [{"row": {"total": 3}, "weight": 2}], keyed=False)
    page.wait_for_function("replica.version === 2")
    assert page.evaluate("replica.rows") == [{"total": 3}, {"total": 3}]
    assert page.evaluate("replica.columns.length") == 1
    is_stored(page, server)


def test_what_cannot_be_a_state_is_not_shown_and_asked_for_again(page, bag):
    bag.commit(times("ann", 1))
    replicate(visit(page, bag))
    catches_up(page, bag)
    bag.view.commits.append([times("nobody", 1, -1)])  # the server's mistake
    bag.view.offset += 1
    bag.view.states[bag.view.position] = bag.view.state()
    catches_up(page, bag)
    assert "after" not in bag.requests[-1].query_params
    all_seen_was_true(page, bag.view.states)


def test_big_integers_and_all_letters(page, bag):
    row = {
        "user": '서울 🧭 \u2028"\\',
        "total": 123456789012345678901234,
        "float": 1e300,
        "nested": [{"id": -(2**53)}],
        "nothing": None,
    }
    texts = {"user": "1234567890123456789", "total": 2**53 - 1, "float": 0.1, "nested": [], "nothing": None}
    bag.commit({"row": row, "weight": 2}, {"row": texts, "weight": 1})
    bag.net.piece = lambda: 1
    replicate(visit(page, bag))
    catches_up(page, bag)
    kinds = "replica.rows.map(({ user, total, nested }) => [typeof user, typeof total, typeof nested[0]?.id])"
    of_row, of_texts = ["string", "bigint", "bigint"], ["string", "number", "undefined"]
    assert page.evaluate(kinds) == [of_row, of_row, of_texts]
    is_stored(page, bag)
    bag.stop()
    replicate(visit(page, bag))
    assert page.evaluate(kinds) == [of_row, of_row, of_texts]
    assert sorted(shown(page)) == bag.view.state()
    bag.start()
    bag.commit({"row": row, "weight": -1})
    catches_up(page, bag)
    page.evaluate("bourne.append('orders', [{ user: '하나', total: 2n ** 63n, more: ['🦊', -(2n ** 70n)] }])")
    assert bag.rows == [{"user": "하나", "total": 2**63, "more": ["🦊", -(2**70)]}]
    answer = page.evaluate("bourne.query('SELECT ?', { parameters: [2n ** 64n] })")
    assert answer["rows"] == [{"parameters": [2**64]}]


def test_parts_of_a_view_have_stores_of_their_own(page, server):
    server.commit(spend("ann", 1), spend("bob", 5), spend("cee", 7, "3"))
    visit(page, server)
    page.evaluate(
        """async () => {
            window.bourne = make();
            const asked = [{}, { filter: { user: "ann" } }, { where: "total > 4", columns: ["user"] }];
            window.replicas = await Promise.all(asked.map((options) => bourne.replica("spend", options).open()));
        }"""
    )
    all_rows = "replicas.map(({ rows }) => rows.map(({ user, total }) => `${user} ${total}`).join())"
    page.wait_for_function(
        f"json({all_rows}) === json(['ann 1,bob 5,cee 7', 'ann 1', 'bob undefined,cee undefined'])"
    )
    server.commit(spend("ann", 6), spend("bob", 0))
    page.wait_for_function(
        "(position) => replicas.every((replica) => replica.position === position)", arg=server.view.position
    )
    assert page.evaluate(all_rows) == ["ann 6,bob 0,cee 7", "ann 6", "cee undefined,ann undefined"]
    assert page.evaluate("indexedDB.databases().then((all) => all.length)") == 3
    rows = page.evaluate(
        "bourne.view('spend', { filter: { user: 'ann' }, where: 'total > 4', columns: ['total'], limit: 5 })"
    )
    assert rows["rows"] == [{"total": 6}]
    assert "NULL" in failure(page, "bourne.view('spend', { filter: { user: null } })")["message"]


@pytest.mark.parametrize("seed", range(SEEDS))
def test_two_tabs_do_not_spoil_each_other(page, context, keyed, seed):
    chance = random.Random(seed)
    view = FakeView("spend", keyed=keyed, columns=SPEND)
    with FakeServer(view, net=bad_net(chance)) as server:
        tabs = [page, context.new_page()]
        for tab in tabs:
            replicate(visit(tab, server), bourne={"limits": {"lease": 30}})  # both write, in turn
        for _ in range(COMMITS // 2):
            server.commit(*random_change(chance, view))
            if chance.random() < 0.1:
                server.cut()
            if chance.random() < 0.3:
                stored = chance.choice(tabs).evaluate("stored()")
                if stored.get("id"):
                    assert sorted(as_text(row) for row in stored["rows"]) == view.states[stored["position"]]
        server.net = Net()
        server.cut()
        for tab in tabs:
            catches_up(tab, server)
            all_seen_was_true(tab, view.states)
        server.stop()
        third = context.new_page()
        replicate(visit(third, server))
        assert sorted(shown(third)) == view.states[third.evaluate("replica.position")]


def test_the_tab_that_is_left_goes_on_storing(page, context, server):
    replicate(visit(page, server))
    other = context.new_page()
    replicate(visit(other, server))
    server.commit(spend("ann", 1))
    catches_up(page, server)
    is_stored(other, server)
    server.commit(spend("ann", 2))
    catches_up(page, server)
    is_stored(other, server)
    writer = page.evaluate("stored().then(({ writer }) => writer)")
    for number in range(20):  # both follow, and only one of them writes
        server.commit(spend("ann", number))
        for tab in (page, other):
            catches_up(tab, server)
        is_stored(other, server)
        assert page.evaluate("stored().then(({ writer }) => writer)") == writer
    other.close(run_before_unload=True)
    until(lambda: page.evaluate("stored()")["writer"] == "", what="the other tab to let go")
    server.commit(spend("bob", 3))
    is_stored(page, server)


@pytest.mark.parametrize(
    "broken",
    [
        "Object.defineProperty(window, 'indexedDB', { value: undefined })",
        "indexedDB.open = () => { throw new DOMException('no', 'SecurityError'); }",
        "IDBObjectStore.prototype.put = () => { throw new DOMException('full', 'QuotaExceededError'); }",
    ],
    ids=["none", "refused", "full"],
)
def test_without_a_store_it_goes_on_in_memory(page, server, broken):
    page.add_init_script(broken)
    server.commit(spend("ann", 1))
    replicate(visit(page, server))
    catches_up(page, server)
    page.wait_for_function("!replica.stored")
    server.stop()
    server.commit(spend("bob", 1))
    server.start()
    catches_up(page, server)


def test_a_full_disk_leaves_the_last_whole_state(page, server):
    server.commit(*(spend(f"user {number}", number) for number in range(100)))
    replicate(visit(page, server))
    catches_up(page, server)
    is_stored(page, server)
    before = page.evaluate("stored()")
    page.evaluate(
        """() => {
            const put = IDBObjectStore.prototype.put;
            let left = 3;
            IDBObjectStore.prototype.put = function (...given) {
                if (!left--) throw new DOMException("full", "QuotaExceededError");
                return put.apply(this, given);
            };
        }"""
    )
    server.commit(*(spend(f"user {number}", -number) for number in range(100)))
    catches_up(page, server)
    page.wait_for_function("!replica.stored")
    assert page.evaluate("stored()")["rows"] == before["rows"]
    server.stop()
    replicate(visit(page, server))
    assert sorted(shown(page)) == server.view.states[before["position"]]
    server.start()
    catches_up(page, server)


def test_a_store_in_memory_leaves_nothing(page, server):
    server.commit(spend("ann", 1))
    replicate(visit(page, server), options={"store": "memory"})
    catches_up(page, server)
    assert page.evaluate("indexedDB.databases()") == []
    assert not page.evaluate("replica.stored")


def failure(page: Page, what: str) -> Row:
    """Do what fails, and return the error."""
    found = f"Promise.resolve().then(() => {what}).then(() => null, (error) => ({{ ...error, message: error.message, bourne: error instanceof BourneError }}))"
    error = page.evaluate(found)
    assert error is not None and error["bourne"], error
    return error


def test_a_refused_token_is_not_tried_again(page, server):
    server.token = "right"
    server.commit(spend("ann", 1))
    replicate(visit(page, server), bourne={"token": "wrong"})
    page.wait_for_function("replica.error?.status === 401")
    assert page.evaluate("[replica.state, replica.error.hint]") == ["offline", "bourne token create NAME"]
    page.evaluate("void make({ token: 'right' }).replica('missing').open()")
    until(lambda: len(server.requests) > 4)  # the other one is tried again and again
    refused = [request for request in server.requests if request.headers["Authorization"] == "Bearer wrong"]
    assert len(refused) == 1
    assert failure(page, "bourne.status()")["status"] == 401
    page.evaluate("bourne.token = async () => 'right'; void replica.open()")
    catches_up(page, server)


def test_a_watcher_hears_why_there_is_nothing(page, server):
    server.stop()
    visit(page, server)
    page.evaluate(
        """() => {
            window.heard = [];
            window.replica = make().replica("spend");
            replica.watch(({ state }) => heard.push([state, replica.error?.title ?? null]));
            void replica.open();
        }"""
    )
    page.wait_for_function("heard.length === 2")
    assert page.evaluate("heard") == [["offline", None], ["offline", "the server cannot be reached"]]


def test_numbers_may_be_read_in_another_way(page, bag):
    visit(page, bag)
    page.evaluate(
        """() => {
            const parse = (text) => JSON.parse(text, (name, value, { source }) => (name === "total" ? source : value));
            window.bourne = make({ parse });
            window.replica = bourne.replica("spend");
            void replica.open();
        }"""
    )
    bag.commit(times("ann", 1.0, 2), times("bob", 2**70))
    page.wait_for_function("replica.entries.length === 2")
    entries = page.evaluate("replica.entries.map(({ text, row, weight }) => [text, row.total, weight])")
    assert sorted(entries) == [
        ['{"user":"ann","total":"1.0"}', "1.0", 2],
        ['{"user":"bob","total":"1180591620717411303424"}', "1180591620717411303424", 1],
    ]
    bag.commit(times("ann", 1.0, -1))
    page.wait_for_function("replica.rows.length === 2")
    assert page.evaluate("bourne.view('spend')")["rows"][0]["total"] == "1.0"


def test_a_view_that_is_declared_later(page, server):
    server.view.name = "another"
    replicate(visit(page, server))
    page.wait_for_function("replica.error?.status === 404")
    server.view.name = "spend"
    server.commit(spend("ann", 1))
    catches_up(page, server)


def test_errors_say_what_the_server_said(page, server):
    visit(page, server)
    page.evaluate("window.bourne = make()")
    error = failure(page, "bourne.query('DROP TABLE x')")
    members = {name: error[name] for name in ("status", "title", "where", "expected", "found")}
    assert members == {
        "status": 422,
        "title": "only SELECT",
        "where": "line 1",
        "expected": "SELECT",
        "found": "DROP TABLE x",
    }
    assert error["message"] == "line 1: only SELECT; expected: SELECT; found: DROP TABLE x"
    late = failure(page, "bourne.query('SELECT 1', { atLeast: 'orders:7', wait: 0 })")
    assert (late["status"], late["expected"], late["found"]) == (503, "orders:7", "orders:0")
    assert len(server.requests) == 2
    server.problems = [
        Response("bad\ngateway", 400),
        JSONResponse({"detail": "no"}, 400),
        JSONResponse("no", 400),
    ]
    messages = [failure(page, "bourne.status()")["message"] for _ in range(3)]
    assert messages == ["bad\ngateway", "the server refused it; detail: no", '"no"']
    server.problems = [Response("no JSON")]
    assert "not JSON" in failure(page, "bourne.status()")["message"]
    assert failure(page, "bourne.view('없다 %?&')")["found"] == "없다 %?&"
    server.stop()
    assert failure(page, "bourne.status()")["status"] == 0


def test_requests_are_tried_again_a_few_times(page, server):
    visit(page, server)
    page.evaluate("window.bourne = make({ limits: { retryAfterMost: 5 } })")
    busy = {"headers": {"Retry-After": "1"}}
    server.problems = [
        problem(503, "busy", **busy),
        problem(429, "too many", **busy),
        problem(502, "a proxy"),
    ]
    assert page.evaluate("bourne.append('orders', [{ user: 'ann' }])")["position"] == "orders:1"
    assert len({request.headers["Idempotency-Key"] for request in server.requests}) == 1
    server.problems = [problem(503, "busy", **busy) for _ in range(9)]
    assert failure(page, "bourne.status()")["status"] == 503
    assert len(server.problems) == 5
    server.problems = []
    page.evaluate("bourne.append('orders', [{ user: 'ann' }], { key: 'mine' })")
    page.evaluate("bourne.append('orders', [{ user: 'ann' }], { key: 'mine' })")
    assert page.evaluate("bourne.log('orders', { last: 5 })")["rows"] == [{"user": "ann"}] * 2


def test_a_replica_waits_as_long_as_it_is_asked_to(page, server):
    server.problems = [problem(503, "busy", headers={"Retry-After": "1"})]
    server.commit(spend("ann", 1))
    visit(page, server)
    started = page.evaluate("performance.now()")
    replicate(page)
    catches_up(page, server)
    assert page.evaluate("performance.now()") - started >= 1000
    assert len(server.requests) == 2


def test_a_silent_stream_is_dead(page, server):
    server.commit(spend("ann", 1))
    server.net.silent = True
    page.clock.install()
    replicate(visit(page, server))
    until(lambda: server.requests)
    page.clock.fast_forward(44_000)
    assert page.evaluate("replica.error") is None
    page.clock.fast_forward(2_000)
    page.wait_for_function("replica.error?.message.includes('silent')")
    server.net.silent = False
    page.clock.fast_forward(1_000)
    page.wait_for_function("replica.state === 'live'")
    asked = len(server.requests)
    for _ in range(3):  # each sign of life counts
        page.clock.fast_forward(30_000)
        server.commit()
        catches_up(page, server)
    assert len(server.requests) == asked


def test_own_writes_can_be_read(page, server):
    sums_of(server)
    replicate(visit(page, server))
    for number in range(1, 10):
        total = page.evaluate(
            """async (amount) => {
                const { position } = await bourne.append("orders", [{ user: "ann", amount }]);
                await replica.reaches(position);
                return replica.get("ann").total;
            }""",
            number,
        )
        assert total == sum(range(number + 1))
    page.evaluate("replica.reaches('orders:9,other:12')")  # does not depend on it
    page.evaluate("replica.reaches('')")
    assert "in time" in failure(page, "make().replica('none yet').reaches('', { timeout: 1 })")["message"]
    late = failure(page, "replica.reaches('orders:10', { timeout: 20 })")
    assert (late["expected"], late["found"]) == ("orders:10", "orders:9")
    assert (
        "closed"
        in failure(
            page,
            "(replica.reaches('orders:10').catch(() => {}), setTimeout(() => replica.close()), replica.reaches('orders:11'))",
        )["message"]
    )


def test_events_are_read_however_they_are_cut(page, server):
    said = (
        "\ufeff: a comment\nevent: one\r\nid: 1\r\ndata: a\r\ndata:  b\r\ndata\r\n\r\n"
        "data:no event: 앤 🦊\r\revent:two\nretry: 5\nunknown: x\ndata: {}\nid:2\n\nevent: nothing\n\ndata: never ended\n"
    )
    read = """async ([said, sizes]) => {
        const code = await (await fetch("./static/bourne.js")).text();
        const opened = new Blob([code, "export { serverSentEvents };"], { type: "text/javascript" });
        const { serverSentEvents } = await import(URL.createObjectURL(opened));
        const bytes = new TextEncoder().encode(said);
        let start = 0;
        const pull = (out) => {
            if (start >= bytes.length) return out.close();
            out.enqueue(bytes.slice(start, (start += sizes[start % sizes.length])));
        };
        const found = [];
        for await (const event of serverSentEvents(new ReadableStream({ pull }), () => {})) found.push(event);
        return found;
    }"""
    visit(page, server)
    for sizes in ([1], [2], [3], [5, 1, 7], [1000]):
        assert page.evaluate(read, [said, sizes]) == [
            {"event": "one", "id": "1", "data": "a\n b\n"},
            {"event": "message", "id": "", "data": "no event: 앤 🦊"},
            {"event": "two", "id": "2", "data": "{}"},
        ]


@pytest.mark.parametrize(
    ("have", "want", "is_covered"),
    [
        ("orders:120,clicks:9.14", "orders:120", True),
        ("orders:120,clicks:9.14", "orders:121", False),
        ("orders:120,clicks:9.14", "clicks:9.15", False),
        ("orders:120,clicks:9.14", "clicks:9.14.0", True),
        ("orders:120,clicks:9.14", "clicks:9.14.1", False),
        ("clicks:9.14.2", "clicks:9", True),
        ("orders:120", "other:7", True),
        ("orders:120", "orders:99,other:7", True),
        ("%ec%A3%BC%EB%AC%B8:3", "%EC%A3%BC%EB%AC%B8:4", False),
        ("", "", True),
        ("a:1", "", True),
    ],
)
def test_positions(page, server, have, want, is_covered):
    assert visit(page, server).evaluate("([have, want]) => covers(have, want)", [have, want]) is is_covered


def test_closed_and_opened_again(page, server):
    server.commit(spend("ann", 1))
    replicate(visit(page, server))
    catches_up(page, server)
    page.evaluate("replica.close()")
    assert page.evaluate("[replica.state, replica.rows.length]") == ["closed", 1]
    server.commit(spend("bob", 1))
    page.evaluate("void replica.open()")
    catches_up(page, server)
    is_stored(page, server)
    page.evaluate("void (replica.close(), replica.open(), replica.close(), replica.open())")
    server.commit(spend("cee", 1))
    catches_up(page, server)
    is_stored(page, server)
    page.evaluate("(replica.open(), replica.close())")
    assert page.evaluate("replica.state") == "closed"
    all_seen_was_true(page, server.view.states)


def test_forgotten_is_gone_for_all_tabs(page, context, server):
    server.commit(spend("ann", 1))
    other = context.new_page()
    for tab in (other, page):
        replicate(visit(tab, server))
        catches_up(tab, server)
    page.evaluate("replica.forget()")
    assert page.evaluate("indexedDB.databases()") == []
    assert page.evaluate("[replica.state, replica.rows, replica.position]") == ["closed", [], ""]
    other.wait_for_function("!replica.stored")
    server.commit(spend("bob", 1))
    catches_up(other, server)
    assert page.evaluate("indexedDB.databases()") == []
    page.evaluate("void replica.open()")
    catches_up(page, server)


def test_watchers_are_called_at_most_once_per_frame(page, server):
    replicate(visit(page, server), bourne={"limits": {"frame": 10_000}})
    catches_up(page, server)
    page.evaluate(
        """() => {
            window.frames_ = [];
            let frame = 0;
            const count = () => (frame++, requestAnimationFrame(count));
            requestAnimationFrame(count);
            replica.watch(({ state }) => window.frames_.push(frame));
        }"""
    )
    for number in range(200):
        server.commit(spend("ann", number))
    catches_up(page, server)
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    frames = page.evaluate("window.frames_.slice(1)")
    assert frames and all(one < other for one, other in itertools.pairwise(frames))


def sums_of(server: FakeServer) -> None:
    """Let the view be each user's sum over what is appended."""
    sums = {row["user"]: row["total"] for row in server.view.rows()}

    def add(rows: list[Row]) -> None:
        for row in rows:
            sums[row["user"]] = sums.get(row["user"], 0) + row["amount"]
        server.view.commit([spend(user, total) for user, total in sums.items()], records=len(rows))

    server.append = add


def test_the_example_of_the_module_runs(page, server):
    code = MODULE.read_text(encoding="utf-8")
    lines = re.search(r"@example\n(.*?)\n \*/", code, re.DOTALL)[1].splitlines()
    example = "\n".join(line.removeprefix(" * ").removeprefix(" *") for line in lines)
    server.commit(spend("ann", 3), spend("bob", 4))
    sums_of(server)
    visit(page, server)
    with page.expect_console_message() as said:
        page.add_script_tag(content=example.replace('"./bourne.js"', '"./static/bourne.js"'), type="module")
    assert said.value.text == "10"
    page.wait_for_function("document.body.textContent === 'live: ann 10, bob 4'")


def test_the_example_of_the_documents_runs(page, server):
    text = (ROOT / "docs" / "browser.md").read_text(encoding="utf-8")
    server.commit(spend("ann", 3), spend("bob", 4))
    sums_of(server)
    visit(page, server)
    page.set_content(re.search(r"```html\n(.*?)```", text, re.DOTALL)[1])
    listed = page.locator("#spend li")
    expect(listed).to_have_text(["ann: 3", "bob: 4"])
    expect(page.locator("#state")).to_have_text("live")
    page.click("#buy")
    expect(listed).to_have_text(["ann: 10", "bob: 4"])
