"""The public API as a user meets it: the example of the README, every form of a result, and everything that goes wrong."""

from __future__ import annotations

import datetime
import errno
import subprocess
import sys
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import bourne
from bourne.testing import FaultyFiles, SimulatedClock
from waiting import until

AT = datetime.datetime(2024, 5, 1, 12, 0)
SQL = "SELECT user, count(*) AS n, sum(amount) AS total FROM orders GROUP BY user"


def shop_app(**views: str) -> bourne.App:
    app = bourne.App("shop")
    app.log(
        "orders", schema={"order_id": "bigint", "user": "varchar", "amount": "decimal(10,2)", "at": "timestamp"},
        key="user", time="at", watermark="5 seconds",
    )  # fmt: skip
    for name, sql in (views or {"spend": SQL}).items():
        app.view(name, sql)
    return app


def order(number: int, user: str = "ann", amount: str | None = "1.50") -> dict[str, Any]:
    return {
        "order_id": number,
        "user": user,
        "amount": None if amount is None else Decimal(amount),
        "at": AT + datetime.timedelta(seconds=number),
    }


def flip(path: Path, at: int = -30) -> None:
    """Change one byte of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)


def test_the_example(tmp_path: Path) -> None:
    app = bourne.App("shop")
    app.log(
        "orders", schema={"order_id": "bigint", "user": "varchar", "amount": "decimal(10,2)", "at": "timestamp"},
        key="user", time="at", watermark="5 seconds",
    )  # fmt: skip
    app.view("spend", "SELECT user, window_start, sum(amount) AS total "
                      "FROM TUMBLE(orders, at, INTERVAL '1 minute') GROUP BY user, window_start")  # fmt: skip
    rows = [order(1), order(2, "bo", "2"), order(61, "ann", "-0.25"), order(62, "ann", "0.75")]
    with bourne.open(app, data=tmp_path / "data") as shop:
        assert shop.append("orders", rows).ranges == {0: range(4)}
        assert shop.catch_up() == 4
        result = shop.query("SELECT * FROM spend ORDER BY total DESC, user")
        assert result.fetchall() == [
            ("bo", AT, Decimal("2.00")),
            ("ann", AT, Decimal("1.50")),
            ("ann", AT + datetime.timedelta(minutes=1), Decimal("0.50")),
        ]
        assert shop.catch_up() == 0
    with bourne.open(app, data=tmp_path / "data") as shop:
        assert shop.query("SELECT count(*) AS n FROM spend").fetchall() == [(3,)]
        assert shop.catch_up() == 0


def test_every_form_of_a_result(tmp_path: Path) -> None:
    with bourne.open(shop_app(), data=tmp_path) as shop:
        shop.append("orders", [order(1), order(2, "한")])
        shop.catch_up()
        result = shop.query("SELECT user, n FROM spend ORDER BY user")
        expected = {"user": ["ann", "한"], "n": [1, 1]}
        assert result.columns == ["user", "n"]
        assert len(result) == 2
        assert result.to_arrow().to_pydict() == expected
        assert result.to_polars().to_dict(as_series=False) == expected
        assert result.to_pandas().to_dict("list") == expected
        assert pa.table(result).to_pydict() == expected
        assert result.fetchall() == [("ann", 1), ("한", 1)]
        assert "ann" in repr(result)
        assert "한" in repr(result)
        none = shop.query("SELECT user FROM spend WHERE false")
        assert none.fetchall() == []
        assert len(none) == 0


def test_rows_of_every_kind_are_taken(tmp_path: Path) -> None:
    import pandas  # noqa: PLC0415
    import polars  # noqa: PLC0415

    with bourne.open(shop_app(), data=tmp_path) as shop:
        table = pa.table({"user": ["a", "b"], "order_id": pa.array([1, 2], pa.int32())})
        assert shop.append("orders", table).ranges == {0: range(2)}
        assert shop.append("orders", table.to_batches()[0]).ranges == {0: range(2, 4)}
        assert shop.append("orders", polars.DataFrame(table)).ranges == {0: range(4, 6)}
        assert shop.append("orders", pandas.DataFrame({"user": ["a"]})).ranges == {0: range(6, 7)}
        assert shop.append("orders", ({"user": "c"} for _ in range(2))).ranges == {0: range(7, 9)}
        assert shop.append("ORDERS", []).ranges == {0: range(9, 9)}
        shop.catch_up()
        assert dict(shop.query("SELECT user, n FROM spend").fetchall()) == {"a": 4, "b": 3, "c": 2}
        assert shop.tail("orders", start=7).num_rows == 2
        assert shop.tail("orders", rows_max=3).column("user").to_pylist() == ["a", "b", "a"]


def test_closing_twice_and_use_after_it(tmp_path: Path) -> None:
    shop = bourne.open(shop_app(), data=tmp_path)
    shop.append("orders", [order(1)])
    shop.close()
    shop.close()
    with pytest.raises(bourne.Closed):
        shop.append("orders", [order(2)])
    for use in (shop.catch_up, shop.run, shop.status, lambda: shop.query("SELECT 1"), lambda: shop.tail("orders"),
                shop.__enter__):  # fmt: skip
        with pytest.raises(bourne.Closed):
            use()
    assert "closed" in repr(shop)
    with bourne.open(shop_app(), data=tmp_path) as again:
        again.close()
    assert issubclass(bourne.Closed, bourne.BourneError)


HOLDER = """
import sys, bourne
app = bourne.App("shop")
app.log("orders", schema={"order_id": "bigint", "user": "varchar", "amount": "decimal(10,2)", "at": "timestamp"},
        key="user", time="at", watermark="5 seconds")
app.view("spend", sys.argv[2])
shop = bourne.open(app, data=sys.argv[1])
shop.append("orders", [{"user": "first"}])
shop.catch_up()
print("holding", flush=True)
sys.stdin.read()
"""


def test_second_writer_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path), SQL]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"holding\n"
        with bourne.open(shop_app(), data=tmp_path) as shop:
            with pytest.raises(bourne.LogLocked) as caught:
                shop.catch_up()
            assert caught.value.pid == holder.pid
            assert str(holder.pid) in str(caught.value)
            # Reading needs no lock, and a log takes turns.
            assert shop.query("SELECT user, n FROM spend").fetchall() == [("first", 1)]
            holder.communicate()
            assert holder.returncode == 0
            shop.append("orders", [order(1)])
            shop.catch_up()
            assert len(shop.query("FROM spend")) == 2


def test_changed_view_is_a_new_version_and_the_old_one_stays(tmp_path: Path) -> None:
    with bourne.open(shop_app(), data=tmp_path) as shop:
        shop.append("orders", [order(1), order(2, "bo", "9")])
        shop.catch_up()
    changed = shop_app(spend="SELECT user, max(amount) AS most FROM orders GROUP BY user")
    with bourne.open(changed, data=tmp_path) as shop:
        assert shop.catch_up() == 2
        assert sorted(shop.query("FROM spend").fetchall()) == [
            ("ann", Decimal("1.50")),
            ("bo", Decimal("9.00")),
        ]
    versions = sorted(path.name for path in (tmp_path / "views" / "spend").iterdir() if path.is_dir())
    assert versions == ["1", "2"]
    assert list((tmp_path / "views" / "spend" / "1").rglob("*.seg"))
    with bourne.open(changed, data=tmp_path) as shop:
        assert shop.catch_up() == 0


def test_a_view_that_is_no_longer_declared_is_as_it_was(tmp_path: Path) -> None:
    with bourne.open(shop_app(), data=tmp_path) as shop:
        shop.append("orders", [order(1), order(2)])
        shop.catch_up()
    with bourne.open(shop_app(users="SELECT DISTINCT user FROM orders"), data=tmp_path) as shop:
        shop.append("orders", [order(3), order(4, "bo")])
        shop.catch_up()
        assert shop.query("FROM spend").fetchall() == [("ann", 2, Decimal("3.00"))]
        assert shop.query("SELECT count(*) FROM users JOIN spend USING (user)").fetchall() == [(1,)]
    with bourne.open(shop_app(), data=tmp_path) as shop:
        assert shop.catch_up() == 2
        assert sorted(shop.query("FROM spend").fetchall())[0] == ("ann", 3, Decimal("4.50"))


def test_changed_log_is_refused(tmp_path: Path) -> None:
    bourne.open(shop_app(), data=tmp_path).close()
    app = bourne.App("shop")
    app.log("orders", schema={"order_id": "bigint", "user": "varchar"})
    with pytest.raises(bourne.DefinitionError, match="declared differently"):
        bourne.open(app, data=tmp_path)
    bourne.open(shop_app(), data=tmp_path).close()


def test_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(bourne.StorageError, match="something else"):
        bourne.open(shop_app(), data=tmp_path)
    with pytest.raises(bourne.StorageError, match="no data folder"):
        bourne.open(data=tmp_path / "none")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_wrong_view_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(bourne.SqlError, match="view 'bad'"):
        bourne.open(shop_app(good=SQL, bad="SELECT nope FROM orders"), data=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_failing_view_names_the_record_and_the_others_go_on(tmp_path: Path) -> None:
    views = {"bad": "SELECT user::INTEGER AS n FROM orders", "good": SQL}
    with bourne.open(shop_app(**views), data=tmp_path) as shop:
        shop.append("orders", [order(1, "7"), order(2, "8")])
        shop.catch_up()
        shop.append("orders", [order(3, "9"), order(4, "ann"), order(5, "10")])
        for _ in range(2):
            with pytest.raises(bourne.ViewFailed) as caught:
                shop.catch_up()
            assert caught.value.where == "log 'orders', offset 3"
            assert "'bad'" in caught.value.what
        assert sorted(shop.query("FROM bad").fetchall()) == [(7,), (8,)]
        assert shop.query("SELECT sum(n) AS n FROM good").fetchall() == [(5,)]
        assert shop.append("orders", [order(6, "11")]).ranges == {0: range(5, 6)}
        with pytest.raises(bourne.ViewFailed):
            shop.catch_up()
        assert shop.query("SELECT sum(n) AS n FROM good").fetchall() == [(6,)]
    mended = {"bad": "SELECT TRY_CAST(user AS INTEGER) AS n FROM orders", "good": SQL}
    with bourne.open(shop_app(**mended), data=tmp_path) as shop:
        shop.catch_up()
        assert shop.query("SELECT n FROM bad ORDER BY n").fetchall() == [
            (7,),
            (8,),
            (9,),
            (10,),
            (11,),
            (None,),
        ]


@pytest.mark.parametrize("call", ["write", "sync"])
def test_full_disk_while_a_view_commits(tmp_path: Path, call: Any) -> None:
    files = FaultyFiles()
    with bourne.open(shop_app(), data=tmp_path, files=files) as shop:
        shop.append("orders", [order(1), order(2, "bo")])
        shop.catch_up()
        before = sorted(shop.query("FROM spend").fetchall())
        shop.append("orders", [order(3), order(4, "cy")])
        files.fail(call, error=errno.ENOSPC, bytes_written=100, always=True)
        with pytest.raises(bourne.StorageError) as caught:
            shop.catch_up()
        assert isinstance(caught.value, bourne.DiskFull) or call == "sync"
        assert sorted(shop.query("FROM spend").fetchall()) == before
        files.heal()
    with bourne.open(shop_app(), data=tmp_path) as shop:
        assert shop.catch_up() == 2
        assert dict(shop.query("SELECT user, n FROM spend").fetchall()) == {"ann": 2, "bo": 1, "cy": 1}


def test_full_disk_while_appending_takes_all_or_nothing(tmp_path: Path) -> None:
    files = FaultyFiles()
    with bourne.open(shop_app(), data=tmp_path, files=files) as shop:
        shop.append("orders", [order(1)])
        files.fail("write", error=errno.ENOSPC, bytes_written=64)
        with pytest.raises(bourne.DiskFull):
            shop.append("orders", [order(2)])
        files.heal()
        assert shop.append("orders", [order(3)]).ranges == {0: range(1, 2)}
        shop.catch_up()
        assert shop.query("SELECT order_id FROM orders ORDER BY ALL").fetchall() == [(1,), (3,)]


def test_damaged_input_is_named_and_never_served(tmp_path: Path) -> None:
    with bourne.open(shop_app(), data=tmp_path) as shop:
        shop.append("orders", [order(1)])
        shop.append("orders", [order(2, "bo")])
    (segment,) = (tmp_path / "logs" / "orders").rglob("*.seg")
    flip(segment)
    with pytest.raises(bourne.CorruptFrame) as caught, bourne.open(shop_app(), data=tmp_path) as shop:
        shop.catch_up()
    assert caught.value.log == "orders"
    assert segment.name in str(caught.value)


def test_damaged_output_is_named_and_rebuilt_when_deleted(tmp_path: Path) -> None:
    import shutil  # noqa: PLC0415

    with bourne.open(shop_app(), data=tmp_path) as shop:
        shop.append("orders", [order(1), order(2, "bo")])
        shop.catch_up()
        expected = sorted(shop.query("FROM spend").fetchall())
    (segment,) = (tmp_path / "views" / "spend").rglob("*.seg")
    flip(segment)
    with pytest.raises(bourne.CorruptFrame, match="delete the view's folder"), \
            bourne.open(shop_app(), data=tmp_path) as shop:  # fmt: skip
        shop.query("FROM spend")
    shutil.rmtree(tmp_path / "views" / "spend")
    with bourne.open(shop_app(), data=tmp_path) as shop:
        assert shop.catch_up() == 2
        assert sorted(shop.query("FROM spend").fetchall()) == expected


def test_a_log_called_like_a_word_of_sql(tmp_path: Path) -> None:
    app = bourne.App("shop")
    app.log("order", schema={"n": "bigint"})
    app.view("total", "SELECT sum(n) AS n FROM order")
    with pytest.raises(bourne.SqlError, match='write "order"'):
        bourne.open(app, data=tmp_path)
    app = bourne.App("shop")
    app.log("order", schema={"n": "bigint"})
    app.view("total", 'SELECT sum(n) AS n FROM "order"')
    with bourne.open(app, data=tmp_path) as shop:
        shop.append("order", [{"n": 2**62}, {"n": 2**62}])
        shop.catch_up()
        with pytest.raises(bourne.QueryError, match='write "Order"'):
            shop.query("SELECT n FROM Order")
        (total,) = shop.query('SELECT (SELECT n FROM total), sum(n), NULL::HUGEINT FROM "order"').fetchall()
        assert total == (2**63, 2**63, None)
        assert {type(value) for value in total[:2]} == {int}


def test_unknown_names(tmp_path: Path) -> None:
    with bourne.open(shop_app(), data=tmp_path) as shop:
        with pytest.raises(bourne.UnknownName, match="there is no log 'nope'"):
            shop.append("nope", [])
        with pytest.raises(bourne.UnknownName):
            shop.tail("nope")
        with pytest.raises(bourne.QueryError, match="logs and views here: orders, spend"):
            shop.query("FROM nope")
        with pytest.raises(bourne.UnknownColumn):
            shop.append("orders", [{"user": "a", "nope": 1}])
        with pytest.raises(bourne.ValueMismatch):
            shop.append("orders", [{"user": None}])
        with pytest.raises(bourne.ValueMismatch):
            shop.append("orders", [{"user": "a", "amount": Decimal("0.001")}])
        with pytest.raises(bourne.InputError):
            shop.append("orders", 7)
        assert shop.tail("orders").num_rows == 0


WRITES = [
    "CREATE TABLE x AS SELECT 1", "INSERT INTO orders VALUES (1)", "DROP VIEW spend", "DELETE FROM orders",
    "COPY orders TO '{file}'", "COPY (SELECT 1) TO '{file}'", "SELECT * FROM read_csv('{file}')",
    "SELECT * FROM '{file}'", "SELECT * FROM read_text('{file}')", "SELECT * FROM glob('*')", "ATTACH '{file}'",
    "EXPORT DATABASE '{file}'", "INSTALL httpfs", "LOAD httpfs", "SET enable_external_access = true",
    "PRAGMA database_list", "SELECT 1; DROP VIEW spend", "", ";", "SELECT 1; SELECT 2", "CALL pragma_version()",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{file}'", "EXPLAIN COPY (SELECT 1) TO '{file}'",
    "EXPLAIN CREATE TABLE x AS SELECT 1", "SET VARIABLE x = 1", "USE memory", "CHECKPOINT", "BEGIN",
    "PREPARE p AS SELECT 1", "VACUUM", "UPDATE spend SET n = 1", "SELECT getenv('HOME')",
]  # fmt: skip


@pytest.mark.parametrize("sql", WRITES)
def test_queries_neither_write_nor_reach_files(tmp_path: Path, sql: str) -> None:
    file = tmp_path / "file.csv"
    with bourne.open(shop_app(), data=tmp_path / "data") as shop:
        shop.append("orders", [order(1)])
        shop.catch_up()
        try:
            found = shop.query(sql.format(file=file)).fetchall()
        except bourne.BourneError:
            pass
        else:
            assert sql.startswith("EXPLAIN"), found
        assert not file.exists()
        assert shop.query("SELECT user, n FROM spend").fetchall() == [("ann", 1)]


def test_python_variables_are_not_relations(tmp_path: Path) -> None:
    secret = pa.table({"x": [1]})
    with bourne.open(shop_app(), data=tmp_path) as shop, pytest.raises(bourne.QueryError):
        shop.query("SELECT * FROM secret")
    assert secret.num_rows == 1


def test_queries_take_parameters_and_windows(tmp_path: Path) -> None:
    with bourne.open(shop_app(), data=tmp_path) as shop:
        shop.append("orders", [order(1), order(70, "bo", None)])
        shop.catch_up()
        assert shop.query("SELECT n FROM spend WHERE user = ?", ["bo"]).fetchall() == [(1,)]
        assert shop.query("SELECT n FROM Spend WHERE user = $u", {"u": "bo"}).fetchall() == [(1,)]
        sql = "SELECT count(*) AS n FROM TUMBLE(orders, at, INTERVAL '1 minute') GROUP BY window_start"
        assert shop.query(sql).fetchall() == [(1,), (1,)]
        assert shop.query("SELECT s.n FROM spend AS s JOIN orders AS o USING (user)").fetchall() == [
            (1,),
            (1,),
        ]


def test_threads_append_while_views_follow(tmp_path: Path) -> None:
    each, batches, threads = 20, 12, 4
    with bourne.open(shop_app(), data=tmp_path) as shop:
        ranges: list[Any] = []
        errors: list[BaseException] = []

        def append(thread: int) -> None:
            try:
                for batch in range(batches):
                    first = (thread * batches + batch) * each
                    ranges.append(shop.append("orders", [order(first + i, f"u{i % 3}") for i in range(each)]))
            except BaseException as error:  # noqa: BLE001
                errors.append(error)

        workers = [threading.Thread(target=append, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        taken = 0
        while any(worker.is_alive() for worker in workers):
            taken += shop.catch_up()
            (row,) = shop.query("SELECT coalesce(sum(n), 0)::BIGINT AS n FROM spend").fetchall()
            assert row[0] == taken
        for worker in workers:
            worker.join()
        taken += shop.catch_up()
        assert not errors
        total = each * batches * threads
        assert taken == total
        offsets = sorted(offset for one in ranges for offset in one.offsets)
        assert offsets == list(range(total))
        assert shop.query("SELECT count(DISTINCT order_id) AS n FROM orders").fetchall() == [(total,)]
        assert shop.query("SELECT sum(n)::BIGINT AS n FROM spend").fetchall() == [(total,)]


def test_run_until_caught_up_and_stop(tmp_path: Path) -> None:
    seen: list[int] = []
    with bourne.open(shop_app(), data=tmp_path, clock=SimulatedClock(5)) as shop:
        shop.append("orders", [order(i) for i in range(100)])
        shop.run(until_caught_up=True, on_progress=lambda progress: seen.append(progress[0].rows))
        assert seen[-1] == 100
        stop = threading.Event()
        runner = threading.Thread(target=shop.run, kwargs={"stop": stop})
        runner.start()
        shop.append("orders", [order(100, "bo")])
        until(lambda: shop.query("SELECT sum(n)::BIGINT AS n FROM spend").fetchall() == [(101,)])
        stop.set()
        runner.join(10)
        assert not runner.is_alive()
        (view,) = shop.status().views
        assert (view.position, view.lag_records) == (101, 0)


def test_open_without_app_appends_and_queries(tmp_path: Path) -> None:
    with bourne.open(shop_app(), data=tmp_path) as shop:
        shop.append("orders", [order(1)])
        shop.catch_up()
    with bourne.open(data=tmp_path) as folder:
        assert folder.append("orders", [order(2, "bo")]).ranges == {0: range(1, 2)}
        assert folder.query("SELECT user, n FROM spend").fetchall() == [("ann", 1)]
        (view,) = folder.status().views
        assert view.lag_records == 1


def test_errors_have_one_root() -> None:
    errors = [value for name in bourne.__all__ if isinstance(value := getattr(bourne, name), type)
              and issubclass(value, Exception) and not issubclass(value, Warning)]  # fmt: skip
    assert len(errors) > 10
    assert all(issubclass(error, bourne.BourneError) for error in errors)
    assert all(error.exit_code != 0 for error in errors)


def test_a_value_beyond_python_is_named_and_still_there_as_arrow(tmp_path):
    app = bourne.App("far")
    app.log("o", schema={"t": "timestamp"})
    with bourne.open(app, data=tmp_path) as far:
        result = far.query("SELECT TIMESTAMP '10000-01-03' AS t")
        with pytest.raises(bourne.QueryError, match="beyond"):
            result.fetchall()
        assert result.to_arrow().num_rows == 1
        assert "10000-01-03" in repr(result)


def test_a_number_that_arrow_cannot_hold_is_refused(tmp_path):
    app = bourne.App("far")
    app.log("o", schema={"n": "bigint"})
    with bourne.open(app, data=tmp_path) as far:
        for sql in ("SELECT 1::UHUGEINT AS n", "SELECT [1::UHUGEINT] AS n", "SELECT {'a': 1::UHUGEINT} AS n"):
            with pytest.raises(bourne.QueryError, match="UHUGEINT") as caught:
                far.query(sql)
            assert "column n" in str(caught.value)
        assert far.query("SELECT 7::UHUGEINT::HUGEINT").fetchall() == [(7,)]


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts files as Linux shows them")
def test_no_file_stays_open_however_often_one_asks_and_opens(tmp_path):
    app = bourne.App("files")
    app.log("o", schema={"k": "bigint"})
    app.view("v", "SELECT k, count(*) AS n FROM o GROUP BY k")
    app.view("w", "SELECT k FROM o WHERE k > 0")

    def use() -> None:
        with bourne.open(app, data=tmp_path) as files:
            for _ in range(3):
                files.append("o", [{"k": 1}])
                files.catch_up()
                files.query("SELECT * FROM v JOIN w USING (k)")
                files.status()
                files.tail("o")

    use()
    before = open_files()
    for _ in range(5):
        use()
    assert open_files() == before


def test_many_threads_may_ask_while_the_views_move(tmp_path):
    app = bourne.App("threads")
    app.log("o", schema={"k": "bigint"})
    app.view("v", "SELECT k, count(*) AS n FROM o GROUP BY k")
    stop, failures = threading.Event(), []

    def ask(instance: bourne.Instance) -> None:
        while not stop.is_set():
            try:
                total, groups = instance.query("SELECT coalesce(sum(n), 0), count(*) FROM v").fetchall()[0]
                rows = instance.status().views[0].rows
                assert total % 10 == 0 and groups <= rows <= 500
            except BaseException as error:  # noqa: BLE001  (told below, from the main thread)
                failures.append(error)
                return

    with bourne.open(app, data=tmp_path) as instance:
        threads = [threading.Thread(target=ask, args=(instance,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(100):
            instance.append("o", [{"k": number * 5 + row // 2} for row in range(10)])
            instance.catch_up()
        stop.set()
        for thread in threads:
            thread.join()
        assert not failures
        assert instance.query("SELECT sum(n) FROM v").fetchall() == [(1000,)]
