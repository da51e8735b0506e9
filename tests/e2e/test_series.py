# SPDX-License-Identifier: Apache-2.0
"""
Kernels of other Debian releases, from the oldest series to the newest. No format is selected by version, so these stand
in for future kernels.
"""
import re
import subprocess

import pytest
from conftest import ROOT
from guests import LINK_VIRTUAL, LONG, MEMORY_BASES, Guest

SERIES = ["cloud-5.10", "cloud-newest"]
if LONG:
    SERIES += ["generic-5.10", "cloud-6.16", "cloud-6.17", "cloud-6.18", "cloud-6.19", "cloud-7.0", "cloud-7.1", "cloud-7.2",
               "generic-newest"]
ALL_RIGHT = re.compile(r"layout \d+: fgkaslr(?:\+slide)?, .*: (\d+) chunks moved, (\d+) bytes compared, (\d+) unwind states looked up, "
                       r"all right")
LAYOUTS = 5 if LONG else 1


def guests_of(kernel):
    def guests(forms):
        source, prepared = forms.fetch(kernel), forms.prepared(kernel)
        return {
            "fgkaslr": Guest(prepared, ("--randomize=fgkaslr",), memory=512),
            "auto-4": Guest(source, memory=512, cpus=4),
            "off": Guest(prepared, ("--randomize=off",), memory=512),
            "bootstrap": Guest(source, ("--boot=bootstrap",), memory=512),
        } if LONG else {"fgkaslr": Guest(prepared, ("--randomize=fgkaslr",), memory=512)}
    guests.__name__ = kernel
    return guests


GROUPS = {kernel: guests_of(kernel) for kernel in SERIES}
each_kernel = pytest.mark.parametrize("kernel", SERIES)
long_only = pytest.mark.skipif(not LONG, reason="one of the long tests: RIFFLE_LONG is not set")


def is_well(guest):
    assert guest.reached and guest.ended, guest.everything()
    assert guest.fact("warnings") == "0", guest.everything()
    assert int(guest.fact("cpus")) == guest.cpus


def is_shuffled(guest):
    assert guest.told["mode"] == "fgkaslr"
    assert len(guest.told["chunks"]) > 35_000
    assert (guest.text, guest.physical) == (guest.base("virtual_base"), guest.base("physical_base"))
    assert guest.offset == guest.base("virtual_base") - LINK_VIRTUAL
    assert guest.memory_bases != MEMORY_BASES
    assert guest.order_is_closed


@pytest.mark.parametrize("mode", ["fgkaslr", "fgkaslr+slide"])
@each_kernel
def test_right_to_the_byte(programs, forms, fetch_kernel, kernel, mode):
    r = programs.riffle("verify", f"--randomize={mode}", "--prepared", forms.prepared(kernel), "--count", LAYOUTS,
                        fetch_kernel(kernel), timeout=900)
    assert (r.returncode, r.stderr) == (0, ""), (r.stdout[-3000:], r.stderr)
    found = [ALL_RIGHT.fullmatch(line) for line in r.stdout.splitlines()]
    assert len(found) == LAYOUTS and all(found), r.stdout[-3000:]
    assert all(int(m[1]) > 35_000 and int(m[2]) >= 40 << 20 and int(m[3]) > 5_000_000 for m in found)


@each_kernel
def test_boots_shuffled(boots, kernel):
    guest = boots.guest(GROUPS[kernel], "fgkaslr")
    is_well(guest)
    is_shuffled(guest)


@long_only
@each_kernel
def test_boots_otherwise(boots, kernel):
    """Four processors, from the bzImage: with the default mode, not randomised, and with its own bootstrap."""
    guests = {name: boots.guest(GROUPS[kernel], name) for name in ("auto-4", "off", "bootstrap")}
    for guest in guests.values():
        is_well(guest)
    is_shuffled(guests["auto-4"])
    assert not guests["off"].order_is_closed
    assert guests["off"].text == LINK_VIRTUAL and guests["off"].memory_bases == MEMORY_BASES
    assert guests["bootstrap"].offset == guests["bootstrap"].text - LINK_VIRTUAL


@long_only
@each_kernel
def test_each_spoiled_part_is_noticed(programs, forms, fetch_kernel, kernel):
    r = programs.riffle("verify", "--prepared", forms.prepared(kernel), "--spoil", "all", fetch_kernel(kernel), timeout=900)
    assert r.returncode == 3, r.stdout[-3000:]
    lines = [line for line in r.stdout.splitlines() if " spoiled: " in line]
    assert len(lines) > 20
    for line in lines:
        # where no layout changes anything: trampolines and boot-time functions stay where they are
        assert re.search(r", \d+ differences?$", line) or \
            (line.startswith((".static_call_tramp_key ", "console-initcalls ", "initcalls ")) and
             line.endswith("nothing in it depends on this layout")), line


@long_only
def test_plan_of_the_newest_debug_vmlinux(programs, fetch_kernel):
    """Symbols of the debug package, or those that the bzImage itself holds: the same plan."""
    for name, options in (("debug", ["--debug-vmlinux", fetch_kernel("cloud-newest-dbg")]), ("alone", [])):
        r = programs.riffle("prepare", *options, fetch_kernel("cloud-newest"), "-o", name, timeout=900)
        assert (r.returncode, r.stderr) == (0, "")
    assert (programs.directory / "debug").read_bytes() == (programs.directory / "alone").read_bytes()


def test_fetch_kernel_tells_what_it_takes():
    for wrong in ("cloud", "cloud-", "cloud-6", "cloud-6.1.2", "rt-6.1", "newest"):
        r = subprocess.run([ROOT / "tools" / "fetch-kernel", wrong], capture_output=True, text=True, check=False)
        assert r.returncode == 2 and r.stdout == "" and r.stderr.startswith("usage: tools/fetch-kernel")
