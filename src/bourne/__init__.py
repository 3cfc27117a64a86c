"""Bourne: one durable log is the truth; every table, index and report is a SQL view of it.

>>> import bourne
>>> app = bourne.App("shop")
>>> app.log("orders", schema={"user": "varchar", "amount": "decimal(10,2)"})
>>> app.view("spend", "SELECT user, sum(amount) AS total FROM orders GROUP BY user")

Then `with bourne.open(app, data="./data") as shop:` append to the log, let the views catch up, and query.
"""

from bourne.app import App
from bourne.errors import (
    BourneError,
    Closed,
    CorruptFrame,
    DefinitionError,
    DiskFull,
    FormatTooNew,
    InputError,
    LogLocked,
    MalformedInput,
    NotMaintainable,
    QueryError,
    Span,
    SqlError,
    StorageError,
    UnknownColumn,
    UnknownName,
    ValueMismatch,
    ViewFailed,
)
from bourne.instance import Instance, LogStatus, Progress, Status, ViewStatus
from bourne.instance import open_app as open
from bourne.views.result import Result

__version__ = "0.1.0"

__all__ = [
    "App",
    "BourneError",
    "Closed",
    "CorruptFrame",
    "DefinitionError",
    "DiskFull",
    "FormatTooNew",
    "InputError",
    "Instance",
    "LogLocked",
    "LogStatus",
    "MalformedInput",
    "NotMaintainable",
    "Progress",
    "QueryError",
    "Result",
    "Span",
    "SqlError",
    "Status",
    "StorageError",
    "UnknownColumn",
    "UnknownName",
    "ValueMismatch",
    "ViewFailed",
    "ViewStatus",
    "__version__",
    "open",
]
