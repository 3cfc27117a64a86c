"""Parameters of jobs: what a signature says, checked before anything runs; and which of them tell instances apart."""

from __future__ import annotations

import enum
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Literal

import pytest
from pydantic import SecretStr

from bourne.batch.parameters import Signature
from bourne.errors import DefinitionError, InputError


class Region(enum.Enum):
    NORTH = "north"
    SOUTH = "남"


def load(
    day: date, at: datetime, amount: Decimal, region: Region, mode: Literal["full", "new"] = "new", ratio: float = 0.5, *,
    workers: int = 2, dry: bool = False,
) -> None:  # fmt: skip
    """Have parameters of all kinds."""


TEXTS = {
    "day": "2026-01-31",
    "at": "2026-01-31T10:00:00Z",
    "amount": "10.50",
    "region": "남",
    "workers": "8",
    "dry": "yes",
}


def test_texts_of_a_shell_are_read_as_their_types():
    found = Signature(load, where="job").check(TEXTS)
    assert found.values == {
        "day": date(2026, 1, 31), "at": datetime(2026, 1, 31, 10, tzinfo=UTC), "amount": Decimal("10.50"), "region": Region.SOUTH,
        "mode": "new", "ratio": 0.5, "workers": 8, "dry": True,
    }  # fmt: skip
    assert {name: type(value) for name, value in found.values.items()}["amount"] is Decimal


def test_values_and_their_texts_are_the_same_instance_and_come_back_from_json():
    signature = Signature(load, where="job")
    texts = signature.check(TEXTS)
    values = signature.check(texts.values)
    again = signature.check(json.loads(json.dumps(texts.plain)))
    assert texts == values == again
    assert texts.text == values.text == again.text
    assert "남" in texts.text


def test_what_stands_after_the_star_tells_no_instances_apart():
    signature = Signature(load, where="job")
    assert signature.identifying == ("day", "at", "amount", "region", "mode", "ratio")
    assert (
        signature.check({**TEXTS, "workers": 3, "dry": "no"}).text
        == signature.check({**TEXTS, "workers": 4}).text
    )
    assert signature.check({**TEXTS, "mode": "full"}).text != signature.check(TEXTS).text


def test_the_order_in_which_they_are_given_does_not_matter():
    signature = Signature(load, where="job")
    assert signature.check(dict(reversed(TEXTS.items()))).text == signature.check(TEXTS).text


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        (Decimal, "1.0", "1.00"), (Decimal, "100", "1E+2"), (float, "1", "1.0"), (float, "-0.0", "0.0"),
        (datetime, "2026-01-31T10:00:00Z", "2026-01-31T11:00:00+01:00"), (bool, "yes", "true"), (int, "10", 10),
        (list[Decimal], ["1.0", "2"], ["1.00", "2.0"]), (set[str], ["a", "b"], ["b", "a"]), (Decimal, "0E+3", "-0.00"),
        (dict[str, datetime], {"a": "2026-01-31T10:00:00Z"}, {"a": "2026-01-31T11:00:00+01:00"}),
        (frozenset[int], [8, 0], [0, 8]), (datetime, "0001-01-01T00:00:00+05:00", "0001-01-01T00:00:00+05:00"),
    ],
)  # fmt: skip
def test_equal_values_are_one_instance(kind, one, other):
    def job(value):  # type: ignore[no-untyped-def]
        """Take a value."""

    job.__annotations__["value"] = kind
    signature = Signature(job, where="job")
    assert signature.check({"value": one}).values == signature.check({"value": other}).values
    assert signature.check({"value": one}).text == signature.check({"value": other}).text


def test_decimals_of_many_digits_are_told_apart():
    def job(value: Decimal) -> None:
        """Take a value."""

    signature = Signature(job, where="job")
    for text in (
        "1.00000000000000000000000000000000001",
        "123456789012345678901234567890.5",
        "1" + 40 * "0",
        "-0.07",
    ):
        assert signature.check({"value": text}).plain == {"value": text}


def test_all_that_is_wrong_is_named_at_once():
    given = {
        "day": "yesterday",
        "amount": "10",
        "region": "east",
        "mode": "half",
        "wrkers": "3",
        "at": "now",
        "workers": "2.5",
    }
    with pytest.raises(InputError) as caught:
        Signature(load, where="job 'load'").check(given)
    for name in ("day", "region", "mode", "wrkers", "at", "workers"):
        assert f"{name}: " in str(caught.value.found)
    assert "amount" not in str(caught.value.found)
    with pytest.raises(InputError, match="day: missing; at: missing"):
        Signature(load, where="job 'load'").check({"amount": "1", "region": "north"})


@pytest.mark.parametrize(
    "text", ["", " ", "🦆", "a=b", '"', "줄\n바꿈", "\u202e", "x" * 10_000, "\\", "'; DROP TABLE runs; --"]
)
def test_a_text_is_taken_as_it_is(text):
    def job(name: str) -> None:
        """Take a text."""

    found = Signature(job, where="job").check({"name": text})
    assert found.values == {"name": text} and json.loads(found.text) == {"name": text}


@pytest.mark.parametrize(
    ("kind", "value"), [(str, "\udcff"), (list[str], ["a\ud800"]), (int, 10**5000)], ids=range(3)
)
def test_what_is_no_text_in_utf_8_is_refused(kind, value):
    def job(name):  # type: ignore[no-untyped-def]
        """Take a value."""

    job.__annotations__["name"] = kind
    with pytest.raises(InputError, match="do not fit"):
        Signature(job, where="job").check({"name": value})


def test_bytes_that_are_no_text_cannot_be_kept():
    def job(name: bytes) -> None:
        """Take bytes."""

    with pytest.raises(DefinitionError, match="history cannot keep"):
        Signature(job, where="job").check({"name": b"\xff"})


def test_a_secret_is_refused_as_one_would_be_taken_for_the_other():
    def job(names: list[SecretStr]) -> None:
        """Take secrets."""

    with pytest.raises(DefinitionError, match="a secret is no job's parameter"):
        Signature(job, where="job").check({"names": ["a"]})


def test_names_that_pydantic_keeps_for_itself_are_names():
    def job(
        schema: str, copy: int, json: str, model_config: str, _draft: bool = False, *, model_x: int = 1
    ) -> None:
        """Take what a model has methods of."""

    given = {"schema": "s", "copy": "1", "json": "j", "model_config": "c"}
    found = Signature(job, where="job").check(given)
    assert found.values == {**given, "copy": 1, "_draft": False, "model_x": 1}
    with pytest.raises(InputError, match="_drft"):
        Signature(job, where="job").check({**given, "_drft": 1})


def no_type(day) -> None:  # type: ignore[no-untyped-def]
    """Say nothing of it."""


def any_number(*days: date) -> None:
    """Take any number."""


def any_name(**days: date) -> None:
    """Take any name."""


def by_place(day: date, /) -> None:
    """Take it by its place."""


def unknown(day: Dae) -> None:  # type: ignore[name-defined]  # noqa: F821
    """Take something that nobody knows."""


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (no_type, "parameter 'day' has no type"), (any_number, "named parameters only"), (any_name, "named parameters only"),
        (unknown, "cannot be told"), (by_place, "named parameters only"),
    ],
)  # fmt: skip
def test_a_signature_that_says_too_little_is_refused(function, message):
    with pytest.raises(DefinitionError, match=message):
        Signature(function, where="job 'load'")


def test_a_type_that_cannot_be_checked_is_refused():
    class Handle:
        """Something open."""

    def job(handle: Any) -> None:
        """Take something open."""

    job.__annotations__["handle"] = Handle
    with pytest.raises(DefinitionError, match="cannot be checked"):
        Signature(job, where="job").check({"handle": Handle()})


def test_a_default_that_does_not_fit_is_an_error_too():
    def job(day: date = "soon") -> None:  # type: ignore[assignment]
        """Have a wrong default."""

    with pytest.raises(InputError, match="day"):
        Signature(job, where="job").check({})
