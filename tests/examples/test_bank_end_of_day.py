"""The bank's days: what is reported is what the data was made wrong by, and the ledger holds all the rest, summed by PostgreSQL."""

from __future__ import annotations

import csv
from datetime import date
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from examples.example import bourne_jobs, data_of

data = data_of("bank_end_of_day")

# What fits, of one day, in PostgreSQL's own words over the bank's tables.
FITS = """
    SELECT b.day, b.account, b.opening, b.closing, count(t.id) FROM balances b LEFT JOIN transactions t ON t.account = b.account
        AND t.booked_at >= b.day - INTERVAL '1 hour' AND t.booked_at < b.day + INTERVAL '23 hours'
    WHERE b.day = %s GROUP BY b.day, b.account, b.opening, b.closing HAVING b.closing = b.opening + coalesce(sum(t.amount), 0)"""
LOADED = "SELECT day, account, opening, closing, transactions FROM settled WHERE day = %s"


def rows_of(url: str, sql: str, day: date) -> list[tuple]:
    with psycopg.connect(url) as connection:
        return sorted(connection.execute(sql, [day]).fetchall())


def reported(folder: Path, day: date) -> dict[int, Decimal]:
    with (folder / f"differences-{day}.csv").open() as file:
        return {int(row["account"]): Decimal(row["difference"]) for row in csv.DictReader(file)}


def check_days(folder: Path, database: str, *, rows: int, days: int) -> None:
    """Run days; on the last one the gate is too narrow, until the bank has corrected its balances and it is done again."""
    wrong = data.write(database, rows=rows, days=days)
    places = {"BANK": database, "LEDGER": database}
    accounts = max(100, rows // 20)
    *good, last = wrong
    for day in good:
        bourne_jobs(folder, "bank_end_of_day", "end_of_day", f"day={day}", **places)
        assert reported(folder, day) == wrong[day]
        assert rows_of(database, LOADED, day) == rows_of(database, FITS, day)
        assert len(rows_of(database, LOADED, day)) == accounts - data.DIFFERENCES

    said = bourne_jobs(folder, "bank_end_of_day", "end_of_day", f"day={last}", "differences_max=2", **places)
    assert "hold: COMPLETED" in said
    assert (folder / f"on-hold-{last}").exists()
    assert reported(folder, last) == wrong[last]
    assert good or not is_there(database, "settled")
    assert not good or rows_of(database, LOADED, last) == []

    correct(database, wrong)
    for day in wrong:
        bourne_jobs(
            folder, "bank_end_of_day", "end_of_day", f"day={day}", "differences_max=5", "--again", **places
        )
    for day in wrong:
        assert reported(folder, day) == {}
        assert rows_of(database, LOADED, day) == rows_of(database, FITS, day)
        assert len(rows_of(database, LOADED, day)) == accounts


def correct(database: str, wrong: dict[date, dict[int, Decimal]]) -> None:
    """Let the bank set its balances right."""
    update = "UPDATE balances SET closing = closing - %s WHERE (day, account) = (%s, %s)"
    with psycopg.connect(database) as bank:
        for day, accounts in wrong.items():
            for account, difference in accounts.items():
                assert bank.execute(update, [difference, day, account]).rowcount == 1


def is_there(database: str, table: str) -> bool:
    with psycopg.connect(database) as connection:
        return connection.execute("SELECT to_regclass(%s)", [table]).fetchone() != (None,)


def test_a_day_is_held_back_corrected_and_loaded(tmp_path, database):
    check_days(tmp_path, database, rows=4_000, days=1)


@pytest.mark.long
def test_a_million_transactions_of_two_days(tmp_path, database):
    check_days(tmp_path, database, rows=1_000_000, days=2)
