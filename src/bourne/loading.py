"""Finds the app that a Python file declares."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from bourne.app import App
from bourne.errors import BourneError, DefinitionError


def load_app(path: Path, *, name: str | None = None) -> App:
    """Run a Python file and return its `bourne.App`; `name`, the app's or its variable's, chooses among several.

    Raises:
        DefinitionError: there is no such file, it fails, or it does not have exactly one (such) app.
    """
    named = {variable: value for variable, value in vars(_load(path)).items() if isinstance(value, App)}
    apps = {id(app): app for variable, app in named.items() if name is None or name in (variable, app.name)}
    if len(apps) == 1:
        return next(iter(apps.values()))
    found = ", ".join(f"{variable} = {app!r}" for variable, app in named.items())
    if apps:
        raise DefinitionError(
            f"{path} declares {len(apps)} apps", where=str(path), expected="one app", found=found,
            hint="choose one with --app NAME",
        )  # fmt: skip
    raise DefinitionError(
        f"{path} declares no app" + (f" {name!r}" if name else ""),
        where=str(path),
        expected='app = bourne.App("…") in the module',
        found=found or "none",
    )


def _load(path: Path) -> ModuleType:
    if not path.is_file():
        raise DefinitionError(
            f"there is no file {path}",
            where=str(path.absolute().parent),
            expected="a Python file that declares an app",
        )
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise DefinitionError(
            f"{path} is not a Python file", where=str(path), expected="a name that ends with .py"
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.absolute().parent))  # as `python APP.py` does
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        place = _place(error, path)
        if isinstance(error, BourneError):
            where = place if error.where is None else f"{place}, {error.where}"
            raise DefinitionError(
                error.what, where=where, expected=error.expected, found=error.found, hint=error.hint
            ) from error
        raise DefinitionError(
            f"{path} cannot be loaded", where=place, found=f"{type(error).__name__}: {error}", hint="mend it"
        ) from error
    return module


def _place(error: BaseException, path: Path) -> str:
    """Return the line of the file that failed."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{error.filename}, line {error.lineno}"
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename) == path or frame.filename == str(path.absolute())
    ]
    return f"{path}, line {lines[-1]}" if lines else str(path)
