# SPDX-License-Identifier: Apache-2.0
"""Hostile and broken input: each row gives one error line with file and field, exit code 1, and leaves nothing behind."""
import gzip
import os
import random
import re
import struct
import subprocess
import threading
import time

import pytest
from conftest import PREPARE, RIFFLE
from small_kernels import (COMPRESSORS, LINK_PHYS, LINK_VIRT, MASK, PAGE, RESET_CODE, Kernel, Segment, bzimage,
                           pack_words)

GIB = 1 << 30


def one_line(stderr):
    """The error line, checked to be a single readable line."""
    assert re.fullmatch(r"riffle: [ -~]+\n", stderr), repr(stderr)
    return stderr[:-1]


def changed(**attributes):
    """A kernel with some attributes changed, as an ELF with its list appended."""
    def make():
        k = Kernel()
        for name, value in attributes.items():
            setattr(k, name, value)
        return k.appended()
    return make


def header(**fields):
    return changed(header=fields)


def segment(index, **fields):
    def make():
        k = Kernel()
        for name, value in fields.items():
            setattr(k.segments[index], name, value)
        return k.appended()
    return make


def field(offset, form, value):
    """The kernel with a field of its text overwritten."""
    def make():
        k = Kernel()
        struct.pack_into(form, k.text, offset, value)
        return k.appended()
    return make


def words(change):
    """An ELF whose appended list of words has been changed."""
    def make():
        k = Kernel()
        return k.elf() + pack_words(change(k.words()))
    return make


def bz(**changes):
    return lambda: Kernel().bzimage(**changes)


def bomb(compression, size_word, init_size=None):
    """A payload that unpacks to 64 MiB of zeros, and a size word that says otherwise."""
    def make():
        packed = COMPRESSORS[compression](bytes(64 << 20))
        packed = packed[:-4] if compression == "gzip" else packed
        return bzimage(b"", packed=packed + struct.pack("<I", size_word), init_size=init_size or GIB)
    return make


def other_kernel_relocs():
    """The right format, ascending, all inside segments, but for another kernel."""
    k = Kernel()
    k.reloc64 = list(range(0x400, 0x800, 8))
    return k.appended()


def overlapping():
    k = Kernel()
    k.segments[1].phys = LINK_PHYS + PAGE
    return k.appended()


def two_at_zero():
    k = Kernel()
    k.segments.append(Segment(0, LINK_PHYS + 64 * PAGE, bytes(PAGE), PAGE))
    return k.appended()


def no_percpu():
    k = Kernel()
    k.segments[1].virt = LINK_VIRT + k.percpu_offset
    return k.appended()


def random_bytes():
    return random.Random(7).randbytes(20000)


# name, maker of the file, the error behind `riffle: FILE: ` as a regular expression
ROWS = [
    ("empty", lambda: b"", r"(kernel )?file: is empty.*"),
    ("one byte", lambda: b"\x7f", r"kernel file: is neither a bzImage nor an ELF file"),
    ("script", lambda: b"#!/bin/sh\nexit 0\n" * 100, r"kernel file: is a script, not a kernel"),
    ("initrd", lambda: b"070701" + b"0" * 200, r"kernel file: is an initrd \(a cpio archive\), not a kernel"),
    ("gzipped initrd", lambda: gzip.compress(b"070701" + b"0" * 200), r"kernel file: is an initrd \(a cpio archive\), not a kernel"),
    ("noise", random_bytes, r"kernel file: is neither a bzImage nor an ELF file"),
    # ELF header
    ("ELF cut in its header", lambda: Kernel().elf()[:40], r"ELF header: is cut off \(found 40, expected 64\)"),
    ("32-bit ELF", header(ident=b"\x7fELF\x01\x01\x01" + bytes(9)), r"EI_CLASS: .* \(found 1, expected 2\)"),
    ("big-endian ELF", header(ident=b"\x7fELF\x02\x02\x01" + bytes(9)), r"EI_DATA: .* \(found 2, expected 1\)"),
    ("ELF of version 2", header(version=2), r"e_version: is unknown \(found 2, expected 1\)"),
    ("ELF for arm64", header(machine=183), r"e_machine: is arm64, not x86-64 \(found 183, expected 62\)"),
    ("shared object", header(type=3), r"e_type: .* \(found 3, expected 2\)"),
    ("e_phentsize", header(phentsize=32), r"e_phentsize: .* \(found 32, expected 56\)"),
    ("no program headers", header(phnum=0), r"e_phnum: .* \(found 0, expected 64\)"),
    ("too many program headers", header(phnum=65535), r"e_phnum: .* \(found (65535|0xffff), expected 64\)"),
    ("e_phoff past the end", header(phoff=1 << 40), r"e_phoff: leads past the end of the file \(found .*, expected .*\)"),
    ("e_phoff wraps", header(phoff=MASK - 10), r"e_phoff: leads past the end of the file \(found .*, expected .*\)"),
    ("e_shoff past the end", header(shoff=1 << 40, shnum=3), r"e_shoff: leads past the end of the file \(found .*\)"),
    ("e_entry below", changed(entry=LINK_PHYS - 1), r"e_entry: lies outside every segment.* \(found 0xffffff\)"),
    ("e_entry above", changed(entry=LINK_PHYS + 0x100000), r"e_entry: lies outside every segment.* \(found .*\)"),
    ("e_entry in .bss", changed(entry=LINK_PHYS + 12 * PAGE), r"e_entry: lies outside every segment.* \(found .*\)"),
    ("e_entry virtual", changed(entry=LINK_VIRT), r"e_entry: lies outside every segment.* \(found .*\)"),
    # segments
    ("segments overlap", overlapping, r"p_paddr: overlaps .* \(found .*, expected .*\)"),
    ("segment wraps", segment(2, memory=MASK), r"p_paddr \+ p_memsz: .* \(found .*\)"),
    ("segment beyond 1 GiB", segment(2, memory=GIB), r"p_paddr \+ p_memsz: .* \(found .*, expected .*\)"),
    ("segment's physical address is virtual", segment(0, phys=LINK_VIRT), r"p_paddr: .* \(found 0xffffffff81000000\)"),
    ("p_filesz above p_memsz", segment(2, memory=PAGE), r"p_filesz: is larger than p_memsz \(found .*, expected .*\)"),
    ("p_offset past the end", segment(0, offset=1 << 40), r"p_offset \+ p_filesz: .* \(found .*, expected .*\)"),
    ("p_offset wraps", segment(0, offset=MASK - 1), r"p_offset \+ p_filesz: .* \(found .*, expected .*\)"),
    ("p_vaddr elsewhere", segment(2, virt=LINK_VIRT), r"p_vaddr: .* \(found .*, expected .*\)"),
    ("two segments at 0", two_at_zero, r"p_vaddr: is 0 in two segments"),
    ("misaligned base", segment(0, phys=LINK_PHYS - PAGE), r"p_paddr: is not a multiple of 2 MiB \(found .*\)"),
    ("nothing to load", changed(segments=[]), r"e_phnum: .*"),
    # relocation lists
    ("relocation outside every segment", changed(reloc64=[0x100, 0x200000]), r"relocation: lies outside .* \(found .*\)"),
    ("relocation across a segment's end", changed(reloc64=[0x100, 4 * PAGE - 4]), r"relocation: lies outside .*"),
    ("relocation in .bss", changed(reloc64=[0x100, 8 * PAGE]), r"relocation: lies outside .* \(found .*\)"),
    ("relocation below the image", words(lambda w: [0, 0x7f000000, *w[1:]]), r"relocation: lies outside .* \(found .*\)"),
    ("list not sorted", changed(reloc64=[0x5008, 0x100]), r"relocation list: is not sorted \(found .*, expected .*\)"),
    ("entry twice", changed(reloc64=[0x100, 0x100]), r"relocation list: has an entry twice \(found .*\)"),
    ("list not terminated", words(lambda w: w[1:]), r"relocation list: is not what the file ends with, .*"),
    ("one list only", words(lambda w: [0, *[x for x in w if x]]), r"relocation list: lacks the zero .*"),
    ("four lists", words(lambda w: [*w, 0]), r"relocation list: has more zero words .* \(found .*, expected 3\)"),
    ("half a word", lambda: Kernel().appended() + b"\1", r"relocation list: is not made of whole words \(found .*\)"),
    ("relocations of another kernel", other_kernel_relocs, r"relocations: too many fields .* \(found 128, expected .*\)"),
    ("one field of three is wrong", field(0x100, "<Q", 0x1122334455667788),
     r"relocations: too many fields hold no address .* \(found 1, expected 0\)"),
    ("inverse field that misses percpu", field(0x300, "<I", 0x12345678),
     r"inverse 32-bit relocation: .* \(found 768\)"),
    ("inverse list without percpu", no_percpu, r"inverse 32-bit relocation: .* \(found 2\)"),
    ("fields overlap", changed(reloc32=[0x100, 0x200]), r"relocations: two of them overlap \(found 256\)"),
    # bzImage
    ("old boot protocol", bz(patch=[("<H", 0x206, 0x204)]), r"boot protocol: is too old \(found .*, expected .*\)"),
    ("zImage", bz(patch=[("<B", 0x211, 0)]), r"loadflags: .*"),
    ("no 64-bit entry", bz(patch=[("<H", 0x236, 0)]), r"xloadflags: .* \(found 0x0\)"),
    ("short setup header", bz(patch=[("<B", 0x201, 0x20)]), r"setup header: is too short \(found .*, expected .*\)"),
    ("setup_sects past the end", bz(patch=[("<B", 0x1F1, 255)]), r"setup_sects: .* \(found .*, expected .*\)"),
    ("syssize past the end", bz(patch=[("<I", 0x1F4, 0xFFFFFFFF)]), r"syssize: .* \(found .*, expected .*\)"),
    ("payload_offset past the end", bz(patch=[("<I", 0x248, 0xFFFFFFFF)]), r"payload_offset: .* \(found .*, expected .*\)"),
    ("payload_length past the end", bz(patch=[("<I", 0x24C, 0xFFFFFFF0)]), r"payload_length: .* \(found .*, expected .*\)"),
    ("no payload", bz(patch=[("<I", 0x24C, 3)]), r"payload_length: leaves no payload \(found 3, expected 16\)"),
    ("kernel_alignment", bz(patch=[("<I", 0x230, 0x300000)]), r"kernel_alignment: .* \(found .*\)"),
    ("unknown compression", lambda: bzimage(bytes(100), packed=b"\x12\x34" * 100), r"payload: .* unknown here \(found .*\)"),
    ("payload is no ELF", lambda: bzimage(bytes(5000)), r"e_ident: is not that of an ELF file"),
    ("payload is a short ELF", lambda: bzimage(Kernel().elf()[:50]), r"ELF header: is cut off \(found 50, expected 64\)"),
    ("size word 0", bz(compression="lz4", size_word=0), r"payload size word: is 0"),
    ("size word above init_size", bz(compression="lz4", init_size=4096), r"payload size word: .*init_size.* \(found .*, expected .*\)"),
    ("size word above 1 GiB", bz(compression="lz4", size_word=GIB + 1, init_size=0xFFFFFFFF),
     r"payload size word: is larger than 1 GiB \(found .*, expected .*\)"),
]
for c in COMPRESSORS:
    k = Kernel().appended()
    ROWS += [
        (f"{c}: size word one too small", bz(compression=c, size_word=len(k) - 1), r"payload.*"),
        (f"{c}: size word one too large", bz(compression=c, size_word=len(k) + 1), r"payload.*"),
        (f"{c}: size word hugely too large", bz(compression=c, size_word=GIB, init_size=GIB), r"payload.*"),
        (f"{c}: payload cut in half",
         lambda c=c, k=k: bzimage(k, packed=COMPRESSORS[c](k)[: len(COMPRESSORS[c](k)) // 2] + struct.pack("<I", len(k))),
         r"(payload|lz4 block).*"),
        (f"{c}: bomb", bomb(c, 4 << 20), r"payload.*"),
        (f"{c}: bomb beyond init_size", bomb(c, 64 << 20, 32 << 20), r"payload size word: .*init_size.*"),
    ]


def check_left_nothing(programs, before):
    assert sorted(p.name for p in programs.directory.iterdir()) == before
    if programs.cache.exists():
        assert list(programs.cache.iterdir()) == []


@pytest.mark.parametrize("make, expected", [pytest.param(*row[1:], id=row[0]) for row in ROWS])
def test_row(programs, make, expected):
    (programs.directory / "kernel").write_bytes(make())
    for command in (["prepare", "kernel", "-o", "out"], ["inspect", "kernel"], ["run", "--accept-emulation", "kernel"],
                    ["run", "--accept-emulation", "--no-cache", "kernel"]):
        r = programs.riffle(*command)
        assert r.returncode == 1 and r.stdout == "", (command, r.stdout, r.stderr)
        line = one_line(r.stderr)
        assert re.fullmatch("riffle: kernel: " + expected, line), (command, line)
        check_left_nothing(programs, ["kernel"])


def test_the_small_kernel_is_good(programs):
    """Otherwise every row above might fail for another reason."""
    k = Kernel()
    files = {"appended": k.appended(), "elf": k.elf(), **{c: k.bzimage(c) for c in COMPRESSORS}}
    for name, content in files.items():
        (programs.directory / name).write_bytes(content)
        r = programs.riffle("prepare", name, "-o", f"{name}.out")
        assert (r.returncode, r.stderr) == (0, "")


# --- files that cannot be read


@pytest.mark.parametrize("name, expected", [
    ("missing", r"file: cannot be opened: No such file or directory"),
    (".", r"file: is a directory, not a kernel"),
    ("/dev/zero", r"file: is not a regular file"),
    ("fifo", r"file: is not a regular file"),
    ("kernel/x", r"file: cannot be opened: Not a directory"),
    ("loop", r"file: cannot be opened: Too many levels of symbolic links"),
    ("fd:77", r"file: is no open descriptor: Bad file descriptor"),
    ("fd:", r"fd:N: N is no descriptor's number"),
    ("/dev/fd/77", r"file: cannot be opened: No such file or directory"),
])
def test_no_such_file(programs, name, expected):
    (programs.directory / "kernel").write_bytes(Kernel().appended())
    os.mkfifo(programs.directory / "fifo")
    (programs.directory / "loop").symlink_to("loop")
    before = sorted(p.name for p in programs.directory.iterdir())
    for command in (["prepare", name, "-o", "out"], ["inspect", name], ["run", "--accept-emulation", name], ["prepare", "--check", name],
                    ["prepare", "kernel", "--relocs", name, "-o", "out"], ["run", "--accept-emulation", "kernel", "--relocs", name]):
        r = programs.riffle(*command)
        assert r.returncode == 1, command
        assert re.fullmatch(f"riffle: {re.escape(name)}: {expected}", one_line(r.stderr)), r.stderr
        check_left_nothing(programs, before)


def test_unreadable(programs):
    (programs.directory / "kernel").write_bytes(Kernel().appended())
    (programs.directory / "kernel").chmod(0)
    prefix = []
    if os.geteuid() == 0:
        # as nobody; that user may not be able to reach the build directory, so root tries without its capabilities
        prefix = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
        programs.directory.chmod(0o755)
        if programs.run(*prefix, "cat", "kernel").returncode == 0:
            pytest.skip("root cannot give up reading what it may not")
    for command in ([PREPARE, "prepare", "kernel", "-o", "out"], [RIFFLE, "run", "--accept-emulation", "kernel"]):
        r = programs.run(*prefix, *command)
        assert r.returncode == 1
        assert one_line(r.stderr) == "riffle: kernel: file: cannot be opened: Permission denied"
        check_left_nothing(programs, ["kernel"])


# --- pairs


def test_pairs(programs):
    k = Kernel()
    other = Kernel()
    other.reloc64 = list(range(0x400, 0x800, 8))
    files = {"elf": k.elf(), "appended": k.appended(), "bzimage": k.bzimage(), "empty": b"", "relocs": k.relocs(),
             "cut": k.relocs()[:-2], "zero": bytes(12), "of-another": other.relocs()}
    for name, content in files.items():
        (programs.directory / name).write_bytes(content)
    for kernel, relocs, expected in (
            ("elf", "empty", r"riffle: empty: relocation file: is empty"),
            ("elf", "cut", r"riffle: cut: relocation list: is not made of whole words \(found .*\)"),
            ("elf", "zero", r"riffle: zero: relocation list: is empty"),
            ("elf", "elf", r"riffle: elf: relocation list: .*"),
            ("elf", "of-another", r"riffle: elf: relocations: too many fields .*"),
            ("appended", "relocs", r"riffle: appended: relocation file: was given, but .*"),
            ("bzimage", "relocs", r"riffle: bzimage: relocation file: was given, but .*")):
        for command in (["prepare", "-o", "out"], ["run", "--accept-emulation"]):
            r = programs.riffle(*command, kernel, "--relocs", relocs)
            assert r.returncode == 1, (kernel, relocs)
            assert re.fullmatch(expected, one_line(r.stderr)), r.stderr
            check_left_nothing(programs, sorted(files))


def test_kernel_without_relocations(programs):
    """Such a kernel is prepared, but randomising its virtual base is refused, and auto never randomises less."""
    (programs.directory / "kernel").write_bytes(Kernel().elf())
    for arguments in ([], ["-r", "kaslr"]):
        r = programs.riffle("run", "--accept-emulation", *arguments, "kernel")
        assert r.returncode == 1
        assert re.match(r"riffle: kernel: relocations: ", one_line(r.stderr))


# --- truncated at every boundary


def boundaries(content, marks):
    """Every boundary between parts, one byte to each side, and a sample of the rest."""
    places = {0, 1, len(content) - 1}
    for mark in marks:
        places |= {mark - 1, mark, mark + 1}
    places |= set(range(0, len(content), max(64, len(content) // 150)))
    return sorted(p for p in places if 0 <= p < len(content))


@pytest.mark.parametrize("compression", ["gzip", "lz4"])
def test_truncated_bzimage(programs, compression):
    content = Kernel().bzimage(compression)
    payload = 4 * 512 + 256
    marks = [0x1F1, 0x1F4, 0x1FE, 0x200, 0x202, 0x206, 0x230, 0x236, 0x248, 0x250, 0x258, 0x264, 0x26C, 512, 1024, 2048,
             payload, payload + 4, payload + 8, payload + 16]
    # syssize counts paragraphs, rounded up: up to 15 of the bytes it counts may be missing
    places = [p for p in boundaries(content, marks) if p <= len(content) - 16]
    truncated(programs, content, places, ["prepare", "-o", "out"])


def test_truncated_elf(programs):
    k = Kernel()
    content = k.elf() + k.relocs()
    elf = len(k.elf())
    marks = [4, 16, 64, 64 + 56, 64 + 3 * 56, PAGE, 5 * PAGE, 6 * PAGE, elf]
    # if only zeros are left of the list, the file is a kernel without relocations; cut between two words, it may be a
    # shorter, valid list
    places = [p for p in boundaries(content, marks) if p < elf]
    places += [p for p in range(elf + 6, len(content)) if p % 4]
    truncated(programs, content, places, ["prepare", "-o", "out"])


def truncated(programs, content, places, command):
    path = programs.directory / "kernel"
    for place in places:
        path.write_bytes(content[:place])
        r = programs.riffle(*command, "kernel")
        assert r.returncode == 1, f"cut at {place}: {r}"
        assert one_line(r.stderr).startswith("riffle: kernel: "), r.stderr
    check_left_nothing(programs, ["kernel"])


def test_truncated_and_flipped_prepared_image(programs):
    (programs.directory / "kernel").write_bytes(Kernel().appended())
    assert programs.riffle("prepare", "kernel", "-o", "prepared").returncode == 0
    path = programs.directory / "prepared"
    content = path.read_bytes()
    places = [8, 12, 40, 0x438, 4095, 4096, 4097, 4096 + 72, 4096 + 120, 5000, 2 << 20, (2 << 20) + 1, len(content) - 1]
    for place in places:
        path.write_bytes(content[:place])
        for command in (["run", "--accept-emulation", "prepared"], ["inspect", "prepared"], ["prepare", "--check", "prepared"]):
            r = programs.riffle(*command)
            assert r.returncode == 1, (place, command)
            assert one_line(r.stderr).startswith("riffle: prepared: ")
    # in header and plan every bit matters; each field of the header is hit
    plan_bytes = struct.unpack_from("<Q", content, 48)[0]
    for place in [*range(0, 0x440, 3), 2000, 4095, *range(4096, 4096 + plan_bytes, 5)]:
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x40]) + content[place + 1 :])
        r = programs.riffle("run", "--accept-emulation", "prepared")
        assert r.returncode == 1, place
        assert one_line(r.stderr).startswith("riffle: prepared: ")
    check_left_nothing(programs, ["kernel", "prepared"])


@pytest.mark.parametrize("method, field", [("lz4", "frame: is not an LZ4 block"), ("zstd", "frame: is not a Zstandard frame")])
def test_compressed_prepared_image_with_other_frames(programs, method, field):
    """Header and plan are correct: the error is found when a frame is decompressed, before the guest starts."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("/dev/kvm cannot be opened")
    (programs.directory / "kernel").write_bytes(Kernel().appended())
    assert programs.riffle("prepare", f"--compress={method}", "kernel", "-o", "prepared").returncode == 0
    path = programs.directory / "prepared"
    content = path.read_bytes()
    payload, = struct.unpack_from("<Q", content, 64)
    assert payload % PAGE == 0 and payload < len(content)
    for garbage in (0x00, 0xff, 0x5a):
        path.write_bytes(content[:payload] + bytes([garbage]) * (len(content) - payload))
        r = programs.riffle("run", "--accept-emulation", "-m", "64M", "prepared")
        assert (r.returncode, r.stdout) == (1, ""), r
        line = one_line(r.stderr.splitlines(True)[-1])  # behind the one that tells from how many layouts it is drawn
        assert line.startswith("riffle: prepared: frame: ") and (field in line or "fewer bytes" in line), line
        assert programs.riffle("prepare", "--check", "prepared").returncode == 1
    for end in (payload, len(content) - 1, payload + 1):
        path.write_bytes(content[:end])
        r = programs.riffle("run", "--accept-emulation", "-m", "64M", "prepared")
        assert r.returncode == 1
        assert one_line(r.stderr).startswith("riffle: prepared: file_bytes: is not the size of the file")
    check_left_nothing(programs, ["kernel", "prepared"])


# --- files that change under the reader


class Meddler(threading.Thread):
    """Keeps changing a file until told to stop."""

    def __init__(self, change):
        super().__init__(daemon=True)
        self.change, self.halt = change, threading.Event()

    def run(self):
        while not self.halt.is_set():
            self.change()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.halt.set()
        self.join()


def big_kernel():
    """A kernel that takes some milliseconds to read."""
    k = Kernel()
    k.segments[2].data = bytes(k.data) + random.Random(3).randbytes(16 << 20)
    k.segments[2].memory = len(k.segments[2].data)
    return k.appended()


@pytest.mark.parametrize("how", ["cut short", "overwritten", "replaced"])
def test_changed_while_it_is_read(programs, how):
    content = big_kernel()
    path = programs.directory / "kernel"
    path.write_bytes(content)
    dice = random.Random(11)

    def change():
        if how == "cut short":
            os.truncate(path, dice.randrange(len(content)))
            time.sleep(0.002)
            path.write_bytes(content)
        elif how == "overwritten":
            with open(path, "r+b") as f:
                f.seek(dice.randrange(len(content) - 4096))
                f.write(dice.randbytes(4096))
        else:
            new = programs.directory.parent / "new"
            new.write_bytes(content)
            new.rename(path)
        time.sleep(dice.random() * 0.02)

    outcomes = set()
    with Meddler(change):
        for _ in range(25):
            r = programs.riffle("prepare", "kernel", "-f", "-o", "out")
            assert r.returncode in (0, 1), r
            outcomes.add(r.returncode)
            if r.returncode:
                assert one_line(r.stderr).startswith("riffle: kernel: ")
            # a file that was written is complete, whatever it was made from
            if (programs.directory / "out").exists():
                assert programs.riffle("prepare", "--check", "out").returncode == 0
                (programs.directory / "out").unlink()
            else:
                assert r.returncode == 1
    if how == "replaced":
        assert outcomes == {0}      # an open file stays what it was
    assert [p.name for p in programs.directory.iterdir()] == ["kernel"]


def test_prepared_image_cut_while_it_is_loaded(programs):
    """No SIGBUS: either the guest resets, or there is one error line."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("/dev/kvm cannot be opened")
    (programs.directory / "kernel").write_bytes(big_kernel())
    assert programs.riffle("prepare", "kernel", "-o", "prepared").returncode == 0
    path = programs.directory / "prepared"
    content = path.read_bytes()
    dice = random.Random(12)

    def change():
        # never the first pages of the text: they hold the reset, without which the guest would not end
        os.truncate(path, dice.randrange(len(content) // 2, len(content)))
        time.sleep(dice.random() * 0.004)
        with open(path, "r+b") as f:
            f.seek(len(content) // 2)
            f.write(content[len(content) // 2 :])
        time.sleep(dice.random() * 0.01)

    with Meddler(change):
        for _ in range(40):
            r = programs.riffle("run", "--accept-emulation", "-m", "64M", "prepared", timeout=300)
            assert r.returncode in (1, 3), r
            assert "riffle: prepared: " in r.stderr if r.returncode == 1 else True


# --- guests too small, initrds too large


def test_kernel_larger_than_guest_memory(programs):
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("/dev/kvm cannot be opened")
    k = Kernel()
    k.segments[2].memory = 200 << 20
    (programs.directory / "kernel").write_bytes(k.appended())
    for mode in ("kaslr", "physical", "off"):
        r = programs.riffle("run", "--accept-emulation", "-r", mode, "-m", "128M", "kernel")
        assert r.returncode == 1, mode
        assert re.fullmatch(r"riffle: kernel: .* \(found 0x.*\)", one_line(r.stderr)), r.stderr
    assert programs.riffle("run", "--accept-emulation", "-m", "256M", "kernel").returncode == 3


def test_initrd_that_does_not_fit(programs):
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("/dev/kvm cannot be opened")
    (programs.directory / "kernel").write_bytes(Kernel().appended())
    with open(programs.directory / "initrd", "wb") as f:
        f.truncate(200 << 20)
    r = programs.riffle("run", "--accept-emulation", "-m", "128M", "-i", "initrd", "kernel")
    assert r.returncode == 1
    assert re.fullmatch(r"riffle: initrd: .* \(found .*, expected .*\)", one_line(r.stderr)), r.stderr
    for name, expected in (("missing", "No such file"), ("/dev/null", "regular file")):
        r = programs.riffle("run", "--accept-emulation", "-i", name, "kernel")
        assert r.returncode == 1
        assert one_line(r.stderr).startswith(f"riffle: {name}: ") and expected in r.stderr, r.stderr


def test_initrd_and_kernel_together_do_not_fit(programs):
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("/dev/kvm cannot be opened")
    k = Kernel()
    k.segments[2].memory = 60 << 20
    (programs.directory / "kernel").write_bytes(k.appended())
    with open(programs.directory / "initrd", "wb") as f:
        f.truncate(60 << 20)
    r = programs.riffle("run", "--accept-emulation", "-m", "128M", "-i", "initrd", "kernel")
    assert r.returncode == 1
    assert one_line(r.stderr).startswith("riffle: kernel: ")


# --- output


def test_nowhere_to_write(programs):
    (programs.directory / "kernel").write_bytes(Kernel().appended())
    (programs.directory / "directory").mkdir()
    for out, expected in (("directory", "output: cannot be replaced: Is a directory"),
                          ("nowhere/x", "output: directory cannot be opened: No such file or directory"),
                          ("kernel/x", "output: directory cannot be opened: Not a directory"),
                          ("directory/", "output: has no file name: Is a directory"),
                          ("/proc/x", "output: cannot be made: ")):
        r = programs.riffle("prepare", "-f", "kernel", "-o", out)
        assert r.returncode == 1
        assert one_line(r.stderr).startswith(f"riffle: {out}: {expected}"), r.stderr
        check_left_nothing(programs, ["directory", "kernel"])


def test_file_size_limit(programs):
    (programs.directory / "kernel").write_bytes(Kernel().appended())
    r = programs.run("sh", "-c", f"ulimit -f 100; exec {PREPARE} prepare kernel -o out")
    assert r.returncode == 1
    assert one_line(r.stderr) == "riffle: out: output: cannot be given its size: File too large"
    check_left_nothing(programs, ["kernel"])
