# SPDX-License-Identifier: Apache-2.0
"""
Guests that are saved and restored while they work, stocks of them, and damaged snapshots. Tests that need no running
Linux save a guest before its first instruction, on any /dev/kvm.
"""
import concurrent.futures
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time

import pytest

from conftest import RIFFLE, ROOT
from guests import LONG, in_box

VMM = RIFFLE.parent.parent / "api" / "riffle-vmm"
MODULES = "virtio_mmio,virtio_blk,virtio_rng"
ROUNDS = int(os.environ.get("RIFFLE_SNAPSHOT_ROUNDS", "20"))


@pytest.fixture(scope="module")
def initrd(tmp_path_factory):
    path = tmp_path_factory.mktemp("snapshot") / "initrd"
    subprocess.run([ROOT / "tools/mkinitramfs", path, "--busybox", "--modules", f"cloud-6.1:{MODULES}", "--init",
                    ROOT / "tests/guest/snapshot.sh"], check=True)
    return path


def rounds(fetch_kernel, initrd, cpus, count, stages, timeout):
    r = in_box(["bash", ROOT / "tests/e2e/snapshot.sh", RIFFLE, fetch_kernel("cloud-6.1"), initrd, cpus, count, *stages],
               timeout=timeout)
    out = r.stdout.decode(errors="replace")
    assert r.returncode == 0, out + r.stderr.decode(errors="replace")
    assert f"snapshot: cpus {cpus}" in out
    assert f"rounds: {count}" in out and "snapshot.sh: done" in out
    for trouble in ("WARNING:", "BUG", "soft lockup", "stall"):
        assert f"guest says: {trouble}" not in out and trouble not in "".join(
            line for line in out.splitlines(True) if line.startswith("guest says")), out
    return out


def test_guest(fetch_kernel, initrd):
    """Two CPUs under load, a disk that is verified, timers, the console: saved whole, then what changed."""
    rounds(fetch_kernel, initrd, 2, 2, [], 3600)


@pytest.mark.skipif(not LONG, reason="many rounds: make check-long; RIFFLE_SNAPSHOT_ROUNDS says how many")
@pytest.mark.parametrize("cpus", [1, 4, 8])
def test_many_rounds(fetch_kernel, initrd, cpus):
    rounds(fetch_kernel, initrd, cpus, ROUNDS, ["laid", "booted"], 3600 * 4)


# ---- on any /dev/kvm


@pytest.fixture(scope="module")
def kvm():
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("there is no /dev/kvm")


@pytest.fixture(scope="module")
def prepared(fetch_kernel, tmp_path_factory):
    path = tmp_path_factory.mktemp("prepared") / "kernel"
    subprocess.run([RIFFLE, "prepare", fetch_kernel("cloud-6.1"), "-o", path], check=True)
    return path


def run(*words, timeout=60):
    return subprocess.run([str(w) for w in words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout,
                          check=False)


@pytest.fixture(scope="module")
def laid(kvm, prepared, tmp_path_factory):
    """A guest that was saved before its first instruction."""
    directory = tmp_path_factory.mktemp("laid") / "snapshot"
    r = run(RIFFLE, "run", "--accept-emulation", "--console", "none", "--save-to", directory, "-m", "128M", prepared)
    assert r.returncode == 0, r.stderr
    return directory


@pytest.fixture
def snapshot(laid, tmp_path):
    subprocess.run(["cp", "-r", "--sparse=always", laid, tmp_path / "s"], check=True)
    return tmp_path / "s"


def starts(*words):
    """Whether the guest runs, as far as an emulating /dev/kvm allows; then kills it."""
    with tempfile.TemporaryFile("w+") as err:
        def said():
            err.seek(0)
            return err.read()

        process = subprocess.Popen([str(w) for w in words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline and "first guest instruction" not in said():
            time.sleep(0.02)
        process.kill()
        process.wait()
        return "first guest instruction" in said(), said()


def resume(directory, *options):
    return starts(RIFFLE, "resume", "--accept-emulation", "--boot-timer", "--console", "none", *options, directory)


def show(directory):
    r = run(RIFFLE, "snapshot", "--show", directory)
    assert r.returncode == 0, r.stderr
    return json.loads(r.stdout)


def test_a_snapshot_is_used_once(snapshot):
    assert show(snapshot)["uses"] == 0
    assert resume(snapshot)[0]
    assert show(snapshot)["uses"] == 1
    good, said = resume(snapshot)
    assert not good and "uses: a guest was restored from this snapshot before" in said
    assert "--share-layout" in said
    assert resume(snapshot, "--share-layout")[0]
    assert show(snapshot)["uses"] == 2


def test_a_snapshot_tells_that_sections_slid(kvm, prepared, tmp_path):
    for mode in ("kaslr", "kaslr+slide", "fgkaslr+slide"):
        r = run(RIFFLE, "run", "--accept-emulation", "--console", "none", f"--randomize={mode}", "--save-to", tmp_path / mode, "-m", "128M",
                prepared)
        assert r.returncode == 0, r.stderr
        assert show(tmp_path / mode)["layout"] == mode


def test_auto_slides_where_memory_allows(kvm, prepared, tmp_path):
    """Else the guest starts without, and is told why."""
    for memory, mode in (("96M", "fgkaslr"), ("112M", "fgkaslr+slide")):
        r = run(RIFFLE, "run", "--accept-emulation", "--console", "none", "--save-to", tmp_path / memory, "-m", memory, prepared)
        assert r.returncode == 0, r.stderr
        assert show(tmp_path / memory)["layout"] == mode
        assert ("riffle: notice: this kernel's sections do not slide apart: gaps of up to " in r.stderr) == (mode == "fgkaslr"), r.stderr


def test_racing_for_a_snapshot(snapshot):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = [f.result()[0] for f in [pool.submit(resume, snapshot) for _ in range(8)]]
    assert results.count(True) == 1


def test_a_snapshot_tells_the_layouts_id_alone(snapshot, prepared, tmp_path):
    r = run(RIFFLE, "run", "--accept-emulation", "--console", "none", "--save-to", tmp_path / "other", "-m", "128M", prepared)
    assert r.returncode == 0
    one, other = show(snapshot), show(tmp_path / "other")
    assert one["layout"] == other["layout"] == "fgkaslr+slide"
    assert len(one["layout_id"]) == 32 and one["layout_id"] != other["layout_id"]
    for file in ("state", "memory"):
        assert (tmp_path / "other" / file).stat().st_mode & 0o777 == 0o600


DAMAGE = {
    "cut": (lambda b: b[:-1], "bytes"),
    "empty": (lambda b: b"", "header"),
    "bit": (lambda b: b[:500] + bytes([b[500] ^ 1]) + b[501:], "checksum"),
    "magic": (lambda b: b"X" + b[1:], "magic"),
    "older": (lambda b: b[:8] + bytes(4) + b[12:], "version"),
    "newer": (lambda b: b[:8] + b"\2" + b[9:], "version"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_state_is_refused(snapshot, damage):
    change, field = DAMAGE[damage]
    state = snapshot / "state"
    state.write_bytes(change(state.read_bytes()))
    r = run(RIFFLE, "resume", "--accept-emulation", snapshot)
    assert r.returncode == 1 and r.stderr.startswith(f"riffle: {state}: {field}: "), r.stderr


def test_memory_of_another_size_is_refused(snapshot):
    os.truncate(snapshot / "memory", (128 << 20) - 4096)
    r = run(RIFFLE, "resume", "--accept-emulation", snapshot)
    assert r.returncode == 1 and "differs in size from the guest's memory" in r.stderr
    assert show(snapshot)["uses"] == 0


def test_a_full_disk_leaves_no_snapshot(kvm, prepared, tmp_path):
    r = subprocess.run(["bash", "-c", f"ulimit -f 20000; exec '{RIFFLE}' run --accept-emulation --console none --save-to "
                        f"'{tmp_path}/s' -m 128M '{prepared}'"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                       timeout=60, check=False)
    assert r.returncode == 1 and "memory file" in r.stderr, r.stderr
    assert (tmp_path / "s" / "state").stat().st_size == 0
    assert run(RIFFLE, "resume", "--accept-emulation", tmp_path / "s").returncode == 1


# ---- stocks


def stock(directory, *words, **kwargs):
    return run(RIFFLE, "stock", "--dir", directory, *words, **kwargs)


def fill(directory, count, prepared, *options):
    r = stock(directory, "--keep", count, "--once", *options, "--", "--accept-emulation", "-m", "128M", prepared, timeout=300)
    assert r.returncode == 0, r.stderr + (directory / "log").read_text()


def status(directory):
    return json.loads(stock(directory, "--status", "--json").stdout)


def take(directory, *words):
    return starts(RIFFLE, "run", "--from-stock", directory, "--accept-emulation", "--boot-timer", "--console", "none", *words)


def left_of(directory):
    return sorted(p.name for d in ("ready", "making") for p in (directory / d).iterdir())


def test_each_item_has_a_layout_of_its_own_and_one_taker(kvm, prepared, tmp_path):
    """32 takers for 8 items: 8 of them get one, and nothing is left."""
    fill(tmp_path / "stock", 8, prepared)
    ids = {show(item)["layout_id"] for item in (tmp_path / "stock" / "ready").iterdir()}
    assert len(ids) == 8
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        results = [f.result() for f in [pool.submit(take, tmp_path / "stock") for _ in range(32)]]
    assert sum(good for good, _ in results) == 8
    assert all(good or "the stock" in said or "is empty" in said for good, said in results), results
    assert left_of(tmp_path / "stock") == []
    told = status(tmp_path / "stock")
    assert (told["ready"], told["made"], told["taken"], told["empty"]) == (0, 8, 8, 24)


def test_an_empty_stock_means_a_fresh_load(kvm, prepared, tmp_path):
    fill(tmp_path / "stock", 1, prepared)
    assert take(tmp_path / "stock", "-m", "128M", prepared)[0]
    good, said = take(tmp_path / "stock", "-m", "128M", prepared)
    assert good and "the stock is empty: the kernel is loaded afresh" in said


def test_a_damaged_item_is_thrown_away_and_the_next_one_taken(kvm, prepared, tmp_path):
    fill(tmp_path / "stock", 3, prepared)
    for item in list((tmp_path / "stock" / "ready").iterdir())[:2]:
        state = item / "state"
        state.write_bytes(state.read_bytes()[:-8])
    good = said = None
    for _ in range(1):
        good, said = take(tmp_path / "stock")
    assert good, said
    assert status(tmp_path / "stock")["bad"] == said.count("is thrown away")


def test_items_of_another_kernel_are_thrown_away(kvm, prepared, tmp_path):
    kernel = tmp_path / "kernel"
    shutil.copy(prepared, kernel)
    fill(tmp_path / "stock", 2, kernel)
    before = set(left_of(tmp_path / "stock"))
    os.utime(kernel, (1, 1))
    fill(tmp_path / "stock", 1, kernel)
    after = set(left_of(tmp_path / "stock"))
    assert len(after) == 1 and not before & after


def test_a_killed_daemon_loses_nothing_that_was_ready(kvm, prepared, tmp_path):
    directory = tmp_path / "stock"
    words = [RIFFLE, "stock", "--dir", directory, "--keep", "50", "--", "--accept-emulation", "-m", "128M", prepared]
    daemon = subprocess.Popen([str(w) for w in words])
    while not directory.exists() or not (directory / "ready").exists() or len(list((directory / "ready").iterdir())) < 2:
        time.sleep(0.05)
    assert stock(directory, "--keep", 1, "--", prepared).returncode == 1  # there is one daemon
    daemon.kill()
    daemon.wait()
    ready = status(directory)["ready"]
    assert ready >= 2
    fill(directory, ready, prepared)
    assert status(directory)["ready"] == ready
    assert list((directory / "making").iterdir()) == []


def test_items_by_a_socket(kvm, prepared, tmp_path):
    directory, path = tmp_path / "stock", tmp_path / "s"
    words = [RIFFLE, "stock", "--dir", directory, "--keep", "1", "--socket", path, "--", "--accept-emulation", "-m", "128M",
             prepared]
    daemon = subprocess.Popen([str(w) for w in words])
    while not (directory / "ready").exists() or not list((directory / "ready").iterdir()):
        time.sleep(0.05)
    good, said = starts(RIFFLE, "run", "--from-stock", f"unix:{path}", "--accept-emulation", "--boot-timer", "--console", "none")
    daemon.terminate()
    assert daemon.wait(30) == 0
    assert good, said


# ---- riffle snapshot of a guest that runs


class Guest:
    """A guest that can be saved; what it does is irrelevant."""

    def __init__(self, prepared, directory, *options, tracked=True):
        self.socket = directory / "snapshot.sock"
        words = [RIFFLE, "run", "--accept-emulation", "--console", "none", "--randomize=off", "-m", "128M",
                 *(["--track-dirty"] if tracked else []), "--snapshot-socket", self.socket, *options, prepared]
        self.process = subprocess.Popen([str(w) for w in words], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 30
        while not self.socket.exists() and time.monotonic() < deadline:
            time.sleep(0.02)

    def words(self, directory, *options):
        return [str(w) for w in (RIFFLE, "snapshot", "-s", self.socket, *options, directory)]

    def save(self, directory, *options):
        return run(*self.words(directory, *options))


@pytest.fixture
def guest(kvm, prepared, tmp_path):
    guests = []

    def make(name):
        (tmp_path / name).mkdir()
        guests.append(Guest(prepared, tmp_path / name))
        return guests[-1]

    yield make
    for g in guests:
        g.process.kill()
        g.process.communicate()


def content(directory):
    return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns, p.stat().st_size) for p in directory.iterdir()}


@pytest.mark.parametrize("mode", ["fgkaslr", "kaslr+slide"])
def test_a_dump_tells_who_cannot_read_it(kvm, prepared, tmp_path, mode):
    one = Guest(prepared, tmp_path, f"--randomize={mode}")
    try:
        r = run(RIFFLE, "dump", "-s", one.socket, "-o", tmp_path / "core")
        assert r.returncode == 0 and ("crash and drgn find no data" in r.stderr) == ("slide" in mode), r.stderr
    finally:
        one.process.kill()
        one.process.communicate()


@pytest.mark.parametrize("tracked", [False, True])
def test_changes_that_nothing_tells(kvm, prepared, tmp_path, tracked):
    """All of the memory is written then, and that is said."""
    one = Guest(prepared, tmp_path, tracked=tracked)
    try:
        assert one.save(tmp_path / "saved").returncode == 0
        r = one.save(tmp_path / "saved", "--changed")
        assert r.returncode == 0 and ("--changed: nothing tells what this guest changed" in r.stderr) != tracked, r.stderr
        written = int(re.search(r"memory written: (\d+) KiB", r.stdout)[1])
        assert (written == 128 << 10) != tracked, r.stdout
    finally:
        one.process.kill()
        one.process.communicate()


def test_changes_count_from_the_last_save_alone(guest, tmp_path):
    """Otherwise refused, with nothing changed: an earlier save of the guest, another guest's, a damaged one, none."""
    one, other = guest("one"), guest("other")
    first, second, foreign = tmp_path / "first", tmp_path / "second", tmp_path / "foreign"
    assert one.save(first).returncode == 0
    r = one.save(first, "--changed")
    assert r.returncode == 0, r.stderr
    assert one.save(second).returncode == 0
    assert other.save(foreign).returncode == 0
    damaged = tmp_path / "damaged"
    shutil.copytree(second, damaged)
    (damaged / "state").write_bytes((damaged / "state").read_bytes()[:-8])
    for directory, said in ((first, "does not hold this guest's last snapshot"),
                            (foreign, "does not hold this guest's last snapshot"), (damaged, "damaged/state: bytes: the file has another size")):
        before = content(directory)
        r = one.save(directory, "--changed")
        assert r.returncode == 1 and said in r.stderr, r.stderr
        assert content(directory) == before
    r = one.save(tmp_path / "none", "--changed")
    assert r.returncode == 1 and not (tmp_path / "none").exists()
    r = one.save(second, "--changed")
    assert r.returncode == 0, r.stderr
    assert sorted(content(second)) == ["memory", "state"]
    # by the socket itself, without or with another's name
    memory, state = (os.open(second / n, os.O_RDWR) for n in ("memory", "state"))
    before = content(second)
    for words in (b"save changed", b"save changed " + b"0" * 32, b"save changed end", b"save all or not", b"save"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.settimeout(30)
            s.connect(str(one.socket))
            socket.send_fds(s, [words], [state, memory])
            assert s.recv(512).startswith(b"error "), words
    assert content(second) == before
    os.close(memory)
    os.close(state)


def test_two_snapshots_of_one_directory_at_once(guest, tmp_path):
    """A save that reports success has left a snapshot, and the other one has failed with an error."""
    one = guest("one")
    for _ in range(5):
        directory = tmp_path / "d"
        shutil.rmtree(directory, ignore_errors=True)
        both = [subprocess.Popen(one.words(directory), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
                for _ in range(2)]
        results = [(p.communicate()[1], p.returncode) for p in both]
        assert [code for _, code in results].count(0) >= 1, results
        assert all(not code or "another snapshot is being written there" in said for said, code in results), results
        assert sorted(content(directory)) == ["memory", "state"]
        assert show(directory)["uses"] == 0


def test_directories_that_are_not_for_a_guests_memory(guest, tmp_path):
    one = guest("one")
    directory = tmp_path / "d"
    assert one.save(directory).returncode == 0
    before = content(directory)
    for mode in (0o720, 0o702, 0o1777):
        directory.chmod(mode)
        r = one.save(directory)
        assert r.returncode == 1 and "lets its group or others change it" in r.stderr, r.stderr
        assert content(directory) == before
    directory.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(directory, 1234, -1)
        r = one.save(directory)
        assert r.returncode == 1 and "neither root nor the user" in r.stderr, r.stderr
        os.chown(directory, 0, -1)
    # a file opened by another process beforehand does not get the memory
    mine = open(directory / "memory.new.part", "wb")
    theirs = os.fstat(mine.fileno()).st_ino
    assert one.save(directory).returncode == 0
    assert (directory / "memory").stat().st_ino != theirs and os.fstat(mine.fileno()).st_size == 0
    mine.close()
    for name in ("memory", "state"):
        before = content(directory)
        (directory / name).rename(tmp_path / "kept")
        os.mkfifo(directory / name)
        r = one.save(directory)
        assert r.returncode == 1 and f"{name}: is not a regular file" in r.stderr, r.stderr
        (directory / name).unlink()
        (tmp_path / "kept").rename(directory / name)
        assert content(directory) == before


def test_a_client_that_says_nothing(guest, tmp_path):
    """The next client is served eventually, and no snapshot is made for a client that has gone."""
    one = guest("one")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
        silent.connect(str(one.socket))
        r = one.save(tmp_path / "d")
        assert r.returncode == 0, r.stderr
        silent.settimeout(30)
        assert silent.recv(10) == b""
    # after a first word too
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
        silent.connect(str(one.socket))
        silent.send(b"last")
        assert silent.recv(100).startswith(b"last ")
        r = run(RIFFLE, "dump", "-s", one.socket, "-o", tmp_path / "core")
        assert r.returncode == 0, r.stderr


def test_many_clients_that_say_nothing(guest, tmp_path):
    """More than wait for a connection, and than are served at a time: whoever says something is served."""
    one = guest("one")
    silent = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(30)]
    for s in silent:
        s.settimeout(1)
        try:
            s.connect(str(one.socket))
        except OSError:
            break
    r = one.save(tmp_path / "d")
    assert r.returncode == 0, r.stderr
    r = run(RIFFLE, "dump", "-s", one.socket, "-o", tmp_path / "core")
    assert r.returncode == 0, r.stderr
    for s in silent:
        s.close()


def test_descriptors_that_would_not_hold_a_snapshot(guest, tmp_path):
    """Nothing is said to be saved into them."""
    one = guest("one")
    state, memory, other = (tmp_path / n for n in ("state", "memory", "other"))
    other.write_bytes(b"x")
    read, write = os.pipe()

    def ask(words, flags=(0, 0), paths=(state, memory), fds=None):
        mine = fds or [os.open(p, os.O_CREAT | (f & os.O_ACCMODE or os.O_RDWR) | (f & ~os.O_ACCMODE), 0o600)
                       for p, f in zip(paths, flags)]
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.settimeout(30)
            s.connect(str(one.socket))
            socket.send_fds(s, [words], mine)
            answer = s.recv(512).decode()
        for fd in set(mine) - {read, write}:
            os.close(fd)
        return answer

    same = os.open(state, os.O_RDWR | os.O_CREAT, 0o600)
    for answer, expected in (
            (ask(b"save all", flags=(0, os.O_APPEND)), "error memory file: is open for appending"),
            (ask(b"save all", flags=(os.O_APPEND, 0)), "error state file: is open for appending"),
            (ask(b"save all", flags=(0, os.O_WRONLY)), "error memory file: is not open for reading and writing"),
            (ask(b"save all", paths=(memory, memory)), "error memory file: is the state file too"),
            (ask(b"save all", fds=[same, same]), "error memory file: is the state file too"),
            (ask(b"save all", paths=(state, other)), "error memory file: is not empty"),
            (ask(b"save all", fds=[read, write]), "error state file: is not a regular file"),
            (ask(b"dump", paths=(memory,), flags=(os.O_APPEND,)), "error file: is open for appending"),
            (ask(b"dump", paths=(other,)), "error file: is not empty"),
            (ask(b"dump", fds=[write]), "error file: is not a regular file")):
        assert answer == expected
    assert state.stat().st_size == memory.stat().st_size == 0
    assert ask(b"save all").startswith("saved ")
    assert show(tmp_path)["uses"] == 0


def test_a_snapshot_that_others_can_change(snapshot):
    """Whoever wrote it chose which disks and sockets are opened."""
    for path in (snapshot, snapshot / "state", snapshot / "memory"):
        mode = path.stat().st_mode & 0o777
        path.chmod(mode | 0o020)
        r = run(RIFFLE, "resume", "--accept-emulation", snapshot)
        assert r.returncode == 1, path
        assert r.stderr == f"riffle: {path}: mode: lets its group or others change it (chmod go-w)\n", r.stderr
        path.chmod(mode)
        if os.geteuid() == 0:
            os.chown(path, 1234, -1)
            r = run(RIFFLE, "resume", "--accept-emulation", snapshot)
            assert r.returncode == 1 and r.stderr.startswith(f"riffle: {path}: owner: is neither root nor the user"), r.stderr
            os.chown(path, 0, -1)
    assert show(snapshot)["uses"] == 0
    assert resume(snapshot)[0]


@contextlib.contextmanager
def listening_as(uid, path, answer=b""):
    """Another user has the name of a socket, and answers its client once."""
    if os.geteuid():
        pytest.skip("being somebody else takes root")

    def serve(listener):
        with listener.accept()[0] as client:
            if answer:
                client.recv(100)
                client.send(answer)
            client.recv(100)

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.bind(str(path))
        os.seteuid(uid)     # who calls listen() is who the kernel says it is
        try:
            s.listen(8)
        finally:
            os.seteuid(0)
        threading.Thread(target=serve, args=(s,), daemon=True).start()
        yield


def test_a_socket_of_somebody_else(tmp_path):
    """Who listens gets the files, and whoever resumes them believes what they say."""
    path, directory = tmp_path / "s", tmp_path / "d"
    with listening_as(1234, path, b"last none"):
        r = run(RIFFLE, "snapshot", "-s", path, directory)
    assert r.returncode == 1, r.stderr
    assert r.stderr == f"riffle: {path}: socket: is served neither by root nor by this user (found 1234, expected 0)\n"
    assert not directory.exists()


def test_changes_under_another_name(guest, tmp_path):
    """A copy by hard links keeps what it has."""
    one = guest("one")
    assert one.save(tmp_path / "d").returncode == 0
    os.link(tmp_path / "d" / "memory", tmp_path / "copy")
    before = content(tmp_path / "d")
    r = one.save(tmp_path / "d", "--changed")
    assert r.returncode == 1 and "memory: has another name (a hard link)" in r.stderr, r.stderr
    assert content(tmp_path / "d") == before
    (tmp_path / "copy").unlink()
    assert one.save(tmp_path / "d", "--changed").returncode == 0


@pytest.mark.parametrize("left", [["state"], ["state", "memory"], ["state", "memory", "named"]])
def test_a_save_that_is_killed_as_its_files_get_their_names(snapshot, tmp_path, left):
    """The earlier snapshot is there for whoever comes next: a save that is killed as well, --show, resume."""
    whole = {name: (snapshot / name).stat().st_ino for name in ("state", "memory")}

    def leave():
        for name in ("state", "memory"):
            if name in left:
                (snapshot / name).rename(snapshot / f"{name}.new.old")
        if "named" in left:
            (snapshot / "memory").write_bytes(b"of the new one")
        (snapshot / "state.new.part").write_bytes(b"")

    leave()
    path = tmp_path / "guest"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen(1)
        process = subprocess.Popen([RIFFLE, "snapshot", "-s", path, snapshot], stderr=subprocess.DEVNULL)
        with listener.accept()[0] as client:
            client.recv(100)    # it has made its files, and waits for the guest
            process.kill()
            process.wait()
    assert {name: (snapshot / name).stat().st_ino for name in ("state", "memory")} == whole
    leave()
    assert show(snapshot)["uses"] == 0
    leave()
    assert resume(snapshot)[0]
    assert {name: (snapshot / name).stat().st_ino for name in ("state", "memory")} == whole
    assert not list(snapshot.glob("*.old"))


# ---- riffle-vmm


class Vmm:
    def __init__(self, directory, *options):
        self.path = directory / "api"
        self.path.unlink(missing_ok=True)
        self.process = subprocess.Popen([str(VMM), "--api-sock", str(self.path), "--accept-emulation", *options],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        while not self.path.exists():
            time.sleep(0.02)

    def ask(self, method, path, body=None):
        data = json.dumps(body).encode() if body is not None else b""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(30)
            s.connect(str(self.path))
            s.sendall(f"{method} {path} HTTP/1.1\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
            head, _, rest = s.recv(65536).decode().partition("\r\n\r\n")
        return int(head.split()[1]), json.loads(rest) if rest else None

    def end(self):
        self.process.kill()
        return self.process.communicate()[0]


def test_api(snapshot, tmp_path):
    def load(vmm, **more):
        return vmm.ask("PUT", "/snapshot/load", {"snapshot_path": str(snapshot / "state"), **more})

    file = {"mem_backend": {"backend_type": "File", "backend_path": str(snapshot / "memory")}}
    vmm = Vmm(tmp_path, "--one-time-snapshots")
    assert load(vmm, **file)[0] == 204
    assert vmm.ask("GET", "/")[1]["state"] == "Paused"
    assert vmm.ask("GET", "/machine-config")[1]["mem_size_mib"] == 128
    # what is saved of it is the same again: nothing ran
    create = {"snapshot_path": str(tmp_path / "state"), "mem_file_path": str(tmp_path / "memory")}
    assert vmm.ask("PUT", "/snapshot/create", create)[0] == 204
    assert (tmp_path / "memory").stat().st_size == 128 << 20
    assert vmm.ask("PUT", "/snapshot/create", {**create, "snapshot_type": "Diff"})[0] == 204
    assert vmm.ask("PATCH", "/vm", {"state": "Resumed"})[0] == 204
    assert vmm.ask("PUT", "/snapshot/create", create)[0] == 400
    vmm.end()
    subprocess.run(["cmp", "-n", str(0x9f000), tmp_path / "memory", snapshot / "memory"], check=True)
    # single use, if requested: the process ends with 1 after the response
    vmm = Vmm(tmp_path, "--one-time-snapshots")
    code, body = load(vmm, mem_file_path=str(snapshot / "memory"))
    assert code == 400 and "a guest was restored from this snapshot before" in body["fault_message"]
    assert vmm.process.wait(30) == 1
    # otherwise with a warning
    vmm = Vmm(tmp_path)
    assert load(vmm, **file, resume_vm=True)[0] == 204
    assert vmm.ask("GET", "/")[1]["state"] == "Running"
    assert "guests made of this snapshot before: 1." in vmm.end()
    # not after what a snapshot brings along
    vmm = Vmm(tmp_path)
    assert vmm.ask("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 128})[0] == 204
    code, body = load(vmm, **file)
    assert code == 400 and "not allowed after configuring" in body["fault_message"]
    assert vmm.process.poll() is None
    vmm.end()
