"""Who may ask a server what: tokens by name, each with a role, in `tokens.json` of the data folder.

A token is 32 random bytes. Only its SHA-256 is kept: whoever reads the file cannot ask with it. A slow hash, as passwords
need it, would protect nothing more, since nobody can guess 256 bits, and would cost every request its time.

Law: what `create` and `revoke` did holds for every process from the next request on: the file is read each time, as its
attributes cannot tell two changes within one tick of the clock apart; it is parsed only if its bytes are others. Once
the file is there it stays: when the last token is revoked, nobody gets in. A file that cannot be understood is an
error, never "no tokens".
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

from bourne.errors import DefinitionError, FormatTooNew, InputError, StorageError, UnknownName
from bourne.limits import TOKENS_MAX
from bourne.log.disk import disk_errors
from bourne.ports import Clock, Files, OsFiles, write_durably
from bourne.schema import check_name
from bourne.views.catalog import Catalog

_FILE: Final = "tokens.json"
_FORMAT: Final = 1

# Lets a person, and a program that looks for leaked secrets, see what it is.
_PREFIX: Final = "bourne_"
_RANDOM_BYTES: Final = 32

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Role(IntEnum):
    """What a token is good for; each role may also do what the lesser ones may."""

    READER = 1
    WRITER = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of a token: all but the token itself. `created` is in UTC."""

    name: str
    role: Role
    created: datetime
    sha256: bytes


class Tokens:
    """The tokens of one data folder. Safe to use from any thread, and beside other processes."""

    def __init__(self, folder: Path, *, files: Files | None = None) -> None:
        self._catalog = Catalog(folder)
        self._path = folder / _FILE
        self._files = files or OsFiles()
        self._read: tuple[bytes, tuple[Token, ...]] | None = None

    @property
    def are_set_up(self) -> bool:
        """Whether there are tokens, or were: then nobody may ask without one.

        Raises:
            StorageError: the file cannot be read or understood.
        """
        return self._load() is not None

    def find(self, token: str) -> Token | None:
        """Return what is known of a token; None if there is no such token. Takes as long for a wrong one as for a right one.

        Raises:
            StorageError: the file cannot be read or understood.
        """
        found = None
        hashed = _hash(token)
        for each in self._load() or ():
            if hmac.compare_digest(each.sha256, hashed):
                found = each
        return found

    def list(self) -> Sequence[Token]:
        """Return the tokens by name.

        Raises:
            StorageError: there is no data folder, or the file cannot be read or understood.
        """
        self._check_folder()
        return sorted(self._load() or (), key=lambda token: token.name)

    def create(self, name: str, role: Role, clock: Clock) -> str:
        """Return a new token, which nobody can be told again; it is good when this returns, durably.

        Raises:
            DefinitionError: it cannot have that name, or another one has it.
            InputError: there are too many.
            StorageError, DiskFull: there is no data folder, or it refuses.
        """
        _check_name(name)
        self._check_folder()
        with self._catalog.alone():
            there = self._load() or ()
            if _named(there, name) is not None:
                raise DefinitionError(
                    f"there is a token {name!r} already", where=str(self._path), expected="a name that is not used yet",
                    hint=f"choose another name, or revoke that one: bourne token revoke {name}",
                )  # fmt: skip
            if len(there) >= TOKENS_MAX:
                raise InputError(
                    "there are too many tokens", where=str(self._path), expected=f"at most {TOKENS_MAX:,}",
                    found=f"{len(there):,}", hint="revoke those that nobody uses any more",
                )  # fmt: skip
            secret = _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
            created = _EPOCH + timedelta(microseconds=clock.now_us())
            self._store((*there, Token(name, role, created, _hash(secret))))
        return secret

    def revoke(self, name: str) -> None:
        """Make a token good for nothing, durably.

        Raises:
            UnknownName: there is none of that name.
            StorageError, DiskFull: there is no data folder, or it refuses.
        """
        self._check_folder()
        with self._catalog.alone():
            there = self._load() or ()
            revoked = _named(there, name)
            if revoked is None:
                known = ", ".join(sorted(each.name for each in there)) or "none"
                raise UnknownName(
                    f"there is no token {name!r}", where=str(self._path), expected=known, found=name
                )
            self._store(tuple(each for each in there if each is not revoked))

    def _check_folder(self) -> None:
        if self._catalog.check() is None:
            raise StorageError(
                "there is no data folder", where=str(self._catalog.folder), expected="a folder made by Bourne",
                hint="name it with --data, or run an app on it first",
            )  # fmt: skip

    def _load(self) -> tuple[Token, ...] | None:
        """Return the tokens as of now; None if there never was one."""
        with disk_errors(self._path.parent, f"cannot read {_FILE}"):
            try:
                content = self._path.read_bytes()
            except FileNotFoundError:
                return None
        before = self._read  # as another thread may replace it just now
        if before is not None and before[0] == content:
            return before[1]
        tokens = _parse(content, self._path)
        self._read = (content, tokens)
        return tokens

    def _store(self, tokens: Sequence[Token]) -> None:
        content = {
            "format": _FORMAT,
            "tokens": [
                {
                    "name": each.name,
                    "role": each.role.name.lower(),
                    "created": each.created.isoformat(),
                    "sha256": each.sha256.hex(),
                }
                for each in tokens
            ],
        }
        text = json.dumps(content, indent=1, ensure_ascii=False)
        with disk_errors(self._path.parent, f"cannot write {_FILE}"):
            write_durably(self._files, self._path, text.encode(), is_private=True)

    def __repr__(self) -> str:
        return f"<tokens in {self._path}>"


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()


def _named(tokens: Sequence[Token], name: str) -> Token | None:
    return next((each for each in tokens if each.name.casefold() == name.casefold()), None)


def _check_name(name: str) -> None:
    try:
        check_name(name.replace("-", "_"), kind="token")
    except DefinitionError as error:
        raise DefinitionError(
            f"{name!r} cannot be a token's name",
            expected="letters, digits, underscores and hyphens, not starting with a digit, at most 64",
            hint="choose another name",
        ) from error
    if name.startswith("-"):  # the command line would take it for an option
        raise DefinitionError(
            f"{name!r} cannot be a token's name: it starts with a hyphen", hint="choose another name"
        )


# --- what the file says ----------------------------------------------------------------------------------


def _parse(content: bytes, path: Path) -> tuple[Token, ...]:
    try:
        said = json.loads(content)
        if said["format"] == _FORMAT:
            tokens = tuple(map(_token, said["tokens"]))
            if len({each.name.casefold() for each in tokens}) < len(tokens):
                raise ValueError("two tokens of one name")
            return tokens
        number = int(said["format"])
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
        raise StorageError(
            f"{_FILE} cannot be understood, so nobody can be let in", where=str(path), found=f"{error!r}",
            hint="restore that file from a copy; or delete it, and create all tokens anew",
        ) from error  # fmt: skip
    kind = FormatTooNew if number > _FORMAT else StorageError
    raise kind(
        f"{_FILE} was written by another Bourne", where=str(path), expected=f"format {_FORMAT}",
        found=f"format {number}", hint="use that Bourne, or a newer one",
    )  # fmt: skip


def _token(said: Any) -> Token:
    """Return what the file says of one token.

    Raises:
        ValueError, TypeError, LookupError, AttributeError, OverflowError: it says something else.
    """
    if not isinstance(said["name"], str) or not re.fullmatch("[0-9a-f]{64}", said["sha256"]):
        raise ValueError("no name, or no SHA-256")
    created = datetime.fromisoformat(said["created"]).astimezone(UTC)
    return Token(said["name"], Role[said["role"].upper()], created, bytes.fromhex(said["sha256"]))
