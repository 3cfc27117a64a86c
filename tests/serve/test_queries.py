"""Processes that answer queries: which one is asked, and which one is asked no more."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bourne.serve import queries
from bourne.serve.queries import Answer, QueryProcesses

GOOD, NO_MEMORY = Answer(200, None, "orders:1", b"{}"), Answer(422, None, None, b"{}", is_memory=True)


class Process:
    """In place of a process: says what it is told to."""

    def __init__(self, said: dict[str, Answer]) -> None:
        self.said = said
        self.asked: list[str] = []
        self.is_alive = False
        self.has_begun = True
        self.how_it_ended = ""

    async def start(self) -> None:
        self.is_alive = True

    async def ask(self, question: dict[str, Any], time_s: float) -> Answer:
        self.asked.append(question["sql"])
        return self.said[question["sql"]]

    def leave(self) -> None:
        self.how_it_ended = "left"

    async def close(self) -> None:
        self.is_alive, self.how_it_ended = False, self.how_it_ended or "closed"


def processes(
    monkeypatch: pytest.MonkeyPatch, *said: dict[str, Answer]
) -> tuple[QueryProcesses, list[Process]]:
    made: list[Process] = []

    def make(arguments: list[str]) -> Process:
        made.append(Process(said[len(made)]))
        return made[-1]

    monkeypatch.setattr(queries, "_Process", make)
    return QueryProcesses(Path("none"), None, None), made


def test_a_process_without_memory_for_what_fits_alone_is_asked_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, made = processes(
        monkeypatch, {"a": NO_MEMORY}, {"a": GOOD}, {"b": NO_MEMORY}, {"b": GOOD}, {"c": GOOD}
    )

    async def ask() -> None:
        for sql in "abc":
            assert await asked.ask({"sql": sql, "wait": 0.0}) == GOOD
        assert [each.asked for each in made] == [["a"], ["a"], ["b"], ["b"], ["c"]]
        # Those that are left get time for what is in them yet; but there are never more of them than one.
        assert [each.how_it_ended for each in made] == ["left", "closed", "left", "closed", ""]
        assert [each.is_alive for each in made] == [False, False, True, False, True]
        await asked.close()
        assert not any(each.is_alive for each in made)

    asyncio.run(ask())


def test_a_query_that_is_too_large_alone_leaves_the_others_their_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, made = processes(monkeypatch, {"a": NO_MEMORY, "b": GOOD}, {"a": NO_MEMORY})

    async def ask() -> None:
        assert await asked.ask({"sql": "a", "wait": 0.0}) == NO_MEMORY
        assert await asked.ask({"sql": "b", "wait": 0.0}) == GOOD
        assert [each.asked for each in made] == [["a", "b"], ["a"]]
        await asked.close()

    asyncio.run(ask())
