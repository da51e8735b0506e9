# SPDX-License-Identifier: Apache-2.0
"""What of a kernel can be shuffled: riffle prepare --debug-vmlinux, and riffle inspect's account of it."""
import re
import subprocess

import pytest
from small_kernels import Kernel

STOCK = ["cloud-6.1", "cloud-6.12"]


def failed(r, words):
    assert r.returncode == 1 and r.stdout == "" and r.stderr.count("\n") == 1, (r.stdout, r.stderr)
    assert words in r.stderr, r.stderr


# ---- prepare --debug-vmlinux


@pytest.mark.parametrize("name", STOCK)
def test_debug_vmlinux_of_the_same_build(programs, fetch_kernel, name):
    kernel, debug = fetch_kernel(name), fetch_kernel(f"{name}-dbg")
    r = programs.riffle("prepare", kernel, "--debug-vmlinux", debug, "-o", "prepared")
    assert (r.returncode, r.stdout, r.stderr) == (0, "", "")
    assert programs.riffle("prepare", "--check", "prepared").returncode == 0
    assert programs.riffle("prepare", f"fd:{(f := open(kernel, 'rb')).fileno()}", "-d", debug, "-o", "again",
                           pass_fds=[f.fileno()]).returncode == 0
    f.close()
    assert (programs.directory / "again").read_bytes() == (programs.directory / "prepared").read_bytes()


def test_debug_vmlinux_of_another_build(programs, fetch_kernel, tmp_path):
    kernel = fetch_kernel("cloud-6.1")
    debug = fetch_kernel("cloud-6.1-dbg")
    output = programs.directory / "prepared"

    def refused(path, words):
        failed(programs.riffle("prepare", kernel, "-d", path, "-o", output), words)
        assert not list(programs.directory.iterdir())

    refused(fetch_kernel("cloud-6.12-dbg"), "another build")
    refused(kernel, "ELF")
    refused(tmp_path / "none", "cannot be opened")
    refused(tmp_path, "is a directory")
    for cut in (0, 1000, 1 << 20):
        (tmp_path / "cut").write_bytes(debug.open("rb").read(cut))
        refused(tmp_path / "cut", "cut: --debug-vmlinux: ")
    # the right build id, and one byte of code that is another: of the same source, built once more
    text = subprocess.run(["readelf", "-WS", debug], capture_output=True, text=True, check=True).stdout
    offset = int(re.search(r"\] \.text +PROGBITS +[0-9a-f]+ ([0-9a-f]+)", text).group(1), 16)
    changed = tmp_path / "changed"
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", debug, changed], check=True)
    with changed.open("r+b") as f:
        f.seek(offset + 0x123456)
        byte = f.read(1)
        f.seek(offset + 0x123456)
        f.write(bytes([byte[0] ^ 1]))
    refused(changed, "has another byte than the kernel")
    changed.unlink()


def test_debug_vmlinux_stripped(programs, fetch_kernel, tmp_path):
    stripped = tmp_path / "stripped"
    subprocess.run(["strip", "-o", stripped, fetch_kernel("cloud-6.12-dbg")], check=True)
    failed(programs.riffle("prepare", fetch_kernel("cloud-6.12"), "-d", stripped, "-o", "prepared"), "stripped: --debug")


def test_debug_vmlinux_of_a_kernel_that_cannot_be_shuffled(programs, fetch_kernel):
    """Without it that kernel is prepared as it is; with it something was asked for that cannot be had."""
    (programs.directory / "kernel").write_bytes(Kernel().bzimage())
    (programs.directory / "vmlinux").write_bytes(Kernel().elf())
    failed(programs.riffle("prepare", "kernel", "-d", "vmlinux", "-o", "prepared"), "")
    assert not (programs.directory / "prepared").exists()
    r = programs.riffle("prepare", "kernel", "-o", "prepared")
    assert (r.returncode, r.stderr) == (0, "")
    assert programs.riffle("prepare", "-d", "vmlinux", "--check", "prepared").returncode == 2
