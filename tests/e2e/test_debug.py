# SPDX-License-Identifier: Apache-2.0
"""Debugging a guest of a few instructions: breakpoints in debug registers by gdb, and the console's key for a dump."""
import os
import re
import shutil
import struct
import subprocess
import time

import pytest
from conftest import RIFFLE
from test_run import ECHO, guest, terminal  # noqa: F401 (fixtures)

pytestmark = pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm cannot be opened")

# lea 0xff9(%rip), %rdi; 1: incl (%rdi); mov (%rdi), %eax; nop; jmp 1b
COUNTER = b"\x48\x8d\x3d" + struct.pack("<i", 0x1000 - 7) + b"\xff\x07\x8b\x07\x90\xeb\xf9"
NOP = 11

COMMANDS = f"""
set architecture i386:x86-64
set pagination off
target remote {{socket}}
set $start = $pc
hbreak *($start+{NOP})
continue
set $first = $eax
printf "at %d\\n", $pc - $start
continue
printf "counted %d at %d\\n", $eax - $first, $pc - $start
x/dw $start+0x1000
stepi
printf "stepped to %d\\n", $pc - $start
delete
hbreak *($start+7)
continue
printf "other at %d\\n", $pc - $start
kill
"""


@pytest.mark.skipif(not shutil.which("gdb"), reason="no gdb (Debian package gdb)")
def test_breakpoints_in_debug_registers(programs, guest):    # noqa: F811
    """An emulating KVM honours them too. The counter advanced by one, so the instruction at the breakpoint was executed."""
    command = guest(COUNTER, "--gdb", "unix:socket", "-r", "off")
    with subprocess.Popen([RIFFLE, *command], cwd=programs.directory, env=programs.environment, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as p:
        end = time.monotonic() + 30
        while not (programs.directory / "socket").exists():
            assert p.poll() is None and time.monotonic() < end
            time.sleep(0.02)
        (programs.directory / "commands").write_text(COMMANDS.format(socket="socket"))
        r = subprocess.run(["gdb", "-nx", "-q", "-batch", "-x", "commands"], cwd=programs.directory, capture_output=True,
                           text=True, timeout=120, check=False, stdin=subprocess.DEVNULL)
        _, err = p.communicate(timeout=30)
    lines = re.findall(r"^(?:at|counted|stepped|other) .*", r.stdout, re.M)
    assert lines == [f"at {NOP}", f"counted 1 at {NOP}", f"stepped to {NOP + 1}", "other at 7"], (r, err)
    assert "port writes" not in err or "after the fourth" in err, err


def said(process, words):
    seen = b""
    while words not in seen:
        line = process.stderr.readline()
        assert line, (process.wait(), seen)
        seen += line
    return seen


def test_key_dumps_once_into_the_named_file(programs, guest, terminal):    # noqa: F811
    """On a terminal: Ctrl-A d writes the file while the guest keeps running; the second time it reports that none is left."""
    t = terminal(guest(ECHO, "--dump-out", "core"))
    os.write(t.master, b"a\x01d")
    assert b"memory dumped, without VMCOREINFO" in said(t.process, b"memory dumped")
    core = programs.directory / "core"
    assert core.stat().st_mode & 0o777 == 0o600
    header = subprocess.run(["readelf", "-hlnW", core], capture_output=True, text=True, check=True).stdout
    assert "Type:                              CORE" in header and header.count("NT_PRSTATUS") == 1, header
    assert ECHO in core.read_bytes()
    before = core.read_bytes()
    os.write(t.master, b"b\x01d")
    said(t.process, b"no dump: riffle run --dump-out names a file")
    os.write(t.master, b"q")    # the guest lost no input, and did not see the key
    assert t.read(b"q") == b"abq"
    assert t.process.wait(10) == 0
    assert core.read_bytes() == before


def test_key_without_a_file(programs, guest, terminal):    # noqa: F811
    t = terminal(guest(ECHO))
    os.write(t.master, b"\x01d")
    said(t.process, b"no dump: riffle run --dump-out names a file")
    os.write(t.master, b"q")
    assert t.process.wait(10) == 0
    assert not (programs.directory / "core").exists()


def test_file_of_the_key_is_a_new_one(programs, guest):    # noqa: F811
    (programs.directory / "core").write_text("mine")
    r = programs.riffle(*guest(ECHO, "--dump-out", "core"))
    assert r.returncode == 1 and r.stderr.count("\n") == 1 and "core: dump: cannot be created" in r.stderr, r
    assert (programs.directory / "core").read_text() == "mine"
