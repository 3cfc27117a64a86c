"""An example at work as its readers see it: its data made, its jobs started from the shell, in a folder of its own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
BOURNE = [sys.executable, "-c", "from bourne.cli.program import main; main()"]


def data_of(example: str) -> ModuleType:
    """Return the module that makes an example's data. (They are all called `data`.)"""
    path = ROOT / "examples" / example / "data.py"
    spec = importlib.util.spec_from_file_location(f"{example}_data", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def bourne_jobs(folder: Path, example: str, *arguments: str, status: int = 0, **variables: str) -> str:
    """Do `bourne jobs start APP.py …` in a folder; return what it says, once it has ended with that exit status."""
    app = str(ROOT / "examples" / example / "app.py")
    done = subprocess.run(
        [*BOURNE, "jobs", "start", app, *arguments],
        cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == status, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr
