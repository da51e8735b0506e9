# SPDX-License-Identifier: Apache-2.0
"""
Stocks with racing and killed takers, full disks and damage, and riffle-vmm taking items. Without a running Linux, on
any /dev/kvm: what matters is who gets which item.
"""
import collections
import json
import mmap
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import pytest

from conftest import RIFFLE
from guests import LONG
from test_snapshot import (  # noqa: F401
    VMM, Vmm, fill, kvm, left_of, listening_as, prepared, resume, run, show, starts, status, stock, take)

TAKERS = 32
CHURN = int(os.environ.get("RIFFLE_CHURN_SECONDS", "3600"))
ARGUMENTS = "console=ttyS0 reboot=k"


def items(directory):
    return list((directory / "ready").iterdir())


@pytest.fixture
def tmpfs(tmp_path):
    """A file system of its own, which can be filled."""
    if os.geteuid():
        pytest.skip("mounting takes root")
    mounted = []

    def mount(size):
        path = tmp_path / f"tmpfs{len(mounted)}"
        path.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", path], check=False).returncode:
            pytest.skip("no tmpfs can be mounted here")
        mounted.append(path)
        return path

    yield mount
    for path in mounted:
        subprocess.run(["umount", "-l", path], check=True)


# ---- layouts


def text_of(memory):
    """The kernel's code in a memory file, which begins with the first 2 MiB that are not empty from 16 MiB on."""
    with open(memory, "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:
        start = next(at for at in range(16 << 20, len(m), 2 << 20) if any(m[at:at + 64]))
        return m[start:start + (16 << 20)]


def orders(files, windows=400, wanted=48):
    """
    The order of some pieces of kernel code in each memory file. The pieces hold no address, so that they are the same
    in each; those found exactly once in the first two files are used.
    """
    texts = [text_of(f) for f in files]
    first, found = texts[0], []
    pick = random.Random(1)
    for _ in range(windows):
        at = (4 << 20) + pick.randrange(8 << 20)
        piece = first[at:at + 40]
        if len(set(piece)) > 12 and first.find(piece) == at and first.find(piece, at + 1) < 0 and texts[1].find(piece) >= 0:
            found.append(piece)
        if len(found) == wanted:
            break
    assert len(found) == wanted, len(found)
    places = [[text.find(piece) for piece in found] for text in texts]
    # a piece across the end of a function may occur twice by chance, and not in all files
    everywhere = [i for i in range(wanted) if all(p[i] >= 0 for p in places)]
    assert len(everywhere) >= wanted / 2, len(everywhere)
    return [tuple(sorted(everywhere, key=p.__getitem__)) for p in places]


@pytest.mark.parametrize("count", [8, pytest.param(200, marks=pytest.mark.skipif(not LONG, reason="make check-long"))])
def test_layouts_are_pairwise_different(kvm, prepared, tmp_path, count):
    """Their ids, and the order of the functions that the memory shows."""
    directory = tmp_path / "stock"
    r = stock(directory, "--keep", count, "--once", "--", "--accept-emulation", "-m", "128M", prepared, timeout=1200)
    assert r.returncode == 0, r.stderr
    assert len({show(item)["layout_id"] for item in items(directory)}) == count
    assert len(set(orders([item / "memory" for item in items(directory)]))) == count
    shutil.rmtree(directory)


def test_mixed_kernels(kvm, fetch_kernel, prepared, tmp_path):
    """A stock per kernel, and one whose kernel changes meanwhile: every item is of the newest."""
    other = tmp_path / "other-kernel"
    assert run(RIFFLE, "prepare", fetch_kernel("cloud-6.12"), "-o", other, timeout=300).returncode == 0
    for name, kernel in (("one", prepared), ("other", other)):
        fill(tmp_path / name, 2, kernel)
    kernel = tmp_path / "kernel"
    shutil.copy(prepared, kernel)
    fill(tmp_path / "changing", 1, kernel)
    before = left_of(tmp_path / "changing")
    shutil.copy(other, tmp_path / "new")
    (tmp_path / "new").rename(kernel)
    fill(tmp_path / "changing", 1, kernel)
    after = left_of(tmp_path / "changing")
    assert len(after) == 1 and not set(before) & set(after)
    for name in ("one", "other", "changing"):
        assert take(tmp_path / name)[0]


# ---- disks


def test_taking_while_the_disk_is_full(kvm, prepared, tmpfs):
    """The guest's writes need no space there: it continues although the file could not grow."""
    disk = tmpfs("256M")
    directory = disk / "stock"
    fill(directory, 2, prepared)
    with open(disk / "filler", "wb") as filler:
        try:
            while True:
                filler.write(bytes(1 << 16))
                filler.flush()
        except OSError:
            pass
    process = subprocess.Popen([str(w) for w in (RIFFLE, "run", "--from-stock", directory, "--accept-emulation", "--boot-timer",
                                                 "--console", "none")], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    time.sleep(3)
    assert process.poll() is None, process.stderr.read()
    process.kill()
    assert b"first guest instruction" in process.communicate()[1]
    assert len(items(directory)) == 1


def test_making_while_the_disk_is_full(kvm, prepared, tmpfs):
    """No unfinished item becomes available, and one is made as soon as there is space."""
    disk = tmpfs("64M")
    directory = disk / "stock"
    filler = disk / "filler"
    filler.write_bytes(bytes(50 << 20))
    words = [RIFFLE, "stock", "--dir", directory, "--min-free", "0", "--keep", "1", "--", "--accept-emulation", "-m", "128M",
             prepared]
    with tempfile.TemporaryFile("w+") as err:
        daemon = subprocess.Popen([str(w) for w in words], stderr=err)

        def said():
            err.seek(0)
            return err.read()

        deadline = time.monotonic() + 60
        while "could not be made" not in said() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert "memory file: cannot be written: No space left on device" in said()
        assert items(directory) == []
        filler.unlink()
        while not items(directory) and time.monotonic() < deadline + 60:
            time.sleep(0.1)
        daemon.terminate()
        assert daemon.wait(30) == 0
    assert left_of(directory) and take(directory)[0]


# ---- racing and killed takers


class Churn:
    """Takers and a daemon, each killed at random; which items they had, by the id of the layout."""

    def __init__(self, directory, prepared, keep, seed):
        self.directory, self.prepared, self.keep = directory, prepared, keep
        self.random = random.Random(seed)
        self.lock, self.stop = threading.Lock(), threading.Event()
        self.seen, self.taken, self.killed, self.number = collections.Counter(), 0, 0, 0
        self.daemon = None
        self.start_daemon()

    def start_daemon(self):
        words = [RIFFLE, "stock", "--dir", self.directory, "--keep", self.keep, "--", "--accept-emulation", "-m", "128M",
                 self.prepared]
        self.daemon = subprocess.Popen([str(w) for w in words], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def take(self):
        with self.lock:
            self.number += 1
            to = self.directory.parent / f"to-{self.number}"
            seconds = self.random.choice([None, self.random.uniform(0, 0.1)])
        process = subprocess.Popen([str(w) for w in (RIFFLE, "stock", "--dir", self.directory, "--take", to)],
                                   stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if seconds is not None:
            time.sleep(seconds)
            process.kill()
        code = process.wait(60)
        if (to / "state").exists():
            with self.lock:
                self.seen[show(to)["layout_id"]] += 1
                self.taken += 1
        assert code or (to / "memory").exists()
        self.killed += code == -signal.SIGKILL
        shutil.rmtree(to, ignore_errors=True)
        if code == 1:
            time.sleep(0.2)     # it is empty

    def run_taker(self):
        while not self.stop.is_set():
            self.take()

    def resident(self):
        with open(f"/proc/{self.daemon.pid}/status", encoding="ascii") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.daemon.pid}/fd"))

    def run(self, seconds, kill_every):
        threads = [threading.Thread(target=self.run_taker) for _ in range(TAKERS)]
        for t in threads:
            t.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(min(self.random.uniform(0, 2 * kill_every), max(0, end - time.monotonic())))
            self.daemon.kill()
            self.daemon.wait()
            self.start_daemon()
        self.stop.set()
        for t in threads:
            t.join()


def churn(directory, prepared, seconds, kill_every, seed):
    """No item was used twice, and nothing is left but ready items."""
    c = Churn(directory, prepared, 16, seed)
    deadline = time.monotonic() + 60
    while not ((directory / "ready").exists() and items(directory)) and time.monotonic() < deadline:
        time.sleep(0.05)
    early = c.resident(), c.descriptors()
    c.run(seconds, kill_every)
    # at idle priority a busy host may take minutes for each
    ready, deadline = 0, time.monotonic() + 300
    while ready < 16 and time.monotonic() < deadline:
        before, ready = ready, status(directory)["ready"]
        deadline = time.monotonic() + 300 if ready > before else deadline
        time.sleep(0.1)
    late = c.resident(), c.descriptors()
    assert max(c.seen.values(), default=0) == 1, c.seen.most_common(3)
    assert status(directory)["ready"] == 16
    assert late[1] <= early[1] + 2 and late[0] <= early[0] + 2048, (early, late)
    c.daemon.terminate()
    assert c.daemon.wait(30) == 0
    names = left_of(directory)
    assert len(names) == 16 and all((directory / "ready" / n / "state").exists() for n in names)
    assert list((directory / "making").iterdir()) == []
    return c


def test_takers_and_daemon_that_are_killed(kvm, prepared, tmp_path):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    c = churn(tmp_path / "stock", prepared, 10, 2, seed)
    assert c.taken and c.killed, (c.taken, c.killed)
    shutil.rmtree(tmp_path / "stock")


@pytest.mark.skipif(not LONG, reason="make check-long; RIFFLE_CHURN_SECONDS says how long")
def test_churn(kvm, prepared, tmpfs):
    """No file, memory or file system page of it is left."""
    disk = tmpfs("2G")
    seed = random.randrange(1 << 32)
    print("seed", seed)
    before = os.statvfs(disk).f_bfree
    c = churn(disk / "stock", prepared, CHURN, 10, seed)
    print(f"churn: {CHURN} s, {c.taken} items taken, {c.killed} takers killed, {status(disk / 'stock')['made']} made")
    shutil.rmtree(disk / "stock")
    assert before - os.statvfs(disk).f_bfree <= 16
    assert list(disk.iterdir()) == []


# ---- taken by name, and by riffle-vmm


def test_taken_by_name(kvm, prepared, tmp_path):
    """`--take` gives a single-use snapshot, for riffle and riffle-vmm."""
    fill(tmp_path / "stock", 2, prepared)
    r = stock(tmp_path / "stock", "--take", tmp_path / "to")
    assert r.returncode == 0, r.stderr
    assert sorted(p.name for p in (tmp_path / "to").iterdir()) == ["memory", "state"]
    assert status(tmp_path / "stock")["ready"] == 1 and status(tmp_path / "stock")["taken"] == 1
    assert resume(tmp_path / "to")[0] and not resume(tmp_path / "to")[0]
    r = stock(tmp_path / "stock", "--take", tmp_path / "to")
    assert r.returncode == 1 and r.stderr == f"riffle: {tmp_path}/to: --take: cannot be made: File exists\n"
    assert status(tmp_path / "stock")["ready"] == 1
    assert stock(tmp_path / "stock", "--take", tmp_path / "second").returncode == 0
    r = stock(tmp_path / "stock", "--take", tmp_path / "third")
    assert r.returncode == 1 and "stock: stock: is empty" in r.stderr and not (tmp_path / "third").exists()
    vmm = Vmm(tmp_path, "--one-time-snapshots")
    load = {"snapshot_path": str(tmp_path / "second/state"),
            "mem_backend": {"backend_type": "File", "backend_path": str(tmp_path / "second/memory")}, "resume_vm": True}
    assert vmm.ask("PUT", "/snapshot/load", load) == (204, None)
    vmm.end()


def machine(directory, kernel, **more):
    """A configuration file and its content."""
    disk = directory / "disk"
    disk.write_bytes(bytes(1 << 20))
    config = {"boot-source": {"kernel_image_path": str(kernel), "boot_args": ARGUMENTS},
              "machine-config": {"vcpu_count": 1, "mem_size_mib": 128},
              "drives": [{"drive_id": "d", "path_on_host": str(disk), "is_root_device": False}], **more}
    (directory / "machine.json").write_text(json.dumps(config))
    return directory / "machine.json"


def fill_with(directory, count, config):
    r = stock(directory, "--keep", count, "--once", "--machine", config, "--", "--accept-emulation", timeout=300)
    assert r.returncode == 0, r.stderr


class Started:
    """A riffle-vmm configured to start from a stock, with its own drive and metrics."""

    def __init__(self, tmp_path, kernel, directory, vcpus=1, arguments=ARGUMENTS, drives=1):
        (tmp_path / "vmm").mkdir(exist_ok=True)
        self.metrics = tmp_path / "vmm" / "metrics"
        self.metrics.unlink(missing_ok=True)
        self.vmm = Vmm(tmp_path / "vmm")
        ask = self.vmm.ask
        assert ask("PUT", "/metrics", {"metrics_path": str(self.metrics)})[0] == 204
        source = {"kernel_image_path": str(kernel), "boot_args": arguments, "stock": str(directory)}
        assert ask("PUT", "/boot-source", source)[0] == 204
        assert ask("GET", "/vm/config")[1]["boot-source"]["stock"] == str(directory)
        assert ask("PUT", "/machine-config", {"vcpu_count": vcpus, "mem_size_mib": 128})[0] == 204
        for i in range(drives):
            own = tmp_path / "vmm" / f"own{i}"
            own.write_bytes(bytes(3 << 20))     # of another size than the item's: no driver has seen that one
            assert ask("PUT", f"/drives/d{i}", {"drive_id": f"d{i}", "path_on_host": str(own), "is_root_device": False})[0] == 204
        self.code, self.body = ask("PUT", "/actions", {"action_type": "InstanceStart"})

    def end(self):
        """What it logged, and its group of metrics; None: it wrote none."""
        if self.code == 204:
            assert self.vmm.ask("GET", "/")[1]["state"] == "Running"
        log = self.vmm.end()
        lines = self.metrics.read_text().splitlines() if self.metrics.exists() else []
        return log, next((json.loads(line)["riffle"] for line in lines if '"riffle"' in line), None)


def test_riffle_vmm_takes_from_a_stock(kvm, prepared, tmp_path):
    """An item if there is one, with the configured drives; otherwise a fresh load; the metrics show which."""
    directory = tmp_path / "stock"
    fill_with(directory, 2, machine(tmp_path, prepared))
    damaged = items(directory)
    for item in damaged:
        state = item / "state"
        state.write_bytes(state.read_bytes()[:-8])
    fill_with(directory, 3, tmp_path / "machine.json")
    taken_first = [item for item in items(directory)]
    assert len(taken_first) == 3
    one = Started(tmp_path, prepared, directory)
    assert one.code == 204, one.body
    log, riffle = one.end()
    bad = status(directory)["bad"]
    assert riffle["origin"] == "stock" and riffle["stock_empty"] == 0 and riffle["stock_bad_items"] == bad
    drawn = {key: riffle[key] for key in ("mode", "virtual_bits", "physical_bits", "chunks")}
    assert drawn["mode"] == "fgkaslr+slide" and drawn["virtual_bits"] > 5 and drawn["physical_bits"] > 4 and drawn["chunks"] > 1000
    assert log.count("An item of the stock is thrown away") == bad <= 2
    while status(directory)["ready"]:
        shutil.rmtree(items(directory)[0])
    one = Started(tmp_path, prepared, directory)
    assert one.code == 204, one.body
    log, riffle = one.end()
    assert {key: riffle[key] for key in drawn} == drawn
    assert riffle["origin"] == "fresh" and riffle["stock_empty"] == 1 and riffle["shared_layout_restores"] == 0
    assert "The stock is empty: the kernel is loaded afresh." in log


@pytest.mark.parametrize("what,message", [
    ({"vcpus": 2}, "vcpu_count: the stock's item is of another machine than was configured (found 1, expected 2)"),
    ({"arguments": "quiet"}, "boot_args: the stock's item has another kernel command line than was configured"),
    ({"drives": 2}, "drives: the stock's item is of another machine than was configured (found 1, expected 2)"),
])
def test_items_of_another_machine(kvm, prepared, tmp_path, what, message):
    """The start fails instead of giving the wrong machine, and can be repeated after a correction. The item stays."""
    directory = tmp_path / "stock"
    fill_with(directory, 1, machine(tmp_path, prepared))
    one = Started(tmp_path, prepared, directory, **what)
    assert one.code == 400 and message in one.body["fault_message"], one.body
    assert status(directory)["ready"] == 1      # it is left for whom it suits
    assert one.vmm.ask("PUT", "/boot-source", {"kernel_image_path": str(prepared)})[0] == 204
    assert one.vmm.ask("PUT", "/actions", {"action_type": "InstanceStart"})[0] == 204
    one.end()


def test_no_such_stock(kvm, prepared, tmp_path):
    one = Started(tmp_path, prepared, tmp_path / "none")
    assert one.code == 400 and f"{tmp_path}/none: stock: cannot be opened: No such file" in one.body["fault_message"]
    one.end()


def test_a_shared_layout_is_told_in_the_metrics(kvm, prepared, tmp_path):
    fill(tmp_path / "stock", 1, prepared)
    assert stock(tmp_path / "stock", "--take", tmp_path / "to").returncode == 0
    (tmp_path / "vmm").mkdir()
    for shared in (0, 1):
        metrics = tmp_path / f"metrics{shared}"
        vmm = Vmm(tmp_path / "vmm")
        assert vmm.ask("PUT", "/metrics", {"metrics_path": str(metrics)})[0] == 204
        load = {"snapshot_path": str(tmp_path / "to/state"), "mem_file_path": str(tmp_path / "to/memory"), "resume_vm": True}
        assert vmm.ask("PUT", "/snapshot/load", load)[0] == 204
        assert vmm.ask("PUT", "/actions", {"action_type": "FlushMetrics"})[0] == 204
        vmm.end()
        riffle = next(json.loads(line)["riffle"] for line in metrics.read_text().splitlines() if '"riffle"' in line)
        assert riffle["origin"] == "snapshot" and riffle["shared_layout_restores"] == shared


def test_the_machine_that_a_file_names(kvm, prepared, tmp_path):
    """Items of a kernel named by a configuration file are removed when that kernel changes."""
    kernel = tmp_path / "kernel"
    shutil.copy(prepared, kernel)
    directory = tmp_path / "stock"
    config = machine(tmp_path, kernel)
    fill_with(directory, 1, config)
    before = left_of(directory)
    os.utime(kernel, (1, 1))
    fill_with(directory, 1, config)
    assert len(left_of(directory)) == 1 and before != left_of(directory)


# ---- what a stock is trusted with


@pytest.fixture(scope="module")
def one_item(kvm, prepared, tmp_path_factory):
    directory = tmp_path_factory.mktemp("one") / "stock"
    fill(directory, 1, prepared)
    return directory


@pytest.fixture
def copies(one_item, tmp_path):
    """A function that makes a stock of so many copies of one item: what counts is what becomes of each."""
    def make(count, name="stock"):
        directory = tmp_path / name
        shutil.copytree(one_item, directory, ignore=shutil.ignore_patterns("ready"))
        (directory / "ready").mkdir(mode=0o700)
        item, = items(one_item)
        for i in range(count):
            subprocess.run(["cp", "-r", "--sparse=always", item, directory / "ready" / f"{item.name[:16]}-{i:016x}"], check=True)
        return directory

    return make


def as_is(prepared):
    """The words that the copies' key is of."""
    return "--", "--accept-emulation", "-m", "128M", prepared


def foreign(path):
    os.chown(path, 1234, -1)


BREACHES = {f"mode {mode:o}": (lambda path, mode=mode: path.chmod(mode)) for mode in (0o720, 0o702)}
BREACHES["owner"] = foreign


@pytest.mark.parametrize("breach", BREACHES)
def test_a_stock_that_others_can_change(copies, prepared, breach):
    """Its directories are refused, and its items are as if they were not there."""
    if breach == "owner" and os.geteuid():
        pytest.skip("giving files away takes root")
    spoil = BREACHES[breach]
    message = "is neither root nor the user that runs this" if breach == "owner" else "lets its group or others change it"
    for i, path in enumerate((".", "ready", "ready/*", "ready/*/state", "ready/*/memory")):
        directory = copies(1, f"stock{i}")
        target, = directory.glob(path) if path != "." else [directory]
        spoil(target)
        good, said = take(directory)
        assert not good, path
        assert (message if i < 2 else "stock: is empty") in said, said
        r = stock(directory, "--take", directory.parent / "to")
        assert r.returncode == 1 and (message if i < 2 else "stock: is empty") in r.stderr, r.stderr
        assert not (directory.parent / "to").exists() and len(items(directory)) == 1
        if i < 2:
            r = stock(directory, "--keep", 1, "--once", *as_is(prepared))
            assert r.returncode == 1 and message in r.stderr, r.stderr
        else:
            assert status(directory)["ready"] == 0
        assert len(list((directory / "ready").glob("*/memory"))) == 1


def test_links_in_a_stock(copies, prepared, tmp_path):
    """What they lead to is neither taken nor removed."""
    directory = copies(1)
    item, = items(directory)
    key = item.name[:16]
    elsewhere = tmp_path / "elsewhere"
    item.rename(elsewhere)
    item.symlink_to(elsewhere)
    for at in ("making", "ready"):
        (directory / at / f"{key}-{'a' * 16}").symlink_to(elsewhere)
        (directory / at / f"{'b' * 16}-{'a' * 16}").symlink_to(elsewhere)
        (directory / at / "notes").mkdir()
        (directory / at / "notes" / "state").write_text("somebody's own")
    assert status(directory)["ready"] == 0
    assert "stock: is empty" in take(directory)[1]
    fill(directory, 1, prepared)
    assert sorted(p.name for p in elsewhere.iterdir()) == ["memory", "state"]
    assert all((directory / at / "notes" / "state").exists() for at in ("making", "ready"))
    assert status(directory)["ready"] == 1
    # an item's file, and the lists themselves
    directory = copies(1, "second")
    item, = items(directory)
    (item / "state").rename(tmp_path / "state")
    (item / "state").symlink_to(tmp_path / "state")
    assert "stock: is empty" in take(directory)[1]
    for at in ("making", "ready"):
        shutil.rmtree(directory / at)
        (tmp_path / at).mkdir()
        (tmp_path / at / item.name).mkdir()
        (tmp_path / at / item.name / "state").write_text("x")
        (directory / at).symlink_to(tmp_path / at)
        r = stock(directory, "--keep", 1, "--once", *as_is(prepared))
        assert r.returncode == 1 and f"{at}: is not a directory" in r.stderr, r.stderr
        assert (tmp_path / at / item.name / "state").exists()
        (directory / at).unlink()


def spoil_memory(item):
    os.truncate(item / "memory", 4096)


def spoil_bit(item):
    state = bytearray((item / "state").read_bytes())
    state[500] ^= 1
    (item / "state").write_bytes(state)


BROKEN = {
    "no memory": lambda item: (item / "memory").unlink(),
    "empty": lambda item: os.truncate(item / "state", 0),
    "cut": lambda item: os.truncate(item / "state", 1000),
    "bit": spoil_bit,
    "memory cut": spoil_memory,
    "fifo": lambda item: ((item / "memory").unlink(), os.mkfifo(item / "memory")),
}


def test_broken_items_are_not_ready(copies, prepared):
    """They are not counted, not given by name, and made again."""
    directory = copies(len(BROKEN))
    for spoil, item in zip(BROKEN.values(), sorted(items(directory))):
        spoil(item)
    assert status(directory)["ready"] == 0
    r = stock(directory, "--take", directory.parent / "to")
    assert r.returncode == 1 and "stock: is empty" in r.stderr
    fill(directory, 1, prepared)
    assert len(items(directory)) == 1 and status(directory)["ready"] == 1


def truncate_all(directory):
    for item in items(directory):
        os.truncate(item / "state", 1000)


def test_a_stock_of_bad_items_is_given_up(copies, prepared):
    """After some of them, as if it were empty; they are not all used up."""
    directory = copies(12)
    truncate_all(directory)
    good, said = take(directory, prepared)
    assert good and said.count("is thrown away") == 8, said
    assert "the stock has no item that is whole: the kernel is loaded afresh" in said
    assert len(items(directory)) == 4 and status(directory)["bad"] == 8
    good, said = take(directory)
    assert good is False and said.count("is thrown away") == 4, said


def test_a_host_that_cannot_run_it(copies):
    """Its attempts do not use items up."""
    directory = copies(1)
    good, said = starts(RIFFLE, "run", "--from-stock", directory, "--boot-timer", "--console", "none")
    if good:
        pytest.skip("this KVM does not only emulate")
    assert "emulat" in said and str(directory) not in said, said
    assert status(directory)["ready"] == 1
    assert take(directory)[0]


class Server:
    """A stock's socket, with which something is wrong."""

    def __init__(self, path, serve):
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(path))
        self.listener.listen(8)
        self.clients, self.serve = [], serve
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            self.clients.append(client)
            self.serve(client)

    def end(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for client in self.clients:
            client.close()


def test_bad_daemons(copies, prepared, tmp_path):
    """One that has bad items without end, one that never answers, one that gives something else than files."""
    directory = copies(1)
    truncate_all(directory)
    item, = items(directory)
    fds = [os.open(item / name, os.O_RDWR) for name in ("state", "memory")]
    path = tmp_path / "bad"
    server = Server(path, lambda client: socket.send_fds(client, [b"1"], fds))
    good, said = take(f"unix:{path}", prepared)
    server.end()
    assert good and said.count("is thrown away") == 8, said
    for name, serve, message in (
            ("silent", lambda client: None, "stock: its daemon does not answer: Connection timed out"),
            ("gone", lambda client: client.close(), "stock: its daemon does not answer: Connection reset by peer"),
            ("pipes", lambda client: socket.send_fds(client, [b"1"], list(os.pipe())),
             "stock: its daemon gave something else than two files of its user")):
        server = Server(tmp_path / name, serve)
        r = run(RIFFLE, "run", "--from-stock", f"unix:{tmp_path / name}", "--accept-emulation", "--console", "none", prepared)
        server.end()
        assert r.returncode == 1 and r.stderr == f"riffle: unix:{tmp_path / name}: {message}\n", r.stderr


def test_a_daemon_of_somebody_else(kvm, prepared, tmp_path):
    path = tmp_path / "s"
    with listening_as(1234, path):
        r = run(RIFFLE, "run", "--from-stock", f"unix:{path}", "--accept-emulation", "--console", "none", prepared)
    assert r.returncode == 1, r.stderr
    assert r.stderr == f"riffle: unix:{path}: stock: is served neither by root nor by this user (found 1234, expected 0)\n"


def test_what_is_no_file(copies, prepared):
    """Nobody waits for whoever might open the other end."""
    for name in ("key", "log", "taken", "lock"):
        directory = copies(1, f"stock-{name}")
        (directory / name).unlink(missing_ok=True)
        os.mkfifo(directory / name)
        r = stock(directory, "--keep", 1, "--once", *as_is(prepared))
        assert r.returncode == 1 and r.stderr == f"riffle: {directory}: {name}: is not a regular file\n", r.stderr
        good, said = take(directory)
        assert good == (name != "key"), said
        assert name != "key" or "key: is not a regular file" in said
        assert status(directory)["taken"] in (0, 1)


def test_places_that_are_the_stocks_own(copies, tmp_path):
    directory = copies(1)
    (directory / "ready" / "deep").mkdir()
    (tmp_path / "link").symlink_to(directory / "making")
    for to in (directory / "ready/x", directory / "making/x", directory / "ready/deep/x", tmp_path / "link/x", directory / "taken"):
        (directory / "taken").unlink(missing_ok=True)
        r = stock(directory, "--take", to)
        assert r.returncode == 1 and r.stderr == f"riffle: {to}: --take: is a place of the stock's own\n", r.stderr
        assert not to.exists() and status(directory)["ready"] == 1
    assert stock(directory, "--take", directory / "own").returncode == 0
    assert resume(directory / "own")[0]


# ---- what a stock is of


def test_what_is_missing_leaves_the_items(kvm, prepared, tmp_path):
    kernel = tmp_path / "kernel"
    shutil.copy(prepared, kernel)
    config = machine(tmp_path, kernel)
    directory = tmp_path / "stock"
    fill_with(directory, 1, config)
    before = left_of(directory)
    words = ["--keep", 1, "--machine", config, "--", "--accept-emulation"]
    for path, message in ((config, "--config: cannot be examined: No such file or directory"),
                          (kernel, "kernel: cannot be examined: No such file or directory")):
        path.rename(tmp_path / "away")
        r = stock(directory, "--once", *words)
        assert r.returncode == 1 and r.stderr == f"riffle: {path}: {message}\n", r.stderr
        assert left_of(directory) == before and status(directory)["ready"] == 1
        with tempfile.TemporaryFile("w+") as err:
            daemon = subprocess.Popen([str(w) for w in (RIFFLE, "stock", "--dir", directory, *words)], stderr=err)
            deadline = time.monotonic() + 60
            said = ""
            while "items are kept" not in said and time.monotonic() < deadline:
                time.sleep(0.1)
                err.seek(0)
                said = err.read()
            daemon.terminate()
            assert daemon.wait(30) == 0
        assert said == (f"riffle: {path}: {message}\n"
                        f"riffle: {directory}: items are kept, and none are made until that is there\n"), said
        assert left_of(directory) == before
        (tmp_path / "away").rename(path)
    text = config.read_text()
    config.write_text(text[:-2])
    r = stock(directory, "--once", *words)
    assert r.returncode == 1 and f"riffle: {config}: --config: is not valid JSON" in r.stderr, r.stderr
    assert left_of(directory) == before
    shutil.rmtree(directory / "making")
    assert take(directory)[0]


def change_kernel(tmp_path):
    os.utime(tmp_path / "kernel", (1, 1))


def change_file(tmp_path):
    (tmp_path / "initrd").write_bytes(b"another initrd")


def change_directory(tmp_path):
    path = tmp_path / "root" / "etc" / "file"
    before = path.stat()
    path.write_text("other text")   # as long as it was, and as old
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def change_cpu(tmp_path):
    (tmp_path / "cpu.json").write_text('{"kvm_capabilities": []}\n')


def change_disk(tmp_path):
    os.truncate(tmp_path / "disk", 2 << 20)


NAMED = {
    "--initrd=": (["--initrd=initrd", "kernel"], change_file),
    "-iF": (["-iinitrd", "kernel"], change_file),
    "--initrd F": (["--init", "initrd", "kernel"], change_file),
    "-i DIR": (["-i", "root", "kernel"], change_directory),
    "--config=": (["--config=machine.json"], change_kernel),
    "cpu-config": (["--config", "machine.json"], change_cpu),
    "--disk=": (["--disk=disk,raw", "kernel"], change_disk),
}


@pytest.mark.parametrize("how", NAMED)
def test_a_file_that_changes(kvm, prepared, tmp_path, how):
    """However it is named; and not when nothing has changed, or a guest has written to its disk."""
    words, change = NAMED[how]
    (tmp_path / "kernel").symlink_to(prepared)
    if change is change_kernel:
        (tmp_path / "kernel").unlink()
        shutil.copy(prepared, tmp_path / "kernel")
    (tmp_path / "initrd").write_bytes(b"an initrd")
    (tmp_path / "root" / "etc").mkdir(parents=True)
    (tmp_path / "root" / "etc" / "file").write_text("first text")
    (tmp_path / "cpu.json").write_text("{}")
    machine(tmp_path, "kernel", **{"cpu-config": "cpu.json"})
    directory = tmp_path / "stock"

    def fill_here():
        r = subprocess.run([str(w) for w in (RIFFLE, "stock", "--dir", directory, "--keep", "1", "--once", "--", "--accept-emulation",
                                             *(["-m", "128M"] if "config" not in how else []), *words)],
                           cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False)
        assert r.returncode == 0, r.stderr
        return left_of(directory)

    before = fill_here()
    os.utime(tmp_path / "disk", (1, 1))
    assert fill_here() == before
    change(tmp_path)
    after = fill_here()
    assert len(after) == 1 and after != before


def test_huge_pages_that_the_host_has_not(kvm, prepared, tmp_path):
    """The message says where they come from."""
    machine(tmp_path, prepared)
    config = json.loads((tmp_path / "machine.json").read_text())
    pool = int(open("/proc/sys/vm/nr_hugepages", encoding="ascii").read())
    config["machine-config"] = {"vcpu_count": 1, "mem_size_mib": 2 * pool + 1024, "huge_pages": "2M"}
    (tmp_path / "machine.json").write_text(json.dumps(config))
    message = "huge_pages: 2M: the host's pool (/proc/sys/vm/nr_hugepages) has too few free pages"
    r = run(RIFFLE, "run", "--accept-emulation", "--config", tmp_path / "machine.json")
    assert r.returncode == 1 and message in r.stderr, r.stderr
    r = stock(tmp_path / "stock", "--keep", 1, "--once", "--machine", tmp_path / "machine.json", "--", "--accept-emulation")
    assert r.returncode == 1 and message in r.stderr, r.stderr


@pytest.mark.parametrize("limit,message", [
    (["--min-free", "400G"], "the file system has less than --min-free left for another (found 1, expected 2)"),
    (["--max-bytes", "2M"], "another would exceed --max-bytes (found 1, expected 2)"),
])
def test_no_room_for_enough(copies, prepared, limit, message):
    """To fill the stock once is not to wait until there is room."""
    directory = copies(1)
    r = stock(directory, "--keep", 2, "--once", *limit, *as_is(prepared))
    assert r.returncode == 1 and r.stderr == f"riffle: {directory}: items: {message}\n", r.stderr
    assert status(directory)["ready"] == 1


@pytest.mark.parametrize("words,message", [
    (["--keep", "0", "--", "k"], "riffle stock: --keep must be 1 to 100000 (found '0'); riffle stock --help shows more"),
    (["--keep", "1", "--max-bytes", "x", "--", "k"], "riffle stock: --max-bytes must be a size, as 512M (found 'x'); riffle stock --help shows more"),
    (["--keep", "1"], "riffle stock: what to run is missing after -- (found ''); riffle stock --help shows more"),
    (["--keep", "1", "--once", "--", "/no/kernel"],
     "riffle: /no/kernel: kernel: cannot be examined: No such file or directory"),
    (["--keep", "1", "--once", "--", "--memry", "1G", "k"], "riffle run: '--memry' is no option or lacks its argument; perhaps --memory is meant; riffle run --help shows more"),
    (["--keep", "1", "--once", "--", "k", "--", "true"],
     "riffle stock: a guest that runs a command cannot be saved, so there is no stock of it (found '--'); riffle stock --help shows more"),
])
def test_what_is_wrong_is_said(tmp_path, words, message):
    r = stock(tmp_path / "stock", *words)
    assert r.returncode in (1, 2)
    assert r.stderr.splitlines()[0] == message.replace("DIR", str(tmp_path / "stock")), r.stderr


# ---- a kernel whose sections slide, by a configuration file


def test_a_configuration_asks_for_slides(kvm, prepared, tmp_path):
    layout, log = tmp_path / "layout.json", tmp_path / "log"
    boot = {"kernel_image_path": str(prepared), "randomize": "kaslr+slide", "layout_out": str(layout)}
    (tmp_path / "vm.json").write_text(json.dumps({"drives": [], "boot-source": boot}))
    with log.open("w") as out, subprocess.Popen([VMM, "--no-api", "--accept-emulation", "--config-file", tmp_path / "vm.json"],
                                                stdin=subprocess.DEVNULL, stdout=out, stderr=out) as vmm:
        while "Successfully started" not in log.read_text():
            assert vmm.poll() is None, log.read_text()
            time.sleep(0.05)
        vmm.kill()
    told = json.loads(layout.read_text())
    assert told["mode"] == "kaslr+slide" and len(told["slides"]) > 3 and "bits" in log.read_text()
    link, slid = zip(*told["slides"])
    assert slid[0] == 0 and list(slid) == sorted(slid) and slid[-1] > 0, told["slides"]
    assert list(link) == sorted(link)
