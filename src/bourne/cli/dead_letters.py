"""`bourne dead-letters`: what could not be taken in or delivered."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bourne.cli.notices import calm_warnings
from bourne.cli.options import DATA, Data, end_with_reader

if TYPE_CHECKING:
    from bourne.letters import Letter

_SHOWN_CHARS = 60


class LetterAction(StrEnum):
    """What is to be done."""

    LIST = "list"
    SHOW = "show"
    RETRY = "retry"
    DISCARD = "discard"


def dead_letters(
    action: Annotated[LetterAction, typer.Argument(metavar="ACTION", help="list, show, retry or discard.")],
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID...]", help="Which letters, by id or its beginning; by default all that are open."
        ),
    ] = None,
    data: Data = DATA,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", metavar="APP.py", help="The Python file that declares the app, to deliver rows again that a sink refused."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--app", metavar="NAME", help="Which app, if the file declares several.")
    ] = None,
) -> None:  # fmt: skip
    """Show, take in or deliver again, or give up what a source could not take in, or a sink refused."""
    end_with_reader()
    import bourne
    from bourne.loading import load_app

    app = None if file is None else load_app(file, name=name)
    with calm_warnings(), bourne.open(app, data=data) as instance:
        letters = instance.dead_letters
        if action is LetterAction.LIST and not ids:
            _list(letters.all())
            return
        chosen = letters.chosen(ids or ())
        if action is LetterAction.LIST:
            _list(chosen)
        elif action is LetterAction.SHOW:
            for letter in chosen:
                _show(letter)
        elif action is LetterAction.DISCARD:
            letters.discard(chosen)
            print(f"{len(chosen):,} discarded")
        else:
            outcomes = letters.retry(chosen)
            failed = [(letter, why) for letter, why in outcomes if why is not None]
            print(f"{len(outcomes) - len(failed):,} taken in or delivered, {len(failed):,} still open")
            for letter, why in failed:
                print(f"{letter.id}: {why}")
            if failed:
                raise typer.Exit(4)


def _list(letters: list[Letter]) -> None:
    import pyarrow as pa

    from bourne.cli.formats import print_table

    rows = [
        {
            "id": letter.id,
            "at": letter.at.replace(microsecond=0),
            "log": letter.log,
            "place": letter.place,
            "reason": letter.reason,
            "data": letter.text().rstrip()[:_SHOWN_CHARS],
            "state": letter.outcome or "open",
        }
        for letter in letters
    ]
    if rows:
        print_table(pa.Table.from_pylist(rows))
    else:
        print("no dead letters")


def _show(letter: Letter) -> None:
    print(f"{letter.id}: {letter.outcome or 'open'}")
    for label, value in (
        ("at", letter.at), ("from", letter.origin), ("place", letter.place), ("log", letter.log), ("reason", letter.reason),
        ("format", letter.format or "-"),
    ):  # fmt: skip
        print(f"  {label + ':':<8}{value}")
    print(f"  bytes:  {letter.text()}")
