"""Writes the first seeds of the corpora: one small valid input per shape. Run once; the fuzzer adds what it finds."""

import os
import struct
import sys

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, here + "/../test")
from link import Link, entry, file, record, spec, tag  # noqa: E402


def frame(kind, payload=b"", call=0, flags=0, epoch=b"\x01\x02\x03\x04"):
    return struct.pack("<HBBII", 0x4742, kind, flags, call, len(payload)) + payload + epoch


def order(kind, payload=b""):
    return record(kind, struct.pack("<I", 1) + payload)


def probe(protocol, family, payload=b""):
    return bytes([protocol, family]) + bytes(4 if family == 4 else 16) + struct.pack("<HH", 80, 1000) + payload


endpoint = bytes([127, 0, 0, 1, 80, 0])
hello = frame(1, b"\x01\x02\x03\x04" + bytes(12) + struct.pack("<II", 1, 1000))
seeds = {
    "frames": [b"\x00" + hello, b"\xff" + hello + frame(2, bytes(8)), b"\x07" + hello + frame(3, spec(["true"]), 1) + frame(11),
               b"\x0b" + hello[:20] + bytes(100) + hello, b"\x40" + b"BG" * 20 + hello, b"\x3f" + hello + frame(4, bytes(40), 1, 1, bytes(4))],
    "gateway": [order("L", b"\1" + endpoint), order("l"), order("C", endpoint), order("D", b"data") + order("F"), order("R"),
                order("W", struct.pack("<I", 65536)), order("U", endpoint + b"datagram")],
    "spec": [spec(["sh", "-c", "x"], cwd="/", kill_after=1, idle=1, grace=1, drain=1, keep=1, stdin=1, tty=(80, 24), aux=1, umask=0o22),
             spec(["sh"], script="echo"), spec(verb=4, paths=["a", "b"], prune=["c"], depth=1, entries=2, content=3, file=4, flags=3),
             spec(verb=6, paths=["a"], to="b"), spec(verb=3, paths=["a"], mode=0o644, expected=bytes(32)), tag(1, ""), tag(1, "x") + tag(15, bytes(8)),
             spec(verb=9, stdin=1), spec(verb=10, probes=[probe(1, 4), probe(2, 6, b"question")])],
    "unpack": [file(b"a/b", b"data"), entry("d", b"d", 0o755, 0), entry("l", b"l", link=b"t"), entry("x", b"gone") + record("Z"),
               record("S", bytes(57)), record("S", bytes(57) + bytes(32))],
}
for name, inputs in seeds.items():
    os.makedirs(f"{here}/corpus/{name}", exist_ok=True)
    for i, data in enumerate(inputs):
        with open(f"{here}/corpus/{name}/seed-{i}", "wb") as out:
            out.write(data)
