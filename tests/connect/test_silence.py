"""How long a peer may be silent: an option of every URL that goes over a network, and of no other."""

from __future__ import annotations

from pathlib import Path

import pytest

import bourne
from bourne.connect.kafka_client import read_url as kafka_url
from bourne.connect.postgres_sink import PostgresSink
from bourne.connect.postgres_wire import read_url as postgres_url
from bourne.connect.redis_sink import RedisSink
from bourne.connect.silence import read_silence
from bourne.connect.sinks import open_sink
from bourne.connect.stores import BucketFiles
from bourne.connect.urls import parse_url
from bourne.errors import DefinitionError
from bourne.limits import SILENCE_S
from connect.sink_reading import shape


def test_it_is_a_number_of_seconds():
    assert read_silence({}, where="here") == SILENCE_S
    assert read_silence({"silence": "0.5"}, where="here") == 0.5


@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "inf", "soon", "1e9"])
def test_what_is_no_bound_is_refused_everywhere(text):
    option = f"silence={text}"
    for read in (
        lambda: postgres_url(f"postgres://u:secret@h/db?table=t&{option}", own={"table"}),
        lambda: PostgresSink.from_url(f"postgres://u:secret@h/db?{option}", shape()),
        lambda: RedisSink.from_url(f"redis://:secret@h/0?{option}", shape()),
        lambda: kafka_url(f"kafka://h:1/t?{option}", options=frozenset(), where="here"),
        lambda: BucketFiles(parse_url(f"s3://bucket/?{option}")),
    ):
        with pytest.raises(DefinitionError, match="'silence' is no number of seconds") as raised:
            read()
        assert "secret" not in str(raised.value)


def test_it_is_no_part_of_a_name():
    for url in ("postgres://h/db?table=t", "redis://h/0?prefix=p", "kafka://h:1/t?format=json", "s3://b/p/?settle=1"):  # fmt: skip
        assert parse_url(f"{url}&silence=5").name == parse_url(url).name


def test_what_has_no_network_has_none(tmp_path):
    with pytest.raises(DefinitionError, match="silence"):
        open_sink("sqlite:a.db?table=t&silence=5", shape())
    with (
        bourne.open(folder_app(tmp_path), data=tmp_path / "data") as instance,
        pytest.raises(DefinitionError, match="no such option: 'silence'"),
    ):
        instance.run(until_caught_up=True)


def folder_app(folder: Path) -> bourne.App:
    app = bourne.App("shop")
    app.log("rides", schema={"id": "bigint"})
    app.source(f"{folder}/in/?silence=5", into="rides")
    return app


def test_a_question_to_kafka_has_the_same_bound():
    assert kafka_url("kafka://h:1/t?silence=5", options=frozenset(), where="here").ask_s == 5
