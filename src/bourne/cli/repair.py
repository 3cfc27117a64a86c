"""`bourne repair`: copies what is intact of a damaged log to a new one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bourne.cli.options import DATA, Data

if TYPE_CHECKING:
    from bourne.log.intact import Lost
    from bourne.log.repair import Repaired


def repair(
    log: Annotated[str, typer.Argument(metavar="LOG", help="The damaged log. It stays as it is.")],
    to: Annotated[
        str, typer.Option("--to", metavar="NEW", help="The new log's name, which is not taken yet.")
    ],
    trust_schema: Annotated[
        bool,
        typer.Option(
            "--trust-schema",
            help="Read records whose own schema is lost under the newer one, though nothing proves that it was theirs.",
        ),
    ] = False,
    data: Data = DATA,
) -> None:
    """Copy what is intact of a damaged log to a new log, and list what was lost."""
    from rich.console import Console
    from rich.progress import Progress

    from bourne.errors import CorruptFrame
    from bourne.log.repair import repair_log
    from bourne.ports import OsFiles, SystemClock

    folder = _folder(data, log)
    _check_name(data, to)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"repair {folder.name}", total=None)
        done = repair_log(
            folder, folder.with_name(to), files=OsFiles(), clock=SystemClock(), trusts_schema=trust_schema,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )  # fmt: skip
    _show(done)
    if done.lost:
        raise typer.Exit(CorruptFrame.exit_code)


def _folder(data: Path, log: str) -> Path:
    """Return a log's folder by its name, ignoring case, whether or not its definition can be read.

    Raises:
        StorageError: this is no data folder.
        UnknownName: there is no such log.
    """
    from bourne.errors import StorageError, UnknownName
    from bourne.views.catalog import Catalog

    if Catalog(data).check() is None:
        raise StorageError(
            "there is no data folder", where=str(data), expected="a folder made by Bourne", hint="name it with --data"
        )  # fmt: skip
    folders = [each for each in (data / "logs").iterdir() if each.is_dir()]
    found = [each for each in folders if each.name.casefold() == log.casefold()]
    if not found:
        raise UnknownName(
            f"there is no log {log!r}", where=str(data),
            expected=", ".join(sorted(each.name for each in folders)) or "a log",
            hint="a view's output is not repaired: delete the view's folder, and it is rebuilt from its log",
        )  # fmt: skip
    return found[0]


def _check_name(data: Path, name: str) -> None:
    """Refuse a name that no log can have, or that a view has; whether a log has it, `repair_log` looks.

    Raises:
        DefinitionError: it cannot be.
    """
    from bourne.errors import DefinitionError
    from bourne.schema import check_name
    from bourne.views.catalog import Catalog

    check_name(name, kind="log")
    if Catalog(data).has_view(name):
        raise DefinitionError(f"the name {name!r} is taken", found="a view", hint="choose another name")


def _show(done: Repaired) -> None:
    for lost in done.lost:
        print(
            f"lost: partition {lost.partition}, {_offsets(lost)}, file {lost.file}, byte {lost.byte}: {lost.reason}"
        )
    for partition, copied in enumerate(done.copied):
        first = done.first_offsets[partition]
        mine = [lost for lost in done.lost if lost.partition == partition]
        count = sum(lost.next - lost.first for lost in mine if lost.next is not None)
        is_open = any(lost.next is None for lost in mine)
        print(
            f"partition {partition}: {copied:,} records copied to {done.log.name}, {count:,} lost"
            + (", and nobody knows how many more" if is_open else "")
            + (f"; the old log began at offset {first:,}" if first else "")
        )


def _offsets(lost: Lost) -> str:
    if lost.next is None:
        return f"offsets from {lost.first} on"
    return (
        f"offset {lost.first}" if lost.next == lost.first + 1 else f"offsets {lost.first} to {lost.next - 1}"
    )
