"""Operators: each takes deltas in and gives a delta out, at a cost that follows the delta. No I/O."""
