"""The test kit as a whole: its names are on the page that explains them."""

from __future__ import annotations

from pathlib import Path

import bourne.testing

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")


def test_every_name_of_the_kit_is_explained():
    section = PAGE.split("## Test: `bourne.testing`\n")[1].split("\n## ")[0]
    assert not [name for name in bourne.testing.__all__ if f"`{name}" not in section]
