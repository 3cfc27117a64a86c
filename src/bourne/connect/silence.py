"""How long the other side of a connection may say nothing before it counts as gone: the option `silence`, in seconds.

A peer that is switched off, or behind a line that is cut, says nothing, and TCP alone waits for it for many minutes. So
whatever waits for an answer has this bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bourne.errors import DefinitionError
from bourne.limits import SILENCE_S, SILENCE_S_MAX

OPTION: Final = "silence"


def read_silence(options: Mapping[str, str], *, where: str) -> float:
    """Return what a URL's options say, in seconds.

    Raises:
        DefinitionError: it is no number above 0.
    """
    text = options.get(OPTION, str(SILENCE_S))
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found <= SILENCE_S_MAX:
        raise DefinitionError(
            f"option {OPTION!r} is no number of seconds", where=where, expected=f"above 0, at most {SILENCE_S_MAX:g}",
            found=text,
        )  # fmt: skip
    return found
