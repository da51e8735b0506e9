# SPDX-License-Identifier: Apache-2.0
"""
The metadata service as a Linux guest sees it, with busybox's wget and nc: in version 1, and in the long run also
version 2, which tests/firecracker covers too.
"""
import json
import re
import subprocess

import pytest

from conftest import BUILD, ROOT
from guests import BOX, LONG

VERSIONS = ["V1", "V2"] if LONG else ["V1"]
CHECKS = ["host", "without-token", "wrong-token", "new-token", "imds", "json", "not-found", "not-text", "large", "many",
          "pings-nobody", "other-port", "host-again"]


@pytest.fixture(scope="module")
def seen(fetch_kernel, tmp_path_factory):
    """Always in the box, because it creates interfaces."""
    initrd = tmp_path_factory.mktemp("mmds") / "initrd"
    subprocess.run([ROOT / "tools/mkinitramfs", initrd, "--busybox", "--modules", "cloud-6.1:virtio_mmio,virtio_net",
                    "--init", ROOT / "tests/guest/mmds.sh"], check=True, timeout=300)
    command = [*BOX, "--timeout", "900", "--module", "tun", "/usr/bin/python3", ROOT / "tests/e2e/mmds.py",
               BUILD / "api/riffle-vmm", fetch_kernel("cloud-6.1"), initrd, *VERSIONS]
    r = subprocess.run([str(c) for c in command], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=930,
                       check=False)
    assert r.returncode == 0, (r.stdout[-2000:], r.stderr[-4000:])
    return json.loads(r.stdout.splitlines()[-1])


@pytest.mark.parametrize("version", VERSIONS)
def test_guest_reads(seen, version):
    guest = seen[version]
    checks = [line for line in guest["lines"] if re.fullmatch(r"[a-z-]+: (ok|FAILED)", line)]
    assert checks == [f"{name}: ok" for name in CHECKS], (guest["lines"], guest["err"])
    assert "all-done" in guest["lines"]
    assert guest["code"] == 0, guest["err"]


@pytest.mark.parametrize("version", VERSIONS)
def test_frames_stay(seen, version):
    """The network saw frames for others, and none for the service."""
    assert seen[version]["frames"] > 4
    assert seen[version]["leaked"] == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_metrics(seen, version):
    metrics = seen[version]["metrics"]
    assert metrics["connections_created"] == metrics["connections_destroyed"] >= 30
    assert metrics["rx_no_token"] == 1
    assert metrics["rx_invalid_token"] == 1
    assert metrics["tx_frames"] == metrics["tx_count"] > 100
    assert metrics["tx_bytes"] > 80000
    assert metrics["rx_accepted"] >= metrics["rx_count"] > 100
    assert metrics["rx_accepted_unusual"] >= 1      # the ping
    assert metrics["rx_accepted_err"] >= 1          # the other port
    assert metrics["tx_errors"] == metrics["rx_bad_eth"] == 0
