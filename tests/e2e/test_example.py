# SPDX-License-Identifier: Apache-2.0
"""The example: a monitor of somebody else's, built against an installed libriffle, boots a randomised kernel."""
import re

import pytest

from conftest import ROOT
from guests import in_box
from installed import install, output

SOURCE = ROOT / "examples" / "tiny-monitor.c"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return install(tmp_path_factory.mktemp("example") / "root")


@pytest.fixture(scope="module")
def monitor(tree):
    program = tree.destdir / "tiny-monitor"
    tree.compile(SOURCE, program)
    return program


@pytest.fixture(scope="module")
def prepared(tree, fetch_kernel):
    kernel = tree.destdir / "kernel.riffle"
    output(tree.prefix / "bin" / "riffle", "prepare", fetch_kernel("cloud-6.1"), "-o", kernel)
    return kernel


def test_it_needs_the_public_headers_alone():
    included = re.findall(r"#include *[<\"]([^>\"]*)", SOURCE.read_text())
    assert "riffle/riffle.h" in included
    assert not [name for name in included if "/" in name and not re.match(r"(riffle|sys|linux)/[a-z_]+\.h$", name)]


def test_it_links_with_the_static_library_too(tree, tmp_path):
    program = tmp_path / "tiny-monitor"
    output("cc", "-O2", "-o", program, SOURCE, *tree.pkg_config("--cflags", "riffle"), tree.libdir / "libriffle.a")
    assert "libriffle" not in output("ldd", program)


def test_two_boots_have_two_layouts(monitor, prepared, tmp_path):
    """Up to four boots: two may lie alike once in 482 times."""
    offsets = set()
    for _ in range(4):
        r = in_box([monitor, prepared])
        console = r.stdout.decode(errors="replace").replace("\r", "")
        told = r.stderr.decode(errors="replace")
        assert r.returncode == 0, told + console[-4000:]
        assert "Linux version 6.1" in console
        assert re.search(r"Kernel panic - not syncing: VFS: Unable to mount root fs", console)
        assert re.search(r"one of \d+ virtual and \d+ physical places", told)
        offset = re.search(r"Kernel Offset: (0x[0-9a-f]+) from 0xffffffff81000000", console)
        assert offset, console[-4000:]
        assert offset.group(1) not in told
        offsets.add(offset.group(1))
        if len(offsets) == 2:
            return
    pytest.fail(f"four boots, one layout: {offsets}")


def test_what_is_no_prepared_kernel_is_refused(monitor, tmp_path):
    bad = tmp_path / "bad"
    bad.write_bytes(b"\x7fELF" + bytes(8192))
    r = in_box([monitor, bad])
    assert r.returncode == 1
    assert len(r.stderr.decode().strip().splitlines()) == 1
    assert str(bad) in r.stderr.decode()
