"""Servers for the tests that talk to real ones: one of each kind per worker, started when first asked for."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from servers.chromium import browser, page  # noqa: F401  (fixtures)
from servers.kafka import kafka  # noqa: F401  (a fixture)
from servers.redis import redis  # noqa: F401  (a fixture)

if TYPE_CHECKING:
    from servers.postgres import PostgresServer

# Threads that NumPy would start in each of hundreds of processes, and none of them needs.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# `bourne run` serves only in the tests that ask for it: it takes half a second to load.
os.environ.setdefault("BOURNE_SERVE", "no")

_NUMBERS = itertools.count(1)


def _missing(reason: str) -> None:
    """Skip a test whose server is not installed; where all must run (CI), fail it."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server; one test at a time may kill it, and has to start it again."""
    from servers import postgres as servers  # noqa: PLC0415  (imported only where it is used)

    try:
        import psycopg  # noqa: F401, PLC0415
    except ImportError:
        _missing("psycopg is not installed: pip install 'bourne[postgres]'")
    programs = servers.find()
    if programs is None:
        _missing(f"PostgreSQL's server is not installed: apt-get install {servers.PACKAGE}")
    server = servers.PostgresServer(programs)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def database(postgres: PostgresServer) -> str:
    """The address of a new, empty database."""
    import psycopg  # noqa: PLC0415

    name = f"shop_{next(_NUMBERS)}"
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgres.url(name)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes long, unless it is asked for."""
    if not os.environ.get("BOURNE_LONG"):
        left_out = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("long")]
