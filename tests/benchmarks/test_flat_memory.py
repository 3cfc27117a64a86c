"""The run that shows flat memory, short: what is closed is forgotten, and the page says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import flat_memory


def test_state_stays_flat_while_event_time_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flat_memory, "_CHUNK", 20_000)
    marks = flat_memory.measure(tmp_path / "data", 1_000_000)
    assert len(marks) == 10
    for name in flat_memory.VIEWS:
        sizes = [mark.rows[name] for mark in marks]
        assert max(sizes[5:]) <= 2 * max(sizes[:5])
    assert marks[-1].rows["pairs"] < 20_000
    assert "1,000,000 events" in flat_memory.page(marks, 1_000_000)
