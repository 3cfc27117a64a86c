"""Compiled inner loops and the few data structures that state is made of. Nothing here does I/O."""
