"""Read a partition of a log without Bourne: written from docs/log_format.md, with nothing but pyarrow.

    python examples/read_log.py DATA/logs/orders/0

Checks each frame (checksums, body hash, chain) before it prints its records as JSON, and takes no lock. A record has
the columns that it was written with: one that the log got later is not there (for Bourne it is NULL), and a type that
was widened later is still the narrow one. What JSON lacks (decimals, times, bytes) is printed as Python's text for it.
"""

import json
import struct
import sys
from hashlib import sha256
from pathlib import Path
from zlib import crc32

import pyarrow as pa


def check(is_right, path, byte, wrong):
    if not is_right:
        sys.exit(f"{path}, byte {byte}: {wrong}")


def merkle_root(body):
    if len(body) <= 16384:
        return sha256(b"\0" + body).digest()
    left = 16384 << ((len(body) - 1) // 16384).bit_length() - 1
    return sha256(b"\1" + merkle_root(body[:left]) + merkle_root(body[left:])).digest()


folder = Path(sys.argv[1])
head = (folder / "head").read_bytes().ljust(128)
magic, final, end, _, stop, _, crc, _, last, _, count = struct.unpack_from("<8s5QII32sQQ", head)
head, schema, named, following = head[: 128 + 32 * count.bit_count()], None, None, None
is_whole = magic == b"BOURNEH2" and crc == crc32(head[56:], crc32(head[:48]))
check(is_whole, folder / "head", 0, "not whole; if it is being written, try again")
check(not any(folder.glob("*.cold")), folder, 0, "some segments are cold: their records are in *.parquet")
for path in [path for path in sorted(folder.glob("*.seg")) if int(path.stem) <= final]:
    data, at = path.read_bytes(), 0
    while at < (end if int(path.stem) == final else len(data)):
        raw = data[at : at + 192].ljust(192)
        (magic, version, kind, zero, flags, partition, rows, base, _, _, meta, size, body_crc, crc, previous,
         body_hash, _, log, number, counts) = struct.unpack("<8sHBBIIIQqQIIII32s32s32s16sQQ", raw)  # fmt: skip
        check(magic == b"BOURNEFR" and crc == crc32(raw[64:], crc32(raw[:60])), path, at, "no whole header")
        is_known = kind in (1, 2) and flags < 4 and (version, zero) == (2, 0)
        check(is_known, path, at, "written by a newer Bourne")
        start = at + 192 + meta + -meta % 64
        body, message = data[at + 192 : start + size + -size % 64], data[start : start + size]
        check((crc32(body), merkle_root(body)) == (body_crc, body_hash), path, at, "not what was written")
        place = (log, partition, number, base, previous, named if kind == 1 else counts)
        check(place == following if following else kind == 1, path, at, "not the frame that comes next")
        if kind == 1:
            named, schema = number, pa.ipc.read_schema(pa.py_buffer(message))
        batch = pa.ipc.read_record_batch(pa.py_buffer(message), schema) if kind == 2 else schema.empty_table()
        for offset, record in enumerate(batch.to_pylist(), base):
            print(json.dumps({"offset": offset, "record": record}, ensure_ascii=False, default=str))
        following = (log, partition, number + 1, base + rows, sha256(raw).digest(), named)
        at += 192 + len(body)
check(following and following[2:5] == (count, stop, last), folder / "head", 0, "names another last frame")
