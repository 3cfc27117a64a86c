"""The parameters of a job: what its function's signature says, checked before anything runs.

Law: two runs are of the same instance of a job if and only if their identifying parameters are equal. Those are the ones
before the `*` of the signature; what stands after it (how many workers, where to report) changes nothing of what the job is.
"""

from __future__ import annotations

import functools
import inspect
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, get_type_hints

from bourne.errors import DefinitionError, InputError


@dataclass(frozen=True, slots=True)
class Parameters:
    """Checked values of a job's parameters: `values` as the function gets them, `plain` as JSON has them.

    `mixed` are those whose type has texts and others, such as `str | None`: there a text may look like another value.
    """

    values: Mapping[str, Any]
    plain: Mapping[str, Any]
    identity: Mapping[str, Any]
    mixed: frozenset[str] = frozenset()

    @property
    def text(self) -> str:
        """The identifying ones as a text, the same for the same instance."""
        return json.dumps(self.identity, sort_keys=True, ensure_ascii=False)


class Signature:
    """What a job's function says of its parameters: names, types, defaults, and which identify an instance."""

    def __init__(self, function: Callable[..., Any], *, where: str) -> None:
        """Read the signature.

        Raises:
            DefinitionError: a parameter has no type, or is one of any number (`*args`).
        """
        self._where = where
        try:
            hints = get_type_hints(function, include_extras=True)
        except (NameError, TypeError) as error:
            raise DefinitionError(
                "the types of the job's parameters cannot be told", where=where, found=str(error),
                hint="import the types where the function is declared",
            ) from error  # fmt: skip
        self._fields: dict[str, tuple[Any, Any]] = {}
        self.identifying: tuple[str, ...] = ()
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
                raise DefinitionError(
                    f"a job takes named parameters only, not {str(parameter)!r}", where=where,
                    expected="day: date, *, limit: int = 10", found=str(parameter),
                )  # fmt: skip
            if parameter.name not in hints:
                raise DefinitionError(
                    f"parameter {parameter.name!r} has no type", where=where, expected=f"{parameter.name}: date, …",
                    found=str(parameter), hint="say what it is: str, int, float, bool, date, datetime, Decimal, a Literal or an Enum",
                )  # fmt: skip
            default = ... if parameter.default is parameter.empty else parameter.default
            self._fields[parameter.name] = (hints[parameter.name], default)
            if parameter.kind is not parameter.KEYWORD_ONLY:
                self.identifying += (parameter.name,)

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters, in order."""
        return tuple(self._fields)

    def described(self) -> list[str]:
        """Return each parameter as a person reads it: `day: date`, `limit: int = 10`."""
        return [
            f"{name}: {getattr(kind, '__name__', str(kind))}{'' if default is ... else f' = {default!r}'}"
            for name, (kind, default) in self._fields.items()
        ]

    @property
    def required(self) -> tuple[str, ...]:
        """The parameters without a default."""
        return tuple(name for name, (_, default) in self._fields.items() if default is ...)

    @functools.cached_property
    def schemas(self) -> Mapping[str, Mapping[str, Any]]:
        """The JSON schema of each parameter, with its default, as far as JSON can say it: for forms."""
        from pydantic.errors import PydanticInvalidForJsonSchema  # noqa: PLC0415

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of defaults that JSON cannot say
            try:
                found = self._model.model_json_schema()
            except PydanticInvalidForJsonSchema:  # of some type: what is to be written is up to who writes
                return {name: {} for name in self._fields}
        kinds = found.get("$defs", {})
        return {name: _with_kinds(found["properties"][name], kinds) for name in self._fields}

    def check(self, given: Mapping[str, Any]) -> Parameters:
        """Return the values as the function wants them; texts are read as what they are to be.

        Raises:
            InputError: one is missing, unknown, or not of its type; names all of them.
            DefinitionError: one is of a type that JSON cannot say.
        """
        from pydantic import ValidationError  # noqa: PLC0415  (slow to load, and only needed here)
        from pydantic_core import PydanticSerializationError  # noqa: PLC0415

        try:
            model = self._model.model_validate(dict(given))
        except ValidationError as error:
            problems = [
                f"{'.'.join(map(str, each['loc']))}: {each['msg']}, not {each['input']!r}"
                if each["type"] != "missing" else f"{'.'.join(map(str, each['loc']))}: missing"
                for each in error.errors()
            ]  # fmt: skip
            raise InputError(
                "the job's parameters do not fit", where=self._where, expected=", ".join(self.described()) or "none",
                found="; ".join(problems),
            ) from None  # fmt: skip
        # A model has methods and settings of its own: as fields, parameters have names that are none of these.
        values = {name: getattr(model, field) for field, name in self._names.items()}
        try:
            dumped = model.model_dump(mode="json")
        except (PydanticSerializationError, UnicodeDecodeError) as error:
            raise DefinitionError(
                "a job's parameter is of a type that the history cannot keep", where=self._where, found=str(error),
                hint="take a plain type, and make the object in the job",
            ) from error  # fmt: skip
        plain = {name: _same(values[name], dumped[field]) for field, name in self._names.items()}
        for name, value in plain.items():
            if _is_secret(values[name]):
                raise DefinitionError(
                    "a secret is no job's parameter: the history keeps parameters, to go on with them", where=self._where, found=name,
                    hint="take the name of an environment variable, and look at it in the job",
                )  # fmt: skip
            try:
                json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
            except (
                ValueError
            ) as error:  # half a character, no number, or one of more digits than Python writes
                raise InputError(
                    "the job's parameters do not fit", where=self._where, expected="what JSON can say, in UTF-8",
                    found=f"{name}: {error}",
                ) from None  # fmt: skip
        mixed = frozenset(name for name, (kind, _) in self._fields.items() if _is_mixed(kind))
        return Parameters(values, plain, {name: plain[name] for name in self.identifying}, mixed)

    @functools.cached_property
    def _names(self) -> dict[str, str]:
        return {f"p{number}": name for number, name in enumerate(self._fields)}

    @functools.cached_property
    def _model(self) -> Any:
        from pydantic import ConfigDict, Field, create_model  # noqa: PLC0415
        from pydantic.errors import PydanticUserError  # noqa: PLC0415

        try:
            fields: dict[str, Any] = {
                field: (self._fields[name][0], Field(self._fields[name][1], alias=name))
                for field, name in self._names.items()
            }
            config = ConfigDict(extra="forbid", validate_default=True)
            return create_model("Parameters", __config__=config, **fields)
        except PydanticUserError as error:
            raise DefinitionError(
                "a job's parameter is of a type that cannot be checked", where=self._where, found=str(error).splitlines()[0],
                hint="take a plain type, and make the object in the job",
            ) from error  # fmt: skip


def _is_secret(value: Any) -> bool:
    """Say whether JSON has only stars for a value, or a part of it."""
    if isinstance(value, Mapping):
        return any(_is_secret(each) for each in value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return any(_is_secret(each) for each in value)
    return hasattr(value, "get_secret_value")


def _is_mixed(kind: Any) -> bool:
    """Say whether values of a type may be texts or something else: all but plain classes may."""
    return not isinstance(kind, type) or issubclass(kind, Enum)


def _same(value: Any, plain: Any) -> Any:
    """Return what JSON has for a value: the same for equal ones, however they were written."""
    if isinstance(value, Decimal) and value.is_finite():
        text = format(value, "f") if value else "0"  # all digits, which `normalize` would round to 28
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, datetime) and value.tzinfo is not None:
        try:
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        except OverflowError:  # of the year 0, in UTC
            return plain
    if isinstance(value, float):
        return value + 0.0  # there are two zeros
    if (
        isinstance(value, list | tuple | set | frozenset)
        and isinstance(plain, list)
        and len(value) == len(plain)
    ):
        found = [_same(each, its) for each, its in zip(value, plain, strict=True)]
        is_set = isinstance(value, set | frozenset)  # in no order, which differs from process to process
        return sorted(found, key=lambda each: json.dumps(each, sort_keys=True)) if is_set else found
    if isinstance(value, dict) and isinstance(plain, dict) and len(value) == len(plain):
        return {
            name: _same(each, its) for each, (name, its) in zip(value.values(), plain.items(), strict=True)
        }
    return plain


def _with_kinds(schema: dict[str, Any], kinds: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema with the enumerations that it names in place of their names."""
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    here = {key: value for key, value in schema.items() if key not in ("$ref", "title")}
    found = {**kinds.get(name, {}), **here}
    if "anyOf" in found:
        found["anyOf"] = [_with_kinds(each, kinds) for each in found["anyOf"]]
    return found
