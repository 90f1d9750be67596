"""File verbs: what they do, what they refuse, and that nobody gets hurt by names, links and special files."""

import errno
import hashlib
import os
import stat
import subprocess
import time

from link import Entry, RELEASE, entry, file, record, records, spec
from sandbox import UID, equal, wait_until

STAT, READ, WRITE, WALK, MKDIR, MOVE, REMOVE, UNPACK = range(1, 9)
HOSTILE = [b"a\nb", b"x\r\ny", b"\x1b[31m", b"trailing ", b"-rf", b"$(id)", b"\xff\xfe", b"...", b"n" * 255, b"\xe2\x80\xae"]


def path(sandbox, name):
    return os.path.join(sandbox.workspace, name)


def data_of(found):
    return b"".join(payload for kind, payload in found if kind == "D")


def entries(found):
    return [Entry(payload) for kind, payload in found if kind == "S"]


def fresh(sandbox):
    """An empty workspace."""
    subprocess.run(["find", sandbox.workspace, "-mindepth", "1", "-delete"], check=True)
    sandbox.number += 1


def read(sandbox, name, **fields):
    return data_of(sandbox.hand(READ, paths=[name], **fields))


def test_what_is_written_is_read_back_with_its_digest(sandbox):
    fresh(sandbox)
    for size in (0, 1, 65536, 65537, 1_000_000):
        data = os.urandom(size)
        said = entries(sandbox.hand(WRITE, data, paths=["f"]))[0]
        equal((said.digest, said.size, said.mode, said.uid, said.gid), (hashlib.sha256(data).hexdigest(), size, 0o644, UID, UID))
        equal(read(sandbox, "f"), data)
    equal(os.listdir(sandbox.workspace), ["f"])


def test_ranges_are_read(sandbox):
    fresh(sandbox)
    sandbox.hand(WRITE, b"0123456789", paths=["f"])
    for offset, length, wanted in ((0, 3, b"012"), (8, 100, b"89"), (10, 5, b""), (99, 5, b""), (3, 0, b"")):
        equal(read(sandbox, "f", offset=offset, length=length), wanted)


def test_hostile_names_go_in_and_out_byte_by_byte(sandbox):
    fresh(sandbox)
    for name in HOSTILE:
        sandbox.hand(WRITE, name, paths=[name])
        equal(read(sandbox, name), name)
    walked = [e.path for e in entries(sandbox.hand(WALK, paths=["."]))]
    equal(walked, sorted(b"./" + name for name in HOSTILE))
    for name in HOSTILE:
        sandbox.hand(REMOVE, paths=[name])
    equal(os.listdir(sandbox.workspace), [])


def test_modes_are_kept_given_or_made_from_the_umask(sandbox):
    fresh(sandbox)
    mode = lambda name: stat.S_IMODE(os.stat(path(sandbox, name)).st_mode)
    sandbox.hand(WRITE, b"", paths=["a"], umask=0o077)
    equal(mode("a"), 0o600)
    sandbox.hand(WRITE, b"", paths=["b"], mode=0o751, flags=8)
    equal(mode("b"), 0o751)
    sandbox.hand(WRITE, b"x", paths=["b"])
    equal(mode("b"), 0o751)
    sandbox.hand(WRITE, b"x", paths=["b"], mode=0o640, flags=8)
    equal(mode("b"), 0o640)


def test_create_only_replace_only_and_expected_digests_hold(sandbox):
    fresh(sandbox)
    equal(sandbox.fails(WRITE, b"", paths=["f"], flags=2), (errno.ENOENT, b"f"))
    sandbox.hand(WRITE, b"one", paths=["f"], flags=1)
    equal(sandbox.fails(WRITE, b"", paths=["f"], flags=1), (errno.EEXIST, b"f"))
    one = hashlib.sha256(b"one").digest()
    sandbox.hand(WRITE, b"two", paths=["f"], expected=one)
    equal(sandbox.fails(WRITE, b"three", paths=["f"], expected=one), (errno.EBADMSG, b"f"))
    equal(sandbox.fails(WRITE, b"three", paths=["absent"], expected=one), (errno.EBADMSG, b"absent"))
    equal(read(sandbox, "f"), b"two")
    equal(os.listdir(sandbox.workspace), ["f"])


def test_a_change_while_the_new_content_arrives_is_a_conflict(sandbox):
    fresh(sandbox)
    sandbox.hand(WRITE, b"one", paths=["f"])
    call = sandbox.link.spawn(sandbox.next(), spec(verb=WRITE, cwd=sandbox.workspace, stdin=1, paths=["f"],
                                                   expected=hashlib.sha256(b"one").digest()))
    sandbox.link.feed(call.number, b"x" * 100, end=False)
    wait_until(lambda: len(os.listdir(sandbox.workspace)) == 2)
    open(path(sandbox, "f"), "wb").write(b"meanwhile")
    sandbox.link.send(4, b"\x64" + bytes(7), call.number, 1)
    sandbox.link.finish(call.number)
    equal(records(call.bytes(1))[-1][1][:4], bytes([errno.EBADMSG, 0, 0, 0]))
    equal(open(path(sandbox, "f"), "rb").read(), b"meanwhile")
    equal(os.listdir(sandbox.workspace), ["f"])


def test_a_write_that_is_ended_leaves_neither_half_a_file_nor_a_temporary_one(sandbox):
    fresh(sandbox)
    call = sandbox.link.spawn(sandbox.next(), spec(verb=WRITE, cwd=sandbox.workspace, stdin=1, paths=["f"]))
    sandbox.link.feed(call.number, b"half", end=False)
    wait_until(lambda: os.listdir(sandbox.workspace))
    sandbox.kill(call, grace=2000)
    equal(os.listdir(sandbox.workspace), [])


def test_links_are_written_through_to_their_target(sandbox):
    fresh(sandbox)
    sandbox.sh("mkdir d; ln -s d/target l; ln -s l chain; ln -s loop loop")
    sandbox.hand(WRITE, b"new", paths=["chain"])
    assert os.path.islink(path(sandbox, "l")) and os.path.islink(path(sandbox, "chain"))
    equal(open(path(sandbox, "d/target"), "rb").read(), b"new")
    equal(sandbox.fails(WRITE, b"", paths=["loop"])[0], errno.ELOOP)


def test_what_the_tools_may_not_write_is_not_written(sandbox):
    fresh(sandbox)
    os.mkdir(path(sandbox, "locked"), 0o755)
    open(path(sandbox, "rootfile"), "w").write("root's")
    for name, code in (("locked/x", errno.EACCES), ("rootfile", errno.EACCES), ("/etc/passwd", errno.EACCES)):
        equal(sandbox.fails(WRITE, b"evil", paths=[name])[0], code)
    equal(open(path(sandbox, "rootfile")).read(), "root's")


def test_secrets_of_root_are_not_read(sandbox):
    fresh(sandbox)
    open(path(sandbox, "secret"), "w").write("s")
    os.chmod(path(sandbox, "secret"), 0o600)
    equal(sandbox.fails(READ, paths=["secret"])[0], errno.EACCES)
    equal(sandbox.fails(STAT, paths=["secret"], flags=2)[0], errno.EACCES)
    equal(entries(sandbox.hand(STAT, paths=["secret"]))[0].uid, 0)


def test_special_files_are_never_opened(sandbox):
    fresh(sandbox)
    sandbox.sh("mkfifo fifo; ln -s fifo link; python3 -c 'import socket; socket.socket(1).bind(\"socket\")'")
    os.mknod(path(sandbox, "device"), stat.S_IFCHR | 0o666, os.makedev(1, 3))
    started = time.monotonic()
    for name in ("fifo", "link", "socket", "device"):
        equal((name, sandbox.fails(READ, paths=[name])[0]), (name, errno.ENXIO))
        equal((name, sandbox.fails(WRITE, b"x", paths=[name])[0]), (name, errno.ENXIO))
    kinds = [(e.path, e.type) for e in entries(sandbox.hand(WALK, paths=["."], flags=3))]
    equal(kinds, [(b"./device", "c"), (b"./fifo", "p"), (b"./link", "l"), (b"./socket", "s")])
    assert time.monotonic() - started < 3


def test_proc_and_its_like_are_refused_whatever_leads_there(sandbox):
    fresh(sandbox)
    sandbox.sh("ln -s /proc/self/environ a; ln -s /proc b; ln -s /sys/kernel c")
    for name in ("/proc/1/environ", "/proc/self/mem", "a", "b/version", "/proc/self/status", "/sys/kernel/notes"):
        code, _ = sandbox.fails(READ, paths=[name])
        assert code in (errno.EACCES, errno.ENOENT), (name, code)
    assert [k for k, _ in sandbox.hand(WALK, paths=["/proc"], flags=8)] == ["S", "e", "Z"]
    assert [k for k, _ in sandbox.hand(WALK, paths=["b/"], flags=8)] == ["S", "e", "Z"]
    equal(sandbox.fails(WRITE, b"", paths=["/proc/self/comm"])[0], errno.EACCES)
    equal(sandbox.fails(REMOVE, paths=["/proc/self/comm"])[0], errno.EACCES)
    equal(sandbox.fails(MOVE, paths=["a"], to="/proc/x")[0], errno.EACCES)


def test_a_walk_is_sorted_and_says_each_directory_before_its_content(sandbox):
    fresh(sandbox)
    sandbox.sh("mkdir -p a/b .git/x; echo 1 >a/b/f; echo 2 >a-b; echo 3 >z; ln -s /etc a/link; touch .git/x/y")
    found = sandbox.hand(WALK, paths=["."], flags=3, prune=[".git"])
    equal([(e.path, e.type) for e in entries(found)],
          [(b"./.git", "d"), (b"./a", "d"), (b"./a/b", "d"), (b"./a/b/f", "f"), (b"./a/link", "l"), (b"./a-b", "f"), (b"./z", "f")])
    equal(["".join(k for k, _ in found)], ["SSSSDFSSDFSDFZ"])
    equal([e.digest for e in entries(found) if e.path == b"./z"], [hashlib.sha256(b"3\n").hexdigest()])
    equal([e.link for e in entries(found) if e.type == "l"], [b"/etc"])
    equal([e.path for e in entries(sandbox.hand(WALK, paths=["a", "z"], flags=4))], [b"a/b", b"a/link", b"z"])
    equal([e.path for e in entries(sandbox.hand(WALK, paths=["a/"], depth=1))], [b"a/b", b"a/link"])


def test_a_walk_stops_at_its_limits_and_says_so(sandbox):
    fresh(sandbox)
    sandbox.sh("for i in 1 2 3 4 5; do head -c 100 /dev/zero >f$i; done")
    truncated = lambda found: found[-1][1][0]
    found = sandbox.hand(WALK, paths=["."], entries=3)
    equal((len(entries(found)), truncated(found)), (3, 1))
    found = sandbox.hand(WALK, paths=["."], entries=5)
    equal((len(entries(found)), truncated(found)), (5, 0))
    found = sandbox.hand(WALK, paths=["."], flags=1, content=250)
    equal((len(data_of(found)), len(entries(found)), truncated(found)), (200, 5, 1))
    found = sandbox.hand(WALK, paths=["."], flags=1, file=99)
    equal((len(data_of(found)), truncated(found)), (0, 0))


def test_unreadable_places_are_named_and_the_walk_goes_on(sandbox):
    fresh(sandbox)
    sandbox.sh("mkdir a; touch a/x b; chmod 0 a b; touch c")
    found = sandbox.hand(WALK, paths=["."], flags=1)
    equal([(k, Entry(p).path if k == "S" else p[4:]) for k, p in found if k in "Se"],
          [("S", b"./a"), ("e", b"./a"), ("S", b"./b"), ("e", b"./b"), ("S", b"./c")])


def test_trees_that_are_too_deep_are_walked_to_the_limit_and_go_in_two_pieces(sandbox):
    fresh(sandbox)
    program = "import os\nfor i in range(6000):\n os.mkdir('d'); os.chdir('d')"
    equal(sandbox.run(["python3", "-c", program]).exit.code, 0)
    found = sandbox.hand(WALK, paths=["."])
    equal((len(entries(found)), found[-2][0], found[-2][1][0]), (4096, "e", errno.ELOOP))
    deepest = entries(found)[-1].path
    equal(entries(sandbox.hand(STAT, paths=[deepest]))[0].path, deepest)
    equal(sandbox.fails(REMOVE, paths=["d"], flags=1)[0], errno.ELOOP)
    sandbox.hand(MOVE, paths=["/".join(["d"] * 3000)], to="rest")
    for name in ("d", "rest"):
        sandbox.hand(REMOVE, paths=[name], flags=1)
    equal(os.listdir(sandbox.workspace), [])


def test_directories_are_made_moved_and_removed(sandbox):
    fresh(sandbox)
    sandbox.hand(MKDIR, paths=["a/b/c"], flags=1)
    sandbox.hand(MKDIR, paths=["a/b/c"], flags=1)
    equal(sandbox.fails(MKDIR, paths=["a"])[0], errno.EEXIST)
    equal(sandbox.fails(MKDIR, paths=["x/y"])[0], errno.ENOENT)
    sandbox.hand(MKDIR, paths=["m"], mode=0o700)
    equal(stat.S_IMODE(os.stat(path(sandbox, "m")).st_mode), 0o700)
    sandbox.hand(WRITE, b"1", paths=["f"])
    equal(sandbox.fails(MOVE, paths=["f"], to="m"), (errno.EEXIST, b"m"))
    sandbox.hand(MOVE, paths=["f"], to="m/f")
    sandbox.hand(WRITE, b"2", paths=["g"])
    equal(sandbox.fails(MOVE, paths=["g"], to="m/f")[0], errno.EEXIST)
    sandbox.hand(MOVE, paths=["g"], to="m/f", flags=1)
    equal(read(sandbox, "m/f"), b"2")
    equal(sandbox.fails(REMOVE, paths=["a"])[0], errno.ENOTEMPTY)
    sandbox.sh("ln -s /etc a/b/link; ln -s a la")
    sandbox.hand(REMOVE, paths=["la"], flags=1)
    sandbox.hand(REMOVE, paths=["a"], flags=1)
    equal(sandbox.fails(REMOVE, paths=["a"], flags=1)[0], errno.ENOENT)
    assert os.path.exists("/etc/passwd")
    equal(os.listdir(sandbox.workspace), ["m"])


def test_last_names_that_are_none_are_refused(sandbox):
    for name in (".", "..", "a/..", "/"):
        equal(sandbox.fails(REMOVE, paths=[name], flags=1)[0], errno.EINVAL)
    equal(sandbox.fails(READ, paths=[""])[0], errno.ENOENT)
    equal(sandbox.fails(STAT, paths=["n" * 256])[0], errno.ENAMETOOLONG)
    equal(sandbox.fails(READ, paths=["/" + "x/" * 40000])[0], errno.ENOENT)


def test_an_import_gives_each_entry_its_owner_and_mode(sandbox):
    fresh(sandbox)
    archive = (entry("d", b"locked", 0o755, 0) + file(b"locked/root", b"r", 0o644, 0) + file(b"locked/tool", b"t", 0o600, 1) +
               entry("d", b"locked/free", 0o755, 1) + file(b"locked/free/x", b"x", 0o755, 1, mtime=1_500_000_000_000_000_000) +
               file(b"locked/free/r", b"r", 0o444, 0) + entry("l", b"locked/link", link=b"free/x") + record("Z"))
    equal(sandbox.hand(UNPACK, archive, paths=["."], flags=1)[-1][0], "Z")
    for name, uid, mode in (("locked", 0, 0o755), ("locked/root", 0, 0o644), ("locked/tool", UID, 0o600), ("locked/free", UID, 0o755),
                            ("locked/free/x", UID, 0o755), ("locked/free/r", 0, 0o444), ("", UID, 0o755)):
        status = os.stat(path(sandbox, name))
        equal((name, status.st_uid, stat.S_IMODE(status.st_mode)), (name, uid, mode))
    equal(os.stat(path(sandbox, "locked/free/x")).st_mtime, 1_500_000_000)
    call = sandbox.sh("echo evil >locked/root; rm -f locked/root; mv locked/root y; touch locked/new; echo ok >locked/tool; cat locked/root locked/tool")
    equal(call.bytes(1), b"rok\n")


def test_what_is_there_is_replaced_kept_or_removed(sandbox):
    fresh(sandbox)
    sandbox.sh("mkdir -p d/sub; echo old >f; echo keep >d/keep; ln -s f l; echo x >d/sub/x")
    archive = (file(b"f", b"new", 0o600) + entry("d", b"d", 0o750) + file(b"l", b"no link") + entry("x", b"d/sub") +
               entry("x", b"absent") + entry("l", b"d/f", link=b"/etc/passwd") + entry("l", b"d/f", link=b"again") + record("Z"))
    sandbox.hand(UNPACK, archive, paths=["."])
    call = sandbox.sh("cat f d/keep l; readlink d/f; ls d; stat -c %a d f; [ -L l ] || echo file")
    equal(call.bytes(1), b"newkeep\nno linkagain\nf\nkeep\n750\n600\nfile\n")


def test_an_import_never_leaves_its_root(sandbox):
    fresh(sandbox)
    outside = sandbox.root + "/outside"
    os.makedirs(outside, exist_ok=True)
    os.chmod(outside, 0o777)
    sandbox.sh(f"ln -s {outside} out; ln -s .. up; mkdir d")
    for bad in (b"../x", b"/etc/x", b"a/../../x", b"./x", b"d//x", b"", b"d/", b"d/.", b"..", b"a\0b"):
        equal((bad, sandbox.fails(UNPACK, file(bad, b"evil") + record("Z"), paths=["."])[0]), (bad, errno.EINVAL))
    for bad in (b"out/x", b"up/x", b"out/y/z"):
        equal((bad, sandbox.fails(UNPACK, file(bad, b"evil") + record("Z"), paths=["."])[0]), (bad, errno.ENOTDIR))
    sandbox.fails(UNPACK, entry("l", b"late", link=outside.encode()) + file(b"late/x", b"evil") + record("Z"), paths=["."])
    equal(os.listdir(outside), [])
    for kind in "pscb?":
        equal(sandbox.fails(UNPACK, entry(kind, b"n") + record("Z"), paths=["."])[0], errno.EINVAL)


def test_malformed_and_unfinished_imports_fail_and_leave_no_half_file(sandbox):
    fresh(sandbox)
    good = file(b"whole", b"w")
    half = entry("f", b"half") + record("D", b"h")
    for bad, code in ((good, errno.EPIPE), (half, errno.EPIPE), (half + record("Z"), errno.EPROTO), (half + good, errno.EPROTO),
                      (record("D", b"x"), errno.EPROTO), (record("F"), errno.EPROTO), (b"Q\0\0\0\0", errno.EPROTO),
                      (b"S\xff\xff\xff\xff", errno.EPROTO), (record("S", b"short"), errno.EPROTO), (half[:-1], errno.EPIPE)):
        equal((bad[:9], sandbox.fails(UNPACK, bad, paths=["."])[0]), (bad[:9], code))
        assert not os.path.exists(path(sandbox, "half")), bad
    equal(os.listdir(sandbox.workspace), ["whole"])


def test_tools_cannot_end_or_trace_a_hand(sandbox):
    fresh(sandbox)
    call = sandbox.link.spawn(sandbox.next(), spec(verb=WRITE, cwd=sandbox.workspace, stdin=1, paths=["f"]))
    sandbox.link.feed(call.number, b"x", end=False)
    sandbox.link.wait(lambda: call.pid)
    attack = sandbox.sh(f"kill -9 {call.pid}; kill -STOP {call.pid}; kill -9 -1; cat /proc/{call.pid}/mem; ls /proc/{call.pid}/fd")
    equal(attack.bytes(1), b"")
    sandbox.link.send(4, b"\x01" + bytes(7) + b"y", call.number, 1)
    sandbox.link.finish(call.number)
    equal(open(path(sandbox, "f"), "rb").read(), b"xy")
