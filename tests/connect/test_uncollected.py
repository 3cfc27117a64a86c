"""The garbage collector waits as long as anybody asks for it, and goes on as it was."""

from __future__ import annotations

import gc
from contextlib import ExitStack

import pytest

from bourne.connect.uncollected import uncollected


@pytest.fixture(autouse=True)
def _as_it_was():
    was = gc.isenabled()
    yield
    (gc.enable if was else gc.disable)()


def test_it_waits_for_all_who_ask_in_any_order():
    gc.enable()
    first, second = ExitStack(), ExitStack()
    first.enter_context(uncollected())
    second.enter_context(uncollected())
    assert not gc.isenabled()
    first.close()
    assert not gc.isenabled()
    second.close()
    assert gc.isenabled()


def test_it_goes_on_after_an_error_and_not_where_it_was_off():
    gc.enable()
    with pytest.raises(ValueError), uncollected():
        raise ValueError
    assert gc.isenabled()
    gc.disable()
    with uncollected():
        pass
    assert not gc.isenabled()
