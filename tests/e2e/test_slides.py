# SPDX-License-Identifier: Apache-2.0
"""Kernels whose sections slide boot without a warning, on several machines, and lose no memory."""
import json
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
    ("generic-6.1", ["--randomize=fgkaslr+slide"]),
    # entered in .init.text
    ("cloud-newest", ["--randomize=fgkaslr+slide", "-m", "512M"]),
]
MACHINES += [("generic-newest", [f"--randomize={mode}+slide", "-m", "512M"]) for mode in ("kaslr", "fgkaslr")] * LONG
MACHINES += [("cloud-5.10", [f"--randomize={mode}+slide"]) for mode in ("kaslr", "fgkaslr")] * LONG
MACHINES += [("cloud-6.1", ["--randomize=fgkaslr+slide"])] * (20 * LONG)
LOG = ["dmesg", "-l", "emerg,alert,crit,err,warn"]
MEMORY = ["sh", "-c", "while read name kib unit; do [ $name != MemTotal: ] || echo total $kib; done </proc/meminfo"]
# what the machine lacks, what its processor is vulnerable to, and that it is slow
EXPECTED = re.compile(r"PCI: System does not support PCI|No config space access|hw-vuln|Spectre|Speculat|MMIO Stale|TAA|RETBleed|SRSO|hrtimer: interrupt took|CPU feature dependency check")


@pytest.fixture(scope="module")
def outputs(fetch_kernel, tmp_path_factory):
    """What the command of each guest said, all in one box."""
    directory = tmp_path_factory.mktemp("slides")
    prepared = {}
    for name in sorted({name for name, _ in MACHINES}):
        prepared[name] = directory / name
        subprocess.run([RIFFLE, "prepare", fetch_kernel(name), "-o", prepared[name]], check=True)
    guests = [(options, prepared[name], LOG) for name, options in MACHINES]
    guests += [([f"--randomize={mode}"], prepared[name], MEMORY) for name in ("cloud-6.1", "cloud-6.12")
               for mode in ("kaslr", "kaslr+slide")]
    script = "".join(f"{shlex.join(['timeout', '300', str(RIFFLE), 'run', *options, str(kernel), '--', *command])}; echo code $?\n"
                     for options, kernel, command in guests)
    r = in_box(["sh", "-c", script], mem=3000, timeout=2400)
    outputs = re.split(r"^code (\d+)\n", r.stdout.decode(errors="replace"), flags=re.M)
    told = [line for line in r.stderr.decode(errors="replace").splitlines() if line.startswith("riffle: randomize=")]
    assert len(outputs) == 2 * len(guests) + 1 and len(told) == len(guests), r.stderr.decode(errors="replace")
    return list(zip(guests, outputs[0::2], outputs[1::2], told))


def test_guests_log_no_warning(outputs):
    for (options, kernel, _), out, code, told in outputs[:len(MACHINES)]:
        assert code == "0" and f"{options[0][2:]}: " in told and "slides of" in told, (options, kernel, out, told)
        assert not [line for line in out.splitlines() if not EXPECTED.search(line)], (options, kernel)


def test_gaps_come_back(outputs):
    """All of them: the size of memory tells nothing."""
    rows = outputs[len(MACHINES):]
    totals = [int(re.search(r"^total (\d+)$", out, re.M).group(1)) for _, out, _, _ in rows]
    assert totals[0::2] == totals[1::2]


def test_refusal_names_the_reason(fetch_kernel, tmp_path):
    """Of a kernel without relocations as well, for which no slides were looked for."""
    vmlinux, stripped = tmp_path / "vmlinux", tmp_path / "stripped"
    with vmlinux.open("wb") as file:
        subprocess.run([ROOT / "tools/extract-vmlinux", fetch_kernel("cloud-6.1")], stdout=file, check=True)
    subprocess.run(["objcopy", vmlinux, stripped], check=True)  # without the relocations behind it
    for command in (["emit", "-m", "256M", "-o", tmp_path / "elf"], ["verify"]):
        r = subprocess.run([RIFFLE, *command, "--randomize=kaslr+slide", stripped], capture_output=True, text=True, check=False)
        assert r.returncode == 1 and "cannot slide apart (relocations: are missing" in r.stderr, r.stderr


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
