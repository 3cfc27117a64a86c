"""Random queries over random changes, against DuckDB, after every step. A seed is a case: `draw_case(seed)`.

A quick, repeatable part of it runs with the suite. The long run looks for what is new, and makes it small:

    make fuzz-sql                                                   # 10,000 queries
    python -m engine.test_queries --queries 500 --seed 7 --failures /tmp/failures     # (in tests/)
"""

from __future__ import annotations

import argparse
import collections
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from bourne.errors import NotMaintainable, SqlError
from engine.query_cases import (
    CaseFailed,
    MakeDriver,
    Signed,
    Weights,
    check_case,
    draw_case,
    open_answer,
)
from engine.query_drivers import BourneDriver, CircuitDriver, ModelDriver
from engine.query_shrinking import shrink_case

# Constructs that Bourne may refuse, though its answer would be one.
REFUSED_ON_PURPOSE: tuple[str, ...] = ()

DRIVERS: dict[str, MakeDriver] = {"bourne": BourneDriver, "circuit": CircuitDriver, "model": ModelDriver}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one seed: accepted, refused (and what it was), or failed (and the smallest case found)."""

    seed: int
    kind: str
    what: str = ""
    sql: str = ""


def run_seed(seed: int, driver: str, *, shrink_s: float = 60, depth: int = 3) -> Outcome:
    """Check one seed's case."""
    case = draw_case(seed, depth=depth)
    try:
        check_case(case, DRIVERS[driver])
    except NotMaintainable as error:
        return Outcome(seed, "refused", error.construct, case.sql)
    except SqlError as error:
        return Outcome(seed, "refused", str(error).splitlines()[0], case.sql)
    except CaseFailed as error:
        if (unlike := open_answer(case, shuffles=4)) is not None:
            return Outcome(seed, "open", unlike, case.sql)
        found = shrink_case(case, DRIVERS[driver], seconds=shrink_s)
        smaller, failed = found if found is not None else (case, error)
        often = "" if found is not None else "\n\nBUT NOT ALWAYS: a second run of it was right"
        shown = f"{smaller}\n\nafter step {failed.step}: {failed.found}\n\nfirst seen: {error.found}{often}"
        return Outcome(seed, "failed", f"{shown}\n{_cause(failed)}", smaller.sql)
    except Exception:  # noqa: BLE001  (broken where nobody asked yet: to be seen, with its place)
        return Outcome(seed, "failed", f"{case}\n\n{traceback.format_exc(limit=-5)}", case.sql)
    return Outcome(seed, "accepted", "", case.sql)


def _cause(failed: CaseFailed) -> str:
    cause = failed.__cause__
    return "" if cause is None else "".join(traceback.format_exception(cause, chain=False, limit=-5))


def test_same_seed_same_case() -> None:
    assert str(draw_case(3)) == str(draw_case(3))
    assert draw_case(3).sql != draw_case(4).sql


@pytest.mark.parametrize("first", [0, 1000])
def test_answers_do_not_depend_on_the_order_of_rows(first: int) -> None:
    for seed in range(first, first + 8):
        case = draw_case(seed)
        assert open_answer(case) is None, str(case)


def test_open_answer_is_noticed() -> None:
    noticed = 0
    for seed in range(20):
        case = draw_case(seed)
        table = next(iter(case.relations))
        order = f"row_number() OVER () AS place, {table}.* FROM {table}"
        noticed += (
            open_answer(type(case)(case.relations, f"SELECT {order}", case.steps, case.restarts)) is not None
        )
    assert noticed > 10


def _kept(step: Mapping[str, Signed], keep: Callable[[pa.Table, Weights], Weights]) -> dict[str, Signed]:
    masks = {name: keep(*signed) for name, signed in step.items()}
    return {
        name: (table.filter(pa.array(masks[name])), weights[masks[name]])
        for name, (table, weights) in step.items()
    }


class ForgetfulDriver(ModelDriver):
    """Does not hear of rows that go."""

    def apply(self, step: Mapping[str, Signed]) -> None:
        super().apply(_kept(step, lambda _, weights: weights > 0))


class NullBlindDriver(ModelDriver):
    """Does not see rows whose first column is NULL."""

    def apply(self, step: Mapping[str, Signed]) -> None:
        super().apply(_kept(step, lambda table, _: table.column(0).is_valid().to_numpy()))


@pytest.mark.parametrize("first", range(0, 36, 12))
def test_circuit_equals_duckdb(first: int) -> None:
    outcomes = [run_seed(seed, "circuit", depth=seed % 2) for seed in range(first, first + 12)]
    wrong = [outcome.what for outcome in outcomes if outcome.kind not in ("accepted", "refused")]
    assert not wrong, "\n".join(wrong)
    refused = [outcome.what for outcome in outcomes if outcome.kind == "refused"]
    assert len(refused) <= 2, refused


@pytest.mark.parametrize("first", [0, 2])
def test_views_of_an_app_equal_duckdb(first: int) -> None:
    for seed in (first, first + 1):
        outcome = run_seed(seed, "bourne", depth=1)
        assert outcome.kind in ("accepted", "refused"), outcome.what


def test_model_passes() -> None:
    for seed in range(12):
        check_case(draw_case(seed), ModelDriver)


@pytest.mark.parametrize("make", [ForgetfulDriver, NullBlindDriver])
def test_sabotage_is_caught_and_made_small(make: MakeDriver) -> None:
    for seed in range(30):
        case = draw_case(seed)
        try:
            check_case(case, make)
        except CaseFailed:
            found = shrink_case(case, make, seconds=3)
            assert found is not None
            smaller, failed = found
            assert len(str(smaller)) < len(str(case))
            assert "expected" in failed.found
            return
    raise AssertionError("30 cases, and it was never caught")


def main() -> int:
    """Run many seeds; print what was refused and what failed; return 1 if anything did."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=None, help="the first seed; else the time")
    parser.add_argument("--driver", choices=sorted(DRIVERS), default="circuit")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--shrink", type=float, default=60, help="seconds to make a failure small")
    parser.add_argument("--failures", type=Path, help="a folder that gets one file per failure")
    options = parser.parse_args()
    first = int(time.time()) * 100_000 if options.seed is None else options.seed
    print(f"seeds {first} to {first + options.queries - 1}, driver {options.driver}", flush=True)
    outcomes: list[Outcome] = []
    start = time.monotonic()
    jobs = [(seed, options.driver, options.shrink) for seed in range(first, first + options.queries)]
    with multiprocessing.get_context("spawn").Pool(options.processes, maxtasksperchild=500) as pool:
        for outcome in pool.imap_unordered(_run_job, jobs, chunksize=5):
            outcomes.append(outcome)
            if outcome.kind in ("failed", "open"):
                print(f"--- {outcome.kind}: seed {outcome.seed}\n{outcome.what}\n", flush=True)
                if options.failures is not None:
                    options.failures.mkdir(parents=True, exist_ok=True)
                    (options.failures / f"{outcome.seed}.md").write_text(f"{outcome.kind}\n{outcome.what}\n")
            if len(outcomes) % 500 == 0:
                print(
                    f"{len(outcomes)} queries, {time.monotonic() - start:.0f} s: {_counts(outcomes)}",
                    flush=True,
                )
    print(_summary(outcomes, time.monotonic() - start))
    return 1 if any(outcome.kind in ("failed", "open") for outcome in outcomes) else 0


def _run_job(job: tuple[int, str, float]) -> Outcome:
    seed, driver, shrink_s = job
    return run_seed(seed, driver, shrink_s=shrink_s)


def _counts(outcomes: list[Outcome]) -> str:
    counted = collections.Counter(outcome.kind for outcome in outcomes)
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counted.items()))


def _summary(outcomes: list[Outcome], seconds: float) -> str:
    lines = [f"{len(outcomes)} queries in {seconds:.0f} s: {_counts(outcomes)}"]
    accepted = sum(outcome.kind == "accepted" for outcome in outcomes)
    lines.append(f"accepted {accepted / max(1, len(outcomes)):.1%}")
    refused = collections.Counter(outcome.what for outcome in outcomes if outcome.kind == "refused")
    for what, count in refused.most_common():
        example = min((o for o in outcomes if o.what == what), key=lambda o: len(o.sql))
        mark = "on purpose" if what in REFUSED_ON_PURPOSE else "REFUSED"
        lines.append(f"{count:6} {mark}: {what}   e.g. seed {example.seed}: {example.sql[:900]}")
    return "\n".join(lines)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
