-- filters and projects
SELECT x, y FROM a WHERE x > 1 AND z = 'u'
SELECT x + 1 AS x1 FROM (SELECT x, y FROM a WHERE y IS NOT NULL) WHERE x < 3
SELECT x FROM (SELECT x, y * 2 AS t FROM a) WHERE t > 2 AND x > 0
SELECT x, x AS again, 5 AS five FROM (SELECT x, y FROM (SELECT x, y, z FROM a))
SELECT count(*) FROM (SELECT x, y FROM a WHERE z > 'a')
SELECT 1 FROM a WHERE y = 2
SELECT x FROM a WHERE false
SELECT x FROM a WHERE x = 1 AND (y = 1 OR z = 'v') AND true
-- joins
SELECT * FROM a, b WHERE a.x = b.k AND a.y > b.v
SELECT * FROM a, b, d WHERE a.x = d.p AND b.k = d.q
SELECT a.z, d.q FROM a, b, d WHERE a.x = d.p AND b.k = d.q AND a.y > 1 AND b.v + a.y > 2 AND b.w IS NOT NULL
SELECT * FROM a JOIN b ON a.x = b.k JOIN d ON b.v = d.p WHERE a.y < d.q
SELECT * FROM a, b WHERE a.x + 1 = b.k AND a.y IS NOT DISTINCT FROM b.v
SELECT * FROM a, b, d WHERE a.x + b.k = d.p
SELECT a.x, t.k FROM a, (SELECT k, v FROM b, d WHERE v = q) t WHERE a.x = t.k AND t.v > 0
SELECT * FROM (SELECT x, y FROM a) s JOIN (SELECT k, count(*) AS n FROM b GROUP BY k) t ON s.x = t.k WHERE n > 1 AND y < 3
SELECT a1.x, a2.y FROM a a1, a a2 WHERE a1.x = a2.y AND a1.z = 'u'
SELECT * FROM a LEFT JOIN b ON a.x = b.k AND a.y > 1 AND b.v > 0 WHERE a.x > 0
SELECT a.x, b.v FROM a LEFT JOIN b ON a.x = b.k WHERE b.v > 1
SELECT a.x, b.v FROM a LEFT JOIN b ON a.x = b.k WHERE b.v IS NULL
SELECT a.x, b.v FROM a LEFT JOIN b ON a.x = b.k WHERE b.v > 1 OR b.w = 'u'
SELECT a.x, b.v FROM a LEFT JOIN b ON a.x = b.k WHERE b.v > 1 OR a.y = 2
SELECT a.x, b.v FROM a LEFT JOIN b ON a.x = b.k WHERE coalesce(b.v, 2) > 1
SELECT a.x, b.v, d.q FROM a LEFT JOIN b ON a.x = b.k, d WHERE b.v = d.p
SELECT a.x, b.v FROM a RIGHT JOIN b ON a.x = b.k WHERE b.v > 1
SELECT a.x, b.v FROM a RIGHT JOIN b ON a.x = b.k AND a.y > 0 WHERE a.x IS NULL
SELECT a.x, b.v FROM a FULL JOIN b ON a.x = b.k WHERE b.v > 1 OR a.y > 0
SELECT count(*) FROM a FULL JOIN b ON a.x = b.k
SELECT a.x FROM a CROSS JOIN b
SELECT x FROM a SEMI JOIN b ON a.x = b.k AND a.y > b.v WHERE z IS NOT NULL
SELECT x FROM a ANTI JOIN b ON a.x = b.k AND b.v > 1 WHERE y > 0
-- aggregates
SELECT x, n FROM (SELECT x, count(*) AS n, sum(y) AS s, max(z) AS m FROM a GROUP BY x) WHERE x > 1
SELECT x, count(*) FROM a GROUP BY x HAVING count(*) > 1 AND x < 3
SELECT count(*) FROM a HAVING 1 = 0
SELECT count(*) FROM a HAVING false
SELECT x FROM (SELECT x, y, sum(x) FROM a GROUP BY x, y) WHERE y > 0
SELECT DISTINCT x FROM a WHERE y > 0
SELECT count(*) FROM (SELECT DISTINCT x, y FROM a)
SELECT count(*) FROM (SELECT sum(x), count(y) FROM a)
-- unions
SELECT x FROM (SELECT x, y FROM a UNION ALL SELECT k, v FROM b UNION ALL SELECT p, q FROM d) WHERE y > 1
SELECT y FROM (SELECT x, y FROM a UNION SELECT k, v FROM b) WHERE x > 1
SELECT x FROM a UNION ALL SELECT k FROM b WHERE k > 1
SELECT count(*) FROM (SELECT x, z FROM a UNION ALL SELECT k, w FROM b)
-- windows
SELECT x, n FROM (SELECT x, y, count(*) OVER (PARTITION BY x) AS n, sum(y) OVER (PARTITION BY x, y) AS s FROM a) WHERE x > 0
SELECT x, n FROM (SELECT x, y, count(*) OVER (PARTITION BY x) AS n FROM a) WHERE x > 0 AND y > 1
SELECT count(*) FROM (SELECT x, count(*) OVER (PARTITION BY x) AS n FROM a)
-- common table expressions
WITH c AS (SELECT x, y + 1 AS y1, z FROM a) SELECT c1.x FROM c c1 JOIN c c2 ON c1.x = c2.y1 WHERE c1.x > 1
WITH c AS (SELECT x, count(*) AS n FROM a GROUP BY x) SELECT * FROM c WHERE n = (SELECT max(n) FROM c)
WITH c AS (SELECT x, sum(y) AS s FROM a GROUP BY x) SELECT c1.s FROM c c1, c c2 WHERE c1.x = c2.x + 1 AND c2.s > 0
-- subqueries
SELECT * FROM a WHERE x IN (SELECT k FROM b)
SELECT * FROM a WHERE x NOT IN (SELECT k FROM b)
SELECT * FROM a WHERE x NOT IN (SELECT k FROM b WHERE v > 1) AND y > 0
SELECT x, x IN (SELECT k FROM b) FROM a
SELECT x, x NOT IN (SELECT k FROM b WHERE v > 1) AS n FROM a
SELECT * FROM a WHERE x IN (SELECT k FROM b) OR y = 1
SELECT * FROM a WHERE (x, y) IN (SELECT k, v FROM b)
SELECT * FROM a WHERE (x, y) NOT IN (SELECT k, v FROM b)
SELECT x, y, (x, y) IN (SELECT k, v FROM b) FROM a
SELECT * FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.k = a.x)
SELECT * FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.k = a.x)
SELECT x, EXISTS (SELECT 1 FROM b WHERE b.k = a.x) FROM a
SELECT * FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.k = a.x AND b.v > a.y)
SELECT * FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.k = a.x AND b.v > a.y)
SELECT x, EXISTS (SELECT 1 FROM b WHERE b.v > a.y) FROM a
SELECT * FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.k IS NOT DISTINCT FROM a.x)
SELECT * FROM a WHERE y IN (SELECT v FROM b WHERE b.k = a.x)
SELECT * FROM a WHERE y NOT IN (SELECT v FROM b WHERE b.k = a.x)
SELECT x, y, y IN (SELECT v FROM b WHERE b.k = a.x) FROM a
SELECT x, y, y NOT IN (SELECT v FROM b WHERE b.k < a.x) FROM a
SELECT * FROM a WHERE y NOT IN (SELECT v FROM b WHERE b.k < a.x)
SELECT * FROM a WHERE x > ANY (SELECT k FROM b)
SELECT * FROM a WHERE x > ALL (SELECT k FROM b)
SELECT * FROM a WHERE x <> ALL (SELECT k FROM b WHERE b.v = a.y)
SELECT x, (SELECT count(*) FROM b WHERE b.k = a.x) FROM a
SELECT x, (SELECT sum(v) FROM b WHERE b.k = a.x) FROM a
SELECT x, (SELECT sum(v) FROM b WHERE b.k < a.x) FROM a
SELECT x, (SELECT count(*) FROM b WHERE b.k < a.x) FROM a
SELECT x FROM a WHERE y > (SELECT avg(v) FROM b WHERE b.k = a.x)
SELECT x FROM a WHERE y = (SELECT max(v) FROM b)
SELECT x FROM a WHERE 1 < (SELECT count(*) FROM b WHERE b.k = a.x AND b.v <> a.y)
SELECT a.x, t.v FROM a, LATERAL (SELECT v FROM b WHERE b.k = a.x) t
SELECT a.x, t.n FROM a LEFT JOIN LATERAL (SELECT count(*) AS n FROM b WHERE b.k > a.x) t ON true
SELECT a.x, d.q FROM a, d WHERE a.x = d.p AND EXISTS (SELECT 1 FROM b WHERE b.k = a.x AND b.v = d.q)
SELECT (SELECT max(v) FROM b WHERE b.k = a.x AND b.v IN (SELECT q FROM d WHERE d.p = a.y)) FROM a
SELECT x FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.k = a.x AND NOT EXISTS (SELECT 1 FROM d WHERE d.p = b.v AND d.q = a.y))
-- unnest
SELECT p, e FROM (SELECT p, q, unnest(l) AS e FROM d) WHERE q > 0 AND e > 1
-- the first rows of each partition; the order is by all columns, so that there is one answer
SELECT x, y, z FROM a QUALIFY row_number() OVER (PARTITION BY x ORDER BY y, z) <= 2
SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY x ORDER BY y DESC, z) AS r FROM a) WHERE r = 1
SELECT x, y, z FROM (SELECT *, row_number() OVER (PARTITION BY x ORDER BY y DESC, z) AS r FROM a) WHERE r < 3 AND y > 1
SELECT x, y, z, row_number() OVER (PARTITION BY x ORDER BY y, z) AS r FROM a QUALIFY row_number() OVER (PARTITION BY x ORDER BY y, z) BETWEEN 2 AND 3
SELECT x, y, z, r FROM (SELECT *, row_number() OVER (ORDER BY x, y, z) AS r, rank() OVER (ORDER BY x) AS k FROM a) WHERE r <= 3
SELECT x, y, r FROM (SELECT x, y, rank() OVER (PARTITION BY x ORDER BY y) AS r FROM a) WHERE r <= 2 AND x > 0
SELECT x, s FROM (SELECT x, y, sum(y) OVER (PARTITION BY x) AS s, count(*) OVER (PARTITION BY x, y) AS n FROM a) WHERE x > 1 AND s > 2
SELECT x, (SELECT v FROM b WHERE b.k = a.x ORDER BY v, w LIMIT 1) FROM a
SELECT * FROM a ORDER BY x, y, z LIMIT 3
SELECT DISTINCT ON (x) x, y, z FROM a ORDER BY x, y, z
-- constants, and scalars joined to everything
SELECT * FROM a WHERE EXISTS (SELECT 1 FROM b WHERE v > 2)
SELECT x, n FROM a, (SELECT count(*) > 3 AS n FROM b) WHERE n
SELECT x, c FROM a, (SELECT 1 AS c) WHERE x > c
SELECT x, sum(y), count(*), sum(y) + 1, count(*) AS n FROM a GROUP BY x
SELECT x, e FROM a, (VALUES (1), (2)) t(e) WHERE x = e
-- deeper correlation
SELECT x, (SELECT count(*) FROM b WHERE b.k = a.x AND b.v > a.y) FROM a
SELECT x, t.v, t.e FROM a LEFT JOIN LATERAL (SELECT v, v + x AS e FROM b WHERE b.k = a.x AND b.v > a.y) t ON true WHERE a.y > 0
SELECT x, t.v, t.e FROM a, LATERAL (SELECT v, v + x AS e FROM b, d WHERE b.k = a.x AND d.p = b.v AND d.q < a.y) t
SELECT x, (SELECT v FROM b WHERE b.k = a.x AND b.v > a.y) FROM a
SELECT x, y FROM a WHERE y NOT IN (SELECT v FROM b WHERE b.k = a.x AND b.v < a.y)
SELECT x, y FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.k = a.x AND b.v <> a.y) OR y > 2
WITH c AS (SELECT x, y FROM a WHERE x > 0) SELECT c.x FROM c WHERE EXISTS (SELECT 1 FROM b WHERE b.k = c.x AND b.v < c.y) AND c.y > 1
SELECT x, (SELECT count(*) FROM b WHERE b.k = s.x AND b.v < s.n) FROM (SELECT x, count(*) AS n FROM a GROUP BY x) s
SELECT o.x FROM (SELECT a.x, d.q FROM a, d WHERE a.y = d.p) o WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.k = o.x AND b.v > o.q)
-- NOT IN where there are no NULLs on one side, or on both
SELECT * FROM a WHERE x NOT IN (SELECT k FROM b WHERE k IS NOT NULL)
SELECT * FROM a WHERE x NOT IN (SELECT k FROM b) AND x > 0
SELECT * FROM a WHERE x NOT IN (SELECT k FROM b WHERE k > 1) AND x IS NOT NULL
SELECT * FROM a WHERE (x, y) NOT IN (SELECT k, v FROM b WHERE k > 0) AND y > 0
SELECT x, x IN (SELECT k FROM b WHERE k < 2) FROM a
SELECT x, x IN (SELECT k FROM b) FROM a WHERE x IS NOT NULL
SELECT x, x IN (SELECT count(*) FROM b GROUP BY k) FROM a
SELECT a.x, a.x IN (SELECT p FROM d) FROM a, b WHERE a.x = b.k
SELECT x, x IN (SELECT max(v) FROM b) FROM a
