"""The flow of a job: which step comes after which, under what condition. Pure data, and the decision what is next.

    extract >> [load, report] >> mail            # fan-out and fan-in
    extract.on("EMPTY") >> mail                  # only if it ended so
    load.on("FAILED") >> clean_up                # the failure is dealt with then

Law: a step begins once all steps before it have come to an end, and at least one of them leads to it: a plain arrow if its
step did not fail, one with a condition if its exit status is such. A step that failed, with no arrow for that, stops all
that is behind it, and the job fails. What lies on a branch that was not taken is passed over; behind a fan-in the flow
goes on without it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, Union

from bourne.errors import DefinitionError
from bourne.limits import STEPS_MAX

if TYPE_CHECKING:
    from bourne.batch.steps import Step

COMPLETED: Final = "COMPLETED"
EMPTY: Final = "EMPTY"
FAILED: Final = "FAILED"
STOPPED: Final = "STOPPED"

Fate = Literal["ready", "waits", "passed over", "blocked"]

Target: TypeAlias = Union["Step", "Flow", Sequence["Step | Flow"]]


@dataclass(frozen=True, slots=True)
class Arrow:
    """From one step to the next, by name. `condition` is a pattern of exit statuses; None: whatever is no failure."""

    before: str
    after: str
    condition: str | None = None

    def leads(self, status: str) -> bool:
        """Say whether a step that ended so leads on by this arrow."""
        if self.condition is None:
            return status not in (FAILED, STOPPED)
        return fnmatch.fnmatchcase(status, self.condition)


@dataclass(frozen=True, slots=True)
class Flow:
    """Steps and the arrows between them; `first` and `last` are where another flow is joined on."""

    steps: tuple[Step, ...]
    arrows: tuple[Arrow, ...] = ()
    first: tuple[str, ...] = ()
    last: tuple[str, ...] = ()
    conditions: Mapping[str, str] = field(default_factory=dict)  # of the arrows that will leave `last`

    def __rshift__(self, following: Target) -> Flow:
        """Let something follow all that is last here."""
        return _joined(self, as_flow(following))

    def __rrshift__(self, before: Sequence[Step | Flow]) -> Flow:
        """Let this follow several: `[a, b] >> flow`."""
        return _joined(as_flow(before), self)

    def step(self, name: str) -> Step:
        """Return a step by its name."""
        return next(step for step in self.steps if step.name == name)

    def before(self, name: str) -> tuple[Arrow, ...]:
        """Return the arrows that lead to a step."""
        return tuple(arrow for arrow in self.arrows if arrow.after == name)

    def fate(
        self, name: str, ended: Mapping[str, str], passed: Iterable[str], blocked: Iterable[str]
    ) -> Fate:
        """Return what becomes of a step next.

        Args:
            ended: the exit status of each step that has come to its end.
            passed: the steps that were passed over. blocked: those that something before them stops.
        """
        arrows = self.before(name)
        if not arrows:
            return "ready"
        names = {arrow.before for arrow in arrows}
        if names & set(blocked):
            return "blocked"
        if not names <= ended.keys() | set(passed):
            return "waits"
        for before in names & ended.keys():
            is_failed = ended[before] in (FAILED, STOPPED)
            if is_failed and not any(
                each.leads(ended[before]) for each in self.arrows if each.before == before
            ):
                return "blocked"
        is_led = any(arrow.before in ended and arrow.leads(ended[arrow.before]) for arrow in arrows)
        return "ready" if is_led else "passed over"

    def deals_with(self, name: str, status: str) -> bool:
        """Say whether an arrow leads on from a step that ended in this way."""
        return any(arrow.leads(status) for arrow in self.arrows if arrow.before == name)


def as_flow(part: Target) -> Flow:
    """Return a step, a flow, or several side by side as one flow.

    Raises:
        DefinitionError: it is none of these.
    """
    if isinstance(part, Flow):
        return part
    if isinstance(part, Sequence) and not isinstance(part, str):
        flows = [as_flow(each) for each in part]
        if flows:
            return Flow(
                _steps(flows), tuple(dict.fromkeys(arrow for flow in flows for arrow in flow.arrows)),
                tuple(dict.fromkeys(name for flow in flows for name in flow.first)),
                tuple(dict.fromkeys(name for flow in flows for name in flow.last)),
                {name: text for flow in flows for name, text in flow.conditions.items()},
            )  # fmt: skip
    name = getattr(part, "name", None)
    if not isinstance(name, str) or not hasattr(part, "on"):
        raise DefinitionError(
            "that is no step of a job", expected="what chunk, task, view, check or subjob returned, or a list of such",
            found=repr(part), hint="a job's function returns its steps: return extract >> load",
        )  # fmt: skip
    return Flow((part,), (), (name,), (name,))  # type: ignore[arg-type]


def _joined(left: Flow, right: Flow) -> Flow:
    arrows = tuple(
        Arrow(before, after, left.conditions.get(before)) for before in left.last for after in right.first
    )
    return Flow(
        _steps([left, right]), tuple(dict.fromkeys((*left.arrows, *right.arrows, *arrows))), left.first, right.last,
        right.conditions,
    )  # fmt: skip


def _steps(flows: Iterable[Flow]) -> tuple[Step, ...]:
    found: dict[str, Step] = {}
    for step in (step for flow in flows for step in flow.steps):
        if found.setdefault(step.name, step) is not step:
            raise DefinitionError(
                f"two steps are called {step.name!r}", where="job", hint="give one another name"
            )
    return tuple(found.values())


def check_flow(flow: Flow, *, where: str) -> None:
    """Refuse a flow that never ends, or is too large.

    Raises:
        DefinitionError: some steps wait for each other.
    """
    if len(flow.steps) > STEPS_MAX:
        raise DefinitionError("too many steps", where=where, expected=f"at most {STEPS_MAX}", found=len(flow.steps),
                              hint="partition a step, or make several jobs of it")  # fmt: skip
    left = {step.name for step in flow.steps}
    while ready := {name for name in left if not any(arrow.before in left for arrow in flow.before(name))}:
        left -= ready
    if left:
        raise DefinitionError(
            "steps wait for each other", where=where, expected="arrows that lead to an end", found=", ".join(sorted(left)),
            hint="take one of the arrows between them away",
        )  # fmt: skip
