-- One expression per line, over the columns of test_render.py.
i
NULL
NULL::DECIMAL(9,2)
1
-1
0
9223372036854775807
-9223372036854775808
170141183460469231731687303715884105727
1.10
-1.5
0.000000001
12345678901234567890.123456789
1e0
1e-300
-0e0
1e400
-1e400
0.1::FLOAT
'nan'::DOUBLE
'inf'::FLOAT
true
false
''
'it''s'
'é한𝄞'
'{x} {{y}}'
'a;--b'
E'a\nb\t'
$$dollar 'quoted'$$
'\xAA'::BLOB
DATE '2020-02-29'
TIMESTAMP '2020-01-01 10:11:12.131415'
TIMESTAMPTZ '2020-01-01 10:11:12+09'
TIME '01:02:03.5'
UUID '00000000-0000-0000-0000-000000000001'
INTERVAL '1 year 2 days 3 seconds'
INTERVAL '-1 month 3 days -1 microsecond'
INTERVAL '0 seconds'
[1, 2, NULL]
[[1], []]
[]
{'a': 1, 'b': [2]}
MAP {'a': 1}
-i
+i
~i
i + 1
i - big
i * 3
i / 2
i // 2
i % 3
i ** 2
i ^ 2
i & 3
i | 8
xor(i, 5)
1 << 3
i >> 1
abs(i)
@i
i::BIGINT * 5000000000
u % 7
u::HUGEINT + 1
h + 1
h * -1
h // 3
n + n
n - 1
n * n
n * 2
n * 1.5
1 - n * n
n * (n + 1) * n
n + m
m * n
w + 1
n / 3
n // 3
n % 3
-n
abs(n)
round(n, 1)
round(m)
floor(n)
ceil(m)
n + i
n * i
n + d
n::DOUBLE
n::DECIMAL(18,4)
n::INTEGER
cast(n AS DECIMAL(12,3)) + n
try_cast(s AS DECIMAL(9,2)) + n
n = 1.25
n > w
n IN (1, 1.25)
f + 1
f * 0.1
f::DOUBLE
d * 2
d = d
isnan(d)
isfinite(d)
sign(d)
round(d, 2)
sqrt(abs(i))
greatest(i, 2, NULL)
least(n, m)
i = 1
i <> 1
i < 5 AND i > 0
i < 5 OR b OR NULL
NOT b
b IS TRUE
b IS NOT FALSE
i IS NULL
i IS NOT NULL
i IS DISTINCT FROM NULL
i IS NOT DISTINCT FROM 1
i BETWEEN 0 AND 5
i NOT BETWEEN 0 AND 5
i IN (1, 2, NULL)
i NOT IN (1, 2)
s IN ('abc', 'x')
day IN ('2020-02-29', '2020-03-01')
COALESCE(i, big, 3)
NULLIF(i, 1)
IFNULL(s, '-')
CASE i WHEN 1 THEN 'one' WHEN -7 THEN NULL ELSE s END
CASE WHEN i > 0 THEN n WHEN b THEN 1.5 END
if(i > 0, 'a', 'b')
TRY(1 // (i - 1))
TRY_CAST(s AS INTEGER)
CAST(s AS INTEGER)
s || 'x'
s || i
s || NULL
concat(s, i, NULL)
concat_ws('-', s, i, b)
upper(s)
lower(s)
length(s)
strlen(s)
left(s, 1)
right(s, 1)
s[1]
s[1:2]
s[-1]
substring(s, 2, 1)
trim(s)
ltrim(s, 'a')
lpad(s, 5, '*')
replace(s, 'a', '''')
reverse(s)
repeat(s, 2)
position('b' IN s)
contains(s, 'b')
starts_with(s, 'a')
s LIKE 'a%'
s NOT LIKE 'a_c'
s ILIKE 'ABC'
s LIKE 'a$%' ESCAPE '$'
s SIMILAR TO '(a|b).*'
s GLOB 'a*'
s ~ 'a.c'
s ^@ 'a'
regexp_replace(s, '[a-b]', '<\0>', 'g')
regexp_extract(s, '(a)(b)', 2)
regexp_matches(s, 'B', 'i')
string_split(s, 'b')
md5(s)
hash(s, i)
ascii(s)
chr(65)
printf('%d-%s', i, s)
format('{} {:>5}', s, i)
strftime(ts, '%Y-%m-%dT%H')
strptime('2020-01-01', '%Y-%m-%d')
bl || 'x'::BLOB
octet_length(bl)
encode(s)
hex(bl)
day + 1
day - DATE '2020-01-01'
day + INTERVAL 1 MONTH
ts + INTERVAL 1 DAY
ts - INTERVAL '1 hour'
ts - TIMESTAMP '2020-01-01'
ts + to_hours(i)
INTERVAL 1 DAY * i
ts::DATE
ts > day
ts = '2020-01-01'
tz::TIMESTAMP
ts::TIMESTAMPTZ
ts AT TIME ZONE 'Asia/Seoul'
tz AT TIME ZONE 'Asia/Seoul'
extract(year FROM ts)
date_part('dow', day)
date_part(['year', 'month'], day)
date_trunc('hour', ts)
date_trunc('month', tz)
date_diff('day', day, DATE '2021-01-01')
age(ts, TIMESTAMP '2000-01-01')
time_bucket(INTERVAL 15 MINUTES, ts)
time_bucket(INTERVAL 1 WEEK, day)
time_bucket(INTERVAL 1 DAY, ts, TIMESTAMP '2000-01-01 06:00:00')
epoch_us(ts)
epoch(ts)
make_date(2020, 1, i)
to_timestamp(0)
last_day(day)
dayname(day)
day + tm
tm + INTERVAL 1 HOUR
ts::TIMESTAMP_NS
ts::TIMESTAMP_S
uu > '80000000-0000-0000-0000-000000000000'
uu::VARCHAR
j->'a'
j->>'$.a[1].b'
json_extract(j, '$.a')
json_array_length(j)
j::VARCHAR
to_json(st)
len(l)
l[1]
l[1:2]
l[-1]
l || [9, NULL]
list_contains(l, 3)
list_contains([1, NULL], i)
list_sort(l, 'DESC', 'NULLS FIRST')
list_sum(l)
list_aggregate(l, 'max')
list_value(i, big)
[i, 1]
[s, 'x']
array_to_string(l, ',')
range(3)
st.a
st['b']
struct_extract(st, 'a')
struct_pack(x := i, y := s)
{'x': i, 'y': {'z': s}}
struct_insert(st, c := i)
st = {'a': 1, 'b': 'x'}
mp['k']
map_keys(mp)
MAP {s: i}
typeof(i)
i::VARCHAR
d::VARCHAR
l::VARCHAR
st::VARCHAR
s::VARCHAR::BLOB
b::INTEGER
i::BOOLEAN
'5'::INTEGER + i
pi()
ln(abs(i))
log2(8)
sin(d)
even(d)
bit_count(i)
factorial(5)
gcd(i, 14)
nextafter(d, 0)
'\xAA\x27\x5C'::BLOB || bl
-- lambdas
list_transform(l, lambda x: x + 1)
list_transform(l, lambda x: x + i)
list_transform(l, lambda x, place: x * place + i - n)
list_filter(l, lambda x: x > 1 AND x <> i)
list_reduce(l, lambda x, y: x + y * i)
list_reduce(l, lambda x, y: x + y, 100)
list_transform([l, [i]], lambda x: list_transform(x, lambda y: y + len(x) + i))
list_transform(list_filter(l, lambda x: x IS NOT NULL), lambda x: x::VARCHAR || s)
[x + 1 FOR x IN l IF x > i]
list_transform([[l]], lambda x: list_transform(x, lambda y: list_transform(y, lambda z: z + len(y) + i)))
list_transform([[l]], lambda x: list_transform(x, lambda y: list_transform(y, lambda z: z + len(x) + len(y))))
list_transform(l, lambda c0: c0 + i)
list_filter(map_keys(mp), lambda k: k LIKE 'k%')
list_transform([1, 2], lambda x: 7)
-- rows
row(i, s)
(i, s) = (1, 'abc')
(i, s) < row(2, NULL)
{'a': 1, 'b': 'x'} = st
({'a': NULL, 'b': 'it''s'}).b || s
