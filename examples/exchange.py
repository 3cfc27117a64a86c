"""Purchases in many currencies, each converted at the rate of its own moment, also when rates come late.

    python examples/exchange.py --data exchange-data

A day of purchases and exchange rates, made up but always the same, arrive in the order in which a network would deliver
them: rates up to a minute late. Two views convert them. One shows each purchase at once and corrects it when a better rate
comes; the other waits until no better one can come, and then never changes its mind.
"""

import argparse
import random

import pyarrow as pa

import bourne

PURCHASES, RATES = 50_000, 5_000
DAY_US, START_US = 24 * 3600 * 1_000_000, 1_767_225_600_000_000  # 2026-01-01
CURRENCIES = {"USD": 0.92, "KRW": 0.00064, "JPY": 0.0058, "GBP": 1.17, "CHF": 1.06}
STEPS = 20

CONVERTED = """
    SELECT p.id, p.currency, p.amount * r.rate AS euros, p.at AS at
    FROM purchases p ASOF JOIN rates r ON p.currency = r.currency AND p.at >= r.at """

app = bourne.App("exchange")
app.log(
    "purchases",
    schema={"id": "bigint", "currency": "varchar", "amount": "double", "at": "timestamp"},
    time="at",
)
app.log(
    "rates",
    schema={"currency": "varchar", "rate": "double", "at": "timestamp"},
    time="at",
    watermark="1 minute",
)
app.view("converted", CONVERTED + "EMIT CHANGES LATENESS INTERVAL '1 minute'")
app.view("settled", CONVERTED + "EMIT FINAL")
app.view(
    "per_hour",
    """SELECT currency, window_start, sum(euros) AS euros, count(*) AS purchases
       FROM TUMBLE(settled, at, INTERVAL '1 hour') GROUP BY currency, window_start, window_end EMIT FINAL""",
)


def purchases(rng: random.Random) -> pa.Table:
    """Return the purchases of the day in order."""
    times = sorted(rng.randrange(DAY_US) for _ in range(PURCHASES))
    return pa.table({
        "id": range(PURCHASES),
        "currency": rng.choices(list(CURRENCIES), k=PURCHASES),
        "amount": [round(rng.lognormvariate(3, 1), 2) for _ in times],
        "at": pa.array([START_US + time for time in times], pa.timestamp("us")),
    })  # fmt: skip


def rates(rng: random.Random) -> pa.Table:
    """Return the rates of the day in the order in which they come: up to a minute late. At midnight there is one of each."""
    rows = [(currency, rate, 0, 0) for currency, rate in CURRENCIES.items()]
    for _ in range(RATES - len(CURRENCIES)):
        currency, time = rng.choice(list(CURRENCIES)), rng.randrange(1, DAY_US)
        rows.append(
            (currency, CURRENCIES[currency] * rng.uniform(0.97, 1.03), time, time + rng.randrange(60_000_000))
        )
    rows.sort(key=lambda row: row[3])
    times = pa.array([START_US + row[2] for row in rows], pa.timestamp("us"))
    return pa.table({"currency": [row[0] for row in rows], "rate": [row[1] for row in rows], "at": times})


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--data", default="exchange-data", help="the data folder")
    rng = random.Random(2026)
    bought, quoted = purchases(rng), rates(rng)
    with bourne.open(app, data=options.parse_args().data) as exchange:
        print(f"{PURCHASES:,} purchases, {RATES:,} rates")
        for step in range(STEPS):
            for name, table in (("purchases", bought), ("rates", quoted)):
                share = -(-table.num_rows // STEPS)
                exchange.append(name, table.slice(step * share, share), request_id=f"step {step}")
            exchange.catch_up()
        shown = {view.name: view.rows for view in exchange.status().views}
        print(f"shown at once: {shown['converted']:,}, settled: {shown['settled']:,}")
        exchange.catch_up(final=True)  # the day is over
        shown = {view.name: view.rows for view in exchange.status().views}
        print(f"in the end:    {shown['converted']:,}, settled: {shown['settled']:,}")
        print(
            exchange.query(
                "SELECT currency, round(sum(euros)) AS euros, sum(purchases)::BIGINT AS n FROM per_hour GROUP BY ALL ORDER BY 1"
            )
        )


if __name__ == "__main__":
    main()
