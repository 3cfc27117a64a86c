"""The command line: one file per command. Only this room prints and exits."""

from bourne.cli.program import main

__all__ = ["main"]
