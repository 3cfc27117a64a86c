"""Lives of a batch job, each killed with -9 at a point that a seed chose, until one comes to its end.

Run as a process: `python job_lives.py FOLDER SEED COUNT [POSTGRES]`. Everything is loaded once; each life is a fork of that. It
prints a line of JSON for each seed: what the target holds, and how often it died where.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import traceback
from pathlib import Path

import pyarrow as pa

import bourne
from bourne.batch import by_hash, by_range, chunk, skip, task
from bourne.jobs import chunk_work, history, targets

POINTS = ("reading", "processing", "before write", "after write", "before finish", "after finish", "noted")


class Death:
    """Kills this process when a point is reached for the n-th time."""

    def __init__(self) -> None:
        self.point, self.left = "", 0

    def at(self, point: str) -> None:
        if point == self.point:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


DEATH = Death()


def around(owner: type, name: str, before: str | None, after: str | None) -> None:
    """Reach points before and after each call of a method."""
    real = getattr(owner, name)

    def called(self, *arguments, **named):
        if before is not None:
            DEATH.at(before)
        found = real(self, *arguments, **named)
        if after is not None:
            DEATH.at(after)
        return found

    setattr(owner, name, called)


def app(folder: Path, seed: int, postgres: str | None) -> tuple[bourne.App, str]:
    """Return a job of this seed, and what it writes to."""
    rng = random.Random(seed)
    kinds = ["csv", "jsonl", "sqlite", "duckdb", "log", "parquet", *(["postgres"] if postgres else [])]
    kind = kinds[seed % len(kinds)]
    write = {
        "csv": f"{folder}/out.csv", "jsonl": f"jsonl:{folder}/out.jsonl", "sqlite": f"sqlite:{folder}/out.sqlite?table=t",
        "duckdb": f"duckdb:{folder}/out.duckdb?table=t", "log": "log:out", "parquet": f"parquet:{folder}/out/",
        "postgres": f"{postgres}?table=t{seed}",
    }[kind]  # fmt: skip
    key = "id" if kind in ("sqlite", "duckdb", "postgres") and rng.random() < 0.5 else ()
    size = rng.choice([7, 50, 333, "2 KiB", "1 milliseconds", None])
    partition, workers = None, 1
    if kind in ("sqlite", "log", "postgres") and rng.random() < 0.5:
        partition = rng.choice([by_hash("id", 3), by_range("id", bounds=[100, 400])])
        workers = 2
    found = bourne.App("shop")
    found.log("out", schema={"id": "bigint", "name": "varchar", "twice": "double", "kind": "varchar"})

    def kinds_of(rows: pa.Table) -> pa.Table:
        DEATH.at("processing")
        odd = ["odd" if number % 2 else "even" for number in rows["id"].to_pylist()]
        return rows.append_column("kind", pa.array(odd, pa.string()))

    @found.job
    def load():
        first = chunk(
            "load", read=f"{folder}/in/*.csv", write=write, key=key, size=size, partition=partition, workers=workers,
            process=["SELECT id, name, amount * 2 AS twice FROM input WHERE amount >= 1", kinds_of], skip=skip(5),
            columns={"id": "bigint", "name": "varchar", "amount": "double"},
        )  # fmt: skip
        return task("before", lambda: None) >> first >> task("after", lambda: None)

    return found, kind


def make_input(folder: Path, rng: random.Random) -> list[tuple[int, str, float, str]]:
    """Write files; return the rows that the target has to have."""
    (folder / "in").mkdir(parents=True)
    expected, number = [], 0
    for file in range(rng.randint(1, 3)):
        lines = ["id,name,amount"]
        for _ in range(rng.choice([0, 1, 90, 400])):
            amount = rng.randrange(0, 40) / 4
            lines.append(f"{number},김 {number} 🚀,{amount}")
            if amount >= 1:
                expected.append((number, f"김 {number} 🚀", amount * 2, "odd" if number % 2 else "even"))
            number += 1
        if file == 0:
            lines.insert(rng.randint(1, len(lines)), "seven,which is no number,1")
        (folder / "in" / f"{file}.csv").write_text("\n".join(lines) + "\n")
    return sorted(expected)


def live(folder: Path, seed: int, postgres: str | None) -> str:
    """Run the job once; return how it ended."""
    job_app, _ = app(folder, seed, postgres)
    with bourne.open(job_app, data=folder / "data") as shop:
        last = next(iter(shop.jobs.runs()), None)
        if last is not None and last.status == "STARTED":
            return "still STARTED"
        run = shop.jobs.start("load") if last is None else shop.jobs.restart(last.id)
        return run.status


def lived(folder: Path, seed: int, postgres: str | None) -> int:
    """Live once, as a process of its own; return how that ended, as `waitpid` says it."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    status = "failed"
    try:
        status = live(folder, seed, postgres)
    except bourne.BourneError:
        traceback.print_exc()
    os._exit(0 if status == "COMPLETED" else 9)


def lives(folder: Path, seed: int, postgres: str | None) -> dict[str, object]:
    """Live until a life comes to its end; the last one is not killed."""
    rng = random.Random(seed)
    expected = make_input(folder, rng)
    died: dict[str, int] = {}
    for left in reversed(range(rng.choice([2, 3, 7]))):
        DEATH.point = rng.choice(POINTS) if left else ""
        DEATH.left = rng.choice([1, 1, 2, 3, 8, 20])
        how = lived(folder, seed, postgres)
        if how == 0:
            break
        if os.WIFEXITED(how):
            return {"seed": seed, "error": f"a life ended with {os.WEXITSTATUS(how)}", "died": died}
        died[DEATH.point] = died.get(DEATH.point, 0) + 1
    return {"seed": seed, "died": died, "expected": expected}


def main(folder: Path, first: int, count: int, postgres: str | None) -> None:
    around(chunk_work.ChunkWork, "_processed", "reading", None)
    around(chunk_work.ChunkWork, "_put", "before write", "after write")
    around(chunk_work.ChunkWork, "_finish", "before finish", None)
    around(targets.FileReplaced, "finish", None, "after finish")
    around(targets.Plain, "finish", None, "after finish")
    around(history.History, "put_chunks", None, "noted")
    for seed in range(first, first + count):
        print(json.dumps(lives(folder / str(seed), seed, postgres)), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] if len(sys.argv) > 4 else None)
