"""The flow of a job: which steps run, after which, and which never do, against an interpreter that looks at paths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bourne.batch import Flow, Step, task
from bourne.batch.flow import Arrow, as_flow, check_flow
from bourne.errors import DefinitionError

STATUSES = ["COMPLETED", "EMPTY", "FAILED", "NO_DATA", "STOPPED"]
PATTERNS = [None, None, None, "COMPLETED", "FAILED", "*", "NO_*", "EMPTY", "FAILE?"]


def step(name: str) -> Step:
    return task(name, print)


@st.composite
def flows(draw: st.DrawFn) -> tuple[Flow, dict[str, str]]:
    """A flow of some steps without circles, and how each step ends if it runs."""
    count = draw(st.integers(1, 7))
    names = [f"s{number}" for number in range(count)]
    arrows = []
    for after in range(count):
        for before in range(after):
            if draw(st.booleans()):
                arrows.append(Arrow(names[before], names[after], draw(st.sampled_from(PATTERNS))))
    order = draw(st.permutations(names))
    outcomes = {name: draw(st.sampled_from(STATUSES)) for name in names}
    return Flow(tuple(map(step, order)), tuple(arrows)), outcomes


def run(
    flow: Flow, outcomes: dict[str, str], choose: Callable[[list[str]], str]
) -> tuple[list[str], set[str], set[str]]:
    """Run a flow by its `fate`, one step at a time in any order; return those that ran, were passed over, and blocked."""
    ended: dict[str, str] = {}
    passed: set[str] = set()
    blocked: set[str] = set()
    while True:
        fates = {
            each.name: flow.fate(each.name, ended, passed, blocked)
            for each in flow.steps if each.name not in ended.keys() | passed | blocked
        }  # fmt: skip
        passed_now = {name for name, fate in fates.items() if fate == "passed over"}
        blocked_now = {name for name, fate in fates.items() if fate == "blocked"}
        if passed_now or blocked_now:
            passed |= passed_now
            blocked |= blocked_now
            continue
        ready = sorted(name for name, fate in fates.items() if fate == "ready")
        if not ready:
            assert not fates  # nobody waits for ever
            return list(ended), passed, blocked
        name = choose(ready)
        for arrow in flow.before(name):
            assert arrow.before in ended.keys() | passed  # all before it have come to an end
        ended[name] = outcomes[name]


def naive(flow: Flow, outcomes: dict[str, str]) -> dict[str, str]:
    """Say what becomes of each step, from the first to the last, as the module's law has it."""
    fates: dict[str, str] = {}
    for name in sorted(each.name for each in flow.steps):  # arrows go from lower names to higher ones
        arrows = [arrow for arrow in flow.arrows if arrow.after == name]
        stoppers = [
            arrow.before for arrow in arrows
            if fates[arrow.before] == "blocked" or (
                fates[arrow.before] == "ran" and outcomes[arrow.before] in ("FAILED", "STOPPED")
                and not any(other.leads(outcomes[arrow.before]) for other in flow.arrows if other.before == arrow.before)
            )
        ]  # fmt: skip
        if stoppers:
            fates[name] = "blocked"
        elif not arrows or any(
            fates[arrow.before] == "ran" and arrow.leads(outcomes[arrow.before]) for arrow in arrows
        ):
            fates[name] = "ran"
        else:
            fates[name] = "passed over"
    return fates


def check(flow: Flow, outcomes: dict[str, str], choose: Callable[[list[str]], str]) -> None:
    ran, passed, blocked = run(flow, outcomes, choose)
    assert len(ran) == len(set(ran))
    assert {"ran": set(ran), "passed over": passed, "blocked": blocked} == {
        fate: {name for name, found in naive(flow, outcomes).items() if found == fate}
        for fate in ("ran", "passed over", "blocked")
    }


@given(flows(), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_whatever_the_order_each_step_has_the_fate_that_the_law_says(found, random):
    check(*found, random.choice)


@pytest.mark.long
@given(flows(), st.randoms(use_true_random=False))
@settings(max_examples=20_000, deadline=None)
def test_for_long(found, random):
    check(*found, random.choice)


def fates(flow: Flow, **outcomes: str) -> dict[str, set[str]]:
    ran, passed, blocked = run(
        flow, {each.name: outcomes.get(each.name, "COMPLETED") for each in flow.steps}, min
    )
    return {"ran": set(ran), "passed": passed, "blocked": blocked}


def test_a_failure_stops_only_what_is_behind_it():
    a, b, c, d = map(step, "abcd")
    assert fates(as_flow([a >> b, c >> d]), a="FAILED") == {
        "ran": set("acd"),
        "passed": set(),
        "blocked": {"b"},
    }


def test_a_failure_that_an_arrow_deals_with_stops_nothing():
    load, clean, mail, end = map(step, ["load", "clean", "mail", "end"])
    flow = as_flow([load >> mail, load.on("FAILED") >> clean]) >> end
    assert fates(flow, load="FAILED") == {
        "ran": {"load", "clean", "end"},
        "passed": {"mail"},
        "blocked": set(),
    }
    assert fates(flow) == {"ran": {"load", "mail", "end"}, "passed": {"clean"}, "blocked": set()}
    assert flow.deals_with("load", "FAILED") and not flow.deals_with("mail", "FAILED")


def test_a_condition_is_of_the_last_steps_only():
    a, b, c = map(step, "abc")
    flow = (a >> b.on("EMPTY")) >> c
    assert set(flow.arrows) == {Arrow("a", "b"), Arrow("b", "c", "EMPTY")}
    assert set((a.on("EMPTY") >> b >> c).arrows) == {Arrow("a", "b", "EMPTY"), Arrow("b", "c")}


def test_fan_out_and_fan_in():
    a, b, c, d = map(step, "abcd")
    flow = a >> [b, c] >> d
    assert set(flow.arrows) == {Arrow("a", "b"), Arrow("a", "c"), Arrow("b", "d"), Arrow("c", "d")}
    assert (flow.first, flow.last) == (("a",), ("d",))
    assert set(([a, b] >> c).arrows) == {Arrow("a", "c"), Arrow("b", "c")}
    assert set(([a, b] >> (c >> d)).arrows) == {Arrow("a", "c"), Arrow("b", "c"), Arrow("c", "d")}


def test_a_step_may_stand_in_a_flow_twice_and_is_one():
    a, b, c = map(step, "abc")
    assert [each.name for each in as_flow([a >> b, a >> c]).steps] == ["a", "b", "c"]


def test_two_steps_of_one_name_are_refused():
    with pytest.raises(DefinitionError, match="two steps are called 'a'"):
        step("a") >> step("a")


def test_a_circle_is_refused():
    a, b, c = map(step, "abc")
    flow = as_flow([a >> b, b >> c, c >> b])
    with pytest.raises(DefinitionError, match="steps wait for each other") as caught:
        check_flow(flow, where="job")
    assert caught.value.found == "b, c"
    with pytest.raises(DefinitionError, match="wait for each other"):
        check_flow(a >> a, where="job")


@pytest.mark.parametrize("wrong", [None, "a", 3, [], [None], print])
def test_what_is_no_step_is_refused(wrong):
    with pytest.raises(DefinitionError, match="no step of a job"):
        as_flow(wrong)


def test_too_many_steps_are_refused():
    many = tuple(replace(step("x"), name=f"x{number}") for number in range(501))
    with pytest.raises(DefinitionError, match="too many steps"):
        check_flow(Flow(many), where="job")
