"""Tokens: only hashes are kept, what changed holds at once, and no doubt lets anybody in."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

import bourne
from bourne import limits
from bourne.serve import tokens as tokens_module
from bourne.serve.tokens import Role, Tokens
from bourne.testing import FaultyFiles, SimulatedClock
from serve.served import Subscriber, served

CLOCK = SimulatedClock(1_700_000_000_123_456)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    app = bourne.App("shop")
    app.log("orders", schema={"id": "bigint"})
    bourne.open(app, data=tmp_path / "data").close()
    return tmp_path / "data"


# --- what they are for ---


def role_of(tokens: Tokens, secret: str) -> Role | None:
    found = tokens.find(secret)
    return None if found is None else found.role


def test_a_token_has_its_role_until_it_is_revoked(folder: Path) -> None:
    tokens = Tokens(folder)
    assert not tokens.are_set_up and tokens.list() == []
    made = {role: tokens.create(f"the-{role.name.lower()}", role, CLOCK) for role in Role}
    assert [role_of(tokens, secret) for secret in made.values()] == list(Role)
    assert Role.READER < Role.WRITER < Role.ADMIN
    tokens.revoke("THE-writer")
    assert role_of(tokens, made[Role.WRITER]) is None
    assert role_of(tokens, made[Role.ADMIN]) is Role.ADMIN
    assert [(each.name, each.role) for each in tokens.list()] == [("the-admin", Role.ADMIN), ("the-reader", Role.READER)]  # fmt: skip
    assert tokens.list()[0].created == datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC)


def test_a_token_is_long_random_and_told_by_its_prefix(folder: Path) -> None:
    made = [Tokens(folder).create(f"t{number}", Role.READER, CLOCK) for number in range(20)]
    assert all(re.fullmatch(r"bourne_[A-Za-z0-9_-]{43}", secret) for secret in made)
    assert len(set(made)) == 20


@pytest.mark.parametrize("wrong", ["", "bourne_", "x" * 10_000, "한\ud800\x00", "bourne_" + "A" * 43])
def test_a_wrong_token_is_nobodys(folder: Path, wrong: str) -> None:
    tokens = Tokens(folder)
    assert role_of(tokens, wrong) is None
    secret = tokens.create("a", Role.ADMIN, CLOCK)
    for other in (
        wrong,
        secret[:-1],
        secret + "=",
        secret.lower(),
        f" {secret}",
        secret.removeprefix("bourne_"),
    ):
        assert role_of(tokens, other) is None
    assert role_of(tokens, tokens.list()[0].sha256.hex()) is None  # its hash is no token


def test_every_hash_is_compared_whichever_fits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens(folder)
    made = [tokens.create(f"t{number}", Role.READER, CLOCK) for number in range(5)]
    compared: list[bytes] = []
    real = tokens_module.hmac.compare_digest
    monkeypatch.setattr(
        tokens_module.hmac, "compare_digest", lambda kept, asked: compared.append(kept) or real(kept, asked)
    )
    for secret in (*made, "wrong"):
        compared.clear()
        role_of(tokens, secret)
        assert len(compared) == 5


def test_the_file_holds_hashes_and_is_its_owners_alone(folder: Path) -> None:
    draft = folder / "tokens.json.draft"
    draft.write_text("left by a crash, for all to read")
    draft.chmod(0o666)
    tokens = Tokens(folder)
    for _ in range(2):
        secret = tokens.create(f"t{len(tokens.list())}", Role.READER, CLOCK)
        assert stat.S_IMODE((folder / "tokens.json").stat().st_mode) == 0o600
    text = (folder / "tokens.json").read_text()
    assert json.loads(text)["format"] == 1
    assert secret not in text and secret.removeprefix("bourne_") not in text
    assert not draft.exists()


# --- beside others ---


def test_what_another_one_changed_holds_at_once(folder: Path) -> None:
    server, hand = Tokens(folder), Tokens(folder)
    for number in range(50):  # all of them well within one tick of a file system's clock
        secret = hand.create("same", Role.READER, CLOCK)
        assert role_of(server, secret) is Role.READER, number
        hand.revoke("same")
        assert role_of(server, secret) is None, number
        assert server.are_set_up


def test_when_all_are_revoked_nobody_gets_in(folder: Path) -> None:
    tokens = Tokens(folder)
    tokens.create("a", Role.READER, CLOCK)
    tokens.revoke("a")
    assert tokens.are_set_up and tokens.list() == []


CREATE = """
import sys
from pathlib import Path
from bourne.ports import SystemClock
from bourne.serve.tokens import Role, Tokens
tokens = Tokens(Path(sys.argv[1]))
for number in range(20):
    print(tokens.create(f"{sys.argv[2]}{number}", Role.WRITER, SystemClock()))
"""


def test_creations_at_the_same_time_lose_none(folder: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", CREATE, folder, name], stdout=subprocess.PIPE, text=True)
        for name in ("a", "b")
    ]
    tokens = Tokens(folder)
    here: list[str] = []

    def work(name: str) -> None:
        here.extend(tokens.create(f"{name}{number}", Role.WRITER, CLOCK) for number in range(20))

    threads = [threading.Thread(target=work, args=(name,)) for name in ("c", "d")]
    for thread in threads:
        thread.start()
    made = [line for process in processes for line in process.communicate(timeout=60)[0].split()]
    for thread in threads:
        thread.join()
    assert len({*made, *here}) == 80 == len(tokens.list())
    assert all(role_of(tokens, secret) is Role.WRITER for secret in (*made, *here))


def test_an_app_opens_as_before(folder: Path) -> None:
    Tokens(folder).create("a", Role.READER, CLOCK)
    app = bourne.App("shop")
    app.log("orders", schema={"id": "bigint", "more": "varchar"})
    with bourne.open(app, data=folder) as shop:
        assert shop.append("orders", [{"id": 1}])
    assert [each.name for each in Tokens(folder).list()] == ["a"]


# --- what is refused ---


@pytest.mark.parametrize("name", ["", "-a", "1a", "a b", "a/b", "..", "__a", "--a", "a\n", "a" * 65])
def test_a_bad_name(folder: Path, name: str) -> None:
    with pytest.raises(bourne.DefinitionError, match="cannot be a token's name"):
        Tokens(folder).create(name, Role.READER, CLOCK)
    assert not Tokens(folder).are_set_up


def test_a_name_is_taken_once_whatever_its_case(folder: Path) -> None:
    tokens = Tokens(folder)
    tokens.create("계기판-1", Role.READER, CLOCK)
    secret = tokens.create("Ann", Role.READER, CLOCK)
    with pytest.raises(bourne.DefinitionError, match="there is a token 'ann' already"):
        tokens.create("ann", Role.ADMIN, CLOCK)
    assert role_of(tokens, secret) is Role.READER
    with pytest.raises(bourne.UnknownName) as raised:
        tokens.revoke("bo")
    assert raised.value.expected == "Ann, 계기판-1"


def test_there_is_a_bound(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert limits.TOKENS_MAX >= 100
    monkeypatch.setattr(tokens_module, "TOKENS_MAX", 2)
    tokens = Tokens(folder)
    tokens.create("a", Role.READER, CLOCK)
    tokens.create("b", Role.READER, CLOCK)
    with pytest.raises(bourne.InputError, match="too many"):
        tokens.create("c", Role.READER, CLOCK)
    tokens.revoke("a")
    tokens.create("c", Role.READER, CLOCK)


def test_without_a_data_folder_nothing_is_made(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "none")
    for ask in (lambda: tokens.create("a", Role.READER, CLOCK), lambda: tokens.revoke("a"), tokens.list):
        with pytest.raises(bourne.StorageError, match="there is no data folder"):
            ask()
    assert not (tmp_path / "none").exists()


GOOD = {"name": "a", "role": "reader", "created": "2026-01-31T10:00:00+00:00", "sha256": "0" * 64}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        "\x00" * 300,
        "[" * 100_000,
        '{"format": "x"}',
        '{"format": 1e999}',
        '{"format": 0}',
        '{"format": 1}',
        '{"format": 1, "tokens": null}',
        '{"format": 1, "tokens": [1]}',
        *(
            json.dumps({"format": 1, "tokens": [{**GOOD, **wrong}]})
            for wrong in (
                {"name": 1}, {"role": "king"}, {"role": None}, {"created": 5}, {"created": "soon"},
                {"created": "0001-01-01T00:00:00+23:00"}, {"sha256": "0" * 63}, {"sha256": "Z" * 64}, {"sha256": None},
            )
        ),
        json.dumps({"format": 1, "tokens": [GOOD, {**GOOD, "name": "A"}]}),
        json.dumps({"format": 1, "tokens": [{"name": "a"}]}),
    ],
    ids=lambda content: content[:40],
)  # fmt: skip
def test_a_file_that_cannot_be_understood_is_an_error_never_no_tokens(folder: Path, content: str) -> None:
    (folder / "tokens.json").write_text(json.dumps({"format": 1, "tokens": [GOOD]}))
    tokens = Tokens(folder)
    assert tokens.are_set_up and tokens.list()[0].role is Role.READER
    (folder / "tokens.json").write_text(content)
    for ask in (
        lambda: tokens.are_set_up,
        lambda: role_of(tokens, "x"),
        tokens.list,
        lambda: tokens.create("b", Role.READER, CLOCK),
        lambda: tokens.revoke("a"),
    ):
        with pytest.raises(bourne.StorageError, match=r"tokens\.json"):
            ask()
    assert (folder / "tokens.json").read_text() == content


def test_a_newer_file(folder: Path) -> None:
    (folder / "tokens.json").write_text('{"format": 2, "people": []}')
    with pytest.raises(bourne.FormatTooNew):
        role_of(Tokens(folder), "x")


def test_a_file_that_cannot_be_read(folder: Path) -> None:
    (folder / "tokens.json").mkdir()
    with pytest.raises(bourne.StorageError, match="cannot read"):
        assert Tokens(folder).are_set_up


# --- the disk ---


def test_a_full_disk_changes_nothing(folder: Path) -> None:
    files = FaultyFiles()
    tokens = Tokens(folder, files=files)
    secret = tokens.create("a", Role.READER, CLOCK)
    for call in ("open", "write", "sync", "replace"):
        files.fail(call, name="tokens*")  # type: ignore[arg-type]
        with pytest.raises(bourne.DiskFull):
            tokens.create("b", Role.READER, CLOCK)
        files.heal()
        assert role_of(tokens, secret) is Role.READER and len(tokens.list()) == 1
    tokens.create("b", Role.READER, CLOCK)


def test_a_power_cut_at_any_call_leaves_the_tokens_before_or_after(folder: Path) -> None:
    seed = 0
    while True:
        seed += 1
        files = FaultyFiles()
        tokens = Tokens(folder, files=files)
        name = f"t{seed}"
        before = tokens.list()
        files.die_at(seed)
        try:
            tokens.create(name, Role.READER, CLOCK)
            is_done = True
        except bourne.StorageError:
            is_done = False
        files.crash(seed)
        found = {each.name for each in Tokens(folder).list()} - {each.name for each in before}
        assert found == {name} if is_done else found <= {name}
        if is_done:
            return


def test_who_is_revoked_is_let_go_while_he_follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bourne.serve.streams.STREAM_LOOK_S", 0.0)
    monkeypatch.setattr("bourne.serve.feed.FEED_SIGN_S", 0.05)
    monkeypatch.setattr("bourne.serve.feed.FEED_POSITION_S", 0.05)
    app = bourne.App("shop")
    app.log("orders", schema={"user": "varchar"})
    app.view("users", "SELECT DISTINCT user FROM orders")
    with served(app, tmp_path) as site:
        path = f"{site.url}/views/users/changes"
        nobody = Subscriber(path)
        next(nobody.events())
        tokens = Tokens(site.instance.folder)
        secrets = [tokens.create(f"r{number}", Role.READER, CLOCK) for number in range(2)]
        last = list(nobody.events())[-1]
        assert (last.name, last.data["status"], last.data["title"]) == ("error", 401, "this needs a token")
        nobody.close()
        headers = [{"Authorization": f"Bearer {secret}"} for secret in secrets]
        revoked, kept = (Subscriber(path, headers=each) for each in headers)
        with connect(path.replace("http", "ws"), additional_headers=headers[0]) as socket:
            tokens.revoke("r0")
            assert list(revoked.events())[-1].data["status"] == 401
            messages = []
            with pytest.raises(ConnectionClosedError) as closed:
                while True:
                    messages.append(json.loads(socket.recv()))
        assert (messages[-1]["event"], messages[-1]["status"]) == ("error", 401)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008
        site.instance.append("orders", [{"user": "ann"}])
        assert kept.read_until("orders:1").sorted() == ['{"user": "ann"}']
        kept.close()
        revoked.close()
