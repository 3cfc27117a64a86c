-- not: a sample | SAMPLE
SELECT i FROM orders USING SAMPLE 3 ROWS

-- not: a sample | TABLESAMPLE
SELECT i FROM orders TABLESAMPLE 10%

-- not: an ASOF RIGHT join | ASOF
SELECT a.i FROM orders AS a ASOF RIGHT JOIN orders AS b ON a.i = b.i AND a.at >= b.at

-- not: an ASOF join by INTEGER | ASOF
SELECT a.i FROM orders AS a ASOF JOIN orders AS b ON a.i >= b.i

-- not: a recursive CTE | RECURSIVE
WITH RECURSIVE r AS (SELECT i FROM orders UNION ALL SELECT i + 1 FROM r WHERE i < 3) SELECT i FROM r

-- not: first() without an ORDER BY inside | first
SELECT i, (SELECT first(x) FROM unnest([1, 2]) AS t(x)) AS y FROM orders

-- not: first() without an ORDER BY inside | first
SELECT first(i + 1) AS y FROM orders

-- not: the table function repeat | repeat
SELECT * FROM repeat('a', 3)

-- not: the table function duckdb_settings | duckdb_settings
SELECT name FROM duckdb_settings()

-- not: type ENUM | ::ENUM('a', 'b')
SELECT 1 AS one, s::ENUM('a', 'b') AS x FROM orders

-- not: type VARCHAR COLLATE NOCASE | s COLLATE NOCASE = 'A'
SELECT i FROM orders WHERE s COLLATE NOCASE = 'A'

-- not: type VARCHAR COLLATE NOCASE | ·
SELECT count(*) AS c FROM orders GROUP BY s COLLATE NOCASE

-- not: rowid | rowid
SELECT rowid, i FROM orders

-- not: rowid | rowid
SELECT count(*) AS c FROM orders WHERE rowid > 3

-- not: now(), whose answer changes | now()
SELECT i, now() AS x FROM orders

-- not: get_current_timestamp(), whose answer changes | current_timestamp
SELECT i, current_timestamp AS x FROM orders

-- not: current_localtimestamp(), whose answer changes | localtimestamp
SELECT i, localtimestamp AS x FROM orders

-- not: age(), whose answer changes | age(at)
SELECT i, age(at) AS x FROM orders

-- not: random(), whose answer changes | random()
SELECT i FROM orders WHERE random() < 0.5

-- not: uuid(), whose answer changes | uuid()
SELECT count(*) AS c FROM orders GROUP BY uuid()

-- not: alias(), whose answer changes | alias(i)
SELECT alias(i) AS x FROM orders

-- sql: there is no log 'nope' | nope
SELECT * FROM TUMBLE(nope, at, INTERVAL '1 day')

-- sql: log 'orders' has no column 'nope' | nope
SELECT * FROM TUMBLE(orders, nope, INTERVAL '1 day')

-- sql: column 's' is a VARCHAR, not a time | s
SELECT * FROM TUMBLE(orders, s, INTERVAL '1 day')

-- sql: TUMBLE takes 3 arguments, here are 2 | TUMBLE(orders, at)
SELECT * FROM TUMBLE(orders, at)

-- sql: TUMBLE takes 3 arguments, here are 0 | TUMBLE()
SELECT * FROM TUMBLE()

-- sql: the size of a window is not above zero | INTERVAL '-1 day'
SELECT * FROM TUMBLE(orders, at, INTERVAL '-1 day')

-- sql: the size of a window is not a constant interval | i
SELECT * FROM TUMBLE(orders, at, i)

-- sql: the size of a window is not above zero | INTERVAL '0 seconds'
SELECT * FROM TUMBLE(orders, at, INTERVAL '0 seconds')

-- sql: the size of a window is NULL | NULL
SELECT * FROM TUMBLE(orders, at, NULL)

-- sql: the size of a window is neither of fixed length nor whole months | INTERVAL '1 month 1 day'
SELECT * FROM TUMBLE(orders, at, INTERVAL '1 month 1 day')

-- sql: TUMBLE has no PARTITION BY | i
SELECT * FROM TUMBLE(orders, at, INTERVAL 1 DAY PARTITION BY i)

-- sql: TUMBLE has no option 'color' | 3
SELECT * FROM TUMBLE(orders, at, INTERVAL 1 DAY, color => 3)

-- sql: there is no such time zone | 'Mars/Olympus'
SELECT * FROM TUMBLE(orders, at, INTERVAL 1 DAY, timezone => 'Mars/Olympus')

-- sql: in a time zone, windows are whole days, or parts that divide a day | INTERVAL 7 HOURS
SELECT * FROM TUMBLE(orders, at, INTERVAL 7 HOURS, timezone => 'Asia/Seoul')

-- sql: an offset of months in a time zone | INTERVAL 1 MONTH
SELECT * FROM TUMBLE(orders, at, INTERVAL 1 YEAR, timezone => 'Asia/Seoul', offset => INTERVAL 1 MONTH)

-- sql: the offset is below zero | INTERVAL '-1 hour'
SELECT * FROM TUMBLE(orders, at, INTERVAL 1 DAY, offset => INTERVAL '-1 hour')

-- sql: HOP takes 4 arguments, here are 3 | HOP(orders, at, INTERVAL 1 DAY)
SELECT * FROM HOP(orders, at, INTERVAL 1 DAY)

-- sql: the slide does not divide the size of a window | INTERVAL 40 MINUTES
SELECT * FROM HOP(orders, at, INTERVAL 40 MINUTES, INTERVAL 1 HOUR)

-- sql: the slide does not divide the size of a window | INTERVAL 2 HOURS
SELECT * FROM HOP(orders, at, INTERVAL 2 HOURS, INTERVAL 1 HOUR)

-- sql: the slide does not divide the size of a window | INTERVAL 1 DAY
SELECT * FROM HOP(orders, at, INTERVAL 1 DAY, INTERVAL 1 MONTH)

-- sql: the slide is not above zero | INTERVAL '0 days'
SELECT * FROM HOP(orders, at, INTERVAL '0 days', INTERVAL 1 DAY)

-- sql: each record would be in 86,400 windows | INTERVAL 1 SECOND
SELECT * FROM HOP(orders, at, INTERVAL 1 SECOND, INTERVAL 1 DAY)

-- sql: in a time zone, the slide is whole days or months | INTERVAL 1 HOUR
SELECT * FROM HOP(orders, at, INTERVAL 1 HOUR, INTERVAL 1 DAY, timezone => 'Asia/Seoul')

-- sql: the step does not divide the size of a window | INTERVAL 7 HOURS
SELECT * FROM CUMULATE(orders, at, INTERVAL 7 HOURS, INTERVAL 1 DAY)

-- sql: in a time zone, CUMULATE goes through a day in parts of it | INTERVAL 1 DAY
SELECT * FROM CUMULATE(orders, at, INTERVAL 1 DAY, INTERVAL 7 DAYS, timezone => 'Asia/Seoul')

-- sql: SESSION takes 3 arguments, here are 2 | SESSION(orders, at)
SELECT * FROM SESSION(orders, at)

-- sql: the gap is not above zero | INTERVAL '0 seconds'
SELECT * FROM SESSION(orders, at, INTERVAL '0 seconds', i)

-- sql: the gap of a session is a number of months | INTERVAL 1 MONTH
SELECT * FROM SESSION(orders, at, INTERVAL 1 MONTH, i)

-- sql: SESSION has no option 'offset' | INTERVAL 1 DAY
SELECT * FROM SESSION(orders, at, INTERVAL 1 DAY, i, offset => INTERVAL 1 DAY)

-- sql: log 'orders' has no column 'nope' | nope
SELECT * FROM SESSION(orders, at, INTERVAL 1 DAY, nope)

-- sql: a parenthesis is not closed | TUMBLE
SELECT * FROM TUMBLE(orders, at, INTERVAL '1 day'

-- sql: the SQL cannot be read | ·
SELECT 'open FROM orders

-- sql: Referenced column "nope" not found | nope
SELECT i, nope FROM orders

-- sql: Table with name nope does not exist | nope
SELECT i FROM nope

-- sql: syntax error | FROM
SELECT i FROM FROM orders

-- sql: Scalar Function with name nope does not exist | nope(i)
SELECT nope(i) AS x FROM orders

-- sql: a view has no parameters | ?
SELECT i + ? AS x FROM orders

-- sql: a view has no parameters | $
SELECT i + $x AS x FROM orders

-- sql: two output columns are called 'i' | ·
SELECT i, i FROM orders

-- sql: output column '__i' starts with two underscores | ·
SELECT i AS __i FROM orders

-- sql: a view is a SELECT statement | ·
INSERT INTO orders SELECT * FROM orders

-- sql: a view is a SELECT statement | ·
CREATE TABLE x AS SELECT 1

-- sql: a view is a SELECT statement | ·
PIVOT orders ON s USING sum(i)

-- sql: a view is a SELECT statement | ·
EXPLAIN SELECT i FROM orders

-- sql: a view is a SELECT statement | ·
ATTACH 'x.db'

-- sql: a view is one SELECT; here are 2 statements | ·
SELECT i FROM orders; SELECT i FROM orders

-- sql: file system operations are disabled | ·
SELECT * FROM 'x.csv'

-- sql: file system operations are disabled | read_csv('x.csv')
SELECT * FROM read_csv('x.csv')

-- not: a positional join | POSITIONAL
SELECT a.i FROM orders AS a POSITIONAL JOIN orders AS b

-- not: list() without an ORDER BY inside | list
SELECT list(i) AS c FROM orders

-- not: string_agg() without an ORDER BY inside | string_agg
SELECT id, string_agg(s, '-') AS c FROM orders GROUP BY id

-- not: first() without an ORDER BY inside | first
SELECT first(i) AS c FROM orders

-- not: first() without an ORDER BY inside | first
SELECT first(x) AS c FROM (SELECT i + 1 AS x FROM orders)

-- not: last() without an ORDER BY inside | last
SELECT last(i) FILTER (WHERE id > 0) AS c FROM orders

-- not: array_agg() without an ORDER BY inside | array_agg
SELECT array_agg(DISTINCT i) AS c FROM orders

-- not: the aggregate reservoir_quantile() | reservoir_quantile
SELECT reservoir_quantile(i, 0.5) AS c FROM orders

-- not: DISTINCT ON without an ORDER BY | DISTINCT
SELECT DISTINCT ON (s) s, i FROM orders

-- not: LIMIT without ORDER BY | LIMIT
SELECT i FROM orders LIMIT 3

-- not: LIMIT without ORDER BY | OFFSET
SELECT i FROM orders OFFSET 3

-- not: LIMIT without ORDER BY | LIMIT
SELECT i FROM (SELECT i FROM orders ORDER BY i) LIMIT 3

-- not: LIMIT by a percentage | LIMIT
SELECT i FROM orders ORDER BY i LIMIT 10%

-- not: LIMIT by an expression | LIMIT
SELECT i FROM orders ORDER BY i LIMIT (SELECT max(i) FROM orders)

-- not: row_number() without an ORDER BY in its window | row_number
SELECT i FROM orders QUALIFY row_number() OVER () = 1

-- not: row_number() without an ORDER BY in its window | row_number
SELECT row_number() OVER (PARTITION BY s) AS x FROM orders

-- not: lag() without an ORDER BY in its window | lag
SELECT lag(i) OVER (PARTITION BY s) AS x FROM orders

-- not: list() without an ORDER BY in its window | list
SELECT list(i) OVER (PARTITION BY s) AS x FROM orders

-- not: sum() without an ORDER BY in its window | sum
SELECT sum(i) OVER (ROWS 2 PRECEDING) AS x FROM orders

-- not: ROWS with EXCLUDE TIES | EXCLUDE
SELECT sum(i) OVER (ORDER BY id ROWS 2 PRECEDING EXCLUDE TIES) AS x FROM orders

-- not: the window function fill() | OVER
SELECT fill(i) OVER (ORDER BY id) AS x FROM orders

-- not: LIMIT without ORDER BY | LIMIT
SELECT (SELECT b.i FROM orders AS b WHERE b.id = a.id LIMIT 1) AS x FROM orders AS a

-- not: a group of intervals | GROUP BY
SELECT iv, count(*) AS c FROM orders GROUP BY iv

-- not: a group of intervals | GROUP BY
SELECT tz - at::TIMESTAMPTZ AS d, count(*) AS c FROM orders GROUP BY ALL

-- not: a group of intervals | DISTINCT
SELECT DISTINCT iv FROM orders

-- not: a group of intervals | DISTINCT
SELECT DISTINCT ON (iv) iv, i FROM orders ORDER BY iv, i

-- not: a group of intervals | UNION
SELECT iv FROM orders UNION SELECT INTERVAL 1 DAY

-- not: a group of intervals | DISTINCT
SELECT count(DISTINCT iv) AS c FROM orders

-- not: a group of intervals | PARTITION BY
SELECT row_number() OVER (PARTITION BY iv ORDER BY id) AS c FROM orders

-- not: this window function | OVER
SELECT count(*) OVER (ORDER BY n RANGE BETWEEN 0.1 PRECEDING AND 2.4 FOLLOWING) AS c FROM orders
