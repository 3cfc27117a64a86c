"""What is recommended is what NumPy's matrices say of the same clicks and orders; Redis and PostgreSQL hold the same."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow.parquet as pq
import pytest

from examples.example import bourne_jobs, data_of

data = data_of("recommendations")
DAYS = 2

Similar = dict[int, list[tuple[int, float]]]


def events(folder: Path, database: str) -> list[tuple[int, int, int, Any]]:
    """Return users, items, weights and times of all days."""
    clicks = pq.read_table(folder / "clicks").to_pydict()
    with psycopg.connect(database) as shop:
        orders = shop.execute("SELECT user_id, item, 5, ordered_at FROM orders").fetchall()
    clicked = zip(
        clicks["user_id"], clicks["item"], [1] * len(clicks["item"]), clicks["clicked_at"], strict=True
    )
    return [*clicked, *orders]


def similar_by_matrices(folder: Path, database: str) -> Similar:
    """Return the ten most similar items of each, and how similar, by products of matrices."""
    likes: dict[int, dict[int, tuple[int, Any]]] = {}
    for user, item, weight, at in events(folder, database):
        of_user = likes.setdefault(user, {})
        known = of_user.get(item, (0, at))
        of_user[item] = (max(weight, known[0]), max(at, known[1]))
    items = sorted({item for of_user in likes.values() for item in of_user})
    place = {item: number for number, item in enumerate(items)}
    products, users = np.zeros((len(items), len(items))), np.zeros((len(items), len(items)))
    rows = list(likes.values())
    for begin in range(0, len(rows), 4_000):
        weights = np.zeros((len(rows[begin : begin + 4_000]), len(items)), dtype=np.float32)
        for row, of_user in enumerate(rows[begin : begin + 4_000]):
            by_age = sorted(of_user.items(), key=lambda like: like[0])
            newest = sorted(by_age, key=lambda like: like[1][1], reverse=True)[:50]
            for item, (weight, _) in newest:
                weights[row, place[item]] = weight
        products += weights.T @ weights
        users += (weights > 0).T.astype(np.float32) @ (weights > 0).astype(np.float32)
    norms = np.sqrt(np.diag(products))
    found: Similar = {}
    for row, item in enumerate(items):
        others = [column for column in np.flatnonzero(users[row] >= 3) if column != row]
        scored = [
            (items[column], round(products[row, column] / (norms[row] * norms[column]), 4))
            for column in others
        ]
        if scored:
            found[item] = sorted(scored, key=lambda each: (-each[1], each[0]))[:10]
    return found


def check_nights(folder: Path, database: str, redis: Any, *, rows: int, number: int) -> None:
    data.write(folder / "clicks", database, rows=rows, days=DAYS)
    places = {"SHOP": database, "CACHE": f"redis://127.0.0.1:{redis.port}/{number}"}
    for day in (data.FIRST_DAY + timedelta(days=each) for each in range(DAYS)):
        bourne_jobs(folder, "recommendations", "recommend", f"day={day}", **places)
    expected = similar_by_matrices(folder, database)
    with psycopg.connect(database) as shop:
        held: Similar = {}
        for item, other, score in shop.execute(
            "SELECT item, other, score FROM recommended ORDER BY item, rank"
        ):
            held.setdefault(item, []).append((other, score))
    assert held == expected
    client = redis.client(db=number)
    cached = {
        item: [(each["other"], each["score"]) for each in json.loads(client.get(f"similar:{item}"))["others"]]
        for item in expected
    }
    assert cached == expected
    best = [item % data.KINDS == others[0][0] % data.KINDS for item, others in expected.items()]
    assert sum(best) / len(best) > 0.5  # by chance it would be a twentieth


def test_two_nights_recommend_what_matrices_say(tmp_path, database, redis):
    check_nights(tmp_path, database, redis, rows=10_000, number=14)


@pytest.mark.long
def test_a_million_clicks(tmp_path, database, redis):
    check_nights(tmp_path, database, redis, rows=1_000_000, number=15)
