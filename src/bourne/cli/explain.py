"""`bourne explain`: what a view does and costs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bourne.cli.options import DATA, Data, end_with_reader

if TYPE_CHECKING:
    from bourne.app import App
    from bourne.engine.explain import Explanation


class ExplainFormat(StrEnum):
    """What `--format` takes."""

    TEXT = "text"
    MERMAID = "mermaid"
    DOT = "dot"
    JSON = "json"


def explain(
    view: Annotated[str, typer.Argument(metavar="VIEW", help="The view to explain.")],
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="APP.py",
            help="The Python file that declares the app; by default as the data folder knows it.",
        ),
    ] = None,
    data: Data = DATA,
    kind: Annotated[
        ExplainFormat,
        typer.Option(
            "--format", help="text, json, or a picture of the graph: mermaid (a flowchart), dot (Graphviz)."
        ),
    ] = ExplainFormat.TEXT,
    name: Annotated[
        str | None, typer.Option("--app", metavar="NAME", help="Which app, if the file declares several.")
    ] = None,
) -> None:
    """Show what a view does: its plan, its operators, what each costs and remembers, and a picture of the graph.

    Needs no lock, and changes nothing: with APP.py it also tells of a view that is not there yet.
    """
    end_with_reader()
    import json
    from dataclasses import asdict

    import bourne

    if file is None:
        with bourne.open(data=data) as instance:
            found = instance.explain(view)
    else:
        from bourne.loading import load_app

        found = _explain_declared(load_app(file, name=name), view, data)
    if kind is ExplainFormat.JSON:
        print(json.dumps(asdict(found), indent=1, ensure_ascii=False))
    else:
        print({"text": found.text, "mermaid": found.mermaid, "dot": found.dot}[kind])


def _explain_declared(app: App, view: str, data: Path) -> Explanation:
    """Return what a view of an app does, with the state that it has in the data folder, if it is there and the same."""
    import tempfile
    import warnings

    import bourne
    from bourne.views.catalog import Catalog
    from bourne.views.status import view_state

    with tempfile.TemporaryDirectory(prefix="bourne-explain-") as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore", bourne.GrowingState)  # it is part of the answer
        with bourne.open(app, data=scratch) as instance:
            found = instance.explain(view)
    catalog = Catalog(data)
    kept = catalog.view(view) if catalog.check() is not None else None
    state = view_state(kept) if kept is not None and kept.sql == found.sql else None
    return found if state is None else found.with_state(state[1], epoch=state[0])
