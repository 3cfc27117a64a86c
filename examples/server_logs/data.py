"""Access logs of two web servers, a folder a day, as a shop's would be: made up, but always the same.

    python examples/server_logs/data.py --rows 20000 --days 3

One line in a thousand is broken, as real ones are: cut by a power failure, or with a dash for a status.
"""

import argparse
import json
import random
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

FIRST_DAY = date(2026, 3, 1)
SERVERS = ("web-1", "web-2")
PATHS = ["/", "/search", "/cart", "/checkout", "/health", *(f"/item/{number}" for number in range(1, 96))]
PATH_WEIGHTS = [60, 40, 15, 5, 20, *(30 / number for number in range(1, 96))]
HOUR_WEIGHTS = [2, 1, 1, 1, 1, 2, 4, 7, 9, 10, 11, 12, 13, 12, 11, 11, 12, 14, 16, 18, 17, 13, 8, 4]
STATUSES, STATUS_WEIGHTS = [200, 304, 404, 500, 503], [900, 60, 30, 7, 3]


def write(folder: Path, *, rows: int, days: int, seed: int = 2026) -> None:
    """Write about so many lines for so many days into `FOLDER/DAY/SERVER.jsonl`."""
    rng = random.Random(seed)
    for day in (FIRST_DAY + timedelta(days=number) for number in range(days)):
        (folder / str(day)).mkdir(parents=True, exist_ok=True)
        for server in SERVERS:
            lines = _lines(rng, day, server, rows // days // len(SERVERS))
            (folder / str(day) / f"{server}.jsonl").write_text("\n".join(lines) + "\n")


def _lines(rng: random.Random, day: date, server: str, rows: int) -> Iterator[str]:
    hours = sorted(rng.choices(range(24), HOUR_WEIGHTS, k=rows))
    paths = rng.choices(PATHS, PATH_WEIGHTS, k=rows)
    statuses = rng.choices(STATUSES, STATUS_WEIGHTS, k=rows)
    for number, (hour, path, status) in enumerate(zip(hours, paths, statuses, strict=True)):
        line = json.dumps({
            "id": f"{server}-{day:%m%d}-{number}",
            "at": f"{day}T{hour:02}:{rng.randrange(60):02}:{rng.randrange(60):02}",
            "path": path,
            "status": status,
            "bytes": 0 if status == 304 else int(rng.lognormvariate(9, 1)),
            "ms": int(rng.lognormvariate(3.5, 0.9)) + (2000 if status == 503 else 0),
        })  # fmt: skip
        fate = rng.random()
        if fate < 0.0005:
            line = line[: rng.randrange(1, len(line))]
        elif fate < 0.001:
            line = line.replace(f'"status": {status}', '"status": "-"')
        yield line


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rows", type=int, default=20_000)
    options.add_argument("--days", type=int, default=3)
    options.add_argument("--to", type=Path, default=Path("logs"))
    chosen = options.parse_args()
    write(chosen.to, rows=chosen.rows, days=chosen.days)
    print(f"{chosen.rows:,} lines of {chosen.days} days in {chosen.to}")


if __name__ == "__main__":
    main()
