"""When a call ends, its whole tree is gone, whatever it did, and its siblings do not notice."""

import os
import struct
import subprocess
import time

from link import LIST, RELEASE
from sandbox import equal, wait_until

# What a tree can do to be missed. Each leaves something behind that sleeps, for longer than any test.
WAYS = {
    "a plain child": "sleep 99 &",
    "a new session": "setsid sleep 99 &",
    "nohup": "nohup sleep 99 >/dev/null 2>&1 &",
    "a double fork": "(setsid sh -c 'sleep 99 & sleep 98 &' &)",
    "a triple fork": "(setsid sh -c '(setsid sh -c \"(sleep 99 &)\" &)' &)",
    "ignored signals": "(trap '' TERM HUP INT QUIT USR1 USR2 PIPE; sleep 99) &",
    "stopped": "sh -c 'kill -STOP $$; sleep 99' &",
    "stopped children": "sleep 99 & kill -STOP $!",
    "closed descriptors": "sleep 99 <&- >&- 2>&- &",
    "another directory": "(cd /proc; exec sleep 99) &",
    "another name": "bash -c 'exec -a \"kthreadd (1) R\" sleep 99' &",
    "an empty environment": "env -i /bin/sleep 99 &",
    "low priority": "nice -n 19 sleep 99 &",
    "a pipeline": "sleep 99 | sleep 98 | sleep 97 &",
    "forks as it ends": "(trap 'sleep 99 & sleep 98 &' TERM EXIT; sleep 99) &",
    "respawns": "(while :; do sleep 99; done) &",
    "a chain of short lives": "P='sh -c \"$P\" & exit 0' sh -c 'export P; eval \"$P\"' &",
    "a name like a status line": "/usr/bin/python3 -c \"open('/proc/self/comm','w').write('a\\nGroups:\\t1'); import time; time.sleep(99)\" &",
    "a first thread that ended": "/usr/bin/python3 -c \"import ctypes,threading,time; threading.Thread(target=time.sleep,args=(99,)).start(); ctypes.CDLL(None).pthread_exit(None)\" &",
    "threads": "/usr/bin/python3 -c \"import threading,time; [threading.Thread(target=time.sleep,args=(99,)).start() for _ in range(20)]\" &",
    "a subreaper": "/usr/bin/python3 -c \"import ctypes,os,time; ctypes.CDLL(None).prctl(36,1,0,0,0); os.fork() or os.fork(); time.sleep(99)\" &",
    "vfork": "/usr/bin/python3 -c \"import subprocess,time; subprocess.Popen(['sleep','99'],start_new_session=True); time.sleep(99)\" &",
    "a daemon": "/usr/bin/python3 -c \"import os,time\nif os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\nos.chdir('/'); os.closerange(0,100); time.sleep(99)\"",
    "sockets": "/usr/bin/python3 -c \"import socket,time; s=socket.socketpair(); time.sleep(99)\" &",
    "a deleted program": "cp /bin/sleep ./gone; ./gone 99 & sleep 0.1; rm ./gone",
    "a program of its own": "cp /bin/sleep ./own; chmod 100 ./own; ./own 99 &",
    "not dumpable": "/usr/bin/python3 -c \"import ctypes,time; ctypes.CDLL(None).prctl(4,0,0,0,0); time.sleep(99)\" &",
    "a core limit of its own": "(ulimit -c 0; ulimit -n 8; exec sleep 99) &",
    "waiting in a FIFO": "mkfifo f; cat f & sleep 0.1; rm f",
    "reading a pipe for ever": "(sleep 99 | cat) &",
    "a shell that waits": "bash -c 'sleep 99 & disown; wait; sleep 99' &",
    "real-time signals blocked": "/usr/bin/python3 -c \"import signal,time; signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()); time.sleep(99)\" &",
}


def test_every_way_to_outlive_a_call_is_found_at_its_end(sandbox):
    for way, text in WAYS.items():
        call = sandbox.sh("{ " + text + "\n}; sleep 0.03; true", timeout=20)
        assert call.exit.code == 0 and call.exit.descendants >= 1, (way, call.exit.code, call.exit.descendants, call.bytes())
        assert call.exit.killed >= 1, way
        equal((way, sandbox.members(call)), (way, []))


def test_every_way_is_found_by_a_kill_too_and_a_sibling_goes_on(sandbox):
    sibling = sandbox.start(["sh", "-c", "echo one; read x; echo two"], stdin=1)
    for way, text in WAYS.items():
        call = sandbox.start(["sh", "-c", "echo partial; " + text + "\n sleep 99"])
        sandbox.link.wait(lambda: call.received >= 8)
        time.sleep(0.02)
        sandbox.kill(call)
        equal((way, call.exit.cause, call.bytes(1)[:8]), (way, 3, b"partial\n"))
        equal((way, sandbox.members(call)), (way, []))
        sandbox.link.send(RELEASE, b"", call.number)
    sandbox.link.feed(sibling.number, b"\n")
    sandbox.link.finish(sibling.number)
    equal((sibling.exit.code, sibling.bytes()), (0, b"one\ntwo\n"))


def test_a_chain_that_forks_and_ends_is_there_each_time_it_is_looked_for(sandbox):
    chain = "import os,time\nif os.fork(): os._exit(0)\nwhile True:\n  if os.fork(): os._exit(0)\n  time.sleep(0.0001)"
    call = sandbox.start(["/usr/bin/python3", "-c", chain], keep=1)
    sandbox.link.wait(lambda: call.exit is not None)
    for _ in range(2000):
        sandbox.link.listed = None
        sandbox.link.send(LIST)
        sandbox.link.wait(lambda: sandbox.link.listed is not None)
        found = [entry[3] for entry in sandbox.link.listed if entry[0] == call.number]
        assert found and found[0] >= 1, found
    sandbox.kill(call)
    equal(sandbox.members(call), [])


def limit_pids(sandbox, count):
    """A pids cgroup of its own, v1 or v2; None where there is none to make."""
    for base in ("/sys/fs/cgroup/pids", "/sys/fs/cgroup"):
        path = f"{base}/supervisor-test-{os.getpid()}"
        try:
            os.makedirs(path, exist_ok=True)
            open(path + "/pids.max", "w").write(str(count))
            open(path + "/cgroup.procs", "w").write(str(sandbox.pid()))
            return path
        except OSError:
            if os.path.isdir(path):
                os.rmdir(path)
    return None


BOMBS = {
    "doubling": "b() { b | b & }; b; sleep 99",
    "ignoring signals in new sessions": "trap '' TERM HUP INT; b() { (setsid sh -c \"$0\" 2>/dev/null &); }; while :; do setsid sh -c 'while :; do sleep 9 & done' 2>/dev/null & done",
    "forking and ending": "/usr/bin/python3 -c 'import os,time\nwhile True:\n  try:\n    if os.fork(): os._exit(0)\n  except OSError: pass'",
}


def test_fork_bombs_under_a_limit_are_ended_in_time(sandbox):
    group = limit_pids(sandbox, 150)
    if group is None:
        print("     no pids cgroup can be made here", end=" ")
        return
    try:
        for name, text in BOMBS.items():
            call = sandbox.start(["bash", "-c", text])
            time.sleep(0.4)
            started = time.monotonic()
            sandbox.kill(call)
            spent = time.monotonic() - started
            equal((name, sandbox.members(call)), (name, []))
            assert spent < 3, (name, spent)
            print(f"     {name}: {spent * 1000:.0f} ms, {call.exit.killed} killed", end=" ")
        equal(sandbox.sh("echo alive").bytes(), b"alive\n")
    finally:
        for pid in open(group + "/cgroup.procs").read().split():
            open(os.path.dirname(group) + "/cgroup.procs", "w").write(pid)
        wait_until(lambda: open(group + "/cgroup.procs").read() == "")
        os.rmdir(group)


def lift_limit(sandbox, group):
    for pid in open(group + "/cgroup.procs").read().split():
        open(os.path.dirname(group) + "/cgroup.procs", "w").write(pid)
    wait_until(lambda: open(group + "/cgroup.procs").read() == "")
    os.rmdir(group)


def test_after_a_fork_bomb_the_next_call_finds_room_at_once(sandbox):
    group = limit_pids(sandbox, 128)
    if group is None:
        print("     no pids cgroup can be made here", end=" ")
        return
    try:
        for _ in range(3):
            sandbox.run(["/usr/bin/python3", "-c", "import os\nwhile True: os.fork()"], timeout=20)
            call = sandbox.sh("echo alive")
            equal((call.exit.kind, call.exit.code, call.bytes()), (0, 0, b"alive\n"))
    finally:
        lift_limit(sandbox, group)


def test_a_call_waits_a_moment_for_the_places_of_killed_processes(sandbox):
    group = limit_pids(sandbox, 8)
    if group is None:
        print("     no pids cgroup can be made here", end=" ")
        return
    try:
        hog = sandbox.start(["bash", "-c", "for i in 1 2 3 4 5 6; do sleep 99 & done; echo up; wait"])
        sandbox.link.wait(lambda: hog.received)
        refused = sandbox.sh("true")
        equal((refused.exit.kind, refused.exit.stage, refused.exit.code), (2, 2, 11))
        assert sandbox.kill(hog).exit.killed >= 7
        again = sandbox.start(["bash", "-c", "for i in 1 2 3 4 5 6; do sleep 99 & done; echo up; wait"])
        sandbox.link.wait(lambda: again.received)
        late, unwanted = sandbox.start(["cat"], stdin=1), sandbox.start(["true"])
        sandbox.link.feed(late.number, b"kept until it started")
        sandbox.kill(unwanted)
        equal((unwanted.exit.kind, unwanted.exit.stage, unwanted.exit.cause, unwanted.pid), (2, 2, 3, None))
        equal(late.pid, None)
        sandbox.kill(again)
        sandbox.link.finish(late.number)
        equal((late.exit.kind, late.exit.code, late.bytes()), (0, 0, b"kept until it started"))
    finally:
        lift_limit(sandbox, group)


def test_without_room_for_a_process_the_call_says_so(sandbox):
    group = limit_pids(sandbox, 1)
    if group is None:
        print("     no pids cgroup can be made here", end=" ")
        return
    try:
        call = sandbox.sh("true")
        equal((call.exit.kind, call.exit.stage, call.exit.code), (2, 2, 11))
    finally:
        for pid in open(group + "/cgroup.procs").read().split():
            open(os.path.dirname(group) + "/cgroup.procs", "w").write(pid)
        os.rmdir(group)


def test_a_kill_before_the_command_has_started_ends_it(sandbox):
    for _ in range(30):
        call = sandbox.start(["sleep", "99"])
        sandbox.kill(call)
        equal((call.exit.kind, call.exit.code, call.exit.cause), (1, 9, 3))
        sandbox.link.send(RELEASE, b"", call.number)


def test_the_first_cause_of_a_kill_wins(sandbox):
    call = sandbox.start(["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.01; done"])
    sandbox.link.wait(lambda: call.received)
    sandbox.link.send(8, struct.pack("<IB", 5000, 4), call.number)
    sandbox.kill(call, cause=3)
    equal(call.exit.cause, 4)


def test_children_get_the_rest_of_the_grace_when_the_leader_obeys(sandbox):
    call = sandbox.start(["bash", "-c", "(trap 'sleep 0.2; echo cleaned; exit' TERM; echo up; while :; do sleep 0.01; done) & wait"])
    sandbox.link.wait(lambda: call.received)
    sandbox.kill(call, grace=3000)
    assert call.bytes().endswith(b"cleaned\n"), call.bytes()
