# SPDX-License-Identifier: Apache-2.0
"""riffle-jailer as root, in a box with cgroups of both versions: jailing.py holds the checks, escape.c the attempts."""
import functools
import json
import subprocess

import pytest
from conftest import BUILD, ROOT
from jailing import CHECKS

PREPARE = """
mount -t tmpfs none /sys/fs/cgroup || exit 1
for v1 in cpu cpuset; do mkdir /sys/fs/cgroup/$v1 && mount -t cgroup -o $v1 none /sys/fs/cgroup/$v1 || exit 1; done
mkdir /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified || exit 1
exec /usr/bin/python3 "$@"
"""


@functools.cache
def results():
    """One box for all the checks."""
    r = subprocess.run([ROOT / "tools/kvmbox", "--module", "tun", "--timeout", "900", "sh", "-c", PREPARE, "sh",
                        ROOT / "tests/e2e/jailing.py", BUILD / "jailer/riffle-jailer", BUILD / "tests/e2e",
                        "/tmp/jails"], capture_output=True, text=True, timeout=930, check=False,
                       stdin=subprocess.DEVNULL)
    lines = [json.loads(line) for line in r.stdout.splitlines() if line.startswith("{")]
    return {line["check"]: line["result"] for line in lines}, r.stdout + r.stderr


@pytest.mark.parametrize("name", CHECKS)
def test_jailer(name):
    checked, output = results()
    assert name in checked, output
    if checked[name].startswith("skipped"):
        pytest.skip(checked[name])
    assert checked[name] == "ok", checked[name]
