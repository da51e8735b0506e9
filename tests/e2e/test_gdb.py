# SPDX-License-Identifier: Apache-2.0
"""
gdb on a shuffled stock kernel, with only the bzImage: breakpoints in moved functions, backtraces by ORC; and a memory
dump.
"""
import json
import pathlib
import re
import shutil
import socket
import subprocess

import pytest
from conftest import PREPARE, RIFFLE
from guests import in_box

pytestmark = pytest.mark.skipif(not shutil.which("gdb"), reason="no gdb (Debian package gdb)")

COMMANDS = """
set pagination off
source guest.gdb
target remote 127.0.0.1:1234
info threads
stepi
continue
echo interrupted\\n
break uptime_proc_show
continue
bt
info symbol $rip
x/i $rip
print $rsp
up
info symbol $rip
delete
stepi
print $_thread
info registers cr3 efer
x/s &linux_banner
x/s &init_uts_ns
info symbol &max_pfn
print/x *(unsigned long *)&max_pfn
info symbol (long)&init_task + 8
set var $rax = 0x1234
print $rax
detach
"""

# the guest keeps reading /proc/uptime; gdb is interrupted once the guest has printed something
SCRIPT = """
cd {where}
box=$(mktemp -d)
ip link set lo up
{riffle} run -a noxsave -r {mode} -c 2 --gdb tcp:1234 --snapshot-socket $box/socket --layout-out layout.json {kernel} -- {busybox} sh -c \
  'echo up; i=0; while [ $i -lt 300 ]; do cat /proc/uptime >/dev/null; i=$((i+1)); [ $i != 50 ] || echo turning; done; echo over' \
  </dev/null >$$.out 2>err &
guest=$!
until [ -s layout.json ] || ! kill -0 $guest; do sleep 0.2; done
sleep 1
{prepare} gdb-script -l layout.json -k {kernel} -s guest.elf >guest.gdb || exit 9
(until grep -q turning $$.out || ! kill -0 $guest; do sleep 0.5; done; pkill -INT -x gdb) &
gdb -nx -q -batch -x commands >gdb.out 2>gdb.err
echo $? >gdb.code
{riffle} dump -s $box/socket -o $box/core >dump.out 2>&1
echo $? >dump.code
cp --sparse=always $box/core core
wait $guest
echo $? >code
cp $$.out out
"""


@pytest.fixture(scope="module", params=["fgkaslr", "fgkaslr+slide"])
def session(request, forms, tmp_path_factory):
    busybox = shutil.which("busybox")
    if not busybox:
        pytest.skip("no busybox")
    where = tmp_path_factory.mktemp("gdb")
    kernel = forms.prepared("cloud-6.1")
    (where / "commands").write_text(COMMANDS)
    (where / "script").write_text(SCRIPT.format(where=where, mode=request.param, riffle=RIFFLE, prepare=PREPARE, kernel=kernel, busybox=busybox))
    r = in_box(["bash", where / "script", RIFFLE, kernel], 2048, 600)
    assert r.returncode == 0, r
    return {name: (where / name).read_text() for name in ("gdb.out", "gdb.err", "out", "err", "code", "dump.out", "dump.code")} | {"where": str(where)}


def everything(session):
    return "\n".join(f"{name}: {text}" for name, text in session.items())


def test_breakpoint_in_a_moved_function(session):
    out = session["gdb.out"]
    assert re.search(r"Thread 2 \(vCPU 1\)", out), everything(session)
    after = out.split("interrupted\n", 1)[1]
    assert "Breakpoint 1, 0x" in after, everything(session)
    assert "uptime_proc_show in section .kernel" in after, everything(session)


def test_backtrace_is_right(session):
    """From the breakpoint to the system call's entry, each frame calling the next."""
    backtrace = session["gdb.out"].split("interrupted\n", 1)[1].split("in section", 1)[0]
    names = re.findall(r"^#\d+ +0x[0-9a-f]+ in (\S+) \(\)", backtrace, re.M)
    assert names[:2] == ["uptime_proc_show", "seq_read_iter"], everything(session)
    assert names[-3:-1] == ["do_syscall_64", "entry_SYSCALL_64_after_hwframe"], everything(session)
    assert names[-1] == "??", names     # user space


def test_registers_and_steps(session):
    out = session["gdb.out"]
    assert "seq_read_iter + " in out, everything(session)
    assert re.search(r"^cr3 +0x[0-9a-f]+", out, re.M) and "= 0x1234" in out or "= 4660" in out, everything(session)


def test_symbols_of_each_block(session):
    """Read-only data, data and .bss, by what the running guest has there."""
    out = session["gdb.out"]
    assert re.search(r'^0x[0-9a-f]+ <linux_banner>:\s+"Linux version 6\.1', out, re.M), everything(session)
    assert re.search(r'<init_uts_ns>:\s+"Linux"', out), everything(session)
    assert re.search(r"^max_pfn in section .kernel.*\n\$\d+ = 0x10000$", out, re.M), everything(session)   # 256 MiB
    assert "init_task + 8 in section .kernel" in out, everything(session)
    slides = re.findall(r"^# Slid from \S+ on, as linked: by (\S+)$", (pathlib.Path(session["where"]) / "guest.gdb").read_text(), re.M)
    assert len(slides) == (5 if "+slide" in session["err"] else 0)


def test_the_guest_goes_on_after_detach(session):
    assert session["code"].strip() == "0", everything(session)
    assert session["out"].endswith("over\n"), everything(session)


def test_dump(session):
    """The running guest's registers and threads for gdb, and the note that crash and drgn look for."""
    assert session["dump.code"] == "0\n", everything(session)
    if "+slide" in session["err"]:
        assert session["dump.out"].count("\n") == 1 and "crash and drgn find no data" in session["dump.out"], everything(session)
    else:
        assert session["dump.out"] == "", everything(session)
    core = f"{session['where']}/core"
    notes = subprocess.run(["readelf", "-nW", core], capture_output=True, text=True, check=True).stdout
    assert notes.count("NT_PRSTATUS") == 2 and "VMCOREINFO" in notes, notes
    r = subprocess.run(["gdb", "-nx", "-q", "-batch", "-x", "guest.gdb", "-ex", f"core-file {core}", "-ex", "thread apply all bt",
                        "-ex", "x/s &linux_banner"], cwd=session["where"], capture_output=True, text=True, check=False)
    assert "Linux version 6.1" in r.stdout and "Thread 2" in r.stdout, r
    # one of the two processors is idle, or about to be
    assert re.search(r"in (do_idle|entry_SYSCALL_64_after_hwframe|ret_from_fork|asm_\w+) \(\)", r.stdout), r
    layout = json.loads((pathlib.Path(session["where"]) / "layout.json").read_text())
    offset = int(layout["virtual_base"], 16) - int(layout["link_virtual"], 16)
    assert f"KERNELOFFSET={offset:x}\n".encode() in pathlib.Path(core).read_bytes()


@pytest.mark.parametrize("where, words", [
    ("tcp:0", "port"), ("tcp:65536", "port"), ("tcp:", "port"), ("tcp:1x", "port"), ("unix:", "path"), ("here", "unix:PATH"),
])
def test_bad_places(programs, where, words):
    r = programs.riffle("run", "--gdb", where, "kernel")
    assert r.returncode == 2 and "--gdb" in r.stderr and words in r.stderr and r.stderr.count("\n") == 1, r


def test_place_is_taken(programs, forms):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        r = programs.riffle("run", "--accept-emulation", "--gdb", f"tcp:{taken.getsockname()[1]}", forms.prepared("cloud-6.1"))
    assert r.returncode == 1 and "gdb: the port cannot be bound" in r.stderr, r
