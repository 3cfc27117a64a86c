"""The client for asyncio: the same answers, changes and ends as the one that waits."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

import bourne
from bourne.serve.server import Server
from client.test_client import Applied, orders, rows_of, shop
from serve.served import Served, served
from servers.proxy import Proxy


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bourne.serve.feed.FEED_POSITION_S", 0.05)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Served]:
    with served(shop(), tmp_path) as found:
        yield found


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


def test_all_calls(site: Served) -> None:
    async def work() -> None:
        async with bourne.AsyncClient(site.url, is_monotonic=True) as client:
            sent = await client.append("orders", orders(("ann", 5), ("지우", 60)))
            assert (await client.view("spend", wait_s=20, order=["user"])).fetchall() == [
                ("ann", 5, 1),
                ("지우", 60, 1),
            ]
            assert (await client.query("SELECT count(*) AS n FROM spend", at_least=sent)).fetchall() == [(2,)]
            assert (await client.log("orders", last=1)).fetchall() == [(1, "지우", 60)]
            assert "views" in await client.status()
            with pytest.raises(bourne.UnknownName):
                await client.view("spent")
            with pytest.raises(bourne.UnknownName):
                async with client.replica("spent"):
                    raise AssertionError
        with pytest.raises(bourne.Closed):
            await client.status()

    run(work())


def test_follow_across_a_restart(tmp_path: Path) -> None:
    async def work(site: Served) -> None:
        applied, server = Applied(), site.server
        async with bourne.AsyncClient(site.url) as client:
            changes = client.follow("best", positions=True)
            for turn in range(3):
                if turn:
                    await asyncio.to_thread(server.close)
                    await asyncio.to_thread(
                        site.instance.append, "orders", orders(("bo", 3 * turn), ("cho", 70))
                    )
                    server = await asyncio.to_thread(Server, site.instance, site.server.address)
                sent = await client.append("orders", orders(("ann", 5), ("bo", 90)))
                while applied.position != sent.position:
                    applied.take(await anext(changes))
                assert applied.rows() == rows_of(await client.view("best", at_least=sent, wait_s=20))
            assert applied.snapshots == 1
            await changes.aclose()
        await asyncio.to_thread(server.close)

    with served(shop(), tmp_path) as site:
        run(work(site))


def test_a_replica_across_cuts(site: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bourne.client.asking.RETRY_S_MAX", 0.01)

    async def work(proxy: Proxy) -> None:
        seen: list[int] = []
        async with (
            bourne.AsyncClient(site.url) as direct,
            bourne.AsyncClient(f"http://{proxy.url_host}") as client,
        ):
            async with client.replica("large", on_change=lambda it: seen.append(len(it))) as replica:
                for number in range(10):
                    sent = await direct.append("orders", orders(("ann", 60), ("bo", number * 20)))
                    if number % 2:
                        proxy.reset()
                    else:
                        proxy.truncate(10 * number)
                    await replica.reaches(sent)
                    assert rows_of(replica) == rows_of(await direct.view("large", at_least=sent, wait_s=20))
                with pytest.raises(bourne.Behind):
                    await replica.reaches("orders:999", timeout_s=0.01)
            assert (replica.state, seen[-1]) == ("closed", len(replica))

    with Proxy(site.server.address[1]) as proxy:
        run(work(proxy))


@pytest.mark.parametrize("way", ["close", "cancel"])
def test_following_ends_at_once(site: Served, way: str) -> None:
    async def work() -> None:
        async with bourne.AsyncClient(site.url) as client:
            has_begun = asyncio.Event()

            async def follow() -> None:
                async for _ in client.follow("spend"):
                    has_begun.set()

            task = asyncio.create_task(follow())
            await has_begun.wait()
            if way == "cancel":
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asyncio.wait_for(task, 5)
            else:
                await client.close()
                await asyncio.wait_for(task, 5)

    run(work())
