"""The runner's end of the stream, as little as a test needs: frames, HELLO, output put together per call and stream."""

import os
import select
import struct
import time

MAGIC = 0x4742
HELLO, PING, SPAWN, STDIN, ACK, RESUME, SIGNAL, KILL, RESIZE, RELEASE, LIST, SHUTDOWN = range(1, 13)
WELCOME, PONG, STARTED, OUT, STDIN_ACK, EXIT, END, LISTED, REFUSED = range(0x81, 0x8A)
ZEROS = bytes(65552)
REPEATED = {"paths": 20, "prune": 26, "probes": 40}


class Exit:
    """The EXIT record."""

    def __init__(self, payload):
        (self.kind, self.cause, self.stage, self.full, self.code, self.wall_us, self.user_us, self.sys_us, self.rss,
         self.descendants, self.killed, self.oom_kills, self.pids_hits, self.end) = struct.unpack("<BBBBiQQQQiIIIQ", payload)


class Call:
    """What has arrived of one call."""

    def __init__(self, number):
        self.number = number
        self.pid = None
        self.chunks = []  # (offset, stream, bytes), without gap
        self.received = 0
        self.input_acked = 0
        self.input_gone = False
        self.exit = None
        self.total = None
        self.refused = None

    def bytes(self, *streams):
        return b"".join(data for _, stream, data in self.chunks if not streams or stream in streams)

    @property
    def ended(self):
        return self.total is not None or self.refused is not None


def tag(number, value):
    if isinstance(value, str):
        value = value.encode()
    return struct.pack("<BI", number, len(value)) + value


def spec(argv=(), env=("PATH=/usr/bin:/bin",), **fields):
    """Spec bytes; keyword arguments as in the table of docs/protocol.md."""
    out = b"".join(tag(1, a) for a in argv) + b"".join(tag(2, e) for e in env)
    u32 = lambda v: struct.pack("<I", v)
    u64 = lambda v: struct.pack("<Q", v)
    forms = {
        "cwd": (3, bytes), "script": (4, bytes), "kill_after": (5, u32), "idle": (6, u32), "grace": (7, u32),
        "drain": (8, u32), "keep": (9, lambda v: bytes([v])), "stdin": (10, lambda v: bytes([v])),
        "tty": (11, lambda v: struct.pack("<HH", *v)), "verb": (12, lambda v: bytes([v])), "aux": (13, lambda v: bytes([v])),
        "umask": (14, u32), "user": (15, lambda v: struct.pack("<II", *v)), "flags": (21, lambda v: bytes([v])),
        "offset": (22, u64), "length": (23, u64), "mode": (24, u32), "expected": (25, bytes), "depth": (27, u32),
        "entries": (28, u64), "content": (29, u64), "file": (30, u64), "to": (31, bytes),
    }
    for name, value in fields.items():
        if name in REPEATED:
            out += b"".join(tag(REPEATED[name], each) for each in value)
            continue
        number, form = forms[name]
        if isinstance(value, str):
            value = value.encode()
        out += tag(number, form(value))
    return out


class Link:
    """One attached runner. Strict: anything unexpected raises."""

    def __init__(self, reading, writing, zeros=False, orphan_ms=60000, auto_ack=True, offer=False):
        self.reading, self.writing = reading, writing
        self.buffer = b""
        self.calls = {}
        self.auto_ack = auto_ack
        self.pongs = []
        self.listed = None
        self.nonce = os.urandom(15) + b"\x01"
        self.nonce = b"\x01" + self.nonce[1:]
        self.epoch = self.nonce[:4]
        self.welcome = None
        self.frames_seen = 0
        self.reads = 0
        self.pipes = None
        self.in_frame, self.late = False, {}
        hello = self.frame(HELLO, self.nonce + struct.pack("<II", 1, orphan_ms), flags=int(offer))
        self.write((ZEROS if zeros else b"") + hello)
        self.wait(lambda: self.welcome is not None)

    def frame(self, kind, payload=b"", call=0, flags=0):
        return struct.pack("<HBBII", MAGIC, kind, flags, call, len(payload)) + payload + self.epoch

    def write(self, data):
        """Never waits for the supervisor without reading what it says."""
        view, self.in_frame = memoryview(data), True
        while view:
            readable, writable, _ = select.select([self.reading], [self.writing], [], 10)
            if readable:
                self.pump(0)
            if writable:
                view = view[os.write(self.writing, view[:4096]):]
            assert readable or writable, "the supervisor reads no more"
        self.in_frame = False
        while self.late:
            self.acknowledge(*self.late.popitem())

    def acknowledge(self, number, offset):
        """At once, but never in the middle of another frame."""
        if self.in_frame:
            self.late[number] = offset
        else:
            os.write(self.writing, self.frame(ACK, struct.pack("<Q", offset), number))

    def send(self, kind, payload=b"", call=0, flags=0):
        self.write(self.frame(kind, payload, call, flags))

    def spawn(self, number, description, wait=False):
        self.calls[number] = Call(number)
        pieces = [description[i:i + 65536] for i in range(0, len(description), 65536)] or [b""]
        for i, piece in enumerate(pieces):
            self.send(SPAWN, piece, number, 1 if i + 1 < len(pieces) else 0)
        return self.finish(number) if wait else self.calls[number]

    def run(self, number, argv, release=True, timeout=10, **fields):
        self.spawn(number, spec(argv, **fields))
        call = self.finish(number, timeout)
        if release:
            self.send(RELEASE, b"", number)
        return call

    def feed(self, number, data, end=True):
        call, sent = self.calls[number], 0
        while sent < len(data) or end:
            if call.input_gone or call.ended:
                return
            n = min(len(data) - sent, 60000, call.input_acked + 262144 - sent)
            if n <= 0 and sent < len(data):
                self.pump(5)
                continue
            last = end and sent + n == len(data)
            self.send(STDIN, struct.pack("<Q", sent) + data[sent:sent + n], number, 1 if last else 0)
            sent += n
            if last:
                return

    def finish(self, number, timeout=10):
        self.wait(lambda: self.calls[number].ended, timeout)
        return self.calls[number]

    def wait(self, condition, timeout=10):
        deadline = time.monotonic() + timeout
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("nothing came in time")
            self.pump(left)

    def pump(self, timeout):
        readable, _, _ = select.select([self.reading], [], [], timeout)
        if not readable:
            return False
        data = os.read(self.reading, 1 << 20)
        if not data:
            raise EOFError("the supervisor is gone")
        self.reads += 1
        self.buffer += data
        if self.welcome is None and not self.synchronise():
            return True
        self.parse()
        return True

    def synchronise(self):
        at = 0
        while (at := self.buffer.find(b"\x42\x47\x81", at)) >= 0:
            if self.buffer[at + 12:at + 28] == self.nonce:
                self.buffer = self.buffer[at:]
                return True
            at += 1
        self.buffer = self.buffer[-28:]
        return False

    def parse(self):
        at = 0
        while len(self.buffer) - at >= 12:
            magic, kind, flags, call, length = struct.unpack_from("<HBBII", self.buffer, at)
            assert magic == MAGIC and WELCOME <= kind <= REFUSED and length <= 65536, (magic, kind, length)
            if len(self.buffer) - at < 16 + length:
                break
            payload = self.buffer[at + 12:at + 12 + length]
            assert self.buffer[at + 12 + length:at + 16 + length] == self.epoch, "wrong epoch"
            at += 16 + length
            self.frames_seen += 1
            self.take(kind, flags, call, payload)
        self.buffer = self.buffer[at:]

    def take(self, kind, flags, number, payload):
        call = self.calls.get(number)
        if kind == WELCOME:
            self.welcome = struct.unpack_from("<IIII", payload, 16)
            self.found = [struct.unpack_from("<IB3xQQQ", payload, 36 + 32 * i)
                          for i in range(struct.unpack_from("<I", payload, 32)[0])]
            offered = self.welcome[1]
            assert offered in (0, 1) and len(payload) == 36 + 32 * len(self.found) + 24 * offered, len(payload)
            self.pipes = struct.unpack_from("<IIQQ", payload, 36 + 32 * len(self.found)) if offered else None
        elif kind == PONG:
            self.pongs.append(payload)
        elif kind == LISTED:
            self.listed = [struct.unpack_from("<IB3xIIQ", payload, 4 + 24 * i)
                           for i in range(struct.unpack_from("<I", payload)[0])]
        elif kind == STARTED:
            call.pid = struct.unpack("<I", payload)[0]
        elif kind == OUT:
            offset, stream = struct.unpack_from("<QB", payload)
            data = payload[9:]
            assert offset == call.received, f"call {number}: offset {offset}, expected {call.received}"
            assert call.exit is None or offset >= call.exit.end, "output after EXIT that belongs before it"
            call.chunks.append((offset, stream, data))
            call.received += len(data)
            assert call.received < 1 << 29, "a flood without an end"
            if self.auto_ack:
                self.acknowledge(number, call.received)
        elif kind == STDIN_ACK:
            call.input_acked, call.input_gone = struct.unpack("<Q", payload)[0], bool(flags & 1)
        elif kind == EXIT:
            assert call.exit is None, "EXIT twice"
            call.exit = Exit(payload)
            assert call.exit.end == call.received, "EXIT before the output it counts"
        elif kind == END:
            call.total = struct.unpack("<Q", payload)[0]
            assert call.total == call.received and call.exit is not None
        elif kind == REFUSED:
            call.refused = (struct.unpack_from("<I", payload)[0], payload[4:].decode())
        else:
            raise AssertionError(kind)


def records(data):
    """The records of a hand's output: (kind, payload)."""
    out, at = [], 0
    while at < len(data):
        kind, length = struct.unpack_from("<cI", data, at)
        assert length <= 65536 and at + 5 + length <= len(data), "a record is cut short"
        out.append((kind.decode(), data[at + 5:at + 5 + length]))
        at += 5 + length
    return out


class Entry:
    """An 'S' record."""

    def __init__(self, payload):
        (kind, self.owner, _, self.mode, self.uid, self.gid, self.nlink, self.size, self.mtime, self.inode,
         self.device) = struct.unpack_from("<cBHIIIIQqQQ", payload)
        self.type = kind.decode()
        at = 52
        self.path, at = self.cut(payload, at)
        self.link, at = self.cut(payload, at)
        length = payload[at]
        self.digest = payload[at + 1:].hex()
        assert length in (0, 32) and len(payload) == at + 1 + length

    @staticmethod
    def cut(payload, at):
        length = struct.unpack_from("<H", payload, at)[0]
        return payload[at + 2:at + 2 + length], at + 2 + length


def record(kind, payload=b""):
    return struct.pack("<cI", kind.encode(), len(payload)) + payload


def entry(kind, path, mode=0o644, owner=1, link=b"", mtime=0):
    fixed = struct.pack("<cBHIIIIQqQQ", kind.encode(), owner, 0, mode, 0, 0, 1, 0, mtime, 0, 0)
    return record("S", fixed + struct.pack("<H", len(path)) + path + struct.pack("<H", len(link)) + link + b"\0")


def file(path, data, mode=0o644, owner=1, mtime=0):
    pieces = [data[i:i + 65536] for i in range(0, len(data), 65536)]
    return entry("f", path, mode, owner, mtime=mtime) + b"".join(record("D", p) for p in pieces) + record("F")
