"""A shop's clicks, a Parquet file a day, and its orders, in PostgreSQL: who looks at one thing of a kind buys others of it.

    python examples/recommendations/data.py postgres://localhost/shop --rows 20000

Users like a few of `KINDS` kinds of items, so that what should be recommended is known: items of the same kind.
"""

import argparse
import random
from datetime import date, datetime, time, timedelta
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

FIRST_DAY = date(2026, 3, 1)
KINDS = 20
CLICKS_PER_USER = 20

TABLES = """
    DROP TABLE IF EXISTS orders;
    CREATE TABLE orders (id BIGINT PRIMARY KEY, user_id INTEGER NOT NULL, item INTEGER NOT NULL, ordered_at TIMESTAMP NOT NULL);
"""


def write(folder: Path, url: str, *, rows: int, days: int = 2, seed: int = 2026) -> None:
    """Write about so many clicks into `FOLDER/DAY.parquet`, and an order for each tenth into the table `orders`, made anew."""
    rng = random.Random(seed)
    users, items = max(20, rows // CLICKS_PER_USER), max(100, min(2_000, rows // 100))
    likes = [rng.sample(range(KINDS), 2) for _ in range(users)]
    folder.mkdir(parents=True, exist_ok=True)
    order = 0
    with psycopg.connect(url) as shop, shop.cursor() as cursor:
        cursor.execute(TABLES)
        for day in (FIRST_DAY + timedelta(days=number) for number in range(days)):
            clicks = [_click(rng, day, likes, items) for _ in range(rows // days)]
            columns = dict(
                zip(("user_id", "item", "clicked_at"), map(list, zip(*clicks, strict=True)), strict=True)
            )
            pq.write_table(pa.table(columns), folder / f"{day}.parquet")
            with cursor.copy("COPY orders FROM STDIN") as copy:
                for user, item, at in rng.sample(clicks, len(clicks) // 10):
                    order += 1
                    copy.write_row((order, user, item, at))


def _click(rng: random.Random, day: date, likes: list[list[int]], items: int) -> tuple[int, int, datetime]:
    user = int(rng.triangular(0, len(likes), 0))  # some users come often
    kind = rng.choice(likes[user]) if rng.random() < 0.9 else rng.randrange(KINDS)
    nth = min(int(rng.expovariate(6 * KINDS / items)), items // KINDS - 1)  # some items are popular
    return (
        user,
        nth * KINDS + kind,
        datetime.combine(day, time()) + timedelta(seconds=rng.randrange(24 * 3600)),
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("url", help="an empty database: postgres://USER@HOST/DATABASE")
    options.add_argument("--rows", type=int, default=20_000)
    options.add_argument("--days", type=int, default=2)
    options.add_argument("--to", type=Path, default=Path("clicks"))
    chosen = options.parse_args()
    write(chosen.to, chosen.url, rows=chosen.rows, days=chosen.days)
    print(f"{chosen.rows:,} clicks of {chosen.days} days in {chosen.to}, {chosen.rows // 10:,} orders")


if __name__ == "__main__":
    main()
