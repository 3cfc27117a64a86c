"""docs/cli.md says what the command line does: every command, argument, option and exit code is there."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from bourne import errors
from bourne.cli.program import program

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")


def commands(group):
    """Return all commands, those of a group by the name of that."""
    found = {}
    for name, command in group.commands.items():
        found |= (
            {f"{name} {inner}": each for inner, each in command.commands.items()}
            if hasattr(command, "commands")
            else {name: command}
        )
    return found


COMMANDS = commands(get_command(program))


def section(command: str) -> str:
    return PAGE.split(f"## bourne {command}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize(("name", "command"), COMMANDS.items(), ids=COMMANDS)
def test_every_command_argument_and_option_is_explained(name, command):
    assert " ".join(command.help.split("\n\n")[0].split()) in PAGE
    page = name.split()[0]
    for parameter in command.params:
        if parameter.name == "data":
            continue
        names = parameter.opts if parameter.param_type_name == "option" else [parameter.metavar]
        for option in names:
            assert re.search(rf"`{re.escape(option)}\b|`{re.escape(option)}", section(page)), option
        assert parameter.help.rstrip(".").split(";")[0].split(",")[0] in section(page), parameter.help


def test_the_page_names_no_option_that_is_not_there():
    known = {option for command in COMMANDS.values() for each in command.params for option in each.opts}
    known |= {
        option for command in COMMANDS.values() for each in command.params for option in each.secondary_opts
    }
    known |= {"--help", "--version", "-h"}
    assert set(re.findall(r"`(--?[a-z][a-z-]*)", PAGE)) <= known


def test_every_error_class_is_in_the_table_with_its_exit_code():
    table = {
        name: int(code)
        for code, names in re.findall(r"^\| (\d+) \|.*\| ([^|]*) \|$", PAGE, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)
    }
    classes = {
        name: value.exit_code
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.BourneError)
    }
    assert table == classes
    assert all(code not in (0, 2) for code in classes.values())


def test_help_does_not_load_what_is_slow():
    code = "import sys; import bourne.cli; print([n for n in ('duckdb', 'numba', 'numpy', 'pyarrow') if n in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout == "[]\n"
