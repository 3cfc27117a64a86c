"""The description of the interface (`/openapi.json`) is true: whatever is asked by it, the answer is one that it describes.

Schemathesis makes the requests from it: good ones and bad ones, of every operation.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import date
from typing import Any, Literal

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

import bourne
from bourne.batch import http_call, task
from serve.served import Served, served

EXAMPLES = 500 if os.environ.get("BOURNE_LONG") else 12

CHECKS = [
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]


def shop() -> bourne.App:
    app = bourne.App("shop")
    app.log("orders", schema={"id": "bigint", "user": "varchar", "at": "timestamp"}, partitions=2, key="user")
    app.view("counts", "SELECT user, count(*) AS n FROM orders GROUP BY user")

    @app.job
    def tidy(
        day: date = date(2026, 1, 1), *, factor: float = 1.5, how: Literal["fast", "well"] = "fast"
    ) -> Any:
        return task("nothing", lambda: None)

    @app.job
    def fails() -> Any:
        return task("breaks", lambda: 1 / 0)

    app.schedule("tidy", http_call("clean"))
    return app


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(shop(), tmp_path_factory.mktemp("data")) as found:
        rows = [{"id": number, "user": f"u{number % 3}", "at": "2026-01-01 09:00:00"} for number in range(20)]
        position = found.instance.append("orders", rows).position
        assert found.get("/views/counts", at_least=position, wait=30).status_code == 200
        assert found.http.post("/jobs/fails/runs").status_code == 202
        yield found


def operations(site: Served) -> dict[str, Any]:
    description = site.get("/openapi.json").json()
    schema = schemathesis.openapi.from_dict(description)
    return {found.ok().label: found.ok() for found in schema.get_all_operations()}


# Streams never end; they are read elsewhere.
NAMES = [
    "GET /views", "GET /views/{name}", "GET /views/{name}/explain", "GET /logs", "GET /logs/{name}", "POST /logs/{name}",
    "POST /logs/{name}/verify", "POST /query", "GET /status", "GET /metrics", "GET /dead-letters", "GET /healthz", "GET /readyz",
    "GET /jobs", "GET /jobs/runs", "GET /jobs/runs/{run}", "GET /jobs/runs/{run}/chunks", "GET /jobs/runs/{run}/messages",
    "POST /jobs/{job}/runs", "POST /jobs/runs/{run}/stop", "POST /jobs/runs/{run}/restart", "POST /jobs/calls/{name}",
    "POST /dead-letters/retry", "POST /dead-letters/discard", "GET /session", "POST /session", "DELETE /session",
]  # fmt: skip


def test_all_operations_are_described(site: Served) -> None:
    assert set(operations(site)) == {*NAMES, "GET /views/{name}/changes"}


# Where nothing is asked, nothing can be asked wrongly.
BAD = [
    name for name in NAMES if "{" in name or name in ("POST /query", "GET /dead-letters", "GET /jobs/runs")
]


def there(name: str) -> dict[str, Any]:
    """Return path parameters of what is there."""
    path = name.split()[1]
    called = "orders" if path.startswith("/logs") else "clean" if path.startswith("/jobs") else "counts"
    return {"name": called, "job": "tidy", "run": 1}


@pytest.mark.parametrize(
    ("name", "mode"),
    [(name, GenerationMode.POSITIVE) for name in NAMES] + [(name, GenerationMode.NEGATIVE) for name in BAD],
    ids=[*(f"{name} good" for name in NAMES), *(f"{name} bad" for name in BAD)],
)
def test_answers_are_as_described(site: Served, name: str, mode: GenerationMode) -> None:
    cases = operations(site)[name].as_strategy(generation_mode=mode)
    tries = 0

    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=cases, is_there=st.booleans())
    def ask(case: Any, is_there: bool) -> None:
        nonlocal tries
        tries += 1
        if is_there:
            case.path_parameters.update(
                {key: value for key, value in there(name).items() if key in case.path_parameters}
            )
        if "wait" in (case.query or {}) and mode is GenerationMode.POSITIVE:
            case.query["wait"] = 0  # nobody writes: what is not there does not come
        if isinstance(case.body, dict) and "wait" in case.body and mode is GenerationMode.POSITIVE:
            case.body["wait"] = 0
        response = case.call(base_url=site.url, timeout=60)
        case.validate_response(response, checks=CHECKS)
        if response.status_code == 503:
            assert response.json()["status"] == 503 or name == "GET /readyz"
        else:
            case.validate_response(response, checks=[not_a_server_error])
        if response.status_code >= 400:
            assert response.headers["content-type"] == ["application/problem+json"]

    ask()
    assert tries
