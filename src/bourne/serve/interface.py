"""What requests and answers look like: for FastAPI to read, and for OpenAPI to tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from fastapi import Path, Query, Request, WebSocket
from pydantic import BaseModel, ConfigDict, Field

from bourne.errors import InputError, MalformedInput
from bourne.limits import AT_LEAST_S, AT_LEAST_S_MAX, SERVED_ROWS, SERVED_ROWS_MAX
from bourne.serve.encoding import MEDIA_TYPES, BodyFormat
from bourne.serve.service import Service

PROBLEM: Final[dict[int | str, dict[str, Any]]] = {
    "default": {
        "description": "A problem (RFC 9457): why it is refused",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}

Name = Annotated[str, Path(description="The name of a view or log.", max_length=200)]
Columns = Annotated[str | None, Query(description="The columns to return: `a,b`. By default all.")]
Where = Annotated[str | None, Query(description="A condition over the columns, without functions: `total > 3 AND user <> 'bo'`.")]  # fmt: skip
Format = Annotated[Literal["json", "csv", "arrow"] | None, Query(description="By default as the header Accept says, else JSON.")]  # fmt: skip

EQUAL: Final = {
    "parameters": [{
        "name": "filter", "in": "query", "style": "form", "explode": True, "required": False,
        "description": "Any column: only the rows with that value. `where.COLUMN` where a column is called like a parameter.",
        "schema": {"type": "object", "additionalProperties": {"type": "string"}},
    }]
}  # fmt: skip


_HEADERS: Final = {
    "Bourne-Position": {"description": "The records that are in the answer.", "schema": {"type": "string"}},
    "Bourne-More": {"description": "Whether there are more rows.", "schema": {"type": "string", "enum": ["true", "false"]}},
}  # fmt: skip


def _rows(*headers: str, members: Mapping[str, Any] | None = None) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says of an answer of rows: in JSON beside their position and columns, else alone."""
    column = {
        "type": "object",
        "required": ["name", "type"],
        "properties": {"name": {"type": "string"}, "type": {"type": "string"}},
    }
    properties = {
        "position": {"type": "string"}, "columns": {"type": "array", "items": column},
        "rows": {"type": "array", "items": {"type": "object"}}, **(members or {}),
    }  # fmt: skip
    json_schema = {"type": "object", "required": list(properties), "properties": properties}
    content = {
        "application/json": {"schema": json_schema},
        "text/csv": {"schema": {"type": "string"}},
        MEDIA_TYPES["arrow"]: {"schema": {"type": "string", "format": "binary"}},
    }
    return {
        200: {
            "description": "Rows",
            "headers": {name: _HEADERS[name] for name in headers},
            "content": content,
        }
    }


PAGE: Final = _rows("Bourne-Position", "Bourne-More", members={"more": {"type": "boolean"}})
ANSWER: Final = _rows("Bourne-Position")
QUESTION: Final = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Question"}}},
    }
}
NOT_READY: Final[dict[int | str, dict[str, Any]]] = {
    503: {
        "description": "Which views do not follow, and why",
        "content": {"application/json": {"schema": {"type": "object", "required": ["status", "why"]}}},
    }
}


class Problem(BaseModel):
    """Why a request is refused."""

    title: str
    status: int
    where: str | None = None
    expected: str | None = None
    found: str | None = None
    hint: str | None = None


class RowsAsked(BaseModel):
    """Which rows of a view, and how."""

    columns: str | None = Field(None, description="The columns to return: `a,b`. By default all.")
    where: str | None = Field(None, description="A condition over the columns: `total > 3 AND user <> 'bo'`.")
    order: str | None = Field(None, description="The columns to order by: `a,b.desc`.")
    limit: int = Field(SERVED_ROWS, ge=1, le=SERVED_ROWS_MAX, description="How many rows at most.")
    page: int = Field(1, ge=1, le=1_000_000, description="Which of the pages of so many rows.")
    at_least: str = Field("", description="A position whose records have to be in the answer.")
    wait: float = Field(AT_LEAST_S, ge=0, le=AT_LEAST_S_MAX, allow_inf_nan=False, description="How long to wait for it, in seconds.")  # fmt: skip
    format: Literal["json", "csv", "arrow"] | None = Field(None, description="By default as the header Accept says, else JSON.")  # fmt: skip


def described_parameters(model: type[BaseModel]) -> dict[str, Any]:
    """Return what OpenAPI says of parameters that a model reads, beside any column."""
    found = model.model_json_schema()
    parameters = [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": schema.pop("description"),
            "schema": schema,
        }
        for name, schema in found["properties"].items()
    ]
    return {"parameters": [*parameters, *EQUAL["parameters"]]}


class Question(BaseModel):
    """One SELECT over views and logs."""

    model_config = ConfigDict(extra="forbid")

    sql: str = Field(max_length=200_000)
    parameters: list[Any] | dict[str, Any] | None = None
    at_least: str = ""
    wait: float = Field(AT_LEAST_S, ge=0, le=AT_LEAST_S_MAX, allow_inf_nan=False)
    format: Literal["json", "csv", "arrow"] | None = None


class Chosen(BaseModel):
    """Dead letters, by id or its beginning."""

    model_config = ConfigDict(extra="forbid")

    ids: list[str] = Field(min_length=1, max_length=1_000)


def service_of(request: Request | WebSocket) -> Service:
    """Return what the server has."""
    service: Service = request.app.state.service
    return service


def kind_of(request: Request, asked: BodyFormat | None) -> BodyFormat:
    """Return in which form an answer is wanted."""
    if asked is not None:
        return asked
    accepted = request.headers.get("accept", "")
    found: BodyFormat = "json"
    if "text/csv" in accepted:
        found = "csv"
    elif "arrow" in accepted:
        found = "arrow"
    return found


def not_understood(first: Mapping[str, Any]) -> InputError | MalformedInput:
    """Return what to say of the first thing that is wrong with a request."""
    where = " ".join(str(part) for part in first.get("loc", ())) or "the body"
    found = str(first.get("input"))[:200]
    kind = MalformedInput if first.get("type") == "json_invalid" else InputError
    return kind("the request is not understood", where=where, expected=first.get("msg"), found=found)
