# SPDX-License-Identifier: Apache-2.0
"""Networks, vsock and balloon of one guest, with tests/e2e/network.py on the host's side."""
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
    """Always in the box, because it creates interfaces and routes."""
    if not shutil.which("passt"):
        pytest.skip("passt is not installed")
    command = [*BOX, "--mem", "2048", "--timeout", "3000" if LONG else "900", "--module", "tun", "--module", "dummy",
               "/usr/bin/python3", ROOT / "tests/e2e/network.py", RIFFLE, fetch_kernel("cloud-6.1"), network_initrd, str(BYTES)]
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
    """HTTP over tap, over passt, and again over the tap after the driver was unbound and rebound."""
    assert fact(seen, way).split()[0] == seen["big"]


@pytest.mark.parametrize("way", ["tap", "user"])
def test_from_guest(seen, way):
    """The host fetches from the guest, over passt through a forwarded port."""
    assert fact(seen, "back").split()[0] == seen[f"from_{way}"]


def test_passt_comes_and_goes(seen):
    """Two passts: one is killed during the run, which is reported while the guest continues; the other ends with riffle."""
    assert seen["passt"] == "2"
    assert [line for line in seen["err"].splitlines() if "network is gone" in line] == [
        "riffle: notice: passt: the network is gone; the guest continues without it"]
    assert seen["passt_after"] == "0"


def test_vsock(seen):
    assert re.fullmatch(r"OK [0-9]+\n", seen["vsock_answer"])
    assert seen["vsock_echo"]
    assert seen["vsock_nobody"] == ["", ""]
    assert seen["vsock_many"] == 50


def test_balloon(seen):
    """32 MiB are in the balloon and missing in the guest; memory that the guest frees returns to the host."""
    missing = seen["memory"] - int(fact(seen, "MemTotal"))
    assert 32 << 10 < missing < 96 << 10
    assert seen["resident_used"] - seen["resident_freed"] > 30 << 10, seen


BAD = [
    ("--net", "x", "--net: unknown key 'x', expected tap=, fd=, user, forward=, host, mac=, mtu=, rx-bps=, rx-pps=, "
     "tx-bps= or tx-pps="),
    ("--net", "mtu=1500", "--net: found 'mtu=1500', expected one of tap=NAME, fd=N and user"),
    ("--net", "tap=a,user", "--net: found 'tap=a,user', expected one of tap=NAME, fd=N and user"),
    ("--net", "tap=a,host", "--net: host: is given without user, expected both"),
    ("--net", "user,forward=80", "--net: forward: found '80', expected tcp|udp:[ADDRESS:]HOST_PORT:GUEST_PORT"),
    ("--net", "user,mac=01:00:00:00:00:00", "--net: mac: found '01:00:00:00:00:00', expected a unicast MAC address like "
     "06:00:ac:10:00:02"),
    ("--net", "user,mtu=67", "--net: mtu: found '67', expected a number from 68 to 65535"),
    ("--vsock", "cid=2,path=/x", "--vsock: cid: found '2', expected a number from 3 to 4294967294"),
    ("--vsock", "cid=3", "--vsock: path: is missing, expected the path of a unix socket"),
    ("--balloon", "4097", "--balloon: SIZE: found '4097', expected a multiple of 4K, as in 64M"),
    ("--balloon", "1T", "balloon: is larger than the guest's memory (found 0x10000000000, expected 0x10000000)"),
    ("--balloon", "64M,stats=0", "--balloon: stats: found '0', expected 1 to 65535 seconds"),
    ("--balloon", "64M,fast", "--balloon: unknown key 'fast', expected deflate-on-oom, stats=, reporting or hinting"),
]


@pytest.mark.parametrize("option, value, message", BAD, ids=[f"{row[0][2:]} {row[1]}" for row in BAD])
def test_bad_option(programs, option, value, message):
    r = programs.riffle("run", option, value, "kernel")
    assert (r.returncode, r.stdout, r.stderr) == (2, "", f"riffle run: {message}; riffle run --help shows more\n")
