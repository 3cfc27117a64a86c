"""A shop's database, and what a day of business does to it: customers, products, orders and their lines.

    python examples/warehouse/data.py postgres://localhost/shop --rows 20000     # as it is on the first evening
    python examples/warehouse/data.py postgres://localhost/shop --day 1          # a day later

Every table has `updated_at`, as tables that are to be read incrementally should: set with each change.
"""

import argparse
import random
from datetime import datetime, timedelta
from typing import Any

import psycopg

FIRST_EVENING = datetime(2026, 3, 1, 22)
CITIES = {
    "Berlin": "DE",
    "Hamburg": "DE",
    "Paris": "FR",
    "Lyon": "FR",
    "Seoul": "KR",
    "Busan": "KR",
    "Austin": "US",
    "Boston": "US",
}
CATEGORIES = ("books", "garden", "kitchen", "music", "toys")

TABLES = """
    DROP TABLE IF EXISTS customers, products, orders, order_lines;
    CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT, city TEXT, country TEXT, updated_at TIMESTAMP NOT NULL);
    CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT, category TEXT, price NUMERIC(10,2), updated_at TIMESTAMP NOT NULL);
    CREATE TABLE orders (
        id INTEGER PRIMARY KEY, customer INTEGER REFERENCES customers, ordered_at TIMESTAMP, status TEXT, updated_at TIMESTAMP NOT NULL
    );
    CREATE TABLE order_lines (
        id BIGINT PRIMARY KEY, "order" INTEGER REFERENCES orders, product INTEGER REFERENCES products, quantity INTEGER,
        price NUMERIC(10,2), updated_at TIMESTAMP NOT NULL
    );
"""
INDEXES = """
    CREATE INDEX ON customers (updated_at, id); CREATE INDEX ON products (updated_at, id);
    CREATE INDEX ON order_lines (updated_at, id); CREATE INDEX ON order_lines ("order");
"""


def write(url: str, *, rows: int, seed: int = 2026) -> None:
    """Make the tables anew, with so many order lines of the last hundred days."""
    rng = random.Random(seed)
    customers, products, orders = max(50, rows // 50), max(20, rows // 200), max(20, rows // 4)
    start = FIRST_EVENING - timedelta(days=100)

    def at() -> datetime:
        return start + timedelta(seconds=rng.randrange(100 * 24 * 3600))

    with psycopg.connect(url) as shop, shop.cursor() as cursor:
        cursor.execute(TABLES)
        _copy(
            cursor,
            "customers",
            (
                (id, f"Customer {id}", *rng.choice(list(CITIES.items())), at())
                for id in range(1, customers + 1)
            ),
        )
        _copy(cursor, "products", (
            (id, f"Product {id}", rng.choice(CATEGORIES), round(rng.lognormvariate(3, 1), 2) + 1, at()) for id in range(1, products + 1)
        ))  # fmt: skip
        times = sorted(at() for _ in range(orders))
        _copy(cursor, "orders", (
            (id, rng.randrange(1, customers + 1), at, "paid", at) for id, at in enumerate(times, 1)
        ))  # fmt: skip
        _copy(
            cursor,
            "order_lines",
            (_line(rng, id, 1 + (id - 1) * orders // rows, products, times) for id in range(1, rows + 1)),
        )
        cursor.execute(INDEXES)


def a_day_later(url: str, *, day: int, seed: int = 2026) -> None:
    """Do what business does in a day: new orders, returns, customers who move, prices that rise."""
    rng = random.Random(f"{seed}, day {day}")
    begin = FIRST_EVENING + timedelta(days=day - 1)
    with psycopg.connect(url) as shop, shop.cursor() as cursor:
        count = "SELECT (SELECT count(*) FROM customers), (SELECT count(*) FROM products), (SELECT max(id) FROM orders), (SELECT max(id) FROM order_lines)"
        customers, products, orders, lines = cursor.execute(count).fetchone() or (0, 0, 0, 0)
        new = max(5, orders // 100)
        times = sorted(begin + timedelta(seconds=rng.randrange(1, 20 * 3600)) for _ in range(new))
        cursor.execute(
            "INSERT INTO customers VALUES (%s, %s, 'Busan', 'KR', %s)", (customers + 1, "Somebody new", begin)
        )
        _copy(
            cursor,
            "orders",
            ((orders + n, rng.randrange(1, customers + 2), at, "paid", at) for n, at in enumerate(times, 1)),
        )
        _copy(cursor, "order_lines", (
            (lines + n, orders + 1 + (n - 1) // 4, rng.randrange(1, products + 1), rng.randrange(1, 4), 9.99, times[(n - 1) // 4])
            for n in range(1, 4 * new + 1)
        ))  # fmt: skip
        end = begin + timedelta(hours=21)
        returned = rng.sample(range(1, lines + 1), max(3, lines // 200))
        cursor.execute(
            "UPDATE order_lines SET quantity = 0, updated_at = %s WHERE id = ANY(%s)", (end, returned)
        )
        moved = rng.sample(range(1, customers + 1), max(2, customers // 100))
        cursor.execute(
            "UPDATE customers SET city = 'Lyon', country = 'FR', updated_at = %s WHERE id = ANY(%s)",
            (end, moved),
        )
        dearer = rng.sample(range(1, products + 1), max(2, products // 50))
        cursor.execute(
            "UPDATE products SET price = price + 1, updated_at = %s WHERE id = ANY(%s)", (end, dearer)
        )


def _line(rng: random.Random, id: int, order: int, products: int, times: list[datetime]) -> tuple[Any, ...]:
    return (
        id,
        order,
        rng.randrange(1, products + 1),
        rng.choice([1, 1, 1, 2, 3]),
        round(rng.lognormvariate(3, 1), 2),
        times[order - 1],
    )


def _copy(cursor: Any, table: str, rows: Any) -> None:
    with cursor.copy(f"COPY {table} FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("url", help="an empty database: postgres://USER@HOST/DATABASE")
    options.add_argument("--rows", type=int, default=20_000, help="order lines")
    options.add_argument(
        "--day",
        type=int,
        help="let this day of business pass, 1 being the first, instead of making the tables",
    )
    chosen = options.parse_args()
    if chosen.day is not None:
        a_day_later(chosen.url, day=chosen.day)
        print(f"day {chosen.day} has passed")
    else:
        write(chosen.url, rows=chosen.rows)
        print(f"{chosen.rows:,} order lines")


if __name__ == "__main__":
    main()
