"""The stream in pipes of its own: who gets there, and every way in which one end can go away."""

import hashlib
import os
import struct
import time

from link import HELLO, PING, RELEASE, RESUME, STDIN, Link
from sandbox import Sandbox, equal
from stream_test import ping


def leave(link):
    """As a runner that dies."""
    os.close(link.reading)
    os.close(link.writing)


def go_on(link, call, received):
    link.calls[call.number] = again = type(call)(call.number)
    again.received = received
    link.send(RESUME, struct.pack("<Q", received), call.number)
    return again


def silent(link, seconds=0.15):
    """Nothing at all arrives."""
    assert not link.pump(seconds), "something was said"


def test_the_stream_goes_on_in_the_pipes_and_the_attached_one_is_silent(sandbox):
    attached = sandbox.attach(offer=True)
    link = Link(*sandbox.open_pipes())
    sandbox.link = link
    ping(link)
    equal(sandbox.sh("echo out; echo err >&2; exit 3").exit.code, 3)
    attached.send(PING, b"unheeded")
    silent(attached)
    ping(link)
    leave(link)


def test_pipes_are_offered_only_to_whom_asks_and_not_in_the_pipes_themselves(sandbox):
    equal(sandbox.attach().pipes, None)
    link = sandbox.join(offer=True)
    equal(link.pipes, None)
    leave(link)


def test_a_runner_that_does_not_open_the_pipes_stays_where_it_is(sandbox):
    link = sandbox.attach(offer=True)
    equal(sandbox.sh("echo here").bytes(), b"here\n")
    reading, writing = sandbox.open_pipes()
    os.write(writing, link.frame(PING, b"no HELLO"))  # its epoch holds elsewhere only
    ping(link)
    equal(link.pongs[1:], [])
    try:
        raise AssertionError(os.read(reading, 1))
    except BlockingIOError:
        pass
    for fd in (reading, writing):
        os.close(fd)


def test_who_attaches_takes_over_from_the_pipes_without_a_lost_byte(sandbox):
    first = sandbox.join(auto_ack=False)
    call = sandbox.start(["sh", "-c", "i=0; while [ $i -lt 20000 ]; do echo line-$i; i=$((i+1)); done; exit 5"])
    first.wait(lambda: call.received > 60000)
    second = sandbox.attach()
    again = go_on(second, call, 0)
    second.finish(call.number)
    equal(again.bytes(), b"".join(b"line-%d\n" % i for i in range(20000)))
    second.send(RELEASE, b"", call.number)
    # The first one is told by the end of its pipe, and heard no more.
    try:
        while first.pump(1):
            pass
        raise AssertionError("the pipe goes on")
    except EOFError:
        pass
    try:
        os.write(first.writing, b"x")
        raise AssertionError("somebody still reads")
    except BrokenPipeError:
        pass
    leave(first)


def test_output_waits_for_the_next_runner_when_the_one_in_the_pipes_dies(sandbox):
    link = sandbox.join()
    call = sandbox.start(["sh", "-c", "echo one; sleep 0.3; echo two; sleep 0.2; exit 4"])
    link.wait(lambda: call.received == 4)
    leave(link)
    time.sleep(0.4)
    link = sandbox.join()
    again = go_on(link, call, 4)
    link.finish(call.number)
    equal((again.bytes(), again.exit.code), (b"two\n", 4))
    link.send(RELEASE, b"", call.number)
    leave(link)


def test_without_a_runner_in_the_pipes_everything_ends_in_time(sandbox):
    for ends in (("reading", "writing"), ("writing",), ("reading",)):
        own = Sandbox()
        link = own.join(orphan_ms=1000)
        own.start(["sh", "-c", "while echo more; do sleep 0.05; done"])
        for end in ends:
            os.close(getattr(link, end))
        started = time.monotonic()
        equal(own.process.wait(10), 0)
        assert 0.8 < time.monotonic() - started < 4, time.monotonic() - started
        own.close()


def test_a_runner_that_reads_no_more_does_not_keep_out_the_next_one(sandbox):
    stalled = sandbox.join()
    call = sandbox.start(["sh", "-c", "head -c 3000000 /dev/zero"])
    stalled.wait(lambda: call.pid)
    stalled.write(b"".join(stalled.frame(PING, struct.pack("<Q", i)) for i in range(2000)))
    for _ in range(200):  # answers that nobody reads fill everything there is
        try:
            os.set_blocking(stalled.writing, False)
            os.write(stalled.writing, stalled.frame(PING, b"unheeded") * 100)
        except BlockingIOError:
            break
        time.sleep(0.005)
    else:
        raise AssertionError("it never stops to listen")
    link = sandbox.attach()
    again = go_on(link, call, [base for number, _, base, _, _ in link.found if number == call.number][0])
    link.finish(call.number)
    equal(again.total, 3000000)
    link.send(RELEASE, b"", call.number)
    leave(stalled)


def test_garbage_and_half_frames_in_the_pipes_end_with_the_next_hello(sandbox):
    forged = b"\x05" * 16 + struct.pack("<II", 1, 1)
    inner = struct.pack("<HBBII", 0x4742, HELLO, 0, 0, 24) + forged + forged[:4]
    for garbage in (b"\0" * 70000, b"\x42\x47", b"BG" * 40000, os.urandom(50000), "half", "foreign"):
        link = sandbox.join()
        if garbage == "half":
            garbage = link.frame(STDIN, struct.pack("<Q", 0) + inner * 500, 9)[:9000]
        elif garbage == "foreign":
            link.epoch, garbage = b"\x09" * 4, link.frame(STDIN, inner * 500, 9)[:-4] + b"\x09" * 4
        os.set_blocking(link.writing, True)
        os.write(link.writing, garbage)
        leave(link)
        ping(sandbox.attach())
    ping(sandbox.join())
    leave(sandbox.link)


def test_the_rest_of_a_frame_on_stdin_is_never_read_as_a_hello(sandbox):
    forged = b"\x05" * 16 + struct.pack("<II", 1, 1)
    inner = struct.pack("<HBBII", 0x4742, HELLO, 0, 0, 24) + forged + forged[:4]
    attached = sandbox.attach(offer=True)
    whole = attached.frame(STDIN, struct.pack("<Q", 0) + inner * 500, 9)
    attached.write(whole[:5000])
    link = Link(*sandbox.open_pipes())
    attached.write(whole[5000:])
    time.sleep(0.1)
    ping(link)
    sandbox.attach()
    leave(link)


def test_runners_that_come_and_go_leave_no_descriptor(sandbox):
    def count():
        return len(os.listdir(f"/proc/{sandbox.pid()}/fd"))
    ping(sandbox.attach())
    before = count()
    for _ in range(20):
        sandbox.attach(offer=True)
        leave(sandbox.join())
    ping(sandbox.attach())
    equal(count(), before)


def test_tools_can_neither_list_nor_open_what_the_supervisor_holds(sandbox):
    link = sandbox.join()
    fds = " ".join(str(fd) for fd in range(40))
    call = sandbox.sh(f"ls /proc/1/fd; for fd in {fds}; do cat </proc/1/fd/$fd; echo x >/proc/1/fd/$fd; done; "
                      "readlink /proc/1/fd/*; for p in /proc/[0-9]*/fd; do ls -l $p; done 2>/dev/null; true")
    said = call.bytes(1).decode()
    for inode in (os.fstat(link.reading).st_ino, os.fstat(link.writing).st_ino):
        assert f"pipe:[{inode}]" not in said, said
    equal([line for line in said.splitlines() if line == "x" or "GB" in line], [])
    equal(call.bytes(2).lower().count(b"permission denied"), 81)
    ping(link)
    leave(link)


def test_no_command_inherits_the_pipes(sandbox):
    link = sandbox.join()
    call = sandbox.start(["sleep", "60"])
    link.wait(lambda: call.pid)
    inodes = {os.fstat(fd).st_ino for fd in (link.reading, link.writing)}
    for pid in sandbox.members():
        held = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        equal([name for name in held if name in {f"pipe:[{inode}]" for inode in inodes}], [])
    sandbox.kill(call)
    link.send(RELEASE, b"", call.number)
    leave(link)
    sandbox.attach()


def test_much_goes_both_ways_in_the_pipes_and_comes_out_whole(sandbox):
    link = sandbox.join()
    data = os.urandom(1 << 20) * 8
    call = sandbox.start(["sha256sum"], stdin=1)
    link.feed(call.number, data)
    link.finish(call.number)
    equal(call.bytes()[:64].decode(), hashlib.sha256(data).hexdigest())
    link.send(RELEASE, b"", call.number)
    with open(sandbox.workspace + "/much", "wb") as file:
        file.write(data)
    assert sandbox.run(["cat", "much"]).bytes() == data
    assert sandbox.run(["sh", "-c", "head -c 100001 much; head -c 300000 much >&2; tail -c 99999 much"]).bytes(2) == data[:300000]
    leave(link)
    sandbox.attach()
