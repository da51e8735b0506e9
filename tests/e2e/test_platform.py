# SPDX-License-Identifier: Apache-2.0
"""How a stock kernel reads the platform's tables, with and without ACPI; and riffle doctor's diagnosis of a host."""
import re
import subprocess

import pytest
from conftest import RIFFLE
from guests import Guest, hardware_kvm, in_box, run_guests


@pytest.fixture(scope="module")
def guests(fetch_kernel, guest_initrd, tmp_path_factory):
    """The cloud kernel requires ACPI; the generic one reads an MP table if ACPI is disabled."""
    guests = {
        "acpi": Guest(fetch_kernel("cloud-6.1"), append="loglevel=7", do="poweroff", cpus=4),
        "mp": Guest(fetch_kernel("generic-6.1"), append="loglevel=7 acpi=off", do="reboot", cpus=4),
    }
    run_guests(guests, guest_initrd, tmp_path_factory.mktemp("platform") / "boot")
    return guests


def lines(guest, words):
    return [line for line in guest.out.splitlines() if re.search(words, line)]


@pytest.mark.parametrize("name", ["acpi", "mp"])
def test_memory_and_processors(guests, name):
    guest = guests[name]
    assert guest.reached, guest.everything()
    assert [line.split("BIOS-e820: ")[1] for line in lines(guest, "BIOS-e820")] == [
        "[mem 0x0000000000000000-0x000000000009fbff] usable",
        "[mem 0x000000000009fc00-0x00000000000fffff] reserved",
        "[mem 0x0000000000100000-0x000000000fffffff] usable"]
    assert guest.fact("cpus") == "4"
    assert guest.fact("warnings") == "0"
    assert lines(guest, r"IOAPIC\[0\]: apic_id 0, version 17, address 0xfec00000, GSI 0-23")
    assert lines(guest, "random: crng init done")[0].startswith("[    0.000000]")  # the seed in setup_data


def test_acpi(guests):
    guest = guests["acpi"]
    assert not lines(guest, r"ACPI (BIOS )?(Error|Warning|Exception)|ACPI: .*([Ii]nvalid|[Ff]ail|[Ii]ncorrect)"), lines(guest, "ACPI")
    for words in ("ACPI: 1 ACPI AML tables successfully acquired", r"ACPI: PM: \(supports S0 S5\)",
                  "ACPI: Using ACPI .MADT. for SMP", "PnP ACPI: found 3 devices", "00:00: ttyS0 at I/O 0x3f8",
                  r"i8042: PNP: PS/2 Controller \[PNP0303", "registered as rtc0"):
        assert lines(guest, words), words
    assert guest.code == 0  # S5, through the sleep control register


def test_mp_table(guests):
    guest = guests["mp"]
    for words in ("found SMP MP-table at .mem 0x0009fc00", "MPTABLE: Product ID: RIFFLEVM", "ttyS0 at I/O 0x3f8 .irq = 4"):
        assert lines(guest, words), words
    assert not lines(guest, "ACPI: (RSDP|DSDT)")
    assert guest.code == 3  # reset


def test_doctor(programs):
    """Exit code 0 where Linux guests run, as in the box; elsewhere it says what to do."""
    r = programs.riffle("doctor")
    assert r.stderr == ""
    assert r.returncode == (0 if hardware_kvm() else 1)
    if r.returncode:
        assert re.search(r"^KVM +no +\S", r.stdout, re.M) and "tools/kvmbox" in r.stdout
        assert "Linux guests do not run here" in r.stdout
    boxed = in_box([RIFFLE, "doctor"])
    assert boxed.returncode == 0 and re.search(rb"^KVM +ok +/dev/kvm virtualises", boxed.stdout, re.M), boxed
    assert programs.riffle("doctor", "--help").stdout.startswith("Usage: riffle doctor [--json]\n")
    r = programs.riffle("doctor", "nonsense")
    assert r.returncode == 2 and r.stderr.count("\n") == 1
    with open("/dev/full", "w") as full:
        r = subprocess.run([RIFFLE, "doctor"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert r.returncode == 1 and r.stderr == b"riffle: standard output: cannot be written\n"
