"""The probe: what it finds of ways out, and that it tells the truth when there is one."""

import errno
import socket
import struct
import threading
import time

from sandbox import equal
from stream_test import refused
from link import spec

PROBE = 10
TCP, UDP = 1, 2
UP, LOOPBACK = 1, 8


def probe(protocol, address, port, timeout=1000, payload=b""):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return (bytes([protocol, 6 if ":" in address else 4]) + socket.inet_pton(family, address) +
            struct.pack("<HH", port, timeout) + payload)


def results(sandbox, *probes):
    """Interfaces that are up, with their flags, and (errno, answer) of each probe."""
    found = sandbox.hand(PROBE, probes=probes)
    interfaces = {payload[4:].decode(): struct.unpack_from("<I", payload)[0] for kind, payload in found if kind == "I"}
    told = [(payload[0], struct.unpack_from("<I", payload, 1)[0], payload[5:]) for kind, payload in found if kind == "P"]
    equal([index for index, _, _ in told], list(range(len(probes))))
    equal(struct.unpack("<BQQ", found[-1][1])[1], len(found) - 1)
    return {name: flags for name, flags in interfaces.items() if flags & UP}, [each[1:] for each in told]


def test_from_loopback_there_is_no_way_out_and_that_is_known_at_once(sandbox):
    started = time.monotonic()
    interfaces, told = results(sandbox, probe(TCP, "192.0.2.1", 80), probe(TCP, "169.254.169.254", 80),
                               probe(TCP, "2001:db8::1", 80), probe(UDP, "192.0.2.1", 53, payload=b"question"),
                               probe(UDP, "2001:db8::1", 53, payload=b"question"))
    equal(list(interfaces), ["lo"])
    assert interfaces["lo"] & LOOPBACK
    for code, answer in told:
        assert code in (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT) and answer == b"", told
    assert time.monotonic() - started < 0.9


def test_what_does_answer_is_told(sandbox):
    with sandbox.network():
        stream, datagrams, silent = socket.socket(), socket.socket(type=socket.SOCK_DGRAM), socket.socket(type=socket.SOCK_DGRAM)
    with stream, datagrams, silent:
        for each in (stream, datagrams, silent):
            each.bind(("127.0.0.1", 0))
        stream.listen()
        datagrams.settimeout(5)

        def answer():
            data, peer = datagrams.recvfrom(100)
            datagrams.sendto(data.upper() * 100, peer)
        thread = threading.Thread(target=answer)
        thread.start()
        _, told = results(sandbox, probe(TCP, "127.0.0.1", stream.getsockname()[1]),
                          probe(UDP, "127.0.0.1", datagrams.getsockname()[1], payload=b"question\0"),
                          probe(UDP, "127.0.0.1", silent.getsockname()[1], 100, b"anybody?"),
                          probe(TCP, "127.0.0.1", 1), probe(UDP, "127.0.0.1", 1, payload=b"x"))
        thread.join()
    equal(told, [(0, b""), (0, (b"QUESTION\0" * 100)[:512]), (errno.ETIMEDOUT, b""), (errno.ECONNREFUSED, b""),
                 (errno.ECONNREFUSED, b"")])


def test_sixteen_silent_ways_take_no_longer_than_one(sandbox):
    with sandbox.network():
        silent = socket.socket(type=socket.SOCK_DGRAM)
    with silent:
        silent.bind(("127.0.0.1", 0))
        started = time.monotonic()
        _, told = results(sandbox, *[probe(UDP, "127.0.0.1", silent.getsockname()[1], 300, b"x")] * 16)
        equal(told, [(errno.ETIMEDOUT, b"")] * 16)
        assert 0.25 < time.monotonic() - started < 1.5


def test_another_interface_is_told(sandbox):
    import subprocess
    with sandbox.network():
        made = subprocess.run(["ip", "link", "add", "escape0", "type", "dummy"], capture_output=True)
        if made.returncode == 0:
            subprocess.run(["ip", "link", "set", "escape0", "up"], check=True)
    if made.returncode != 0:
        print("     no second interface can be made here", end=" ")
        return
    try:
        interfaces, _ = results(sandbox, probe(TCP, "127.0.0.1", 1))
        equal(sorted(interfaces), ["escape0", "lo"])
    finally:
        with sandbox.network():
            subprocess.run(["ip", "link", "delete", "escape0"], check=True)


def test_bad_probes_are_refused(sandbox):
    good = probe(TCP, "127.0.0.1", 1)
    for probes in ((), (b"",), (good[:-1],), (b"\3" + good[1:],), (good[:1] + b"\5" + good[2:],), (good + b"payload",), (good,) * 17):
        refused(sandbox, spec(verb=PROBE, probes=probes), 3)
    refused(sandbox, spec(verb=PROBE, probes=(good,), paths=("a",)), 3)
    for verb in (1, 9):
        refused(sandbox, spec(verb=verb, probes=(good,), paths=("a",) if verb == 1 else ()), 3)
    refused(sandbox, spec(verb=9, paths=("a",)), 3)
    refused(sandbox, spec(("true",), probes=(good,)), 3)
