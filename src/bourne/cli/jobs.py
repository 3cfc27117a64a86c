"""`bourne jobs`: starts batch jobs, goes on with them, stops them, and shows what became of them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from bourne.cli.notices import calm_warnings
from bourne.cli.options import DATA, Data, end_with_reader, stop_on_signals

if TYPE_CHECKING:
    from rich.console import Console

    from bourne.jobs.backfill import Filled
    from bourne.jobs.history import Run, StepRun
    from bourne.jobs.runner import JobRun

jobs = typer.Typer(
    name="jobs", help="Start batch jobs, go on with them, stop them, and see what became of them.", no_args_is_help=True,
    rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip

# Days or whole numbers; a path such as ../in is none.
_RANGE: Final = re.compile(r"([0-9-]+)\.\.([0-9-]+)")

File = Annotated[Path, typer.Argument(metavar="APP.py", help="The Python file that declares the app.")]
RunNumber = Annotated[
    int, typer.Argument(metavar="RUN", help="The number of a run, as `bourne jobs list` shows it.")
]
AppName = Annotated[
    str | None, typer.Option("--app", metavar="NAME", help="Which app, if the file declares several.")
]


@jobs.command("start")
def start(
    file: File,
    job: Annotated[str, typer.Argument(metavar="JOB", help="The job's name.")],
    parameters: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUE...]", help="The job's parameters, each as name=value.")
    ] = None,
    data: Data = DATA,
    again: Annotated[bool, typer.Option("--again", help="Do all of it once more, though it has completed.")] = False,
    name: AppName = None,
) -> None:  # fmt: skip
    """Run a job to its end; one that failed or was stopped before goes on after its last committed chunk.

    Ctrl-C or SIGTERM end it after the chunk at hand.
    """
    given = _pairs(parameters or [])
    with stop_on_signals() as stop, _opened(file, data, name) as (instance, console):
        run = instance.jobs.start(
            job, given, again=again, stop=stop.event, on_begin=lambda work: _tell_begin(console, work)
        )
        _tell_end(console, run, instance.jobs.steps(run.id), stop.signal_number)


@jobs.command("restart")
def restart(file: File, run: RunNumber, data: Data = DATA, name: AppName = None) -> None:
    """Go on with a run that failed or was stopped, after its last committed chunk."""
    with stop_on_signals() as stop, _opened(file, data, name) as (instance, console):
        found = instance.jobs.restart(run, stop=stop.event, on_begin=lambda work: _tell_begin(console, work))
        _tell_end(console, found, instance.jobs.steps(found.id), stop.signal_number)


@jobs.command("backfill")
def backfill(
    file: File,
    job: Annotated[str, typer.Argument(metavar="JOB", help="The job's name.")],
    parameters: Annotated[
        list[str],
        typer.Argument(metavar="NAME=FIRST..LAST [NAME=VALUE...]", help="The range, of days or whole numbers, and the other parameters."),
    ],
    data: Data = DATA,
    at_once: Annotated[int, typer.Option("--at-once", metavar="N", min=1, help="How many instances run at once.")] = 1,
    name: AppName = None,
) -> None:  # fmt: skip
    """Run a job for a range of days or numbers, an instance each; what has completed is not done again."""
    from bourne.jobs.backfill import values_between

    given = _pairs(parameters)
    ranges = {key: found.groups() for key, value in given.items() if (found := _RANGE.fullmatch(value))}
    if len(ranges) != 1:
        raise typer.BadParameter(
            f"one parameter is a range of days or whole numbers, such as day=2026-01-01..2026-01-31; here are {len(ranges)}"
        )
    ((key, (first, last)),) = ranges.items()
    values = values_between(first, last, where=f"job {job!r}")
    others = {each: value for each, value in given.items() if each != key}
    with stop_on_signals() as stop, _opened(file, data, name) as (instance, console):

        def tell(filled: Filled) -> None:
            run = "" if filled.run is None else f", run {filled.run}"
            console.print(
                f"{filled.number:,} of {filled.total:,}: {key}={filled.value} {filled.state}{run}",
                soft_wrap=True,
                markup=False,
            )
            if filled.error is not None:
                console.print(f"  {filled.error.found or filled.error.what}", soft_wrap=True, markup=False)

        done = instance.jobs.backfill(job, key, values, others, at_once=at_once, stop=stop.event, on_end=tell)
        failed = sum(each.state == "failed" for each in done)
        left = sum(each.state == "stopped" for each in done)
        console.print(
            f"{len(done) - failed - left:,} completed, {failed:,} failed, {left:,} left",
            soft_wrap=True,
            markup=False,
        )
        if failed or left:
            raise typer.Exit(128 + stop.signal_number if stop.signal_number is not None else 12)


@jobs.command("stop")
def stop(run: RunNumber, data: Data = DATA) -> None:
    """Ask a run, in whichever process, to end after the chunks at hand."""
    import bourne

    with bourne.open(data=data) as instance:
        instance.jobs.stop(run)
    print(f"run {run} ends after the chunks at hand")


@jobs.command("list")
def list_(
    data: Data = DATA,
    job: Annotated[str | None, typer.Option("--job", metavar="JOB", help="Of this job only.")] = None,
    most: Annotated[int, typer.Option("--most", metavar="N", min=1, help="How many at most.")] = 20,
) -> None:  # fmt: skip
    """Show the newest runs: which job, with which parameters, how they ended."""
    end_with_reader()
    import pyarrow as pa

    import bourne
    from bourne.cli.formats import print_table

    with bourne.open(data=data) as instance:
        runs = instance.jobs.runs(job=job, most=most)
        rows = [
            {
                "run": run.id,
                "job": run.job,
                "parameters": _shown(run.parameters),
                "status": run.status,
                "began": _time(run.started_us),
                "took": _took(run),
                "trigger": run.trigger,
                "error": (run.error or "").split("\n")[0][:60],
            }
            for run in runs
        ]
    if rows:
        print_table(pa.Table.from_pylist(rows))
    else:
        print("no runs")


@jobs.command("show")
def show(run: RunNumber, data: Data = DATA) -> None:
    """Show a run: its steps and their parts, what each read, filtered, wrote and skipped, where it stands, and why it failed."""
    end_with_reader()
    import pyarrow as pa

    import bourne
    from bourne.cli.formats import print_table

    with bourne.open(data=data) as instance:
        found, steps = instance.jobs.run(run), instance.jobs.steps(run)
    for label, value in (
        ("job", found.job), ("parameters", _shown(found.parameters)), ("status", found.status), ("trigger", found.trigger),
        ("began", _time(found.started_us)), ("took", _took(found)), ("process", f"{found.pid} on {found.host}"),
        ("versions", f"bourne {found.bourne}, job {found.code or 'unknown'}"),
    ):  # fmt: skip
        print(f"{label + ':':<12}{value}")
    if steps:
        print_table(pa.Table.from_pylist([_step_row(step) for step in steps]))
    if found.error:
        print(found.error)


@jobs.command("logs")
def logs(
    run: RunNumber,
    data: Data = DATA,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
) -> None:  # fmt: skip
    """Show what a run said: its steps' beginnings and ends, failed attempts, errors, and what tasks say."""
    end_with_reader()
    import bourne

    with stop_on_signals() as stopped, bourne.open(data=data) as instance:
        last = 0
        while True:
            has_ended = instance.jobs.run(run).status != "STARTED"
            for message in instance.jobs.messages(run, after=last):
                last = message.id
                print(f"{_time(message.at_us)} {message.level:<7} {message.step}: {message.text}", flush=True)
            if has_ended or not follow or stopped.event.wait(0.5):
                return


# --- what the commands share -----------------------------------------------------------------------------


class _opened:
    """The app of a file, opened on a data folder, and where to tell of it."""

    def __init__(self, file: Path, data: Path, name: str | None) -> None:
        from rich.console import Console

        import bourne
        from bourne.loading import load_app

        app = load_app(file, name=name)
        with calm_warnings():
            self._instance = bourne.open(app, data=data)
        self._console = Console(highlight=False, stderr=True)

    def __enter__(self) -> tuple[Any, Console]:
        return self._instance, self._console

    def __exit__(self, *_: object) -> None:
        self._instance.close()


def _pairs(texts: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in map(_pair, texts):
        if name in found:
            raise typer.BadParameter(f"parameter {name!r} is given twice")
        found[name] = value
    return found


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise typer.BadParameter(f"{text!r} is no parameter, such as day=2026-01-31")
    return name, value


def _tell_begin(console: Console, work: JobRun) -> None:
    run = work.lease.run
    console.print(f"run {run.id}: {run.job} {_shown(run.parameters)}", soft_wrap=True, markup=False)


def _tell_end(console: Console, run: Run, steps: list[StepRun], signal_number: int | None) -> None:
    for step in (step for step in steps if not step.part):
        counts = f", {_counts(step)}" if step.kind == "chunk" else ""
        console.print(f"  {step.step}: {step.status}{counts}", soft_wrap=True, markup=False)
    console.print(f"run {run.id}: {run.status}, took {_took(run)}", soft_wrap=True, markup=False)
    if run.status != "COMPLETED":
        console.print(f"go on: bourne jobs restart APP.py {run.id}", soft_wrap=True, markup=False)
        raise typer.Exit(128 + signal_number if signal_number is not None else 12)


def _counts(step: StepRun) -> str:
    parts = [f"{step.read:,} read", f"{step.written:,} written"]
    parts += [f"{step.filtered:,} filtered"] if step.filtered else []
    parts += [f"{step.skipped:,} skipped"] if step.skipped else []
    return ", ".join(parts)


def _step_row(step: StepRun) -> dict[str, Any]:
    took = "" if step.ended_us is None else f"{(step.ended_us - step.started_us) / 1e6:.1f} s"
    return {
        "step": step.step + (f" / {step.part}" if step.part else ""),
        "status": step.status,
        "done": "" if step.share is None else f"{step.share:.0%}",
        "chunks": step.chunks,
        "read": step.read,
        "filtered": step.filtered,
        "written": step.written,
        "skipped": step.skipped,
        "took": took,
    }


def _shown(parameters: Any) -> str:
    return " ".join(f"{name}={value}" for name, value in parameters.items())


def _time(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _took(run: Run) -> str:
    end = run.heartbeat_us if run.ended_us is None else run.ended_us
    return f"{(end - run.started_us) / 1e6:.1f} s"
