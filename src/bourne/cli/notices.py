"""Shows warnings, and what sources and sinks wait for, calmly: one line each, no place in a file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from bourne.errors import GrowingState

if TYPE_CHECKING:
    from rich.console import Console

    from bourne.connect.states import SinkState, SourceState


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


def tell_state(console: Console, state: SourceState | SinkState) -> None:
    """Say of a source or sink what somebody should know who looks at nothing but the terminal."""
    if state.state in ("waiting", "failed"):
        verb = "waits" if state.state == "waiting" else "has failed"
        console.print(f"{state.name} {verb}: {state.error}", soft_wrap=True, markup=False)
