# SPDX-License-Identifier: Apache-2.0
"""riffle gdb-script for layouts whose sections slid: gdb finds the symbols, types and lines of each block."""
import json
import re
import shutil
import struct
import subprocess

import pytest

pytestmark = pytest.mark.skipif(not shutil.which("gdb"), reason="no gdb (Debian package gdb)")

LINK = 0xFFFFFFFF81000000
BASE = 0xFFFFFFFF9A000000
IMAGE_BYTES = 0x600000
BLOCKS = [(0, 0), (0x200000, 0x14000), (0x300000, 0x3C8000), (0x400000, 0x3CA000), (0x480000, 0x5D3000), (0x500000, 0x5D4000)]
SPAN = IMAGE_BYTES + BLOCKS[-1][1]

SOURCE = """
__attribute__((section(".data..percpu"))) long percpu_counter = 7;
const long constants[4] = {1, 2, 3, 4};
struct pair { int left, right; } some_data = {5, 6};
__attribute__((section(".init.data"))) long some_init = 8;
static long hidden[4];
long zeros[16];
__attribute__((section(".brk"))) char heap[64];
__attribute__((noinline)) long first(long x) { return x * some_data.left + hidden[x & 3]++; }
__attribute__((noinline)) long second(long x) { return first(x) + percpu_counter + constants[x & 3] + zeros[x & 15] + heap[x & 63]; }
void _start(void) { second(some_data.right + some_init); }
"""

SCRIPT = """
PHDRS { text PT_LOAD; data PT_LOAD; percpu PT_LOAD; rest PT_LOAD; note PT_NOTE; }
SECTIONS {
  . = 0xffffffff81000000;
  .text : AT(0x1000000) { *(.text*) . += 64; _etext = .; } :text
  .notes : { *(.note.gnu.build-id) } :text :note
  . = 0xffffffff81200000;
  .rodata : AT(0x1200000) { __start_rodata = .; *(.rodata*) __end_rodata = .; } :text
  . = 0xffffffff81300000;
  .data : AT(0x1300000) { _sdata = .; *(.data) } :data
  .data..percpu 0 : AT(0x1380000) { *(.data..percpu) } :percpu
  . = 0xffffffff81400000;
  .init.data : AT(0x1400000) { *(.init.data) } :rest
  . = 0xffffffff81480000;
  .bss : AT(0x1480000) { __bss_start = .; *(.bss) } :rest
  . = 0xffffffff81500000;
  .brk (NOLOAD) : AT(0x1500000) { *(.brk) . += 0x1000; } :rest
  . = 0xffffffff81600000;
  _end = .;
  /DISCARD/ : { *(.comment) *(.note.GNU-stack) *(.eh_frame) *(.note.gnu.property) }
}
"""
# something of each block, and its first byte's neighbours: how far each moved
PLACES = {"_start": 0, "constants": 1, "some_data": 2, "some_init": 3, "zeros": 4, "hidden": 4, "heap": 5}


@pytest.fixture(scope="module")
def vmlinux(tmp_path_factory):
    directory = tmp_path_factory.mktemp("vmlinux")
    (directory / "small.c").write_text(SOURCE)
    (directory / "small.lds").write_text(SCRIPT)
    subprocess.run(["gcc", "-O1", "-g", "-falign-functions=16", "-mcmodel=kernel", "-fno-pic", "-fno-asynchronous-unwind-tables", "-nostdlib",
                    "-static", "-no-pie", "-fno-ipa-sra", "-Wl,--build-id=0x0123456789abcdef", "-Wl,-Tsmall.lds", "small.c", "-o",
                    "vmlinux"], cwd=directory, check=True, timeout=300)
    return directory / "vmlinux"


def symbols_of(vmlinux):
    text = subprocess.run(["nm", "-n", vmlinux], capture_output=True, text=True, check=True).stdout
    return {name: int(address, 16) for address, _, name in map(str.split, text.splitlines())}


def layout(directory, chunks=None):
    path = directory / f"layout-{bool(chunks)}"
    content = {"riffle_layout": 1, "mode": ("fgkaslr" if chunks else "kaslr") + "+slide", "physical_base": hex(0x5E00000),
               "virtual_base": hex(BASE), "link_physical": hex(0x1000000), "link_virtual": hex(LINK), "image_bytes": IMAGE_BYTES,
               "kernel": {"version": "6.1.0-test", "build_id": "0123456789abcdef", "content_digest": "00" * 32, "source_digest": "11" * 32,
                          "shuffle_checksum": "2" * 16},
               "slides": [list(block) for block in BLOCKS]}
    if chunks:
        content["chunks"] = chunks
    path.write_text(json.dumps(content))
    return path


def moved(address):
    """Where an address is in the guest, if no function changed its place."""
    return address - LINK + BASE + [slide for start, slide in BLOCKS if address - LINK >= start][-1]


def gdb(script, *commands):
    arguments = ["gdb", "-nx", "-batch", "-x", str(script)]
    for command in commands:
        arguments += ["-ex", command]
    r = subprocess.run(arguments, capture_output=True, text=True, timeout=300, check=False)
    assert "warning" not in r.stderr.lower() and "error" not in r.stderr.lower(), r.stderr
    return r.stdout


def shuffled(directory, symbols):
    """Two neighbours of 16 bytes' multiples have changed places; the layout, and where all functions are."""
    names = ["first", "second", "_start"]
    starts = sorted(symbols[name] for name in names) + [(symbols["_start"] + 64 + 15) // 16 * 16]
    order = sorted(names, key=symbols.get)
    bytes_of = {name: starts[i + 1] - starts[i] for i, name in enumerate(order)}
    place, at, chunks = {}, starts[0], []
    for name in reversed(order):
        place[name] = at - LINK + BASE
        at += bytes_of[name]
    for name in order:
        chunks.append([symbols[name] - LINK, bytes_of[name], place[name] - BASE - (symbols[name] - LINK)])
    return layout(directory, chunks), place


def test_vmlinux_of_a_slid_guest(programs, vmlinux):
    """Section by section, since one offset does not describe all."""
    symbols = symbols_of(vmlinux)
    r = programs.prepare("gdb-script", "-l", layout(programs.directory), "-v", vmlinux)
    assert r.returncode == 0, r.stderr
    script = programs.directory / "guest.gdb"
    script.write_text(r.stdout)
    assert f"# Image: {BASE:#x} to {BASE + SPAN:#x}, linked" in r.stdout
    for start, slide in BLOCKS[1:]:
        assert f"# Slid from {LINK + start:#x} on, as linked: by {slide:#x}\n" in r.stdout
    commands = [f"info symbol {moved(symbols[name]):#x}" for name in PLACES] + [f"print/x (long)&{name}" for name in PLACES]
    first = moved(symbols["first"])
    out = gdb(script, *commands, "print &percpu_counter", f"info line *{first:#x}", "ptype some_data", f"riffle-physical {moved(symbols['zeros']):#x}",
              "print/x $riffle_image_bytes")
    for name, block in PLACES.items():
        at = symbols[name] - LINK + BASE + BLOCKS[block][1]
        assert at == moved(symbols[name])
        assert re.search(rf"^{name} in section \.", out, re.M), (name, out)
        assert re.search(rf"^\$\d+ = {at:#x}$", out, re.M), (name, hex(at), out)
    assert re.search(r"\(long \*\) 0x0\b", out) and re.search(r'^Line \d+ of "small.c"', out, re.M) and re.search(r"int left;\s+int right;", out), out
    assert f"{moved(symbols['zeros']) - BASE + 0x5E00000:#x}\n" in out and f"= {SPAN:#x}" in out, out


def test_symbols_of_a_slid_guest(programs, vmlinux):
    """With functions in another order as well: the symbols' ELF, and types from the vmlinux beside it."""
    symbols = symbols_of(vmlinux)
    lay, place = shuffled(programs.directory, symbols)
    r = programs.prepare("gdb-script", "-l", lay, "-v", vmlinux)
    assert (r.returncode, r.stdout) == (1, "") and "--symbols" in r.stderr, r
    r = programs.prepare("gdb-script", "-l", lay, "-v", vmlinux, "-s", "guest.elf", "-m", "map")
    assert (r.returncode, r.stderr) == (0, "")
    script = programs.directory / "guest.gdb"
    script.write_text(r.stdout)
    wanted = {name: moved(symbols[name]) for name in (*PLACES, "__start_rodata", "__end_rodata", "_sdata", "__bss_start")} | place
    wanted["_end"] = BASE + SPAN
    names = [name for name in wanted if name != "_end"]
    out = gdb(script, *[f"info symbol {wanted[name]:#x}" for name in names], *[f"info address {name}" for name in wanted])
    for name in PLACES | place:
        assert re.search(rf"^{name} in section \.", out, re.M), (name, out)
    for name, at in wanted.items():
        assert re.search(rf'^Symbol "{name}" is at {at:#x} in a file', out, re.M), (name, hex(at), out)
    out = gdb(script, "riffle-types", "ptype some_data", *[f"print/x (long)&{name}" for name in PLACES if name != "_start"])
    assert re.search(r"int left;\s+int right;", out), out
    for name in PLACES:
        if name != "_start":
            assert re.search(rf"^\$\d+ = {wanted[name]:#x}$", out, re.M), (name, out)
    lines = {name: int(at, 16) for at, _, name in map(str.split, (programs.directory / "map").read_text().splitlines())}
    assert {name: lines[name] for name in wanted} == wanted
    # readers that are stricter than gdb: each symbol in its section
    r = subprocess.run(["readelf", "-WSs", programs.directory / "guest.elf"], capture_output=True, text=True, check=True)
    assert r.stderr == "" and re.search(rf" \.bss +NOBITS +{moved(symbols['__bss_start']):x} ", r.stdout), r


def test_section_names_that_gdb_would_take_apart(programs, vmlinux):
    """They come from a file that anybody may have made, and go into commands."""
    content = bytearray(vmlinux.read_bytes())
    names, = struct.unpack_from("<H", content, 62)
    at, = struct.unpack_from("<Q", content, 40)
    offset, = struct.unpack_from("<Q", content, at + 64 * names + 24)
    where = content.index(b"\0.init.data\0", offset)
    lay = layout(programs.directory)
    for name in (b".ini\nt.dat", b".init data", b".init;data", b'.init"data', b".init\\data", b".init\xffdata"):
        content[where + 1:where + 11] = name[:10].ljust(10, b"x")
        (programs.directory / "bad").write_bytes(content)
        r = programs.prepare("gdb-script", "-l", lay, "-v", "bad")
        assert (r.returncode, r.stdout) == (1, "") and "bad: sh_name: is not a name that gdb can be told" in r.stderr, (name, r)
        assert r.stderr.count("\n") == 1
