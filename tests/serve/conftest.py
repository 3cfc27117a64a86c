"""Browsers get as long as it takes on a machine that has much else to do."""

from __future__ import annotations

from playwright.sync_api import expect

expect.set_options(timeout=30_000)
