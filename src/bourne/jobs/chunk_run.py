"""A chunk step of a run: its parts at work, side by side, and what they do, told to the history as it happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import (
    Future,
    ThreadPoolExecutor,
)
from dataclasses import asdict

from bourne.batch.flow import COMPLETED, EMPTY, STOPPED
from bourne.batch.steps import Chunk
from bourne.connect.urls import parse_url
from bourne.jobs.chunk_step import Part, PartWork
from bourne.jobs.chunk_work import Done, Terms
from bourne.jobs.executors import on_executor
from bourne.jobs.history import StepRun
from bourne.jobs.parts import Narrowed, check_target, plan_parts
from bourne.jobs.progress import Progress
from bourne.jobs.slices import functions_of
from bourne.jobs.telling import Telling
from bourne.jobs.workplace import Workplace, check_skipped


def run_chunk_step(step: Chunk, note: StepRun, place: Workplace) -> str:
    """Do a chunk step; return its exit status: COMPLETED, EMPTY if there was nothing to read, or STOPPED."""
    goes_on = step.goes_on
    owner = place.instance.partition("[")[0] if goes_on else place.instance
    name = f"{owner} {step.name}"
    if isinstance(step.write, str):
        name += f" -> {parse_url(step.write).name}"  # another target is another position
    deadline = None if step.timeout_s is None else time.monotonic() + step.timeout_s
    planned = _parts(step, name, place)
    check_target(step, planned)
    workers = min(step.workers, len(planned))
    rate = None if step.rows_per_s is None else step.rows_per_s / workers
    parts = [
        Part(step, Terms(
            f"{name} {each.label}".strip(), place.lease.fence, place.instance, goes_on, step.size, step.retry, step.skip, rate,
            deadline, len(planned) > 1,
        ), each)
        for each in planned
    ]  # fmt: skip
    telling = Telling(
        place.history, note, [each.label for each in planned], place.host.clock.now_us, place.say
    )
    try:
        if step.executor == "threads":
            ended = list(_in_threads(parts, workers, place, telling))
        else:
            ended = list(on_executor(parts, workers, place, telling))
    finally:
        telling.flush()
    if not all(progress.done for progress in ended) or len(ended) < len(parts):
        return STOPPED
    if len(parts) > 1:
        check_skipped(step, telling, is_all=True)
    return COMPLETED if any(progress.read for progress in ended) else EMPTY


def _parts(step: Chunk, name: str, place: Workplace) -> list[Narrowed]:
    """Return the parts as they were when the step first began."""
    if step.partition is None:
        return [Narrowed("")]
    noted = place.history.position(f"{name}: parts")
    if noted is not None:
        return [Narrowed(**each) for each in noted]
    found = plan_parts(step, place.host)
    place.history.put_position(f"{name}: parts", [asdict(each) for each in found])
    return found


# --- threads of this process -----------------------------------------------------------------------------


def _in_threads(parts: list[Part], workers: int, place: Workplace, telling: Telling) -> Iterator[Progress]:
    """Work on the parts in threads; yield how far each came. The first failure ends the others after their chunk."""
    is_over = threading.Event()

    class Either(threading.Event):
        """Set when the run is to stop, or a part failed."""

        def is_set(self) -> bool:
            return is_over.is_set() or place.stop.is_set()

        def wait(self, timeout: float | None = None) -> bool:
            return place.stop.wait(timeout) or is_over.is_set()

    def note_of(part: Part) -> Callable[[Done], None]:
        tell = telling.of(part.narrowed.label)

        def note(done: Done) -> None:
            tell(done)
            if part.terms.is_part:
                check_skipped(part.step, telling)

        return note

    def work(part: Part) -> Progress | None:
        if either.is_set():
            return None
        try:
            with PartWork(
                part, place.host, lambda: place.history, stop=either, note=note_of(part), random=place.random,
                log=place.lease.run.job, functions=functions_of(place.host),
            ) as at_work:  # fmt: skip
                progress = at_work.work()
                telling.reached(part.narrowed.label, progress)
                if progress.done:
                    at_work.forget()
                return progress
        except BaseException:
            is_over.set()
            raise

    either = Either()
    if len(parts) == 1:
        found = work(parts[0])
        yield from [] if found is None else [found]
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="bourne-part") as pool:
        futures = [pool.submit(work, part) for part in parts]
    yield from _results(futures)


def _results(futures: list[Future[Progress | None]]) -> Iterator[Progress]:
    """Yield what came of each; raise the first failure, with a note of how many others there were."""
    failures = [error for future in futures if (error := future.exception()) is not None]
    if failures:
        if len(failures) > 1:
            failures[0].add_note(f"  and {len(failures) - 1} other parts failed, too")
        raise failures[0]
    for future in futures:
        found = future.result()
        if found is not None:
            yield found
