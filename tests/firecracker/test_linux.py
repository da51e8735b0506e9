# SPDX-License-Identifier: Apache-2.0
"""Debian guests booted through the API in a box; linux.py and linux_boots.py say what is looked at."""
import json
import os
import subprocess

import linux
import linux_boots
import pytest
from vmm import BUILD, ROOT

MODULES = "virtio_mmio,virtio_blk,virtio_net,virtio_rng,vmw_vsock_virtio_transport,virtio_balloon"
LONG = bool(os.environ.get("RIFFLE_LONG"))


@pytest.fixture(scope="module")
def kernel_of(tmp_path_factory):
    """A function from a name of tools/fetch-kernel to the kernel and an initramfs with its modules."""
    directory = tmp_path_factory.mktemp("initrds")

    def make(name):
        r = subprocess.run([ROOT / "tools/fetch-kernel", name], capture_output=True, text=True, timeout=900, check=False)
        if r.returncode:
            pytest.skip(f"kernel {name} cannot be had: {r.stderr.strip()}")
        subprocess.run([os.environ.get("CC", "cc"), "-std=gnu17", "-O2", "-static", "-s", "-o", directory / "vsock",
                        ROOT / "tests/guest/vsock.c"], check=True)
        subprocess.run([ROOT / "tools/mkinitramfs", directory / name, "--busybox", "--modules", f"{name}:{MODULES}", "--add",
                        f"{directory / 'vsock'}:bin/vsock", "--init", ROOT / "tests/guest/shell.sh"], check=True, timeout=300,
                       env={**os.environ, "RIFFLE_BUILD": str(BUILD)})
        return r.stdout.strip(), directory / name

    return make


def in_box(script, directory, *arguments, timeout):
    """What a script that boots guests prints at its end."""
    box = subprocess.run([str(c) for c in (
        ROOT / "tools/kvmbox", "--mem", "2560", "--timeout", timeout, "--module", "tun", "--share", directory, "--share", BUILD,
        "/usr/bin/python3", ROOT / "tests/firecracker" / script, *arguments)],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=timeout + 30, check=False)
    assert box.returncode == 0, (box.stdout[-2000:], box.stderr[-6000:])
    print(box.stderr[-20000:])
    return json.loads(box.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def seen(kernel_of, tmp_path_factory):
    kernel, initrd = kernel_of("cloud-6.1")
    return in_box("linux.py", tmp_path_factory.mktemp("linux"), kernel, initrd, timeout=560)


@pytest.mark.parametrize("name", [f.__name__ for f in linux.CHECKS])
def test_guest(seen, name):
    assert seen.get(name) == "ok", seen.get(name, "the guest had ended: " + seen["output"])


@pytest.fixture(scope="module")
def booted(kernel_of, tmp_path_factory):
    (cloud, cloud_initrd), (generic, generic_initrd) = kernel_of("cloud-6.1"), kernel_of("generic-6.1")
    return in_box("linux_boots.py", tmp_path_factory.mktemp("boots"), cloud, generic, cloud_initrd, generic_initrd, timeout=1500)


@pytest.mark.skipif(not LONG, reason="boots a guest for each client: make check-long")
@pytest.mark.parametrize("name", [f.__name__ for f in linux_boots.CHECKS])
def test_boot(booted, name):
    assert booted.get(name) == "ok", booted.get(name)
