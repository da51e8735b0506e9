# SPDX-License-Identifier: Apache-2.0
"""
What riffle-jailer does, step by step; each check prints a JSON line with its name and "ok" or what was wrong. Needs root:
test_jailer.py runs it in a box.  usage: jailing.py JAILER PROGRAMS DIRECTORY [CHECK...]  (PROGRAMS: where jailed, escape are)
"""
import contextlib
import ctypes
import json
import os
import pathlib
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import traceback

UID, GID = 12345, 23456
EXISTS = "File exists (os error 17)"
CHECKS = {}


def check(function):
    CHECKS[function.__name__] = function
    return function


class Jails:
    """A separate directory for one check: base directory, programs, and what to end or remove afterwards."""

    def __init__(self, jailer, programs, directory):
        self.jailer, self.programs, self.directory = jailer, pathlib.Path(programs), pathlib.Path(directory)
        self.base = self.directory / "base"
        self.base.mkdir(parents=True)
        self.probe = self.directory / "probe"
        shutil.copy(self.programs / "jailed", self.probe)
        self.pids = []

    def root(self, name="a", program="probe"):
        return self.base / program / name / "root"

    def run(self, *more, name="a", exec_file=None, extra=(), prefix=(), **kwargs):
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        command = [*prefix, self.jailer, "--id", name, "--exec-file", exec_file or self.probe, "--uid", UID, "--gid",
                   GID, "--chroot-base-dir", self.base, *more]
        command += ["--", *extra] if extra else []
        return subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=60, check=False,
                              **kwargs)

    def start(self, *more, name="a", **kwargs):
        """A jailed program that keeps running in the background: its process id and its report."""
        r = self.run("--daemonize", *more, name=name, extra=("wait",), **kwargs)
        assert r.returncode == 0 and not r.stderr, r
        pid = int((self.root(name) / "probe.pid").read_text())
        self.pids.append(pid)
        return pid, self.report(name)

    def report(self, name="a"):
        path = self.root(name) / "run" / "report"
        for _ in range(600):
            if path.exists():
                return parse(path.read_text())
            time.sleep(0.05)
        raise AssertionError("nothing was reported")

    def fails(self, words, *more, **kwargs):
        """Checks that it is refused with these words in one line, exit code 1, and nothing left behind."""
        before = tree(self.base)
        r = self.run(*more, **kwargs)
        assert r.returncode == 1 and words in r.stderr and not r.stdout, (words, r)
        assert r.stderr.count("\n") == 1 or r.stderr.endswith("try --help.\n"), r.stderr
        assert tree(self.base) == before, (tree(self.base), before)
        return r

    def end(self):
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in self.pids:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                while pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                    time.sleep(0.02)


def parse(text):
    seen = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        seen.setdefault(key, []).append(value)
    return seen


def tree(directory):
    return {str(p): (p.lstat().st_mode, p.lstat().st_uid, p.lstat().st_size if p.is_file() else 0)
            for p in pathlib.Path(directory).rglob("*")}


def mounts():
    return pathlib.Path("/proc/self/mountinfo").read_text().splitlines()


def owned(path, mode, uid=UID, gid=GID, device=None):
    st = os.lstat(path)
    assert (st.st_mode, st.st_uid, st.st_gid) == (mode, uid, gid), (path, oct(st.st_mode), st.st_uid, st.st_gid)
    assert device is None or st.st_rdev == os.makedev(*device), (path, st.st_rdev)


# ---- arguments ----

@check
def arguments_are_checked(j):
    full = {"--id": "a", "--exec-file": j.probe, "--uid": UID, "--gid": GID, "--chroot-base-dir": j.base}
    (j.directory / "file").touch()

    def line(changes=(), more=()):
        values = {**full, **dict(changes)}
        return [w for k, v in values.items() if v is not None for w in (k, v)] + list(more)

    rows = [
        (line({"--id": None}), "Argument 'id' required, but not found."),
        (line({"--exec-file": None}), "Argument 'exec-file' required, but not found."),
        (line({"--uid": None}), "Argument 'uid' required, but not found."),
        (line({"--gid": None}), "Argument 'gid' required, but not found."),
        (line(more=["--id", "b"]), "The argument 'id' was provided more than once."),
        (line(more=["--daemonize", "--daemonize"]), "The argument 'daemonize' was provided more than once."),
        (line(more=["--netns"]), "The argument 'netns' requires a value, but none was supplied."),
        (line(more=["--netns", "--daemonize"]), "The argument 'netns' requires a value"),
        (line(more=["--netns", "--", "x"]), "The argument 'netns' requires a value"),
        (line(more=["--node", "0"]), "Found argument 'node' which wasn't expected"),
        (line(more=["--netns=/x"]), "Found argument 'netns=/x' which wasn't expected"),
        (line(more=["stray"]), "Found argument 'stray' which wasn't expected"),
        (line({"--id": ""}), "Invalid instance ID: Invalid len (0);  the length must be between 1 and 64"),
        (line({"--id": "x" * 65}), "Invalid len (65)"),
        (line({"--id": "a_b"}), "Invalid char (_) at position 1"),
        (line({"--id": "../b"}), "Invalid char (.) at position 0"),
        (line({"--uid": "root"}), "Invalid uid: root"),
        (line({"--uid": "-1"}), "Invalid uid: -1"),
        (line({"--uid": "4294967295"}), "Invalid uid: 4294967295"),
        (line({"--gid": "1x"}), "Invalid gid: 1x"),
        (line({"--gid": "4294967296"}), "Invalid gid: 4294967296"),
        (line({"--exec-file": j.directory / "none"}), "Failed to canonicalize path"),
        (line({"--exec-file": j.base}), f"{j.base} is not a file"),
        (line({"--exec-file": "/dev/null"}), "/dev/null is not a file"),
        (line({"--chroot-base-dir": j.directory / "none"}), "No such file or directory (os error 2)"),
        (line({"--chroot-base-dir": j.directory / "file"}), f"{j.directory}/file is not a directory"),
        (line(more=["--cgroup-version", "3"]), "3 is an invalid cgroup version specifier"),
        (line(more=["--cgroup-version", "0"]), "0 is an invalid cgroup version specifier"),
        (line(more=["--parent-cgroup", "/x"]), "Parent cgroup path is invalid."),
        (line(more=["--parent-cgroup", "x/../y"]), "Parent cgroup path is invalid."),
        (line(more=["--parent-cgroup", "./x"]), "Parent cgroup path is invalid."),
        (line(more=["--cgroup", "cpu.shares"]), "Invalid format for cgroups: cpu.shares"),
        (line(more=["--cgroup", "cpu.shares="]), "Invalid format for cgroups: cpu.shares="),
        (line(more=["--cgroup", "cpu.shares=1=2"]), "Invalid format for cgroups: cpu.shares=1=2"),
        (line(more=["--cgroup", "tasks=1"]), "Cgroup invalid file: tasks=1"),
        (line(more=["--cgroup", "../cpu.shares=1"]), "Cgroup invalid file: ../cpu.shares=1"),
        (line(more=["--cgroup", "a/cpu.shares=1"]), "Cgroup invalid file: a/cpu.shares=1"),
        (line(more=["--cgroup", "nonsense.shares=1"]), "Controller nonsense is unavailable"),
        (line(more=["--cgroup-version", "2", "--cgroup", "nonsense.x=1"]), "Controller nonsense is unavailable"),
        (line(more=["--resource-limit", "fsize"]), "Invalid format for resources limits: fsize"),
        (line(more=["--resource-limit", "nproc=1"]), "Invalid resource argument: nproc"),
        (line(more=["--resource-limit", "fsize=-1"]), "Invalid limit value for resource: -1"),
        (line(more=["--resource-limit", "no-file=18446744073709551616"]), "Invalid limit value for resource"),
    ]
    for arguments, words in rows:
        r = subprocess.run([str(w) for w in [j.jailer, *arguments]], capture_output=True, text=True, check=False)
        assert r.returncode == 1 and words in r.stderr and not r.stdout, (arguments, words, r)
        assert not list(j.base.iterdir()), arguments
    # ids of 1 and 64 characters are in
    for name in ("x", "A-9" + "z" * 61):
        assert j.run(name=name).returncode == 0, name


@check
def help_and_version_win(j):
    link = j.directory / "jailer"
    link.symlink_to(j.jailer)
    for words in (["--help"], ["-h"], ["--nonsense", "--help"], ["--version", "--help"]):
        r = subprocess.run([j.jailer, *words], capture_output=True, text=True, check=False)
        assert r.returncode == 0 and "--exec-file FILE" in r.stdout and not r.stderr, r
    r = subprocess.run([j.jailer, "--id", "--version"], capture_output=True, text=True, check=False)
    assert r.returncode == 0 and r.stdout.startswith("riffle-jailer "), r
    r = subprocess.run([link, "--version"], capture_output=True, text=True, check=False)
    assert r.returncode == 0 and r.stdout.startswith("Jailer v1."), r
    r = j.run(extra=("--help",))
    assert r.returncode == 0 and "arg --help" in r.stdout, r


# ---- the jail ----

@check
def the_jail_is_as_documented(j):
    link = j.directory / "other-name"
    link.symlink_to(j.probe)
    r = j.run(exec_file=link, extra=("--api-sock", "/x", "--id"))
    assert r.returncode == 0 and not r.stderr, r
    root = j.root()
    for directory in ("", "dev", "dev/net", "run"):
        owned(root / directory, stat.S_IFDIR | 0o700)
    owned(root / "dev/net/tun", stat.S_IFCHR | 0o600, device=(10, 200))
    owned(root / "dev/kvm", stat.S_IFCHR | 0o600, device=(10, 232))
    owned(root / "dev/urandom", stat.S_IFCHR | 0o600, device=(1, 9))
    misc = dict(reversed(line.split()) for line in open("/proc/misc", encoding="ascii"))
    assert (root / "dev/userfaultfd").exists() == ("userfaultfd" in misc)
    if "userfaultfd" in misc:
        owned(root / "dev/userfaultfd", stat.S_IFCHR | 0o600, device=(10, int(misc["userfaultfd"])))
    owned(root / "probe", stat.S_IFREG | 0o755)
    assert (root / "probe").read_bytes() == j.probe.read_bytes()
    owned(root / "probe.pid", stat.S_IFREG | 0o644, 0, 0)
    seen = parse(r.stdout)
    words = seen["arg"]
    assert words[:3] == ["/probe", "--id", "a"] and words[-3:] == ["--api-sock", "/x", "--id"], words
    assert words[3:9:2] == ["--start-time-us", "--start-time-cpu-us", "--parent-cpu-time-us"] and len(words) == 12, words
    started, cpu, parent = (int(w) for w in words[4:9:2])
    assert 0 < started <= time.monotonic() * 1e6 and 0 <= cpu <= parent, words
    assert sorted(seen["entry"]) == ["dev", "probe", "probe.pid", "run"], seen["entry"]
    assert seen["sealed"] == ["1"] and seen["cwd"] == ["/"], seen
    assert seen["pid"] == [(root / "probe.pid").read_text()]


@check
def nothing_is_inherited(j):
    descriptor = os.open("/", os.O_RDONLY)
    os.dup2(descriptor, 77, inheritable=True)
    r = j.run(env={"SECRET": "1", "LD_PRELOAD": "/x.so"}, pass_fds=(77,), prefix=("/usr/bin/setpriv", "--groups=4,5"))
    seen = parse(r.stdout)
    assert r.returncode == 0 and "env" not in seen, r
    assert seen["fd"] == ["0 null", "1", "2"], seen["fd"]
    assert seen["uids"] == [f"{UID} {UID} {UID}"] and seen["gids"] == [f"{GID} {GID} {GID}"], seen
    assert seen["groups"] == ["0"] and seen["caps"] == ["0 0 0 0"] and seen["nonewprivs"] == ["1"], seen
    r = j.run(name="closed", prefix=("/bin/sh", "-c", 'exec "$@" 0<&- 2>&-', "sh"))
    assert r.returncode == 0 and "fd 0 null" in r.stdout and "fd 2 null" in r.stdout, r


@check
def no_mount_is_left_outside_and_none_inside(j):
    data = j.root() / "data"
    data.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", data], check=True)
    try:
        (data / "inside").touch(0o644)
        before = mounts()
        pid, seen = j.start()
        assert mounts() == before
        inside = pathlib.Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
        assert [m.split()[4] for m in inside] == ["/", "/data"], inside
        assert "/data/inside ok" in seen["open"], seen["open"]
        assert not (j.root() / "old_root").exists()
        assert os.stat(f"/proc/{pid}/root").st_ino == os.stat(j.root()).st_ino
    finally:
        j.end()
        subprocess.run(["umount", "-l", data], check=True)


@check
def files_of_the_jail_stay_as_they_are(j):
    """The caller puts kernel and drives there first, and owns them."""
    j.root().mkdir(parents=True)
    kernel = j.root() / "vmlinux"
    kernel.write_text("kernel")
    os.chown(kernel, 7, 8)
    (j.root() / "run").mkdir(mode=0o755)
    assert j.run().returncode == 0
    owned(kernel, stat.S_IFREG | 0o644, 7, 8)
    owned(j.root() / "run", stat.S_IFDIR | 0o700)


@check
def limits_are_set(j):
    seen = parse(j.run().stdout)
    assert seen["nofile"] == ["2048 2048"] and seen["fsize"] == ["-1 -1"], seen
    r = j.run("--resource-limit", "fsize=250000", "--resource-limit", "no-file=64", name="b")
    seen = parse(r.stdout)
    assert seen["nofile"] == ["64 64"] and seen["fsize"] == ["250000 250000"], seen


@check
def the_network_namespace_is_joined(j):
    handle = j.directory / "netns"
    handle.touch()
    subprocess.run(["unshare", f"--net={handle}", "true"], check=True)
    try:
        pid, _ = j.start("--netns", handle)
        assert os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat(handle).st_ino != os.stat("/proc/self/ns/net").st_ino
        j.fails("Failed to open file /nowhere: No such file or directory (os error 2)", "--netns", "/nowhere", name="b")
        j.fails("Failed to join network namespace: netns: Invalid argument (os error 22)", "--netns", "/proc/self/ns/ipc",
                name="b")
        j.fails("Failed to join network namespace: netns: Invalid argument (os error 22)", "--netns", j.probe, name="b")
    finally:
        subprocess.run(["umount", handle], check=True)


@check
def it_runs_in_the_background(j):
    pid, seen = j.start()
    assert seen["fd"] == ["0 null", "1 null", "2 null"], seen["fd"]
    assert seen["leader"] == ["0"] and os.getsid(pid) not in (os.getsid(0), pid)
    assert int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) != os.getpid()
    assert seen["pid"] == [str(pid)]


@check
def it_is_process_1_of_a_new_pid_namespace(j):
    for name, more in (("fore", ()), ("back", ("--daemonize",))):
        with open(j.directory / "out", "w+", encoding="ascii") as out:
            r = subprocess.run([str(c) for c in (j.jailer, "--id", name, "--exec-file", j.probe, "--uid", UID, "--gid", GID,
                                                 "--chroot-base-dir", j.base, "--new-pid-ns", *more, "--", "wait")],
                               stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=60, check=False)
        pid = int((j.root(name) / "probe.pid").read_text())
        j.pids.append(pid)
        assert r.returncode == 0 and j.report(name)["pid"] == ["1"], r
        assert os.readlink(f"/proc/{pid}/ns/pid") != os.readlink("/proc/self/ns/pid")
        assert pathlib.Path(f"/proc/{pid}/comm").read_text() == "probe\n"


# ---- failures ----

@check
def a_second_start_says_what_is_in_the_way(j):
    j.start()
    before = tree(j.base)
    r = j.run()
    assert r.returncode == 1 and "Text file busy" in r.stderr, r
    assert tree(j.base) == before
    assert j.run(name="b").returncode == 0
    before = tree(j.base)
    r = j.run(name="b")
    assert r.returncode == 1 and tree(j.base) == before, r
    assert f"Jailer error: Failed to create /dev/net/tun via mknod inside the jail: {EXISTS}" in r.stderr, r
    # without the devices, the pid file is what is left
    shutil.rmtree(j.root("b") / "dev")
    r = j.run(name="b")
    assert r.returncode == 1 and f"Failed to open file /probe.pid: {EXISTS}" in r.stderr, r
    shutil.rmtree(j.base / "probe" / "b")
    assert j.run(name="b").returncode == 0


@check
def a_program_that_cannot_run_leaves_nothing(j):
    program = j.directory / "dynamic"
    shutil.copy("/bin/true", program)
    for more in ((), ("--daemonize",), ("--new-pid-ns",), ("--daemonize", "--new-pid-ns")):
        r = j.run(*more, exec_file=program)
        assert r.returncode == 1, (more, r)
        assert r.stderr == "Jailer error: Failed to exec into Firecracker: No such file or directory (os error 2)\n", r
        left = list(j.base.rglob("*"))
        assert not left, left
    shutil.copy(j.probe, program)
    assert j.run(exec_file=program).returncode == 0


@check
def a_full_disk_leaves_nothing(j):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", j.base], check=True)
    try:
        j.fails("No space left on device (os error 28)")
    finally:
        subprocess.run(["umount", j.base], check=True)


@check
def links_in_the_jail_are_not_followed(j):
    victim = j.directory / "victim"
    victim.write_text("mine")
    away = j.directory / "away"
    away.mkdir(mode=0o755)
    loop = "Too many levels of symbolic links (os error 40)"

    def case(name, link, target, words, hard=False):
        path = j.root(name) / link
        path.parent.mkdir(parents=True)
        (os.link if hard else os.symlink)(target, path)
        j.run(name=name)
        r = j.run(name=name)
        assert r.returncode == 1 and words in r.stderr, (name, r)
        assert victim.read_text() == "mine" and not list(away.iterdir()), name
        owned(victim, stat.S_IFREG | 0o644, 0, 0)
        owned(away, stat.S_IFDIR | 0o755, 0, 0)

    case("program", "probe", victim, f"Failed to open file {j.root('program')}/probe: {loop}")
    case("hard", "probe", victim, "a hard link is not overwritten", hard=True)
    case("dangling", "probe", j.directory / "new", loop)
    assert not (j.directory / "new").exists()
    case("dev", "dev", away, f"Failed to create directory /dev: {loop}")
    case("inner", "dev/net", "/run", f"Failed to create directory /dev/net: {loop}")
    case("run", "run", "/", f"Failed to create directory /run: {loop}")
    case("tun", "dev/net/tun", victim, EXISTS)
    case("kvm", "dev/kvm", victim, EXISTS, hard=True)
    case("pid", "probe.pid", victim, f"Failed to open file /probe.pid: {EXISTS}")
    for name, link in (("root", "probe/root/root"), ("id", "probe/id")):
        path = j.base / link
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(away)
        j.fails(f"Failed to create directory {j.root(name)}: {loop}", name=name)
        assert not list(away.iterdir())
    os.mkfifo(j.base / "probe/fifo")
    j.fails("Not a directory (os error 20)", name="fifo")
    j.root("pipe").mkdir(parents=True)
    os.mkfifo(j.root("pipe") / "probe")
    j.fails("Failed to open file", name="pipe")


# ---- cgroups ----

def hierarchy(controller=None):
    for line in open("/proc/mounts", encoding="ascii"):
        _, place, kind, options, *_ = line.split()
        if (controller is None and kind == "cgroup2") or (kind == "cgroup" and controller in options.split(",")):
            return pathlib.Path(place)
    raise AssertionError(f"no hierarchy for {controller}")


def alone(members, pid):
    """Processes on the way to the background end at their own pace."""
    for _ in range(200):
        if (now := members.read_text().split()) == [str(pid)]:
            return
        time.sleep(0.02)
    raise AssertionError((now, pid))


def forget(*paths):
    for path in paths:
        for _ in range(100):
            try:
                path.rmdir()
                break
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(0.02)


@check
def cgroups_of_version_1(j):
    processor, memory = hierarchy("cpu"), hierarchy("cpuset")
    top = f"riffle-test-{os.getpid()}"
    parent = f"{top}/inner"
    places = [h / p for h in (processor, memory) for p in (f"{parent}/a", f"{parent}/b", parent, top)]
    try:
        pid, _ = j.start("--cgroup", "cpu.shares=77", "--cgroup", "cpuset.mems=0", "--parent-cgroup", parent,
                         "--cgroup", "cpuset.cpus=0", "--cgroup", "cpu.cfs_period_us=200000")
        for place, name, value in ((processor, "cpu.shares", "77"), (processor, "cpu.cfs_period_us", "200000"),
                                   (memory, "cpuset.cpus", "0"), (memory, "cpuset.mems", "0")):
            assert (place / parent / "a" / name).read_text().strip() == value, name
            alone(place / parent / "a" / "tasks", pid)
        # empty settings are inherited from the ancestors
        for place in (memory / top, memory / parent):
            assert (place / "cpuset.cpus").read_text() == (memory / "cpuset.cpus").read_text() != "\n"
        j.fails("Failed to write to", "--cgroup", "cpu.shares=nonsense", "--parent-cgroup", parent, name="b")
        j.fails("into a string: No such file or directory (os error 2)", "--cgroup", "cpu.nonsense=1",
                "--parent-cgroup", parent, name="b")
        assert not (processor / parent / "b").exists()
        # the default parent is the program's name
        pid, _ = j.start("--cgroup", "cpu.shares=78", name="c")
        assert str(pid) in (processor / "probe" / "c" / "tasks").read_text().split()
        places += [processor / "probe/c", processor / "probe"]
    finally:
        j.end()
        forget(*places)


@check
def cgroups_of_version_2(j):
    unified = hierarchy()
    available = (unified / "cgroup.controllers").read_text().split()
    setting, value = next((s, v) for s, v in (("memory.high", "104857600"), ("pids.max", "77"),
                                              ("hugetlb.2MB.max", "2097152")) if s.split(".")[0] in available)
    controller = setting.split(".")[0]
    top = f"riffle-test-{os.getpid()}"
    parent = f"{top}/inner"
    places = [unified / p for p in (f"{parent}/a", f"{parent}/b", parent, top, "probe")]
    try:
        pid, _ = j.start("--cgroup-version", "2", "--cgroup", f"{setting}={value}", "--parent-cgroup", parent)
        assert (unified / parent / "a" / setting).read_text().strip() == value
        alone(unified / parent / "a" / "cgroup.procs", pid)
        for place in (unified, unified / top, unified / parent):
            assert controller in (place / "cgroup.subtree_control").read_text().split(), place
        assert controller not in (unified / parent / "a" / "cgroup.subtree_control").read_text().split()
        j.fails("Failed to write to", "--cgroup-version", "2", "--cgroup", f"{setting}=nonsense", "--parent-cgroup",
                parent, name="b")
        assert not (unified / parent / "b").exists()
        j.end()
        # without a setting it goes to the parent, if there is one
        (unified / "riffle-here").mkdir()
        places.append(unified / "riffle-here")
        pid, _ = j.start("--cgroup-version", "2", "--parent-cgroup", "riffle-here", name="c")
        alone(unified / "riffle-here" / "cgroup.procs", pid)
        pid, _ = j.start("--cgroup-version", "2", "--parent-cgroup", "riffle-nowhere", name="d")
        assert not (unified / "riffle-nowhere").exists()
    finally:
        j.end()
        forget(*places)


@check
def a_version_without_hierarchy(j):
    """In a mount namespace where no cgroup is mounted."""
    script = "umount -a -t cgroup,cgroup2; mount -t tmpfs none /sys/fs/cgroup 2>/dev/null; exec \"$@\""
    for version in ("1", "2"):
        j.fails("Hierarchy not found: No hierarchy found for this cgroup version.", "--cgroup-version", version,
                "--cgroup", "cpu.shares=1", prefix=("unshare", "-m", "sh", "-c", script, "sh"))


# ---- escapes ----

KINDS = ("loop", "loop_connects", "loop_opens", "loop_debugs", "loop_saves", "loop_saves_connects", "vcpu", "writer", "disk", "api")
# not permitted to anyone in the box's Linux, or its prerequisites are missing there
NOT_EVEN_ROOT = {"open_in_proc", "x32_system_calls"}


class Victim:
    """Targets outside the jail: a secret file, a process of the jail's user, sockets that report connections."""

    def __init__(self, program):
        self.directory = pathlib.Path("/tmp/victim")
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(mode=0o777)
        self.directory.chmod(0o777)
        shutil.copy(program, self.directory / "escape")
        (self.directory / "secret").write_text("secret")
        (self.directory / "secret").chmod(0o666)
        self.process = subprocess.Popen(["setpriv", f"--reuid={UID}", f"--regid={GID}", "--clear-groups", "sleep", "600"])
        self.servers = []
        for family, address in ((socket.AF_UNIX, str(self.directory / "socket")), (socket.AF_UNIX, "\0riffle-victim"),
                                (socket.AF_INET, ("127.0.0.1", 0))):
            server = socket.socket(family, socket.SOCK_STREAM)
            server.bind(address)
            server.listen(64)
            server.setblocking(False)
            self.servers.append(server)
        (self.directory / "socket").chmod(0o666)
        self.port = self.servers[-1].getsockname()[1]
        self.before = tree(self.directory)

    def arguments(self, kind):
        return [kind, str(self.process.pid), str(self.port), str(os.getpid())]

    def connections(self):
        count = 0
        for server in self.servers:
            with contextlib.suppress(BlockingIOError):
                while True:
                    server.accept()[0].close()
                    count += 1
        return count

    def untouched(self):
        assert tree(self.directory) == self.before and (self.directory / "secret").read_text() == "secret"
        assert self.process.poll() is None and self.connections() == 0
        state = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        assert "\nTracerPid:\t0\n" in state and "\nState:\tS" in state, state

    def end(self):
        self.process.kill()
        self.process.wait()
        for server in self.servers:
            server.close()
        shutil.rmtree(self.directory)


def attempts(output, kind):
    lines = output.splitlines()
    assert lines[-1:] == ["end"], output
    results = dict(line.split()[1:] for line in lines if line.startswith(kind + " "))
    assert len(results) >= 60, len(results)
    return results


@check
def attempts_are_real(j):
    """Each attempt succeeds for root without jail and filter; run in a box, where it does no harm."""
    if not os.environ.get("KVMBOX"):
        return "skipped: in a box alone, which suffers it: in the long run"
    victim = Victim(j.programs / "escape")
    try:
        r = subprocess.run([j.programs / "escape", *victim.arguments("open")], capture_output=True, text=True, timeout=120,
                           check=False, stdin=subprocess.DEVNULL, cwd=j.directory)
        results = attempts(r.stdout, "open")
        failed = {name for name, result in results.items() if result != "REACHED"}
        assert failed <= NOT_EVEN_ROOT, {name: results[name] for name in failed}
        assert victim.connections() >= 4
        return "ok"
    finally:
        victim.end()


@check
def no_kind_of_thread_is_forgotten(j):
    r = subprocess.run([j.programs / "escape", "--kinds"], capture_output=True, text=True, check=True)
    assert r.stdout.split("\n")[:-1] == list(KINDS), r.stdout


def escape_check(kind):
    def attempt(j):
        victim = Victim(j.programs / "escape")
        handle = j.directory / "netns"
        handle.touch()
        subprocess.run(["unshare", f"--net={handle}", "true"], check=True)
        try:
            r = j.run("--netns", handle, exec_file=j.programs / "escape", extra=victim.arguments(kind))
            assert r.returncode == 0, r
            assert "begin 1 1 1\n" in r.stdout, r.stdout
            results = attempts(r.stdout, kind)
            bad = {name: result for name, result in results.items() if result not in ("killed", "refused")}
            assert not bad, bad
            victim.untouched()
        finally:
            victim.end()
            subprocess.run(["umount", handle], check=True)

    attempt.__name__ = f"nothing_escapes_{kind}"
    check(attempt)


for each in KINDS:
    escape_check(each)


@check
def nothing_escapes_from_riffle_vmm(j):
    """
    riffle-vmm itself in a jail (escape_vmm.c): one thread of each kind that it has makes every attempt, in the process that then
    goes on to run a guest. Before the API's thread is confined, those that the jail alone does not stop succeed.
    """
    program = j.programs / "escape-vmm"
    victim = Victim(j.programs / "escape")
    handle = j.directory / "netns"
    handle.touch()
    subprocess.run(["unshare", f"--net={handle}", "true"], check=True)
    root = j.root(program="escape-vmm")
    root.mkdir(parents=True)
    os.chown(root, UID, GID)
    shutil.copy(j.programs / "spin", root / "kernel")
    (root / "drive").write_bytes(bytes(1 << 20))
    (root / "attempts").write_text(" ".join(victim.arguments("")[1:]))
    (root / "other").write_bytes(bytes(1 << 20))
    drives = [{"drive_id": name, "path_on_host": f"/{name}", "is_root_device": False} for name in ("drive", "other")]
    (root / "vm.json").write_text(json.dumps({
        "boot-source": {"kernel_image_path": "/kernel"}, "drives": drives,
        "machine-config": {"vcpu_count": 2, "mem_size_mib": 64}, "vsock": {"guest_cid": 3, "uds_path": "/v.sock"}}))
    for name in ("kernel", "drive", "other", "vm.json", "attempts"):
        os.chown(root / name, UID, GID)
    try:
        r = j.run("--daemonize", "--netns", handle, exec_file=program,
                  extra=("--config-file", "/vm.json", "--accept-emulation", "--log-path", "/log"))
        assert r.returncode == 0, r
        j.pids.append(int((root / "escape-vmm.pid").read_text()))
        kinds = {"before", "api", "loop_opens", "vcpu", "writer", "disk"}
        for _ in range(1200):
            lines = [line.split() for line in (root / "results").read_text().splitlines()] if (root / "results").exists() else []
            ended = {line[0] for line in lines if line[1:] == ["end"]}
            if ended >= kinds:
                break
            time.sleep(0.05)
        assert ended == kinds, (ended, lines[-3:], (root / "log").read_text())
        for kind in kinds - {"before"}:
            results = {name: result for name, result in (line[1:] for line in lines if line[0] == kind and len(line) == 3)}
            assert len(results) >= 60, (kind, len(results))
            bad = {name: result for name, result in results.items() if result not in ("killed", "refused")}
            assert not bad, (kind, bad)
            assert sum(result == "killed" for result in results.values()) >= 40, results
        before = {line[1] for line in lines if line[0] == "before" and line[2:] == ["REACHED"]}
        assert {"fork_process", "limit_victim", "slow_victim", "map_code", "socket_inet6"} <= before and len(before) >= 20, before
        victim.untouched()
        with socket.socket(socket.AF_UNIX) as api:
            api.connect(str(root / "run/firecracker.socket"))
            api.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert b'"state":"Running"' in api.recv(4096)
    finally:
        j.end()
        victim.end()
        subprocess.run(["umount", handle], check=True)


@check
def abstract_sockets_and_signals_end_at_the_jail(j):
    """In the caller's network namespace, without any filter: isolated only by Landlock, if the kernel has scopes."""
    create_ruleset = 444
    if ctypes.CDLL(None, use_errno=True).syscall(create_ruleset, None, 0, 1) < 6:
        return "skipped: needs Landlock's scopes (Linux 6.12)"
    victim = Victim(j.programs / "escape")
    try:
        r = j.run(exec_file=j.programs / "escape", extra=victim.arguments("open"))
        results = attempts(r.stdout, "open")
        for name in ("connect_abstract", "kill_victim", "tgkill_victim", "tkill_victim", "signal_by_pidfd", "open_absolute",
                     "open_upwards", "open_by_ring", "leave_chroot", "connect_path", "become_root", "make_disk"):
            assert results[name] == "refused", (name, results[name])
        return "ok"
    finally:
        victim.end()


@check
def every_thread_of_a_monitor_is_confined(j):
    """riffle-vmm runs a guest in a jail, with a drive that has a worker: checks each of its threads in /proc."""
    monitor = j.programs.parent.parent / "api" / "riffle-vmm"
    if not monitor.exists():
        return "skipped: riffle-vmm is not in this build"
    root = j.base / "riffle-vmm" / "a" / "root"
    root.mkdir(parents=True)
    shutil.copy(j.programs / "spin", root / "kernel")
    (root / "drive").write_bytes(bytes(1 << 20))
    drive = {"drive_id": "d", "path_on_host": "/drive", "is_root_device": False, "io_engine": "Sync"}
    (root / "vm.json").write_text(json.dumps({
        "boot-source": {"kernel_image_path": "/kernel"}, "drives": [drive],
        "machine-config": {"vcpu_count": 2, "mem_size_mib": 64}, "vsock": {"guest_cid": 3, "uds_path": "/v.sock"}}))
    for name in ("kernel", "drive", "vm.json"):
        os.chown(root / name, UID, GID)
    r = j.run("--daemonize", "--new-pid-ns", exec_file=monitor,
              extra=("--config-file", "/vm.json", "--accept-emulation", "--log-path", "/log"))
    assert r.returncode == 0, r
    pid = int((root / "riffle-vmm.pid").read_text())
    j.pids.append(pid)
    for _ in range(400):
        threads = {}
        for status in pathlib.Path(f"/proc/{pid}/task").glob("*/status"):
            with contextlib.suppress(OSError):
                fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
                threads[fields["Name"].strip()] = [fields[f].strip() for f in ("Seccomp", "NoNewPrivs", "CapEff", "CapPrm")]
        if {"fc_vcpu 0", "fc_vcpu 1", "fc_api"} <= set(threads) and all(t[0] == "2" for t in threads.values()):
            break
        time.sleep(0.05)
    assert {"fc_vcpu 0", "fc_vcpu 1", "fc_api"} <= set(threads), (threads, (root / "log").read_text())
    for name, seen in threads.items():
        assert seen == ["2", "1", "0" * 16, "0" * 16], threads
    return "ok"


def main():
    jailer, programs, directory, *names = sys.argv[1:]
    ctypes.CDLL(None).umask(0o022)
    # undo what root managed here before the next attempts
    for name in names or sorted(CHECKS, key="attempts_are_real".__eq__):
        jails = Jails(jailer, programs, pathlib.Path(directory) / name)
        try:
            result = CHECKS[name](jails) or "ok"
        except Exception:  # any exception is the check's result
            result = traceback.format_exc()
        jails.end()
        print(json.dumps({"check": name, "result": result}), flush=True)


if __name__ == "__main__":
    main()
