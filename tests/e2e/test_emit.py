# SPDX-License-Identifier: Apache-2.0
"""Randomised kernels for other monitors: ELF files that shuffle themselves, and emitted ones."""
import json
import os
import re
import stat
import struct
import subprocess

import pytest
from conftest import RIFFLE
from guests import LINK_VIRTUAL, LONG, MEMORY_BASES
from other_monitors import Machine, boot, boot_in_box

MIB = 1 << 20
GIB = 1 << 30
KERNEL = "cloud-6.1"
KERNELS = [f"{flavour}-{series}" for flavour in ("cloud", "generic") for series in ("5.10", "6.1", "6.12", "newest")]
BASE = 1 * MIB      # where stage and stub lie

long_only = pytest.mark.skipif(not LONG, reason="one of the long tests: RIFFLE_LONG is not set")


def self_elf(forms, kernel=KERNEL):
    source = forms.fetch(kernel)
    return forms.make(f"{kernel}.self.elf", lambda out: subprocess.run(
        [RIFFLE, "prepare", "--bootstrap", "--elf", source, "-o", out], check=True, timeout=300))


# ---- what monitors read in a file


class Elf:
    """The headers, as loaders interpret them."""

    def __init__(self, path):
        with open(path, "rb") as f:
            self.head = f.read(8192)
        (self.ident, kind, machine, _, self.entry, at, _, self.flags, _, entry_bytes, count, _, sections,
         _) = struct.unpack_from("<16sHHIQQQIHHHHHH", self.head)
        assert (self.ident[:7], kind, machine, entry_bytes, sections) == (b"\x7fELF\2\1\1", 2, 62, 56, 0)
        programs = [struct.unpack_from("<IIQQQQQQ", self.head, at + 56 * i) for i in range(count)]
        self.loads = [p for p in programs if p[0] == 1]
        self.notes = [p for p in programs if p[0] == 4]
        assert len(self.loads) + len(self.notes) == count


def check_elf(path):
    """Rules common to all monitors tested."""
    elf = Elf(path)
    size = os.stat(path).st_size
    assert elf.entry == BASE + 0x200 and elf.flags == 0
    (_, _, offset, _, _, length, _, align), = elf.notes
    assert align == 4 and length == 24
    name_bytes, value_bytes, kind, name, pvh = struct.unpack_from("<III4sQ", elf.head, offset)
    assert (name_bytes, value_bytes, kind, name, pvh) == (4, 8, 18, b"Xen\0", BASE + 0x100)
    assert 1 <= len(elf.loads) <= 64
    end = 0
    for _, _, at, virtual, physical, in_file, in_memory, align in elf.loads:
        assert virtual == physical >= max(end, BASE)
        assert 0 < in_file <= in_memory and 8192 <= at and at + in_file <= size
        assert align == 4096 and at % align == physical % align
        end = physical + in_memory
    assert elf.loads[0][4] == BASE
    # neither a bzImage nor multiboot
    assert elf.head[0x202:0x206] != b"HdrS"
    for magic in (0x1BADB002, 0xE85250D6):
        assert struct.pack("<I", magic) not in elf.head
    return elf


def test_self_shuffling_elf_is_what_loaders_expect(forms):
    elf = check_elf(self_elf(forms))
    assert len(elf.loads) == 1
    # work area and page tables are reserved, not stored
    assert elf.loads[0][6] > elf.loads[0][5] + 128 * 1024


def test_elf_goes_with_bootstrap_alone(programs, forms, tmp_path):
    for options in (["--elf"], ["--elf", "--check"], ["-e", "--compress=lz4"]):
        r = programs.riffle("prepare", *options, forms.fetch(KERNEL), "-o", tmp_path / "out")
        assert r.returncode == 2 and r.stderr.count("\n") == 1, r.stderr
    r = programs.riffle("prepare", "--bootstrap", "--elf", "--compress=lz4", forms.fetch(KERNEL), "-o", tmp_path / "out")
    assert r.returncode == 2 and not (tmp_path / "out").exists()


# ---- what holds for every guest


def is_well(guest):
    assert guest.reached, guest.everything()
    assert guest.fact("warnings") == "0", guest.everything()
    assert int(guest.fact("cpus")) == guest.cpus, guest.everything()
    assert guest.fact("cmdline").startswith(guest.line()), guest.everything()
    assert guest.text % (2 * MIB) == guest.physical % (2 * MIB) == 0
    assert guest.physical >= 16 * MIB
    assert guest.memory_bases != MEMORY_BASES, guest.everything()
    if guest.do.endswith("panic"):
        assert guest.offset == guest.text - LINK_VIRTUAL, guest.everything()


def order(guest):
    symbols, said = re.search(r"^guest: kallsyms symbols=(\d+) order=(\S+)", guest.out, re.M).groups()
    assert int(symbols) > 50_000
    return said


def test_self_shuffling_elf_in_qemu(forms, guest_initrd, tmp_path):
    """By PVH, with a new layout at each reboot of the guest."""
    guest = boot(Machine(self_elf(forms), do="kallsyms,reboot", times=3), guest_initrd, tmp_path)
    boots = [Machine(guest.kernel, do=guest.do).said("guest: INIT REACHED" + part)
             for part in guest.out.split("guest: INIT REACHED")[1:]]
    assert len(boots) == 3, guest.everything()
    for one in boots:
        is_well(one)
    # the last one was killed after it printed its layout, before it read kallsyms
    assert len({order(one) for one in boots[:2]}) == 2
    assert len({(one.text, one.physical, one.page_offset) for one in boots}) == 3
    assert all(one.order_is_closed for one in boots)
    # sections slide apart, each time by other gaps
    assert len({one.sections for one in boots}) == 3
    assert len({(one.sections[1] - one.sections[0], one.sections[2] - one.sections[1]) for one in boots}) == 3


def test_self_shuffling_elf_on_a_pc(forms, guest_initrd, tmp_path):
    """More than 4 GiB, and four processors."""
    guest = boot(Machine(self_elf(forms), machine="pc", memory=5 * 1024, cpus=4), guest_initrd, tmp_path)
    is_well(guest)


def test_initrd_on_the_stage_is_refused(forms, guest_initrd, tmp_path):
    """QEMU puts an initrd at the end of RAM: 80 of 112 MiB overlap the stage's memory."""
    guest = boot(Machine(self_elf(forms), memory=112, initrd_bytes=80 * MIB), guest_initrd, tmp_path)
    assert not guest.reached
    assert "riffle stage: initrd: lies where the loader stage works" in guest.out, guest.everything()


def handed_over(forms, directory):
    """Addresses as in Firecracker and Cloud Hypervisor; the stage accepts any of the three RSDPs."""
    kernel = self_elf(forms)
    few = {"pvh given": Machine(kernel, entry="pvh", rsdp="given"),
           "linux64 found": emitted(forms, directory, entry="linux64", rsdp="found")}
    if LONG:
        few |= {f"{entry} {rsdp}": Machine(kernel, entry=entry, rsdp=rsdp, memory=2048)
                for entry in ("pvh", "linux64") for rsdp in ("absent", "found", "given")}
        few |= {f"emitted {entry}": emitted(forms, directory, entry, memory=2048, entry=entry) for entry in ("pvh", "linux64")}
    return few


def test_handed_over_as_other_monitors_do(forms, guest_initrd, tmp_path):
    for name, guest in boot_in_box(handed_over(forms, tmp_path), guest_initrd, tmp_path).items():
        assert guest.code == 0, guest.everything()
        is_well(guest)
        if guest.told:
            lies_as_told(guest)
        rsdp = {"given": "ACPI: RSDP 0x00000000000A0000", "found": "ACPI: RSDP 0x00000000000E0000",
                "absent": "ACPI BIOS Error (bug): A valid RSDP was not found"}[guest.rsdp]
        assert rsdp in guest.out, (name, guest.everything())


@long_only
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("machine, memory, cpus", [("q35", 256, 1), ("q35", 5 * 1024, 4), ("pc", 512, 4)])
def test_self_shuffling_elf_of_each_kernel(forms, guest_initrd, tmp_path, kernel, machine, memory, cpus):
    is_well(boot(Machine(self_elf(forms, kernel), machine=machine, memory=memory, cpus=cpus), guest_initrd, tmp_path))


# ---- emitted kernels


def emitted(forms, directory, name="kernel", kernel=KERNEL, memory=256, reserve="32M", mode="auto", **more):
    """A machine with a kernel emitted for it from a prepared one, and its layout."""
    out, told = directory / f"{name}.elf", directory / f"{name}.layout"
    subprocess.run([RIFFLE, "emit", forms.prepared(kernel), "-o", out, "-m", f"{memory}M", "--reserve-top", reserve,
                    "--randomize", mode, "--layout-out", told], check=True, capture_output=True, timeout=60)
    return Machine(out, memory=memory, told=json.loads(told.read_text()), **more)


def bytes_of(machine):
    """What its kernel takes from its base on, gaps included."""
    return machine.told["image_bytes"] + machine.told.get("slides", [[0, 0]])[-1][1]


def lies_as_told(guest):
    assert guest.text == guest.base("virtual_base"), guest.everything()
    assert guest.physical == guest.base("physical_base"), guest.everything()
    assert guest.order_is_closed == guest.told["mode"].startswith("fgkaslr")


def test_emitted_elf_is_what_loaders_expect(forms, tmp_path):
    machine = emitted(forms, tmp_path)
    path = machine.kernel
    elf = check_elf(path)
    kernel = elf.loads[1:]
    base, image = machine.base("physical_base"), bytes_of(machine)
    assert machine.told["mode"] == "fgkaslr+slide"
    assert 16 * MIB <= base and base + image <= (256 - 32 - 1) * MIB
    # contiguous from _text to the end of .bss, so that a reset leaves nothing of an earlier guest
    end = base
    for _, _, at, _, physical, in_file, in_memory, _ in kernel:
        assert physical == end and at == 2 * MIB + physical - base
        end += in_memory
    assert end == base + image
    st = os.stat(path)
    assert stat.S_IMODE(st.st_mode) == 0o600
    assert st.st_blocks * 512 < sum(p[5] for p in elf.loads) + MIB < st.st_size     # sparse
    # nothing that was written is left out
    data, at = path.read_bytes(), 8192
    for _, _, offset, _, _, in_file, _, _ in elf.loads:
        assert not data[at:offset].strip(b"\0")
        at = offset + in_file
    assert len(data) == at


def test_layouts_differ_and_what_a_guest_can_read_does_not(forms, tmp_path):
    """Two kernels differ, but not in the zero page, which users in the guest can read, nor in the stub except for its parameters."""
    one, two = (emitted(forms, tmp_path, name) for name in "ab")
    assert (one.told["physical_base"], one.told["virtual_base"], one.told["chunks"]) != \
        (two.told["physical_base"], two.told["virtual_base"], two.told["chunks"])
    loads = [Elf(m.kernel).loads[0] for m in (one, two)]
    assert loads[0] == loads[1]
    stubs = [bytearray(m.kernel.read_bytes()[p[2]:p[2] + p[5]]) for m, p in zip((one, two), loads)]
    for machine, stub in zip((one, two), stubs):
        address, size, entry, flags = struct.unpack_from("<4Q", stub, 0x80)
        assert (address, size, flags) == (machine.base("physical_base"), bytes_of(machine), 2)
        assert address <= entry < address + size
        stub[0x80:0xA0] = bytes(32)
    assert stubs[0] == stubs[1]


def test_auto_slides_where_memory_allows(forms, tmp_path):
    """The memory at the end that is kept for an initrd counts as taken."""
    for memory, reserve, mode in ((112, "0", "fgkaslr+slide"), (112, "16M", "fgkaslr"), (96, "0", "fgkaslr")):
        assert emitted(forms, tmp_path, f"{memory}-{reserve}", memory=memory, reserve=reserve).told["mode"] == mode


def test_emitted_modes(forms, tmp_path):
    off = emitted(forms, tmp_path, "off", mode="off")
    assert (off.base("physical_base"), off.base("virtual_base")) == (16 * MIB, LINK_VIRTUAL)
    physical = emitted(forms, tmp_path, "physical", mode="physical", memory=4096)
    assert physical.base("virtual_base") == LINK_VIRTUAL
    assert physical.base("physical_base") + physical.told["image_bytes"] <= 2 * GIB - 33 * MIB
    for machine in (off, physical):
        assert struct.unpack_from("<Q", machine.kernel.read_bytes(), 8192 + 0x98) == (0,)     # no KASLR_FLAG
    assert "chunks" not in emitted(forms, tmp_path, "kaslr", mode="kaslr").told


@pytest.mark.parametrize("reserve, memory", [("0", 128), ("16M", 128), ("64M", 192), ("1024M", 4096)])
def test_emitted_kernels_stay_below_the_initrd(forms, tmp_path, reserve, memory):
    """Every slot is drawn, up to the last one."""
    top = min(memory, 2048) - 1 - int(reserve.rstrip("M"))
    image = emitted(forms, tmp_path, "first", memory=memory, reserve=reserve, mode="fgkaslr").told["image_bytes"]
    slots = {16 * MIB + 2 * MIB * i for i in range(2048) if 16 * MIB + 2 * MIB * i + image <= top * MIB}
    r = subprocess.run([RIFFLE, "emit", forms.prepared(KERNEL), "-o", tmp_path / "x", "-m", f"{memory}M",
                        "--reserve-top", reserve, "--randomize=fgkaslr"], capture_output=True, text=True, check=True, timeout=60)
    assert f"physical one of {len(slots)} " in r.stderr, r.stderr
    seen = {emitted(forms, tmp_path, str(i), memory=memory, reserve=reserve, mode="physical").base("physical_base")
            for i in range(20)}
    assert seen <= slots and len(seen) > (1 if len(slots) > 2 else 0)


def test_emitted_fgkaslr_in_qemu(forms, guest_initrd, tmp_path):
    """Its layout survives a reset by the monitor."""
    made = emitted(forms, tmp_path, do="kallsyms,reboot", times=2)
    guest = boot(made, guest_initrd, tmp_path)
    for part in guest.out.split("guest: INIT REACHED")[1:]:
        one = Machine(made.kernel, do=made.do, told=made.told).said("guest: INIT REACHED" + part)
        is_well(one)
        lies_as_told(one)
    assert guest.out.count("guest: INIT REACHED") == 2, guest.everything()


def test_emitted_kaslr_on_a_pc(forms, guest_initrd, tmp_path):
    guest = boot(emitted(forms, tmp_path, machine="pc", memory=5 * 1024, cpus=4, mode="kaslr"), guest_initrd, tmp_path)
    is_well(guest)
    lies_as_told(guest)


def test_microvm_without_acpi(forms, guest_initrd, tmp_path):
    guest = boot(emitted(forms, tmp_path, machine="microvm,acpi=off", append="reboot=t"), guest_initrd, tmp_path)
    is_well(guest)
    lies_as_told(guest)


@long_only
def test_microvm_under_kvm(forms, guest_initrd, tmp_path):
    """
    QEMU in the box, slow enough for Linux to complain. Under KVM a microVM has no clock unless asked for one, and Linux tries a
    thousand times to read it, of which each takes up to a tenth of a second here.
    """
    more = {"machine": "microvm,rtc=on", "append": "reboot=t watchdog_thresh=60 rcupdate.rcu_cpu_stall_timeout=120",
            "seconds": 300}
    guests = {"self-shuffling": Machine(self_elf(forms), **more), "emitted": emitted(forms, tmp_path, **more)}
    for guest in boot_in_box(guests, guest_initrd, tmp_path).values():
        is_well(guest)
    lies_as_told(guests["emitted"])


def test_exec_gives_the_monitor_a_kernel_in_memory(forms, guest_initrd, tmp_path):
    machine = Machine("@", memory=512)
    told = tmp_path / "layout"
    r = subprocess.run([RIFFLE, "emit", forms.prepared(KERNEL), "-m", "512M", "--layout-out", told, "--exec",
                        *machine.qemu(guest_initrd)], stdin=subprocess.DEVNULL, capture_output=True, timeout=300,
                       check=False)
    machine.told = json.loads(told.read_text())
    machine.said(r.stdout.decode(errors="replace"))
    assert r.returncode == 0
    is_well(machine)
    lies_as_told(machine)


def test_collision_with_the_initrd_is_told(forms, guest_initrd, tmp_path):
    """An initrd longer than the space kept free: a line on the console instead of a wrong boot."""
    machine = emitted(forms, tmp_path, memory=128, reserve="0", initrd_bytes=100 * MIB)
    guest = boot(machine, guest_initrd, tmp_path)
    assert not guest.reached
    assert "riffle stage: initrd: lies where the kernel does: give riffle emit room for it by --reserve-top" in \
        guest.out, guest.everything()


def test_too_little_memory_is_told(forms, guest_initrd, tmp_path):
    machine = emitted(forms, tmp_path, memory=1024, reserve="0", mode="physical")
    while machine.base("physical_base") < 512 * MIB:
        machine = emitted(forms, tmp_path, os.urandom(4).hex(), memory=1024, reserve="0", mode="physical")
    machine.memory = 256
    guest = boot(machine, guest_initrd, tmp_path)
    assert not guest.reached
    # QEMU itself has not loaded the segments
    assert "riffle stage: kernel: lies outside this machine's RAM: give riffle emit its size by -m" in guest.out, \
        guest.everything()


@long_only
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("mode, machine, memory, cpus", [
    ("fgkaslr", "q35", 0, 1), ("kaslr", "pc", 512, 4), ("fgkaslr", "q35", 5 * 1024, 4), ("fgkaslr", "pc", 3328, 1)])
def test_emitted_elf_of_each_kernel(forms, guest_initrd, tmp_path, kernel, mode, machine, memory, cpus):
    """The smallest memory is the one the flavour runs in."""
    memory = memory or (128 if kernel.startswith("cloud") else 256)
    guest = boot(emitted(forms, tmp_path, kernel=kernel, memory=memory, reserve="16M", mode=mode, machine=machine,
                         cpus=cpus), guest_initrd, tmp_path)
    is_well(guest)
    lies_as_told(guest)


# ---- files and messages of riffle emit


@pytest.fixture(scope="module")
def prepared(forms):
    return forms.prepared(KERNEL)


def test_output_is_never_written_over(programs, prepared, tmp_path):
    there = tmp_path / "there"
    there.write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    for path in (there, link, tmp_path):
        r = programs.riffle("emit", prepared, "-o", path, "-m", "256M")
        assert r.returncode == 1 and r.stderr.count("\n") == 1 and f"riffle: {path}: output: " in r.stderr, r.stderr
        assert "--force" not in r.stderr
    assert there.read_text() == "mine" and not (tmp_path / "nowhere").exists()


def test_descriptor_is_filled_or_left_empty(programs, prepared):
    fd = os.memfd_create("kernel")
    r = programs.riffle("emit", prepared, "-o", f"fd:{fd}", "-m", "256M", pass_fds=[fd])
    assert (r.returncode, r.stdout) == (0, ""), r.stderr
    check_elf(f"/proc/self/fd/{fd}")
    r = programs.riffle("emit", prepared, "-o", f"fd:{fd}", "-m", "256M", pass_fds=[fd])
    assert r.returncode == 1 and "output: has contents, and is not overwritten (found" in r.stderr, r.stderr
    os.ftruncate(fd, 0)
    # a payload that is truncated is noticed while it is loaded
    cut = programs.directory / "cut"
    data = prepared.read_bytes()
    cut.write_bytes(data[:len(data) - 4096])
    cut.chmod(0o600)
    r = programs.riffle("emit", cut, "-o", f"fd:{fd}", "-m", "256M", pass_fds=[fd])
    assert r.returncode == 1 and r.stderr.count("\n") == 1 and str(cut) in r.stderr, r.stderr
    assert os.fstat(fd).st_size == 0
    os.close(fd)
    reading = os.open(prepared, os.O_RDONLY)
    for wrong in (f"fd:{reading}", "fd:77", "fd:x"):
        r = programs.riffle("emit", prepared, "-o", wrong, "-m", "256M", pass_fds=[reading])
        assert r.returncode == 1 and f"riffle: {wrong}: " in r.stderr, r.stderr
    os.close(reading)


def test_full_disk_is_an_error_and_leaves_nothing(programs, prepared):
    """An error, not a fatal signal when writing to a mapping."""
    script = f"""mkdir small && mount -t tmpfs -o size=8M none small &&
        {RIFFLE} emit {prepared} -o small/kernel -m 256M; code=$?; ls -A small; exit $code"""
    r = programs.run("unshare", "-rm", "sh", "-c", script)
    assert (r.returncode, r.stdout) == (1, ""), r.stderr
    assert r.stderr == "riffle: small/kernel: output: cannot be written: No space left on device\n"


@pytest.mark.parametrize("options", [
    [], ["-m", "256M"], ["-o", "out"], ["-m", "256M", "-o", "out", "--exec", "true", "@"], ["-m", "256M", "--exec"],
    ["-m", "256M", "--exec", "true"], ["-m", "256M", "--exec", "@"], ["-m", "256M", "--exec", "true", "a@"],
    ["-m", "1M", "-o", "out"], ["-m", "256M", "-o", "out", "-t", "x"], ["-m", "256M", "-o", "out", "-r", "some"],
    ["-m", "256M", "-o", "out", "another"], ["-m", "256M", "-o", "out", "--force"],
])
def test_wrong_usage(programs, prepared, options):
    r = programs.riffle("emit", prepared, *options)
    assert (r.returncode, r.stdout, r.stderr.count("\n")) == (2, "", 1), r.stderr
    assert not (programs.directory / "out").exists()


def test_what_cannot_be_emitted_is_told(programs, forms, prepared):
    elf, relocs = forms.split(KERNEL)
    for kernel, options, told in (
            (prepared, ["-m", "64M"], "guest memory: has no place for the kernel"),
            (prepared, ["-m", "128M", "-t", "128M"], "--reserve-top: leaves no memory"),
            (elf, ["-m", "256M"], "relocations: there are none"),
            (elf, ["-m", "256M", "-r", "fgkaslr"], "--randomize=fgkaslr: this kernel cannot be shuffled"),
            (programs.directory / "none", ["-m", "256M"], "file: cannot be opened")):
        r = programs.riffle("emit", kernel, "-o", "out", *options)
        assert r.returncode == 1 and r.stderr.count("\n") == 1 and told in r.stderr, r.stderr
        assert not (programs.directory / "out").exists()
    assert programs.riffle("emit", elf, "--relocs", relocs, "-o", "out", "-m", "256M").returncode == 0


def test_monitor_that_cannot_be_run(programs, prepared):
    r = programs.riffle("emit", prepared, "-m", "256M", "--exec", "no-such-monitor", "@")
    assert r.returncode == 127 and r.stderr.endswith("riffle: no-such-monitor: cannot be run: No such file or directory\n")
    r = programs.riffle("emit", prepared, "-m", "256M", "--exec", programs.directory, "@")
    assert r.returncode == 126
    # options and @ of the monitor are its own
    r = programs.riffle("emit", prepared, "-m", "256M", "-x", "echo", "-o", "--exec", "@", "--kernel=@", "a@", "@b")
    assert r.returncode == 0
    assert re.fullmatch(r"-o --exec (/proc/self/fd/\d+) --kernel=\1 a@ @b\n", r.stdout), r.stdout


def test_compressed_kernels_are_emitted_too(programs, forms):
    small = programs.directory / "small"
    assert programs.riffle("prepare", "--compress=lz4", forms.fetch(KERNEL), "-o", small).returncode == 0
    r = programs.riffle("emit", small, "-o", "out", "-m", "256M", "-r", "off")
    assert r.returncode == 0, r.stderr
    r = programs.riffle("emit", forms.prepared(KERNEL), "-o", "other", "-m", "256M", "-r", "off")
    assert (programs.directory / "out").read_bytes() == (programs.directory / "other").read_bytes()
