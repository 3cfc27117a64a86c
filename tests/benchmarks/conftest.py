"""Lets these tests import the benchmarks, which nobody installs."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
