"""`bourne token`: the token alone on standard output, and never again."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from bourne.cli.token import TokenRole
from bourne.serve.tokens import Role, Tokens


@pytest.fixture(autouse=True)
def made(shop, bourne_here):
    assert bourne_here("run", shop, "--until-caught-up").returncode == 0


def test_a_token_is_printed_once_and_alone(bourne_here, tmp_path):
    done = bourne_here("token", "create", "계기판-1", "--role", "writer")
    assert done.returncode == 0
    (secret,) = done.stdout.splitlines()
    found = Tokens(tmp_path / "data").find(secret)
    assert found is not None and found.role is Role.WRITER
    assert "bourne token revoke 계기판-1" in done.stderr and secret not in done.stderr
    listed = bourne_here("token", "list")
    assert secret not in listed.stdout + bourne_here("token", "list", "--json").stdout


def test_list(bourne_here):
    assert bourne_here("token", "list").stdout == "no tokens\n"
    assert json.loads(bourne_here("token", "list", "--json").stdout) == []
    bourne_here("token", "create", "bo", "--role", "admin")
    bourne_here("token", "create", "ann", "--role", "reader")
    lines = bourne_here("token", "list").stdout.splitlines()
    assert lines[0].split() == ["name", "role", "created"]
    assert [line.split()[:2] for line in lines[2:4]] == [["ann", "reader"], ["bo", "admin"]]
    found = json.loads(bourne_here("token", "list", "--json").stdout)
    assert [(each["name"], each["role"]) for each in found] == [("ann", "reader"), ("bo", "admin")]
    age = datetime.now(UTC) - datetime.fromisoformat(found[0]["created"])
    assert timedelta() <= age < timedelta(minutes=10)


def test_revoke(bourne_here, tmp_path):
    secret = bourne_here("token", "create", "ann", "--role", "admin").stdout.strip()
    done = bourne_here("token", "revoke", "ann")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ann is revoked\n", "")
    assert Tokens(tmp_path / "data").find(secret) is None
    assert bourne_here("token", "list").stdout == "all tokens are revoked: nobody may ask\n"
    assert bourne_here("token", "revoke", "ann").returncode == 4


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("token",), 2),
        (("token", "make", "a"), 2),
        (("token", "create"), 2),
        (("token", "create", "a"), 2),
        (("token", "create", "--role", "admin"), 2),
        (("token", "create", "a", "--role", "king"), 2),
        (("token", "create", "a", "--role", "admin", "--json"), 2),
        (("token", "revoke"), 2),
        (("token", "revoke", "a", "--role", "admin"), 2),
        (("token", "list", "a"), 2),
        (("token", "list", "--role", "admin"), 2),
        (("token", "create", "a b", "--role", "admin"), 3),
        (("token", "revoke", "a"), 4),
        (("token", "list", "--data", "elsewhere"), 7),
        (("token", "create", "a", "--role", "admin", "--data", "elsewhere"), 7),
    ],
)
def test_what_cannot_be_is_said(bourne_here, tmp_path, arguments, code):
    done = bourne_here(*arguments)
    assert (done.returncode, done.stdout) == (code, "") and "Traceback" not in done.stderr
    assert not (tmp_path / "elsewhere").exists()
    assert not (tmp_path / "data" / "tokens.json").exists()


def test_the_roles_are_those_of_the_server():
    assert [role.name for role in TokenRole] == [role.name for role in Role]
