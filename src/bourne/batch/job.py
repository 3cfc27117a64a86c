"""A job as it is declared: a function from parameters to the flow of its steps.

Law: the function only declares. It is called anew for each run, and has to return the same steps for the same parameters.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bourne.batch.flow import Flow, as_flow, check_flow
from bourne.batch.parameters import Parameters, Signature
from bourne.errors import BourneError, DefinitionError
from bourne.fingerprint import fingerprint
from bourne.schema import check_name


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A declared job: its name, the function that returns its steps, and what that says of its parameters.

    `keep_us`: how long the history remembers runs that ended, in microseconds; None for ever.
    """

    name: str
    function: Callable[..., Any]
    signature: Signature
    description: str = ""
    keep_us: int | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the steps for these parameters, as the function does."""
        return self.function(*args, **kwargs)

    def check(self, given: Mapping[str, Any]) -> Parameters:
        """Return checked parameters.

        Raises:
            InputError: they do not fit.
        """
        return self.signature.check(given)

    def flow(self, parameters: Parameters) -> Flow:
        """Return the steps for these parameters.

        Raises:
            DefinitionError: the function fails, or returns no flow that comes to an end.
        """
        where = f"job {self.name!r}"
        try:
            found = self.function(**parameters.values)
        except BourneError:
            raise
        except Exception as error:
            raise DefinitionError(
                "the job's function fails", where=where, found=f"{type(error).__name__}: {error}",
                hint="it only declares steps: what they do belongs into them",
            ) from error  # fmt: skip
        flow = as_flow(found)
        check_flow(flow, where=where)
        return flow

    @property
    def code(self) -> str:
        """What tells this version of the function from others; empty where that cannot be told."""
        return _code(self.function, f"job {self.name!r}")


@functools.lru_cache(maxsize=256)
def _code(function: Callable[..., Any], where: str) -> str:
    try:
        return fingerprint(function, where=where)
    except DefinitionError:
        return ""


def declare_job(
    function: Callable[..., Any], *, name: str | None, description: str | None, keep_us: int | None = None
) -> Job:
    """Return the job that a function declares.

    Raises:
        DefinitionError: its name or a parameter cannot be used.
    """
    called = name or function.__name__
    check_name(called, kind="job")
    text = description if description is not None else (function.__doc__ or "").strip().split("\n")[0]
    return Job(called, function, Signature(function, where=f"job {called!r}"), text, keep_us)
