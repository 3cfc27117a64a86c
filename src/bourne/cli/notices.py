"""Shows Bourne's own warnings as notices on standard error, calmly: one line each, no place in a file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from bourne.errors import GrowingState


@contextmanager
def calm_warnings() -> Iterator[None]:
    """Say of what grows for ever in one line; all other warnings look as usual. Keeps the filters that are set."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(
            message: Warning | str, category: type[Warning], filename: str, lineno: int,
            file: TextIO | None = None, line: str | None = None,
        ) -> None:  # fmt: skip
            if issubclass(category, GrowingState):
                console.print(Text.assemble(("note: ", "bold yellow"), str(message)))
            else:
                usual(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield
