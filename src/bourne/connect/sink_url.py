"""The parts of a sink's URL: `kind:path?option=value`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from bourne.connect.sink import Shape
from bourne.errors import DefinitionError


@dataclass(frozen=True, slots=True)
class FileUrl:
    """What a URL of something on this machine's disk says."""

    path: str
    options: dict[str, str]


def split_file_url(url: str, *, kinds: Collection[str], options: Collection[str], form: str) -> FileUrl:
    """Take a URL such as `sqlite:folder/a.db?table=t` apart; `form` is how it should look.

    Raises:
        DefinitionError: it is of another kind, names no path, or has options that this kind does not.
    """
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.scheme not in kinds or parts.netloc or parts.fragment or not path:
        raise DefinitionError(
            "that is not the address of such a sink", expected=form, found=url,
            hint="a path follows the colon at once; write # as %23 and ? as %3F",
        )  # fmt: skip
    return FileUrl(path, split_options(parts.query, options=options, form=form))


def split_options(query: str, *, options: Collection[str], form: str) -> dict[str, str]:
    """Return the options of a URL.

    Raises:
        DefinitionError: one is unknown, or there twice.
    """
    pairs = parse_qsl(query, keep_blank_values=True)
    found = dict(pairs)
    for name in found:
        if name not in options:
            raise DefinitionError(f"a sink of this kind has no option {name!r}", expected=form, found=name)
    if len(found) < len(pairs):
        raise DefinitionError("an option is there twice", expected=form, found=query)
    return found


def check_shape(shape: Shape) -> None:
    """Refuse a shape that contradicts itself.

    Raises:
        DefinitionError: a key column is not there, or there are both a key and weights.
    """
    where = f"sink {shape.name!r}"
    if shape.key and shape.has_weights:
        raise DefinitionError("a sink has either a key or weights", where=where)
    for name in shape.key:
        if name not in shape.schema.names:
            raise DefinitionError(
                f"there is no key column {name!r}", where=where, expected=", ".join(shape.schema.names)
            )
