"""The app of test_kill_connectors.py: a table's changes through two views to a sink of each kind of server."""

from __future__ import annotations

import os

import bourne

app = bourne.App("shop")
app.source(os.environ["CHAOS_SOURCE"], into="orders")
app.view("spend", "SELECT who, sum(amount) AS total, count(*) AS n FROM orders GROUP BY who")
app.view("large", "SELECT id, who, amount FROM orders WHERE amount > 20")
app.sink("spend", os.environ["CHAOS_POSTGRES"], key="who")
app.sink("spend", os.environ["CHAOS_REDIS"], key="who")
app.sink("spend", os.environ["CHAOS_KAFKA"], key="who")
app.sink("large", os.environ["CHAOS_PARQUET"])
app.sink("large", os.environ["CHAOS_LARGE"], key="id")
