"""`bourne check-proof`: checks a proof without the log, and shows the record."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from bourne.errors import InvalidProof, MalformedInput, SourceFailed
from bourne.limits import PROOF_BYTES_MAX

if TYPE_CHECKING:
    import pyarrow as pa

    from bourne.log.proof import Proved


def check_proof(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The proof; - is standard input.")],
    head: Annotated[
        str | None, typer.Option(metavar="HASH", help="The head hash that you have from elsewhere.")
    ] = None,
) -> None:
    """Check a proof without the log, and print the record, its place and its head hash as JSON."""
    import bourne

    print(_as_json(bourne.check_proof(_read(file), head)))


def _read(file: str) -> bytes:
    bytes_max = 2 * PROOF_BYTES_MAX  # in base64, with its hashes
    try:
        if file == "-":
            content = sys.stdin.buffer.read(bytes_max + 1)
        else:
            with open(file, "rb") as stream:  # noqa: PTH123  (also /dev/fd/3)
                content = stream.read(bytes_max + 1)
    except OSError as error:
        raise SourceFailed(f"cannot read {file}", found=error.strerror) from error
    if len(content) > bytes_max:
        raise MalformedInput("that is no proof", expected=f"at most {bytes_max:,} bytes")
    return content


def _as_json(proved: Proved) -> str:
    """Return what was proved as one JSON object, the record in it as `bourne tail --format jsonl` shows it."""
    import duckdb
    import pyarrow as pa

    from bourne.connect.row_texts import json_rows

    table = pa.Table.from_batches([proved.record])
    try:
        (record,) = json_rows(table, json_columns=_json_columns(proved.record))
    except (duckdb.Error, pa.ArrowException, ValueError, ArithmeticError) as error:
        raise InvalidProof("the proof's record has values that no log has", found=error) from error
    place = {
        "log": proved.log,
        "log_id": proved.log_id,
        "partition": proved.partition,
        "offset": proved.offset,
        "append_time": _instant(proved.append_time_us),
        "head": proved.head.hash,
        "head_offset": proved.head.offset,
    }
    return json.dumps(place, ensure_ascii=False)[:-1] + f', "record": {record}}}'


def _json_columns(record: pa.RecordBatch) -> set[str]:
    """Return the columns that hold JSON. Somebody's bytes may not: then it is shown as a text, and stays inside one."""
    return {
        field.name
        for field, column in zip(record.schema, record.columns, strict=True)
        if (field.metadata or {}).get(b"bourne:type") == b"JSON" and _is_json(column[0].as_py())
    }


def _is_json(value: object) -> bool:
    if value is None:
        return True
    try:
        json.loads(str(value), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _instant(instant_us: int) -> str:
    try:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=instant_us)).isoformat()
    except OverflowError:  # beyond what Python's own type can say
        return f"{instant_us} us since 1970"
