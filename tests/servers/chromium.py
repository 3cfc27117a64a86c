"""The system's Chromium, driven by Playwright: a real browser for what people see."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_NAMES = ("chromium", "chromium-browser", "google-chrome")


def find() -> str | None:
    """Return where the program is; None if it is not installed."""
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


def install() -> bool:
    """Install it with a font that knows Korean and emoji, if this is Debian's kind of system and we are its root."""
    if find() is None and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        packages = ["chromium", "fonts-noto-cjk", "fonts-noto-color-emoji", "fonts-dejavu-core"]
        for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
            subprocess.run(
                ["apt-get", "-qq", *command], env=environment, stdout=subprocess.DEVNULL, check=False
            )
    return find() is not None


@pytest.fixture(scope="module")  # while Playwright runs, nothing else in its thread can use asyncio
def browser() -> Iterator[Browser]:
    """A browser without a window."""
    program = find()
    if program is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            "Chromium is not installed: apt-get install chromium"
        )
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  (slow to load)

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page in a profile of its own. What it cannot handle, and what it writes as an error, fails the test."""
    context = browser.new_context(reduced_motion="reduce", locale="en-GB", timezone_id="UTC")
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    context.close()
    assert not errors, errors
