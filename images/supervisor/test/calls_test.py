"""Commands: what they get, what comes back, how they end."""

import hashlib
import os
import re
import signal
import struct
import time

from link import ACK, LIST, RELEASE, RESIZE, SIGNAL, STDIN, ZEROS, spec
from sandbox import UNKNOWN, equal, wait_until


def test_output_of_both_streams_comes_in_order_with_the_exit_code(sandbox):
    call = sandbox.sh("echo out; sleep 0.05; echo err >&2; sleep 0.05; echo out again; exit 7")
    equal([(s, d) for _, s, d in call.chunks], [(1, b"out\n"), (2, b"err\n"), (1, b"out again\n")])
    equal((call.exit.kind, call.exit.code, call.exit.cause, call.exit.descendants), (0, 7, 0, 0))
    assert 100_000 <= call.exit.wall_us < 5_000_000 and call.exit.rss > 100_000


def test_a_signal_that_ends_a_command_is_told(sandbox):
    call = sandbox.sh("kill -SEGV $$")
    equal((call.exit.kind, call.exit.code), (1, signal.SIGSEGV))


def test_tools_have_one_group_and_no_privilege_of_any_kind(sandbox):
    call = sandbox.sh("cat /proc/self/status; echo oom=$(cat /proc/self/oom_score_adj); ulimit -c; umask; ps -o pid=,sid= -p $$")
    text = call.bytes().decode()
    for line in ("Uid:\t10001\t10001\t10001\t10001", "Gid:\t10001\t10001\t10001\t10001", f"Groups:\t{20000 + call.number} ",
                 "NoNewPrivs:\t1", "SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000", "oom=1000"):
        assert line in text, f"{line!r} is not in {text}"
    for name in ("Inh", "Prm", "Eff", "Bnd", "Amb"):
        assert f"Cap{name}:\t{0:016x}" in text, name
    lines = text.splitlines()
    equal(lines[-3:-1], ["0", "0022"])
    pid, sid = lines[-1].split()
    equal(pid, sid)


# Each must fail; the last line tells that the program got that far. Numbers are of the C library where the processors differ.
FORBIDDEN = """
import ctypes, errno, fcntl, os, signal
libc = ctypes.CDLL(None, use_errno=True)
def said(name, result): print(name, errno.errorcode.get(ctypes.get_errno(), 0) if result == -1 else "DONE")
NEWUSER = 0x10000000
said("unshare", libc.unshare(NEWUSER))
said("setns", libc.setns(0, 0))
said("setgroups", libc.setgroups(0, None))
said("chroot", libc.chroot(b"/"))
said("mount", libc.mount(b"x", b"/tmp", b"tmpfs", 0, None))
said("ptrace", libc.ptrace(0, 0, 0, 0))
said("clone3", libc.syscall(435, 0, 0))
said("io_uring_setup", libc.syscall(425, 1, 0))
clone = 56 if os.uname().machine == "x86_64" else 220
said("clone", libc.syscall(clone, NEWUSER | signal.SIGCHLD, 0, 0, 0, 0))
said("clone, upper half set", libc.syscall(clone, ctypes.c_ulong(1 << 32 | NEWUSER | signal.SIGCHLD), 0, 0, 0, 0))
for request in (0x5412, 0x541c, 0x5423): said("ioctl", libc.ioctl(0, ctypes.c_ulong(1 << 32 | request), b"x"))
if os.uname().machine == "x86_64": said("x32", libc.syscall(0x40000000 | 39))
print("filter", libc.prctl(21))
pid = os.fork()
if pid == 0: os._exit(7)
print("fork", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_system_calls_that_would_shed_the_group_are_refused_without_an_engines_filter(sandbox):
    lines = sandbox.run(["/usr/bin/python3", "-c", FORBIDDEN]).bytes().decode().splitlines()
    answers = [tuple(line.rsplit(" ", 1)) for line in lines]
    for name, answer in answers[:-2]:
        equal((name, answer), (name, "ENOSYS" if name in ("clone3", "x32") else "EPERM"))
    equal(answers[-2:], [("filter", "2"), ("fork", "7")])
    assert len(answers) >= 14, lines


def test_tools_hold_no_descriptor_but_what_was_asked(sandbox):
    listing = "exec ls /proc/self/fd"  # the last one is of the listing itself
    equal(sandbox.sh(listing).bytes().split(), [b"0", b"1", b"2", b"3"])
    both = sandbox.run(["bash", "/dev/fd/9"], script=listing, aux=1)
    equal(both.bytes().split(), [b"0", b"1", b"2", b"3", b"4", b"9"])


def test_tools_cannot_reach_the_supervisor(sandbox):
    call = sandbox.sh("kill -9 1; kill -STOP 1; ls /proc/1/fd; cat /proc/1/environ /proc/1/mem; ls /proc/1/root/; echo done")
    equal(call.bytes(1), b"done\n")
    equal(sandbox.sh("echo alive").bytes(), b"alive\n")


def test_the_supervisor_keeps_only_the_four_capabilities(sandbox):
    status = sandbox.status()
    for name in ("Prm", "Eff", "Bnd"):
        assert f"Cap{name}:\t{0x1e0:016x}" in status, status
    for name in ("Inh", "Amb"):
        assert f"Cap{name}:\t{0:016x}" in status, status
    assert "NoNewPrivs:\t1" in status and re.search(r"Groups:\s*\n", status)


def test_the_environment_is_exactly_what_was_given(sandbox):
    call = sandbox.run(["/usr/bin/env"], env=("A=1", "B=x y\nz", "EMPTY="))
    equal(call.bytes(), b"A=1\nB=x y\nz\nEMPTY=\n")


def test_programs_are_found_in_the_given_path_only(sandbox):
    equal(sandbox.run(["true"], env=("PATH=/nowhere:/usr/bin:/bin",)).exit.kind, 0)
    for env, argv, code in ((("PATH=/nowhere",), "true", 2), ((), "true", 2), (("PATH=/etc",), "passwd", 13),
                            ((), "/etc/passwd", 13), ((), "/no/such", 2), ((), "/etc", 13)):
        call = sandbox.run([argv], env=env)
        equal((argv, call.exit.kind, call.exit.stage, call.exit.code), (argv, 2, 4, code))


def test_a_bad_working_directory_is_told_apart(sandbox):
    call = sandbox.run(["true"], cwd="/no/such/place")
    equal((call.exit.kind, call.exit.stage, call.exit.code), (2, 3, 2))
    equal(sandbox.run(["pwd"], cwd="/usr").bytes(), b"/usr\n")


def test_a_script_of_megabytes_runs_from_descriptor_nine(sandbox):
    script = b"# " + b"x" * 3_000_000 + b"\necho ran $1\n"
    call = sandbox.run(["sh", "/dev/fd/9", "with-argument"], script=script)
    equal(call.bytes(), b"ran with-argument\n")


def test_a_script_cannot_be_changed_by_what_it_starts(sandbox):
    call = sandbox.run(["sh", "/dev/fd/9"], script="echo evil >>/dev/fd/9; echo end")
    assert call.bytes(1) == b"end\n", call.bytes()


def test_the_third_stream_is_kept_apart(sandbox):
    call = sandbox.sh("echo out; echo state >&3; echo err >&2", aux=1)
    equal((call.bytes(1), call.bytes(2), call.bytes(3)), (b"out\n", b"err\n", b"state\n"))


def test_stdin_is_empty_unless_asked(sandbox):
    equal(sandbox.run(["cat"]).bytes(), b"")


def test_megabytes_of_stdin_arrive_whole_within_the_credit(sandbox):
    data = os.urandom(3_000_000)
    call = sandbox.start(["sha256sum"], stdin=1)
    sandbox.link.feed(call.number, data)
    sandbox.link.finish(call.number)
    equal(call.bytes().split()[0].decode(), hashlib.sha256(data).hexdigest())
    equal(call.input_acked, len(data))


def test_input_that_nobody_reads_is_answered_and_does_not_disturb(sandbox):
    call = sandbox.start(["sh", "-c", "exec <&-; sleep 0.2; echo late"], stdin=1)
    sandbox.link.feed(call.number, b"x" * 200_000, end=False)
    sandbox.link.wait(lambda: call.input_gone)
    sandbox.link.finish(call.number)
    equal(call.bytes(), b"late\n")


def test_output_is_held_at_the_source_until_it_is_acknowledged(sandbox):
    link = sandbox.attach(auto_ack=False)
    call = sandbox.start(["sh", "-c", "head -c 2000000 /dev/zero | tr '\\0' x; echo end >&2"])
    link.wait(lambda: call.received == 262144)
    time.sleep(0.3)
    link.pump(0)
    equal(call.received, 262144)
    link.auto_ack = True
    link.send(ACK, struct.pack("<Q", call.received), call.number)
    link.finish(call.number)
    assert call.bytes(1) == b"x" * 2_000_000 and call.bytes(2) == b"end\n"


def test_small_pieces_come_together_while_the_runner_has_much_to_take_and_at_once_when_it_has_taken_it(sandbox):
    link = sandbox.attach(auto_ack=False)
    program = "import os\nos.write(1, b'x' * 100000)\nfor i in range(4000): os.write(1, b'y' * 25), sum(range(500))\ninput()"
    call = sandbox.start(["/usr/bin/python3", "-c", program], stdin=1)
    link.wait(lambda: call.received >= 100000)
    started = time.monotonic()
    link.wait(lambda: call.received == 200000)
    moments = (time.monotonic() - started) * 1000
    small = [data for _, _, data in call.chunks if len(data) < 16384]
    print(f"     {len(small)} in {moments:.0f} ms", end=" ")
    assert len(small) < 20 + moments, f"{len(small)} small frames in {moments:.0f} ms"
    link.auto_ack = True
    link.send(ACK, struct.pack("<Q", call.received), call.number)
    link.feed(call.number, b"go on\n")
    equal(link.finish(call.number).bytes(1), b"x" * 100000 + b"y" * 100000)
    link.send(RELEASE, b"", call.number)


def test_what_was_written_before_the_end_is_never_lost_to_a_slow_reader(sandbox):
    link = sandbox.attach(auto_ack=False)
    call = sandbox.start(["sh", "-c", "head -c 300000 /dev/zero"], drain=50)
    link.wait(lambda: call.received == 262144)
    time.sleep(0.3)  # the leader has ended, and the drain is over by the wall clock
    link.auto_ack = True
    link.send(ACK, struct.pack("<Q", call.received), call.number)
    link.finish(call.number)
    equal(call.total, 300000)


def test_a_full_call_does_not_hold_up_the_others(sandbox):
    link = sandbox.attach(auto_ack=False)
    stuck = [sandbox.start(["cat", "/dev/zero"]) for _ in range(5)]
    link.wait(lambda: all(call.received == 262144 for call in stuck))
    started = time.monotonic()
    equal(sandbox.sh("echo free").bytes(), b"free\n")
    assert time.monotonic() - started < 0.5
    for call in stuck:
        link.send(8, struct.pack("<IB", 0, 3), call.number)
        while not call.ended:
            link.send(ACK, struct.pack("<Q", call.received), call.number)
            link.pump(1)
        link.send(RELEASE, b"", call.number)
    link.auto_ack = True


def test_streams_that_alternate_byte_by_byte_keep_their_order(sandbox):
    program = "import os\nfor i in range(20000): os.write(1 + i % 2, b'oe'[i % 2:i % 2 + 1])"
    call = sandbox.run(["/usr/bin/python3", "-c", program], timeout=20)
    equal((call.total, call.bytes(1), call.bytes(2)), (20000, b"o" * 10000, b"e" * 10000))


def test_a_hundred_megabytes_come_through(sandbox):
    started = time.monotonic()
    call = sandbox.run(["head", "-c", "100000000", "/dev/zero"], timeout=30)
    equal(call.total, 100_000_000)
    print(f"     {100 / (time.monotonic() - started):.0f} MB/s", end=" ")


def test_the_time_limit_ends_a_call_with_its_cause_and_its_output(sandbox):
    started = time.monotonic()
    call = sandbox.sh("echo before; trap '' TERM; while :; do sleep 0.05; done", kill_after=200, grace=200)
    equal((call.exit.cause, call.exit.kind, call.exit.code, call.bytes()), (1, 1, 9, b"before\n"))
    assert 0.35 < time.monotonic() - started < 2


def test_a_command_that_obeys_term_ends_within_the_grace(sandbox):
    call = sandbox.sh("trap 'echo bye; exit 4' TERM; while :; do sleep 0.02; done", kill_after=150, grace=5000)
    equal((call.exit.cause, call.exit.kind, call.exit.code, call.bytes(1)), (1, 0, 4, b"bye\n"))


def test_silence_is_ended_and_output_puts_it_off(sandbox):
    call = sandbox.sh("for i in 1 2 3 4 5; do echo $i; sleep 0.1; done; sleep 60", idle=300, grace=0)
    equal((call.exit.cause, call.bytes()), (2, b"1\n2\n3\n4\n5\n"))


def test_a_held_pipe_does_not_keep_a_call_open(sandbox):
    started = time.monotonic()
    call = sandbox.sh("echo now; (sleep 60; echo late) &")
    assert time.monotonic() - started < 1
    equal((call.bytes(), call.exit.code, call.exit.descendants, call.exit.killed > 0), (b"now\n", 0, call.exit.descendants, True))
    assert call.exit.descendants >= 1


def test_a_child_that_talks_on_is_cut_off_by_the_drain(sandbox):
    started = time.monotonic()
    call = sandbox.sh("(while :; do echo more; sleep 0.005; done) & echo first", drain=250)
    assert time.monotonic() - started < 1.5
    assert call.bytes().startswith((b"first\n", b"more\n")) and call.exit.killed >= 1


def test_a_child_that_floods_a_slow_reader_is_cut_off_too(sandbox):
    call = sandbox.run(["sh", "-c", "yes & sleep 0.1"], drain=1000)
    assert call.exit.killed >= 1 and call.exit.code == 0
    sandbox.link.auto_ack = False
    call = sandbox.start(["sh", "-c", "yes & sleep 0.1"], drain=1000)
    deadline = time.monotonic() + 5
    while not call.ended and time.monotonic() < deadline:
        sandbox.link.pump(0.05)
        sandbox.link.send(ACK, struct.pack("<Q", call.received), call.number)
        time.sleep(0.02)  # slow: the ring is full nearly all the time, and the drain's clock with it stands still
    sandbox.link.auto_ack = True
    assert call.ended and call.received < 8 << 20, call.received
    sandbox.link.send(RELEASE, b"", call.number)


def test_kept_children_go_on_after_exit_and_end_comes_with_the_last(sandbox):
    call = sandbox.start(["sh", "-c", "echo first; (sleep 0.3; echo second) & exit 2"], keep=1)
    sandbox.link.wait(lambda: call.exit)
    equal((call.exit.code, call.bytes(), call.ended), (2, b"first\n", False))
    assert call.exit.descendants >= 1
    sandbox.link.finish(call.number)
    equal(call.bytes(), b"first\nsecond\n")


def test_kept_children_are_listed_and_can_be_killed_later(sandbox):
    call = sandbox.start(["sh", "-c", "sleep 60 & sleep 60 & setsid sleep 60 & exit 0"], keep=1)
    sandbox.link.wait(lambda: call.exit)
    sandbox.link.listed = None
    sandbox.link.send(LIST)
    sandbox.link.wait(lambda: sandbox.link.listed is not None)
    equal([each for each in sandbox.link.listed if each[0] == call.number], [(call.number, 2, 0, 3, 0)])
    sandbox.kill(call)
    equal(sandbox.members(call), [])


def test_signals_reach_the_group_or_every_process(sandbox):
    program = "trap 'echo got' USR1; (trap 'echo child' USR1; echo up; sleep 60 & wait $!; wait) & while :; do sleep 0.01; done"
    call = sandbox.start(["setsid", "-w", "sh", "-c", program])
    sandbox.link.wait(lambda: b"up\n" in call.bytes())
    sandbox.link.send(SIGNAL, struct.pack("<IB", signal.SIGUSR1, 1), call.number)
    sandbox.link.finish(call.number)  # setsid itself is the group's only process, and has no handler
    equal((call.exit.kind, call.exit.code), (1, signal.SIGUSR1))
    call = sandbox.start(["sh", "-c", "trap 'echo got; exit 0' USR1; echo up; while :; do sleep 0.01; done"])
    sandbox.link.wait(lambda: b"up\n" in call.bytes())
    sandbox.link.send(SIGNAL, struct.pack("<IB", signal.SIGUSR1, 1), call.number)
    sandbox.link.finish(call.number)
    assert b"got\n" in call.bytes()


def test_a_terminal_belongs_to_the_tools_and_has_its_size(sandbox):
    call = sandbox.start(["sh", "-c", "stty size; tty; stat -c %u $(tty); stty size; read x; stty size; echo end"], tty=(100, 30))
    sandbox.link.wait(lambda: b"10001" in call.bytes())
    sandbox.link.send(RESIZE, struct.pack("<HH", 80, 25), call.number)
    sandbox.link.send(STDIN, struct.pack("<Q", 0) + b"\n", call.number)
    sandbox.link.finish(call.number)
    text = call.bytes().decode()
    assert text.startswith("30 100\r\n/dev/pts/") and "\n10001\r\n" in text and "25 80\r\nend\r\n" in text, text
    equal({s for _, s, _ in call.chunks}, {1})


def test_control_c_in_a_terminal_reaches_the_foreground(sandbox):
    call = sandbox.start(["sh", "-c", "echo ready; exec sleep 60"], tty=(80, 24))
    sandbox.link.wait(lambda: b"ready" in call.bytes())
    sandbox.link.send(STDIN, struct.pack("<Q", 0) + b"\x03", call.number)
    sandbox.link.finish(call.number)
    equal((call.exit.kind, call.exit.code), (1, signal.SIGINT))


def test_end_of_input_in_a_terminal_ends_what_reads(sandbox):
    for _ in range(20):
        call = sandbox.start(["cat"], tty=(80, 24))
        sandbox.link.feed(call.number, b"line\n")
        sandbox.link.finish(call.number)
        equal((call.exit.kind, call.exit.code, call.bytes().count(b"line")), (0, 0, 2))  # echoed, and printed
        sandbox.link.send(RELEASE, b"", call.number)


def test_a_terminal_that_was_closed_for_a_while_is_heard_again(sandbox):
    call = sandbox.sh("echo one; exec 0<&- 1>&- 2>&-; sleep 0.2; echo two >/dev/tty; sleep 0.1; echo three >/dev/tty; exit 3", tty=(80, 24))
    equal((call.exit.kind, call.exit.code, call.bytes()), (0, 3, b"one\r\ntwo\r\nthree\r\n"))


def test_many_calls_at_once_do_not_mix(sandbox):
    calls = [sandbox.start(["sh", "-c", f"for j in 1 2 3 4 5 6 7 8; do echo {i}; done; exit {i}"]) for i in range(50)]
    for i, call in enumerate(calls):
        sandbox.link.finish(call.number)
        equal((call.bytes(), call.exit.code), (b"%d\n" % i * 8, i))
        sandbox.link.send(RELEASE, b"", call.number)


def test_zombies_and_orphans_are_reaped(sandbox):
    sandbox.sh("for i in $(seq 30); do (sleep 0.02 & ) ; done; sleep 0.2")
    found = sandbox.sh("grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l").bytes().strip()
    equal(found, b"0")


def test_a_full_file_system_is_seen(sandbox):
    import subprocess
    home = sandbox.root + "/small"
    os.mkdir(home)
    inside = ["nsenter", "-t", str(sandbox.pid()), "-m"]
    subprocess.run(inside + ["mount", "-t", "tmpfs", "-o", "size=64k,mode=1777", "none", home], check=True)
    env = ("PATH=/usr/bin:/bin", f"HOME={home}")
    equal(sandbox.sh("true", env=env).exit.full & 4, 0)
    call = sandbox.sh(f"head -c 1000000 /dev/zero >{home}/x", env=env)
    equal((call.exit.full & 4, call.exit.code != 0), (4, True))
    sandbox.sh(f"rm {home}/x")
    equal(sandbox.sh("true", env=env).exit.full & 4, 0)


def test_an_idle_supervisor_is_small(sandbox):
    rss = int(re.search(r"VmRSS:\s+(\d+)", sandbox.status())[1])
    print(f"     {rss} KB", end=" ")
    from sandbox import PROGRAM
    assert "asan" in PROGRAM or rss < 1500
