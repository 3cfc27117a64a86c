"""A bank's end of day, at 23:00: extract the day's transactions, reconcile them with the balances, report, load.

BANK=postgres://… LEDGER=postgres://… bourne jobs start examples/bank_end_of_day/app.py end_of_day day=2026-03-02
"""

from datetime import date
from pathlib import Path

import bourne
from bourne.batch import by_range, check, chunk, cron, query, records, task, view, window

app = bourne.App("bank")
app.pool("bank", most=2)  # connections, over all jobs: the bank has customers, too

# By key: a day that is extracted again, because the bank has corrected it, counts once.
app.log("transactions", key="id", changes="upsert", schema={
    "id": "bigint not null", "day": "date", "account": "integer", "amount": "decimal(14,2)", "kind": "varchar",
})  # fmt: skip
app.log("balances", key="id", changes="upsert", schema={
    "id": "varchar not null", "day": "date", "account": "integer", "opening": "decimal(14,2)", "closing": "decimal(14,2)",
})  # fmt: skip

app.view(
    "turnover",
    "SELECT day, account, count(*) AS transactions, sum(amount) AS amount FROM transactions GROUP BY day, account",
)
app.view("reconciled", """
    SELECT b.id, b.day, b.account, b.opening, b.closing, coalesce(t.transactions, 0) AS transactions,
        (b.closing - b.opening - coalesce(t.amount, 0))::DECIMAL(18,2) AS difference
    FROM balances b LEFT JOIN turnover t ON t.day = b.day AND t.account = b.account""")  # fmt: skip
app.view(
    "settled", "SELECT id, day, account, opening, closing, transactions FROM reconciled WHERE difference = 0"
)
app.view(
    "differences",
    "SELECT day, account, opening, closing, transactions, difference FROM reconciled WHERE difference <> 0",
)


@app.job
def end_of_day(day: date, *, reports: str = ".", differences_max: int = 10):
    """Reconcile a day. Report what differs; load what fits, unless so much differs that something else must be wrong."""
    booked = f"""
        SELECT id, DATE '{day}' AS day, account, amount, kind FROM transactions
        WHERE booked_at >= TIMESTAMP '{day} 23:00' - INTERVAL '1 day' AND booked_at < TIMESTAMP '{day} 23:00'"""
    told = f"SELECT day || '/' || account AS id, day, account, opening, closing FROM balances WHERE day = '{day}'"
    transactions = chunk(
        "transactions", read=query("${BANK}", booked, key="id"), write="log:transactions",
        partition=by_range("id", count=4), workers=2, pools="bank",
    )  # fmt: skip
    balances = chunk(
        "balances", read=query("${BANK}", told, key="account"), write="log:balances", pools="bank"
    )
    report = chunk(
        "report", read=records("differences"), process=f"SELECT * FROM input WHERE day = DATE '{day}'",
        write=f"{reports}/differences-{day}.csv", mode="replace",
    )  # fmt: skip
    few = check("few differences", f"""
        SELECT day, count(*) AS accounts FROM differences GROUP BY day HAVING count(*) > {differences_max}""")  # fmt: skip
    load = chunk("load", read=records("settled"), write="${LEDGER}?table=settled", key="id")
    hold = task("hold", Path(reports, f"on-hold-{day}").touch)
    return [
        [transactions, balances] >> view("settled") >> view("differences") >> report >> few,
        few.on("COMPLETED") >> load,
        few.on("FAILED") >> hold,
    ]


app.schedule(
    end_of_day, cron("0 23 * * *", zone="Europe/Berlin"), params=lambda at: {"day": at.date()},
    window=window("23:00", "05:00", zone="Europe/Berlin"), misfire="all",
)  # fmt: skip
