"""How long from an append to a subscriber, how many point reads a second, and what a thousand subscribers cost.

`bourne run` serves in a process of its own; this one appends (a hundred calls a second, each acknowledged after its fsync),
subscribes, and asks: both share the machine's cores. Each row carries when its append began, by the clock of this process,
so a delay is that from the call of `append` to the row in a subscriber's hands. Beside it, in the same run: an append alone,
and an HTTP server with the same libraries that answers a constant. `make bench-serve` writes docs/benchmarks_serve.md.
"""

from __future__ import annotations

import asyncio
import os
import platform
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

import bourne

DOCS = Path(__file__).parent.parent / "docs"

_KEYS = 10_000
_CALLS_PER_S = 100
_RATES = (1_000, 10_000, 50_000)
_SECONDS = float(os.environ.get("BOURNE_BENCH_SECONDS", "15"))
_WARM_S = 3.0
_SUBSCRIBERS = 1_000
_ASKERS = 8

APP = """
import bourne

app = bourne.App("bench")
app.log("events", schema={"k": "integer", "v": "bigint", "sent_us": "bigint"})
app.view("latest", "SELECT k, count(*) AS n, sum(v) AS total, max(sent_us) AS sent_us FROM events GROUP BY k")
"""

CONSTANT = """
import sys
import uvicorn
from fastapi import FastAPI, Request, Response

app = FastAPI()
BODY = b'{"position": "events:1", "columns": [], "more": false, "rows": [{"k": 1, "n": 1, "total": 1, "sent_us": 1}]}'

@app.get("/views/{name}")
async def view(request: Request, name: str) -> Response:
    return Response(BODY, media_type="application/json")

uvicorn.run(app, port=int(sys.argv[1]), http="httptools", loop="asyncio", log_level="error")
"""


@dataclass(frozen=True, slots=True)
class Delays:
    """Delays in milliseconds, and how fast was really appended."""

    rate: float
    p50: float
    p99: float
    most: float
    append_p50: float
    append_p99: float
    append_most: float


def main() -> None:
    """Measure and write the page."""
    folder = Path(tempfile.mkdtemp(prefix="bourne-serve-", dir=os.environ.get("BOURNE_BENCH_DIR")))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8_192) if hard > 0 else 8_192, hard))
    try:
        (folder / "app.py").write_text(APP)
        found: dict[str, Delays] = {}
        for rate in _RATES:
            with Served(folder / "app.py", folder / f"data-{rate}") as served:
                found[f"{rate:,} events/s, 1 subscriber"] = measure(served, rate, 1)
                print(rate, found[f"{rate:,} events/s, 1 subscriber"], flush=True)
        with Served(folder / "app.py", folder / "data-many") as served:
            before = served.memory_bytes()
            found[f"1,000 events/s, {_SUBSCRIBERS:,} subscribers"] = measure(served, 1_000, _SUBSCRIBERS)
            memory = served.memory_bytes() - before
            print(found, memory, flush=True)
            found[f"10,000 events/s, {_SUBSCRIBERS:,} subscribers, a key each"] = measure(
                served, 10_000, _SUBSCRIBERS, is_narrow=True
            )
            reads, memory_all = point_reads(served.port), served.memory_bytes()
        constant = constant_reads(folder)
        disk = synced_twice(folder)
    finally:
        shutil.rmtree(folder)
    text = page(found, disk, memory, memory_all, reads, constant)
    (DOCS / "benchmarks_serve.md").write_text(text, encoding="utf-8")
    print(text)


class Served:
    """`bourne run` in a process of its own."""

    def __init__(self, app: Path, data: Path) -> None:
        self.data = data
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from bourne.cli import main; main()", "run", str(app), "--data", str(data), "--serve", "--address", "127.0.0.1:0"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        self.port = 0
        while not self.port:
            match = re.search(r"serves http://127.0.0.1:([0-9]+)", self._process.stdout.readline())
            self.port = int(match[1]) if match else 0
        threading.Thread(target=self._process.stdout.read, daemon=True).start()

    def memory_bytes(self) -> int:
        """Return what the process has in memory that is not mapped from files."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(re.search(r"RssAnon:\s+([0-9]+) kB", status)[1]) << 10  # type: ignore[index]

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


# --- delays ----------------------------------------------------------------------------------------------------


def measure(served: Served, rate: int, subscribers: int, *, is_narrow: bool = False) -> Delays:
    """Append at a rate for some seconds; return how late subscribers had the rows. `is_narrow`: each follows one key."""
    delays: list[np.ndarray] = []
    ready, is_over = threading.Event(), threading.Event()
    thread = threading.Thread(
        target=lambda: asyncio.run(_follow(served.port, subscribers, is_narrow, ready, is_over, delays))
    )
    thread.start()
    ready.wait()
    appends, sent, seconds = _append(served.data, rate)
    is_over.set()
    thread.join()
    all_ = np.concatenate(delays) / 1e3
    took = np.array(appends) / 1e3
    return Delays(
        sent / seconds, float(np.percentile(all_, 50)), float(np.percentile(all_, 99)), float(all_.max()),
        float(np.percentile(took, 50)), float(np.percentile(took, 99)), float(took.max()),
    )  # fmt: skip


def _append(data: Path, rate: int) -> tuple[list[int], int, float]:
    """Append `rate` rows a second in a hundred calls; return how long each took, how many rows, in which time."""
    rng, took, sent = np.random.default_rng(1), list[int](), 0
    count = rate // _CALLS_PER_S
    with bourne.open(data=data) as instance:
        began = time.monotonic()
        number = 0
        while (now := time.monotonic()) < began + _WARM_S + _SECONDS:
            late_s = now - began - number / _CALLS_PER_S
            if late_s < 0:
                time.sleep(-late_s)
            start_us = time.monotonic_ns() // 1_000
            table = pa.table({
                "k": pa.array(rng.integers(0, _KEYS, count), pa.int32()),
                "v": pa.array(rng.integers(0, 1_000, count)),
                "sent_us": pa.array(np.full(count, start_us)),
            })  # fmt: skip
            instance.append("events", table)
            took.append(time.monotonic_ns() // 1_000 - start_us)
            number += 1
            sent += count
        return took[int(_WARM_S * _CALLS_PER_S) :], sent, time.monotonic() - began


async def _follow(
    port: int,
    subscribers: int,
    is_narrow: bool,
    ready: threading.Event,
    is_over: threading.Event,
    delays: list[np.ndarray],
) -> None:
    begun = asyncio.Semaphore(0)
    # All are read, a twentieth of many is looked at: to parse all would take the processor from the server.
    tasks = [
        asyncio.create_task(
            _subscribe(
                port,
                f"&k={number}" if is_narrow else "",
                begun,
                delays,
                is_parsed=is_narrow or number % 20 == 0,
            )
        )
        for number in range(subscribers)
    ]
    for _ in range(subscribers):
        await begun.acquire()
    ready.set()
    while not is_over.is_set():
        await asyncio.sleep(0.1)
    await asyncio.sleep(1.0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _subscribe(
    port: int, rows: str, begun: asyncio.Semaphore, delays: list[np.ndarray], *, is_parsed: bool
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    writer.write(
        f"GET /views/latest/changes?snapshot=false{rows} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    )
    await reader.readuntil(b"event: ")
    begun.release()
    began_us = time.monotonic_ns() // 1_000
    try:
        if not is_parsed:
            while await reader.read(1 << 16):
                pass
            return
        while True:
            line = await reader.readline()
            now_us = time.monotonic_ns() // 1_000
            if line.startswith(b"data: ") and b'"changes"' in line and now_us > began_us + 1e6 * _WARM_S:
                # With its end: where a large event is cut into chunks, a number may be.
                found = np.array([int(text) for text in re.findall(rb'"sent_us": ([0-9]+)}', line)])
                delays.append(now_us - found)
    finally:
        writer.close()


def synced_twice(folder: Path) -> np.ndarray:
    """Return what the disk alone takes for two small writes, each synced, in milliseconds; as often as rows are appended."""
    took = []
    with (folder / "synced").open("wb", buffering=0) as file:
        began = time.monotonic()
        for number in range(int(_CALLS_PER_S * _SECONDS)):
            time.sleep(max(0.0, began + number / _CALLS_PER_S - time.monotonic()))
            start_us = time.monotonic_ns() // 1_000
            for _ in range(2):
                file.write(bytes(4096))
                os.fsync(file.fileno())
            took.append(time.monotonic_ns() // 1_000 - start_us)
    return np.array(took) / 1e3


# --- point reads -----------------------------------------------------------------------------------------------


def point_reads(port: int) -> float:
    """Return how many reads of one key a second are answered, over some connections that are kept."""
    is_over, counts = threading.Event(), list[int]()

    def ask(seed: int) -> None:
        rng, count = np.random.default_rng(seed), 0
        with socket.create_connection(("127.0.0.1", port)) as connection:
            while not is_over.is_set():
                key = rng.integers(0, _KEYS)
                connection.sendall(
                    f"GET /views/latest?k={key} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
                )
                head = b""
                while b"\r\n\r\n" not in head:
                    head += connection.recv(1 << 16)
                top, _, body = head.partition(b"\r\n\r\n")
                assert b" 200 " in top.split(b"\r\n")[0], top
                left = int(re.search(rb"content-length: ([0-9]+)", top)[1]) - len(body)  # type: ignore[index]
                while left > 0:
                    left -= len(connection.recv(1 << 16))
                count += 1
        counts.append(count)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(_ASKERS)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    time.sleep(_SECONDS / 2)
    is_over.set()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - began)


def constant_reads(folder: Path) -> float:
    """Return the same of a server that answers a constant."""
    file = folder / "constant.py"
    folder.mkdir(exist_ok=True)
    file.write_text(CONSTANT)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, str(file), str(port)])
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        return point_reads(port)
    finally:
        process.terminate()
        process.wait()


# --- the page --------------------------------------------------------------------------------------------------


def page(
    found: dict[str, Delays], disk: np.ndarray, memory: int, memory_all: int, reads: float, constant: float
) -> str:
    """Return the page."""
    rows = "\n".join(
        f"| {name} | {each.rate:,.0f} | {each.p50:.1f} | {each.p99:.1f} | {each.most:.0f} | {each.append_p50:.1f} | {each.append_p99:.1f} | {each.append_most:.0f} |"
        for name, each in found.items()
    )
    p50, p99 = np.percentile(disk, [50, 99])
    return PAGE.format(
        rows=rows, disk=f"{p50:.1f}, p99 {p99:.1f}, at most {disk.max():.0f}", memory=memory / _SUBSCRIBERS / 1024, memory_all=memory_all >> 20, reads=reads, constant=constant,
        ratio=reads / constant, subscribers=_SUBSCRIBERS, keys=_KEYS, calls=_CALLS_PER_S, askers=_ASKERS,
        machine=f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()} {platform.machine()}",
    )  # fmt: skip


PAGE = """# Benchmarks: serving

Written by `make bench-serve` on {machine}. `bourne run` serves in one process; another one appends ({calls} calls a second, each
acknowledged after its fsync), subscribes, and asks. Both share the cores. The view counts and sums by key, of {keys:,} keys.

**From `append` to a subscriber**, in milliseconds: from the call (so its fsync is in it, and that of the view's commit) until
the changed row is in the subscriber's hands. Beside it, in the same run, what the append alone took.

| | rows/s appended | p50 | p99 | most | append alone: p50 | p99 | most |
|---|---:|---:|---:|---:|---:|---:|---:|
{rows}

Two writes of 4 KiB one after another, each synced, took the disk alone p50 {disk} ms in the same run.

**Point reads** (`GET /views/latest?k=17`, {askers} connections that are kept, of the view above): {reads:,.0f} a second. A server of the same
libraries that answers a constant: {constant:,.0f} a second in the same run; so {ratio:.2f} of what FastAPI and uvicorn can do on a core.

**{subscribers:,} subscribers:** {memory:.0f} KiB of memory each, with what the first second of changes took; the whole process {memory_all:,} MiB.
"""

if __name__ == "__main__":
    main()
