# SPDX-License-Identifier: Apache-2.0
"""riffle run as a program: its options, its exit codes, signals, the terminal; with guests of a few instructions."""
import contextlib
import ctypes
import fcntl
import json
import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import termios
import time

import pytest
from conftest import RIFFLE
from guests import hardware_kvm
from small_kernels import Kernel

pytestmark = pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm cannot be opened")

GIB = 1 << 30

WAIT = b"\xf4\xeb\xfd"                      # hlt; jmp -3: interrupts are off
SPIN = b"\xeb\xfe"
FAULT = b"\x0f\x0b"                         # ud2, without an IDT
RESETS = {
    "i8042": b"\xb0\xfe\xe6\x64" + WAIT,    # out 0xfe -> 0x64
    "0xcf9": b"\x66\xba\xf9\x0c\xb0\x06\xee" + WAIT,
}
POWEROFF = b"\x66\xba\x05\x06\xb0\x34\xee" + WAIT       # SLP_TYP 5, SLP_EN -> PM1 control, its upper byte
MARK = b"\xb0\x7b\xe6\xf4"                  # 123 -> the boot timer's port
# Gives back what comes in at COM1, until a q: polls the line status register, in, out, compares
ECHO = (b"\x66\xba\xfd\x03\xec\xa8\x01\x74\xf7" b"\x66\xba\xf8\x03\xec\xee" b"\x3c\x71\x75\xed") + POWEROFF


@pytest.fixture
def guest(programs):
    """Writes a prepared kernel with the given code, and returns the command that runs it."""

    def make(code, *options):
        kernel = Kernel()
        kernel.text[:len(code)] = code
        assert max(kernel.reloc64[0], len(code)) == kernel.reloc64[0]
        (programs.directory / "elf").write_bytes(kernel.appended())
        r = programs.prepare("prepare", "--force", "elf", "-o", "kernel")
        assert r.returncode == 0, r.stderr
        return ["run", "--accept-emulation", *options, "kernel"]

    return make


# ---- options


def helped(programs):
    r = programs.riffle("run", "--help")
    assert (r.returncode, r.stderr) == (0, "")
    return r.stdout


def options_of(text):
    """(short, long, argument) of each line of a help text that begins with an option."""
    return re.findall(r"^ +(?:-(\w), )?--([a-z-]+)(?: ([A-Z]+))?(?:  |$)", text, re.M)


SAMPLES = {
    "SIZE": ["64M", "2097152K", "1G", "64"], "N": ["1", "32"], "FILE": ["file"], "TEXT": ["a b=c"], "DIR": ["there"],
    "HEX": ["1", "0123456789abcdefABCDEF"], "NS": ["1", "6200000000000"], "boot": ["direct", "bootstrap"],
    "console": ["stdio", "pty", "none", "file:x", "unix:x"],
    "PATH": ["socket"], "WHEN": ["start"], "gdb": ["unix:x"],
    "randomize": ["off", "physical", "kaslr", "fgkaslr", "auto"], "tables": ["full", "lazy"],
}


def test_help_is_true(programs):
    """Every option in it is accepted in every spelling, and none is taken for the kernel's name."""
    text = helped(programs)
    options = options_of(text)
    assert len(options) > 14 and all(len(line) <= 100 for line in text.splitlines() if not line.startswith("  console="))
    for short, long, takes in options:
        # no kernel beside --config; directories for stocks and snapshots; a command for the last
        if long in ("help", "config", "from-stock", "save-to", "root", "env", "workdir"):
            continue
        for value in SAMPLES.get(long) or (SAMPLES[takes] if takes else [None]):
            ways = [[f"--{long}"]] if value is None else [[f"--{long}", value], [f"--{long}={value}"]]
            if short:
                ways += [[f"-{short}"]] if value is None else [[f"-{short}", value], [f"-{short}{value}"]]
            for way in ways:
                r = programs.riffle("run", *way, "nowhere")
                assert (r.returncode, r.stdout) == (1, ""), (way, r.stderr)
                assert re.fullmatch(r"riffle: nowhere: [^\n]+: No such file or directory\n", r.stderr), (way, r.stderr)


def test_every_command_has_help(programs):
    r = programs.riffle("--help")
    assert (r.returncode, r.stderr) == (0, "")
    commands = re.findall(r"^  ([a-z-]+)  +\S", r.stdout, re.M)
    assert {"run", "prepare", "inspect"} <= set(commands)
    for command in commands:
        r = programs.riffle(command, "--help")
        assert (r.returncode, r.stderr) == (0, ""), command
        assert r.stdout.startswith("Usage: riffle " + command)


@pytest.mark.parametrize("arguments, words", [
    ([], "KERNEL"),
    (["a", "b"], "KERNEL"),
    (["--nonsense", "k"], "nonsense"),
    (["--no-cache=yes", "k"], "no-cache"),
    (["k", "--memory"], "memory"),
    (["-m", "0", "k"], "--memory"),
    (["-m", "1", "k"], "--memory"),
    (["-m", "-64M", "k"], "--memory"),
    (["-m", "64X", "k"], "--memory"),
    (["-m", "64MB", "k"], "--memory"),
    (["-m", "99999999999999999999G", "k"], "--memory"),
    (["-m", "1025G", "k"], "--memory"),
    (["-m", "", "k"], "--memory"),
    (["-c", "0", "k"], "--cpus"),
    (["-c", "33", "k"], "--cpus"),
    (["-c", "-1", "k"], "--cpus"),
    (["-c", "1x", "k"], "--cpus"),
    (["-c", "4294967297", "k"], "--cpus"),
    (["--boot=pvh", "k"], "--boot"),
    (["-r", "some", "k"], "--randomize"),
    (["--seed", "", "k"], "--seed"),
    (["--seed", "0x12", "k"], "--seed"),
    (["--seed", "1" * 65, "k"], "--seed"),
    (["-k", "x" * 4096, "k"], "--cmdline"),
    (["-a", "x" * 4090, "k"], "--append"),
    (["--layout=l", "--seed=1", "k"], "--layout"),
    (["--layout=l", "-r", "off", "k"], "--layout"),
    (["--boot=bootstrap", "--layout=l", "k"], "--boot=bootstrap"),
    (["--boot=bootstrap", "--seed=1", "k"], "--boot=bootstrap"),
    (["--boot=bootstrap", "--layout-out=l", "k"], "--boot=bootstrap"),
    (["--boot=bootstrap", "--tables=lazy", "k"], "--boot=bootstrap"),
    (["--boot=bootstrap", "--randomize=fgkaslr", "k"], "--boot=bootstrap"),
    (["--boot=bootstrap", "-r", "kaslr", "k"], "--boot=bootstrap"),
])
def test_wrong_usage(programs, arguments, words):
    r = programs.riffle("run", *arguments)
    assert (r.returncode, r.stdout) == (2, ""), r.stderr
    assert words in r.stderr and "riffle run --help shows more" in r.stderr
    assert list(programs.directory.iterdir()) == []


@pytest.mark.parametrize("arguments", [[], ["frob"], ["--frob"]])
def test_wrong_command(programs, arguments):
    r = programs.riffle(*arguments)
    assert (r.returncode, r.stdout) == (2, "") and "riffle" in r.stderr


# ---- how guests end


@pytest.mark.parametrize("way", RESETS)
def test_reset(programs, guest, way):
    r = programs.riffle(*guest(RESETS[way]))
    assert (r.returncode, r.stdout) == (3, ""), r.stderr


def test_power_off(programs, guest):
    assert programs.riffle(*guest(POWEROFF)).returncode == 0


def test_triple_fault(programs, guest):
    assert programs.riffle(*guest(FAULT)).returncode == 4


def test_kvm_gives_up(programs, guest):
    """Only an emulating KVM fails, on an instruction it does not implement: an error in one line."""
    r = programs.riffle(*guest(b"\xf0\x48\x0f\xc7\x0f" + POWEROFF))  # lock cmpxchg16b (%rdi)
    if r.returncode == 0:
        pytest.skip("this KVM runs it")
    assert r.returncode == 1
    assert re.fullmatch(r"riffle: KVM_EXIT_INTERNAL_ERROR: [^\n]+", r.stderr.splitlines()[-1]), r.stderr


def test_emulation_is_refused(programs, guest):
    if hardware_kvm():
        pytest.skip("this /dev/kvm virtualises")
    command = guest(POWEROFF)
    command.remove("--accept-emulation")
    r = programs.riffle(*command, timeout=300)
    assert (r.returncode, r.stdout) == (1, "")
    last = r.stderr.splitlines()[-1]
    assert last.startswith("riffle: /dev/kvm: ") and "emulates" in last and "tools/kvmbox" in last


def test_many_processors(programs, guest):
    """The others wait for the first to wake them."""
    assert programs.riffle(*guest(POWEROFF, "-c", "32")).returncode == 0


# ---- layouts


def draw(programs, command, *options):
    """The layout of one run."""
    path = programs.directory / "layout"
    path.unlink(missing_ok=True)
    r = programs.riffle(command[0], "--layout-out", path, *options, *command[1:])
    assert r.returncode == 0, r.stderr
    layout = json.loads(path.read_text())
    return layout["mode"], int(layout["physical_base"], 16), int(layout["virtual_base"], 16), r.stderr


def test_layouts_above_four_gib_are_drawn(programs, guest):
    command = guest(POWEROFF)
    bases = [draw(programs, command, "-m", "5G")[1] for _ in range(40)]
    assert all(16 << 20 <= b < 3 * GIB or 4 * GIB <= b < 6 * GIB for b in bases)
    # each side of the hole has a probability of at least a third: all 40 miss one once in 10^7 runs
    assert min(bases) < 3 * GIB and max(bases) >= 4 * GIB


def test_seed(programs, guest):
    command = guest(POWEROFF)
    one, again, other = (draw(programs, command, "--seed", s) for s in ("1", "0001", "2"))
    assert one == again
    assert one[1:3] != other[1:3]
    assert "replayed from --seed: predictable" in one[3]
    # the same letters, whatever their case
    assert draw(programs, command, "--seed", "abcdef") == draw(programs, command, "--seed", "ABCDEF")


def test_layout_from_a_pipe(programs, guest):
    """Written slowly, as by a shell's process substitution."""
    command = guest(POWEROFF)
    assert draw(programs, command)[0] == "kaslr"
    layout = (programs.directory / "layout").read_text()
    script = (f"'{RIFFLE}' {command[0]} --layout <(sleep 0.3; head -c 40 layout; sleep 0.3; tail -c +41 layout) --layout-out again "
              + " ".join(command[1:]))
    r = programs.run("bash", "-c", script)
    assert r.returncode == 0, r.stderr
    again = json.loads((programs.directory / "again").read_text())
    assert again["physical_base"] == json.loads(layout)["physical_base"]


def test_bootstrap_takes_a_descriptor(programs, guest):
    guest(POWEROFF)
    (programs.directory / "bz").write_bytes(Kernel().bzimage())
    named = programs.riffle("run", "--accept-emulation", "--boot=bootstrap", "bz", timeout=60)
    script = f"exec '{RIFFLE}' run --accept-emulation --boot=bootstrap fd:7 7<bz"
    r = programs.run("bash", "-c", script, timeout=60)
    assert r.returncode == named.returncode and r.stderr == named.stderr.replace("bz", "fd:7")
    assert "cannot be opened" not in r.stderr


def test_bootstrap_wants_a_bzimage(programs, guest):
    guest(POWEROFF)
    for name in ("elf", "kernel"):
        r = programs.riffle("run", "--accept-emulation", "--boot=bootstrap", name)
        assert r.returncode == 1 and r.stderr.startswith(f"riffle: {name}: ") and "bzImage" in r.stderr
    r = programs.riffle("run", "--accept-emulation", "--boot=bootstrap", ".")
    assert r.returncode == 1 and "is a directory" in r.stderr


def test_bench_start(programs, guest):
    guest(POWEROFF)
    kernel = Kernel()
    (programs.directory / "bare").write_bytes(kernel.elf())
    (programs.directory / "relocs").write_bytes(kernel.relocs())
    r = programs.riffle("bench", "start", "-n", 21, "--json", "--no-huge-pages", "--relocs", "relocs", "bare", timeout=300)
    assert r.returncode == 0, r.stderr
    told = json.loads(r.stdout)
    assert (told["kernel"], told["runs"], told["huge_pages"]) == ("bare", 21, False)
    assert {mode: len(rounds) for mode, rounds in told["modes"].items()} == {"off": 21, "kaslr": 21}
    assert all(f["start_ms"] > 0 and f["cpu_ms"] >= f["load_cpu_ms"] for rounds in told["modes"].values() for f in rounds)
    r = programs.riffle("bench", "start", "-n", 21, "kernel", timeout=300)
    assert r.returncode == 0 and r.stdout.count("\n") == 6, r.stdout
    # a failed start is reported in riffle's own format
    r = programs.riffle("bench", "start", "-n", 21, "--relocs", "relocs", "kernel")
    assert r.returncode == 1 and r.stdout == "" and "--relocs" in r.stderr
    r = programs.riffle("bench", "start", "-Z", "kernel")
    assert r.returncode == 2 and r.stderr.count("\n") == 1 and "'-Z'" in r.stderr
    for what in ("load", "start", "storage"):
        r = programs.riffle("bench", what, "-n", 21, "--json", os.fsdecode(b"\xff"), errors="replace")
        assert r.returncode == 1 and r.stdout == "" and "UTF-8" in r.stderr


def test_modes(programs, guest):
    command = guest(POWEROFF)
    for _ in range(10):
        assert draw(programs, command, "-r", "off")[:3] == ("off", 16 << 20, 0xFFFFFFFF81000000)
        mode, _, virtual, _ = draw(programs, command, "-r", "physical")
        assert (mode, virtual) == ("physical", 0xFFFFFFFF81000000)
    drawn = [draw(programs, command)[:3] for _ in range(10)]
    assert {d[0] for d in drawn} == {"kaslr"}
    assert len({d[1] for d in drawn}) > 1 and len({d[2] for d in drawn}) > 1


def test_nokaslr(programs, guest):
    command = guest(POWEROFF)
    notice = "riffle: notice: nokaslr on the command line: the kernel is not randomised\n"
    for line in ("nokaslr", "a=b nokaslr c"):
        mode, *_, words = draw(programs, command, "-a", line)
        assert mode == "off" and notice in words
    for line in ("nokaslrx", "xnokaslr", "nokaslr=1"):
        mode, *_, words = draw(programs, command, "-a", line)
        assert mode == "kaslr" and notice not in words


def test_reason_for_no_shuffle_is_told_unless_less_was_asked_for(programs, guest):
    command = guest(POWEROFF)
    notice = "riffle: notice: this kernel is not shuffled, and its sections do not slide apart: symbols: are missing: "
    for options, told in (((), True), (("-r", "auto"), True), (("-r", "kaslr"), False), (("-r", "off"), False),
                          (("-a", "nokaslr"), False)):
        assert (notice in draw(programs, command, *options)[3]) == told, options
    r = programs.riffle("emit", command[-1], "-m", "256M", "--exec", "true", "@")
    assert (r.returncode, r.stderr.startswith(notice)) == (0, True), r.stderr
    r = programs.riffle("emit", command[-1], "-m", "256M", "-r", "kaslr", "--exec", "true", "@")
    assert r.returncode == 0 and "notice" not in r.stderr, r.stderr


# ---- boot timer


def test_boot_timer(programs, guest):
    r = programs.riffle(*guest(MARK + POWEROFF, "--boot-timer"))
    assert r.returncode == 0, r.stderr
    lines = re.findall(r"^riffle: boot-timer: +(\S.*?) +(\d+\.\d{3}) ms$", r.stderr, re.M)
    assert len(lines) == r.stderr.count("boot-timer")
    names, times = [n for n, _ in lines], {n: float(t) for n, t in lines}
    assert len(set(names)) == len(names)
    assert names[0] == "open, prepared file"
    assert names[-3:] == ["start to first guest instruction", "guest's init", "start to guest's init"]
    for phase in ("memory", "load", "relocate", "boot tables", "first guest instruction"):
        assert phase in names
    assert any(n.startswith("vCPU set-up") for n in names)
    # the phases make up the whole; load and relocate are beside another one, indented
    top = [n for n in re.findall(r"^riffle: boot-timer: (\S.*?)  ", r.stderr, re.M) if not n.startswith("start to")]
    top.remove("guest's init")
    top.remove("CPU, all threads")  # processor time, not a phase
    assert abs(sum(times[n] for n in top) - times["start to first guest instruction"]) < 0.5
    whole = times["start to first guest instruction"] + times["guest's init"]
    assert abs(whole - times["start to guest's init"]) < 0.01


def test_boot_timer_is_not_there_unasked(programs, guest):
    r = programs.riffle(*guest(MARK + POWEROFF))
    assert r.returncode == 0 and "boot-timer" not in r.stderr
    # a guest that never writes the boot timer
    r = programs.riffle(*guest(POWEROFF, "--boot-timer"))
    assert r.returncode == 0 and "first guest instruction" in r.stderr and "init" not in r.stderr


# ---- signals and the console


def hear_signals():
    """Tests started in a shell's background have some signals ignored, which riffle leaves ignored."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def running(programs, command, **streams):
    """riffle, once its guest runs."""
    streams.setdefault("preexec_fn", hear_signals)
    p = subprocess.Popen([RIFFLE, command[0], "--boot-timer", *command[1:]], cwd=programs.directory,
                         env=programs.environment, stderr=subprocess.PIPE, **streams)
    try:
        seen = b""
        while b"start to first guest instruction" not in seen:
            line = p.stderr.readline()
            assert line, (p.wait(), seen)
            seen += line
        yield p
    finally:
        p.kill()
        p.wait()
        p.stderr.close()


@pytest.mark.parametrize("code", [WAIT, SPIN], ids=["waiting", "spinning"])
@pytest.mark.parametrize("cpus", ["1", "4"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_signal(programs, guest, code, cpus, number):
    with running(programs, guest(code, "-c", cpus), stdin=subprocess.DEVNULL) as p:
        time.sleep(0.05)
        assert p.poll() is None     # the end of its input is no end of the guest
        p.send_signal(number)
        assert p.wait(10) == 128 + number


def ignore_some():
    hear_signals()
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGRTMAX):
        signal.signal(number, signal.SIG_IGN)


def test_ignored_signals(programs, guest):
    """What nohup or a shell's background job ignores stays ignored; the others end the guest."""
    with running(programs, guest(SPIN), stdin=subprocess.DEVNULL, preexec_fn=ignore_some) as p:
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGRTMAX):
            p.send_signal(number)
        time.sleep(0.2)
        assert p.poll() is None
        p.send_signal(signal.SIGQUIT)
        assert p.wait(10) == 128 + signal.SIGQUIT


def test_code_of_the_start_is_unmapped(programs, guest):
    """
    Memory needed only for the start is not resident while the guest runs. What is used brings its neighbours along, and more of
    them where the page cache has the program in large folios: 58 % has been seen.
    """
    with running(programs, guest(SPIN), stdin=subprocess.DEVNULL) as p:
        for _ in range(100):
            mapping, size, resident = "", 0, 0
            for line in pathlib.Path(f"/proc/{p.pid}/smaps").read_text().splitlines():
                if re.match("[0-9a-f]+-", line):
                    mapping = line
                elif " r-xp " in mapping and mapping.endswith("/riffle"):
                    size += int(line.split()[1]) if line.startswith("Size:") else 0
                    resident += int(line.split()[1]) if line.startswith("Rss:") else 0
            if 0 < resident < size * 2 / 3:
                break
            time.sleep(0.1)
        assert 0 < resident < size * 2 / 3, (resident, size)
        p.terminate()
        assert p.wait(10) == 128 + signal.SIGTERM


def test_console_is_binary_clean(programs, guest):
    data = bytes(b for b in range(256) if b != ord("q")) * 2
    r = subprocess.run([RIFFLE, *guest(ECHO)], cwd=programs.directory, env=programs.environment, capture_output=True,
                       input=data + b"q" + b"never read", timeout=300, check=False)
    assert r.returncode == 0, r.stderr
    assert r.stdout == data + b"q"


def attributes(fd):
    settings = termios.tcgetattr(fd)
    return settings[:4] + [settings[6]]


class Terminal:
    """A terminal whose foreground process riffle is."""

    def __init__(self, programs, command):
        self.master, self.slave = pty.openpty()
        self.before = attributes(self.slave)
        self.context = running(programs, command, stdin=self.slave, stdout=self.slave, start_new_session=True,
                               preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.process = self.context.__enter__()

    def close(self):
        self.context.__exit__(None, None, None)
        os.close(self.master)
        os.close(self.slave)

    def is_raw(self):
        return not termios.tcgetattr(self.slave)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def until(self, what):
        end = time.monotonic() + 10
        while not what():
            assert time.monotonic() < end
            time.sleep(0.01)

    def read(self, until):
        seen = b""
        while until not in seen:
            assert select.select([self.master], [], [], 10)[0], seen
            seen += os.read(self.master, 4096)
        return seen

    def state(self):
        return pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture
def terminal(programs):
    made = []

    def make(command):
        made.append(Terminal(programs, command))
        made[-1].until(made[-1].is_raw)
        return made[-1]

    yield make
    for t in made:
        t.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_terminal_is_put_right_after_a_signal(guest, terminal, number):
    t = terminal(guest(WAIT))
    t.process.send_signal(number)
    assert t.process.wait(10) == 128 + number
    assert attributes(t.slave) == t.before


@pytest.mark.parametrize("code", [WAIT, SPIN], ids=["waiting", "spinning"])
def test_escape(guest, terminal, code):
    t = terminal(guest(code))
    os.write(t.master, b"\x01x")
    assert t.process.wait(10) == 5
    assert attributes(t.slave) == t.before


def test_terminal_is_put_right_after_the_guests_end(guest, terminal):
    t = terminal(guest(ECHO))
    # Ctrl-C, Ctrl-Z and half an escape go to the guest; Ctrl-A Ctrl-A becomes one Ctrl-A
    os.write(t.master, b"a\x03\x1a\x01b\x01\x01\rq")
    assert t.read(b"q") == b"a\x03\x1a\x01b\x01\rq"
    assert t.process.wait(10) == 0
    assert attributes(t.slave) == t.before


def test_terminal_is_put_right_after_a_crash(guest, terminal):
    t = terminal(guest(WAIT))
    t.process.send_signal(signal.SIGSEGV)
    assert t.process.wait(10) == -signal.SIGSEGV
    assert attributes(t.slave) == t.before


@pytest.mark.parametrize("name", ["riffle", "vcpu 0", "console-out 0"])
def test_terminal_is_put_right_after_a_crash_of_any_thread(guest, terminal, name):
    """Each has a system call filter of its own."""
    t = terminal(guest(WAIT))

    def threads():
        return {(path / "comm").read_text().strip(): int(path.name) for path in pathlib.Path(f"/proc/{t.process.pid}/task").iterdir()}

    t.until(lambda: name in threads())
    t.until(lambda: re.search(r"^Seccomp:\t2$", pathlib.Path(f"/proc/{t.process.pid}/task/{threads()[name]}/status").read_text(), re.M))
    assert ctypes.CDLL(None, use_errno=True).syscall(234, t.process.pid, threads()[name], signal.SIGSEGV) == 0  # tgkill()
    assert t.process.wait(10) == -signal.SIGSEGV
    assert attributes(t.slave) == t.before


def test_terminal_is_the_shells_while_riffle_is_stopped(guest, terminal):
    t = terminal(guest(ECHO))
    t.process.send_signal(signal.SIGTSTP)
    t.until(lambda: t.state() == "T")
    assert attributes(t.slave) == t.before
    t.process.send_signal(signal.SIGCONT)
    t.until(t.is_raw)
    os.write(t.master, b"q")
    assert t.process.wait(10) == 0
    assert attributes(t.slave) == t.before


def test_terminal_is_untouched_by_an_error(programs, guest):
    command = guest(WAIT)
    master, slave = pty.openpty()
    before = attributes(slave)
    r = programs.riffle(*command[:-1], "--layout-out", programs.directory, command[-1], stdin=slave)
    assert r.returncode == 1
    assert attributes(slave) == before
    os.close(master)
    os.close(slave)
