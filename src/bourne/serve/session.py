"""Signing in to the dashboard: a token is kept in a cookie that pages of other sites and scripts cannot reach."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from bourne.errors import InputError
from bourne.problems import Refused
from bourne.serve.guard import COOKIE, TOKEN
from bourne.serve.tokens import Tokens


class SignIn(BaseModel):
    """Who signs in."""

    model_config = ConfigDict(extra="forbid")

    token: str = Field(max_length=1_000)


def who(request: Request, tokens: Tokens) -> JSONResponse:
    """Say whose token a request brings; without tokens everybody of this machine is an admin.

    Raises:
        Refused: none, or one that is not known.
    """
    if not tokens.are_set_up:
        return JSONResponse({"name": None, "role": "admin"})
    token = request.scope.get(TOKEN)
    if token is None:
        raise _unknown()
    return JSONResponse({"name": token.name, "role": token.role.name.lower()})


def sign_in(request: Request, tokens: Tokens, given: str) -> JSONResponse:
    """Return the cookie for a token.

    Raises:
        Refused: it is not known.
    """
    token = tokens.find(given)
    if token is None:
        raise _unknown()
    response = JSONResponse({"name": token.name, "role": token.role.name.lower()})
    response.set_cookie(
        COOKIE,
        given,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
        max_age=30 * 86_400,
    )
    return response


def sign_out() -> JSONResponse:
    """Take the cookie back."""
    response = JSONResponse({"name": None, "role": None})
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response


def _unknown() -> Refused:
    error = InputError(
        "this token is not known",
        expected="one that `bourne token create` printed",
        found="another one, or none",
    )
    return Refused(HTTPStatus.UNAUTHORIZED, error, WWW_Authenticate="Bearer")
