"""Values of every type that a log can hold, the first and last of their kind among them, as SQL."""

from __future__ import annotations

from typing import Final

VALUES: Final = {
    "BOOLEAN": ("true", "false"),
    "TINYINT": ("-128", "127"),
    "SMALLINT": ("-32768", "32767"),
    "INTEGER": ("-2147483648", "2147483647"),
    "BIGINT": ("-9223372036854775808", "9223372036854775807"),
    "HUGEINT": ("-" + "9" * 38, "9" * 38),
    "UTINYINT": ("0", "255"),
    "USMALLINT": ("0", "65535"),
    "UINTEGER": ("0", "4294967295"),
    "UBIGINT": ("0", "18446744073709551615"),
    "FLOAT": ("'-0.0'", "'nan'", "'-inf'", "0.1", "1e-45"),
    "DOUBLE": ("'-0.0'", "'nan'", "'inf'", "0.1", "5e-324", "1.7976931348623157e308"),
    "DECIMAL(4,1)": ("-999.9", "0.1"),
    "DECIMAL(38,10)": ("-" + "9" * 28 + "." + "9" * 10, "0.0000000001"),
    "VARCHAR": ("''", "'김하늘'", "'🚲👩‍👩‍👧'", "'NULL'", "'a' || chr(10) || '\"b\",'", "chr(0)", "repeat('ß', 5000)"),
    "BLOB": ("''", "'\\x00\\xFF'"),
    "DATE": ("'0001-01-01'", "'9999-12-31'", "'2024-02-29'"),
    "TIME": ("'00:00:00'", "'23:59:59.999999'"),
    "TIME_NS": ("'00:00:00'", "'23:59:59.999999999'"),
    "TIMESTAMP": ("'1969-12-31 23:59:59.999999'", "'9999-12-31 23:59:59.999999'"),
    "TIMESTAMP_S": ("'1969-12-31 23:59:59'", "'2024-02-29 12:00:00'"),
    "TIMESTAMP_MS": ("'1969-12-31 23:59:59.999'", "'2024-02-29 12:00:00.001'"),
    "TIMESTAMP_NS": ("'1969-12-31 23:59:59.999999999'", "'2024-02-29 12:00:00.000000001'"),
    "TIMESTAMP WITH TIME ZONE": ("'1969-12-31 23:59:59.999999+00'", "'2024-02-29 12:00:00+09'"),
    "INTERVAL": ("'1 month -2 days'", "'-3 years 0.000001 seconds'"),
    "UUID": ("'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"),
    "JSON": ("'null'", "'{\"이름\": [1, 2.50, null]}'"),
    "INTEGER[]": ("[]", "[1, NULL, 3]"),
    "VARCHAR[2]": ("['a', NULL]", "['', '나']"),
    "VARCHAR[][]": ("[[], NULL, ['다', NULL]]",),
    "STRUCT(a BIGINT, 나 VARCHAR[])": ("{'a': NULL, '나': []}", "{'a': -1, '나': ['x', NULL]}"),
    "MAP(VARCHAR, BIGINT)": ("MAP {}", "MAP {'라': 1, '': NULL}"),
}  # fmt: skip

# Values that many systems do not know: years beyond four digits, and infinite times.
FAR_VALUES: Final = {
    "DATE": ("'5877642-06-25 (BC)'", "'5881580-07-10'", "'infinity'"),
    "TIMESTAMP": ("'290308-12-22 (BC) 00:00:00'", "'294247-01-10 04:00:54.775806'", "'infinity'", "'-infinity'"),
    "TIMESTAMP WITH TIME ZONE": ("'290308-12-22 (BC) 00:00:00+00'", "'294247-01-10 04:00:54.775806+00'", "'infinity'"),
    "STRUCT(a BIGINT, b TIMESTAMP)": ("{'a': 1, 'b': '294247-01-10 04:00:54'}",),
}  # fmt: skip
