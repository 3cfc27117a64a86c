"""`bourne maintain`: does what the logs' retention says, now."""

from __future__ import annotations

from bourne.cli.options import DATA, Data


def maintain(data: Data = DATA) -> None:
    """Delete, compact and make cold what the logs' retention says, now: `bourne run` does it by itself."""
    import bourne

    with bourne.open(data=data) as instance:
        for done in instance.maintain():
            print(
                f"{done.log}, partition {done.partition}: segments deleted: {done.deleted}, "
                f"compacted: {done.compacted}, made cold: {done.cold}"
                + (" (another process is at it)" if done.is_busy else "")
            )
            for pin in done.held:
                print(f"  held by {pin.holder} from offset {pin.offset:,} on")
