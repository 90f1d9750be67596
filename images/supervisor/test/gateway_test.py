"""The gateway: connections and datagrams of the sandbox's loopback, as TCP and UDP have them, seen from both ends."""

import errno
import os
import signal
import socket
import struct
import threading
import time

from gateway import CREDIT, TCP, UDP, Gateway, endpoint
from link import KILL, RELEASE, record
from sandbox import Sandbox, equal

HERE = "127.64.0.1"
RESET = struct.pack("ii", 1, 0)


class Inside:
    """A gateway that listens on port 443, and sockets of the sandbox."""

    def __init__(self, sandbox, **options):
        self.sandbox = sandbox
        self.gateway = Gateway(sandbox, **options)
        self.listener, code = self.gateway.listen(HERE, 443)
        equal(code, 0)
        self.sockets = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for each in self.sockets:
            each.close()
        if not self.gateway.call.ended:
            self.gateway.write(b"", last=True)
            self.gateway.link.finish(self.gateway.call.number)
        self.gateway.link.send(RELEASE, b"", self.gateway.call.number)
        equal(self.gateway.call.bytes(2), b"")

    def socket(self, kind=socket.SOCK_STREAM):
        with self.sandbox.network():
            self.sockets.append(socket.socket(socket.AF_INET, kind))
        self.sockets[-1].settimeout(10)
        return self.sockets[-1]

    def dial(self, port=443):
        """(the socket inside, what the gateway told of it)"""
        made = self.socket()
        before = set(self.gateway.connections)
        made.connect((HERE, port))
        new = lambda: [each for number, each in self.gateway.connections.items() if number not in before]
        self.gateway.wait(new)
        equal(new()[0].peer, made.getsockname())
        return made, new()[0]

    def spent(self):
        """Seconds of processor time of the gateway so far."""
        pid = self.sandbox.members(self.gateway.call)[0]
        fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def read_all(made):
    data = bytearray()
    while piece := made.recv(1 << 20):
        data += piece
    return bytes(data)


def in_background(work):
    """Runs beside the gateway's own turn; join() raises what it raised."""
    result = {}

    def run():
        try:
            result["value"] = work()
        except BaseException as error:
            result["error"] = error
    thread = threading.Thread(target=run)
    thread.start()

    def join(gateway=None):
        while gateway and thread.is_alive():
            gateway.pump(0.01)
        thread.join(10)
        assert not thread.is_alive(), "it is not over"
        if "error" in result:
            raise result["error"]
        return result["value"]
    return join


def fails_with(code, work):
    try:
        work()
    except OSError as error:
        equal(error.errno, code)
        return
    raise AssertionError("it did not fail")


def test_bytes_go_both_ways_and_a_connection_ends_when_both_sides_have(sandbox):
    with Inside(sandbox) as inside:
        made, seen = inside.dial()
        equal(seen.listener, inside.listener)
        made.sendall(b"question")
        inside.gateway.wait(lambda: seen.data == b"question")
        inside.gateway.send(seen, b"answer")
        equal(made.recv(100), b"answer")
        made.shutdown(socket.SHUT_WR)
        inside.gateway.wait(lambda: seen.ended)
        equal((seen.gone, seen.reset), (False, False))
        inside.gateway.send(seen, b"late")
        inside.gateway.end(seen)
        inside.gateway.wait(lambda: seen.gone)
        equal((read_all(made), seen.reset), (b"late", False))


def test_the_runner_may_end_first_and_still_hear_the_rest(sandbox):
    with Inside(sandbox) as inside:
        made, seen = inside.dial()
        inside.gateway.send(seen, b"all I have")
        inside.gateway.end(seen)
        equal(read_all(made), b"all I have")
        made.sendall(b"x" * 500_000)
        made.close()
        inside.gateway.wait(lambda: seen.gone)
        equal((len(seen.data), seen.ended, seen.reset), (500_000, True, False))


def test_megabytes_both_ways_at_once_stay_whole_within_the_credit(sandbox):
    up, down = os.urandom(1 << 20) * 6, os.urandom(1 << 20) * 6
    with Inside(sandbox) as inside:
        made, seen = inside.dial()

        def inside_part():
            sender = in_background(lambda: (made.sendall(up), made.shutdown(socket.SHUT_WR)))
            data = read_all(made)
            sender()
            return data
        join = in_background(inside_part)
        inside.gateway.send(seen, down)
        inside.gateway.end(seen)
        inside.gateway.wait(lambda: seen.gone)
        assert join(inside.gateway) == down and seen.data == up, (len(seen.data), seen.ended, seen.reset)


def test_a_reset_inside_is_told_and_one_of_the_runner_arrives_inside(sandbox):
    with Inside(sandbox) as inside:
        made, seen = inside.dial()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        made.close()
        inside.gateway.wait(lambda: seen.gone)
        equal((seen.reset, seen.ended), (True, False))
        made, seen = inside.dial()
        inside.gateway.reset(seen)
        inside.gateway.wait(lambda: seen.gone)
        fails_with(errno.ECONNRESET, lambda: made.recv(1))
        equal(seen.reset, False)


def test_a_peer_that_closes_without_reading_is_a_reset_for_what_comes_after(sandbox):
    with Inside(sandbox) as inside:
        made, seen = inside.dial()
        made.sendall(b"request")
        made.close()
        inside.gateway.wait(lambda: seen.ended)
        for _ in range(50):
            if seen.gone:
                break
            inside.gateway.order("D", seen.number, b"unheard")
            inside.gateway.pump(0.05)
        equal((bytes(seen.data), seen.reset, seen.gone), (b"request", True, True))
        inside.gateway.order("D", seen.number, b"crosses the end")
        inside.gateway.order("F", seen.number)
        equal(inside.dial()[1].gone, False)


def test_a_reset_is_told_at_once_while_the_runner_takes_nothing(sandbox):
    with Inside(sandbox, grants=False) as inside:
        made, seen = inside.dial()
        join = in_background(lambda: fails_with(errno.ECONNRESET, lambda: made.sendall(bytes(64 << 20))))
        inside.gateway.wait(lambda: seen.arrived == CREDIT)
        before = inside.spent()
        time.sleep(0.3)
        inside.gateway.settle()
        equal((seen.arrived, seen.gone), (CREDIT, False))
        assert inside.spent() - before < 0.1, "it does not sleep"
        inside.gateway.reset(seen)
        join(inside.gateway)
        made, seen = inside.dial()
        made.settimeout(0.2)
        try:
            made.sendall(bytes(64 << 20))
        except TimeoutError:
            pass
        inside.gateway.wait(lambda: seen.arrived == CREDIT)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        made.close()
        inside.gateway.wait(lambda: seen.gone)
        equal(seen.reset, True)


def test_what_was_sent_before_the_end_arrives_before_it_however_late_it_is_taken(sandbox):
    with Inside(sandbox, grants=False) as inside:
        made, seen = inside.dial()
        data = os.urandom(CREDIT + 100_000)
        made.sendall(data)
        made.shutdown(socket.SHUT_WR)
        inside.gateway.wait(lambda: seen.arrived == CREDIT)
        inside.gateway.end(seen)
        equal(read_all(made), b"")
        before = inside.spent()
        time.sleep(0.3)
        inside.gateway.settle()
        equal((seen.arrived, seen.ended, seen.reset), (CREDIT, False, False))
        assert inside.spent() - before < 0.1, "it does not sleep"
        inside.gateway.grant(seen, 100_001)
        inside.gateway.wait(lambda: seen.gone)
        assert seen.data == data and seen.ended and not seen.reset


def test_a_peer_that_reads_nothing_holds_up_no_other_and_no_more_than_the_credit_is_held_for_it(sandbox):
    with Inside(sandbox) as inside:
        slow, stuck = inside.dial()
        fill(inside.gateway, stuck)
        for _ in range(20):
            made, seen = inside.dial()
            made.sendall(b"ping")
            inside.gateway.wait(lambda: seen.data == b"ping")
            inside.gateway.send(seen, b"pong")
            equal(made.recv(10), b"pong")
            made.close()
        fill(inside.gateway, stuck)  # the kernel may have found room for more meanwhile
        inside.gateway.end(stuck)
        join = in_background(lambda: len(read_all(slow)))
        equal(join(inside.gateway), stuck.sent)


def fill(gateway, connection):
    """What the kernel holds for a peer that does not read, and then the credit."""
    for _ in range(60):
        gateway.settle(0.03)
        if connection.may_send == 0:
            return
        gateway.send(connection, b"s" * connection.may_send)
    raise AssertionError("somebody reads")


def test_a_connection_whose_bytes_the_runner_leaves_holds_up_no_other(sandbox):
    with Inside(sandbox, grants=False) as inside:
        flood, left = inside.dial()
        flood.setblocking(False)
        inside.gateway.wait(lambda: filled(flood) or left.arrived == CREDIT)
        made, seen = inside.dial()
        made.sendall(b"x" * 100_000)
        inside.gateway.wait(lambda: seen.arrived == 100_000)
        equal(left.arrived, CREDIT)


def filled(made):
    try:
        while True:
            made.send(bytes(65536))
    except BlockingIOError:
        return False


def test_two_hundred_and_fifty_six_connections_live_at_once_and_the_next_is_reset(sandbox):
    with Inside(sandbox) as inside:
        made = [inside.socket() for _ in range(256)]
        for each in made:
            each.connect((HERE, 443))
        seen = {each.peer: each for each in inside.gateway.accepted(256)}
        too_many = inside.socket()
        # The reset may come before connect() has returned, or after it.
        fails_with(errno.ECONNRESET, lambda: (too_many.connect((HERE, 443)), too_many.recv(1)))
        equal(inside.gateway.connect(HERE, 443).code, errno.EMFILE)
        for i, each in enumerate(made):
            each.sendall(b"%d" % i)
        inside.gateway.wait(lambda: all(seen[each.getsockname()].data == b"%d" % i for i, each in enumerate(made)))
        for i, each in enumerate(made):
            inside.gateway.send(seen[each.getsockname()], b"<%d>" % i)
        equal([each.recv(10) for each in made], [b"<%d>" % i for i in range(256)])
        gone = seen[made[0].getsockname()]
        made[0].close()
        inside.gateway.end(gone)
        inside.gateway.wait(lambda: gone.gone)
        inside.dial()
        equal(len(inside.gateway.accepted(256)), 256)


def test_without_descriptors_it_waits_and_serves_those_it_has(sandbox):
    own = Sandbox(descriptors=40)
    with Inside(own) as inside:
        made = [inside.socket() for _ in range(50)]
        for each in made:
            each.connect((HERE, 443))
        inside.gateway.settle()
        seen = inside.gateway.accepted()
        assert 20 < len(seen) < 40, len(seen)
        before = inside.spent()
        time.sleep(0.4)
        assert inside.spent() - before < 0.15, "it does not sleep"
        equal(inside.gateway.connect(HERE, 443).code, errno.EMFILE)
        equal(inside.gateway.listen(HERE, 444)[1], errno.EMFILE)
        made[0].sendall(b"still")
        inside.gateway.wait(lambda: seen[0].data == b"still")
        for each in seen:
            inside.gateway.reset(each)
        inside.gateway.wait(lambda: len(inside.gateway.connections) >= 50)
    own.close()


def test_listeners_take_low_ports_and_stop_while_connections_go_on(sandbox):
    with Inside(sandbox) as inside:
        number, code = inside.gateway.listen("127.0.0.1", 80)
        equal(code, 0)
        made, seen = inside.dial()
        inside.gateway.order("l", inside.listener)
        equal(inside.gateway.listen("127.0.0.1", 81)[1], 0)
        fails_with(errno.ECONNREFUSED, lambda: inside.socket().connect((HERE, 443)))
        made.sendall(b"on")
        inside.gateway.wait(lambda: seen.data == b"on")
        inside.gateway.end(seen)
        made.close()
        inside.gateway.wait(lambda: seen.gone)
        inside.listener, code = inside.gateway.listen(HERE, 443)
        equal(code, 0)
        inside.dial()


def test_it_listens_and_connects_on_loopback_addresses_only(sandbox):
    with Inside(sandbox) as inside:
        for address, port in (("0.0.0.0", 80), ("192.0.2.1", 80), ("128.0.0.1", 80), ("169.254.169.254", 80), ("127.0.0.1", 0)):
            for protocol in (TCP, UDP):
                equal((address, inside.gateway.listen(address, port, protocol)[1]), (address, errno.EINVAL))
            equal((address, inside.gateway.connect(address, port).code), (address, errno.EINVAL))


def test_a_port_that_is_taken_and_a_65th_listener_are_told(sandbox):
    with Inside(sandbox) as inside:
        taken = inside.socket()
        taken.bind(("0.0.0.0", 8443))
        taken.listen()
        equal(inside.gateway.listen(HERE, 8443)[1], errno.EADDRINUSE)
        equal(inside.gateway.listen(HERE, 443)[1], errno.EADDRINUSE)
        for i in range(63):
            equal(inside.gateway.listen(HERE, 1000 + i, (TCP, UDP)[i % 2])[1], 0)
        equal(inside.gateway.listen(HERE, 2000)[1], errno.EMFILE)


SHARE = """
import errno, socket
for kind, port in ((socket.SOCK_STREAM, 443), (socket.SOCK_DGRAM, 53)):
    for address in ("127.64.0.1", "0.0.0.0"):
        for options in ((), (socket.SO_REUSEADDR,), (socket.SO_REUSEPORT,), (socket.SO_REUSEADDR, socket.SO_REUSEPORT)):
            made = socket.socket(socket.AF_INET, kind)
            for option in options: made.setsockopt(socket.SOL_SOCKET, option, 1)
            try:
                made.bind((address, port))
                if kind == socket.SOCK_STREAM: made.listen()
                print("DONE", kind, address, options)
            except OSError as error:
                print(errno.errorcode[error.errno])
"""


def test_no_tool_can_share_a_listener(sandbox):
    with Inside(sandbox) as inside:
        equal(inside.gateway.listen(HERE, 53, UDP)[1], 0)
        call = sandbox.run(["/usr/bin/python3", "-c", SHARE])
        equal(call.bytes().split(), [b"EADDRINUSE"] * 16)


def test_datagrams_go_both_ways_and_longer_ones_are_lost(sandbox):
    with Inside(sandbox) as inside:
        gateway = inside.gateway
        listener, code = gateway.listen(HERE, 53, UDP)
        equal(code, 0)
        made = inside.socket(socket.SOCK_DGRAM)
        made.bind(("127.0.0.1", 0))
        for data in (b"one", b"x" * 4096, b"y" * 4097, b"z" * 60000, b"", b"last"):
            made.sendto(data, (HERE, 53))
        gateway.wait(lambda: len(gateway.datagrams) == 4)
        equal(gateway.datagrams, [(listener, made.getsockname(), data) for data in (b"one", b"x" * 4096, b"", b"last")])
        peer = endpoint(*made.getsockname())
        for data in (b"a" * 4096, b"b" * 4097, b"", b"c"):
            gateway.order("U", listener, peer + data)
        equal([made.recvfrom(5000) for _ in range(3)], [(data, (HERE, 53)) for data in (b"a" * 4096, b"", b"c")])
        gateway.order("U", listener, endpoint("192.0.2.1", 53) + b"elsewhere")
        gateway.order("U", inside.listener, peer + b"of a listener for streams")
        gateway.order("U", 999, peer + b"of nobody")
        gateway.order("l", listener)
        equal(gateway.listen(HERE, 53, UDP)[1], 0)


def test_a_flood_of_datagrams_does_not_hold_up_connections(sandbox):
    with Inside(sandbox) as inside:
        equal(inside.gateway.listen(HERE, 53, UDP)[1], 0)
        made = inside.socket(socket.SOCK_DGRAM)
        over = threading.Event()

        def flood():
            while not over.is_set():
                made.sendto(bytes(4096), (HERE, 53))
        join = in_background(flood)
        try:
            for _ in range(10):
                stream, seen = inside.dial()
                stream.sendall(b"through")
                inside.gateway.wait(lambda: seen.data == b"through")
                inside.gateway.datagrams.clear()
        finally:
            over.set()
            join(inside.gateway)


def test_the_runner_can_connect_to_what_listens_inside(sandbox):
    with Inside(sandbox) as inside:
        server = inside.socket()
        server.bind(("127.0.0.1", 3000))
        server.listen()
        seen = inside.gateway.connect("127.0.0.1", 3000)
        equal(seen.code, 0)
        made, _ = server.accept()
        inside.sockets.append(made)
        made.settimeout(10)
        inside.gateway.send(seen, b"GET /")
        equal(made.recv(100), b"GET /")
        made.sendall(b"x" * 1_000_000)
        made.shutdown(socket.SHUT_WR)
        inside.gateway.wait(lambda: seen.ended)
        equal(len(seen.data), 1_000_000)
        inside.gateway.end(seen)
        inside.gateway.wait(lambda: seen.gone)
        equal((read_all(made), seen.reset), (b"", False))
        equal(inside.gateway.connect("127.0.0.1", 3001).code, errno.ECONNREFUSED)


def test_what_is_sent_before_the_connection_is_made_is_kept_and_connecting_can_be_given_up(sandbox):
    with Inside(sandbox) as inside:
        server = inside.socket()
        server.bind(("127.0.0.1", 3002))
        server.listen(0)
        seen = inside.gateway.connect("127.0.0.1", 3002, wait=False)
        inside.gateway.send(seen, b"early")
        inside.gateway.end(seen)
        made, _ = server.accept()
        inside.sockets.append(made)
        equal(read_all(made), b"early")
        full = [inside.gateway.connect("127.0.0.1", 3002, wait=False) for _ in range(4)]
        inside.gateway.settle()
        pending = [each for each in full if each.code is None]
        assert pending, "its queue is longer than was asked"
        for each in pending:
            inside.gateway.reset(each)
        inside.gateway.wait(lambda: all(each.code == errno.ECANCELED for each in pending))


def test_a_round_trip_waits_for_no_company(sandbox):
    with Inside(sandbox) as inside:
        made, seen = inside.dial()
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        times = []
        for i in range(200):
            started = time.perf_counter()
            made.send(b"i")
            inside.gateway.wait(lambda: seen.arrived == i + 1)
            inside.gateway.send(seen, b"o")
            equal(made.recv(1), b"o")
            times.append(time.perf_counter() - started)
        median = sorted(times)[100]
        print(f"     {median * 1e6:.0f} us there and back", end=" ")
        assert median < 0.0015, median


def test_small_pieces_do_not_wait_for_each_other_to_be_acknowledged(sandbox):
    with Inside(sandbox) as inside:
        made, seen = inside.dial()
        times = []
        for i in range(40):
            started = time.perf_counter()
            for piece in (b"<", b"-", b">"):
                inside.gateway.send(seen, piece)
            got = b""
            while len(got) < 3:
                got += made.recv(3)
            times.append(time.perf_counter() - started)
            made.send(b"i")
            inside.gateway.wait(lambda: seen.arrived == i + 1)
        assert sorted(times)[20] < 0.02, times  # the kernel's delay is 40 ms


def speed(seconds, count):
    return f"{count / seconds / 1e6:.0f} MB/s"


def test_much_goes_through_quickly(sandbox):
    size = 100_000_000
    with Inside(sandbox) as inside:
        made, seen = inside.dial()
        join = in_background(lambda: made.sendall(bytes(size)))
        started = time.perf_counter()
        inside.gateway.wait(lambda: seen.arrived == size, 60)
        out = speed(time.perf_counter() - started, size)
        join()

        def count():
            got = 0
            while piece := made.recv(1 << 20):
                got += len(piece)
            return got
        join = in_background(count)
        started = time.perf_counter()
        inside.gateway.send(seen, bytes(size))
        inside.gateway.end(seen)
        equal(join(inside.gateway), size)
        print(f"     {out} out, {speed(time.perf_counter() - started, size)} in", end=" ")


def test_however_it_ends_what_was_open_is_reset(sandbox):
    for end in ("stdin", "kill", "grammar"):
        with Inside(sandbox) as inside:
            made, seen = inside.dial()
            inside.gateway.send(seen, b"half an ans")
            half, ended = inside.dial()
            inside.gateway.send(ended, b"half")
            half.shutdown(socket.SHUT_WR)
            inside.gateway.wait(lambda: ended.ended)
            equal(made.recv(100), b"half an ans")
            equal(half.recv(100), b"half")
            if end == "stdin":
                inside.gateway.write(b"", last=True)
            elif end == "kill":
                sandbox.link.send(KILL, struct.pack("<IB", 0, 3), inside.gateway.call.number)
            else:
                inside.gateway.order("?", 1)
            sandbox.link.finish(inside.gateway.call.number)
            exit = inside.gateway.call.exit
            equal((end, exit.kind, exit.code), (end, *{"stdin": (0, 0), "kill": (1, signal.SIGKILL), "grammar": (0, 1)}[end]))
            for each in (made, half):
                fails_with(errno.ECONNRESET, lambda: each.recv(1))
            fails_with(errno.ECONNREFUSED, lambda: inside.socket().connect((HERE, 443)))


def number(value):
    return struct.pack("<I", value)


BROKEN = {
    "an unknown kind": record("X", number(1)),
    "no number": record("F", b"abc"),
    "too long a record": struct.pack("<cI", b"D", 65537),
    "bytes after a record that has none": record("F", number(1) + b"x"),
    "half an endpoint": record("L", number(9) + b"\1" + endpoint(HERE, 80)[:5]),
    "an unknown protocol": record("L", number(9) + b"\3" + endpoint(HERE, 80)),
    "a listener twice": record("L", number(1) + b"\1" + endpoint(HERE, 80)),
    "an odd connection": record("C", number(7) + endpoint(HERE, 443)),
    "connection 0": record("C", number(0) + endpoint(HERE, 443)),
    "a connection twice": record("C", number(2) + endpoint(HERE, 443)) * 2,
    "bytes for connection 0": record("D", number(0) + b"x"),
    "no bytes": record("D", number(1)),
    "bytes after the end": record("F", number(1)) + record("D", number(1) + b"x"),
    "the end twice": record("F", number(1)) * 2,
    "more room than there ever was": record("W", number(1) + number(1)),
    "a datagram for half an endpoint": record("U", number(1) + b"\x7f\0\0\1"),
}


def test_orders_that_break_the_grammar_end_it(sandbox):
    for name, orders in BROKEN.items():
        with Inside(sandbox) as inside:
            _, seen = inside.dial()
            equal((seen.number, inside.listener), (1, 1))
            inside.gateway.write(orders)
            sandbox.link.finish(inside.gateway.call.number)
            equal((name, inside.gateway.call.exit.kind, inside.gateway.call.exit.code), (name, 0, 1))


def test_more_bytes_than_the_credit_end_it(sandbox):
    with Inside(sandbox) as inside:
        _, seen = inside.dial()
        seen.may_send = -1 << 30  # whatever it grants, it is not enough
        inside.gateway.write(record("D", number(seen.number) + bytes(65532)) * 300)
        sandbox.link.finish(inside.gateway.call.number)
        equal(inside.gateway.call.exit.code, 1)


def test_orders_in_pieces_of_any_size_are_understood(sandbox):
    with Inside(sandbox) as inside:
        made, seen = inside.dial()
        orders = b"".join(record("D", number(seen.number) + b"%d," % i) for i in range(60)) + record("F", number(seen.number))
        for at in range(0, len(orders), 7):
            inside.gateway.write(orders[at:at + 7])
        equal(read_all(made), b"".join(b"%d," % i for i in range(60)))


ATTACK = """
import ctypes, errno, os, signal
libc = ctypes.CDLL(None, use_errno=True)
pid = int(os.sys.argv[1])
def said(name, work):
    try: work()
    except OSError as error: print(name, errno.errorcode[error.errno])
    else: print(name, "DONE")
def call(result):
    if result == -1: raise OSError(ctypes.get_errno(), "")
for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, 0): said("kill", lambda: os.kill(pid, number))
said("fd", lambda: os.listdir(f"/proc/{pid}/fd"))
for fd in range(12): said("open", lambda: os.open(f"/proc/{pid}/fd/{fd}", os.O_RDWR))
said("mem", lambda: os.open(f"/proc/{pid}/mem", os.O_RDONLY))
said("environ", lambda: os.open(f"/proc/{pid}/environ", os.O_RDONLY))
said("ptrace", lambda: call(libc.ptrace(16, pid, 0, 0)))
said("pidfd_getfd", lambda: call(libc.syscall(438, os.pidfd_open(pid), 4, 0)))
"""


def test_a_tool_can_neither_signal_trace_nor_look_into_the_gateway(sandbox):
    with Inside(sandbox) as inside:
        made, seen = inside.dial()
        call = sandbox.run(["/usr/bin/python3", "-c", ATTACK, str(inside.gateway.call.pid)])
        lines = call.bytes(1).decode().splitlines()
        equal((len(lines), {line.split()[1] for line in lines} <= {"EPERM", "EACCES"}, call.bytes(2)), (21, True, b""))
        made.sendall(b"alive")
        inside.gateway.wait(lambda: seen.data == b"alive")
        status = open(f"/proc/{sandbox.members(inside.gateway.call)[0]}/status").read()
        for line in ("Uid:\t0\t10001\t0\t10001", f"CapPrm:\t{0:016x}", f"CapEff:\t{0:016x}", f"CapInh:\t{0:016x}", "NoNewPrivs:\t1"):
            assert line in status, status


def test_calls_run_beside_a_gateway_as_without(sandbox):
    with Inside(sandbox) as inside:
        call = sandbox.sh("sleep 60 & echo out; exit 3")
        equal((call.exit.code, call.bytes(), call.exit.killed), (3, b"out\n", 1))
        equal(len(sandbox.members(inside.gateway.call)), 1)
