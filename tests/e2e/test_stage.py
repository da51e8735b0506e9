# SPDX-License-Identifier: Apache-2.0
"""Kernels that randomise themselves: the loader stage in front of a prepared kernel draws its layout in the guest."""
import os
import re
import shlex
import struct
import subprocess

import pytest
from conftest import RIFFLE
from guests import LINK_VIRTUAL, MEMORY_BASES, Boots, Guest, in_box
from small_kernels import Kernel

MIB = 1 << 20
KERNEL = "cloud-6.1"
SETUP_BYTES = 1024
DO = "kallsyms,panic"
SHUFFLED = ("one", "two", "three", "four cpus")
NOTICE = "riffle stage: notice: this kernel's sections do not slide apart: the gaps leave too little of the guest's memory to start in"


def image(forms, kernel=KERNEL, mode="auto"):
    return forms.make(f"{kernel}.self" + (f"-{mode}" if mode != "auto" else ""), lambda out: subprocess.run(
        [RIFFLE, "prepare", "--bootstrap", "--randomize", mode, forms.prepared(kernel), "-o", out], check=True, timeout=300))


def package_offset(data):
    return SETUP_BYTES + struct.unpack_from("<Q", data, SETUP_BYTES + 0x20)[0]


def flipped(forms):
    """One bit of the plan is another."""
    data = bytearray(image(forms).read_bytes())
    at = package_offset(data)
    assert data[at:at + 8] == b"RIFFLE\r\n"
    data[at + 4096 + 12345] ^= 4
    return forms.make(f"{KERNEL}.flipped", lambda out: out.write_bytes(data))


def guests(forms):
    def guest(kernel, **more):
        return Guest(kernel, ("--boot=bootstrap",), **{"do": DO, **more})
    kernel = image(forms)
    return {
        "one": guest(kernel), "two": guest(kernel), "three": guest(kernel),
        "four cpus": guest(kernel, cpus=4, memory=512),
        "nokaslr": guest(kernel, append="nokaslr"),
        "marks": guest(kernel, append="riffle.marks", do="poweroff"),
        "flipped": guest(flipped(forms)),
        "small": guest(kernel, memory=64),
        "tight": guest(kernel, memory=100),
        "tight, slides": guest(image(forms, mode="fgkaslr+slide"), memory=100),
        "fgkaslr": guest(image(forms, mode="fgkaslr")),
        "kaslr": guest(image(forms, mode="kaslr")),
        "kaslr+slide": guest(image(forms, mode="kaslr+slide")),
    }


@pytest.fixture(scope="module")
def boots(guest_initrd, forms, tmp_path_factory):
    boots = Boots(guest_initrd, forms, tmp_path_factory.mktemp("boots"))
    yield lambda name: boots.guest(guests, name)
    boots.close()


def order(guest):
    symbols, said = re.search(r"^guest: kallsyms symbols=(\d+) order=(\S+)", guest.out, re.M).groups()
    assert int(symbols) > 80_000
    return said


@pytest.mark.parametrize("name", SHUFFLED)
def test_reaches_init_where_it_says(boots, name):
    guest = boots(name)
    assert guest.reached and guest.ended, guest.everything()
    assert guest.fact("warnings") == "0" and guest.fact("cpus") == str(guest.cpus), guest.everything()
    assert guest.offset == guest.text - LINK_VIRTUAL
    assert guest.text % (2 * MIB) == guest.physical % (2 * MIB) == 0
    # a place that the stage itself does not take: it lies from 1 MiB on, and is longer than 16 MiB
    assert 16 * MIB < guest.physical < guest.memory * MIB
    assert guest.memory_bases != MEMORY_BASES     # KASLR_FLAG
    assert guest.order_is_closed


def test_layouts_differ(boots):
    ran = [boots(name) for name in SHUFFLED]
    assert len({order(g) for g in ran}) == len(ran)
    assert len({(g.text, g.physical) for g in ran}) > 1 and len({g.text for g in ran}) > 1
    assert order(boots("nokaslr")) not in {order(g) for g in ran}


@pytest.mark.parametrize("name", [*SHUFFLED, "kaslr+slide"])
def test_sections_slide(boots, name):
    guest, linked = boots(name), boots("nokaslr")
    slides = [now - then for now, then in zip(guest.sections, linked.sections)]
    # each gap is nought in one boot of 512, so the last sum may be small but is not: two of three gaps are not
    assert 0 <= slides[0] <= slides[1] <= slides[2] <= 28 * MIB and slides[2] > 16 << 10, (guest.sections, linked.sections)
    assert slides[0] % (16 << 10) == slides[1] % (16 << 10) == slides[2] % (4 << 10) == 0
    assert NOTICE not in guest.out
    if name == "kaslr+slide":
        assert order(guest) == order(linked)


def test_slides_differ(boots):
    """What is known of text tells nothing of data: the distances between the sections are others in each boot."""
    ran = [boots(name) for name in (*SHUFFLED, "kaslr+slide")]
    distances = {(g.sections[1] - g.sections[0], g.sections[2] - g.sections[1]) for g in ran}
    assert len({g.sections for g in ran}) == len(distances) == len(ran)


@pytest.mark.parametrize("name", ["fgkaslr", "kaslr", "tight"])
def test_sections_stay(boots, name):
    """If the file says so, or if the guest is too small, which its console tells."""
    guest, linked = boots(name), boots("nokaslr")
    assert guest.reached and guest.ended and guest.fact("warnings") == "0", guest.everything()
    assert guest.sections == linked.sections
    assert (order(guest) == order(linked)) == (name == "kaslr")
    assert (NOTICE in guest.out) == (name == "tight"), guest.everything()
    assert guest.memory_bases != MEMORY_BASES


def test_slides_that_were_asked_for_are_not_left_out(boots):
    guest = boots("tight, slides")
    assert not guest.reached and guest.code == 3, guest.everything()
    assert "riffle stage: guest memory: has no place for the kernel (image with .bss, .brk and the largest gaps" in guest.out


SYMBOLS = ("_text", "__start_rodata", "linux_banner", "_sdata", "init_task", "jiffies", "_sinittext", "__bss_start", "__brk_base")


@pytest.mark.parametrize("kernel", [KERNEL, "cloud-6.12"])
def test_kallsyms_tells_other_distances_in_each_boot(forms, kernel):
    """Sections as wholes: what the guest finds in one is as far from what else it finds there as it was linked."""
    command = [RIFFLE, "run", "--boot=bootstrap"]
    tail = [image(forms, kernel), "--", "grep", "-wE", "|".join(SYMBOLS), "/proc/kallsyms"]
    log = [image(forms, kernel), "--", "dmesg", "-l", "emerg,alert,crit,err"]
    script = "".join(shlex.join(map(str, [*command, *options, *rest])) + "; echo code $?\n" for options, rest in (
        (["--append", "nokaslr"], tail), ([], tail), (["-m", "512M"], tail), ([], log)))
    r = in_box(["sh", "-c", script], timeout=1200)
    linked, *slid, (warned, _) = [(out, int(code)) for out, code in re.findall(r"(.*?)^code (\d+)\n", r.stdout.decode(), re.M | re.S)]
    assert not [line for line in warned.splitlines() if "WARNING" in line or "BUG" in line], warned
    found = []
    for out, code in (linked, *slid):
        assert code == 0, r
        at = {name: int(address, 16) for address, _, name in (line.split()[:3] for line in out.splitlines())}
        assert set(SYMBOLS) <= at.keys()
        found.append({name: at[name] - at["_text"] for name in SYMBOLS})
    slides = [{name: one[name] - found[0][name] for name in SYMBOLS} for one in found[1:]]
    for one in slides:
        assert one["__start_rodata"] == one["linux_banner"] and one["_sdata"] == one["init_task"] == one["jiffies"]
        ascending = [one[name] for name in ("_text", "__start_rodata", "_sdata", "_sinittext", "__bss_start", "__brk_base")]
        assert ascending == sorted(ascending) and ascending[-1] > 0, slides
    assert all(slides[0][name] != slides[1][name] for name in ("_sdata", "__bss_start")), slides
    # its gap is the rest of a sum
    assert slides[0]["__brk_base"] == slides[1]["__brk_base"], slides


def test_nokaslr(boots):
    guest = boots("nokaslr")
    assert guest.reached and guest.fact("warnings") == "0", guest.everything()
    assert (guest.text, guest.offset, guest.memory_bases) == (LINK_VIRTUAL, "disabled", MEMORY_BASES)


def test_marks_do_not_disturb(boots):
    guest = boots("marks")
    assert guest.reached and guest.code == 0, guest.everything()


def test_changed_plan_is_refused(boots):
    guest = boots("flipped")
    assert not guest.reached and guest.code == 3, guest.everything()
    assert re.search(r"^riffle stage: \w+_checksum: differs", guest.out, re.M), guest.everything()


def test_too_little_memory_is_refused(boots):
    guest = boots("small")
    assert not guest.reached and guest.code == 3, guest.everything()
    assert "riffle stage: guest memory: has no place for the kernel" in guest.out, guest.everything()


def test_setup_header(forms):
    """The fields that a loader of the 64-bit boot protocol reads."""
    data = image(forms).read_bytes()
    sects, = struct.unpack_from("<B", data, 0x1F1)
    syssize, = struct.unpack_from("<I", data, 0x1F4)
    magic, version = struct.unpack_from("<4sH", data, 0x202)
    payload, length = struct.unpack_from("<II", data, 0x248)
    window, = struct.unpack_from("<I", data, 0x260)
    assert (magic, data[0x1FE:0x200], sects) == (b"HdrS", b"\x55\xaa", 1)
    assert version >= 0x020C and data[0x236] & 1 and data[0x234] == 1 and data[0x211] & 1
    assert SETUP_BYTES + syssize * 16 == len(data) and window > len(data)
    assert SETUP_BYTES + payload == package_offset(data)
    assert SETUP_BYTES + payload + length <= len(data)
    assert data[SETUP_BYTES + 0x200:][:1] == b"\xfa"    # cli


def test_no_output_after_an_error(programs, tmp_path):
    broken = tmp_path / "broken"
    broken.write_bytes(b"no kernel" * 1000)
    r = programs.riffle("prepare", "--bootstrap", broken, "-o", tmp_path / "out")
    assert r.returncode == 1 and r.stderr.count("\n") == 1 and str(broken) in r.stderr
    assert not (tmp_path / "out").exists()
    r = programs.riffle("prepare", "--bootstrap", "--check", broken)
    assert r.returncode == 2


def test_modes_that_a_stage_knows(programs, forms, tmp_path):
    """A mode goes with --bootstrap alone, and is refused where this kernel does not allow it; auto says why it is not more."""
    told = " ".join(programs.riffle("prepare", "--help").stdout.split())
    assert "what the stage randomises: kaslr, fgkaslr, kaslr+slide, fgkaslr+slide, or auto" in told
    out = tmp_path / "out"
    for options, what in ((["--randomize=kaslr"], "requires --bootstrap"),
                          (["--bootstrap", "--randomize=off"], "must be kaslr, fgkaslr, either of these with +slide, or auto (found 'off')"),
                          (["--bootstrap", "--randomize=slide"], "(found 'slide')")):
        r = programs.riffle("prepare", *options, forms.prepared(KERNEL), "-o", out)
        assert (r.returncode, r.stderr.count("\n")) == (2, 1) and what in r.stderr and not out.exists(), r.stderr
    # one without symbols
    bare = tmp_path / "bare"
    bare.write_bytes(Kernel().appended())
    for mode, what in (("fgkaslr", "this kernel cannot be shuffled ("), ("kaslr+slide", "the sections of this kernel cannot slide apart (")):
        r = programs.riffle("prepare", "--bootstrap", f"--randomize={mode}", bare, "-o", out)
        assert r.returncode == 1 and what in r.stderr and not out.exists(), r.stderr
    r = programs.riffle("prepare", "--bootstrap", bare, "-o", out)
    assert r.returncode == 0 and "riffle: notice: this kernel is not shuffled, and its sections do not slide apart: " in r.stderr


def test_a_monitor_chooses_no_mode_of_the_stage(programs, forms):
    for mode in ("kaslr+slide", "fgkaslr+slide"):
        r = programs.riffle("run", "--boot=bootstrap", f"--randomize={mode}", image(forms))
        assert (r.returncode, r.stdout, r.stderr.count("\n")) == (2, "", 1)
        assert "--boot=bootstrap: the guest chooses how it randomises itself" in r.stderr


def test_16_bit_entry_says_that_there_is_none(tmp_path):
    (tmp_path / "kernel").write_bytes(Kernel().appended())
    subprocess.run([RIFFLE, "prepare", "--bootstrap", tmp_path / "kernel", "-o", tmp_path / "self"], check=True, capture_output=True)
    with subprocess.Popen(["timeout", "60", "qemu-system-x86_64", "-M", "q35", "-m", "256M", "-nographic", "-no-reboot",
                           "-kernel", tmp_path / "self"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        out = b""
        # the console of the BIOS breaks lines at 80 columns
        while b"qemu -kernel" not in out.replace(b"\r\n", b"") and (more := os.read(process.stdout.fileno(), 4096)):
            out += more
        process.terminate()
    assert b"this kernel has no 16-bit entry: prepare --bootstrap --elf makes one for qemu -kernel" in out.replace(b"\r\n", b"")


def test_32_bit_entry_says_that_there_is_none(tmp_path):
    """As kexec -l enters it: by a multiboot kernel that jumps to its module's protected-mode part."""
    (tmp_path / "kernel").write_bytes(Kernel().appended())
    subprocess.run([RIFFLE, "prepare", "--bootstrap", tmp_path / "kernel", "-o", tmp_path / "self"], check=True, capture_output=True)
    at, flags = 2 * MIB, 1 << 16
    code = (b"\x8b\x43\x18"                                     # mov eax, [ebx + mods_addr]
            b"\x8b\x00"                                         # mov eax, [eax + mod_start]
            b"\x05" + struct.pack("<I", SETUP_BYTES) +          # add eax, SETUP_BYTES
            b"\xbe" + struct.pack("<I", 0x90000) +              # mov esi, the zero page
            b"\xff\xe0")                                        # jmp eax
    magic = 0x1BADB002
    head = struct.pack("<8I", magic, flags, -(magic + flags) & 0xFFFFFFFF, at, at, 0, 0, at + 32)
    (tmp_path / "multiboot").write_bytes(head + code)
    r = subprocess.run(["timeout", "60", "qemu-system-x86_64", "-M", "q35", "-m", "256M", "-display", "none", "-serial", "stdio", "-no-reboot",
                        "-kernel", tmp_path / "multiboot", "-initrd", tmp_path / "self"],
                       stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert r.returncode == 0, "the machine was not reset"
    assert b"riffle stage: entry: this kernel has no 32-bit entry: the loader must use the 64-bit one\r\n" in r.stdout
