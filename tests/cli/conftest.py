"""A shop to work on, and the command line as its users run it: as a process."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bourne.cli import main

SHOP = """
import bourne

app = bourne.App("shop")
app.log("orders", schema={"id": "bigint not null", "user": "varchar", "amount": "decimal(10,2)", "at": "timestamp"}, time="at")
app.view("spend", "SELECT user, sum(amount) AS total FROM orders GROUP BY user")
app.view("large", "SELECT id, user, amount FROM orders WHERE amount >= 100")
"""

Bourne = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The file of an app."""
    path = tmp_path / "shop.py"
    path.write_text(SHOP, encoding="utf-8")
    return path


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "BOURNE_DATA": str(tmp_path / "data"), "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}


# A shell lets what it starts in the background ignore Ctrl-C, and so do the tests' children, unless told otherwise.
HEARING = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
COMMAND = [sys.executable, "-c", f"{HEARING}; from bourne.cli import main; main()"]


@pytest.fixture
def run_bourne(environment: dict[str, str], tmp_path: Path) -> Bourne:
    """Run the command line to its end."""

    def run(*arguments: str | Path, stdin: str | bytes = "") -> subprocess.CompletedProcess[str]:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            [*COMMAND, *map(str, arguments)], input=data, capture_output=True, env=environment, cwd=tmp_path, timeout=60,
            check=False,
        )  # fmt: skip
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    return run


@pytest.fixture
def start_bourne(environment: dict[str, str], tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start the command line, and leave it running."""

    def start(*arguments: str | Path, **options: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*COMMAND, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=environment, cwd=tmp_path, **options,
        )  # type: ignore[call-overload,no-any-return]  # fmt: skip

    return start


@pytest.fixture
def bourne_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Bourne]:
    """Run the command line in this process, which is quicker; otherwise the same."""
    monkeypatch.setenv("BOURNE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGPIPE)

    def run(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr("sys.argv", ["bourne", *map(str, arguments)])
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8"))
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = capfd.readouterr()
        return subprocess.CompletedProcess(arguments, code, out, err)

    yield run
    signal.signal(signal.SIGPIPE, before)
