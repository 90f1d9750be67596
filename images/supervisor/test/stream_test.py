"""The stream itself: frames, epochs, losing and finding each other again, calls that are refused."""

import os
import struct
import time

from link import (ACK, HELLO, LIST, PING, PONG, RELEASE, RESUME, SPAWN, STDIN, ZEROS, Link, records, spec, tag)
from sandbox import Sandbox, equal, wait_until


def ping(link):
    link.pongs.clear()
    token = os.urandom(8)
    link.send(PING, token)
    link.wait(lambda: link.pongs == [token])


def test_a_ping_is_answered_with_its_token(sandbox):
    ping(sandbox.link)


def test_a_new_runner_is_heard_after_half_a_frame_of_any_length(sandbox):
    whole = sandbox.link.frame(STDIN, struct.pack("<Q", 0) + b"\x42\x47\x0c\x00" * 15000, 9)
    for cut in (1, 2, 3, 5, 8, 11, 12, 13, 20, 30000, len(whole) - 4, len(whole) - 1):
        os.set_blocking(sandbox.fifo_in, True)
        sandbox.link.write(whole[:cut])
        ping(sandbox.attach())


def test_a_header_that_promises_the_longest_payload_is_filled_up_by_zeros(sandbox):
    sandbox.link.write(struct.pack("<HBBII", 0x4742, PING, 0, 0, 65536))
    ping(sandbox.attach())


def test_frames_of_another_epoch_change_nothing(sandbox):
    link = sandbox.link
    epoch, link.epoch = link.epoch, b"\x09\x09\x09\x09"
    link.send(PING, b"stranger")
    link.send(SPAWN, spec(["true"]), 77)
    link.epoch = epoch
    ping(link)
    equal(link.frames_seen - len(link.pongs) >= 0, True)
    link.send(LIST)
    link.listed = None
    link.wait(lambda: link.listed is not None)
    assert 77 not in [each[0] for each in link.listed]


def test_a_hello_inside_a_dropped_frame_is_not_obeyed(sandbox):
    link = sandbox.link
    forged = b"\x05" * 16 + struct.pack("<II", 1, 1)
    inner = struct.pack("<HBBII", 0x4742, HELLO, 0, 0, 24) + forged + forged[:4]
    epoch, link.epoch = link.epoch, b"\x09\x09\x09\x09"
    link.send(STDIN, inner * 20, 5)
    link.epoch = epoch
    ping(link)


def test_garbage_between_frames_is_skipped(sandbox):
    for garbage in (b"\0", b"\x42", b"\x42\x47", b"\x42\x47\xff\0" * 5000, b"BG" * 40000, os.urandom(100000).replace(b"BG", b"xx")):
        sandbox.link.write(garbage)
        # A tail that looks like the beginning of a header may eat what follows; zeros and a HELLO always get through.
        ping(sandbox.attach())


def test_a_runner_that_comes_back_finds_its_call_and_every_byte_once(sandbox):
    first = sandbox.attach(auto_ack=False)
    call = sandbox.start(["sh", "-c", "i=0; while [ $i -lt 20000 ]; do echo line-$i; i=$((i+1)); done; exit 5"])
    first.wait(lambda: call.received > 60000)
    seen, acked = call.bytes(), 30000
    first.send(ACK, struct.pack("<Q", acked), call.number)
    second = sandbox.attach()
    state = {number: (base, end) for number, _, base, end, _ in second.found}
    base, end = state[call.number]
    assert base == acked <= end, state
    second.calls[call.number] = again = type(call)(call.number)
    again.received = acked
    second.send(RESUME, struct.pack("<Q", acked), call.number)
    second.finish(call.number)
    whole = seen[:acked] + again.bytes()
    equal(whole, b"".join(b"line-%d\n" % i for i in range(20000)))
    equal(again.exit.code, 5)
    second.send(RELEASE, b"", call.number)


def test_nothing_of_an_old_call_is_sent_before_it_is_resumed(sandbox):
    call = sandbox.start(["sh", "-c", "echo one; sleep 0.2; echo two"])
    sandbox.link.wait(lambda: call.received == 4)
    link = sandbox.attach()
    time.sleep(0.4)
    ping(link)
    equal(link.frames_seen, 2)  # WELCOME, PONG
    link.calls[call.number] = again = type(call)(call.number)
    again.received = 4
    link.send(RESUME, struct.pack("<Q", 4), call.number)
    link.finish(call.number)
    equal(again.bytes(), b"two\n")
    link.send(RELEASE, b"", call.number)


def test_exit_and_end_come_again_for_a_call_that_ended_while_nobody_was_there(sandbox):
    call = sandbox.start(["sh", "-c", "echo gone; exit 3"])
    sandbox.link.finish(call.number)
    link = sandbox.attach()
    equal([each[:2] for each in link.found if each[0] == call.number], [(call.number, 3)])
    link.calls[call.number] = again = type(call)(call.number)
    again.received = call.received
    link.send(RESUME, struct.pack("<Q", call.received), call.number)
    link.finish(call.number)
    equal(again.exit.code, 3)
    link.send(RELEASE, b"", call.number)


def test_input_goes_on_where_the_supervisor_says_after_a_reattach(sandbox):
    call = sandbox.start(["cat"], stdin=1)
    sandbox.link.feed(call.number, b"abc", end=False)
    sandbox.link.wait(lambda: call.received == 3)
    link = sandbox.attach()
    offset = [each[4] for each in link.found if each[0] == call.number][0]
    equal(offset, 3)
    link.calls[call.number] = again = type(call)(call.number)
    again.received = 3
    link.send(RESUME, struct.pack("<Q", 3), call.number)
    link.wait(lambda: again.input_acked == 3)
    link.send(STDIN, struct.pack("<Q", 1) + b"bcdef", call.number, 1)  # overlaps: only what is new counts
    link.finish(call.number)
    equal(again.bytes(), b"def")
    link.send(RELEASE, b"", call.number)


def refused(sandbox, description, reason, number=None):
    number = number or sandbox.next()
    call = sandbox.link.spawn(number, description)
    sandbox.link.wait(lambda: call.refused)
    equal(call.refused[0], reason)


def test_bad_specs_are_refused_and_say_why(sandbox):
    good = tag(1, "true")
    for bad in (b"", b"\x01", good + b"\x63\0\0\0\0", good + tag(3, "/") * 2, tag(1, "tr\0ue"), good + tag(3, "tmp"),
                good + tag(5, b"123"), good + struct.pack("<BI", 2, 0xFFFFFFFF) + b"A=1", tag(1, ""), good + tag(12, b"\x01"),
                good + tag(15, struct.pack("<II", 0, 10001)), good + tag(15, struct.pack("<II", 10001, 0)), tag(12, b"\x63"),
                tag(12, b"\x06") + tag(20, "a"), good + tag(14, struct.pack("<I", 0o1000))):
        refused(sandbox, bad, 3)
    ping(sandbox.link)


def test_a_spec_of_many_pieces_that_is_refused_is_refused_once(sandbox):
    number = sandbox.next()
    call = sandbox.link.spawn(number, tag(1, "true") + tag(4, b"x" * (8 * 1024 * 1024)))
    sandbox.link.wait(lambda: call.refused)
    call.refused = None
    ping(sandbox.link)
    equal(call.refused, None)


def test_a_number_in_use_and_a_65th_call_are_refused(sandbox):
    calls = [sandbox.start(["sleep", "60"]) for _ in range(64)]
    sandbox.link.wait(lambda: all(call.pid for call in calls))
    twice = sandbox.link.calls[calls[0].number]
    sandbox.link.send(SPAWN, spec(["true"]), calls[0].number)
    sandbox.link.wait(lambda: twice.refused)
    equal(twice.refused[0], 1)
    twice.refused = None
    refused(sandbox, spec(["true"]), 2)
    for call in calls:
        sandbox.kill(call)
        sandbox.link.send(RELEASE, b"", call.number)
    equal(sandbox.sh("echo ok").bytes(), b"ok\n")


def test_calls_that_would_share_a_private_group_are_refused(sandbox):
    call = sandbox.start(["sleep", "60"])
    refused(sandbox, spec(["true"]), 1, call.number + 40000)
    sandbox.kill(call)


def test_a_flood_of_pings_is_answered_whole_to_a_runner_that_reads_late(sandbox):
    link = sandbox.link
    link.pongs.clear()
    link.write(b"".join(link.frame(PING, struct.pack("<Q", i)) for i in range(20000)))
    link.wait(lambda: len(link.pongs) == 20000)
    equal(link.pongs, [struct.pack("<Q", i) for i in range(20000)])


def test_without_a_heartbeat_everything_ends(sandbox):
    own = Sandbox()
    own.start(["sleep", "60"])
    started = time.monotonic()
    own.attach(orphan_ms=300)  # after all that takes time here
    equal(own.process.wait(5), 0)
    assert 0.2 < time.monotonic() - started < 2
    own.close()


def test_it_refuses_to_run_as_another_process_than_the_first(sandbox):
    import subprocess
    from sandbox import PROGRAM
    done = subprocess.run([PROGRAM], stdin=subprocess.DEVNULL, capture_output=True)
    equal((done.returncode, done.stdout), (70, b""))
    assert b"first process" in done.stderr
