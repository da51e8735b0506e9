# SPDX-License-Identifier: Apache-2.0
"""
Non-default ways to start and end a stock kernel: every kind of restart, no interrupt controllers, no ACPI, no
kvm-clock, less memory; and piped console input. One box for all of them.
"""
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from conftest import RIFFLE, ROOT
from guests import LONG, Guest, in_box, run_guests
from test_prepare import uki

PLAIN = "console=ttyS0 panic=-1"


@pytest.fixture(scope="module")
def guests(fetch_kernel, guest_initrd, tmp_path_factory):
    """Debian's cloud kernel; the generic one without ACPI, since the cloud one requires it."""
    cloud, generic = fetch_kernel("cloud-6.1"), fetch_kernel("generic-6.1")

    def plain(words, do, **more):
        return Guest(cloud, options=("-k", f"{PLAIN} {words}"), do=do, **more)

    guests = {
        "reboot": plain("", "reboot"),
        "reboot=b": plain("reboot=b", "reboot"),
        "noapic": plain("noapic", "poweroff"),
        "nolapic": plain("nolapic", "poweroff"),
        "no-kvmclock": plain("no-kvmclock", "poweroff"),
        "mem": plain("mem=128M", "poweroff", memory=1024),
        "memmap": plain("memmap=700M$200M", "poweroff", memory=1024),
        "halted": Guest(generic, options=("-k", f"{PLAIN} acpi=off"), do="poweroff", cpus=2),
    }
    if LONG:
        for how in ("k", "t", "a", "e", "p", "f", "w", "c", "h", "s"):
            guests[f"reboot={how}"] = plain(f"reboot={how}", "reboot")
            guests[f"reboot={how}, panic"] = plain(f"reboot={how}", "panic", cpus=2)
        for seed in range(16):
            guests[f"memmap {seed}"] = plain("memmap=700M$200M", "poweroff", memory=1024)
    run_guests(guests, guest_initrd, tmp_path_factory.mktemp("machine") / "boot")
    return guests


def test_all_reach_init(guests):
    for name, guest in guests.items():
        assert guest.reached, (name, guest.everything())
        assert guest.fact("warnings") == "0", (name, guest.everything())


def test_every_restart_ends_it(guests):
    """reboot=t is a triple fault, which has its own exit code."""
    for name, guest in guests.items():
        if name.startswith("reboot"):
            assert guest.code == (4 if name.startswith("reboot=t") else 3), (name, guest.everything())


@pytest.mark.parametrize("name", ["noapic", "nolapic", "no-kvmclock", "mem", "memmap"])
def test_power_off(guests, name):
    """User space wrote to an interrupt-driven console, and the power-off worked."""
    assert guests[name].code == 0, guests[name].everything()
    if name == "no-kvmclock":
        assert guests[name].fact("clocksource") != "kvm-clock"


def test_halted_guest_ends(guests):
    assert guests["halted"].code == 6, guests["halted"].everything()
    assert guests["halted"].err.endswith("riffle: the guest halted all its vCPUs with interrupts off\n")


def test_kernel_keeps_out_of_memory_that_is_taken_away(guests):
    assert int(guests["mem"].fact("memtotal_kib")) < 128 * 1024
    assert guests["mem"].physical < 128 << 20
    for name, guest in guests.items():
        if name.startswith("memmap"):
            first, last = (int(a, 16) for a in (guest.fact("kernel_code").split("-")[0],
                                                guest.fact("kernel_bss").split("-")[1]))
            assert last < 200 << 20 or first >= 900 << 20, (name, guest.everything())


@pytest.fixture(scope="module")
def piped(fetch_kernel, tmp_path_factory):
    """A shell script as the guest's user space reads input written before the kernel started."""
    directory = tmp_path_factory.mktemp("piped")
    script = directory / "script"
    script.write_text("#!/bin/busybox sh\n"
                      "trap 'echo caught' USR1\nkill -USR1 $$\necho after the handler\n"
                      "busybox sleep 0.1 &\nwait\n"
                      "read a\nread b\necho \"got $a, $b.\"\n")
    script.chmod(0o755)
    subprocess.run([ROOT / "tools" / "mkinitramfs", directory / "initrd", "--busybox", "--add", f"{script}:/bin/script"],
                   check=True)
    kernel = fetch_kernel("cloud-6.1")
    run = shlex.join([str(RIFFLE), "run", "-i", str(directory / "initrd"), "-a", "quiet", "-a", "riffle.do=exec:/bin/script,poweroff",
                      str(kernel)])
    # and one whose kernel, initrd and command line are all in one file
    (directory / "uki.efi").write_bytes(uki(
        (b".cmdline", b"quiet riffle.do=poweroff uki.word=1\n\0"), (b".initrd", (directory / "initrd").read_bytes()),
        (b".linux", Path(kernel).read_bytes())))
    unified = shlex.join([str(RIFFLE), "run", str(directory / "uki.efi")])
    r = in_box(["sh", "-c", f"printf 'abcdef\\nsecond\\n' | {run} && {unified}"],
               env={**os.environ, "XDG_CACHE_HOME": str(directory)})
    assert r.returncode == 0, r
    return r.stdout.decode().replace("\r", "")


def test_input_before_the_driver_is_not_lost(piped):
    assert "got abcdef, second." in piped, piped


def test_unified_kernel_image_brings_what_it_needs(piped):
    assert re.search(r"^guest: cmdline=console=ttyS0 .* uki\.word=1$", piped, re.M), piped


def test_signal_handlers_return(piped):
    """The box's emulated XSAVE used to kill programs returning from a signal handler."""
    assert re.search(r"caught\nafter the handler\n", piped), piped


@pytest.mark.skipif(not LONG, reason="a long test")
def test_pauses_many_times():
    """10,000 rounds of pause and resume with 1 and 8 busy vCPUs; the unit test does 200."""
    test = RIFFLE.parent.parent / "tests" / "unit" / "monitor" / "test-monitor-guest"
    r = subprocess.run([test], env={**os.environ, "RIFFLE_PAUSE_ROUNDS": "10000", "RIFFLE_TEST": "pauses_*"},
                       capture_output=True, text=True, check=False)
    assert r.returncode == 0 and "pauses_busy_vcpus" in r.stdout + r.stderr, r
