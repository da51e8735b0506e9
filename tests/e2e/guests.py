# SPDX-License-Identifier: Apache-2.0
"""
Linux guests for the end-to-end tests: described first, then booted several per box, with at most two boxes at once.
Long tests use one box, because their guests are busy, and print a line when a guest ends.
"""
import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import json
import os
import re
import shlex
import subprocess
import threading
import time
import warnings

from conftest import RIFFLE, ROOT, tell

LONG = bool(os.environ.get("RIFFLE_LONG"))
# with several workers each gets its share of the processors: one box
ALONE = "PYTEST_XDIST_WORKER" not in os.environ
LINK_VIRTUAL = 0xFFFFFFFF81000000
# __PAGE_OFFSET_BASE_L4 and __VMALLOC_BASE_L4: where the direct map and vmalloc are if not randomised
MEMORY_BASES = (0xFFFF888000000000, 0xFFFFC90000000000)

# Without AVX: with it, the box's processor (QEMU's emulated EPYC) reports a wrong XSAVE size to guests of its KVM,
# about which Linux warns, also under QEMU's own -accel kvm.
BOX = [str(ROOT / "tools" / "kvmbox")]


@functools.cache
def hardware_kvm():
    """Whether Linux guests run on this host's own /dev/kvm, without a box."""
    return subprocess.run([RIFFLE, "doctor"], capture_output=True, check=False).returncode == 0


def in_box(command, mem=2048, timeout=900, **kwargs):
    """
    Runs a command where /dev/kvm virtualises: here, or in tools/kvmbox. It may name files below /tmp. The time limit is
    only for hangs: a busy machine with 2 cores, running boxes and tests in parallel, has taken eight times as long as
    an idle one.
    """
    command = [str(c) for c in command]
    box = [] if hardware_kvm() else [*BOX, "--mem", str(mem), "--timeout", str(timeout)]
    kwargs.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run(box + command, capture_output=True, timeout=timeout + 30, check=False, **kwargs)


@dataclasses.dataclass
class Guest:
    """One `riffle run` of a Linux, and afterwards its results."""

    kernel: str
    options: tuple = ()
    do: str = "panic"               # what its init does: a panic makes the kernel print its offset
    append: str = ""
    memory: int = 256               # MiB
    cpus: int = 1
    layout: dict = None             # to be replayed
    seconds: int = 300

    code: int = None
    out: str = ""                   # the console
    err: str = ""
    told: dict = None               # the layout file

    def command(self, directory, name, initrd):
        options = ["-m", f"{self.memory}M", "-c", str(self.cpus), "-i", str(initrd), "--append",
                   " ".join(["quiet", *self.append.split(), f"riffle.do={self.do}"]), *map(str, self.options)]
        if "--boot=bootstrap" not in self.options:
            options += ["--layout-out", str(directory / f"{name}.layout")]
        if self.layout:
            (directory / f"{name}.replay").write_text(json.dumps(self.layout))
            options += ["--layout", str(directory / f"{name}.replay")]
        return shlex.join(["timeout", "-k", "5", str(self.seconds), str(RIFFLE), "run", *options, str(self.kernel)])

    def collect(self, directory, name):
        def read(suffix):
            path = directory / f"{name}.{suffix}"
            return path.read_text(errors="replace").replace("\r", "") if path.exists() else ""

        self.out, self.err = read("out"), read("err")
        self.code = int(read("code") or -1)
        self.told = json.loads(read("layout") or "null")

    # ---- what the guest printed

    def fact(self, key):
        found = re.search(rf"^guest: {key}=(.*)$", self.out, re.M)
        assert found, f"the guest does not tell its {key}:\n{self.everything()}"
        return found.group(1)

    @property
    def ended(self):
        """Whether it ended as expected from init's last action."""
        return self.code == {"reboot": 3, "panic": 7}.get(self.do.rpartition(",")[2], 0)

    @property
    def reached(self):
        return "guest: INIT REACHED" in self.out

    @property
    def text(self):
        return int(self.fact("_text"), 16)

    @property
    def physical(self):
        return int(self.fact("kernel_code").split("-")[0], 16)

    @property
    def sections(self):
        """How far read-only data, data and .bss begin from the base."""
        return tuple(int(self.fact(f"kernel_{name}").split("-")[0], 16) - self.physical for name in ("rodata", "data", "bss"))

    @property
    def page_offset(self):
        return int(self.fact("page_offset_base"), 16)

    @property
    def memory_bases(self):
        """
        Where the direct map and vmalloc begin, which the kernel randomises itself. The former alone equals its default,
        or another guest's, once in several thousand boots.
        """
        return self.page_offset, int(self.fact("vmalloc_base"), 16)

    @property
    def offset(self):
        """The panic's Kernel Offset: a number, or "disabled"."""
        found = re.search(r"Kernel Offset: (disabled|0x[0-9a-f]+)", self.out)
        assert found, self.everything()
        return found.group(1) if found.group(1) == "disabled" else int(found.group(1), 16)

    @property
    def order_is_closed(self):
        """Whether the order of functions is for root alone, as /proc/kallsyms shows it: no init of these guests cares."""
        facts = self.fact("kallsyms_mode"), self.fact("kallsyms_user")
        assert facts in (("0400", "13"), ("0444", "0")), facts      # EACCES
        return facts[0] == "0400"

    def base(self, which):
        """A base of the layout file."""
        return int(self.told[which], 16)

    def everything(self):
        return f"exit code {self.code}\n{self.err[-3000:]}\n{self.out[-6000:]}"


@contextlib.contextmanager
def telling(directory, guests):
    """In a long run, prints a line on the terminal for each guest that ends."""
    over = threading.Event()

    def watch():
        begun, left = time.monotonic(), dict.fromkeys(guests)
        while left and not over.wait(1):
            for name in [n for n in left if (directory / f"{n}.code").exists()]:
                del left[name]
                tell(f"{directory.name}: guest {name} ended, {len(left)} of {len(guests)} to come, "
                     f"{time.monotonic() - begun:.0f} s")

    thread = threading.Thread(target=watch)
    if LONG:
        thread.start()
    try:
        yield
    finally:
        over.set()
    if thread.ident:
        thread.join()


def stopped(path):
    """Whether a guest has no exit code, or that of its time limit."""
    return not path.exists() or path.read_text().strip() in ("", "124", "137")


def run_guests(guests, initrd, directory):
    """
    Boots guests, given by name, one after another; in one box if there is no hardware KVM. Each guest has its own time
    limit, and the box one for all of them. About once per hundred boots, QEMU's emulated machine lost a timer interrupt
    and slept forever, until tools/box/host.c woke it every second. If it hangs nevertheless, the remaining guests get a
    second box, with a warning. A guest that hangs twice fails.
    """
    directory.mkdir(parents=True)
    mem = max([2048] + [g.memory + 1536 for g in guests.values()])
    left = dict(guests)
    for again in (False,) if hardware_kvm() else (True, False):
        # the console goes through the box's own /tmp, because each write to the shared directory is slow
        script = ["set -u", f"d={shlex.quote(str(directory))}", "o=$(mktemp)", 'export XDG_CACHE_HOME="$d"']
        # and a kernel that many guests boot is read through that directory once
        times = collections.Counter(str(guest.kernel) for guest in left.values())
        copies = {kernel: f"/tmp/kernel-{n}" for n, kernel in enumerate(times) if times[kernel] > 4 and not hardware_kvm()}
        script += [f"cp {shlex.quote(kernel)} {copy}" for kernel, copy in copies.items()]
        for name, guest in left.items():
            copied = dataclasses.replace(guest, kernel=copies.get(str(guest.kernel), guest.kernel))
            script += [f'{copied.command(directory, name, initrd)} </dev/null >"$o" 2>"$d/{name}.err"',
                       f'c=$?; cp "$o" "$d/{name}.out"; echo $c >"$d/{name}.code"']
        (directory / "script").write_text("\n".join([*script, 'rm "$o"']) + "\n")
        with telling(directory, left):
            r = in_box(["sh", directory / "script", initrd, RIFFLE, *(g.kernel for g in left.values())], mem,
                       sum(g.seconds + 10 for g in left.values()) + 300)
        left = {name: guest for name, guest in left.items() if stopped(directory / f"{name}.code")}
        if not left or not again:
            break
        warnings.warn(f"{directory.name}: the box ended with {r.returncode}, in it not: {', '.join(left)}: "
                      f"{r.stderr.decode(errors='replace').strip()[-500:]}")
        for name in left:
            (directory / f"{name}.layout").unlink(missing_ok=True)  # never written over
            (directory / f"{name}.code").unlink(missing_ok=True)
    for name, guest in guests.items():
        guest.collect(directory, name)
    assert r.returncode == 0, (r.returncode, r.stderr.decode(errors="replace"))


class Boots:
    """
    Boots groups of guests in the background, one group per box. A group is a function that makes its guests, by name;
    it is called when a test first needs one of them, or earlier by start().
    """

    def __init__(self, initrd, forms, directory):
        self.initrd, self.forms, self.directory = initrd, forms, directory
        self.pool = concurrent.futures.ThreadPoolExecutor(2 if ALONE and not LONG else 1)
        self.running = {}

    def start(self, make):
        if make not in self.running:
            self.running[make] = self.pool.submit(self.boot, make)
        return self.running[make]

    def boot(self, make):
        guests = make(self.forms)
        run_guests(guests, self.initrd, self.directory / make.__name__)
        return guests

    def guest(self, make, name):
        return self.start(make).result()[name]

    def close(self):
        self.pool.shutdown(cancel_futures=True)
