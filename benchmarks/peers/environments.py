"""Makes the environments that peers run in: `.venv-flink`, Flink and one function in Java; `.venv-pathway`, Pathway."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.nexmark.formulas import Settings
from benchmarks.peers.flink_tables import letters_source
from benchmarks.peers.processes import PeerFailed

ROOT: Final = Path(__file__).parent.parent.parent
FLINK_VERSION: Final = "2.3.0"
PATHWAY_VERSION: Final = "0.33.0"
_PYTHONS: Final = ("python3.11", "python3.12", "python3.10")


@dataclass(frozen=True, slots=True)
class FlinkEnvironment:
    """Where Flink's Python is, and the jar with LETTERS."""

    python: Path
    letters_jar: Path


def make_flink(settings: Settings) -> FlinkEnvironment:
    """Install Flink, if it is not yet, and compile LETTERS.

    Raises:
        PeerFailed: there is no JDK or no Python that Flink supports, or PyPI does not answer.
    """
    for tool in ("java", "javac", "jar"):
        if shutil.which(tool) is None:
            raise PeerFailed(f"Flink needs a JDK, version 17: there is no {tool!r} on the path; install one")
    folder = ROOT / ".venv-flink"
    python = _make(folder, "apache-flink", FLINK_VERSION)
    source, classes = folder / "letters" / "Letters.java", folder / "letters" / "classes"
    shutil.rmtree(source.parent, ignore_errors=True)
    classes.mkdir(parents=True)
    source.write_text(letters_source(settings), encoding="utf-8")
    (libraries,) = folder.glob("lib/python*/site-packages/pyflink/lib")
    jar = source.with_name("letters.jar")
    jars = os.pathsep.join(str(path) for path in libraries.glob("*.jar"))
    _call(["javac", "-cp", jars, "-d", str(classes), str(source)])
    _call(["jar", "cf", str(jar), "-C", str(classes), "."])
    return FlinkEnvironment(python, jar)


def make_pathway() -> Path:
    """Install Pathway, if it is not yet; return its Python.

    Raises:
        PeerFailed: PyPI does not answer, or has no Pathway for this machine.
    """
    return _make(ROOT / ".venv-pathway", "pathway", PATHWAY_VERSION)


def _make(folder: Path, package: str, version: str) -> Path:
    """Make an environment with one package, unless it is there; return its Python."""
    python, made = folder / "bin" / "python", folder / f"{package}-{version}"
    if not made.exists():
        base = next((found for name in _PYTHONS if (found := shutil.which(name))), sys.executable)
        _call([base, "-m", "venv", str(folder)])
        _call([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
               f"{package}=={version}"])  # fmt: skip
        made.touch()
    return python


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeerFailed(
            f"{' '.join(command)[:300]} ended with {done.returncode}, expected 0\n{done.stderr[-2000:]}"
        )
