# SPDX-License-Identifier: Apache-2.0
"""crash, drgn and gdb read `riffle dump`'s core of a guest with KASLR, and part of a shuffled one."""
import json
import os
import re
import shutil
import subprocess

import pytest
from conftest import PREPARE, RIFFLE
from guests import in_box

KERNEL = "cloud-6.1"
MODES = ("kaslr", "fgkaslr")

pytestmark = pytest.mark.skipif(not os.environ.get("RIFFLE_LONG"), reason="the kernel's debug package: the long run needs it")

# a guest for each mode, which prints a line and sleeps
SCRIPT = """
cd {where}
box=$(mktemp -d)
for mode in kaslr fgkaslr; do
  {riffle} run -a noxsave -r $mode -m 128 --snapshot-socket $box/$mode --layout-out $mode.layout {kernel} -- {busybox} \\
    sh -c 'echo up; sleep 30' </dev/null >$box/out 2>$mode.err &
  guest=$!
  until grep -q up $box/out || ! kill -0 $guest; do sleep 0.2; done
  sleep 1
  {riffle} dump -s $box/$mode -o $box/core >$mode.said 2>&1
  echo $? >$mode.code
  kill $guest
  cp --sparse=always $box/core $mode.core
  rm $box/core
done
"""


def run(*command, where, text=None, timeout=600):
    r = subprocess.run([str(c) for c in command], cwd=where, input=text, capture_output=True, text=True, timeout=timeout,
                       check=False)
    return r.stdout + r.stderr


@pytest.fixture(scope="module")
def dumps(forms, fetch_kernel, tmp_path_factory):
    where = tmp_path_factory.mktemp("dumps")
    busybox = shutil.which("busybox")
    if not busybox:
        pytest.skip("no busybox")
    debug, kernel = fetch_kernel(f"{KERNEL}-dbg"), forms.prepared(KERNEL)
    (where / "script").write_text(SCRIPT.format(where=where, riffle=RIFFLE, kernel=kernel, busybox=busybox))
    r = in_box(["bash", where / "script", RIFFLE, kernel], 2048, 600)
    assert r.returncode == 0, r
    for mode in MODES:
        told = (where / f"{mode}.said").read_text() + (where / f"{mode}.err").read_text()
        assert (where / f"{mode}.code").read_text() == "0\n", told
        (where / f"{mode}.gdb").write_text(run(PREPARE, "gdb-script", "-l", f"{mode}.layout", "-k", kernel, "-s", f"{mode}.elf",
                                               where=where))
    (where / "vmlinux").symlink_to(debug)
    return where


def layout(where, mode):
    told = json.loads((where / f"{mode}.layout").read_text())
    return int(told["virtual_base"], 16) - int(told["link_virtual"], 16)


def crash(where, mode, *commands):
    if not shutil.which("crash"):
        pytest.skip("no crash (Debian package crash)")
    return run("crash", "--no_scroll", "-x", "vmlinux", f"{mode}.core", where=where, text="\n".join([*commands, "quit", ""]))


@pytest.mark.parametrize("mode", MODES)
def test_crash_reads_log_and_variables(dumps, mode):
    """
    Data is where the debug vmlinux has it, plus the offset, shuffled or not. In a 6.1, the `ps` of crash 8.0.2 shows only
    the idle task, in a core made by QEMU as well; by the kernel's list and its table of pids crash reads all tasks.
    """
    out = crash(dumps, mode, "sys", "ps", "log", "p/x init_task.pid", "sym linux_banner", "rd -a linux_banner")
    listed = crash(dumps, mode, "list task_struct.tasks -s task_struct.pid,comm -h init_task")
    pids = {int(pid) for pid in re.findall(r"^ +pid = (\d+),", listed, re.M)}
    assert {0, 1, 2} <= pids and len(pids) > 10 and re.search(r'comm = "sleep\\000', listed), listed
    table = crash(dumps, mode, "tree -t xarray -r pid_namespace.idr init_pid_ns")
    assert len(re.findall(r"^[0-9a-f]{16}$", table, re.M)) == len(pids) - 1, table
    assert re.search(r"RELEASE: 6\.1\.", out) and "NODENAME" in out, out
    assert re.search(r"^> +0 +0 +0 +[0-9a-f]{16} +RU .*swapper", out, re.M) and "Linux version 6.1" in out, out
    assert re.search(r"Command line: ", out), out
    banner = re.search(r"^([0-9a-f]{16}) \(\w\) linux_banner", out, re.M)
    linked = re.search(r"^([0-9a-f]{16}) \w linux_banner$", run("nm", "vmlinux", where=dumps), re.M)
    assert int(banner.group(1), 16) - int(linked.group(1), 16) == layout(dumps, mode), out


DRGN = """
from drgn.helpers.linux.pid import find_task
from drgn.helpers.linux.list import list_for_each_entry
print("release", prog["init_uts_ns"].name.release.string_().decode())
tasks = list(list_for_each_entry("struct task_struct", prog["init_task"].tasks.address_of_(), "tasks"))
print("tasks", len(tasks), sorted({t.comm.string_().decode() for t in tasks if not t.mm})[:3])
print("one", find_task(prog, 1).pid.value_(), find_task(prog, 1).comm.string_().decode())
print("banner", hex(prog.symbol("linux_banner").address), prog["linux_banner"].string_().decode()[:17])
print("trace", *[f.name for f in prog.stack_trace(find_task(prog, 2))])
"""


@pytest.mark.parametrize("mode", MODES)
def test_drgn_reads_structures(dumps, mode):
    """Stacks too, if functions have not moved."""
    if not shutil.which("drgn"):
        pytest.skip("no drgn (Debian package python3-drgn)")
    (dumps / "drgn.py").write_text(DRGN)
    out = run("drgn", "-q", "-c", f"{mode}.core", "-s", "vmlinux", "drgn.py", where=dumps)
    assert re.search(r"^release 6\.1\.", out, re.M), out
    assert int(re.search(r"^tasks (\d+)", out, re.M).group(1)) > 10, out
    assert re.search(r"^one 1 \w+", out, re.M) and re.search(r"^banner 0x[0-9a-f]+ Linux version 6\.1", out, re.M), out
    if mode == "kaslr":
        assert re.search(r"^trace .*\b__schedule schedule kthreadd\b", out, re.M), out


@pytest.mark.parametrize("mode", MODES)
def test_gdb_names_functions_in_either(dumps, mode):
    """With riffle's symbols only, without the debug package."""
    if not shutil.which("gdb"):
        pytest.skip("no gdb (Debian package gdb)")
    out = run("gdb", "-nx", "-q", "-batch", "-x", f"{mode}.gdb", "-ex", f"core-file {mode}.core", "-ex", "bt", "-ex",
              "x/s &linux_banner", where=dumps)
    assert "Linux version 6.1" in out, out
    assert re.search(r"in (do_idle|cpu_startup_entry|ret_from_fork|entry_SYSCALL_64_after_hwframe) \(\)", out), out
