"""A real supervisor as PID 1 of a pid namespace with loopback only (needs root), and what tests ask of it."""

import contextlib
import ctypes
import fcntl
import os
import resource
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

from link import KILL, Link, RELEASE, SHUTDOWN, records, spec

UID = 10001
UNKNOWN = 0xFFFFFFFF
PROGRAM = sys.argv[1]
NEW_NETWORK = 0x40000000
SET_FLAGS, UP = 0x8914, 1


class Sandbox:
    """A supervisor on two FIFOs, which outlive any one runner, and a workspace of the tools' user."""

    def __init__(self, descriptors=None):
        self.root = tempfile.mkdtemp(prefix="supervisor-test-")
        os.chmod(self.root, 0o755)
        self.workspace = self.root + "/workspace"
        os.mkdir(self.workspace)
        os.chown(self.workspace, UID, UID)
        for name in ("in", "out"):
            os.mkfifo(f"{self.root}/{name}")
        # Both ends stay open here, as the engine's do.
        self.fifo_in = os.open(self.root + "/in", os.O_RDWR)
        self.fifo_out = os.open(self.root + "/out", os.O_RDWR)
        env = dict(os.environ, ASAN_OPTIONS="detect_leaks=0", UBSAN_OPTIONS="print_stacktrace=1")
        self.stderr = open(self.root + "/stderr", "w+b")
        reading = os.open(self.root + "/in", os.O_RDONLY | os.O_NONBLOCK)
        self.process = subprocess.Popen(["unshare", "-n", "-p", "-f", "--kill-child", "--mount-proc", PROGRAM], stdin=reading,
                                        stdout=os.open(self.root + "/out", os.O_WRONLY), stderr=self.stderr, env=env,
                                        preexec_fn=lambda: bound_descriptors(descriptors))
        os.close(reading)
        self.number = 0
        self.link = self.attach(zeros=False)
        self.space = os.open(f"/proc/{self.pid()}/ns/net", os.O_RDONLY)
        self.set_up_loopback()

    @contextlib.contextmanager
    def network(self):
        """Sockets made meanwhile are of this sandbox."""
        libc, outside = ctypes.CDLL(None, use_errno=True), os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            assert libc.setns(self.space, NEW_NETWORK) == 0, ctypes.get_errno()
            yield
        finally:
            assert libc.setns(outside, NEW_NETWORK) == 0, ctypes.get_errno()
            os.close(outside)

    def set_up_loopback(self):
        """As engines do: loopback is up, and every port is for everybody."""
        with self.network(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sH14x", b"lo", UP))
            with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", "w") as setting:
                setting.write("0")

    def attach(self, orphan_ms=60000, zeros=True, **options):
        self.link = Link(self.fifo_out, self.fifo_in, zeros=zeros, orphan_ms=orphan_ms, **options)
        return self.link

    def open_pipes(self):
        """The runner's ends of the pipes that were offered, as it opens them: (reading, writing)."""
        fds, inodes = self.link.pipes[:2], self.link.pipes[2:]
        paths = [f"/proc/{self.pid()}/fd/{fd}" for fd in fds]
        assert [os.readlink(path) for path in paths] == [f"pipe:[{inode}]" for inode in inodes]
        return os.open(paths[1], os.O_RDONLY | os.O_NONBLOCK), os.open(paths[0], os.O_WRONLY)

    def join(self, orphan_ms=60000, **options):
        """A new runner that goes on in the pipes."""
        self.attach(orphan_ms=orphan_ms, offer=True)
        self.link = Link(*self.open_pipes(), orphan_ms=orphan_ms, **options)
        return self.link

    def next(self):
        self.number += 1
        return self.number

    def start(self, argv, link=None, **fields):
        fields.setdefault("cwd", self.workspace)
        return (link or self.link).spawn(self.next(), spec(argv, **fields))

    def run(self, argv, timeout=10, **fields):
        call = self.start(argv, **fields)
        self.link.finish(call.number, timeout)
        self.link.send(RELEASE, b"", call.number)
        return call

    def sh(self, text, **fields):
        return self.run(["sh", "-c", text], **fields)

    def kill(self, call, grace=0, cause=3):
        self.link.send(KILL, struct.pack("<IB", grace, cause), call.number)
        return self.link.finish(call.number)

    def hand(self, verb, data=None, **fields):
        """Records of a file verb; its exit code agrees with its last record."""
        fields.setdefault("cwd", self.workspace)
        if data is not None:
            fields["stdin"] = 1
        call = self.link.spawn(self.next(), spec(verb=verb, **fields))
        if data is not None:
            self.link.feed(call.number, data)
        self.link.finish(call.number)
        self.link.send(RELEASE, b"", call.number)
        assert call.refused is None, call.refused
        found = records(call.bytes(1))
        assert found[-1][0] == ("Z" if call.exit.code == 0 else "E"), (found[-1], call.exit.code, call.bytes(2))
        assert [k for k, _ in found[:-1] if k in "ZE"] == []
        return found

    def fails(self, verb, data=None, **fields):
        """The errno and path of a verb that fails."""
        kind, payload = self.hand(verb, data, **fields)[-1]
        assert kind == "E", kind
        return struct.unpack_from("<I", payload)[0], payload[4:]

    def pid(self):
        """PID 1's number out here."""
        return int(subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True).stdout.split()[0])

    def status(self):
        return open(f"/proc/{self.pid()}/status").read()

    def members(self, call=None):
        """Living processes of this sandbox (of one call), found from outside."""
        space, found = os.readlink(f"/proc/{self.pid()}/ns/pid"), []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.readlink(f"/proc/{name}/ns/pid") != space or int(name) == self.pid():
                    continue
                status = open(f"/proc/{name}/status").read()
            except OSError:
                continue
            groups = [line.split()[1:] for line in status.splitlines() if line.startswith("Groups:")][0]
            zombie = "State:\tZ" in status and "Threads:\t1\n" in status
            if not zombie and (call is None or str(20000 + call.number % 40000) in groups):
                found.append(int(name))
        return found

    def close(self):
        try:
            if self.process.poll() is None:
                self.link.send(SHUTDOWN)
                assert self.process.wait(5) == 0
        finally:
            self.process.kill()
            self.stderr.seek(0)
            said = self.stderr.read().decode(errors="replace")
            for fd in (self.fifo_in, self.fifo_out, self.space):
                os.close(fd)
            shutil.rmtree(self.root, ignore_errors=True)
            assert said == "", said


def bound_descriptors(count):
    if count is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))


def equal(got, wanted):
    assert got == wanted, f"got {got!r:.300}, wanted {wanted!r:.300}"


def wait_until(condition, seconds=5):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
