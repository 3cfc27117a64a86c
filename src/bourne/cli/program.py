"""Puts the commands together, and turns errors into exit codes (the table is in docs/cli.md).

Invariant: a failure never exits 0. Modules that are slow to load are imported by the commands that use them.
"""

from __future__ import annotations

import gc
import sys
from typing import Annotated

import typer

from bourne import __version__
from bourne.cli.append import append
from bourne.cli.check_proof import check_proof
from bourne.cli.dead_letters import dead_letters
from bourne.cli.explain import explain
from bourne.cli.jobs import jobs
from bourne.cli.maintain import maintain
from bourne.cli.pipe import pipe
from bourne.cli.prove import prove
from bourne.cli.query import query
from bourne.cli.repair import repair
from bourne.cli.replay import replay
from bourne.cli.rollback import rollback
from bourne.cli.run import run
from bourne.cli.status import status
from bourne.cli.tail import tail
from bourne.cli.token import token
from bourne.cli.verify import verify
from bourne.cli.watch import watch
from bourne.errors import BourneError

program = typer.Typer(
    name="bourne",
    help="One durable log is the truth; every table and report is a SQL view of it, kept correct.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    run, pipe, append, tail, query, watch, status, replay, rollback, dead_letters, explain, verify, prove, check_proof, repair, maintain, token,
):  # fmt: skip
    program.command()(command)
program.add_typer(jobs)


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        print(f"bourne {__version__}")
        raise typer.Exit


@program.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command that the arguments name, and exit."""
    gc.set_threshold(50_000)  # what is imported stays; by default, loading it is looked through all the while
    try:
        program()
    except BourneError as error:
        _show(error)
        sys.exit(error.exit_code)


def _show(error: BourneError) -> None:
    """Print an error with its parts: what in red, then where, expected, found, to do."""
    from rich.console import Console
    from rich.text import Text

    what, *parts = str(error).split("\n")
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(Text.assemble(("error: ", "bold red"), (what, "red")))
    for line in (*parts, *getattr(error, "__notes__", ())):
        console.print(Text(line))
