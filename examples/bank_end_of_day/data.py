"""A bank's database: accounts, the transactions of some days, and the balances that it says each account had at the end of each.

    python examples/bank_end_of_day/data.py postgres://localhost/bank --rows 20000

Some of the balances do not fit the transactions: `DIFFERENCES` of each day, by a few cents or a whole transaction.
"""

import argparse
import itertools
import random
from datetime import date, datetime, time, timedelta
from decimal import Decimal

import psycopg

FIRST_DAY = date(2026, 3, 2)
DIFFERENCES = 3

TABLES = """
    DROP TABLE IF EXISTS accounts, transactions, balances;
    CREATE TABLE accounts (id INTEGER PRIMARY KEY, holder TEXT NOT NULL);
    CREATE TABLE transactions (
        id BIGINT PRIMARY KEY, account INTEGER NOT NULL, booked_at TIMESTAMP NOT NULL, amount NUMERIC(14,2) NOT NULL, kind TEXT NOT NULL
    );
    CREATE TABLE balances (
        day DATE, account INTEGER, opening NUMERIC(14,2) NOT NULL, closing NUMERIC(14,2) NOT NULL, PRIMARY KEY (day, account)
    );
"""
INDEX = "CREATE INDEX ON transactions (booked_at)"
KINDS = {
    "card": (-1, 3.2),
    "transfer in": (1, 4.5),
    "transfer out": (-1, 4.5),
    "salary": (1, 7.6),
    "fee": (-1, 1.0),
}
KIND_WEIGHTS = [60, 14, 14, 5, 7]


def write(url: str, *, rows: int, days: int = 2, seed: int = 2026) -> dict[date, dict[int, Decimal]]:
    """Make the tables anew. Return by how much the balances of each day are wrong, of which accounts."""
    rng = random.Random(seed)
    accounts = max(100, rows // 20)
    balances = {account: _cents(rng.lognormvariate(7, 1)) for account in range(1, accounts + 1)}
    wrong: dict[date, dict[int, Decimal]] = {}
    with psycopg.connect(url) as bank, bank.cursor() as cursor:
        cursor.execute(TABLES)
        with cursor.copy("COPY accounts FROM STDIN") as copy:
            for account in balances:
                copy.write_row((account, f"Holder {account}"))
        numbers = itertools.count(1)
        for day in (FIRST_DAY + timedelta(days=each) for each in range(days)):
            opening = dict(balances)
            with cursor.copy("COPY transactions FROM STDIN") as copy:
                for number in itertools.islice(numbers, rows // days):
                    kind = rng.choices(list(KINDS), KIND_WEIGHTS)[0]
                    sign, size = KINDS[kind]
                    account, amount = (
                        rng.randrange(1, accounts + 1),
                        sign * _cents(rng.lognormvariate(size, 0.8)),
                    )
                    balances[account] += amount
                    copy.write_row((number, account, _moment(rng, day), amount, kind))
            wrong[day] = {
                account: _cents(rng.choice([0.01, -0.05, 250]))
                for account in rng.sample(range(1, accounts + 1), DIFFERENCES)
            }
            with cursor.copy("COPY balances FROM STDIN") as copy:
                for account, closing in balances.items():
                    copy.write_row((day, account, opening[account], closing + wrong[day].get(account, 0)))
        cursor.execute(INDEX)
    return wrong


def _cents(amount: float) -> Decimal:
    return Decimal(round(amount * 100)) / 100


def _moment(rng: random.Random, day: date) -> datetime:
    """Return a time of a banking day, which begins at 23:00 of the day before."""
    return datetime.combine(day, time()) + timedelta(hours=-1, seconds=rng.randrange(24 * 3600))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("url", help="an empty database: postgres://USER@HOST/DATABASE")
    options.add_argument("--rows", type=int, default=20_000)
    options.add_argument("--days", type=int, default=2)
    chosen = options.parse_args()
    wrong = write(chosen.url, rows=chosen.rows, days=chosen.days)
    print(f"{chosen.rows:,} transactions of {', '.join(map(str, wrong))}")


if __name__ == "__main__":
    main()
