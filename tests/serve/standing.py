"""A server in a process of its own, so that a test can see what an attack on it costs: memory, files, processes.

Run as a program (`python -m serve.standing FOLDER`), it is that server: of a small shop, until its standard input ends.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

import bourne
from bourne.log.wake import WakingEvent
from bourne.serve.server import Server

TESTS = Path(__file__).parent.parent


def shop() -> bourne.App:
    app = bourne.App("shop")
    app.log(
        "orders",
        schema={"id": "bigint", "user": "varchar", "size": "tinyint", "amount": "bigint"},
        key="user",
    )
    app.view("spend", "SELECT user, sum(amount) AS total, count(*) AS n FROM orders GROUP BY user")
    app.view("large", "SELECT * FROM orders WHERE amount >= 50")
    app.view("long", "SELECT id, repeat(user, 5000) AS text FROM orders")
    return app


ROWS = [
    {"id": number, "user": f"u{number % 7}", "size": number % 100, "amount": number} for number in range(500)
]


@dataclass
class Standing:
    """A server's process, and where it is."""

    process: subprocess.Popen[str]
    url: str
    position: str

    @property
    def address(self) -> tuple[str, int]:
        found = httpx.URL(self.url)
        assert found.port is not None
        return found.host, found.port

    def client(self, source: str = "127.0.0.1") -> httpx.Client:
        """Return a client at an address of its own, so that what others do is not put to its account."""
        transport = httpx.HTTPTransport(local_address=source)
        return httpx.Client(base_url=self.url, timeout=60, transport=transport)

    def connect(self, source: str = "127.0.0.2") -> socket.socket:
        """Return a plain connection from another address of this machine."""
        return socket.create_connection(self.address, timeout=30, source_address=(source, 0))

    def memory_bytes(self) -> int:
        """What the server's own process has in memory."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.partition("VmRSS:")[2].split()[0]) << 10

    def files(self) -> int:
        """How many files the server's own process has open."""
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())

    def children(self) -> list[int]:
        """The processes that it has started and that live."""
        found = []
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            found += [int(each) for each in (task / "children").read_text().split()]
        return found


@contextmanager
def standing(
    folder: Path, *, environment: dict[str, str] | None = None, cwd: Path | None = None
) -> Iterator[Standing]:
    """Have a server while the block runs; afterwards it has ended by itself, without a fault."""
    path = os.pathsep.join([str(TESTS), *(each for each in sys.path if each)])
    process = subprocess.Popen(
        [sys.executable, "-m", "serve.standing", str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": path, **(environment or {})}, cwd=cwd,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    try:
        told = json.loads(process.stdout.readline())
        yield Standing(process, told["url"], told["position"])
    finally:
        process.stdin.close()
        try:
            code = process.wait(timeout=60)
        finally:
            process.kill()
    assert code == 0


def main() -> None:
    stop = WakingEvent()
    with (
        bourne.open(shop(), data=Path(sys.argv[1])) as instance,
        Server(instance, ("127.0.0.1", 0)) as server,
    ):
        if not instance.log("orders").end_offsets()[0]:
            instance.append("orders", ROWS)
        thread = threading.Thread(target=lambda: instance.run(stop=stop, on_progress=server.note))
        thread.start()
        print(json.dumps({"url": server.url, "position": f"orders:{len(ROWS)}"}), flush=True)
        sys.stdin.read()
        stop.set()
        thread.join()


if __name__ == "__main__":
    main()
