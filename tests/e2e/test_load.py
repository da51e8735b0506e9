# SPDX-License-Identifier: Apache-2.0
"""Guests at work with all their devices at once: streams both ways, drivers unbound and rebound, pauses, a soak test."""
import os
import shutil
import subprocess

import pytest

from conftest import BUILD, RIFFLE, ROOT
from guests import BOX, LONG

MODULES = "virtio_mmio,virtio_blk,virtio_net,virtio_rng,virtio_balloon,vmw_vsock_virtio_transport"
SOAK_SECONDS = int(os.environ.get("RIFFLE_SOAK_SECONDS", "3600"))

pytestmark = pytest.mark.skipif(not LONG, reason="guests for an hour: make check-long")


@pytest.fixture(scope="module")
def initrd(tmp_path_factory):
    directory = tmp_path_factory.mktemp("load")
    iperf = shutil.which("iperf3")
    if not iperf or not shutil.which("passt"):
        pytest.skip("iperf3 or passt is not installed")
    subprocess.run([os.environ.get("CC", "cc"), "-std=gnu17", "-O2", "-static", "-s", "-o", directory / "vsock",
                    ROOT / "tests/guest/vsock.c"], check=True)
    libraries = [word for word in subprocess.run(["ldd", iperf], check=True, capture_output=True, text=True).stdout.split()
                 if word.startswith("/")]
    add = [f"{iperf}:bin/iperf3", f"{directory / 'vsock'}:bin/vsock", f"{ROOT / 'tests/guest/dhcp.sh'}:dhcp.sh",
           *(f"{library}:{library[1:]}" for library in libraries)]
    subprocess.run([ROOT / "tools/mkinitramfs", directory / "initrd", "--busybox", "--modules", f"cloud-6.1:{MODULES}",
                    *(word for what in add for word in ("--add", what)), "--init", ROOT / "tests/guest/obey.sh"],
                   check=True, timeout=300)
    return directory / "initrd"


def in_box(seconds, *arguments):
    """Always in the box, because it creates interfaces and routes."""
    command = [*BOX, "--mem", "2048", "--timeout", str(seconds), "--module", "tun", "--module", "dummy", "/usr/bin/python3",
               ROOT / "tests/e2e/load.py", *arguments]
    r = subprocess.run([str(c) for c in command], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                       timeout=seconds + 30, check=False)
    print(r.stdout, r.stderr)
    assert r.returncode == 0
    assert "load: ok" in r.stdout.splitlines()


@pytest.mark.parametrize("vcpus, megabytes", [(1, 1024), (4, 64)])
def test_streams(fetch_kernel, initrd, vcpus, megabytes):
    """iperf3 both ways over tap and passt, a vsock echo of 1 GB, and each driver unbound and rebound under load."""
    in_box(3000, "streams", RIFFLE, fetch_kernel("cloud-6.1"), initrd, str(vcpus), str(megabytes))


def test_soak(fetch_kernel, initrd):
    """All devices at once, paused and resumed, the balloon up and down: nothing fails, and no memory or descriptor is lost."""
    in_box(SOAK_SECONDS + 900, "soak", BUILD / "api/riffle-vmm", fetch_kernel("cloud-6.1"), initrd, "2", str(SOAK_SECONDS))
