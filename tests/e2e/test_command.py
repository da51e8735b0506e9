# SPDX-License-Identifier: Apache-2.0
"""
riffle run KERNEL -- COMMAND: its streams, its status, its root directory, and all the ways such a run can end. The
guests are all booted one after another in one box, before the first test.
"""
import dataclasses
import json
import os
import random
import re
import shlex
import shutil
import subprocess

import pytest

from conftest import RIFFLE, ROOT
from guests import in_box

BUSYBOX = shutil.which("busybox")
SEED = 20261129
PATTERN = random.Random(SEED).randbytes(100_000)

# what one guest reports about its environment
CHECK = r"""#!/bin/sh
echo "env A=$A B=$B PATH=$PATH"
echo "cwd $PWD"
echo "args $# $1 $2"
echo "host $(hostname) pid $$ tty $(tty)"
for d in proc sys dev dev/pts dev/shm run tmp; do grep -q " /$d " /proc/mounts && echo "mounted $d"; done
ifconfig lo | grep -q 'UP LOOPBACK' && echo "lo up"
test -e /.riffle || echo "no traces"
echo x >/dev/null && echo x >/tmp/file && ls -l /dev/stdin >/dev/null && echo "devices"
stat -c '%n %F %a %u:%g %h' /data/* | sed 's,/data/,,'
cmp /data/first /data/second && echo "linked"
grep -o 'rdinit=[^ ]*' /proc/cmdline
sleep 1000 &
echo "to stderr" >&2
exit 9
"""


@dataclasses.dataclass
class Run:
    code: int
    out: bytes
    err: str
    status: object


def make_root(root):
    for d in ("bin", "data", "work"):
        (root / d).mkdir(parents=True)
    shutil.copy(BUSYBOX, root / "bin" / "busybox")
    for name in subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split():
        if name != "busybox":
            (root / "bin" / name).symlink_to("busybox")
    (root / "check").write_text(CHECK)
    (root / "check").chmod(0o755)
    (root / "plain").write_text("no program")
    (root / "pattern").write_bytes(PATTERN)
    subprocess.run([*LACKING, *sorted(map(str, (ROOT / "guest").glob("*.c"))), "-o", root / "lacking"], cwd=ROOT, check=True)
    data = root / "data"
    (data / "first").write_text("same")
    os.link(data / "first", data / "second")
    (data / "link").symlink_to("/nowhere")
    (data / "mode").write_text("")
    (data / "mode").chmod(0o4751)
    os.mkfifo(data / "fifo", 0o620)
    with open(data / "sparse", "wb") as f:
        f.truncate(1 << 20)


# the init of guest/ where a kernel lacks calls, in place of the one that riffle carries
LACKING = ["cc", "-std=gnu17", "-Os", "-ffreestanding", "-fno-builtin", "-fno-stack-protector", "-fno-pic", "-fno-pie",
           "-fno-asynchronous-unwind-tables", "-static", "-nostdlib", "-no-pie", "-s", "-include", "tests/guest/lacking.h", "-I."]

# name: (options, command or None, redirections around it)
CASES = {
    "uname": ([], ["uname", "-a"], ""),
    "shell": ([], ["sh", "-c", "echo hi; echo err >&2; exit 7"], ""),
    "killed": (["ROOT"], ["sh", "-c", "kill -9 $$"], ""),
    "check": (["ROOT", "--env", "A=1 2", "--env", "RIFFLE_TEST_B", "--env", "B=x", "--env", "RIFFLE_NOT_SET", "--workdir", "/work"],
              ["/check", "one", "two words"], ""),
    "binary_out": (["ROOT"], ["cat", "/pattern"], ""),
    "binary_in": (["ROOT"], ["sh", "-c", "cmp - /pattern && echo same"], "<ROOT/pattern"),
    "short_in": (["ROOT"], ["wc", "-c"], "<ROOT/plain"),
    "sigpipe": (["ROOT"], ["yes"], "| { head -n 2; }"),
    "not_found": (["ROOT"], ["nothing"], ""),
    "cannot_run": (["ROOT"], ["/plain"], ""),
    "no_workdir": (["ROOT", "--workdir", "/none"], ["ls"], ""),
    "panic": (["ROOT"], ["sh", "-c", "echo before; sleep 1; echo c >/proc/sysrq-trigger"], ""),
    "reset": (["ROOT"], ["reboot", "-f"], ""),
    "poweroff": (["ROOT"], ["poweroff", "-f"], ""),
    # no port permission, no signalfd, no serial port, and so no console either
    "lacking": (["ROOT", "-a", "8250.nr_uarts=0 rdinit=/lacking"],
                ["sh", "-c", "cat; echo err >&2; sleep 1; read more; exit 3"], "<ROOT/plain"),
    "just_enough": (["--root", "LARGE", "-m", "SAID"], ["/busybox", "wc", "-c", "/large"], ""),
    "terminal": (["ROOT"], ["sh", "-c", "tty; stty size; read line; echo got $line; exit 5"], "TERMINAL"),
    "plain_panic": (["-i", "INITRD", "-a", "quiet riffle.do=panic"], None, ""),
    "plain_reboot": (["-i", "DIRECTORY", "-a", "quiet riffle.do=reboot"], None, ""),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, forms, guest_initrd):
    if not BUSYBOX:
        pytest.skip("no busybox")
    where = tmp_path_factory.mktemp("command")
    make_root(where / "root")
    (where / "directory").mkdir()
    subprocess.run(f"cd {where}/directory && cpio -id --quiet <{guest_initrd}", shell=True, check=True)
    large = where / "large"
    large.mkdir()
    shutil.copy(BUSYBOX, large / "busybox")
    with open(large / "large", "wb") as f:
        f.truncate(100 << 20)
    said = subprocess.run([RIFFLE, "run", "-m", "64M", "--root", large, "none", "--", "x"], capture_output=True, text=True,
                          check=False).stderr
    said = re.search(r"-m (\d+M)$", said).group(1)
    places = {"LARGE": large, "SAID": said, "INITRD": guest_initrd, "DIRECTORY": where / "directory"}
    kernel = forms.prepared("cloud-6.1")
    generic = forms.prepared("generic-6.1")     # has /dev/port, which the cloud flavour is built without
    script = [f"cd {where}", "export RIFFLE_TEST_B=from-here", "o=$(mktemp -d)"]
    for name, (options, command, around) in CASES.items():
        line = [str(RIFFLE), "run", "-a", "noxsave", "--status-out", f"{name}.json"]
        for option in options:
            line += ["--root", str(where / "root")] if option == "ROOT" else [str(places.get(option, option))]
        line += [str(generic if name == "lacking" else kernel)] + (["--", *command] if command else [])
        run = f"timeout -k 5 200 {shlex.join(line)}"
        if around == "TERMINAL":
            run = run.replace("timeout", "timeout --foreground", 1)     # else it is in the background of its terminal
            run = f"script -qec {shlex.quote('stty rows 33 cols 77; ' + run)} /dev/null < <(sleep 1; echo typed; sleep 200)"
            script.append(f"{run} >$o/out 2>{name}.err; echo $? >{name}.code; cp $o/out {name}.out")
        elif around.startswith("|"):
            script.append(f"{{ {run} 2>{name}.err; echo $? >{name}.code; }} </dev/null {around} >$o/out; cp $o/out {name}.out")
        else:
            redirect = around.replace("ROOT", str(where / "root")) or "</dev/null"
            script.append(f"{run} {redirect} >$o/out 2>{name}.err; echo $? >{name}.code; cp $o/out {name}.out")
    (where / "script").write_text("\n".join(script) + "\n")
    r = in_box(["bash", where / "script", RIFFLE, kernel, generic, guest_initrd], 2048, 1500)
    assert r.returncode == 0, r.stderr

    def collect(name):
        def read(suffix):
            path = where / f"{name}.{suffix}"
            return path.read_bytes() if path.exists() else b""
        return Run(int(read("code") or -1), read("out"), read("err").decode(), json.loads(read("json") or "null"))

    return {name: collect(name) for name in CASES}


def ended(run, code, **status):
    assert run.code == code, (run.err, run.out[-500:])
    assert run.status == {**status, "exit_code": code}


def words(run):
    """stderr without the line on randomisation, and without notices about the host."""
    return [line for line in run.err.splitlines() if not line.startswith(("riffle: randomize=", "riffle: notice:"))]


def test_short_input_has_an_end(runs):
    """Less than the channel's buffer, to a command that prints nothing before the end."""
    assert (runs["short_in"].code, runs["short_in"].out) == (0, b"10\n"), runs["short_in"]


def test_output_is_the_commands_alone(runs):
    run = runs["uname"]
    ended(run, 0, end="command", command="exited", status=0)
    assert run.out.startswith(b"Linux riffle 6.1.") and run.out.count(b"\n") == 1 and b"\r" not in run.out
    assert words(run) == []


def test_status_and_errors(runs):
    run = runs["shell"]
    ended(run, 7, end="command", command="exited", status=7)
    assert run.out == b"hi\n" and words(run) == ["err"]
    ended(runs["killed"], 137, end="command", command="signaled", signal=9)


def test_surroundings(runs):
    run = runs["check"]
    ended(run, 9, end="command", command="exited", status=9)
    assert words(run) == ["to stderr"]
    lines = run.out.decode().splitlines()
    assert "env A=1 2 B=x PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" in lines
    assert "cwd /work" in lines and "args 2 one two words" in lines
    assert [l for l in lines if l.startswith("host riffle pid ") and l.endswith("tty not a tty")]
    assert [l.split()[1] for l in lines if l.startswith("mounted ")] == ["proc", "sys", "dev", "dev/pts", "dev/shm", "run", "tmp"]
    for said in ("lo up", "no traces", "devices", "linked", "rdinit=/.riffle/init"):
        assert said in lines
    me = f"{os.getuid()}:{os.getgid()}"
    for said in (f"first regular file 644 {me} 2", f"second regular file 644 {me} 2", f"link symbolic link 777 {me} 1",
                 f"mode regular empty file 4751 {me} 1", f"sparse regular file 644 {me} 1"):
        assert said in lines, lines
    assert [l for l in lines if l.startswith("fifo fifo 6")]


def test_streams_are_binary(runs):
    run = runs["binary_out"]
    ended(run, 0, end="command", command="exited", status=0)
    assert run.out == PATTERN, f"seed {SEED}, {len(run.out)} bytes"
    run = runs["binary_in"]
    ended(run, 0, end="command", command="exited", status=0)
    assert run.out == b"same\n"


def test_reader_that_goes(runs):
    run = runs["sigpipe"]
    ended(run, 128 + 13, end="command", command="signaled", signal=13)
    assert run.out == b"y\ny\n"


def test_what_cannot_be_run(runs):
    ended(runs["not_found"], 127, end="command", command="not-found", errno=2)
    assert words(runs["not_found"]) == ["riffle: nothing: not found in the guest: No such file or directory"]
    ended(runs["cannot_run"], 126, end="command", command="cannot-run", errno=13)
    assert words(runs["cannot_run"]) == ["riffle: /plain: cannot be run in the guest: Permission denied"]
    ended(runs["no_workdir"], 126, end="command", command="no-directory", errno=2)
    assert words(runs["no_workdir"])[0].startswith("riffle: /none: working directory: ")


def test_kernel_that_lacks_calls_and_ports(runs):
    run = runs["lacking"]
    ended(run, 3, end="command", command="exited", status=3)
    assert run.out == b"no program" and words(run) == ["err"]


def test_guest_that_ends_unasked(runs):
    run = runs["panic"]
    ended(run, 123, end="panic")
    assert run.out == b"before\n"
    assert words(run)[0] == "riffle: the guest's kernel panicked before the command ended"
    assert "Kernel panic - not syncing" in run.err
    ended(runs["reset"], 124, end="reset")
    assert words(runs["reset"])[0] == "riffle: the guest reset itself before the command ended"
    ended(runs["poweroff"], 124, end="poweroff")
    assert words(runs["poweroff"])[0] == "riffle: the guest powered off before the command ended"


def test_memory_that_is_said_to_do_does(runs):
    ended(runs["just_enough"], 0, end="command", command="exited", status=0)
    assert runs["just_enough"].out == b"104857600 /large\n"


def test_terminal(runs):
    run = runs["terminal"]
    # script's own code is not always its command's
    assert run.status == {"end": "command", "command": "exited", "status": 5, "exit_code": 5}, run
    text = run.out.replace(b"\r", b"")
    assert b"/dev/pts/0\n" in text and b"33 77\n" in text and b"got typed\n" in text


def test_panic_is_no_reset(runs):
    ended(runs["plain_panic"], 7, end="panic")
    assert b"guest: INIT REACHED" in runs["plain_panic"].out
    ended(runs["plain_reboot"], 3, end="reset")
    assert b"guest: INIT REACHED" in runs["plain_reboot"].out      # from a directory packed as it is


# ---- what is refused before a guest starts


@pytest.fixture
def refused(programs):
    def run(*arguments, code=125):
        kernel = programs.directory / "kernel"
        kernel.write_bytes(b"")
        r = programs.riffle("run", *arguments)
        assert r.returncode == code and r.stdout == "" and r.stderr.count("\n") == 1, (r.returncode, r.stderr)
        return r.stderr
    return run


def test_usage(refused):
    assert "COMMAND: is missing" in refused("kernel", "--")
    assert "KERNEL: is missing" in refused("--", "true")
    assert "KERNEL: is one file only" in refused("kernel", "more", "--", "true")
    assert "--root: needs a command" in refused("--root", ".", "kernel", code=2)
    assert "--env: needs a command" in refused("--env", "A=1", "kernel", code=2)
    assert "--workdir: needs a command" in refused("--workdir", "/", "kernel", code=2)
    assert "--workdir: must be an absolute path" in refused("--workdir", "x", "kernel", "--", "true")
    assert "--env: must name a variable" in refused("--env", "=1", "kernel", "--", "true")
    assert "--initrd: cannot be combined with a command" in refused("-i", ".", "kernel", "--", "true")
    assert "console: cannot be on stdio" in refused("--console", "stdio", "kernel", "--", "true")


def test_root_that_cannot_be_packed(programs, refused):
    root = programs.directory / "root"
    assert "none: open: failed" in refused("--root", "none", "kernel", "--", "true")
    root.mkdir()
    with open(root / "huge", "wb") as f:
        f.truncate(1 << 32)
    words = refused("--root", "root", "kernel", "--", "true")
    assert words.startswith("riffle: root/huge: size: ")
    os.truncate(root / "huge", 200 << 20)
    words = refused("--root", "root", "kernel", "--", "true")
    assert words == "riffle: root: memory: is too little to unpack it (found 256M, expected at least 504M): -m 504M\n"


def test_command_of_this_machine(programs, refused):
    assert "nothing-of-that-name: command: is not found on this machine" in refused("kernel", "--", "nothing-of-that-name", code=127)
    (programs.directory / "text").write_text("x")
    assert "text: command: cannot be executed" in refused("kernel", "--", "./text", code=126)
    (programs.directory / "text").chmod(0o755)
    assert "is neither an ELF file nor a script" in refused("kernel", "--", "./text")


def test_status_file(programs, refused):
    assert "--status-out: cannot be opened" in refused("--status-out", "none/file", "kernel", "--", "true")
    refused("--status-out", "status", "kernel", "--", "nothing-of-that-name", code=127)
    assert json.loads((programs.directory / "status").read_text()) == {"end": "error", "exit_code": 127}


# ---- riffle initramfs


def test_initramfs(programs):
    root = programs.directory / "root"
    root.mkdir()
    (root / "b").write_text("x")
    (root / "a").symlink_to("b")
    r = programs.riffle("initramfs", "--reproducible", "root", "-o", "root/archive")
    assert r.returncode == 0 and r.stderr == "", r.stderr
    first = (root / "archive").read_bytes()
    listed = programs.run("sh", "-c", "cpio -it --quiet <root/archive")
    assert listed.stdout.split() == [".", "a", "b"]
    r = programs.riffle("initramfs", "--reproducible", "root", "-o", "root/archive")
    assert r.returncode == 1 and "is there already" in r.stderr
    os.utime(root / "b", (1, 1))
    r = programs.riffle("initramfs", "--reproducible", "-f", "root", "-o", "root/archive")
    assert r.returncode == 0 and (root / "archive").read_bytes() == first
    r = programs.riffle("initramfs", "root/b", "-o", "other")
    assert r.returncode == 1 and r.stderr.startswith("riffle: root/b: open: ")
    assert not (programs.directory / "other").exists()
    assert programs.riffle("initramfs", "root").returncode == 2
