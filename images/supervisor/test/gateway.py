"""The runner's end of a gateway: orders, what it tells, credit both ways. Strict: anything unexpected raises."""

import struct

from link import STDIN, record, spec
from sandbox import equal

GATEWAY = 9
TCP, UDP = 1, 2
CREDIT = 262144
DATA_MAX = 65532


def endpoint(address, port):
    return bytes(int(part) for part in address.split(".")) + struct.pack("<H", port)


def endpoint_from(data):
    return ".".join(str(part) for part in data[:4]), struct.unpack_from("<H", data, 4)[0]


class Connection:
    """What is known of one, and what came of its bytes."""

    def __init__(self, number, listener=None, peer=None):
        self.number, self.listener, self.peer = number, listener, peer
        self.code = None  # of connecting
        self.data = bytearray()
        self.arrived = 0
        self.granted = CREDIT
        self.may_send = CREDIT
        self.sent = 0
        self.ended = self.reset = self.gone = False


class Gateway:
    def __init__(self, sandbox, grants=True):
        self.link, self.grants = sandbox.link, grants
        self.call = self.link.spawn(sandbox.next(), spec(verb=GATEWAY, stdin=1))
        self.written = 0
        self.buffer = b""
        self.connections, self.listeners, self.datagrams = {}, {}, []
        self.last_accepted, self.next_connection, self.next_listener = -1, 2, 0

    def write(self, data, last=False):
        """Bytes for its stdin, as they are."""
        while (data or last) and not self.call.input_gone:
            room = self.call.input_acked + CREDIT - self.written
            piece, data = data[:max(0, min(room, 60000))], data[max(0, min(room, 60000)):]
            if not piece and not last:
                assert self.link.pump(10), "it reads no more"
                continue
            ends = last and not data
            self.link.send(STDIN, struct.pack("<Q", self.written) + piece, self.call.number, int(ends))
            self.written += len(piece)
            if ends:
                return

    def order(self, kind, number, rest=b""):
        self.write(record(kind, struct.pack("<I", number) + rest))

    def listen(self, address, port, protocol=TCP, number=None):
        """(its number, errno)"""
        if number is None:
            self.next_listener += 1
            number = self.next_listener
        self.listeners.pop(number, None)
        self.order("L", number, bytes([protocol]) + endpoint(address, port))
        self.wait(lambda: number in self.listeners)
        return number, self.listeners[number]

    def connect(self, address, port, wait=True):
        number, self.next_connection = self.next_connection, self.next_connection + 2
        self.connections[number] = connection = Connection(number)
        self.order("C", number, endpoint(address, port))
        if wait:
            self.wait(lambda: connection.code is not None)
        return connection

    def send(self, connection, data):
        """All of it, within the credit."""
        view = memoryview(data)
        while view:
            piece = view[:min(DATA_MAX, connection.may_send)]
            if piece:
                connection.may_send -= len(piece)
                connection.sent += len(piece)
                self.order("D", connection.number, bytes(piece))
                view = view[len(piece):]
            else:
                self.wait(lambda: connection.may_send > 0)

    def end(self, connection):
        self.order("F", connection.number)

    def reset(self, connection):
        self.order("R", connection.number)

    def grant(self, connection, count):
        connection.granted += count
        self.order("W", connection.number, struct.pack("<I", count))

    def accepted(self, count=1):
        """The connections that were accepted and are there, once they are so many."""
        here = lambda: [each for each in self.connections.values() if each.listener is not None and not each.gone]
        self.wait(lambda: len(here()) >= count)
        return here()

    def wait(self, condition, timeout=10):
        def look():
            self.take_all()
            self.give()
            met = condition()
            assert met or not self.call.ended, f"the gateway has ended: {self.call.refused or self.call.exit.__dict__}"
            return met
        self.link.wait(look, timeout)

    def pump(self, timeout):
        self.link.pump(timeout)
        self.take_all()
        self.give()

    def give(self):
        """Room for what was taken; never in the middle of another order."""
        for each in self.connections.values():
            if self.grants and not each.gone and each.granted - each.arrived < CREDIT // 2:
                self.grant(each, each.arrived + CREDIT - each.granted)

    def settle(self, silence=0.1):
        """Whatever it has to say just now was heard."""
        while self.link.pump(silence):
            pass
        self.take_all()

    def take_all(self):
        for _, stream, data in self.call.chunks:
            equal(stream, 1)
            self.buffer += data
        self.call.chunks.clear()
        at = 0
        while len(self.buffer) - at >= 5:
            kind, length = struct.unpack_from("<cI", self.buffer, at)
            assert length <= 65536, length
            if len(self.buffer) - at - 5 < length:
                break
            self.take(kind.decode(), self.buffer[at + 5:at + 5 + length])
            at += 5 + length
        self.buffer = self.buffer[at:]

    def take(self, kind, payload):
        number = struct.unpack_from("<I", payload)[0]
        if kind == "L":
            self.listeners[number] = struct.unpack("<I", payload[4:])[0]
        elif kind == "U":
            self.datagrams.append((number, endpoint_from(payload[4:10]), payload[10:]))
        elif kind == "A":
            assert number % 2 == 1 and number > self.last_accepted and len(payload) == 14, (number, self.last_accepted)
            self.last_accepted = number
            self.connections[number] = Connection(number, struct.unpack_from("<I", payload, 4)[0], endpoint_from(payload[8:]))
        else:
            self.take_of(self.connections[number], kind, payload[4:])

    def take_of(self, connection, kind, rest):
        assert not connection.gone, f"{kind} after the end of {connection.number}"
        if kind == "C":
            assert connection.code is None
            connection.code = struct.unpack("<I", rest)[0]
            connection.gone = connection.code != 0
        elif kind == "D":
            assert rest and not connection.ended and not connection.reset
            connection.data += rest
            connection.arrived += len(rest)
            assert connection.arrived <= connection.granted, "more than the credit"
        elif kind == "W":
            connection.may_send += struct.unpack("<I", rest)[0]
            assert connection.may_send <= CREDIT
        elif kind == "F":
            assert rest == b"" and not connection.ended and not connection.reset
            connection.ended = True
        elif kind == "R":
            assert rest == b"" and not connection.reset
            connection.reset = True
        elif kind == "G":
            assert rest == b""
            connection.gone = True
        else:
            raise AssertionError(kind)
