# SPDX-License-Identifier: Apache-2.0
"""The command line: what is printed, what is refused, exit codes, signals, threads, files."""
import json
import os
import re
import signal
import subprocess
import time

import pytest
from api import Connection
from vmm import VMM

VERSION = re.compile(r"Firecracker v(\d+\.\d+\.\d+(-dev)?)\n\n")


@pytest.fixture
def run(tmp_path):
    """Runs the program to its end."""
    def run(*arguments, **kwargs):
        kwargs.setdefault("cwd", tmp_path)
        return subprocess.run([VMM, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False,
                              stdin=subprocess.DEVNULL, env={"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(tmp_path)},
                              **kwargs)
    return run


# ---- what is printed

@pytest.mark.parametrize("more", [[], ["--no-api"], ["--api-sock", "x"], ["--nonsense"], ["--level", "loud"], ["--id", "_"]])
def test_version_wins(run, more):
    for arguments in (["--version", *more], [*more, "--version"]):
        r = run(*arguments)
        assert r.returncode == 0, r
        assert VERSION.match(r.stdout), r


def test_version_is_that_of_the_api(run, vmm):
    assert VERSION.match(run("--version").stdout).group(1) == vmm.get("/version")["firecracker_version"]


def test_version_ends_with_a_log_line(run):
    r = run("--version")
    assert re.search(r"\] Firecracker exiting successfully\. exit_code=0\n$", r.stdout), r


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--help", "--version"], ["--version", "--help"],
                                       ["--nonsense", "--help"]])
def test_help(run, arguments):
    r = run(*arguments)
    assert r.returncode == 0, r
    assert VERSION.match(r.stdout) and "optional arguments:" in r.stdout


OPTIONS = ["api-sock", "id", "seccomp-filter", "no-seccomp", "start-time-us", "start-time-cpu-us", "parent-cpu-time-us",
           "config-file", "metadata", "no-api", "log-path", "level", "module", "show-level", "show-log-origin", "metrics-path",
           "boot-timer", "version", "snapshot-version", "describe-snapshot", "http-api-max-payload-size", "mmds-size-limit",
           "enable-pci", "help"]


@pytest.mark.parametrize("option", OPTIONS)
def test_help_names_every_option(run, option):
    assert re.search(rf"(^|\s)--{option}\b", run("--help").stdout, re.M)


def test_snapshot_version(run):
    r = run("--snapshot-version")
    assert r.returncode == 0 and re.match(r"v\d+\.\d+\.\d+\n", r.stdout), r


@pytest.mark.parametrize("content", [None, b"", b"x" * 100])
def test_describe_what_is_no_snapshot(run, tmp_path, content):
    if content is not None:
        (tmp_path / "state").write_bytes(content)
    r = run("--describe-snapshot", "state")
    assert r.returncode == 1, r


# ---- what is refused

REFUSED = {
    "unknown option": (["--nonsense"], "Found argument 'nonsense' which wasn't expected, or isn't valid in this context."),
    "no option": (["nonsense"], "Found argument 'nonsense' which wasn't expected, or isn't valid in this context."),
    "value joined": (["--api-sock=x"], "Found argument 'api-sock=x' which wasn't expected, or isn't valid in this context."),
    "one dash": (["-api-sock", "x"], "Found argument '-api-sock' which wasn't expected, or isn't valid in this context."),
    "no value": (["--api-sock"], "The argument 'api-sock' requires a value, but none was supplied."),
    "value is an option": (["--api-sock", "--no-seccomp"], "The argument 'api-sock' requires a value, but none was supplied."),
    "twice": (["--api-sock", "x", "--api-sock", "x"], "The argument 'api-sock' was provided more than once."),
    "flag twice": (["--boot-timer", "--boot-timer"], "The argument 'boot-timer' was provided more than once."),
    "flag with value": (["--boot-timer", "1"], "Found argument '1' which wasn't expected, or isn't valid in this context."),
    "no-api without config-file": (["--no-api"], "Argument 'config-file' required, but not found."),
    "two kinds of seccomp": (["--no-seccomp", "--seccomp-filter", "x"], None),
}


@pytest.mark.parametrize("row", REFUSED)
def test_refused(run, row):
    arguments, text = REFUSED[row]
    r = run(*arguments)
    assert r.returncode == 153, r
    if text:
        assert text in r.stdout + r.stderr, r
    assert r.stderr, "the text is on standard error too"


@pytest.mark.parametrize("level", ["loud", "", "7", "Inf"])
def test_bad_level(run, level):
    assert run("--api-sock", "s", "--level", level).returncode == 152


@pytest.mark.parametrize("name", ["", "a_b", "a/b", "a b", "x" * 65, "é"])
def test_bad_id(run, name):
    """Firecracker panics: the process is aborted."""
    assert run("--api-sock", "s", "--id", name).returncode == -signal.SIGABRT


@pytest.mark.parametrize("name", ["a", "x" * 64, "A-9", "-", "0"])
def test_good_id(start, name):
    assert start("--id", name).get("/")["id"] == name


@pytest.mark.parametrize("option", ["--config-file", "--metadata"])
def test_file_that_cannot_be_read(run, option):
    r = run("--api-sock", "s", option, "nowhere")
    assert r.returncode == -signal.SIGABRT, r
    assert "No such file or directory" in r.stdout + r.stderr


def test_metadata_that_is_no_json(run, tmp_path):
    (tmp_path / "m").write_text("{")
    r = run("--api-sock", "s", "--metadata", "m")
    assert r.returncode == -signal.SIGABRT, r
    reason = 'MMDS error: metadata provided not valid json: Error("EOF while parsing an object", line: 1, column: 1)'
    assert reason in r.stdout and reason in r.stderr


def test_metadata_that_is_too_large(run, tmp_path):
    (tmp_path / "m").write_text('{"a":"' + "x" * 60000 + '"}')
    assert run("--api-sock", "s", "--metadata", "m").returncode == 1


def test_metadata(start, tmp_path):
    (tmp_path / "m").write_text('{"latest": {"user-data": "1"}}')
    vmm = start("--metadata", tmp_path / "m")
    assert vmm.get("/mmds") == {"latest": {"user-data": "1"}}
    assert "Successfully added metadata to mmds from file" in vmm.out
    assert vmm.get("/")["state"] == "Not started"


@pytest.mark.parametrize("option,value", [("--http-api-max-payload-size", "x"), ("--mmds-size-limit", "-1"),
                                          ("--start-time-us", "x"), ("--http-api-max-payload-size", "")])
def test_numbers_that_are_none(run, option, value):
    """Firecracker panics."""
    assert run("--api-sock", "s", option, value).returncode in (-signal.SIGABRT, 153, 1)


def test_seccomp_filter_that_is_not_there(run):
    assert run("--api-sock", "s", "--seccomp-filter", "nowhere").returncode == 1


@pytest.mark.parametrize("arguments", [["--no-seccomp"], ["--boot-timer"], ["--enable-pci"], ["--show-level"], ["--show-log-origin"],
                                       ["--module", "api"], ["--level", "debug"], ["--start-time-us", "1"],
                                       ["--start-time-cpu-us", "1"], ["--parent-cpu-time-us", "1"], ["--mmds-size-limit", "1"]])
def test_accepted(start, arguments):
    """Each starts a server; --enable-pci may be refused with a reason where the machine has no PCI."""
    if arguments == ["--enable-pci"]:
        vmm = start(*arguments, api=False)
        time.sleep(0.2)
        if not vmm.running:
            assert vmm.process.returncode == 1 and "pci" in vmm.output.lower()
        return
    assert start(*arguments).get("/")["state"] == "Not started"


# ---- logger and metrics by the command line

def test_log_path(start, tmp_path):
    vmm = start("--log-path", tmp_path / "log", "--level", "Debug", "--show-level")
    vmm.get("/version")
    text = (tmp_path / "log").read_text()
    assert "Running Firecracker v" in text and ":INFO] The API server received a Get request on \"/version\"." in text
    assert "The API server received" not in vmm.out


def test_log_path_that_cannot_be_opened(run):
    assert run("--api-sock", "s", "--log-path", "none/log").returncode == 1


def test_metrics_path(start, tmp_path):
    (tmp_path / "metrics").touch()
    vmm = start("--metrics-path", tmp_path / "metrics")
    r = vmm.request("PUT", "/metrics", {"metrics_path": vmm.file("other")})
    assert r.status == 400 and "Reinitialization of metrics not allowed." in r.fault


def test_metrics_path_that_cannot_be_opened(run):
    assert run("--api-sock", "s", "--metrics-path", "none/metrics").returncode == 1


# ---- signals

@pytest.mark.parametrize("name,code", [("SIGTERM", -15), ("SIGINT", -2), ("SIGHUP", 156), ("SIGILL", 157), ("SIGBUS", 149),
                                       ("SIGSEGV", 150), ("SIGXFSZ", 151), ("SIGXCPU", 154), ("SIGSYS", 148)])
def test_signals(start, tmp_path, name, code):
    """The default action for two; for the others the metrics are written first."""
    (tmp_path / "metrics").touch()
    vmm = start("--metrics-path", tmp_path / "metrics")
    vmm.get("/version")
    vmm.process.send_signal(getattr(signal, name))
    assert vmm.wait() == code, vmm.output
    lines = (tmp_path / "metrics").read_text().splitlines()
    assert len(lines) == (1 if code > 0 else 0)
    if code > 0 and name != "SIGSYS":
        assert f"Shutting down VM after intercepting signal {int(getattr(signal, name))}, code 0." in vmm.out


def test_sigpipe_is_counted_and_ignored(start, tmp_path):
    (tmp_path / "metrics").touch()
    vmm = start("--metrics-path", tmp_path / "metrics")
    for _ in range(3):
        vmm.process.send_signal(signal.SIGPIPE)
        time.sleep(0.02)
    assert vmm.get("/")["state"] == "Not started"
    vmm.process.send_signal(signal.SIGHUP)
    assert vmm.wait() == 156
    signals = json.loads((tmp_path / "metrics").read_text().splitlines()[-1])["signals"]
    assert signals["sigpipe"] >= 1 and signals["sighup"] == 1 and signals["sigsegv"] == 0
    assert "Received signal 13, code 0." in vmm.out


def test_log_that_is_a_broken_pipe(tmp_path):
    """A line that finds nobody is a signal for the process, about which it writes no line."""
    socket = tmp_path / "s"
    process = subprocess.Popen([VMM, "--api-sock", socket], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                               stdin=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while not socket.exists():
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.01)
        process.stdout.close()
        with Connection(socket) as c:
            for _ in range(20):
                assert c.request("GET", "/version").status == 200
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


# ---- the process

def threads(vmm):
    directory = f"/proc/{vmm.process.pid}/task"
    return sorted(open(f"{directory}/{t}/comm").read().strip() for t in os.listdir(directory))


def test_threads_before_the_start(vmm):
    vmm.get("/version")
    names = threads(vmm)
    assert "fc_api" in names
    assert not any(n.startswith("fc_vcpu") for n in names)


def test_usable_under_another_name(tmp_path):
    """A link called firecracker is what its users' tools start."""
    link = tmp_path / "firecracker"
    link.symlink_to(VMM)
    r = subprocess.run([link, "--version"], capture_output=True, text=True, timeout=60, check=False)
    assert r.returncode == 0 and VERSION.match(r.stdout)


def test_first_log_line(vmm):
    first = vmm.out.splitlines()[0]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9} \[anonymous-instance:main\] Running Firecracker v\S+", first), first


def test_standard_output_closed(tmp_path):
    """Somebody may have closed what the log goes to."""
    socket = tmp_path / "s"
    process = subprocess.Popen(["sh", "-c", f'exec "{VMM}" --api-sock "{socket}" >&- 2>&- <&-'], cwd=tmp_path)
    try:
        end = time.monotonic() + 60
        while not socket.exists():
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("option", ["--config-file", "--metadata"])
def test_fifo_is_not_waited_for(start, option):
    vmm = start(option, "fifo", start=False)
    os.mkfifo(vmm.directory / "fifo")
    vmm.api = False
    vmm.start()
    assert vmm.wait() != 0
    assert "Unable to open or read from the " in vmm.output and "Not a regular file" in vmm.output


def test_cpu_fifo_is_not_waited_for(start):
    vmm = start("--config-file", "vm.json", start=False)
    os.mkfifo(vmm.directory / "fifo")
    vmm.file("kernel")
    vmm.file("vm.json", json.dumps({"cpu-config": "fifo", "drives": [], "boot-source": {"kernel_image_path": "kernel"}}))
    vmm.api = False
    vmm.start()
    assert vmm.wait() == 1
    assert "File operation error: Not a regular file" in vmm.output


def test_metadata_of_standard_input(start):
    """A pipe of the parent's is read to its end."""
    reader, writer = os.pipe()
    os.write(writer, b'{"a": 1}')
    os.close(writer)
    vmm = start("--metadata", "/dev/stdin", stdin=reader)
    os.close(reader)
    assert vmm.get("/mmds") == {"a": 1}
