"""What a Python function is, as a short text: another text, another function.

Law: the text follows from what runs, not from how it is written down: the compiled code, the defaults, what it encloses,
and the values, functions and classes of its own module that it names, and so on from there. Comments and the place in
the file do not count. What is imported counts by its name only: what a package does inside is not looked at. A value
whose content cannot be told (an open file, a model) is refused, never passed over. A new minor version of Python
compiles differently: the text changes then, too.
"""

from __future__ import annotations

import builtins
import dis
import enum
import hashlib
import re
from collections import namedtuple
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cached_property, partial
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    ModuleType,
    UnionType,
)
from typing import Any, Final, _SpecialForm

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bourne.errors import DefinitionError

_PLAIN: Final = (
    type(None), type(...), type(NotImplemented), bool, int, float, complex, str, bytes, Decimal, date, datetime, time,
    timedelta, re.Pattern, range, UnionType,
)  # fmt: skip
_Field: Final = type(vars(namedtuple("AnyTuple", "a"))["a"])
# Who looks names up by texts may read anything.
_READING_ANYTHING: Final = frozenset({"globals", "eval", "exec"})


def fingerprint(function: Callable[..., Any], *, where: str) -> str:
    """Return a text of 16 hexadecimal digits that tells this function from what it was before a change.

    Raises:
        DefinitionError: it reads something whose content cannot be told.
    """
    module = getattr(function, "__module__", None)
    parts = _Reader(module, where).function(function)
    return hashlib.sha256("\x00".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


class _Reader:
    """Reads one function. What was met before is named by its number, so cycles end."""

    def __init__(self, module: str | None, where: str) -> None:
        self._module = module if module != "builtins" else None
        self._where = where
        self._met: dict[int, tuple[int, object]] = {}

    def function(self, function: object) -> Iterator[str]:
        """Yield the parts of something that can be called."""
        if isinstance(function, partial):
            yield "partial"
            yield from self.function(function.func)
            yield from self.value("arguments", function.args)
            yield from self.value("keywords", function.keywords)
        else:
            yield from self.value("it", function)

    def value(self, name: str, value: object) -> Iterator[str]:
        """Yield the parts of a value that is called `name`."""
        if isinstance(value, enum.Enum):
            yield f"{type(value).__qualname__}.{value.name}={value.value!r}"
            yield from self.value(name, type(value))
        elif type(value) in _PLAIN or isinstance(value, np.generic):
            yield f"{type(value).__name__}:{value!r}"
        elif isinstance(value, CodeType):
            yield from self._code(value)
        elif isinstance(value, ModuleType):
            yield f"module:{value.__name__}"
        elif isinstance(value, tuple | frozenset):  # which of these are one object, the interpreter decides
            yield from self._compound(name, value)
        elif id(value) in self._met:
            yield f"again:{self._met[id(value)][0]}"
        else:
            self._met[id(value)] = (len(self._met), value)
            yield from self._compound(name, value)

    def _compound(self, name: str, value: object) -> Iterator[str]:
        match value:
            case tuple() | list():
                yield from self._kind(name, value, len(value))
                for item in value:
                    yield from self.value(name, item)
            case dict():
                yield from self._kind(name, value, len(value))
                for key, item in value.items():
                    yield from self.value(name, key)
                    yield from self.value(name, item)
            case set() | frozenset():  # their order changes from process to process
                yield from self._kind(name, value, len(value))
                yield from sorted("\x01".join(self.value(name, item)) for item in value)
            case FunctionType() if value.__module__ == self._module:
                yield f"function:{value.__qualname__}"
                yield from self._own(value)
            case type() if value.__module__ == self._module:
                yield from self._class(value)
            case staticmethod() | classmethod():
                yield type(value).__name__
                yield from self.value(name, value.__func__)
            case property():
                yield from self.value(name, (value.fget, value.fset, value.fdel))
            case cached_property():
                yield from self.value(name, value.func)
            case MemberDescriptorType() | GetSetDescriptorType() | _Field():
                yield f"slot:{name}"
            case FunctionType() | type() | BuiltinFunctionType():
                yield f"imported:{value.__module__}.{value.__qualname__}"
            case _ if isinstance(inner := getattr(value, "__wrapped__", None), FunctionType):
                yield f"wrapped:{type(value).__qualname__}"  # functools.lru_cache
                yield from self.value(name, inner)
            case np.ufunc() | pc.Function() | pa.DataType() | _SpecialForm():
                yield f"imported:{value!r}"
            case _:
                raise self._unknown(name, value)

    def _kind(self, name: str, value: object, size: int) -> Iterator[str]:
        """Yield the parts of a collection's class and size."""
        yield f"{type(value).__name__}:{size}"
        if type(value).__module__ == self._module:
            yield from self.value(name, type(value))

    def _class(self, value: type) -> Iterator[str]:
        """Yield the parts of a class of the function's own module: what it inherits, and its attributes."""
        members = list(value) if issubclass(value, enum.Enum) else []
        yield f"class:{value.__qualname__}"
        yield from self.value("a metaclass", type(value))
        for base in value.__bases__:
            yield from self.value("a base", base)
        yield from self.value("the members", [(each.name, each.value) for each in members])
        for key, item in vars(value).items():
            is_pythons = key.startswith("__") and key.endswith("__")  # a dataclass's fields, annotations, …
            is_enums = bool(members) and (isinstance(item, enum.Enum) or (key[0] == "_" == key[-1]))
            is_code = isinstance(item, FunctionType | staticmethod | classmethod | property)
            if is_code or not (is_pythons or is_enums or key == "_abc_impl"):
                yield f"attribute:{key}"
                yield from self.value(key, item)

    def _own(self, function: FunctionType) -> Iterator[str]:
        yield from self._code(function.__code__)
        yield from self.value("a default", function.__defaults__)
        yield from self.value("a default", function.__kwdefaults__)
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        for name, cell in cells:
            yield from self.value(name, cell.cell_contents)
        attributes = {name: value for name, value in vars(function).items() if not name.startswith("__")}
        if attributes:
            yield from self.value("an attribute", attributes)
        for name in sorted(_globals_of(function.__code__)):
            if name in _READING_ANYTHING - function.__globals__.keys():
                raise self._unknown(name, getattr(builtins, name))
            if name in function.__globals__:
                yield f"global:{name}"
                yield from self.value(name, function.__globals__[name])

    def _code(self, code: CodeType) -> Iterator[str]:
        yield code.co_code.hex()
        yield f"{code.co_names}{code.co_varnames}{code.co_freevars}{code.co_cellvars}{code.co_flags}"
        yield code.co_exceptiontable.hex()
        for constant in code.co_consts:
            yield from self.value("a constant", constant)

    def _unknown(self, name: str, value: object) -> DefinitionError:
        return DefinitionError(
            f"{name!r} is a {type(value).__module__}.{type(value).__qualname__}: whether that changes cannot be told",
            where=self._where,
            hint='say which version of the function this is, version="1", and count it up with each change',
        )


def _globals_of(code: CodeType) -> set[str]:
    """Return the names that a function, and the functions inside it, look up outside."""
    names = {
        instruction.argval
        for instruction in dis.get_instructions(code)
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _globals_of(constant)
    return names
