"""The URLs that name sources and sinks: `scheme://user:password@host:port/path?option=value`, `scheme:path`, or a path.

`${NAME}` stands for a variable of the environment, so that no password need be in a file. What is shown of a URL never
has one. A path's question mark may be a pattern's: only what looks like `?option=value` at the end are options.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from bourne.errors import DefinitionError

_SCHEME = re.compile(r"^([a-z][a-z0-9+.-]+):", re.IGNORECASE)
_OPTIONS = re.compile(r"\?(\w+=[^?&]*(?:&\w+=[^?&]*)*)$")
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_PASSWORD = re.compile(r"(://[^:/@?]*):[^@/?]*@")

_TOKEN = re.compile(r"([?&]token=)(?!\$\{\w+\}(?:&|$))[^&]*")

# The options that say what a URL is about; the others only say how it is read or written.
_NAMING: Final = ("table", "outbox", "prefix")


@dataclass(frozen=True, slots=True)
class Url:
    """A URL in parts. `text` is as it was declared, without its password or token; `full` is for the library that
    connects."""

    text: str
    full: str = field(repr=False)
    scheme: str
    host: str | None
    port: int | None
    path: str
    options: Mapping[str, str] = field(repr=False)

    @property
    def name(self) -> str:
        """What it is about, whoever asks and however: the same as long as it names the same thing."""
        kept = "&".join(f"{key}={self.options[key]}" for key in _NAMING if key in self.options)
        place = f"//{self.host}{'' if self.port is None else f':{self.port}'}/" if self.host else ""
        path = self.path.lstrip("/") if self.host else self.path
        scheme = "postgres" if self.scheme == "postgresql" else self.scheme
        return f"{scheme}:{place}{path}" + (f"?{kept}" if kept else "")

    def check_options(self, *known: str) -> None:
        """Refuse options that mean nothing here.

        Raises:
            DefinitionError: there is one that is not known.
        """
        for option in self.options:
            if option not in known:
                raise DefinitionError(
                    f"no such option: {option!r}",
                    where=self.text,
                    expected=", ".join(known) or "no options",
                    found=option,
                )

    def flag(self, option: str, *, default: bool) -> bool:
        """Return an option that is true or false.

        Raises:
            DefinitionError: it is neither.
        """
        text = self.options.get(option, str(default)).casefold()
        if text not in ("true", "false"):
            raise DefinitionError(
                f"option {option!r} is no flag", where=self.text, expected="true or false", found=text
            )
        return text == "true"

    def number(self, option: str, *, default: float) -> float:
        """Return an option that is a number, at least 0.

        Raises:
            DefinitionError: it is none.
        """
        text = self.options.get(option, str(default))
        try:
            found = float(text)
        except ValueError:
            found = -1.0
        if not 0 <= found < 1e9:
            raise DefinitionError(
                f"option {option!r} is no number", where=self.text, expected="0 or more", found=text
            )
        return found


def parse_url(text: str) -> Url:
    """Take a URL apart.

    Raises:
        DefinitionError: it is none, or names a variable that is not set.
    """
    shown = _TOKEN.sub(r"\1***", _PASSWORD.sub(r"\1:***@", text))
    full = _VARIABLE.sub(lambda found: _variable(found[1], shown), text)
    if full == "-" or full.startswith("-?"):
        return Url(shown, full, "-", None, None, "", _path_options(full)[1])
    match = _SCHEME.match(full)
    if match is None:
        path, options = _path_options(full)
        return Url(shown, full, "file", None, None, path, options)
    scheme, rest = match[1].lower(), full[match.end() :]
    if not rest.startswith("//"):
        path, options = _path_options(rest)
        return Url(shown, full, scheme, None, None, path, options)
    parts = urlsplit(full)
    host: str | None
    port: int | None
    try:
        if "," in parts.netloc:  # several brokers
            host, port = parts.netloc.rpartition("@")[2], None
        else:
            host, port = parts.hostname, parts.port
    except ValueError as error:
        raise DefinitionError("not a URL", where=shown, found=str(error)) from error
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    path = rest[2:].partition("?")[0] if host is None else unquote(parts.path)
    return Url(shown, full, scheme, host, port, path, options)


def _variable(name: str, where: str) -> str:
    if name not in os.environ:
        raise DefinitionError(
            f"the environment has no variable {name}", where=where, hint=f"set it: export {name}=…"
        )
    return os.environ[name]


def _path_options(text: str) -> tuple[str, dict[str, str]]:
    match = _OPTIONS.search(text)
    if match is None:
        return text, {}
    return text[: match.start()], dict(parse_qsl(match[1], keep_blank_values=True))
