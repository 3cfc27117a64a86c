"""`bourne token`: who may ask a server."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from bourne.cli.options import DATA, Data, end_with_reader

if TYPE_CHECKING:
    from bourne.serve.tokens import Token, Tokens


class TokenAction(StrEnum):
    """What is to be done."""

    CREATE = "create"
    LIST = "list"
    REVOKE = "revoke"


class TokenRole(StrEnum):
    """What `--role` takes."""

    READER = "reader"
    WRITER = "writer"
    ADMIN = "admin"


def token(
    action: Annotated[TokenAction, typer.Argument(metavar="ACTION", help="create, list or revoke.")],
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="What to call it, or which one to revoke.")
    ] = None,
    role: Annotated[
        TokenRole | None,
        typer.Option(
            "--role", help="A reader asks and subscribes, a writer also appends, an admin may do all."
        ),
    ] = None,
    data: Data = DATA,
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as one JSON array.")] = False,
) -> None:
    """Say who may ask a server of this data folder: make a token, which is printed this once, list them, or revoke one."""
    _check(action, name, role, as_json)
    end_with_reader()
    from bourne.serve.tokens import Tokens

    tokens = Tokens(data)
    if action is TokenAction.LIST:
        found = tokens.list()
        if as_json:
            _print_json(found)
        elif found:
            _print_table(found)
        else:
            print("all tokens are revoked: nobody may ask" if tokens.are_set_up else "no tokens")
    elif action is TokenAction.REVOKE:
        assert name is not None
        tokens.revoke(name)
        print(f"{name} is revoked")
    else:
        assert name is not None
        assert role is not None
        _create(tokens, name, role)


def _check(action: TokenAction, name: str | None, role: TokenRole | None, as_json: bool) -> None:
    """Refuse what does not go together."""
    if (name is None) != (action is TokenAction.LIST):
        what = "all of them, and takes no name" if name is not None else "one of them: which name?"
        raise typer.BadParameter(f"{action.value} is about {what}", param_hint="'[NAME]'")
    if (role is None) == (action is TokenAction.CREATE):
        what = "needs" if role is None else "takes no"
        raise typer.BadParameter(
            f"{action.value} {what} role (reader, writer or admin)", param_hint="'--role'"
        )
    if as_json and action is not TokenAction.LIST:
        raise typer.BadParameter(f"{action.value} prints no JSON", param_hint="'--json'")


def _create(tokens: Tokens, name: str, role: TokenRole) -> None:
    from rich.console import Console

    from bourne.ports import SystemClock
    from bourne.serve.tokens import Role

    secret = tokens.create(name, Role[role.name], SystemClock())
    print(secret, flush=True)
    Console(stderr=True, soft_wrap=True, highlight=False).print(
        f"keep it: only its hash is stored, and nobody can show it again. Send it as Authorization: Bearer TOKEN. "
        f"To take it back: bourne token revoke {name}",
        markup=False,
    )


def _print_json(tokens: Sequence[Token]) -> None:
    import json

    rows = [
        {"name": each.name, "role": each.role.name.lower(), "created": each.created.isoformat()}
        for each in tokens
    ]
    print(json.dumps(rows, indent=1, ensure_ascii=False))


def _print_table(tokens: Sequence[Token]) -> None:
    import pyarrow as pa

    from bourne.cli.formats import print_table

    rows = [
        {
            "name": each.name,
            "role": each.role.name.lower(),
            "created": each.created.replace(microsecond=0, tzinfo=None),
        }
        for each in tokens
    ]
    print_table(pa.Table.from_pylist(rows))
