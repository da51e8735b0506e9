# SPDX-License-Identifier: Apache-2.0
"""The program alone in a root directory of its own: no /proc, no /dev/null, no environment, no other program."""
import json
import os
import shutil
import subprocess

import pytest
from vmm import PATIENCE, VMM, Vmm

ENVIRONMENT = {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
IN_JAIL = """
set -e
mkdir -p jail/dev
touch jail/dev/kvm
mount --bind /dev/kvm jail/dev/kvm
exec env -i "$(command -v chroot)" jail /firecracker "$@"
"""


@pytest.fixture
def jailed(tmp_path, kernel, needs_kvm):
    jail = tmp_path / "jail"
    jail.mkdir()
    shutil.copy(VMM, jail / "firecracker")
    shutil.copy(kernel, jail / "kernel")
    (jail / "vm.json").write_text(json.dumps({"boot-source": {"kernel_image_path": "/kernel", "boot_args": "reboot=k"},
                                              "drives": []}))
    unshare = ["unshare", "--map-root-user", "--mount"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces")
    if subprocess.run(["ldd", str(VMM)], capture_output=True, text=True, check=False).returncode == 0 and \
            "=>" in subprocess.run(["ldd", str(VMM)], capture_output=True, text=True, check=False).stdout:
        pytest.skip("the program needs shared objects")
    return tmp_path, [*unshare, "sh", "-c", IN_JAIL, "sh", "--id", "jailed", "--accept-emulation"]


def test_kernel_is_prepared_by_the_program_itself(jailed):
    directory, command = jailed
    with open(directory / "out", "wb") as out:
        process = subprocess.Popen([*command, "--no-api", "--config-file", "/vm.json"], cwd=directory,
                                   stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=ENVIRONMENT)
    vmm = Vmm(directory / "watched", start=False)
    try:
        vmm.wait_for(lambda: b"tiny guest" in (directory / "out").read_bytes() or process.poll() is not None)
        output = (directory / "out").read_text(errors="replace")
        assert "tiny guest" in output, output
    finally:
        process.kill()
        process.wait(PATIENCE)


def test_file_that_is_no_kernel(jailed):
    directory, command = jailed
    (directory / "jail" / "kernel").write_bytes(b"\x7fELF" + bytes(5000))
    r = subprocess.run([*command, "--no-api", "--config-file", "/vm.json"], cwd=directory, stdin=subprocess.DEVNULL,
                       capture_output=True, text=True, timeout=PATIENCE, check=False, env=ENVIRONMENT)
    assert r.returncode == 1
    assert "Cannot load kernel due to invalid memory configuration or invalid kernel image" in r.stdout + r.stderr
