"""The documents are true: their examples run, their links lead somewhere, every public name is explained."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import pkgutil
import re
from pathlib import Path

import pytest

import bourne

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def python_blocks(page: Path) -> list[tuple[str, str | None]]:
    """Return each Python block with the text block right after it, if one is there."""
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [
        (code, after[1] if after[0] == "text" else None)
        for (kind, code), after in zip(blocks, [*blocks[1:], ("", "")], strict=False)
        if kind == "python"
    ]


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)], ids=lambda page: page.name)
def test_examples_run_and_print_what_the_page_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for code, expected in python_blocks(page):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, page.name, "exec"), names)
        if expected is not None:
            assert out.getvalue().strip() == expected.strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_public_name_is_in_the_api_page():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    names = [name for name in bourne.__all__ if name != "__version__"]
    members = [name for name in vars(bourne.Instance) if not name.startswith("_")]
    methods = [f"{name}(" for name in members if callable(getattr(bourne.Instance, name))]
    assert not [name for name in [*names, *methods] if name not in page]


def test_every_path_that_architecture_names_exists():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for room in re.findall(r"^\| `([a-z_/]+)/` \|", text, re.MULTILINE):
        assert (ROOT / "src" / "bourne" / room).is_dir(), room
    for path in re.findall(r"`((?:tests|docs)/[a-z_/.]+)`", text):
        assert (ROOT / path).exists(), path


def test_docstring_examples():
    modules = [name for _, name, _ in pkgutil.walk_packages(bourne.__path__, "bourne.")]
    attempted = 0
    for name in ["bourne", *modules]:
        result = doctest.testmod(importlib.import_module(name))
        assert result.failed == 0, name
        attempted += result.attempted
    assert attempted > 0


def test_every_module_says_what_it_is():
    for path in (ROOT / "src" / "bourne").rglob("*.py"):
        assert path.read_text(encoding="utf-8").startswith('"""'), path
