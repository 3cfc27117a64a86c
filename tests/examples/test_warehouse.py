"""The star schema is, each night, what PostgreSQL makes of the shop's tables at once; and later nights read only what changed."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from examples.example import bourne_jobs, data_of

data = data_of("warehouse")

# What each table of the star schema should hold, in PostgreSQL's own words over the shop's tables.
STAR = {
    "SELECT id, name, city, country FROM dim_customer": "SELECT id, name, city, country FROM customers",
    "SELECT id, name, category FROM dim_product": "SELECT id, name, category FROM products",
    "SELECT id, day, customer, product, quantity, price, amount FROM fact_sales": """
        SELECT l.id, o.ordered_at::date, o.customer, l.product, l.quantity, l.price, l.quantity * l.price
        FROM order_lines l JOIN orders o ON o.id = l."order\"""",
    "SELECT count(*), min(day), max(day), sum(is_weekend::int) FROM dim_day": """
        SELECT 3653, DATE '2020-01-01', DATE '2029-12-31', (SELECT count(*) FROM generate_series(DATE '2020-01-01', '2029-12-31', '1 day')
            AS days(day) WHERE extract(isodow FROM day) IN (6, 7))""",
}


def check_star(database: str) -> None:
    with psycopg.connect(database) as connection:
        for found, expected in STAR.items():
            for one, other in ((found, expected), (expected, found)):
                differs = connection.execute(
                    f"SELECT * FROM (({one}) EXCEPT ALL ({other})) AS d LIMIT 3"
                ).fetchall()
                assert differs == [], f"{one}\n  but not in\n{other}"


def read(said: str, step: str) -> int:
    """Return how many rows a step says that it read."""
    found = re.search(rf"{step}: COMPLETED, ([\d,]+) read", said)
    assert found is not None, said
    return int(found[1].replace(",", ""))


def check_nights(folder: Path, database: str, *, rows: int, nights: int) -> None:
    data.write(database, rows=rows)
    places = {"SHOP": database, "WAREHOUSE": database}
    said = bourne_jobs(folder, "warehouse", "load", "night=2026-03-01", **places)
    assert read(said, "fact_sales") == rows
    check_star(database)
    for night in range(1, nights):
        data.a_day_later(database, day=night)
        said = bourne_jobs(folder, "warehouse", "load", f"night=2026-03-{1 + night:02}", **places)
        assert 0 < read(said, "fact_sales") < rows * 0.1
        assert 0 < read(said, "dim_customer") < rows // 50 * 0.1
        check_star(database)


def test_a_full_and_an_incremental_night(tmp_path, database):
    check_nights(tmp_path, database, rows=10_000, nights=2)


def test_a_sale_of_nobody_is_noticed(tmp_path, database):
    data.write(database, rows=400)
    with psycopg.connect(database) as shop:
        shop.execute("ALTER TABLE orders DROP CONSTRAINT orders_customer_fkey")
        shop.execute("UPDATE orders SET customer = 999999 WHERE id = 1")
    places = {"SHOP": database, "WAREHOUSE": database}
    said = bourne_jobs(tmp_path, "warehouse", "load", "night=2026-03-01", status=12, **places)
    assert "no orphans" in said and "'customer': 999999" in said


@pytest.mark.long
def test_a_million_sales_and_three_nights(tmp_path, database):
    check_nights(tmp_path, database, rows=1_000_000, nights=3)
