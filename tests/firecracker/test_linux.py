# SPDX-License-Identifier: Apache-2.0
"""A Debian guest booted through the API in one box; linux.py says what is looked at."""
import json
import os
import subprocess

import linux
import pytest
from vmm import BUILD, ROOT

MODULES = "virtio_mmio,virtio_blk,virtio_net,virtio_rng,vmw_vsock_virtio_transport,virtio_balloon"


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    directory = tmp_path_factory.mktemp("linux")
    r = subprocess.run([ROOT / "tools/fetch-kernel", "cloud-6.1"], capture_output=True, text=True, timeout=900, check=False)
    if r.returncode:
        pytest.skip(f"kernel cloud-6.1 cannot be had: {r.stderr.strip()}")
    subprocess.run([os.environ.get("CC", "cc"), "-std=gnu17", "-O2", "-static", "-s", "-o", directory / "vsock",
                    ROOT / "tests/guest/vsock.c"], check=True)
    subprocess.run([ROOT / "tools/mkinitramfs", directory / "initrd", "--busybox", "--modules", f"cloud-6.1:{MODULES}", "--add",
                    f"{directory / 'vsock'}:bin/vsock", "--init", ROOT / "tests/guest/shell.sh"], check=True, timeout=300)
    box = subprocess.run([str(c) for c in (
        ROOT / "tools/kvmbox", "--mem", "2048", "--timeout", "580", "--module", "tun", "--share", directory, "--share", BUILD,
        "/usr/bin/python3", ROOT / "tests/firecracker/linux.py", directory, r.stdout.strip(), directory / "initrd")],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=600, check=False,
        env={**os.environ, "XDG_CACHE_HOME": str(directory)})
    assert box.returncode == 0, (box.stdout[-2000:], box.stderr[-6000:])
    found = json.loads(box.stdout.splitlines()[-1])
    print(box.stderr[-20000:], found["output"])
    return found


@pytest.mark.parametrize("name", [f.__name__ for f in linux.CHECKS])
def test_guest(seen, name):
    assert seen.get(name) == "ok", seen.get(name, "the guest had ended: " + seen["output"])
