"""A function's fingerprint changes when what runs changes, and only then."""

from __future__ import annotations

import functools
import math
import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest

from bourne.errors import DefinitionError
from bourne.fingerprint import fingerprint

HEAD = '''
"""A module."""
import math, re
RATE = 3
NAMES = {"a", "b", "c", "d"}
WORD = re.compile("x+")
def helper(x):
    return x * RATE
class Tool:
    size = 1
    def use(self, x):
        return x
def make(step):
    def inner(x, *, more=(1, 2)):
        return [y + step for y in (x, *more)]
    return inner
made = make(5)
'''

BODY = """
def f(x, y=1):
    z = helper(x) if x in NAMES else made(x)
    return lambda t: (Tool().use(z), math.sqrt(t), WORD.match("x"), t in {"p", "q", "r"})
"""


def of(text: str, name: str = "f") -> str:
    module = ModuleType("some_module")
    exec(compile(text, "some_module.py", "exec", dont_inherit=True), vars(module))
    return fingerprint(vars(module)[name], where="here")


def test_the_same_code_is_the_same_wherever_it_stands():
    assert of(HEAD + BODY) == of("# a comment\n\n" + HEAD + "# another\n" + BODY)
    assert of(HEAD + BODY) == of(HEAD + "UNUSED = object()\n" + BODY)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("helper(x) if", "helper(y) if"),
        ("y=1", "y=2"),
        ("RATE = 3", "RATE = 4"),
        ("RATE = 3", "RATE = 3.0"),
        ('"c", "d"', '"c", "e"'),
        ("x * RATE", "x + RATE"),
        ("make(5)", "make(6)"),
        ("more=(1, 2)", "more=(1, 3)"),
        ("y + step", "y - step"),
        ('compile("x+")', 'compile("x*")'),
        ("math.sqrt", "math.cos"),
        ('"q", "r"', '"q", "s"'),
        ("        return x\n", "        return -x\n"),
    ],
)
def test_what_runs_differently_is_different(old, new):
    text = HEAD + BODY
    assert text.count(old) == 1
    assert of(text.replace(old, new)) != of(text)


def test_it_is_the_same_in_another_process():
    program = (
        f"import sys; sys.path[:0] = {sys.path!r}\nfrom test_fingerprint import *\nprint(of(HEAD + BODY))"
    )
    for seed in ("1", "2"):
        ran = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(__import__("pathlib").Path(__file__).parent)},
        )  # fmt: skip
        assert ran.stdout.strip() == of(HEAD + BODY)


def test_functions_that_call_themselves_end():
    text = "def f(x):\n    return g(x)\ndef g(x):\n    return f(x - 1) if x else 1\n"
    assert of(text) == of(text) != of(text.replace("x - 1", "x - 2"))


def test_functions_of_other_kinds():
    def power(x, n):
        return x**n

    kinds = [math.sqrt, np.sqrt, functools.partial(power, n=2), functools.partial(power, n=3),
             functools.lru_cache(power), power, lambda x: x]  # fmt: skip
    found = [fingerprint(kind, where="here") for kind in kinds]
    assert len(set(found)) == len(found)
    assert found == [fingerprint(kind, where="here") for kind in kinds]


def test_what_cannot_be_told_is_refused():
    with pytest.raises(
        DefinitionError, match=r"'handle' is a builtins\.object: whether that changes cannot be told"
    ):
        of("handle = object()\ndef f(x):\n    return handle\n")

    class Model:
        def __call__(self, x):
            return x

    with pytest.raises(DefinitionError, match='version="1"'):
        fingerprint(Model(), where="here")


CLASSES = '''
import abc, collections, enum, functools, typing
from dataclasses import dataclass, field
class Meta(type):
    power = 100
class Base(metaclass=Meta):
    def inherited(self): return 101
class Tax(Base):
    """What it says of itself does not matter."""
    __slots__ = ("slot",)
    rate = 102
    table = {"kr": 103}
    @staticmethod
    def fixed(x): return x * 104
    @classmethod
    def of(cls, x): return x * 105
    @property
    def shown(self): return 106
class Lazy:
    @functools.cached_property
    def value(self): return 107
class Rates(enum.Enum):
    KR = 108
    def twice(self): return 109
class Kind(enum.Enum):
    A = 1
    B = 2
class Sold:
    _inner_ = 118
    kind = Kind.A
class Order(abc.ABC):
    @abc.abstractmethod
    def place(self): return 110
class Pair(typing.NamedTuple):
    first: int
    second: int = 111
@dataclass
class Record:
    first: int = 112
    second: list = field(default_factory=list)
class Money(int):
    scale = 113
Tax.late = 114
def helper(x): return x
helper.rate = 115
PAIR = Pair(116)
Old = collections.namedtuple("Old", "a b", defaults=[117])
def f(x):
    return Sold, Tax, Lazy, Rates.KR, Order, Record, Money, helper(x), PAIR, Old
'''


@pytest.mark.parametrize("number", range(100, 119))
def test_what_a_class_has_counts(number):
    assert CLASSES.count(str(number)) == 1
    assert of(CLASSES) == of(CLASSES.replace("does not matter", "is not read"))
    assert of(CLASSES.replace(str(number), str(number + 100))) != of(CLASSES)


def test_a_member_of_an_enumeration_counts_where_another_class_has_it():
    assert of(CLASSES.replace("kind = Kind.A", "kind = Kind.B")) != of(CLASSES)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("class Money(int): pass\nPRICE = Money(3)\ndef f(x): return PRICE\n", "PRICE"),
        ("K = 3\ndef f(x): return globals()['K']\n", "globals"),
        ("def f(x): return eval('K')\n", "eval"),
        ("class C:\n    handle = object()\ndef f(x): return C.handle\n", "handle"),
    ],
)
def test_what_could_hide_a_change_is_refused(text, named):
    with pytest.raises(DefinitionError, match=f"'{named}' is a "):
        of(text)
