"""The public kit for tests, ours and yours: a clock to turn by hand, files that fail, a log to try things on.

Nothing in Bourne itself imports it.
"""

from bourne.testing.clock import SimulatedClock
from bourne.testing.files import FaultyFiles
from bourne.testing.logs import ScratchLog

__all__ = ["FaultyFiles", "ScratchLog", "SimulatedClock"]
