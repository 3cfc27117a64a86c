"""The public kit for tests, ours and yours: a clock to turn by hand, files that fail, a log to try things on, and what
every implementation of a contract has to pass.

Nothing in Bourne itself imports it.
"""

from bourne.testing.clock import SimulatedClock
from bourne.testing.files import FaultyFiles
from bourne.testing.log_conformance import LOG_CHECKS, check_log
from bourne.testing.logs import ScratchLog
from bourne.testing.sink_conformance import SINK_CHECKS, check_sink
from bourne.testing.source_conformance import SOURCE_CHECKS, check_source

__all__ = [
    "LOG_CHECKS",
    "SINK_CHECKS",
    "SOURCE_CHECKS",
    "FaultyFiles",
    "ScratchLog",
    "SimulatedClock",
    "check_log",
    "check_sink",
    "check_source",
]
