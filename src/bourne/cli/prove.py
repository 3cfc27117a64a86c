"""`bourne prove`: writes a proof that a record is in a log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bourne.cli.options import DATA, Data
from bourne.errors import InputError, StorageError


def prove(
    log: Annotated[str, typer.Argument(metavar="LOG", help="The log with the record.")],
    offset: Annotated[int, typer.Argument(metavar="OFFSET", min=0, help="The record's offset.")],
    data: Data = DATA,
    partition: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="The record's partition, of a log that has several.")
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(metavar="HASH", help="The head hash to prove it under, instead of the newest: one published since."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write the proof, instead of standard output.")
    ] = None,
) -> None:  # fmt: skip
    """Write a small proof that a record is in a log, to be checked by anybody without the log."""
    import json

    import bourne

    with bourne.open(data=data) as instance:
        found = instance.log(log)
        if partition is None and found.info.partitions > 1:
            raise InputError(
                f"log {found.info.name!r} has {found.info.partitions} partitions, and each counts its own offsets",
                expected=f"--partition 0 to {found.info.partitions - 1}",
            )
        text = json.dumps(found.prove(offset, partition or 0, head=head), indent=1) + "\n"
    if out is None:
        print(text, end="")
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write {out}", found=error.strerror) from error
    print(f"{out}: {len(text):,} bytes, under head {bourne.check_proof(text).head.hash}")
