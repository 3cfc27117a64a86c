"""`bourne status`: how much the logs hold, and how far the views are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bourne.cli.options import DATA, Data, end_with_reader

if TYPE_CHECKING:
    from bourne.status import Status


def status(
    data: Data = DATA,
    state: Annotated[
        bool, typer.Option("--state", help="Show also how much each operator of each view remembers.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as one JSON object.")] = False,
) -> None:
    """Show the logs, the views (position, lag, rows, state, watermark, late), the sources and the sinks, as committed."""
    end_with_reader()
    import json
    from dataclasses import asdict

    import bourne

    with bourne.open(data=data) as instance:
        found = instance.status()
    if as_json:
        print(json.dumps(asdict(found), indent=1, ensure_ascii=False))
    else:
        _print(found, with_state=state)


def _print(found: Status, *, with_state: bool) -> None:
    import pyarrow as pa

    from bourne.cli.formats import AlignedRows
    from bourne.engine.explain import size_text
    from bourne.status import instant_text, lag_text

    logs = [{"log": log.name, "records": log.records, "size": size_text(log.bytes)} for log in found.logs]
    views = [
        {
            "view": view.name,
            "version": view.version,
            "of": ", ".join(view.inputs),
            "position": view.position,
            "lag": view.lag_records,
            "rows": view.rows,
            "state": size_text(view.state_bytes),
            "output": size_text(view.output_bytes),
            "watermark": "end" if view.is_complete else instant_text(view.watermark_us),
            "late": view.late_records,
            "failed": view.failed_records,
        }
        for view in found.views
    ]
    times = [
        {"view": view.name, "input": each.input, "partition": number, "watermark": instant_text(at)}
        for view in found.views
        for each in view.watermarks
        for number, at in enumerate(each.partitions)
        if len(view.watermarks) > 1 or len(each.partitions) > 1
    ]
    pins = [
        {"log": log.name, "partition": pin.partition, "kept from": pin.offset, "for": pin.holder}
        for log in found.logs
        for pin in log.pins
    ]
    building = [
        {
            "view": view.name,
            "next version": view.building.version,
            "built for": view.building.why,
            "position": view.building.position,
            "lag": view.building.lag_records,
        }
        for view in found.views
        if view.building is not None
    ]
    operators = [
        {
            "view": view.name,
            "number": each.number,
            "operator": each.operator,
            "rows": each.rows,
            "state": size_text(each.bytes),
        }
        for view in found.views
        for each in view.state
        if with_state
    ]
    sources = [
        {
            "source": each.name,
            "into": each.log,
            "delivery": each.delivery,
            "state": each.state,
            "records": each.records,
            "lag": lag_text(each.lag_records, each.lag_bytes),
            "dead": each.dead_letters,
            "note": each.error or each.note or "",
        }
        for each in found.sources
    ]
    sinks = [
        {
            "sink": each.name,
            "of": each.view,
            "delivery": each.delivery,
            "state": each.state,
            "position": each.position,
            "lag": lag_text(each.lag_records, None),
            "dead": each.dead_letters,
            "note": each.error or "",
        }
        for each in found.sinks
    ]
    shown = [rows for rows in (logs, views, building, times, operators, pins, sources, sinks) if rows]
    tables = [AlignedRows().lines(pa.Table.from_pylist(rows)) for rows in shown]
    print("\n".join("".join(lines) for lines in tables), end="")
