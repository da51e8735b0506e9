# SPDX-License-Identifier: Apache-2.0
"""What every conformance test starts from: processes in directories of their own, and the tiny guest's kernel."""
import functools
import os
import pathlib
import shutil
import signal
import struct
import subprocess

import pytest
from vmm import VMM, Vmm

HERE = pathlib.Path(__file__).resolve().parent

# what nohup or a background job ignores, the programs under test would ignore as well
for _number in (signal.SIGHUP, signal.SIGINT):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)


def pytest_sessionstart(session):
    if not VMM.exists():
        pytest.exit(f"{VMM} is not there: build first, or set RIFFLE_BUILD or RIFFLE_VMM", 2)


@pytest.fixture
def start(tmp_path):
    """A function that starts a process with these arguments; ended with the test."""
    started = []

    def start(*arguments, **kwargs):
        started.append(Vmm(tmp_path / f"vm{len(started)}", *arguments, **kwargs))
        return started[-1]

    yield start
    for vmm in started:
        vmm.stop()


@pytest.fixture
def vmm(start):
    """A process of this test's own, before the start of its machine."""
    return start()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One process for a module's requests that leave nothing behind."""
    vmm = Vmm(tmp_path_factory.mktemp("shared"))
    vmm.file("kernel")
    yield vmm
    assert vmm.running, vmm.output
    vmm.stop()


LINK_OFFSET = 0xffffffff80000000


@functools.cache
def build_kernel(path, linux=True):
    """
    The tiny guest's kernel, an ELF file at 16 MiB: linked as Linux is, high in virtual memory and entered at its physical
    address, or with both addresses alike, as other systems are.
    """
    subprocess.run(["cc", "-nostdlib", "-static", "-no-pie", "-z", "noexecstack", "-o", path, HERE / "guest.S",
                    f"-Wl,-N,-Ttext={(LINK_OFFSET if linux else 0) + (16 << 20):#x},--build-id=none,--no-warn-rwx-segments"],
                   check=True)
    if linux:
        with open(path, "r+b") as f:
            image = bytearray(f.read())
            entry, headers = struct.unpack_from("<QQ", image, 24)
            struct.pack_into("<Q", image, 24, entry - LINK_OFFSET)
            for i in range(struct.unpack_from("<H", image, 56)[0]):
                header = headers + 56 * i
                kind, = struct.unpack_from("<I", image, header)
                physical, = struct.unpack_from("<Q", image, header + 24)
                if kind == 1:
                    struct.pack_into("<Q", image, header + 24, physical - LINK_OFFSET)
            f.seek(0)
            f.write(image)
    return path


@pytest.fixture(scope="session")
def kernel(tmp_path_factory):
    return build_kernel(str(tmp_path_factory.mktemp("guest") / "vmlinux"))


@pytest.fixture(scope="session")
def other_kernel(tmp_path_factory):
    """The same, of no Linux."""
    return build_kernel(str(tmp_path_factory.mktemp("other-guest") / "kernel"), linux=False)


@functools.cache
def kvm_usable():
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR))
        return True
    except OSError:
        return False


@pytest.fixture
def needs_kvm():
    if not kvm_usable():
        pytest.skip("/dev/kvm cannot be opened")


def can_make_taps():
    """Whether this process may make network interfaces, asked by making one."""
    if not shutil.which("ip"):
        return False
    r = subprocess.run(["ip", "tuntap", "add", "rflprobe0", "mode", "tap"], capture_output=True, check=False)
    if r.returncode == 0:
        subprocess.run(["ip", "tuntap", "del", "rflprobe0", "mode", "tap"], check=False)
    return r.returncode == 0


@pytest.fixture
def taps():
    """Three tap interfaces, gone after the test."""
    if not can_make_taps():
        pytest.skip("this machine does not let this user make tap interfaces")
    names = [f"rfl{os.getpid() % 10000}t{i}" for i in range(3)]
    for name in names:
        subprocess.run(["ip", "tuntap", "add", name, "mode", "tap"], check=True)
    yield names
    for name in names:
        subprocess.run(["ip", "link", "del", name], capture_output=True, check=False)     # though a process has it
