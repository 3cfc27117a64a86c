"""Nexmark's events as formulas: every column of every event is a pure function of the event's number.

Law: the formulas are written in what SQL engines have in common (64-bit whole numbers that never overflow, `MOD`, `/`
that drops the remainder, `CASE`, `CAST`, `SUBSTRING`, `CONCAT`), so that different engines generate the very same rows. What
differs, how milliseconds since 1970 become a timestamp, is an argument. Constants are cast to BIGINT, as in Flink `MOD`
has the type of its second argument; texts are STRING, as VARCHAR is one letter there. DuckDB needs `integer_division`.

Of each 50 events in a row the first is a person, the next 3 are auctions, the other 46 are bids. The k-th of them, from 0:

| log | number n of the k-th event | newest person then | newest auction then |
|---|---|---|---|
| persons | 50 k | n / 50 | |
| auctions | 50 (k / 3) + 1 + k mod 3 | n / 50 | k |
| bids | 50 (k / 46) + 4 + k mod 46 | n / 50 | 3 (n / 50) + 2 |

A *draw* z(n) is a whole number below 2^31 that looks random: z = (((n + s) (((n + s) a) mod P) mod P) c) mod Q, a square
modulo one prime, scaled modulo another, with s, a, c of its own for each column and seed. It takes n below 2^30. Below,
every z is another draw, "choose x of m" is z mod m, and ids start at 1000, as in Nexmark's own generator, which has
also set the proportions:

| column | formula |
|---|---|
| date_time | BASE_MS + 1000 n / events_per_s, in milliseconds |
| person.id | n / 50 + 1000 |
| person.name, city, state | choose 1 of 11 first and 9 last names; of 10 cities; of 6 states |
| auction.id | k + 1000 |
| auction.category | 10 + choose of 5 |
| auction.seller | 3 of 4: the newest person whose number is divisible by 100; else one of the newest 1000, or of the next 10 |
| auction.initial_bid, reserve | a price; that and another price |
| auction.expires | date_time + 1 + choose of twice the time of 1666 events (in that time 100 auctions begin), in milliseconds |
| bid.auction | 1 of 2: the newest auction whose number is divisible by 100; else one of the newest 101, or of the next 10 |
| bid.bidder | 3 of 4: the one after the newest person whose number is divisible by 100; else as for sellers |
| bid.price | a price |
| bid.channel | 1 of 2: Google, Facebook, Baidu or Apple; else channel-0 to channel-9999 |
| bid.url | a function of the channel; ends with a channel_id for 9 of 10 of the numbered channels |
| extra and other texts | pieces of 1024 letters; extra fills a record to about 200 (persons), 500, 100 bytes |

A *price* in cents is 100 * 10^(6 r), r uniform in [0, 1): a decade of 6, and in it 10^u by a polynomial (within 0.2 %).
Ids up to 10 ahead of what exists are meant: Nexmark bids on auctions that are just about to begin.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

BASE_MS: Final = 1_436_918_400_000  # 2015-07-15 00:00:00
EVENTS_PER_EPOCH: Final = 50
AUCTIONS_PER_EPOCH: Final = 3
BIDS_PER_EPOCH: Final = 46
HOT_EVERY: Final = 100
FIRST_ID: Final = 1000
FIRST_CATEGORY: Final = 10
CATEGORIES: Final = 5
ACTIVE_PEOPLE: Final = 1000
AUCTIONS_IN_FLIGHT: Final = 100
LEAD: Final = 10
CHANNELS: Final = 10_000
HOT_CHANNELS: Final = ("Google", "Facebook", "Baidu", "Apple")

_PRIME = 2_147_483_647
_SCALING_PRIME = 2_147_483_629
_FIRST_NAMES = (
    "Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter",
)  # fmt: skip
_LAST_NAMES = ("Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris")
_CITIES = (
    "Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne",
)  # fmt: skip
_STATES = ("AZ", "CA", "ID", "OR", "WA", "WY")

Columns = dict[str, str]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run may change: other draws, or more time between the events."""

    seed: int = 0
    events_per_s: int = 10_000


def rows_sql(relation: str, numbers: str, settings: Settings, instant: Callable[[str], str]) -> str:
    """Return a SELECT of a log's rows, for the row numbers k in the relation `numbers`.

    Args:
        relation: `persons`, `auctions` or `bids`.
        numbers: a table (or a subquery in parentheses) with one BIGINT column k, from 0.
        settings: which draws, how fast.
        instant: turns an expression in milliseconds since 1970, UTC, into a timestamp.
    """
    sql = numbers
    found = stages(relation, settings)
    for depth, stage in enumerate(found):
        is_last = depth == len(found) - 1
        items = ", ".join(
            f"{instant(formula) if is_last and name in ('date_time', 'expires') else formula} AS {name}"
            for name, formula in stage.items()
        )
        sql = f"(SELECT {items} FROM {sql} AS stage{depth})"
    return sql[1:-1]


def stages(relation: str, settings: Settings) -> list[Columns]:
    """Return the formulas of a log's columns: each stage is a SELECT over the one before, the first has k.

    Instants are in milliseconds since 1970, UTC.
    """
    return {"persons": _persons, "auctions": _auctions, "bids": _bids}[relation](settings)


def _persons(settings: Settings) -> list[Columns]:
    draws = _Draws("persons", settings.seed)
    return [
        {"n": f"k * {_big(EVENTS_PER_EPOCH)}"},
        {"n": "n"} | draws.of("name", "email", "card", "cards", "place", "filling", "more"),
        {
            "id": f"n / {_big(EVENTS_PER_EPOCH)} + {_big(FIRST_ID)}",
            "name": f"CONCAT({_choose('z_name', _FIRST_NAMES)}, ' ', "
            f"{_choose(f'z_name / {_big(len(_FIRST_NAMES))}', _LAST_NAMES)})",
            "email_address": f"CONCAT({draws.letters('z_email', 7)}, '@', {draws.letters('z_email / 512', 5)}, '.com')",
            "credit_card": f"CONCAT({_four_digits('z_card')}, ' ', {_four_digits('z_card / 10000')}, ' ', "
            f"{_four_digits('z_cards')}, ' ', {_four_digits('z_cards / 10000')})",
            "city": _choose("z_place", _CITIES),
            "state": _choose(f"z_place / {_big(len(_CITIES))}", _STATES),
            "date_time": _date_ms(settings),
            "extra": draws.filling(135),
        },
    ]  # fmt: skip


def _auctions(settings: Settings) -> list[Columns]:
    draws = _Draws("auctions", settings.seed)
    flight_events = AUCTIONS_IN_FLIGHT * EVENTS_PER_EPOCH // AUCTIONS_PER_EPOCH
    expires_ms = max(2 * (flight_events * 1000 // settings.events_per_s), 1)
    return [
        {
            "k": "k",
            "n": f"k / {_big(AUCTIONS_PER_EPOCH)} * {_big(EVENTS_PER_EPOCH)} + 1 + {_mod('k', AUCTIONS_PER_EPOCH)}",
        },
        {"k": "k", "n": "n", "person": f"n / {_big(EVENTS_PER_EPOCH)}", "date_ms": _date_ms(settings)}
        | draws.of("name", "text", "bid", "reserve", "expires", "seller", "category", "filling", "more"),
        {
            "id": f"k + {_big(FIRST_ID)}",
            "item_name": draws.letters("z_name / 32", f"3 + {_mod('z_name', 17)}"),
            "description": draws.letters("z_text / 128", f"3 + {_mod('z_text', 97)}"),
            "initial_bid": _price("z_bid"),
            "reserve": f"{_price('z_bid')} + {_price('z_reserve')}",
            "date_time": "date_ms",
            "expires": f"date_ms + 1 + {_mod('z_expires', expires_ms)}",
            "seller": _person("z_seller", 0),
            "category": f"{_mod('z_category', CATEGORIES)} + {_big(FIRST_CATEGORY)}",
            "extra": draws.filling(382),
        },
    ]


def _bids(settings: Settings) -> list[Columns]:
    draws = _Draws("bids", settings.seed)
    epoch = f"k / {_big(BIDS_PER_EPOCH)}"
    hot = len(HOT_CHANNELS)
    return [
        {
            "n": f"{epoch} * {_big(EVENTS_PER_EPOCH)} + 4 + {_mod('k', BIDS_PER_EPOCH)}",
            "person": epoch,
            "auction": f"{epoch} * {_big(AUCTIONS_PER_EPOCH)} + 2",
        },
        {"person": "person", "auction": "auction", "date_ms": _date_ms(settings)}
        | draws.of("auction", "bidder", "price", "channel", "filling", "more"),
        {"person": "person", "auction": "auction", "date_ms": "date_ms"}
        | {name: name for name in ("z_auction", "z_bidder", "z_price", "z_filling", "z_more")}
        | {  # the hot channels come before the numbered ones
            "channel": f"CASE WHEN {_mod('z_channel', 2)} > 0 THEN {_mod('z_channel / 2', hot)} "
            f"ELSE {_mod('z_channel / 2', CHANNELS)} + {_big(hot)} END"
        },
        {name: name for name in ("person", "auction", "date_ms", "channel", "z_auction", "z_bidder", "z_price")}
        | {"z_filling": "z_filling", "z_more": "z_more"}
        | draws.of("directory", "page", "id", number="channel"),
        {
            "auction": f"CASE WHEN {_mod('z_auction', 2)} > 0 THEN auction / {_big(HOT_EVERY)} * {_big(HOT_EVERY)} "
            f"ELSE {_newest('z_auction / 2', 'auction + 1', AUCTIONS_IN_FLIGHT + 1)} END + {_big(FIRST_ID)}",
            "bidder": _person("z_bidder", 1),
            "price": _price("z_price"),
            "channel": f"CASE WHEN channel < {hot} THEN {_choose('channel', HOT_CHANNELS)} "
            f"ELSE CONCAT('channel-', CAST(channel - {_big(hot)} AS STRING)) END",
            "url": f"CONCAT('https://www.nexmark.com/', {draws.letters('z_directory', 5)}, '/', "
            f"{draws.letters('z_directory / 512', 5)}, '/', {draws.letters('z_page', 5)}, '/item.htm?query=1', "
            f"CASE WHEN channel < {hot} OR {_mod('z_id', 10)} = 0 THEN '' "
            "ELSE CONCAT('&channel_id=', CAST(z_id AS STRING)) END)",
            "date_time": "date_ms",
            "extra": draws.filling(68),
        },
    ]  # fmt: skip


class _Draws:
    """The draws of one log: `of` defines columns z_…, which the other methods use."""

    def __init__(self, relation: str, seed: int) -> None:
        self._relation = relation
        self._seed = seed
        digest = b"".join(hashlib.sha256(b"letters %d %d" % (seed, block)).digest() for block in range(32))
        self._letters = "".join(chr(ord("a") + byte % 26) for byte in digest)

    def of(self, *names: str, number: str = "n") -> Columns:
        """Return a draw per name, of that number."""
        return {f"z_{name}": self._draw(name, number) for name in names}

    def _draw(self, name: str, number: str) -> str:
        digest = hashlib.sha256(f"{self._seed} {self._relation} {name}".encode()).digest()
        shift = int.from_bytes(digest[:8]) % (1 << 29)
        factor, scale = (int.from_bytes(digest[i : i + 8]) % (_SCALING_PRIME - 1) + 1 for i in (8, 16))
        shifted = f"({number} + {_big(shift)})"
        square = _mod(f"{shifted} * {_mod(f'{shifted} * {_big(factor)}', _PRIME)}", _PRIME)
        return _mod(f"{square} * {_big(scale)}", _SCALING_PRIME)

    def letters(self, draw: str, length: int | str) -> str:
        """Return a text of at most 512 letters."""
        length = length if isinstance(length, int) else f"CAST({length} AS INTEGER)"
        return f"SUBSTRING('{self._letters}', CAST({_mod(draw, 512)} + 1 AS INTEGER), {length})"

    def filling(self, size: int) -> str:
        """Return a text of `size` letters, give or take a fifth; z_filling and z_more decide."""
        fifth = (size + 2) // 5
        rest = f"{size - fifth - size // 2} + {_mod('z_more', 2 * fifth)}"
        return f"CONCAT({self.letters('z_filling', size // 2)}, {self.letters('z_filling / 512', rest)})"


def _big(number: int) -> str:
    return f"CAST({number} AS BIGINT)"


def _mod(number: str, divisor: int) -> str:
    return f"MOD({number}, {_big(divisor)})"


def _date_ms(settings: Settings) -> str:
    return f"{_big(BASE_MS)} + n * {_big(1000)} / {_big(settings.events_per_s)}"


def _choose(draw: str, texts: tuple[str, ...]) -> str:
    cases = " ".join(f"WHEN {number} THEN '{text}'" for number, text in enumerate(texts[:-1]))
    return f"CASE {_mod(draw, len(texts))} {cases} ELSE '{texts[-1]}' END"


def _four_digits(draw: str) -> str:
    return f"SUBSTRING(CAST({_mod(draw, 10_000)} + {_big(10_000)} AS STRING), 2, 4)"


def _person(draw: str, hot_offset: int) -> str:
    """Return a person's id: mostly the hot one, else somebody active, or about to come."""
    return (
        f"CASE WHEN {_mod(draw, 4)} > 0 THEN person / {_big(HOT_EVERY)} * {_big(HOT_EVERY)} + {_big(hot_offset)} "
        f"ELSE {_newest(f'{draw} / 4', 'person + 1', ACTIVE_PEOPLE)} END + {_big(FIRST_ID)}"
    )


def _newest(draw: str, count: str, active: int) -> str:
    """Choose one of the newest `active` of `count` things, or of the next ones that are to come."""
    return (
        f"CASE WHEN {count} < {_big(active)} THEN MOD({draw}, {count} + {_big(LEAD)}) "
        f"ELSE {count} - {_big(active)} + {_mod(draw, active + LEAD)} END"
    )


def _price(draw: str) -> str:
    """Return cents, log-uniform from 1 to 1,000,000 dollars."""
    rest = _mod(f"{draw} / 6", 10_000)
    mantissa = _big(35484)
    for coefficient in (-1177, 33290, 22403, 10000):
        mantissa = f"({_big(coefficient)} + {mantissa} * {rest} / {_big(10_000)})"
    decades = " ".join(f"WHEN {decade} THEN {_big(10**decade)}" for decade in range(5))
    return f"{mantissa} * CASE {_mod(draw, 6)} {decades} ELSE {_big(10**5)} END / {_big(100)}"
