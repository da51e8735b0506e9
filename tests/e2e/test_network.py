# SPDX-License-Identifier: Apache-2.0
"""Networks, vsock and balloon of one guest, which tries them all with tests/e2e/network.py on the host's side."""
import json
import os
import re
import shutil
import subprocess

import pytest

from conftest import RIFFLE, ROOT
from guests import LONG, BOX

MODULES = "virtio_mmio,virtio_net,vmw_vsock_virtio_transport,virtio_balloon"
BYTES = 100 << 20 if LONG else 2 << 20


@pytest.fixture(scope="module")
def network_initrd(tmp_path_factory):
    directory = tmp_path_factory.mktemp("network")
    subprocess.run([os.environ.get("CC", "cc"), "-std=gnu17", "-O2", "-static", "-s", "-o", directory / "vsock",
                    ROOT / "tests/guest/vsock.c"], check=True)
    subprocess.run([ROOT / "tools/mkinitramfs", directory / "initrd", "--busybox", "--modules", f"cloud-6.1:{MODULES}",
                    "--add", f"{directory / 'vsock'}:bin/vsock", "--add", f"{ROOT / 'tests/guest/dhcp.sh'}:dhcp.sh",
                    "--init", ROOT / "tests/guest/network.sh"], check=True, timeout=300)
    return directory / "initrd"


@pytest.fixture(scope="module")
def seen(network_initrd, fetch_kernel):
    """In the box even where KVM is real: it makes interfaces and routes."""
    if not shutil.which("passt"):
        pytest.skip("passt is not installed")
    command = [*BOX, "--mem", "2048", "--timeout", "3000" if LONG else "900", "--module", "tun", "--module", "dummy",
               "python3", ROOT / "tests/e2e/network.py", RIFFLE, fetch_kernel("cloud-6.1"), network_initrd, str(BYTES)]
    r = subprocess.run([str(c) for c in command], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                       timeout=3030, check=False)
    assert r.returncode == 0, (r.stdout[-2000:], r.stderr[-4000:])
    found = json.loads(r.stdout.splitlines()[-1])
    print("\n".join(found["lines"]), found["err"])
    return found


def fact(seen, key):
    lines = [line for line in seen["lines"] if line.startswith(f"{key}=")]
    assert len(lines) == 1, (key, seen["lines"])
    return lines[0].partition("=")[2]


def test_guest_is_content(seen):
    assert seen["code"] == 0, seen["err"]
    assert "all-done" in seen["lines"]
    checks = [line for line in seen["lines"] if re.fullmatch(r"[a-z-]+: (ok|FAILED)", line)]
    assert checks and all(line.endswith(": ok") for line in checks), seen["lines"]
    for name in ("up", "ping", "offloads", "user-dhcp", "vsock-call", "vsock-refused", "rebind", "use-memory"):
        assert f"{name}: ok" in checks


def test_mac(seen):
    assert fact(seen, "mac") == "06:00:ac:10:00:02"


@pytest.mark.parametrize("way", ["tap", "user", "again"])
def test_to_guest(seen, way):
    """HTTP over tap, over passt, and over the tap once more after the driver was taken off and put back."""
    assert fact(seen, way).split()[0] == seen["big"]


@pytest.mark.parametrize("way", ["tap", "user"])
def test_from_guest(seen, way):
    """The host fetches from the guest, over passt through a forwarded port."""
    assert fact(seen, "back").split()[0] == seen[f"from_{way}"]


def test_passt_comes_and_goes(seen):
    assert seen["passt"] == "1"
    assert seen["passt_after"] == "0"


def test_vsock(seen):
    assert re.fullmatch(r"OK [0-9]+\n", seen["vsock_answer"])
    assert seen["vsock_echo"]
    assert seen["vsock_nobody"] == ["", ""]
    assert seen["vsock_many"] == 50


def test_balloon(seen):
    """32 MiB of 192 are in the balloon; what the guest gave up again is the host's again."""
    assert 100 << 10 < int(fact(seen, "MemTotal")) < 160 << 10
    assert seen["resident_used"] - seen["resident_freed"] > 30 << 10, seen
