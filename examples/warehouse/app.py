"""A data warehouse: a shop's PostgreSQL into a star schema, in full the first night, and then what has changed.

SHOP=postgres://… WAREHOUSE=postgres://… bourne jobs start examples/warehouse/app.py load night=2026-03-01
"""

from datetime import date

import bourne
from bourne.batch import check, chunk, cron, query, window

app = bourne.App("warehouse")
app.pool("shop", most=2)  # connections, over all jobs: the shop has customers, too

CUSTOMERS = "SELECT id, name, city, country, updated_at FROM customers"
PRODUCTS = "SELECT id, name, category, updated_at FROM products"
SALES = """
    SELECT l.id, o.ordered_at::date AS day, o.customer, l.product, l.quantity, l.price, l.updated_at
    FROM order_lines l JOIN orders o ON o.id = l."order\""""
DAYS = """
    SELECT day::date AS day, extract(year FROM day)::int AS year, extract(month FROM day)::int AS month,
        extract(isodow FROM day)::int AS weekday, extract(isodow FROM day) > 5 AS is_weekend
    FROM generate_series(DATE '2020-01-01', DATE '2029-12-31', INTERVAL '1 day') AS days(day)"""


def changed(name: str, sql: str, process: str):
    """Take what has changed since the last night, and a little more, as transactions may have committed late."""
    return chunk(
        name, read=query("${SHOP}", sql, key="id"), since="updated_at", overlap="10 minutes", process=process,
        write=f"${{WAREHOUSE}}?table={name}", key="id", pools="shop",
    )  # fmt: skip


@app.job
def load(night: date):
    """Bring the star schema up to date: first what the facts point to, then the facts."""
    days = chunk(
        "dim_day",
        read=query("${WAREHOUSE}", DAYS, key="day"),
        write="${WAREHOUSE}?table=dim_day",
        mode="replace",
    )
    customers = changed("dim_customer", CUSTOMERS, "SELECT * EXCLUDE updated_at FROM input")
    products = changed("dim_product", PRODUCTS, "SELECT * EXCLUDE updated_at FROM input")
    sales = changed("fact_sales", SALES, "SELECT * EXCLUDE updated_at, quantity * price AS amount FROM input")
    orphans = check("no orphans", query("${WAREHOUSE}", """
        SELECT f.id, f.day, f.customer, f.product FROM fact_sales f
        LEFT JOIN dim_day d ON d.day = f.day LEFT JOIN dim_customer c ON c.id = f.customer LEFT JOIN dim_product p ON p.id = f.product
        WHERE d.day IS NULL OR c.id IS NULL OR p.id IS NULL""", key="id"))  # fmt: skip
    return [days, customers, products] >> sales >> orphans


app.schedule(
    load, cron("0 1 * * *", zone="Europe/Berlin"), params=lambda at: {"night": at.date()},
    window=window("01:00", "06:00", zone="Europe/Berlin"),
)  # fmt: skip
