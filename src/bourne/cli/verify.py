"""`bourne verify`: checks a log end to end."""

from __future__ import annotations

from typing import Annotated

import typer

from bourne.cli.options import DATA, Data


def verify(
    log: Annotated[str, typer.Argument(metavar="LOG", help="The log to check.")],
    data: Data = DATA,
) -> None:
    """Check every frame of a log: checksum, hash, chain and history. Prints the head hash of each partition."""
    from rich.console import Console
    from rich.progress import Progress

    import bourne
    from bourne.log.verify import verify_log

    with (
        bourne.open(data=data) as instance,
        Progress(console=Console(stderr=True), transient=True) as progress,
    ):
        found = instance.log(log)
        task = progress.add_task(f"verify {found.info.name}", total=None)
        heads = verify_log(
            found.folder,
            found.info,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    for head in heads:
        print(f"partition {head.partition}: {head.offset:,} records, whole; head {head.hash or 'none'}")
