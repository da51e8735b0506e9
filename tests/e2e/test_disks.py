# SPDX-License-Identifier: Apache-2.0
"""Disks and the entropy device in a booted guest, and the options that describe them."""
import os
import subprocess

import patience
import pytest

from conftest import RIFFLE, ROOT

MODULES = "virtio_mmio,virtio_blk,virtio_rng"
CHECKS = ["sizes", "serial", "data", "filesystem", "discard", "read-only", "partition", "rng", "unbind", "lie", "data-again"]


def test_guest(fetch_kernel, tmp_path):
    """One guest with four disks, each with a different way of reading and writing: see tests/guest/disks.sh."""
    kernel = fetch_kernel("cloud-6.1")
    initrd = tmp_path / "initrd"
    subprocess.run([ROOT / "tools/mkinitramfs", initrd, "--busybox", "--modules", f"cloud-6.1:{MODULES}", "--init",
                    ROOT / "tests/guest/disks.sh"], check=True)
    r = subprocess.run([ROOT / "tools/kvmbox", "--share", initrd, "--timeout", "400", "sh",
                        ROOT / "tests/e2e/disks.sh", RIFFLE, kernel, initrd, "--append", "quiet"], capture_output=True, text=True,
                       stdin=subprocess.DEVNULL, timeout=450, check=False)
    lines = r.stdout.replace("\r", "").splitlines()
    assert [line for line in lines if line in {f"{check}: ok" for check in CHECKS}] == [f"{c}: ok" for c in CHECKS], \
        r.stdout + r.stderr
    assert "disks: done" in lines
    assert r.returncode == 0


LONG = pytest.mark.skipif(not os.environ.get("RIFFLE_LONG"), reason="boots more guests: make check-long")


@LONG
@pytest.mark.parametrize("name, cpus, append", [("cloud-5.10", 4, "quiet"), ("cloud-newest", 1, "quiet"), ("lupine", 1, "quiet acpi=off")])
def test_other_kernels(fetch_kernel, tmp_path, name, cpus, append):
    """
    The same guest on the oldest and the newest kernel, and on one without ACPI and modules, which finds the devices
    only by the command line. Debian's kernels find them only by ACPI. lupine has no /dev/mem, with which the guest
    corrupts its ring.
    """
    initrd = tmp_path / "initrd"
    if name == "lupine":
        build = patience.run([ROOT / "tools/build-kernel", name])
        assert build.returncode == 0, build.stderr
        kernel = build.stdout.strip()
        modules, checks = [], [check for check in CHECKS if check != "lie"]
    else:
        kernel, modules, checks = fetch_kernel(name), ["--modules", f"{name}:{MODULES}"], CHECKS
    subprocess.run([ROOT / "tools/mkinitramfs", initrd, "--busybox", *modules, "--init", ROOT / "tests/guest/disks.sh"],
                   check=True)
    # 4 vCPUs on the single processor of a busy box
    r = subprocess.run([ROOT / "tools/kvmbox", "--share", initrd, "--timeout", "1200", "sh", ROOT / "tests/e2e/disks.sh", RIFFLE,
                        kernel, initrd, "-c", str(cpus), "--append", append], capture_output=True, text=True,
                       stdin=subprocess.DEVNULL, timeout=1230, check=False)
    lines = r.stdout.replace("\r", "").splitlines()
    assert [line for line in lines if line in {f"{check}: ok" for check in CHECKS}] == [f"{c}: ok" for c in checks], \
        r.stdout + r.stderr
    # without ACPI it cannot power off, and resets itself
    assert r.returncode == (3 if name == "lupine" else 0)


@LONG
def test_killed(fetch_kernel, tmp_path):
    """SIGKILL while a guest writes with cache=writeback: everything it had synced is in the file, in 20 of 20 rounds."""
    initrd = tmp_path / "initrd"
    subprocess.run([ROOT / "tools/mkinitramfs", initrd, "--busybox", "--modules", f"cloud-6.1:{MODULES}", "--init",
                    ROOT / "tests/guest/synced.sh"], check=True)
    r = subprocess.run([ROOT / "tools/kvmbox", "--share", initrd, "--timeout", "1800", "sh", ROOT / "tests/e2e/killed.sh", RIFFLE,
                        fetch_kernel("cloud-6.1"), initrd, "20"], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                       timeout=1830, check=False)
    assert "killed: ok" in r.stdout.splitlines(), r.stdout + r.stderr


@pytest.mark.skipif(not os.environ.get("RIFFLE_LONG"), reason="makes and boots a Debian image: make check-long")
def test_debian(fetch_kernel, tmp_path):
    """The image of tools/mkimage boots to a login with no failed unit and its root on the disk, and powers off."""
    image = tmp_path / "debian.img"
    subprocess.run([ROOT / "tools/mkimage", image], check=True, capture_output=True, timeout=900)
    r = subprocess.run([ROOT / "tools/kvmbox", "--mem", "3072", "--share", tmp_path, "--timeout", "580", "sh",
                        ROOT / "tests/e2e/debian.sh", RIFFLE, fetch_kernel("cloud-6.1"), image], capture_output=True, text=True,
                       stdin=subprocess.DEVNULL, timeout=600, check=False)
    assert "failed=0 root=/dev/vda" in r.stdout, r.stdout + r.stderr
    assert r.returncode == 0


BAD = [
    ("--disk", "", "--disk: has no value, expected FILE"),
    ("--disk", "f,cache=fast", "--disk: cache: found 'fast', expected writeback, none or unsafe"),
    ("--disk", "f,rw", "--disk: unknown key 'rw', expected ro, root, partuuid=, cache=, serial=, raw, io=, bps=, bps-burst=, "
     "iops= or iops-burst="),
    ("--disk", "f,serial=123456789012345678901", "--disk: serial: found '123456789012345678901', expected 1 to 20 printable characters"),
    ("--disk", "f,serial=a\tb", "--disk: serial: found 'a?b', expected 1 to 20 printable characters"),
    ("--disk", "f,root,partuuid=a b", "--disk: partuuid: found 'a b', expected letters, digits and '-'"),
    ("--disk", "f,partuuid=1", "--disk: partuuid: is given without root, expected both"),
    ("--disk", "f,bps=0", "--disk: bps: found '0', expected bytes a second, which may have a unit: K, M, G or T"),
    ("--disk", "f,iops-burst=3", "--disk: iops-burst: is given without iops, expected both"),
    ("--rng=x", None, "--rng: unknown key 'x', expected bps=, bps-burst=, iops= or iops-burst="),
]


@pytest.mark.parametrize("option, value, message", BAD, ids=[str(row[1]) for row in BAD])
def test_bad_option(programs, option, value, message):
    r = programs.riffle("run", option, *([value] if value is not None else []), "kernel")
    assert (r.returncode, r.stdout, r.stderr) == (2, "", f"riffle run: {message}; riffle run --help shows more\n")


@pytest.mark.parametrize("option", ["--rng", "--balloon=1M", "--vsock=cid=3,path=/x"])
def test_second_of_its_kind(programs, option):
    r = programs.riffle("run", option, option, "kernel")
    name = option.split("=")[0]
    assert (r.returncode, r.stderr) == (2, f"riffle run: {name}: is given twice, expected once; riffle run --help shows more\n")


def test_more_devices_than_slots(programs):
    r = programs.riffle("run", *[word for n in range(16) for word in ("--disk", str(n))], "--rng", "--balloon", "1M", "kernel")
    assert (r.returncode, r.stderr) == (2, "riffle run: devices: are more than there are slots (found 18, expected 17); "
                                        "riffle run --help shows more\n")


def test_two_roots(programs):
    r = programs.riffle("run", "--disk", "a,root", "--disk", "b,root", "kernel")
    assert r.stderr == "riffle run: --disk: root: is given for two disks, expected for one; riffle run --help shows more\n"
