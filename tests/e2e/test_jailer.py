# SPDX-License-Identifier: Apache-2.0
"""
riffle-jailer as root with cgroups of both versions: here if available, otherwise (and in the long run) in a box.
jailing.py holds the checks, escape.c the attempts.
"""
import functools
import json
import os
import subprocess
import tempfile

import pytest
from conftest import BUILD, ROOT
from jailing import CHECKS

PREPARE = """
mount -t tmpfs none /sys/fs/cgroup || exit 1
for v1 in cpu cpuset; do mkdir /sys/fs/cgroup/$v1 && mount -t cgroup -o $v1 none /sys/fs/cgroup/$v1 || exit 1; done
mkdir /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified || exit 1
exec /usr/bin/python3 "$@"
"""


def able_here():
    """Root privileges, cgroups of both versions, and a directory in which device files work."""
    kinds = {tuple(line.split()[2:4]) for line in open("/proc/mounts", encoding="ascii")}
    v1 = {word for kind, options in kinds if kind == "cgroup" for word in options.split(",")}
    return (os.geteuid() == 0 and {"cpu", "cpuset"} <= v1 and any(kind == "cgroup2" for kind, _ in kinds)
            and all(os.path.exists(f"/dev/{d}") for d in ("kvm", "net/tun"))
            and not os.statvfs(tempfile.gettempdir()).f_flag & os.ST_NODEV
            and subprocess.run(["unshare", "-m", "-n", "true"], check=False, capture_output=True).returncode == 0)


@functools.cache
def results():
    """All the checks at once."""
    checks = [ROOT / "tests/e2e/jailing.py", BUILD / "jailer/riffle-jailer", BUILD / "tests/e2e"]
    with tempfile.TemporaryDirectory() as directory:
        if able_here() and not os.environ.get("RIFFLE_LONG"):
            command = ["/usr/bin/python3", *checks, directory]
        else:
            command = [ROOT / "tools/kvmbox", "--module", "tun", "--timeout", "900", "sh", "-c", PREPARE, "sh", *checks,
                       "/tmp/jails"]
        r = subprocess.run(command, capture_output=True, text=True, timeout=930, check=False, stdin=subprocess.DEVNULL)
    lines = [json.loads(line) for line in r.stdout.splitlines() if line.startswith("{")]
    return {line["check"]: line["result"] for line in lines}, r.stdout + r.stderr


@pytest.mark.parametrize("name", CHECKS)
def test_jailer(name):
    checked, output = results()
    assert name in checked, output
    if checked[name].startswith("skipped"):
        pytest.skip(checked[name])
    assert checked[name] == "ok", checked[name]
