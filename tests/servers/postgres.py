"""A private PostgreSQL server that can be killed as by a crash, and started again on the same data.

It is set up for logical replication. PostgreSQL refuses to run as root: then it runs as `postgres` or `nobody`.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from servers.ports import free_ports
from waiting import until

PACKAGE = "postgresql-15"

_SETTINGS = {
    "wal_level": "logical",
    "max_wal_senders": "20",
    "max_replication_slots": "20",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "fsync": "on",
    "listen_addresses": "127.0.0.1",
    "timezone": "UTC",
}


def find() -> Path | None:
    """Return the folder of the server's programs, of the newest version that is installed; None if there is none."""
    folders = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True
    )
    on_path = shutil.which("initdb")
    for folder in [*folders, *([Path(on_path).resolve().parent] if on_path else [])]:
        if all((folder / program).exists() for program in ("initdb", "postgres")):
            return folder
    return None


def install() -> Path | None:
    """Install the server with apt-get, if we are root and that is there; return where it is, as `find` does."""
    if os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}  # none is started
        for arguments in (["update"], ["install", "--yes", "--no-install-recommends", PACKAGE]):
            command = ["apt-get", "-qq", *arguments]
            subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False, timeout=600)
    return find()


class PostgresServer:
    """One server. `start` is called again after `kill` and `stop`; `close` deletes its data."""

    def __init__(self, programs: Path) -> None:
        self.programs = programs
        self._as_user: dict[str, Any] = {}
        self.folder = Path(tempfile.mkdtemp(prefix="bourne-pg-"))
        if os.geteuid() == 0:
            account = _unprivileged()
            self._as_user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self._run(
            "initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N"
        )

    def url(self, database: str = "postgres") -> str:
        """Return the address of a database, for any client."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self, **settings: str) -> None:
        """Start, and return when it takes connections; after the first time on the same port."""
        self.port = self.port or free_ports(1)[0]
        options = {
            **_SETTINGS,
            **settings,
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
        }
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.programs / "postgres", "-D", "data", *(f"--{k}={v}" for k, v in options.items())],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                **self._as_user,
            )  # fmt: skip
        until(self._takes_connections, what="PostgreSQL")

    def kill(self) -> None:
        """End the server and all its processes at once, as a crash does."""
        process = self._process
        if process is None:
            return
        os.kill(process.pid, signal.SIGSTOP)  # no new children while we look
        children = _children(process.pid)
        for pid in [process.pid, *children]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        self._process = None
        until(lambda: not any(map(_is_alive, children)), what="the end of PostgreSQL's processes")

    def stop(self) -> None:
        """End the server in order; connections are cut."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait()
            self._process = None

    def restart(self, **settings: str) -> None:
        """Stop and start."""
        self.stop()
        self.start(**settings)

    def close(self) -> None:
        """Stop, and delete the data."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self.programs / program, *arguments],
            cwd=self.folder, check=False, capture_output=True, text=True, **self._as_user,
        )  # fmt: skip
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"

    def _takes_connections(self) -> bool:
        import psycopg  # noqa: PLC0415  (without it these tests are skipped, not broken)

        assert self._process is not None
        said = (self.folder / "server.log").read_text(errors="replace")[-2000:]
        assert self._process.poll() is None, f"PostgreSQL has ended:\n{said}"
        try:
            psycopg.connect(self.url(), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True


def _unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise AssertionError("no user to run PostgreSQL as")


def _children(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], check=True, capture_output=True, text=True)
    pairs = (map(int, line.split()) for line in listed.stdout.splitlines())
    return [child for child, parent in pairs if parent == pid]


def _is_alive(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], check=False, capture_output=True, text=True)
    return state.stdout.strip()[:1] not in ("", "Z")
