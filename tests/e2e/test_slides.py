# SPDX-License-Identifier: Apache-2.0
"""Kernels whose sections slide boot without a warning, on several machines, and lose no memory; test_shuffle.py has many layouts."""
import collections
import json
import os
import re
import shlex
import subprocess

import pytest
from conftest import RIFFLE, ROOT
from guests import LONG, in_box

MACHINES = [
    ("cloud-6.1", ["--randomize=fgkaslr+slide", "-c", "4", "-m", "512M"]),
    ("cloud-6.1", ["--randomize=fgkaslr+slide", "-a", "pti=on", "-m", "128M"]),
    ("cloud-6.12", ["--randomize=kaslr+slide", "-m", "1200M"]),
    ("cloud-6.12", ["--randomize=fgkaslr+slide", "-c", "2", "-a", "pti=on"]),
    ("generic-6.1", ["--randomize=fgkaslr+slide", "-m", "5G"]),
    # entered in .init.text
    ("cloud-newest", ["--randomize=fgkaslr+slide", "-m", "512M"]),
]
LOG = ["dmesg", "-l", "emerg,alert,crit,err,warn"]
NAMES = ("_text", "_stext", "__start_rodata", "linux_banner", "_sdata", "jiffies", "__end_rodata", "_sinittext", "__bss_start",
         "__brk_base", "vfs_read", "do_sys_open", "kernel_clone", "init_task", "__init_end")
SYMBOLS = ["grep", "-wE", "|".join(NAMES), "/proc/kallsyms"]
GUESTS_IN_A_BOX = 25
SECONDS = 600       # for a guest that hangs; a box has as much for each
# what everybody may read of the size of memory, of the pages that map it, and of what was free before the gaps came back
MEMORY = ["sh", "-c", "while read name kib unit; do case $name in MemTotal:|DirectMap*) echo $name $kib;; esac; done </proc/meminfo; "
          "read n </proc/sys/kernel/threads-max; echo threads: $n; read n </proc/sys/fs/epoll/max_user_watches; echo watches: $n; "
          "read n </proc/mounts; size=${n#*size=}; echo rootfs: ${size%%k,*}"]
LAYOUTS = 12 if LONG else 3     # of kernels whose memory is compared, by the seeds 1, 2, 3 ...
# in KiB, what each takes of memory that does not come back: the gaps around read-only data of 6.12
KEPT = {"cloud-6.1": 0, "cloud-6.12": 2048, **({"cloud-newest": 0} if LONG else {})}
# what the machine lacks, what its processor is vulnerable to, and what a busy host does to time
EXPECTED = re.compile(r"PCI: System does not support PCI|No config space access|hw-vuln|Spectre|Speculat|MMIO Stale|TAA|"
                      r"RETBleed|SRSO|CPU feature dependency check|hrtimer: interrupt took")


def run_in_boxes(guests):
    """What each of them (options, kernel, command) said on standard output, its exit code, and what riffle told of it."""
    ended = []
    for first in range(0, len(guests), GUESTS_IN_A_BOX):
        some = guests[first:first + GUESTS_IN_A_BOX]
        script = "".join(shlex.join(["timeout", str(SECONDS), str(RIFFLE), "run", *map(str, options), str(kernel), "--", *command]) +
                         "; echo code $?\n" for options, kernel, command in some)
        r = in_box(["sh", "-c", script], mem=3000, timeout=(SECONDS + 10) * len(some) + 300)
        outputs = re.split(r"^code (\d+)\n", r.stdout.decode(errors="replace"), flags=re.M)
        told = [line for line in r.stderr.decode(errors="replace").splitlines() if line.startswith("riffle: randomize=")]
        assert len(outputs) == 2 * len(some) + 1 and len(told) == len(some), r.stderr.decode(errors="replace")
        ended += zip(some, outputs[0::2], outputs[1::2], told)
    return ended


@pytest.fixture(scope="module")
def outputs(fetch_kernel, tmp_path_factory):
    """Of all guests, in as few boxes as possible; layout files are in their directory."""
    directory = tmp_path_factory.mktemp("slides")
    prepared = {}
    for name in sorted({name for name, _ in MACHINES}):
        prepared[name] = directory / name
        subprocess.run([RIFFLE, "prepare", fetch_kernel(name), "-o", prepared[name]], check=True)
    out = [directory / f"{n}.layout" for n in range(5)]
    seeded = ["--randomize=fgkaslr+slide", "--seed", "5901", "--layout-out"]
    bases = ["--randomize=kaslr+slide", "--seed", "5901", "--layout-out"]
    guests = {
        "log": [(options, prepared[name], LOG) for name, options in MACHINES],
        "memory": [(options, prepared[name], MEMORY) for name in KEPT for options in (
            ["--randomize=kaslr"], *(["--randomize=kaslr+slide", "--seed", str(n + 1)] for n in range(LAYOUTS)))],
        "symbols": [(options, prepared["cloud-6.1"], SYMBOLS) for options in (
            ["--randomize=off"], [*seeded, out[0]], [*seeded, out[1]], ["--layout", out[0], "--layout-out", out[2]],
            [*bases, out[3]])],
        "paired": [(options, prepared["cloud-6.12"], SYMBOLS) for options in (["--randomize=off"], [*bases, out[4]])],
    }
    rows = iter(run_in_boxes([guest for kind in guests.values() for guest in kind]))
    return directory, {name: [next(rows) for _ in kind] for name, kind in guests.items()}


def test_guests_log_no_warning(outputs):
    for (options, kernel, _), out, code, told in outputs[1]["log"]:
        assert code == "0" and f"{options[0][2:]}: " in told and "slides of" in told, (options, kernel, out, told)
        assert not [line for line in out.splitlines() if not EXPECTED.search(line)], (options, kernel)


def test_memory_tells_nothing(outputs):
    """
    All gaps come back, or take as much in each layout; in 7.3 a page may be missing when one layout is booted again, too. In how
    many large pages sections begin or end seldom differs.
    """
    rows = iter(outputs[1]["memory"])
    for name, kept in KEPT.items():
        told = [dict(re.findall(r"^(\w+): (\d+)$", out, re.M)) for _, out, _, _ in (next(rows) for _ in range(1 + LAYOUTS))]
        assert all({"MemTotal", "DirectMap4k", "DirectMap2M", "threads", "watches", "rootfs"} <= t.keys() for t in told), told
        lost = [int(told[0]["MemTotal"]) - int(t["MemTotal"]) for t in told[1:]]
        assert all(abs(kib - kept) <= (4 if name == "cloud-newest" else 0) for kib in lost), (name, told)
        # limits, of those with as much memory: what the kernel could use while it had not freed the gaps
        limits = {(t["threads"], t["watches"], t["rootfs"]) for t in told[1:] if t["MemTotal"] == told[1]["MemTotal"]}
        assert len(limits) == 1 and limits != {(told[0]["threads"], told[0]["watches"], told[0]["rootfs"])}, (name, told)
        pages = collections.Counter((t["DirectMap4k"], t["DirectMap2M"]) for t in told[1:])
        assert max(pages.values()) >= LAYOUTS - LAYOUTS // 4, (name, told)


def test_refusal_names_the_reason(fetch_kernel, tmp_path):
    """Of a kernel without relocations as well, for which no slides were looked for."""
    vmlinux, stripped = tmp_path / "vmlinux", tmp_path / "stripped"
    with vmlinux.open("wb") as file:
        subprocess.run([ROOT / "tools/extract-vmlinux", fetch_kernel("cloud-6.1")], stdout=file, check=True)
    subprocess.run(["objcopy", vmlinux, stripped], check=True)  # without the relocations behind it
    for command in (["emit", "-m", "256M", "-o", tmp_path / "elf"], ["verify"]):
        r = subprocess.run([RIFFLE, *command, "--randomize=kaslr+slide", stripped], capture_output=True, text=True, check=False)
        assert r.returncode == 1 and "cannot slide apart (relocations: are missing" in r.stderr, r.stderr


@pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="there is no /dev/kvm")
@pytest.mark.parametrize("options, mode, notice", [
    ([], "fgkaslr+slide", None),
    (["-a", "rodata=off"], "fgkaslr", "do not slide apart: with rodata=off on the command line"),
    (["-a", "rodata=off", "-r", "kaslr+slide"], "kaslr+slide", "rodata=off on the command line: the kernel does not free the gaps"),
    (["-a", "rodata=off", "-r", "kaslr"], "kaslr", None)])
def test_gaps_that_a_command_line_keeps(fetch_kernel, options, mode, notice):
    """MemTotal would tell them."""
    with subprocess.Popen([RIFFLE, "run", "--accept-emulation", *options, fetch_kernel("cloud-6.1")], stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
        told = []
        for line in run.stderr:
            told.append(line)
            if line.startswith("riffle: randomize="):
                break
        run.kill()
    assert told[-1].startswith(f"riffle: randomize={mode}: "), told
    assert ("rodata" in "".join(told)) == bool(notice) and (notice or "") in "".join(told), told


def symbols_of(out):
    """Addresses by names, of lines of kallsyms; names may occur more than once in modules."""
    found = {name: int(address, 16) for address, _, name in (line.split()[:3] for line in out.splitlines())}
    assert set(NAMES) <= found.keys(), out
    return found


def test_same_seed_and_same_layout(outputs):
    """A seed gives the same guest again, and so does the layout file that was written of it, to the last symbol."""
    directory, rows = outputs
    off, first, again, replayed, bases = rows["symbols"]
    assert all(code == "0" for _, _, code, _ in rows["symbols"])
    assert first[1] == again[1] == replayed[1] != off[1]
    layouts = [(directory / f"{n}.layout").read_bytes() for n in range(4)]
    assert layouts[0] == layouts[1] == layouts[2] and json.loads(layouts[0])["mode"] == "fgkaslr+slide"
    assert "replayed from --seed: predictable" in first[3] and "replayed from --layout: predictable" in replayed[3]
    assert "fgkaslr+slide: " in replayed[3] and ", slides of " in replayed[3]
    assert json.loads(layouts[3])["mode"] == "kaslr+slide" and bases[1] != first[1]


def test_a_slid_guest_is_symbolized(outputs, programs):
    """Each address that the guest told of itself is the linked one, by the slide of its section; gaps are not the kernel's."""
    directory, rows = outputs
    for off, row, name in ((rows["symbols"][0], rows["symbols"][1], "0.layout"), (rows["symbols"][0], rows["symbols"][-1], "3.layout"),
                           (*rows["paired"], "4.layout")):
        linked = symbols_of(off[1])
        layout, running = json.loads((directory / name).read_text()), symbols_of(row[1])
        log = programs.directory / "log"
        # where something begins at the very end of a block, its neighbour's name says which of the two it is
        log.write_text(row[1])
        r = programs.riffle("symbolize", "--layout", directory / name, log)
        assert r.returncode == 0, r.stderr
        assert symbols_of(r.stdout) == linked
        base = int(layout["virtual_base"], 16)
        blocks = [(offset, slide) for offset, slide in layout["slides"]]
        for symbol in ("linux_banner", "init_task", "_sdata", "_sinittext", "__bss_start", "__brk_base", "__start_rodata", "__end_rodata"):
            offset = linked[symbol] - linked["_text"]
            slide = next(slide for start, slide in reversed(blocks) if offset >= start)
            assert running[symbol] - base == offset + slide, symbol
        gaps = [base + start + before for (_, before), (start, slide) in zip(blocks, blocks[1:]) if slide > before]
        assert len(gaps) >= 4
        r = programs.riffle("symbolize", "--layout", directory / name, "--address", *(hex(gap) for gap in gaps))
        assert "ffffffff81" not in r.stdout, r.stdout


def test_blocks_keep_their_alignment(fetch_kernel, tmp_path):
    """Whatever the gaps before them are: 16 KiB for .data (a stack, PTI's page tables), two pages for .init, else a page."""
    kernel, layout = tmp_path / "kernel", tmp_path / "layout"
    subprocess.run([RIFFLE, "prepare", fetch_kernel("cloud-6.1"), "-o", kernel], check=True)
    for _ in range(20):
        subprocess.run([RIFFLE, "emit", kernel, "-m", "256M", "--randomize=kaslr+slide", "-o", tmp_path / "elf", "--layout-out", layout],
                       check=True, capture_output=True)
        slides = [slide for _, slide in json.loads(layout.read_text())["slides"]]
        assert len(slides) == 6 and slides[0] == 0
        assert all(slide % align == 0 for slide, align in zip(slides[1:], (4096, 16384, 8192, 4096, 4096))), slides
        (tmp_path / "elf").unlink()
        layout.unlink()
