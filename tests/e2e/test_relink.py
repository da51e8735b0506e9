# SPDX-License-Identifier: Apache-2.0
"""
What riffle loads with slides is what the linker makes of the same objects, with the same gaps in its script. The
objects are those of the project's kernel lupine, compiled anew; RIFFLE_OBJECTS may name a directory that an earlier run
filled.
"""
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess

import pytest
from conftest import RIFFLE, ROOT
from guests import LONG

pytestmark = pytest.mark.skipif(not LONG, reason="one of the long tests: RIFFLE_LONG is not set")

# as tools/build-kernel gives them
FLAGS = ["LOCALVERSION=-lupine", "KBUILD_BUILD_USER=riffle", "KBUILD_BUILD_HOST=build-kernel", "KBUILD_BUILD_VERSION=1"]
SCRIPT = pathlib.Path("arch/x86/kernel/vmlinux.lds")
LAYOUTS = 3
# symbols that the kernel subtracts 1 from, also as physical addresses, and the blocks that begin there
EDGES = {"__end_rodata_hpage_align": 2, "__bss_stop": 5}


@pytest.fixture(scope="module")
def lupine(tmp_path_factory):
    """Its bzImage; a function that links its objects by a changed script; and the linker script."""
    built = {option: pathlib.Path(subprocess.run([ROOT / "tools" / "build-kernel", *option.split(), "lupine"], check=True,
                                                 capture_output=True, text=True, timeout=7200).stdout.strip())
             for option in ("", "--vmlinux")}
    source = (built[""].parents[1] / "linux-source-6.1").resolve()
    stamp = subprocess.run(["date", "-u", "-r", source / "Makefile"], capture_output=True, text=True, check=True).stdout.strip()
    objects = pathlib.Path(os.environ.get("RIFFLE_OBJECTS") or tmp_path_factory.mktemp("objects"))

    def make(*targets):
        subprocess.run(["make", "-C", source, f"O={objects}", *FLAGS, f"KBUILD_BUILD_TIMESTAMP={stamp}", "-j2", *targets],
                       check=True, capture_output=True, timeout=7200)

    shutil.copy(built[""].parent / "config", objects / ".config")
    make("olddefconfig")
    make("vmlinux")
    script = (objects / SCRIPT).read_text()

    def link(changed):
        # newer than what it is made from, so that it stays, and than the kernel, which is linked again
        (objects / SCRIPT).write_text(changed)
        try:
            make("vmlinux")
            return (objects / "vmlinux").read_bytes()
        finally:
            (objects / SCRIPT).write_text(script)

    yield built[""], built["--vmlinux"], link, script
    make("vmlinux")


def flat(elf, first):
    """The bytes of an ELF from the physical address `first` on, as they are loaded."""
    image = bytearray()
    headers, = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    for at in range(headers, headers + size * count, size):
        kind, _, offset, _, physical, stored, memory = struct.unpack_from("<IIQQQQQ", elf, at)
        if kind == 1 and physical >= first:
            place = physical - first
            image.extend(bytes(max(0, place + memory - len(image))))
            image[place:place + stored] = elf[offset:offset + stored]
    return image


def with_gaps(script, base, layout):
    """
    The linker's script with each block where the layout has it. A gap lies before all symbols that are at the end of one
    block and the start of the next, for such a symbol is one of the next.
    """
    (_, _), rodata, data, init, bss, brk = layout["slides"]
    places = {r"\.rodata : AT": rodata, r"__end_rodata_hpage_align = \.": data, r"\.init\.begin : AT": init,
              r"\.data\.\.percpu : AT": bss}
    script, n = re.subn(r" \. = \(0xffffffff80000000 \+ ALIGN\(\w+, \w+\)\);", f" . = {base:#x};", script)
    assert n == 1
    for before, (offset, slide) in places.items():
        script, n = re.subn(f"(?=(?<!\\w){before})", f" . = {base + offset + slide:#x}; ", script)
        assert n == 1, before
    # within .bss places count from its start; alignment to 2 MiB is of the place as linked, not of this one
    start = script.index("__bss_start = .;")
    end = script.index("__bss_stop = .;", start)
    decrypted = script.rindex(". = ALIGN((1 << 21));", start, script.index("__start_bss_decrypted = .;", start))
    rest = script[decrypted:end].replace(". = ALIGN((1 << 21));", "")
    return f"{script[:decrypted]} . = {sum(brk) - sum(bss):#x}; {rest}{script[end:]}"


def test_the_linker_makes_the_same(lupine, tmp_path):
    image, vmlinux, link, script = lupine
    prepared = tmp_path / "prepared"
    subprocess.run([RIFFLE, "prepare", image, "-o", prepared], check=True)
    build_id = bytes.fromhex(json.loads(subprocess.run([RIFFLE, "inspect", "--json", prepared], capture_output=True, check=True,
                                                       text=True).stdout)["build_id"])
    rela = subprocess.run(["readelf", "-rW", vmlinux], capture_output=True, text=True, check=True).stdout
    last_bytes = [(int(address, 16) - 0xFFFFFFFF81000000, {"64": 8, "32S": 4}[kind], EDGES[name]) for address, kind, name in
                  re.findall(rf"^(\w{{16}}) +\w+ R_X86_64_(\w+) +\w+ ({'|'.join(EDGES)}) (?:- 1|\+ 7fffffff)$", rela, re.M)]
    assert len(last_bytes) == 3
    slides = []
    for n in range(LAYOUTS):
        elf, out = tmp_path / f"{n}.elf", tmp_path / f"{n}.layout"
        subprocess.run([RIFFLE, "emit", prepared, "-m", "256M", "--randomize=kaslr+slide", "-o", elf, "--layout-out", out],
                       check=True, capture_output=True)
        layout = json.loads(out.read_text())
        slides.append([slide for _, slide in layout["slides"]])
        base = int(layout["virtual_base"], 16)
        loaded = flat(elf.read_bytes(), int(layout["physical_base"], 16))
        linked = flat(link(with_gaps(script, base, layout)), base - 0xFFFFFFFF80000000)
        assert len(linked) == layout["image_bytes"] + slides[-1][-1] >= len(loaded)
        loaded.extend(bytes(len(linked) - len(loaded)))
        # a hash of the linker's output
        at = loaded.index(build_id)
        assert linked[at:at + 20] != build_id and loaded.find(build_id, at + 1) < 0
        loaded[at:at + 20] = linked[at:at + 20]
        # the byte before an edge is to riffle the last one of the block before, to the linker the last one of the gap
        for offset, size, block in last_bytes:
            at = offset + next(slide for start, slide in reversed(layout["slides"]) if offset >= start)
            values = [int.from_bytes(image[at:at + size], "little") for image in (loaded, linked)]
            assert values[1] - values[0] == slides[-1][block] - slides[-1][block - 1]
            loaded[at:at + size] = linked[at:at + size]
        different = [at for at in range(0, len(linked), 4) if loaded[at:at + 4] != linked[at:at + 4]]
        assert not different, [f"{at:#x}: {loaded[at:at + 4].hex()} loaded, {linked[at:at + 4].hex()} linked"
                               for at in different[:20]]
        elf.unlink()
    assert len({tuple(s) for s in slides}) == LAYOUTS
    assert sum(a != b for a, b in zip(loaded, flat(vmlinux.read_bytes(), 0x1000000))) > 1000
