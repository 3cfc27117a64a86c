"""`bourne query`: asks views and logs."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from bourne.cli.options import DATA, Data, end_with_reader


class QueryFormat(StrEnum):
    """What `--format` takes."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def query(
    sql: Annotated[
        str,
        typer.Argument(metavar="SQL", help="One SELECT over views and logs; - reads it from standard input."),
    ],
    data: Data = DATA,
    kind: Annotated[
        QueryFormat,
        typer.Option("--format", help="table (the first 100 rows), csv, or json (an array of objects)."),
    ] = QueryFormat.TABLE,
) -> None:
    """Answer a SELECT over views and logs, as far as they are committed now.

    Needs no lock: it works while another process appends or runs the views.
    """
    end_with_reader()
    import bourne
    from bourne.cli.formats import print_table
    from bourne.connect.row_texts import csv_text, json_array

    with bourne.open(data=data) as instance:
        answer = instance.query(sys.stdin.read() if sql == "-" else sql).to_arrow()
    if kind is QueryFormat.TABLE:
        print_table(answer)
    elif kind is QueryFormat.CSV:
        sys.stdout.writelines(csv_text(answer))
    else:
        sys.stdout.writelines(json_array(answer))
