"""Empty databases of each kind, and what runs statements in them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

Execute = Callable[..., None]
KINDS = ["postgres", "sqlite", "duckdb"]


def made(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> tuple[str, Execute]:
    """Return the address of a database, and what runs statements in it."""
    if kind == "postgres":
        psycopg = pytest.importorskip("psycopg")
        url = request.getfixturevalue("database")

        def execute(*statements: str) -> None:
            with psycopg.connect(url, autocommit=True) as connection:
                for each in statements:
                    connection.execute(each)

        return url, execute
    path = tmp_path / f"shop.{kind}"

    def execute_file(*statements: str) -> None:
        with closing(sqlite3.connect(path) if kind == "sqlite" else duckdb.connect(path)) as database:
            for each in statements:
                database.execute(each)
            database.commit() if kind == "sqlite" else None

    execute_file("CREATE TABLE is_there (i INTEGER)")
    return f"{kind}:{path}", execute_file
