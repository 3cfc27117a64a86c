"""The faulty files do what they say: fail on time, and forget what was not synced."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from bourne.ports import write_durably
from bourne.testing import FaultyFiles


def _write(files: FaultyFiles, descriptor: int, data: bytes, position: int = 0) -> None:
    files.write(descriptor, [memoryview(data)], position)


def test_calls_fail_by_kind_count_and_name(tmp_path: Path) -> None:
    files = FaultyFiles()
    one, other = files.open(tmp_path / "one"), files.open(tmp_path / "other")
    files.fail("write", nth=2, error=errno.EIO, name="one", bytes_written=2)
    _write(files, one, b"aaaa")
    _write(files, other, b"aaaa")
    with pytest.raises(OSError, match="Input/output") as caught:
        _write(files, one, b"bbbb")
    assert caught.value.errno == errno.EIO
    assert (tmp_path / "one").read_bytes() == b"bbaa"
    _write(files, one, b"cccc")
    files.fail("sync", always=True)
    for _ in range(3):
        with pytest.raises(OSError, match="No space"):
            files.sync(one)
    files.heal()
    files.sync(one)
    assert files.calls[-1] == ("sync", "one")


def test_a_power_cut_forgets_what_was_not_synced(tmp_path: Path) -> None:
    files = FaultyFiles()
    path = tmp_path / "x"
    descriptor = files.open(path)
    files.sync_folder(tmp_path)
    _write(files, descriptor, b"kept")
    files.sync(descriptor)
    _write(files, descriptor, b"lost", 2)
    files.truncate(descriptor, 1)
    files.crash()
    assert path.read_bytes() == b"kept"
    with pytest.raises(OSError, match="gone"):
        _write(files, descriptor, b"z")
    files.close(descriptor)


def test_names_that_were_not_synced_are_forgotten_too(tmp_path: Path) -> None:
    files = FaultyFiles()
    write_durably(files, tmp_path / "x", b"old")
    descriptor = files.open(tmp_path / "new")
    _write(files, descriptor, b"new")
    files.sync(descriptor)
    files.close(descriptor)
    files.remove(tmp_path / "x")
    files.replace(tmp_path / "new", tmp_path / "y")
    files.crash()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"x": b"old"}


def test_a_seed_keeps_arbitrary_parts_and_always_the_same(tmp_path: Path) -> None:
    outcomes = []
    for seed in [*range(30), *range(30)]:
        path = tmp_path / f"{len(outcomes)}"
        path.write_bytes(b"-" * 2000)
        files = FaultyFiles()
        descriptor = files.open(path)
        _write(files, descriptor, b"x" * 1500, 300)
        files.crash(seed)
        files.close(descriptor)
        outcomes.append(path.read_bytes())
    assert outcomes[:30] == outcomes[30:]
    assert {b"-" * 2000, b"-" * 300 + b"x" * 1500 + b"-" * 200} < set(outcomes)
    assert len(set(outcomes)) > 6
    assert all(len(outcome) == 2000 for outcome in outcomes)


def test_a_failed_sync_is_not_made_good_by_the_next(tmp_path: Path) -> None:
    files = FaultyFiles()
    path = tmp_path / "x"
    path.write_bytes(b"old")
    descriptor = files.open(path)
    _write(files, descriptor, b"new")
    files.fail("sync", error=errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        files.sync(descriptor)
    files.sync(descriptor)
    assert path.read_bytes() == b"new"
    files.crash()
    assert path.read_bytes() == b"old"
    files.close(descriptor)


def test_nothing_in_bourne_imports_the_kit() -> None:
    package = Path(write_durably.__code__.co_filename).parent
    sources = [path for path in package.rglob("*.py") if path.parent.name != "testing"]
    assert len(sources) > 5
    assert [path for path in sources if "bourne.testing" in path.read_text()] == []


def test_a_folder_is_renamed_with_what_is_in_it(tmp_path):
    files = FaultyFiles()
    (tmp_path / "draft").mkdir()
    write_durably(files, tmp_path / "draft" / "a", b"content")
    files.replace(tmp_path / "draft", tmp_path / "done")
    files.crash()
    assert (tmp_path / "done" / "a").read_bytes() == b"content"
