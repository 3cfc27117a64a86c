"""When an operator forgets what is over: not at once, which would cost as much as all that is left, but once it is most.

So forgetting costs constant time for each thing that is over, and what is remembered is at most about twice what is needed.
"""

from __future__ import annotations

# So few are not worth the work; nor are fewer than this share of what is left.
_MIN, _SHARE = 1 << 12, 1.0


def pays(over: int, left: int) -> bool:
    """Say whether it is time to forget what is over, of which there are so many, beside what is left."""
    return over > max(_MIN, _SHARE * left)
