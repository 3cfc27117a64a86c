"""The server is killed with -9 under a hundred subscribers, again and again: at the end each has what the view has.

They come back with the last id that they have, as docs/serving.md says. What is appended meanwhile goes over HTTP with an
idempotency key, and is sent again until it is acknowledged: so it is in the log once.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import ssl
import subprocess
import sys
from pathlib import Path

import httpx

from serve.served import Event, Replica, texts
from servers.ports import free_ports

IS_LONG = "BOURNE_LONG" in os.environ
SUBSCRIBERS = 100
KILLS = 60 if IS_LONG else 2
PATIENCE_S = 120

APP = """
import bourne

app = bourne.App("shop")
app.log("orders", schema={"user": "varchar", "amount": "bigint"}, key="user")
app.view("spend", "SELECT user, sum(amount)::BIGINT AS total, count(*) AS n FROM orders GROUP BY user")
app.view("large", "SELECT * FROM orders WHERE amount >= 50")
app.view("best", "SELECT * FROM spend WHERE total >= (SELECT avg(total) FROM spend)")
"""

# What each follows: a view, and which rows of it, for the address and for SQL.
FOLLOWED = [
    ("spend", "", "true"), ("spend", "?user=u3", "\"user\" = 'u3'"), ("spend", "?where=total>200", "total > 200"),
    ("large", "", "true"), ("large", "?where=amount>80", "amount > 80"), ("best", "", "true"), ("best", "?user=사용자", "\"user\" = '사용자'"),
]  # fmt: skip
SQL = {
    "spend": "SELECT user, sum(amount)::BIGINT AS total, count(*) AS n FROM orders GROUP BY user",
    "large": "SELECT * FROM orders WHERE amount >= 50",
    "best": "WITH spend AS (SELECT user, sum(amount)::BIGINT AS total, count(*) AS n FROM orders GROUP BY user) "
            "SELECT * FROM spend WHERE total >= (SELECT avg(total) FROM spend)",
}  # fmt: skip


class Site:
    """`bourne run` on a port that stays the same, to be killed and started again."""

    def __init__(self, folder: Path) -> None:
        [self.port] = free_ports(1)
        (folder / "app.py").write_text(APP)
        self._command = [
            sys.executable, "-c", "from bourne.cli import main; main()", "run", str(folder / "app.py"),
            "--data", str(folder / "data"), "--serve", "--address", f"127.0.0.1:{self.port}",
        ]  # fmt: skip
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self._process.stdout is not None
        lines = []
        while not lines or not re.search("serves http", lines[-1]):
            lines.append(self._process.stdout.readline())
            assert lines[-1], "".join(lines)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


class Follower:
    """One subscriber, who comes back whenever it is cut off."""

    def __init__(self, url: str) -> None:
        self.replica = Replica()
        self.url = url
        self.snapshots = self.connected = 0

    async def follow(self, http: httpx.AsyncClient) -> None:
        while True:
            headers = {} if self.replica.id is None else {"Last-Event-ID": self.replica.id}
            self.replica.pending = []
            try:
                async with http.stream("GET", self.url, headers=headers) as response:
                    assert response.status_code == 200, await response.aread()
                    self.connected += 1
                    await self._take(response)
            except httpx.TransportError:
                await asyncio.sleep(0.05)  # it is being started

    async def _take(self, response: httpx.Response) -> None:
        name, id_, data = "", None, ""
        async for line in response.aiter_lines():
            if line:
                kind, _, value = line.partition(": ")
                name, id_, data = (
                    (value, id_, data)
                    if kind == "event"
                    else (name, value, data)
                    if kind == "id"
                    else (name, id_, value)
                )
            else:
                self.snapshots += name == "snapshot" and id_ is not None
                self.replica.take(Event(name, id_, json.loads(data)))
                name, id_, data = "", None, ""


async def append(http: httpx.AsyncClient, key: str, rows: list[dict[str, object]]) -> str:
    """Append until it is acknowledged."""
    while True:
        try:
            answer = await http.post("/logs/orders", json=rows, headers={"Idempotency-Key": key})
        except httpx.TransportError:
            await asyncio.sleep(0.05)
            continue
        if answer.status_code == 503:
            await asyncio.sleep(0.05)
            continue
        assert answer.status_code == 200, answer.text
        return str(answer.json()["position"])


async def live_through(
    site: Site, random_: random.Random
) -> tuple[list[tuple[Follower, str, str]], list[dict[str, object]], str]:
    """Append, follow and kill; return the followers when all have everything."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    limits = httpx.Limits(max_connections=SUBSCRIBERS + 10)
    sent: list[dict[str, object]] = []
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{site.port}", timeout=30, verify=tls, limits=limits
    ) as http:
        chosen = [FOLLOWED[number % len(FOLLOWED)] for number in range(SUBSCRIBERS)]
        followers = [(Follower(f"/views/{view}/changes{rows}"), view, where) for view, rows, where in chosen]
        following = [asyncio.create_task(each.follow(http)) for each, _, _ in followers]
        position = ""
        for kill in range(KILLS):
            for call in range(random_.randrange(3, 12)):
                rows = [
                    {
                        "user": random_.choice([*(f"u{n}" for n in range(12)), "사용자"]),
                        "amount": random_.randrange(-40, 99),
                    }
                    for _ in range(random_.randrange(1, 60))
                ]
                sending = asyncio.create_task(append(http, f"{kill}-{call}", rows))
                sent += rows
                if call == 2:
                    await asyncio.sleep(
                        random_.random() * 0.03
                    )  # anywhere between the call and its last event
                    await asyncio.to_thread(site.kill)
                    await asyncio.to_thread(site.start)
                position = await sending
        async with asyncio.timeout(PATIENCE_S):
            while any(each.replica.position != position or each.replica.pending for each, _, _ in followers):
                await asyncio.sleep(0.05)
                for task in following:
                    if task.done():
                        task.result()
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
        for view, sql in SQL.items():
            answer = await http.get(
                f"/views/{view}", params={"limit": 100_000, "at_least": position, "wait": 30}
            )
            expected = _by_duckdb(sql, sent)
            assert texts(answer.json()["rows"]) == expected, view
    return followers, sent, position


def _by_duckdb(sql: str, sent: list[dict[str, object]]) -> list[str]:
    import duckdb  # noqa: PLC0415
    import pyarrow as pa  # noqa: PLC0415

    orders = pa.Table.from_pylist(sent, pa.schema([("user", pa.string()), ("amount", pa.int64())]))
    with duckdb.connect() as connection:
        connection.register("orders", orders)
        return texts(connection.sql(sql).to_arrow_table().to_pylist())


def test_every_subscriber_has_the_view(tmp_path: Path) -> None:
    seed = int(os.environ.get("SEED", random.randrange(1 << 30)))
    print(f"SEED={seed}")
    site = Site(tmp_path)
    try:
        followers, sent, _ = asyncio.run(live_through(site, random.Random(seed)))
    finally:
        site.kill()
    for follower, view, where in followers:
        expected = _by_duckdb(f"SELECT * FROM ({SQL[view]}) WHERE {where}", sent)
        assert follower.replica.sorted() == expected, (follower.url, seed)
        assert follower.connected > KILLS, follower.url
    # They went on from where they were, but for those who were killed before they had anything.
    assert sum(follower.snapshots for follower, _, _ in followers) < 2 * SUBSCRIBERS
