# SPDX-License-Identifier: Apache-2.0
"""Kernels that randomise themselves: the loader stage in front of a prepared kernel draws its layout in the guest."""
import re
import struct
import subprocess

import pytest
from conftest import RIFFLE
from guests import LINK_VIRTUAL, MEMORY_BASES, Boots, Guest

MIB = 1 << 20
KERNEL = "cloud-6.1"
SETUP_BYTES = 1024
DO = "kallsyms,panic"
SHUFFLED = ("one", "two", "three", "four cpus")


def image(forms):
    source = forms.fetch(KERNEL)
    return forms.make(f"{KERNEL}.self", lambda out: subprocess.run(
        [RIFFLE, "prepare", "--bootstrap", source, "-o", out], check=True, timeout=300))


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


def test_layouts_differ(boots):
    ran = [boots(name) for name in SHUFFLED]
    assert len({order(g) for g in ran}) == len(ran)
    assert len({(g.text, g.physical) for g in ran}) > 1 and len({g.text for g in ran}) > 1
    assert order(boots("nokaslr")) not in {order(g) for g in ran}


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


def test_no_slides(programs, forms):
    """The stage draws none: who asks for them is told so, by the options' text and as an error."""
    told = " ".join(programs.riffle("prepare", "--help").stdout.split())
    assert "kaslr and fgkaslr, its sections do not slide" in told
    for mode in ("kaslr+slide", "fgkaslr+slide"):
        r = programs.riffle("run", "--boot=bootstrap", f"--randomize={mode}", image(forms))
        assert (r.returncode, r.stdout, r.stderr.count("\n")) == (2, "", 1)
        assert "--boot=bootstrap: the guest chooses how it randomises itself" in r.stderr
