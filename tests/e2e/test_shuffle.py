# SPDX-License-Identifier: Apache-2.0
"""Stock kernels with shuffled functions and with sections that slide work as before, and report correct symbols and traces."""
import bisect
import collections
import pathlib
import re
import subprocess

import pytest
from conftest import ROOT
from guests import LINK_VIRTUAL, LONG, Boots, Guest

KERNELS = ["cloud-6.1", "cloud-6.12"] + (["generic-6.1"] if LONG else [])
# Debian's oldest and newest; a few guests each
OTHERS = ["cloud-5.10", "cloud-newest"]
# with slides alone; their debug packages are large, so their frames are only compared
GENERIC = ["generic-5.10", "generic-6.12", "generic-newest"]
SLID = KERNELS + OTHERS + GENERIC
SEEDS = 20
SLID_SEEDS = 2 * SEEDS      # alternately with a shuffle and without
A_BOX = 5       # guests in a box, one after another
WHOLE_MANY = (1, 11)    # the full set of exercises takes a guest minutes
QUICK = ["efault", "symbols", "bpf"]
WHAT = ["efault", "symbols", "bpf", "unload", "kprobes", "tracer", "tasks"]
MODULES = ("virtio_mmio,virtio_blk,virtio_net,virtio_balloon,overlay,dummy,veth,loop,nf_tables,nft_ct,nf_nat,xfs,vfat,"
           "nfs,isofs,bridge,vxlan,tun,dm_mod,cifs")
COMPILE = ["cc", "-std=c17", "-Wall", "-Wextra", "-Os", "-static", "-nostdlib", "-ffreestanding",
           "-fno-stack-protector", "-fno-pie", "-no-pie", "-fno-asynchronous-unwind-tables", "-Wl,--build-id=none", "-s"]
# Switching the tracer on and off takes half a minute on an emulated, shared processor. The guest's time limit ends a
# real stall.
PATIENT = "watchdog_thresh=60 rcupdate.rcu_cpu_stall_timeout=120"
long_only = pytest.mark.skipif(not LONG, reason="one of the long tests: RIFFLE_LONG is not set")
# Guests that work hard in an emulated processor take minutes, more where it is shared; test_boot.py and test_chunks.py
# boot shuffled kernels in every run.
pytestmark = long_only


def modules_of(kernel):
    """libcrc32c requests its algorithm by name when loaded; if that is a module, no dependency shows it."""
    directory = subprocess.run([ROOT / "tools" / "fetch-kernel", "--modules", kernel], capture_output=True, text=True,
                               check=True, timeout=900).stdout.strip()
    return ("crc32c_generic," if any(pathlib.Path(directory).glob("**/crc32c_generic.ko*")) else "") + MODULES


def do(*what):
    return ",".join([f"exec:/bin/{w}" for w in what] + ["panic"])


def make_guests(kernel):
    def guests(forms):
        prepared = forms.prepared(kernel)
        common = {"memory": 512, "seconds": 900, "append": PATIENT}
        return {
            "plain": Guest(prepared, ("--randomize=kaslr",), do=do(*WHAT), **common),
            "one": Guest(prepared, ("--randomize=fgkaslr",), do=do(*WHAT), **common),
            "four": Guest(prepared, ("--randomize=fgkaslr",), do=do(*QUICK), cpus=4, **common),
            "slid": Guest(prepared, ("--randomize=fgkaslr+slide",), do=do(*WHAT), **{**common, "append": f"{PATIENT} pti=on"}),
            "slid-bases": Guest(prepared, ("--randomize=kaslr+slide",), do=do(*WHAT), **common),
            "slid-four": Guest(prepared, ("--randomize=kaslr+slide",), do=do(*QUICK), cpus=4, **common),
        }
    guests.__name__ = kernel
    return guests


def make_many(kernel, first):
    """
    Twenty layouts, alternately on one CPU and on four, five per box. Four share the box's one CPU, and probes and the
    tracer stop each of them: only the first of those guests does that, and takes twice as long as with one.
    """
    def guests(forms):
        guests = {}
        for n in range(first, first + A_BOX):
            what = WHAT if n in WHOLE_MANY else QUICK + ["kprobes", "tracer"] if n == 0 else QUICK
            guests[str(n)] = Guest(forms.prepared(kernel), ("--randomize=fgkaslr",), do=do(*what), memory=512,
                                   seconds=900, append=PATIENT, cpus=1 if n % 2 else 4)
        return guests
    guests.__name__ = f"{kernel}-many-{first}"
    return guests


# of guests that only have to reach user space: memory, processors, command line
MACHINES = [(512, 1, ""), (256, 4, ""), (1200, 1, "pti=on"), (128, 1, ""), (5120, 2, "")]


def make_many_slid(kernel):
    """
    Layouts with slides, in one box: they prove what no exercise needs, and carry no modules. Beside them a guest without
    slides for each machine.
    """
    def guests(forms):
        prepared, guests = forms.prepared(kernel), {}
        modes = [("kaslr", f"plain-{n}", n) for n in range(len(MACHINES))]
        modes += [(("fgkaslr+slide", "kaslr+slide")[n % 2], f"slid-{n}", n) for n in range(SLID_SEEDS)]
        for mode, name, n in modes:
            memory, cpus, append = MACHINES[n % len(MACHINES)]
            guests[name] = Guest(prepared, (f"--randomize={mode}",), do=do("symbols"), memory=memory, cpus=cpus, seconds=600,
                                 append=f"{PATIENT} {append}")
        return guests
    guests.__name__ = f"{kernel}-layouts"
    return guests


GUESTS = {kernel: make_guests(kernel) for kernel in SLID}
MANY = {(kernel, first): make_many(kernel, first) for kernel in KERNELS for first in range(0, SEEDS, A_BOX)}
MANY_SLID = {kernel: make_many_slid(kernel) for kernel in SLID}


@pytest.fixture(scope="module")
def boots(forms, tmp_path_factory):
    """A function from a kernel and a guest's name to the guest; kernels in sequence, each with its modules."""
    directory = tmp_path_factory.mktemp("shuffle")
    exercise = directory / "exercise"
    subprocess.run([*COMPILE, "-o", exercise, ROOT / "tests" / "guest" / "exercise.c"], check=True)
    running = {}

    programs = [x for what in WHAT for x in ("--add", f"{exercise}:bin/{what}")]

    def begin(kernel, name, *modules):
        forms.fetch(kernel)
        (directory / name).mkdir()
        initrd = directory / name / "initrd"
        subprocess.run([ROOT / "tools" / "mkinitramfs", initrd, *programs, *modules], check=True, timeout=300)
        return Boots(initrd, forms, directory / name)

    def guest(kernel, name):
        layout = re.fullmatch(r"(plain|slid)-\d+", name)
        key = f"{kernel}-layouts" if layout else kernel
        if key not in running:
            running[key] = begin(kernel, key, *(() if layout else ("--modules", f"{kernel}:{modules_of(kernel)}")))
        if layout:
            make = MANY_SLID[kernel]
        else:
            make = MANY[kernel, int(name) // A_BOX * A_BOX] if name.isdigit() else GUESTS[kernel]
        return running[key].guest(make, name)

    yield guest
    for b in running.values():
        b.close()


SHUFFLED = [(kernel, name) for kernel in KERNELS for name in ("one", "four", *map(str, range(SEEDS)))]
SHUFFLED += [(kernel, name) for kernel in OTHERS for name in ("one", "four")]
SHUFFLED += [(kernel, name) for kernel in SLID for name in ("slid", "slid-bases", "slid-four")]
LAYOUTS = [(kernel, f"slid-{n}") for kernel in SLID for n in range(SLID_SEEDS)]
WHOLE = [(kernel, name) for kernel in KERNELS for name in ("one", *map(str, WHOLE_MANY))]
WHOLE += [(kernel, "one") for kernel in OTHERS]
WHOLE += [(kernel, name) for kernel in SLID for name in ("slid", "slid-bases")]
TRACED = WHOLE + [(kernel, "0") for kernel in KERNELS]
each_boot = pytest.mark.parametrize("kernel, name", SHUFFLED + LAYOUTS)
each_layout = pytest.mark.parametrize("kernel, name", LAYOUTS)
each_shuffled = pytest.mark.parametrize("kernel, name", SHUFFLED)
each_whole = pytest.mark.parametrize("kernel, name", WHOLE)
each_traced = pytest.mark.parametrize("kernel, name", TRACED)


def without_complaint(guest):
    """Also after init counted them; the panic at the end is intentional."""
    for sign in ("WARNING:", "BUG:", "Oops:", "general protection", "soft lockup", "rcu: INFO", "invalid opcode"):
        assert sign not in guest.out, guest.everything()


def said(guest, what):
    """The lines that one of the programs printed."""
    lines = re.findall(rf"^guest: {what} (.*)$", guest.out, re.M)
    assert lines, f"nothing of {what}:\n{guest.everything()}"
    return lines


def numbers(guest, what):
    """Its KEY=VALUE words."""
    return dict(word.split("=", 1) for line in said(guest, what) for word in line.split() if "=" in word)


def plain(name):
    """The guest that one is compared with: neither shuffled nor slid."""
    return f"plain-{int(name[5:]) % len(MACHINES)}" if re.fullmatch(r"slid-\d+", name) else "plain"


def is_shuffled(guest):
    return guest.told["mode"].startswith("fgkaslr")


# ---- checks for every boot


@each_boot
def test_reaches_user_space_without_a_complaint(boots, kernel, name):
    guest = boots(kernel, name)
    assert guest.ended and guest.reached and guest.fact("warnings") == "0", guest.everything()
    assert guest.fact("cpus") == str(guest.cpus)
    mode = guest.options[0].partition("=")[2]
    assert guest.told["mode"] == mode and f"randomize={mode}: " in guest.err
    assert is_shuffled(guest) == bool(re.search(r" \d+ chunks of functions in any order", guest.err))
    assert ("+slide" in mode) == (", slides of " in guest.err)
    without_complaint(guest)
    assert re.findall(r"^guest: exec (\S+) exit=(\S+)$", guest.out, re.M) == \
        [(w.split(":")[1], "0") for w in guest.do.split(",") if w.startswith("exec:")], guest.everything()


@each_boot
def test_lies_where_the_layout_says(boots, kernel, name):
    guest = boots(kernel, name)
    assert guest.text == guest.base("virtual_base")
    assert guest.physical == guest.base("physical_base")
    assert guest.offset == guest.base("virtual_base") - LINK_VIRTUAL
    if is_shuffled(guest):
        moved = sum(1 for _, _, shift in guest.told["chunks"] if shift)
        assert moved > 0.99 * len(guest.told["chunks"]) > 35_000
    if "+slide" in guest.told["mode"]:
        assert len({slide for _, slide in guest.told["slides"]}) >= 4  # a gap may be nought


@each_boot
def test_kallsyms_has_the_same_names_sorted(boots, kernel, name):
    other, guest = numbers(boots(kernel, plain(name)), "symbols"), numbers(boots(kernel, name), "symbols")
    assert int(guest["count"]) > 80_000 and guest["unsorted"] == other["unsorted"] == "0"
    assert (guest["count"], guest["sum"]) == (other["count"], other["sum"])
    assert (guest["order"] != other["order"]) == is_shuffled(boots(kernel, name))


@each_boot
def test_a_shuffle_and_nothing_else_closes_kallsyms(boots, kernel, name):
    assert boots(kernel, name).order_is_closed == is_shuffled(boots(kernel, name))
    assert not boots(kernel, plain(name)).order_is_closed


@each_layout
def test_gaps_come_back(boots, kernel, name):
    """
    The size of memory, which everybody may read, tells nothing of them. What the kernel keeps, of gaps that are a pair, is
    the same in each layout. With several processors boots without slides differ too, by a page or two, and in 7.3 replays of
    one layout with one processor do.

    In 6.12 and later the sizes of the file systems' hash tables depend on the memory that is free at the start, without the gaps: where
    that is near a power of two these may be half as large, and then MemTotal tells that, and nothing else.
    """
    cpus = MACHINES[int(name[5:]) % len(MACHINES)][1]
    guest, other = boots(kernel, name), boots(kernel, plain(name))
    layouts = [{key: value for key, value in g.told.items() if key != "chunks"} for g in (guest, other)]
    slides = [slide for _, slide in guest.told["slides"]]
    kept = slides[2] >> 10 if len(slides) == 7 else 0
    assert kept in (0, 2048)
    tables = [int(g.fact("early_hash_kib")) for g in (guest, other)]
    assert tables[0] in (tables[1], tables[1] // 2) and tables[1] > 0
    difference = int(guest.fact("memtotal_kib")) - int(other.fact("memtotal_kib")) + kept - (tables[1] - tables[0])
    assert abs(difference) <= (4 if cpus > 1 or kernel.endswith("newest") else 0), (layouts, tables)


@pytest.mark.parametrize("kernel", KERNELS)
def test_no_two_boots_have_one_order(boots, kernel):
    names = ["one", "four"] + ([str(n) for n in range(SEEDS)] if LONG else [])
    assert len({numbers(boots(kernel, name), "symbols")["order"] for name in names}) == len(names)


@each_shuffled
def test_faults_are_told_as_unshuffled(boots, kernel, name):
    assert said(boots(kernel, name), "efault") == said(boots(kernel, "plain"), "efault")
    assert int(numbers(boots(kernel, name), "efault")["faults"]) > 350


@each_shuffled
def test_bpf_program_runs(boots, kernel, name):
    assert numbers(boots(kernel, name), "bpf") == {"load": "0", "run": "0", "returned": "42"}


@each_whole
def test_modules_come_and_go(boots, kernel, name):
    guest = boots(kernel, name)
    assert not re.search(r"^guest: module .* errno=", guest.out, re.M), guest.everything()
    unload = numbers(guest, "unload")
    assert int(unload["loaded"]) >= 30 and unload == numbers(boots(kernel, "plain"), "unload")


@each_traced
def test_kprobes(boots, kernel, name):
    for guest in (boots(kernel, "plain"), boots(kernel, name)):
        told = numbers(guest, "kprobes")
        assert (told["enable"], told["disable"], told["remove"]) == ("0", "0", "0")
        assert int(told["set"]) >= 180 and int(told["hit"]) >= 4 and int(told["hits"]) > 200, told


@each_traced
def test_function_tracer(boots, kernel, name):
    guest = numbers(boots(kernel, name), "tracer")
    assert guest == numbers(boots(kernel, "plain"), "tracer")
    assert (guest["on"], guest["off"], guest["recorded"], guest["left"]) == ("0", "0", "many", "0")
    assert int(guest["functions"]) > 30_000


# ---- stack traces

FRAME = re.compile(r" (\? )?([\w.]+)\+0x([0-9a-f]+)/0x([0-9a-f]+)(?: \[(\w+)\])?\s*$")
Frame = collections.namedtuple("Frame", "sure name offset size")


def frames_of(lines):
    """Only the kernel's code: modules are at other addresses each time."""
    found = (FRAME.search(line) for line in lines)
    return [Frame(not m[1], m[2], int(m[3], 16), int(m[4], 16)) for m in found if m and not m[5]]


def panic_of(guest):
    return frames_of(guest.out.split("Kernel panic - not syncing")[1].splitlines())


def tasks_of(guest):
    """Frames of each task, by its name; numbers in kernel threads' names vary."""
    tasks, name = {}, None
    for line in said(guest, "log"):
        found = re.search(r"task:(\S+)", line)
        if found:
            name = re.sub(r"(/?\d+:\d+H?|-\S*|:\d+)+$", "", found.group(1))
            tasks[name] = []
        elif name:
            tasks[name] += frames_of([line])
    return tasks


class LinkTime:
    """The kernel's symbols and code as they were linked, from its debug vmlinux and by binutils."""

    def __init__(self, vmlinux, directory):
        self.places, addresses = collections.defaultdict(list), set()
        for line in subprocess.run(["nm", vmlinux], capture_output=True, text=True, check=True).stdout.splitlines():
            address, kind, name = line.split(" ", 2)
            if kind in "tTwW":
                self.places[name].append(int(address, 16))
                addresses.add(int(address, 16))
        self.addresses = sorted(addresses)
        text = directory / "text"
        subprocess.run(["objcopy", "-O", "binary", "--only-section=.text", vmlinux, text], check=True)
        self.text = text.read_bytes()

    def code(self, address, size):
        at = address - LINK_VIRTUAL
        return self.text[at:at + size] if 0 <= at < len(self.text) else b""

    def size(self, address):
        return self.addresses[bisect.bisect_right(self.addresses, address)] - address

    def follows_call(self, address):
        """A call of 5 bytes, or an indirect one of 2 to 7, ends here."""
        before = self.code(address - 7, 7)
        return len(before) == 7 and (before[2] == 0xE8 or
                                     any(before[7 - n] == 0xFF and before[8 - n] >> 3 & 7 == 2 for n in range(2, 8)))

    def explains(self, frame):
        """
        A symbol of that name and size and, if the frame is reliable, a return address. After a call that is the
        function's last instruction this is the function's end (%pB looks up the byte before).
        """
        return any(frame.offset <= frame.size == self.size(place) and
                   (not frame.sure or self.follows_call(place + frame.offset))
                   for place in self.places.get(frame.name, ()))


@pytest.fixture(scope="module")
def link_time(fetch_kernel, tmp_path_factory):
    known = {}

    def of(kernel):
        if kernel not in known:
            known[kernel] = LinkTime(fetch_kernel(f"{kernel}-dbg"), tmp_path_factory.mktemp("link"))
        return known[kernel]

    return of


# the base of an interrupted or new stack, which nothing called
NOT_CALLED = re.compile(r"entry_SYSCALL_64_after_hwframe|ret_from_fork(_asm)?|asm_\w+|secondary_startup_64\w*|common_startup_64|"
                        r"\w*idle\w*|\w*_halt|pv_native_safe_halt")


def unexplained(link_time, kernel, frames):
    """Those that no symbol explains; none for kernels whose debug package is not fetched."""
    known = None if kernel in GENERIC else link_time(kernel)
    return [f for f in frames if known and not known.explains(f) and not NOT_CALLED.fullmatch(f.name)]


@each_boot
def test_panic_has_the_frames_of_the_unshuffled_one(boots, link_time, kernel, name):
    guest = panic_of(boots(kernel, name))
    sure = [f for f in guest if f.sure]
    assert len(sure) >= 8
    assert sure == [f for f in panic_of(boots(kernel, plain(name))) if f.sure]
    assert unexplained(link_time, kernel, guest) == []


@each_whole
def test_traces_of_all_tasks_are_right(boots, link_time, kernel, name):
    other, guest = tasks_of(boots(kernel, "plain")), tasks_of(boots(kernel, name))
    assert len(guest) > 15 and guest.keys() & other.keys() >= {"kthreadd", "init"}
    frames = [f for task in guest.values() for f in task]
    assert len(frames) > 100
    assert unexplained(link_time, kernel, frames) == []

    def sure(tasks):
        return {name: [f for f in frames if f.sure] for name, frames in tasks.items()}

    one, two = sure(other), sure(guest)
    both = one.keys() & two.keys()
    # a few tasks are elsewhere at that moment; most sleep in their usual place
    assert sum(one[n] == two[n] for n in both) >= 0.8 * len(both), [(n, one[n], two[n]) for n in both if one[n] != two[n]]
    doubtful = [sum(not f.sure for task in tasks.values() for f in task) for tasks in (other, guest)]
    assert abs(doubtful[0] - doubtful[1]) <= 0.25 * doubtful[0] + 10, doubtful
