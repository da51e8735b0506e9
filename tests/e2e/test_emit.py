# SPDX-License-Identifier: Apache-2.0
"""Randomised kernels for monitors that know nothing of riffle: ELF files that shuffle themselves, and emitted ones."""
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


# ---- what monitors look at in a file


class Elf:
    """The headers, and what loaders make of them."""

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
    """Rules that hold for every monitor that was tried."""
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
    # work area and page tables are asked for and not stored
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
    """By PVH; with another layout each time that the guest reboots."""
    guest = boot(Machine(self_elf(forms), do="kallsyms,reboot", times=3), guest_initrd, tmp_path)
    boots = [Machine(guest.kernel, do=guest.do).said("guest: INIT REACHED" + part)
             for part in guest.out.split("guest: INIT REACHED")[1:]]
    assert len(boots) == 3, guest.everything()
    for one in boots:
        is_well(one)
    # the last one was ended when it had told its layout, before it looked at kallsyms
    assert len({order(one) for one in boots[:2]}) == 2
    assert len({(one.text, one.physical, one.page_offset) for one in boots}) == 3


def test_self_shuffling_elf_on_a_pc(forms, guest_initrd, tmp_path):
    """More than 4 GiB, and four processors."""
    guest = boot(Machine(self_elf(forms), machine="pc", memory=5 * 1024, cpus=4), guest_initrd, tmp_path)
    is_well(guest)


def test_initrd_on_the_stage_is_refused(forms, guest_initrd, tmp_path):
    """QEMU puts an initrd at the end of RAM: one of 80 MiB of 112 lies on what the stage asks for."""
    guest = boot(Machine(self_elf(forms), memory=112, initrd_bytes=80 * MIB), guest_initrd, tmp_path)
    assert not guest.reached
    assert "riffle stage: initrd: lies where the loader stage works" in guest.out, guest.everything()


def handed_over(forms):
    """Where Firecracker and Cloud Hypervisor put things; which of the three RSDPs does not matter to the stage."""
    kernel = self_elf(forms)
    few = {"pvh given": Machine(kernel, entry="pvh", rsdp="given"),
           "linux64 found": Machine(kernel, entry="linux64", rsdp="found")}
    if LONG:
        few |= {f"{entry} {rsdp}": Machine(kernel, entry=entry, rsdp=rsdp, memory=1024)
                for entry in ("pvh", "linux64") for rsdp in ("absent", "found", "given")}
    return few


def test_handed_over_as_other_monitors_do(forms, guest_initrd, tmp_path):
    for name, guest in boot_in_box(handed_over(forms), guest_initrd, tmp_path).items():
        assert guest.code == 0, guest.everything()
        is_well(guest)
        rsdp = {"given": "ACPI: RSDP 0x00000000000A0000", "found": "ACPI: RSDP 0x00000000000E0000",
                "absent": "ACPI BIOS Error (bug): A valid RSDP was not found"}[guest.rsdp]
        assert rsdp in guest.out, (name, guest.everything())


@long_only
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("machine, memory, cpus", [("q35", 256, 1), ("q35", 5 * 1024, 4), ("pc", 512, 4)])
def test_self_shuffling_elf_of_each_kernel(forms, guest_initrd, tmp_path, kernel, machine, memory, cpus):
    is_well(boot(Machine(self_elf(forms, kernel), machine=machine, memory=memory, cpus=cpus), guest_initrd, tmp_path))
