-- joins
SELECT a.v, b.w FROM a JOIN b ON a.k = b.k
SELECT a.v, b.w FROM a JOIN b ON a.k = b.k AND a.v < b.w AND a.v > 1
SELECT a.*, b.w, b.t FROM a LEFT JOIN b ON a.k + 1 = b.k AND a.v < b.w AND a.v > 1 AND b.w IS NOT NULL
SELECT a.s, b.t FROM a LEFT JOIN b ON a.k = b.k AND a.v + b.w > 3 AND b.w > 1
SELECT a.s, b.t FROM a LEFT JOIN b ON a.k = b.k AND (b.w > 2 OR a.v > 1)
SELECT a.id, b.id AS other FROM a FULL JOIN b ON a.k = b.k AND b.w > 2 AND a.v IS NULL
SELECT k, v, w, a.id, b.id AS other FROM a FULL JOIN b USING (k)
SELECT a.id, b.id AS other FROM a RIGHT JOIN b ON a.k IS DISTINCT FROM b.k
SELECT a.id, b.id AS other FROM a RIGHT JOIN b ON a.k = b.k AND a.v > b.w
SELECT a.id, b.id AS other FROM a JOIN b ON a.k IS NOT DISTINCT FROM b.k
SELECT a.id, b.id AS other FROM a JOIN b ON a.k = b.k OR a.v = b.w
SELECT a.id, b.id AS other FROM a LEFT JOIN b ON a.k = b.k OR a.v = b.w
SELECT a.id, b.id AS other FROM a LEFT JOIN b ON true
SELECT a.id, b.id AS other FROM a LEFT JOIN b ON a.v > 2
SELECT a.id, b.id AS other FROM a LEFT JOIN b ON b.w > 2
SELECT a.id, b.id AS other FROM a, b WHERE a.k = b.k AND a.s LIKE b.t || '%'
SELECT a.id, b.id AS other FROM a CROSS JOIN b
SELECT a.id FROM a NATURAL JOIN b
SELECT x.id, y.id AS other FROM a AS x JOIN a AS y ON x.k = y.v AND x.id <> y.id
SELECT x.id, y.id AS other, z.id AS third FROM a AS x JOIN b AS y ON x.k = y.k JOIN a AS z ON y.w = z.v
SELECT x.id, y.id AS other, z.id AS third FROM a AS x LEFT JOIN b AS y ON x.k = y.k LEFT JOIN a AS z ON y.w = z.v AND x.s = z.s
SELECT a.id FROM a SEMI JOIN b USING (k)
SELECT a.id FROM a SEMI JOIN b ON a.k = b.k AND a.v < b.w AND b.w > 1
SELECT a.id FROM a ANTI JOIN b ON a.k < b.k
SELECT a.id FROM a ANTI JOIN b ON a.k = b.k AND a.v IS NOT DISTINCT FROM b.w
SELECT a.id FROM a ANTI JOIN b ON b.w > 1
SELECT a.id, b.id AS other FROM a JOIN b ON a.k = b.k::BIGINT AND upper(a.s) = b.t
-- IN, EXISTS, ANY, ALL
SELECT id FROM a WHERE k IN (SELECT k FROM b)
SELECT id FROM a WHERE k NOT IN (SELECT k FROM b)
SELECT id FROM a WHERE k NOT IN (SELECT k FROM b WHERE k IS NOT NULL)
SELECT id, k IN (SELECT k FROM b) AS x FROM a
SELECT id, k IN (SELECT k FROM b WHERE b.w = a.v) AS x FROM a
SELECT id, k NOT IN (SELECT k FROM b WHERE b.w < a.v) AS x FROM a
SELECT id, k IN (SELECT w FROM b WHERE b.k = a.k OR b.k IS NULL) AS x FROM a
SELECT id, k <> ALL (SELECT k FROM b WHERE b.w = a.v) AS x FROM a
SELECT id, k <> ANY (SELECT k FROM b) AS x FROM a
SELECT id, k = ANY (SELECT w FROM b) AS x FROM a
SELECT id, v > ANY (SELECT w FROM b) AS x FROM a
SELECT id, v <= ALL (SELECT w FROM b) AS x FROM a
SELECT id, v <= ALL (SELECT w FROM b WHERE b.k = a.k) AS x FROM a
SELECT id, v >= ANY (SELECT w FROM b WHERE b.k = a.k) AS x FROM a
SELECT id FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.k = a.k)
SELECT id FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.k = a.k AND b.w < a.v)
SELECT id, EXISTS (SELECT * FROM b WHERE b.w > 2) AS x FROM a
SELECT id, NOT EXISTS (SELECT 1 FROM b WHERE b.k = a.k AND EXISTS (SELECT 1 FROM a AS c WHERE c.v = b.w AND c.k = a.k)) AS x FROM a
SELECT id FROM a WHERE k IN (SELECT k FROM b) OR v IN (SELECT w FROM b)
SELECT id FROM a WHERE (k, v) IN (SELECT k, w FROM b)
SELECT id, (k, v) NOT IN (SELECT k, w FROM b WHERE b.id < 4) AS x FROM a
SELECT a.id, b.id AS other FROM a LEFT JOIN b ON a.k = b.k AND a.v IN (SELECT w FROM b)
SELECT a.id, b.id AS other FROM a LEFT JOIN b ON a.k = b.k AND EXISTS (SELECT 1 FROM b AS c WHERE c.k = a.v)
SELECT a.id FROM a CROSS JOIN b AS c WHERE EXISTS (SELECT 1 FROM b RIGHT JOIN a AS d ON b.w = d.v WHERE length(a.s) = d.k OR a.v = b.k)
-- scalar subqueries
SELECT id, (SELECT max(w) FROM b) AS x FROM a
SELECT id, (SELECT w FROM b WHERE id = 3) AS x FROM a
SELECT id, (SELECT w FROM b) AS x FROM a
SELECT id, (SELECT w FROM b WHERE b.k = a.k) AS x FROM a
SELECT id, (SELECT w FROM b WHERE b.id = a.id) AS x FROM a
SELECT id, (SELECT count(*) FROM b WHERE b.k = a.k) AS x FROM a
SELECT id, (SELECT sum(w) FROM b WHERE b.k < a.k) AS x FROM a
SELECT id, (SELECT count(*) + 1 FROM b WHERE b.k = a.k AND b.w > a.v) AS x FROM a
SELECT id FROM a WHERE v > (SELECT avg(c.v) FROM a AS c WHERE c.k = a.k)
SELECT id FROM a WHERE (SELECT count(*) FROM b) > 1
SELECT id, (SELECT b.w FROM b WHERE b.k = a.k ORDER BY b.id LIMIT 1) AS x FROM a
SELECT id, (SELECT max(x) FROM (SELECT b.w + a.v AS x FROM b WHERE b.k = a.k)) AS x FROM a
SELECT a.id, q.w, q.id AS other FROM a, LATERAL (SELECT * FROM b WHERE b.k = a.k ORDER BY id DESC LIMIT 2) AS q
SELECT a.id, q.x FROM a LEFT JOIN LATERAL (SELECT sum(w) AS x FROM b WHERE b.k = a.k) AS q ON true
SELECT k, count(*) AS c FROM a GROUP BY k HAVING count(*) > (SELECT count(*) / 3 FROM b)
-- aggregates
SELECT k, count(*), count(v), sum(v), avg(v), min(s), max(d) FROM a GROUP BY k
SELECT count(*), sum(v), min(v) FROM a
SELECT count(*) AS c FROM a WHERE v > 100
SELECT k + 1 AS g, s, sum(n) FROM a GROUP BY ALL
SELECT 1 AS one, count(*) AS c FROM a GROUP BY 1
SELECT k, count(DISTINCT v), sum(DISTINCT v) FROM a GROUP BY k
SELECT k, sum(v) FILTER (WHERE v > 2), count(*) FILTER (WHERE s IS NULL), max(v) FILTER (WHERE k > v) FROM a GROUP BY k
SELECT k, list(v ORDER BY id DESC) AS x, string_agg(s, '-' ORDER BY id) AS y FROM a GROUP BY k
SELECT k, list(v ORDER BY v DESC NULLS FIRST, id) AS x, list(DISTINCT v ORDER BY v) AS y FROM a GROUP BY k
SELECT k, first(v ORDER BY id), last(v ORDER BY id), first(s ORDER BY id DESC) FILTER (WHERE s IS NOT NULL) FROM a GROUP BY k
SELECT k, arg_max(v, id), arg_min(s, id), arg_max(s, id) FILTER (WHERE v > 1), max_by(v, id) FROM a GROUP BY k
SELECT k, arg_max(v, id, 2), arg_min(v, id, 2), max(v, 2), min(s, 3) FROM a GROUP BY k
SELECT k, median(v), quantile_cont(v, 0.3), quantile_disc(v, [0.2, 0.9]), quantile_cont(v, 0.3 ORDER BY v DESC) FROM a GROUP BY k
SELECT percentile_cont(0.25) WITHIN GROUP (ORDER BY v DESC) AS x, mad(v) AS y FROM a
SELECT k, stddev(v), var_pop(v), corr(v, k), covar_samp(v, d), skewness(v), kurtosis(v), regr_slope(v, d) FROM a GROUP BY k
SELECT k, bool_and(v > 1), bool_or(v > 3), bit_or(v), bit_xor(v), count_if(v > 1), product(v), entropy(s) FROM a GROUP BY k
SELECT histogram(v) AS x, approx_count_distinct(v) AS y, bitstring_agg(v, 0, 20) AS z FROM a
SELECT any_value(k) AS x FROM a WHERE k = 2
SELECT k, any_value(v ORDER BY id) AS x FROM a GROUP BY k
SELECT k, mode(k) AS x FROM a GROUP BY k
SELECT k, first(7) AS x, list(1) AS y FROM a GROUP BY k
SELECT k, s, grouping(k) AS g, grouping(s, k) AS h, count(*) AS c, sum(v) AS x FROM a GROUP BY ROLLUP (k, s)
SELECT k, s, grouping(k, s) AS g, count(DISTINCT v) AS c FROM a GROUP BY CUBE (k, s)
SELECT k, s, count(*) AS c FROM a GROUP BY GROUPING SETS ((k), (s), (), (), (k, s))
SELECT k, grouping(k) AS g, count(*) AS c FROM a GROUP BY k
SELECT k, count(*) AS c FROM a WHERE v > 100 GROUP BY ROLLUP (k)
SELECT count(*) AS c FROM a GROUP BY GROUPING SETS (())
SELECT k, s, v, count(*) AS c FROM a GROUP BY k, ROLLUP (s, v) HAVING count(*) > 1
SELECT sum(c) AS x FROM (SELECT k, count(*) AS c FROM a GROUP BY k)
-- DISTINCT, set operations
SELECT DISTINCT k, s FROM a
SELECT DISTINCT ON (k) k, id FROM a ORDER BY k, id DESC
SELECT DISTINCT ON (k % 2) k, id FROM a ORDER BY v NULLS FIRST, id
SELECT DISTINCT ON (k) k, id, v FROM a ORDER BY k, id LIMIT 3
SELECT k FROM a UNION ALL SELECT k FROM b
SELECT k, s FROM a UNION SELECT w, t FROM b
SELECT k FROM a UNION ALL SELECT w FROM b UNION ALL SELECT 7 UNION ALL SELECT v FROM a
SELECT k FROM a EXCEPT SELECT k FROM b
SELECT k, s FROM a EXCEPT ALL SELECT k, t FROM b
SELECT k FROM a EXCEPT ALL SELECT k FROM b
SELECT k FROM a INTERSECT SELECT k FROM b
SELECT k FROM a INTERSECT ALL SELECT k FROM b
SELECT DISTINCT k FROM (SELECT k FROM a INTERSECT ALL SELECT k FROM b)
SELECT k FROM a EXCEPT SELECT k FROM b UNION ALL SELECT v FROM a
(SELECT k FROM a ORDER BY id LIMIT 3) UNION ALL SELECT k FROM b
SELECT k, w::BIGINT AS w FROM b UNION ALL BY NAME SELECT v AS k, s FROM a
-- windows
SELECT id, row_number() OVER (PARTITION BY k ORDER BY id) AS x FROM a
SELECT id, row_number() OVER (ORDER BY v DESC, id) AS x, ntile(3) OVER (ORDER BY id) AS y FROM a
SELECT id FROM a QUALIFY row_number() OVER (PARTITION BY k ORDER BY v NULLS FIRST, id) <= 2
SELECT id, rank() OVER (PARTITION BY s ORDER BY v) AS r, dense_rank() OVER (ORDER BY v) AS d, percent_rank() OVER (ORDER BY v) AS p, cume_dist() OVER (ORDER BY k) AS c FROM a
SELECT id, lag(v) OVER (PARTITION BY k ORDER BY id) AS x, lead(v, 2, -1) OVER (ORDER BY id) AS y, lag(v IGNORE NULLS) OVER (ORDER BY id) AS z FROM a
SELECT id, sum(v) OVER (ORDER BY k) AS x, count(*) OVER () AS y, avg(v) OVER (PARTITION BY s) AS z FROM a
SELECT id, sum(v) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING) AS x, max(v) OVER (ORDER BY id ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) AS y FROM a
SELECT id, sum(v) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING EXCLUDE CURRENT ROW) AS x FROM a
SELECT k, v, sum(v) OVER (ORDER BY k, v ROWS BETWEEN 2 PRECEDING AND CURRENT ROW EXCLUDE TIES) AS x FROM (SELECT DISTINCT k, v FROM a)
SELECT k, count(DISTINCT (v, s)) AS x, max((v, id)) IS NULL AS y FROM a GROUP BY k
SELECT id, sum(v) OVER (ORDER BY k RANGE BETWEEN 1 PRECEDING AND 2 FOLLOWING) AS x, count(v) OVER (ORDER BY k DESC RANGE BETWEEN 1 PRECEDING AND CURRENT ROW) AS y FROM a
SELECT id, sum(v) OVER (ORDER BY at RANGE BETWEEN INTERVAL 1 HOUR PRECEDING AND CURRENT ROW) AS x FROM a
SELECT id, sum(v) OVER (ORDER BY at::DATE RANGE BETWEEN INTERVAL 1 DAY PRECEDING AND CURRENT ROW EXCLUDE TIES) AS x FROM a
SELECT id, sum(v) OVER (ORDER BY k GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING EXCLUDE GROUP) AS x, min(v) OVER (ORDER BY k GROUPS CURRENT ROW) AS y FROM a
SELECT id, first_value(v) OVER (PARTITION BY k ORDER BY id) AS x, last_value(v) OVER (PARTITION BY k ORDER BY id) AS y, nth_value(v, 2) OVER (ORDER BY id) AS z FROM a
SELECT id, last_value(id) OVER (ORDER BY k, id RANGE BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS x, first_value(v IGNORE NULLS) OVER (ORDER BY id ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING) AS y FROM a
SELECT id, first_value(id ORDER BY id DESC) OVER (ORDER BY k) AS x, last_value(v ORDER BY id) OVER (PARTITION BY k) AS y FROM a
SELECT id, first_value(v IGNORE NULLS) OVER (ORDER BY id) AS x, nth_value(v, 2 IGNORE NULLS) OVER (PARTITION BY k ORDER BY id DESC GROUPS BETWEEN UNBOUNDED PRECEDING AND 1 FOLLOWING EXCLUDE CURRENT ROW) AS y FROM a
SELECT id, list(v) OVER (PARTITION BY k ORDER BY id) AS x, string_agg(s, '') OVER (ORDER BY id ROWS 2 PRECEDING) AS y FROM a
SELECT id, count(DISTINCT v) OVER (ORDER BY k) AS x, sum(v) FILTER (WHERE v > 1) OVER (PARTITION BY s ORDER BY k) AS y, median(v) OVER (PARTITION BY k) AS z FROM a
SELECT id, rank(ORDER BY v) OVER (PARTITION BY k) AS x, arg_max(v, id) OVER (ORDER BY k) AS y, row_number(ORDER BY id DESC) OVER (PARTITION BY k) AS z FROM a
SELECT k, sum(v) AS x, rank() OVER (ORDER BY sum(v) DESC) AS y FROM a GROUP BY k
SELECT id, sum(v) OVER w AS x, count(*) OVER w AS y FROM a WINDOW w AS (PARTITION BY k ORDER BY id)
-- LIMIT, VALUES, UNNEST, common table expressions
SELECT v FROM a ORDER BY id LIMIT 5 OFFSET 2
SELECT v, s FROM a ORDER BY v DESC NULLS LAST, id LIMIT 3
SELECT id FROM a ORDER BY k, id OFFSET 4
SELECT id FROM a ORDER BY v
SELECT id FROM a LIMIT 0
SELECT k FROM a LIMIT ALL
SELECT count(*) AS c FROM (SELECT id FROM a LIMIT 3)
SELECT 1 AS x, 'a' AS y
SELECT * FROM (VALUES (1, 'a'), (2, NULL), (NULL, 'c')) AS t(x, y)
SELECT a.id, t.y FROM a JOIN (VALUES (1, 'one'), (2, 'two')) AS t(x, y) ON a.k = t.x
SELECT id, unnest(l) AS x FROM a
SELECT id, unnest(l) + 1 AS x, unnest([k, v, 9]) AS y FROM a
SELECT unnest([[1, 2], [3]], recursive := true) AS x, id FROM a
SELECT id, unnest({'p': k, 'q': s}) FROM a
WITH q AS (SELECT k, sum(v) AS x FROM a GROUP BY k) SELECT p.k, p.x, r.x AS y FROM q AS p JOIN q AS r ON p.x = r.x + 1 OR p.k = r.k
WITH q AS MATERIALIZED (SELECT * FROM a WHERE v > 1), r AS (SELECT k FROM q UNION ALL SELECT k FROM b) SELECT k, count(*) AS c FROM r WHERE k IN (SELECT k FROM q) GROUP BY k
-- of the shapes of TPC-H
SELECT flag, sum(quantity), sum(price), sum(price * (1 - discount)), avg(quantity), count(*) FROM lineitem WHERE ship <= DATE '2020-01-05' - INTERVAL '1 day' GROUP BY flag ORDER BY flag
SELECT s.sk, s.name, p.pk FROM part AS p, supplier AS s, lineitem AS l, nation AS n WHERE p.pk = l.pk AND s.sk = l.sk AND s.nation = n.nk AND p.size > 1 AND n.region = 'x' AND l.price = (SELECT min(i.price) FROM lineitem AS i, supplier AS t, nation AS m WHERE p.pk = i.pk AND t.sk = i.sk AND t.nation = m.nk AND m.region = 'x')
SELECT l.ok, sum(price * (1 - discount)) AS revenue, o.at FROM customer AS c, orders AS o, lineitem AS l WHERE c.segment = 'p' AND c.ck = o.ck AND l.ok = o.ok AND o.at < DATE '2020-01-06' GROUP BY l.ok, o.at ORDER BY revenue DESC, o.at, l.ok LIMIT 4
SELECT priority, count(*) AS c FROM orders AS o WHERE at >= DATE '2020-01-02' AND EXISTS (SELECT * FROM lineitem AS l WHERE l.ok = o.ok AND l.quantity < 4) GROUP BY priority ORDER BY priority
SELECT n.name, sum(l.price * (1 - l.discount)) AS revenue FROM customer AS c, orders AS o, lineitem AS l, supplier AS s, nation AS n WHERE c.ck = o.ck AND l.ok = o.ok AND l.sk = s.sk AND c.nation = s.nation AND s.nation = n.nk GROUP BY n.name
SELECT year(o.at) AS y, sum(CASE WHEN n.name = 'f' THEN l.price ELSE 0 END) / sum(l.price) AS share FROM lineitem AS l JOIN orders AS o USING (ok) JOIN supplier AS s USING (sk) JOIN nation AS n ON s.nation = n.nk GROUP BY y
SELECT pk, sum(price) AS value FROM lineitem GROUP BY pk HAVING sum(price) > (SELECT sum(price) * 0.2 FROM lineitem)
SELECT counted, count(*) AS people FROM (SELECT c.ck, count(o.ok) AS counted FROM customer AS c LEFT OUTER JOIN orders AS o ON c.ck = o.ck AND o.priority NOT LIKE '%u%' GROUP BY c.ck) GROUP BY counted
WITH revenue AS (SELECT sk, sum(price) AS total FROM lineitem GROUP BY sk) SELECT s.sk, s.name, total FROM supplier AS s JOIN revenue AS r ON s.sk = r.sk WHERE total = (SELECT max(total) FROM revenue)
SELECT p.brand, p.kind, count(DISTINCT l.sk) AS c FROM lineitem AS l, part AS p WHERE p.pk = l.pk AND p.size IN (1, 2, 3) AND l.sk NOT IN (SELECT sk FROM supplier WHERE name LIKE '%a%' AND sk IS NOT NULL) GROUP BY p.brand, p.kind
SELECT sum(l.price) / 7.0 AS x FROM lineitem AS l, part AS p WHERE p.pk = l.pk AND p.brand = 'x' AND l.quantity < (SELECT 0.7 * avg(i.quantity) FROM lineitem AS i WHERE i.pk = p.pk)
SELECT c.name, o.ok, sum(l.quantity) AS q FROM customer AS c, orders AS o, lineitem AS l WHERE o.ok IN (SELECT ok FROM lineitem GROUP BY ok HAVING sum(quantity) > 6) AND c.ck = o.ck AND o.ok = l.ok GROUP BY c.name, o.ok
SELECT s.name FROM supplier AS s WHERE s.sk IN (SELECT l.sk FROM lineitem AS l WHERE l.pk IN (SELECT pk FROM part WHERE kind LIKE 'f%') AND l.quantity > (SELECT 0.5 * sum(quantity) FROM lineitem AS i WHERE i.pk = l.pk AND i.sk = l.sk))
SELECT s.name, count(*) AS waiting FROM supplier AS s, lineitem AS l, orders AS o WHERE s.sk = l.sk AND o.ok = l.ok AND EXISTS (SELECT * FROM lineitem AS m WHERE m.ok = l.ok AND m.sk <> l.sk) AND NOT EXISTS (SELECT * FROM lineitem AS m WHERE m.ok = l.ok AND m.sk <> l.sk AND m.ship > l.ship) GROUP BY s.name
SELECT segment, count(*) AS c, sum(balance) AS b FROM customer AS c WHERE balance > (SELECT avg(balance) FROM customer WHERE balance > 0) AND NOT EXISTS (SELECT * FROM orders AS o WHERE o.ck = c.ck) GROUP BY segment
-- lists of rows by functions and from columns
SELECT * FROM range(3)
SELECT * FROM generate_series(1, 7, 2) AS t(x)
SELECT a.id, t.x FROM a, range(2) AS t(x)
SELECT t.x, count(a.id) AS c FROM range(5) AS t(x) LEFT JOIN a ON a.k = t.x GROUP BY t.x
SELECT * FROM generate_series(TIMESTAMP '2020-01-01', TIMESTAMP '2020-01-02', INTERVAL '12 hours') AS t(x)
SELECT * FROM unnest([3, 4]) AS t(x)
SELECT x FROM a, unnest(l) AS t(x)
SELECT id, x FROM a, unnest(l) AS t(x) WHERE x > 1
SELECT id, x FROM a, range(k) AS t(x)
SELECT id, x, place FROM a, unnest(l) WITH ORDINALITY AS t(x, place)
SELECT id, place FROM a, unnest(l) WITH ORDINALITY AS t(x, place)
SELECT count(*) AS c FROM a, unnest(l)
SELECT id, x FROM a, unnest(range(k, v)) AS t(x)
SELECT a.id, x FROM a, generate_series(k, v) AS t(x)
SELECT x, count(*) AS c FROM a, unnest(list_concat(l, [k])) AS t(x) GROUP BY x
SELECT id, (SELECT max(x) FROM unnest(l) AS t(x)) AS m FROM a
SELECT id, (SELECT sum(x * v) FROM unnest(l) AS t(x)) AS m FROM a
SELECT id, x FROM a LEFT JOIN unnest(l) AS t(x) ON true
SELECT id FROM a WHERE EXISTS (SELECT 1 FROM unnest(l) AS t(x) WHERE x = a.k)
SELECT id, k IN (SELECT x FROM unnest(l) AS t(x)) AS y FROM a
SELECT id, x FROM a, unnest(l) AS t(x) WHERE a.v > 1 AND x <> a.k
SELECT a.id, x, b.w FROM a JOIN b ON a.v < b.w, unnest(list_concat(a.l, [b.w])) AS t(x) WHERE a.k > 1 OR b.k > 1
SELECT a.id, (SELECT max(x) FROM unnest(list_concat(a.l, [b.w])) AS t(x)) AS m FROM a JOIN b ON a.k = b.k WHERE a.v > b.w
SELECT id, x, y FROM a, unnest(l) AS t(x), unnest([x, k]) AS u(y)
SELECT id, start FROM a, unnest(range(date_trunc('hour', at), at, INTERVAL '20 minutes')) AS t(start)
SELECT id, (SELECT unnest(range(1))) AS x, (SELECT max(u) FROM (SELECT unnest([3, 4]) AS u)) AS m FROM a
