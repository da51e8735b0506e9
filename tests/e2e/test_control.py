# SPDX-License-Identifier: Apache-2.0
"""Control of a running machine (machine/control.h) with a busy guest, and its devices when the host fails."""
import os
import re
import subprocess

import pytest

from conftest import BUILD, ROOT

MODULES = "virtio_mmio,virtio_blk,virtio_rng,virtio_balloon,virtio_pmem,nd_pmem"
CHECKS = ["pmem", "generation", "patch", "full", "eio", "rebind", "keys", "stored", "untouched", "size"]

pytestmark = pytest.mark.skipif(not os.environ.get("RIFFLE_LONG"), reason="a guest for some minutes: make check-long")


@pytest.fixture(scope="module")
def seen(fetch_kernel, tmp_path_factory):
    """The output of the guest of tests/guest/control.sh and of the program that controls it."""
    directory = tmp_path_factory.mktemp("control")
    initrd, kernel = directory / "initrd", directory / "kernel"
    subprocess.run([ROOT / "tools/mkinitramfs", initrd, "--busybox", "--modules", f"cloud-6.12:{MODULES}", "--init",
                    ROOT / "tests/guest/control.sh"], check=True)
    subprocess.run([BUILD / "cli/riffle", "prepare", "-o", kernel, fetch_kernel("cloud-6.12")], check=True, capture_output=True)
    r = subprocess.run([ROOT / "tools/kvmbox", "--share", directory, "--timeout", "540", "sh", ROOT / "tests/e2e/control.sh",
                        BUILD / "tests/e2e/controlled", kernel, initrd, "append=quiet", "vcpus=4"], capture_output=True, text=True,
                       stdin=subprocess.DEVNULL, timeout=600, check=False)
    assert r.returncode == 0, r.stdout + r.stderr
    return r.stdout.replace("\r", "")


def test_checks(seen):
    lines = seen.splitlines()
    assert [line for line in lines if line in {f"{check}: ok" for check in CHECKS}] == [f"{c}: ok" for c in CHECKS], seen
    assert lines[-len(["stored", "untouched", "size"]) - 1] == "ended: 1"  # by a reset: Ctrl-Alt-Del


def test_balloon(seen):
    """64 MiB are in the balloon, all statistics have arrived, and free memory was hinted and reported."""
    states = re.findall(r"^balloon: target=(\d+) actual=(\d+) hinted=(\d+) reported=(\d+) stats=(\w+) free=(\d+)$", seen, re.M)
    assert len(states) == 2
    for state in states:
        assert state[:2] == ("67108864", "67108864")
        assert int(state[4], 16) & 0x3ff == 0x3ff
        assert 0 < int(state[5]) < 192 << 20
    hinted, reported = int(states[1][2]), int(states[1][3])
    assert int(states[0][2]) == 0
    assert 16 << 20 < hinted < 256 << 20
    assert reported > 16 << 20


def test_limits_exact(seen):
    """310 operations at 10 per second, 620 at 20, the first second's at once: 30 seconds each, within 2 % over the minute."""
    took = [int(ms) for ms in re.findall(r"^(?:ten|twenty): (\d+) ms$", seen, re.M)]
    assert len(took) == 2
    assert 60000 * 0.98 <= sum(took) <= 60000 * 1.02, took
