# SPDX-License-Identifier: Apache-2.0
"""The example monitors, built against an installed libriffle, boot randomised kernels."""
import re
import shlex

import pytest

from conftest import ROOT
from guests import in_box
from installed import install, output

EXAMPLES = {path.stem: path for path in sorted((ROOT / "examples").glob("*.c"))}
SHUFFLED_LINE = "console=ttyS0 reboot=k panic=-1 pci=off riffle.do=kallsyms,panic"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return install(tmp_path_factory.mktemp("example") / "root")


@pytest.fixture(scope="module")
def monitors(tree):
    programs = {name: tree.destdir / name for name in EXAMPLES}
    for name, program in programs.items():
        tree.compile(EXAMPLES[name], program, "-pthread")
    return programs


@pytest.fixture(scope="module")
def monitor(monitors):
    return monitors["tiny-monitor"]


@pytest.fixture(scope="module")
def prepared(tree, fetch_kernel):
    kernel = tree.destdir / "kernel.riffle"
    output(tree.prefix / "bin" / "riffle", "prepare", fetch_kernel("cloud-6.1"), "-o", kernel)
    return kernel


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_needs_the_public_headers_alone(name):
    included = re.findall(r"#include *[<\"]([^>\"]*)", EXAMPLES[name].read_text())
    assert "riffle/riffle.h" in included
    assert not [name for name in included if "/" in name and not re.match(r"(riffle|sys|linux)/[a-z_]+\.h$", name)]


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_it_compiles_without_warnings(tree, tmp_path, name, compiler):
    """At every optimisation level, since each has its own warnings, and in strict C."""
    for options in ("", "-O1", "-Og", "-O2 -D_FORTIFY_SOURCE=2", "-O3", "-std=c17 -pedantic"):
        output(compiler, *options.split(), "-Wall", "-Wextra", "-Wshadow", "-Werror", "-c", "-o", tmp_path / "object",
               EXAMPLES[name], *tree.pkg_config("--cflags", "riffle"))


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_links_with_the_static_library_too(tree, tmp_path, name):
    program = tmp_path / name
    output("cc", "-O2", "-pthread", "-o", program, EXAMPLES[name], *tree.pkg_config("--cflags", "riffle"), tree.libdir / "libriffle.a")
    assert "libriffle" not in output("ldd", program)


def test_two_boots_have_two_layouts(monitor, prepared, tmp_path):
    """Up to four boots: two layouts coincide once in 482 times."""
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


@pytest.fixture(scope="module")
def shuffled(monitors, prepared, guest_initrd):
    """Two boots in one box: each guest's output followed by its monitor's exit code, and the monitors' output."""
    command = shlex.join(map(str, ["timeout", 600, monitors["fgkaslr-monitor"], prepared, guest_initrd, SHUFFLED_LINE]))
    r = in_box(["sh", "-c", f"for boot in 1 2; do {command}; echo code $?; done"])
    console = r.stdout.decode(errors="replace").replace("\r", "")
    return re.split(r"^code (\d+)\n", console, flags=re.M), r.stderr.decode(errors="replace")


def test_functions_are_shuffled_anew_at_each_boot(shuffled):
    (first, first_code, second, second_code, _), told = shuffled
    assert (first_code, second_code) == ("0", "0"), told
    orders, offsets, distances = set(), set(), set()
    for console in (first, second):
        assert "guest: INIT REACHED" in console, console[-4000:]
        assert "Oops" not in console, console[-4000:]
        assert "guest: kallsyms_mode=0400\nguest: kallsyms_user=13\n" in console, console[-4000:]
        orders.add(re.search(r"kallsyms symbols=\d+ order=([0-9a-f]+)", console).group(1))
        offsets.add(re.search(r"Kernel Offset: (0x[0-9a-f]+)", console).group(1))
        # read-only data, data and .bss from the text
        code, *starts = (int(re.search(rf"^guest: kernel_{part}=([0-9a-f]+)-", console, re.M).group(1), 16)
                         for part in ("code", "rodata", "data", "bss"))
        distances.add(tuple(start - code for start in starts))
    assert len(orders) == 2, "one order of functions at two boots"
    assert len(distances) == 2, "sections at the same distances at two boots"
    assert len(re.findall(r"fgkaslr-monitor: 6\.1\S* .* chunks in an order of their own, 6 blocks slid apart", told)) == 2
    assert not any(o in told for o in offsets)


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_is_no_prepared_kernel_is_refused(monitors, tmp_path, name):
    monitor = monitors[name]
    bad = tmp_path / "bad"
    bad.write_bytes(b"\x7fELF" + bytes(8192))
    r = in_box([monitor, bad])
    assert r.returncode == 1
    assert len(r.stderr.decode().strip().splitlines()) == 1
    assert str(bad) in r.stderr.decode()
