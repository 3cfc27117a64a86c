"""Bourne: one durable log is the truth; every table, index and report is a SQL view of it.

>>> import bourne
>>> app = bourne.App("shop")
>>> app.log("orders", schema={"user": "varchar", "amount": "decimal(10,2)"})
>>> app.view("spend", "SELECT user, sum(amount) AS total FROM orders GROUP BY user")

Then `with bourne.open(app, data="./data") as shop:` append to the log, let the views catch up, and query.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bourne.app import App
    from bourne.client.asynchronous import AsyncClient
    from bourne.client.blocking import Client
    from bourne.connect.states import SinkState, SourceState
    from bourne.engine.explain import Explanation
    from bourne.errors import (
        AppendInDoubt,
        Behind,
        BourneError,
        Closed,
        CorruptFrame,
        DefinitionError,
        DiskFull,
        FormatTooNew,
        GrowingState,
        InputError,
        InvalidProof,
        JobCompleted,
        JobFailed,
        JobRunning,
        LogLocked,
        MalformedInput,
        NotAllowed,
        NotMaintainable,
        QueryError,
        Rejected,
        ServerRefused,
        SinkFailed,
        SourceFailed,
        Span,
        SqlError,
        StorageError,
        UnknownColumn,
        UnknownName,
        Unreachable,
        ValueMismatch,
        ViewFailed,
    )
    from bourne.instance import Instance
    from bourne.instance import open_app as open
    from bourne.log.proof import Proved, check_proof
    from bourne.log.protocol import Appended, Batch, Log, LogHead
    from bourne.log.retention import Maintained, Pin
    from bourne.result import Result
    from bourne.running import Progress
    from bourne.status import Status
    from bourne.views.status import LogStatus, ViewStatus, WatermarkStatus

__version__ = "0.1.0"

__all__ = [
    "App",
    "AppendInDoubt",
    "Appended",
    "AsyncClient",
    "Batch",
    "Behind",
    "BourneError",
    "Client",
    "Closed",
    "CorruptFrame",
    "DefinitionError",
    "DiskFull",
    "Explanation",
    "FormatTooNew",
    "GrowingState",
    "InputError",
    "Instance",
    "InvalidProof",
    "JobCompleted",
    "JobFailed",
    "JobRunning",
    "Log",
    "LogHead",
    "LogLocked",
    "LogStatus",
    "Maintained",
    "MalformedInput",
    "NotAllowed",
    "NotMaintainable",
    "Pin",
    "Progress",
    "Proved",
    "QueryError",
    "Rejected",
    "Result",
    "ServerRefused",
    "SinkFailed",
    "SinkState",
    "SourceFailed",
    "SourceState",
    "Span",
    "SqlError",
    "Status",
    "StorageError",
    "UnknownColumn",
    "UnknownName",
    "Unreachable",
    "ValueMismatch",
    "ViewFailed",
    "ViewStatus",
    "WatermarkStatus",
    "__version__",
    "check_proof",
    "open",
]

# Names are loaded when they are first used, so that `bourne --help` does not wait for DuckDB, Arrow and Numba.
_HOMES = {
    "App": "app",
    "Appended": "log.protocol",
    "AsyncClient": "client.asynchronous",
    "Batch": "log.protocol",
    "Client": "client.blocking",
    "Explanation": "engine.explain",
    "Instance": "instance",
    "Log": "log.protocol",
    "LogHead": "log.protocol",
    "LogStatus": "views.status",
    "Maintained": "log.retention",
    "Pin": "log.retention",
    "Progress": "running",
    "Proved": "log.proof",
    "Result": "result",
    "SinkState": "connect.states",
    "SourceState": "connect.states",
    "Status": "status",
    "ViewStatus": "views.status",
    "WatermarkStatus": "views.status",
    "check_proof": "log.proof",
    "open": "instance",
}

if not TYPE_CHECKING:  # a type checker shall not take every name for one of ours

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'bourne' has no attribute {name!r}")
        home = import_module(f"bourne.{_HOMES.get(name, 'errors')}")
        value = getattr(home, "open_app" if name == "open" else name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
