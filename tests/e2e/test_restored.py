# SPDX-License-Identifier: Apache-2.0
"""A guest that was saved and restored while all its devices were in use (tests/e2e/restored.py)."""
import json
import os
import subprocess

import pytest

from conftest import RIFFLE, ROOT
from guests import BOX, LONG

MODULES = "virtio_mmio,virtio_blk,virtio_net,virtio_rng,virtio_balloon,virtio_pmem,nd_pmem,vmw_vsock_virtio_transport"

pytestmark = pytest.mark.skipif(not LONG, reason="a guest of 8 CPUs for some minutes: make check-long")


@pytest.fixture(scope="module")
def seen(fetch_kernel, tmp_path_factory):
    directory = tmp_path_factory.mktemp("restored")
    subprocess.run([os.environ.get("CC", "cc"), "-std=gnu17", "-O2", "-static", "-s", "-o", directory / "vsock",
                    ROOT / "tests/guest/vsock.c"], check=True)
    subprocess.run([ROOT / "tools/mkinitramfs", directory / "initrd", "--busybox", "--modules", f"cloud-6.12:{MODULES}",
                    "--add", f"{directory / 'vsock'}:bin/vsock", "--init", ROOT / "tests/guest/restored.sh"], check=True)
    subprocess.run([RIFFLE, "prepare", "-o", directory / "kernel", fetch_kernel("cloud-6.12")], check=True,
                   capture_output=True)
    r = subprocess.run([*BOX, "--mem", "2048", "--timeout", "1500", "--module", "tun", "--module", "bridge", "--share",
                        directory, "/usr/bin/python3", ROOT / "tests/e2e/restored.py",
                        RIFFLE.parent.parent / "api/riffle-vmm", directory / "kernel", directory / "initrd", "8"],
                       stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1530, check=False)
    assert r.returncode == 0, r.stdout[-3000:] + r.stderr[-6000:]
    found = json.loads(r.stdout.splitlines()[-1])
    print(json.dumps({key: value for key, value in found.items() if key != "lines"}, indent=1))
    print("\n".join(found["lines"]))
    return found


@pytest.mark.parametrize("what", ["typed", "disk", "cpus", "timers", "rng", "pmem", "reset", "reseeded", "clean"])
def test_after_each_restore(seen, what):
    assert seen[f"one-{what}"] and seen[f"two-{what}"]


@pytest.mark.parametrize("what", ["tcp-before", "tcp-in-flight", "tcp-after", "tcp-again"])
def test_a_connection_lives_on(seen, what):
    """Through another tap, with data in flight when the guest was saved."""
    assert seen[what]


@pytest.mark.parametrize("what", ["vsock-before", "vsock-echo-before", "old-vsock-ends", "vsock-moved", "vsock-echo-after",
                                  "old-path-is-gone"])
def test_vsock(seen, what):
    """Connections end on both sides; new ones are made where the override says."""
    assert seen[what]


def test_balloon(seen):
    assert seen["balloon-before"] and seen["balloon-kept"] and seen["balloon-after"]


def test_clocks(seen):
    """Clocks stood still, or advanced by the elapsed time, which is far more than a tick can be late."""
    stood, went_on = seen["stood"], seen["went on"]
    assert 1 <= stood["ticks"] <= 2 and 1 <= went_on["ticks"] <= 2, (stood, went_on)
    assert stood["gap"] >= 20 and stood["uptime"] < stood["gap"] / 2 and stood["time"] < stood["gap"] / 2, stood
    assert went_on["time"] >= went_on["gap"] - 2, went_on


def test_end(seen):
    assert seen["cpus"] == "cpus=8" and seen["done"] and seen["code"] == 0 and seen["pmem"] == "left-2"
