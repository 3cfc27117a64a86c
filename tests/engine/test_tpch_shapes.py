"""Questions of a shop's warehouse, in the shapes of TPC-H: stars, correlated subqueries, EXISTS and IN in all their forms.

The rows are few and their values meet often, so that groups appear, change and vanish; references that lead nowhere and
NULLs are among them. Each query is a view over several logs that equals DuckDB's answer after each step, whichever log's
records come first.
"""

from __future__ import annotations

import datetime
import decimal
import functools
import random
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import bourne
from bourne.errors import NotMaintainable
from bourne.schema import declare_schema
from engine.oracle import Rows, ask_duckdb, difference, rows_of, table_of

# A view of them is refused; one that is accepted fails its test here, so that the set shrinks.
NOT_YET: set[str] = set()

SCHEMAS = {
    "regions": {"region": "integer", "name": "varchar"},
    "nations": {"nation": "integer", "region": "integer", "name": "varchar"},
    "suppliers": {"supplier": "integer", "nation": "integer", "balance": "decimal(9,2)"},
    "parts": {"part": "integer", "brand": "varchar", "size": "integer"},
    "offers": {"part": "integer", "supplier": "integer", "cost": "decimal(9,2)", "available": "integer"},
    "customers": {"customer": "integer", "nation": "integer", "segment": "varchar", "balance": "decimal(9,2)"},
    "orders": {
        "id": "integer", "customer": "integer", "status": "varchar", "day": "date", "priority": "integer",
        "comment": "varchar",
    },
    "items": {
        "id": "integer", "line": "integer", "part": "integer", "supplier": "integer", "quantity": "integer",
        "price": "decimal(9,2)", "discount": "decimal(3,2)", "shipped": "date", "due": "date", "received": "date",
    },
}  # fmt: skip
DECLARED = {name: declare_schema(schema, where=name) for name, schema in SCHEMAS.items()}

QUERIES = {
    "exists": """
        SELECT priority, count(*) AS orders FROM orders o
        WHERE EXISTS (SELECT * FROM items i WHERE i.id = o.id AND i.due < i.received)
        GROUP BY priority""",
    "not exists": """
        SELECT c.customer, c.segment FROM customers c
        WHERE NOT EXISTS (SELECT * FROM orders o WHERE o.customer = c.customer AND o.status = 'done')""",
    "scalar, correlated": """
        SELECT i.id, i.line, i.price FROM items i
        WHERE i.price > (SELECT avg(j.price) FROM items j WHERE j.part = i.part)""",
    "cheapest supplier": """
        SELECT p.part, s.supplier, s.balance, n.name
        FROM parts p, offers f, suppliers s, nations n, regions r
        WHERE p.part = f.part AND s.supplier = f.supplier AND s.nation = n.nation AND n.region = r.region
            AND r.name = 'north' AND f.cost = (
                SELECT min(f2.cost) FROM offers f2, suppliers s2, nations n2, regions r2
                WHERE p.part = f2.part AND s2.supplier = f2.supplier AND s2.nation = n2.nation
                    AND n2.region = r2.region AND r2.name = 'north')""",
    "correlated with an aggregate of another table": """
        SELECT f.part, f.supplier FROM offers f
        WHERE f.available > (
            SELECT 0.5 * sum(i.quantity) FROM items i WHERE i.part = f.part AND i.supplier = f.supplier)""",
    "correlated count in the SELECT": """
        SELECT c.customer,
            (SELECT count(*) FROM orders o WHERE o.customer = c.customer) AS orders,
            (SELECT max(o.day) FROM orders o WHERE o.customer = c.customer AND o.status <> 'open') AS last_day
        FROM customers c""",
    "in": """
        SELECT o.id, o.day FROM orders o
        WHERE o.id IN (SELECT i.id FROM items i GROUP BY i.id HAVING sum(i.quantity) > 12)""",
    "not in, with NULLs": """
        SELECT s.supplier, s.nation FROM suppliers s
        WHERE s.nation NOT IN (SELECT c.nation FROM customers c WHERE c.balance < 0 AND c.customer < 24)""",
    "not in, without NULLs": """
        SELECT brand, size, count(DISTINCT f.supplier) AS suppliers
        FROM offers f JOIN parts p ON p.part = f.part
        WHERE brand <> 'acme' AND size IN (1, 2, 3, 5)
            AND f.supplier NOT IN (
                SELECT supplier FROM suppliers WHERE balance < 0 AND supplier IS NOT NULL)
        GROUP BY brand, size""",
    "in of pairs": """
        SELECT i.id, i.line FROM items i
        WHERE (i.part, i.supplier) NOT IN (SELECT f.part, f.supplier FROM offers f)""",
    "left join with count": """
        SELECT orders, count(*) AS customers
        FROM (
            SELECT c.customer, count(o.id) AS orders
            FROM customers c LEFT JOIN orders o ON c.customer = o.customer AND o.comment NOT LIKE '%special%'
            GROUP BY c.customer
        )
        GROUP BY orders""",
    "having over a subquery": """
        SELECT f.part, sum(f.cost * f.available) AS value
        FROM offers f JOIN suppliers s ON f.supplier = s.supplier
        GROUP BY f.part
        HAVING sum(f.cost * f.available) > (
            SELECT sum(f.cost * f.available) * 0.1 FROM offers f JOIN suppliers s ON f.supplier = s.supplier)""",
    "six inputs": """
        SELECT n.name, sum(i.price * (1 - i.discount)) AS revenue
        FROM customers c, orders o, items i, suppliers s, nations n, regions r
        WHERE c.customer = o.customer AND i.id = o.id AND i.supplier = s.supplier AND c.nation = s.nation
            AND s.nation = n.nation AND n.region = r.region AND r.name IN ('north', 'east')
            AND o.day >= DATE '2024-01-02'
        GROUP BY n.name""",
    "a table twice": """
        SELECT seller.name AS seller, buyer.name AS buyer, month(i.shipped) AS month, sum(i.price) AS volume
        FROM suppliers s
            JOIN items i ON s.supplier = i.supplier
            JOIN orders o ON o.id = i.id
            JOIN customers c ON c.customer = o.customer
            JOIN nations seller ON s.nation = seller.nation
            JOIN nations buyer ON c.nation = buyer.nation
        WHERE seller.nation <> buyer.nation
        GROUP BY ALL""",
    "market share": """
        SELECT o.day,
            sum(CASE WHEN n.name = 'Nation 1' THEN i.price ELSE 0 END) / nullif(sum(i.price), 0) AS share
        FROM parts p
            JOIN items i ON p.part = i.part
            JOIN suppliers s ON s.supplier = i.supplier
            JOIN nations n ON s.nation = n.nation
            JOIN orders o ON o.id = i.id
        WHERE p.size <= 4
        GROUP BY o.day""",
    "semi and anti": """
        SELECT c.customer, c.balance FROM customers c
        WHERE c.customer IN (SELECT o.customer FROM orders o WHERE o.priority = 1)
            AND NOT EXISTS (
                SELECT * FROM orders o JOIN items i ON o.id = i.id
                WHERE o.customer = c.customer AND i.discount > 0.05)""",
    "late suppliers": """
        SELECT s.supplier, count(*) AS waiting
        FROM suppliers s
            JOIN items one ON s.supplier = one.supplier
            JOIN orders o ON o.id = one.id
        WHERE o.status = 'done' AND one.received > one.due
            AND EXISTS (SELECT * FROM items other WHERE other.id = one.id AND other.supplier <> one.supplier)
            AND NOT EXISTS (
                SELECT * FROM items other
                WHERE other.id = one.id AND other.supplier <> one.supplier AND other.received > other.due)
        GROUP BY s.supplier""",
    "correlated with an inequality": """
        SELECT o.id, o.day FROM orders o
        WHERE NOT EXISTS (SELECT * FROM orders later WHERE later.customer = o.customer AND later.day > o.day)""",
    "correlated sum up to here": """
        SELECT o.id, (
            SELECT sum(i.quantity) FROM items i WHERE i.shipped <= o.day AND i.part = o.priority) AS shipped
        FROM orders o""",
    "average per part": """
        SELECT sum(i.price) / 7.0 AS yearly
        FROM items i JOIN parts p ON p.part = i.part
        WHERE p.brand = 'acme' AND i.quantity < (
            SELECT 1.2 * avg(j.quantity) FROM items j WHERE j.part = p.part)""",
    "large orders": """
        SELECT c.customer, o.id, o.day, sum(i.quantity) AS quantity
        FROM customers c, orders o, items i
        WHERE o.id IN (SELECT id FROM items GROUP BY id HAVING sum(quantity) > 10)
            AND c.customer = o.customer AND o.id = i.id
        GROUP BY c.customer, o.id, o.day
        ORDER BY quantity DESC, o.id, o.day, c.customer LIMIT 5""",
    "or of and": """
        SELECT sum(i.price * (1 - i.discount)) AS revenue, count(*) AS items
        FROM items i, parts p
        WHERE (p.part = i.part AND p.brand = 'acme' AND i.quantity BETWEEN 1 AND 4 AND p.size < 3)
            OR (p.part = i.part AND p.brand = 'bolt' AND i.quantity BETWEEN 2 AND 6 AND p.size < 5)
            OR (p.part = i.part AND p.brand = 'crux' AND i.quantity > 3)""",
    "in, in, correlated": """
        SELECT s.supplier FROM suppliers s JOIN nations n ON s.nation = n.nation
        WHERE n.region = 1 AND s.supplier IN (
            SELECT f.supplier FROM offers f
            WHERE f.part IN (SELECT p.part FROM parts p WHERE p.brand LIKE 'a%' OR p.brand LIKE 'b%')
                AND f.available > (
                    SELECT 0.1 * sum(i.quantity) FROM items i
                    WHERE i.part = f.part AND i.supplier = f.supplier))""",
    "idle and rich": """
        SELECT segment, count(*) AS customers, sum(balance) AS balance
        FROM customers c
        WHERE balance > (SELECT avg(balance) FROM customers WHERE balance > 0)
            AND NOT EXISTS (SELECT * FROM orders o WHERE o.customer = c.customer)
        GROUP BY segment""",
    "top supplier, by a CTE used twice": """
        WITH revenue AS (
            SELECT supplier, sum(price * (1 - discount)) AS total FROM items GROUP BY supplier
        )
        SELECT s.supplier, s.balance, r.total
        FROM suppliers s JOIN revenue r ON s.supplier = r.supplier
        WHERE r.total = (SELECT max(total) FROM revenue)""",
    "nested CTEs": """
        WITH big AS (
            SELECT id, sum(price) AS total FROM items GROUP BY id HAVING sum(price) > 50
        ), owners AS (
            SELECT o.customer, b.total FROM big b JOIN orders o ON o.id = b.id
        )
        SELECT one.customer, count(*) AS pairs, sum(other.total) AS total
        FROM owners one JOIN owners other ON one.customer = other.customer AND one.total <= other.total
        GROUP BY one.customer""",
    "union": """
        SELECT nation, 'buys' AS does, count(*) AS n FROM customers GROUP BY nation
        UNION ALL
        SELECT nation, 'sells', count(*) FROM suppliers GROUP BY nation
        UNION ALL
        SELECT NULL, status, count(*) FROM orders GROUP BY status""",
    "union, without doubles": """
        SELECT nation FROM customers WHERE balance > 15 UNION SELECT nation FROM suppliers WHERE balance > 15""",
    "except and intersect": """
        (SELECT part, supplier FROM offers EXCEPT SELECT part, supplier FROM items)
        UNION ALL
        (SELECT part, supplier FROM offers INTERSECT ALL SELECT part, supplier FROM items)""",
    "full join": """
        SELECT coalesce(c.nation, s.nation) AS nation, c.n AS customers, s.n AS suppliers
        FROM (SELECT nation, count(*) AS n FROM customers GROUP BY nation) c
            FULL JOIN (SELECT nation, count(*) AS n FROM suppliers GROUP BY nation) s ON c.nation = s.nation""",
    "rollup": """
        SELECT n.region, c.segment, count(*) AS orders, grouping(n.region, c.segment) AS level
        FROM orders o JOIN customers c ON o.customer = c.customer LEFT JOIN nations n ON c.nation = n.nation
        GROUP BY ROLLUP (n.region, c.segment)""",
    "best of each": """
        SELECT n.region, s.supplier, s.balance
        FROM suppliers s JOIN nations n ON s.nation = n.nation
        QUALIFY row_number() OVER (PARTITION BY n.region ORDER BY s.balance DESC, s.supplier) <= 2""",
    "greater than all": """
        SELECT p.part, p.size FROM parts p
        WHERE p.size >= ALL (SELECT q.size FROM parts q WHERE q.brand = p.brand)""",
    "equal to any, or NULL": """
        SELECT o.id, o.priority = ANY (SELECT p.size FROM parts p WHERE p.brand = 'acme') AS is_size
        FROM orders o""",
    "one row of totals": """
        SELECT
            (SELECT count(*) FROM orders) AS orders,
            (SELECT sum(price) FROM items WHERE discount > 0) AS discounted,
            (SELECT max(balance) FROM customers) AS richest""",
}  # fmt: skip

# Which part of which logs has come, in hundredths, step by step: facts before their dimensions, and the other way.
DIMENSIONS = ("regions", "nations", "suppliers", "parts", "customers")
FACTS = ("offers", "orders", "items")
STEPS = [
    (("items", "orders"), 10),
    (DIMENSIONS, 70),
    (FACTS, 60),
    (("customers", "suppliers", "items"), 90),
    ((*DIMENSIONS, *FACTS), 100),
]


@functools.cache
def warehouse() -> dict[str, pa.Table]:
    """Return the rows of all logs, always the same."""
    draw = random.Random(20240501)

    def some(value: Any, *, nulls: float = 0.06) -> Any:
        return None if draw.random() < nulls else value

    def cents(low: int, high: int) -> Any:
        return some(from_hundredths(draw.randint(low, high)))

    def day(first: int, last: int) -> Any:
        return some(datetime.date(2024, 1, 1) + datetime.timedelta(days=draw.randint(first, last)))

    def upto(high: int) -> Any:
        return some(draw.randint(1, high))

    rows: dict[str, list[tuple[Any, ...]]] = {
        "regions": [(1, "north"), (2, "east"), (3, None)],
        "nations": [(i, 1 + i % 2, some(f"Nation {i}")) for i in range(1, 7)],
        "suppliers": [(some(i), upto(7), cents(-900, 2000)) for i in range(1, 13)],
        "parts": [(i, some(draw.choice(["acme", "bolt", "crux"])), upto(6)) for i in range(1, 11)],
        "offers": [(upto(11), upto(13), cents(100, 900), upto(9)) for _ in range(40)],
        "customers": [
            (some(i), upto(7), draw.choice(["home", "work"]), cents(-1000, 3000)) for i in range(1, 31)
        ],
        "orders": [
            (i, upto(34), draw.choice(["open", "done"]), day(0, 5), upto(4),
             some(draw.choice(["special", "nothing", "a special one"])))
            for i in range(1, 71)
        ],
        "items": [
            (1 + number // 3, number % 3, upto(11), upto(13), upto(8), cents(100, 5000),
             some(from_hundredths(draw.choice([0, 0, 5, 10]))), day(0, 6), day(2, 6), day(2, 7))
            for number in range(190)
        ],
    }  # fmt: skip
    for found in rows.values():
        draw.shuffle(found)
        found.append(found[0])  # a double
    return {name: table_of(DECLARED[name], found) for name, found in rows.items()}


def from_hundredths(hundredths: int) -> decimal.Decimal:
    return decimal.Decimal(hundredths) / 100


def inputs_of(sql: str) -> list[str]:
    words = set(re.findall(r"\w+", sql))
    return [name for name in SCHEMAS if name in words]


def open_view(sql: str, folder: Path) -> bourne.Instance:
    app = bourne.App("warehouse")
    for name in inputs_of(sql):
        app.log(name, schema=SCHEMAS[name])
    app.view("answer", sql, grows=True)
    return bourne.open(app, data=folder)


def ask(sql: str, tables: dict[str, pa.Table]) -> Rows:
    """Return DuckDB's answer over these records."""
    return rows_of(ask_duckdb(sql, {name: (DECLARED[name], table) for name, table in tables.items()})[1])


@pytest.mark.parametrize("shape", QUERIES)
def test_view_equals_duckdb(shape: str, tmp_path: Path) -> None:
    sql = QUERIES[shape]
    if shape in NOT_YET:
        with pytest.raises(NotMaintainable):
            open_view(sql, tmp_path)
        return
    come = {name: warehouse()[name].slice(0, 0) for name in inputs_of(sql)}
    answers = []
    with open_view(sql, tmp_path) as instance:
        for number, (logs, hundredths) in enumerate(STEPS):
            for name in [name for name in come if name in logs]:
                table = warehouse()[name]
                until = table.num_rows * hundredths // 100
                instance.append(name, table.slice(come[name].num_rows, until - come[name].num_rows))
                come[name] = table.slice(0, until)
            instance.catch_up()
            answers.append(ask(sql, come))
            found = difference(rows_of(instance.query("FROM answer").to_arrow()), answers[-1])
            assert found is None, f"{shape} after step {number}: {found}"
    assert len({str(sorted(map(str, rows))) for rows in answers}) >= 3, "the answer changes"
    assert any(answers), "the answer is not always empty"
