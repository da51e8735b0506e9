# SPDX-License-Identifier: Apache-2.0
"""One cell of the evaluation: a kernel booted one way, several times, and the resulting figures."""
import csv
import dataclasses
import functools
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIELDS = ["kernel", "method", "condition", "metric", "unit", "run", "value"]
# The guest's task, and the command line from before riffle's default disabled the kernel's self-tests.
TASK = "quiet riffle.do=reboot"
SELFTESTS_LINE = "console=ttyS0 reboot=k panic=-1 pci=off i8042.noaux i8042.nomux i8042.dumbkbd"
COMPRESSIONS = ("lz4", "zstd", "gzip", "lzo", "xz", "lzma", "bzip2")
KINDS = (*COMPRESSIONS, "none", "none-optimised")
BUILT = ("lupine", "microvm", "distro")


class Unavailable(Exception):
    """A cell that is not available on this machine, with the reason."""


def methods():
    """Each method of booting: its file, options for riffle run, and additions to the guest's command line."""
    known = {
        "direct-off": ("prepared", ["--randomize=off"], ""),
        "direct-kaslr": ("prepared", ["--randomize=kaslr"], ""),
        "direct-fgkaslr": ("prepared", ["--randomize=fgkaslr"], ""),
        "direct-fgkaslr-lazy": ("prepared", ["--randomize=fgkaslr", "--tables=lazy"], ""),
        "direct-kaslr-slide": ("prepared", ["--randomize=kaslr+slide"], ""),
        "direct-fgkaslr-slide": ("prepared", ["--randomize=fgkaslr+slide"], ""),
        "stock-laid": ("prepared", ["--randomize=fgkaslr"], ""),
        "stock-booted": ("prepared", ["--randomize=fgkaslr"], ""),
        "emit-off": ("prepared", ["--randomize=off"], ""),
        "emit-fgkaslr": ("prepared", ["--randomize=fgkaslr"], ""),
        "bootstrap-fgkaslr": ("self", ["--boot=bootstrap"], "riffle.marks"),
    }
    for kind in KINDS:
        known[f"bzimage-{kind}-kaslr"] = (kind, ["--boot=bootstrap"], "")
        known[f"bzimage-{kind}-off"] = (kind, ["--boot=bootstrap"], "nokaslr")
    return known


METHODS = methods()


@dataclasses.dataclass(frozen=True)
class Cell:
    kernel: str                 # a name of tools/build-kernel or tools/fetch-kernel, or a file
    method: str                 # of METHODS, or "monitor" with a command line template
    memory: int = 256           # MiB
    runs: int = 5
    monitor: str = ""           # CMD {kernel} {initrd} {cmdline}
    cold: bool = False          # files not in the page cache
    selftests: bool = False     # SELFTESTS_LINE instead of riffle's default command line

    @property
    def condition(self):
        return f"{self.memory}M" + ("-cold" if self.cold else "") + ("-selftests" if self.selftests else "")

    @property
    def name(self):
        return f"{pathlib.Path(self.kernel).name}_{self.method}_{self.condition}"


def monitor_name(command):
    """The method name for cells of another monitor, from its program."""
    words = command.split()
    return f"monitor-{pathlib.Path(words[0]).name}" if words else ""


@functools.cache
def default_line():
    """riffle's default command line, for monitors without one."""
    header = (ROOT / "machine" / "config.h").read_text(encoding="utf-8")
    found = re.search(r"#define MACHINE_COMMAND_LINE\s((?:.*\\\n)*.*)", header)
    if not found:
        raise Unavailable("machine/config.h: MACHINE_COMMAND_LINE: not found")
    return "".join(re.findall(r'"([^"]*)"', found[1]))


def build_directory():
    return pathlib.Path(os.environ.get("RIFFLE_BUILD", ROOT / "build")).resolve()


def riffle():
    path = build_directory() / "cli" / "riffle"
    if not path.exists():
        raise Unavailable(f"{path}: not found; build first")
    return path


@functools.cache
def hardware_kvm():
    return subprocess.run([riffle(), "doctor"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          check=False).returncode == 0


def output(command, what):
    r = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if r.returncode or not r.stdout.strip():
        complaint = (r.stderr.strip() or "it says nothing").splitlines()[-1]
        if r.returncode == 2:       # its usage message, which gives no reason
            complaint = f"{pathlib.Path(command[0]).name} does not know {' '.join(str(c) for c in command[1:])}"
        raise Unavailable(f"{what}: {complaint}")
    return r.stdout.strip().splitlines()[-1]


def kernel_file(name):
    """The kernel's own bzImage. NAME+COUNTxBYTES is a kernel of tools/build-kernel grown by that many functions."""
    if os.path.exists(name):
        return os.path.realpath(name)
    base, plus, grown = name.partition("+")
    if plus:
        return output([ROOT / "tools" / "build-kernel", "--grow", grown, base], name)
    return output([ROOT / "tools" / ("build-kernel" if name in BUILT else "fetch-kernel"), name], name)


@functools.cache
def inspect(kernel):
    told = subprocess.run([riffle(), "inspect", "--json", kernel], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(told.stdout)


def compression_of(kernel):
    return inspect(kernel).get("compression", "none")


def bootstrap_copies(kernel, image, method):
    """
    Lower bound of the millions of instructions that a bootstrap spends on copying, at eight bytes per instruction: the
    monitor's copy of its image; the image's move to a safe place, if any; the unpacked kernel's copy to its segments.
    """
    moved = 1 if method.startswith("bzimage-none-optimised") else 2
    unpacked = 1 if method.startswith("bzimage-none-") and moved == 2 else 0
    load = inspect(kernel)["load_bytes"]
    return (moved * image.stat().st_size + (1 + unpacked) * load) / 8e6


def make(cell, *command):
    r = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if r.returncode:
        raise Unavailable((r.stderr.strip() or f"{cell.kernel}: {command[1]} ended with {r.returncode}").splitlines()[-1])


def boot_file(cell, directory):
    """The file that a method boots, in `directory`."""
    kind = METHODS[cell.method][0] if cell.method in METHODS else "elf"
    own = kernel_file(cell.kernel)
    out = directory / f"kernel-{kind}"
    if out.exists():
        return out
    if kind == "prepared":
        make(cell, riffle(), "prepare", own, "-o", out)
    elif kind == "self":
        make(cell, riffle(), "prepare", "--bootstrap", "--randomize=fgkaslr", own, "-o", out)
    elif kind == "elf":
        with open(out, "wb") as f:
            subprocess.run([ROOT / "tools" / "extract-vmlinux", own], stdout=f, check=True)
    else:
        try:
            image = output([ROOT / "tools" / "build-kernel", "--image", kind, cell.kernel],
                           f"bzImage with payload {kind}") if cell.kernel in BUILT else None
            why = "tools/build-kernel makes images of its own kernels only"
        except Unavailable as reason:
            image, why = None, str(reason)
        # without an image made for the evaluation use the kernel's own if it is of that kind; it reports no phases
        if image is None and compression_of(own) != kind:
            raise Unavailable(why)
        shutil.copy(image or own, out)
    return out


# $1 directory, $2 1 where everything is copied to the box's memory first, $3 runs, $4 seconds for one run, $5 1: cold;
# filled in: what is done once, one boot, what prints its figures
SCRIPT = r"""
set -e
cd "$1"
if [ "$2" = 1 ]; then own=$(mktemp -d); cp -L "$1"/* "$own"; cd "$own"; fi
%s
i=0
while [ $i -le "$3" ]; do
	echo "run $i"
	if [ "$5" = 1 ]; then sync; echo 3 > /proc/sys/vm/drop_caches; fi
	{ timeout -k 5 "$4" %s < /dev/null > out 2> err; echo "exit $?"; } || true
	if grep -q "INIT REACHED" out; then echo "reached"; else tail -qn 1 out err | sed 's/^/said /'; fi
	%s
	i=$((i + 1))
done
"""


def command_line(cell):
    """Of a guest of another monitor, before its task."""
    return SELFTESTS_LINE if cell.selftests else default_line()


TOLD = "grep '^riffle: boot-timer:' err || true"
# A guest that waits at its mark has no way to its init left: what there is ends with its first instruction.
RESUMED = f"""{TOLD}
	sed -n "s/^\\(riffle: boot-timer: \\)start to first guest instruction/\\1start to guest's init/p" err
	echo "riffle: boot-timer: guest's init 0.000 ms" """


def commands(cell, image):
    """Commands that set up all boots, that run one, and that print its figures as riffle: boot-timer lines."""
    if cell.method in METHODS:
        task = f"{TASK} {METHODS[cell.method][2]}".rstrip()
        words = ["--cmdline", f"{SELFTESTS_LINE} {task}"] if cell.selftests else ["--append", task]
        machine = ["-m", f"{cell.memory}M", *METHODS[cell.method][1]]
        guest = [*machine, *words, "-i", "initrd", image.name]
        if cell.method.startswith("stock-"):
            fill = ["./riffle", "stock", "--dir", "stock", "--keep", str(cell.runs + 1), "--once", "--stage",
                    cell.method.removeprefix("stock-"), "--", *guest]
            return (shlex.join(fill), "./riffle run --boot-timer --from-stock stock",
                    RESUMED if cell.method == "stock-booted" else TOLD)
        if cell.method.startswith("emit-"):
            emit = ["./riffle", "emit", *machine, image.name, "-o", "emitted"]
            qemu = ["qemu-system-x86_64", "-M", "microvm", "-enable-kvm", "-cpu", "host", "-m", f"{cell.memory}M", "-nodefaults",
                    "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio", "-kernel", "emitted", "-initrd",
                    "initrd", "-append", f"{command_line(cell)} {task}"]
            return "", f"./stamp sh -c {shlex.quote(f'rm -f emitted; {shlex.join(emit)} && exec {shlex.join(qemu)}')}", TOLD
        return "", shlex.join(["./riffle", "run", "--boot-timer", *guest]), TOLD
    words = {"kernel": image.name, "bzimage": "bzimage", "prepared": "kernel-prepared", "initrd": "initrd",
             "cmdline": shlex.quote(f"{command_line(cell)} {TASK}"),
             "memory": str(cell.memory)}
    try:
        template = cell.monitor.format(**words)
    except (AttributeError, KeyError, IndexError, ValueError) as error:
        raise Unavailable(f"--monitor: {error!r}: it knows {{kernel}} {{bzimage}} {{prepared}} "
                          f"{{initrd}} {{cmdline}} {{memory}}") from None
    return "", f"./stamp sh -c {shlex.quote('exec ' + template)}", TOLD


FIGURE = re.compile(r"riffle: boot-timer: +(.*?) +([0-9.]+) ms$")
METRICS = {"start to guest's init": "init", "start to first guest instruction": "monitor", "load": "load",
           "relocate": "relocate", "CPU, all threads": "cpu", "guest's init": "guest", "CPU to guest's init": "work"}


def parse(lines, unit):
    """[(metric, run, value)] of the runs after the first, which is a warm-up; every run must have reached its init."""
    rows, run, reached, seen, words = [], None, False, [], ""
    for line in [*lines, "run end"]:
        word = line.split(" ", 1)
        if word[0] == "run":
            if run is not None and not reached:
                raise Unavailable(f"run {run} did not reach the guest's init" + (f": {words}" if words else ""))
            run, reached, words = word[1], False, ""
            seen.append(run)
        elif word[0] == "said" and word[1:] and word[1].strip():
            words = word[1].strip()      # the last output of a failed boot: from its console, then from its monitor
        elif line == "reached":
            reached = True
        elif found := FIGURE.match(line):
            name = found[1].strip()
            mark = re.fullmatch(r"mark (\d+)", name)
            metric = f"mark{mark[1]}" if mark else METRICS.get(name)
            if metric and run != "0":
                # in the box a nanosecond is an instruction
                rows.append((metric, int(run), float(found[2])))
    told = {number: {metric: value for metric, n, value in rows if n == number} for number in map(int, seen[1:-1])}
    silent = [number for number, figures in told.items() if "init" not in figures]
    if silent or not told:
        raise Unavailable(f"run {silent[0]} did not tell when its init was reached" if silent else "no run counts")
    # The box's clock keeps running while idle: waits of the monitor, in ticks of 4 ms, are included in "init" and
    # "monitor", but execute no instructions. The threads' processor time and everything afterwards do.
    if unit == "Minstr":
        rows += [("work", number, f["cpu"] + f["guest"]) for number, f in told.items() if {"cpu", "guest"} <= f.keys()]
    else:
        rows = [row for row in rows if row[0] != "work"]
    return [(metric, unit, number, value) for metric, number, value in rows]


def disk_directory():
    """A directory on a disk: /tmp may be in memory, from which pages cannot be dropped."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def box_memory(cell):
    """MiB of a box for counted boots: the items of a stock are there with the files and one guest."""
    return 1536 + cell.memory * (cell.runs + 2 if cell.method.startswith("stock-") else 1)


def boot(cell, seconds=900):
    """Boots a cell and returns its rows as the CSV has them. Raises Unavailable with the reason."""
    if cell.method not in METHODS and not cell.monitor:
        raise Unavailable(f"no method {cell.method}; there are {', '.join(METHODS)}")
    counted = not hardware_kvm()
    if cell.cold and counted:
        raise Unavailable("--cold: this machine counts instructions, which say nothing of disks; "
                          "riffle bench storage models the reads")
    if cell.cold and os.geteuid():
        raise Unavailable("--cold: only root may drop the page cache")
    with tempfile.TemporaryDirectory(prefix="riffle-bench-", dir=disk_directory() if cell.cold else None) as name:
        directory = pathlib.Path(name)
        image = boot_file(cell, directory)
        shutil.copy(riffle(), directory / "riffle")
        subprocess.run([ROOT / "tools" / "mkinitramfs", directory / "initrd"], check=True)
        if cell.monitor or cell.method.startswith("emit-"):
            shutil.copy(build_directory() / "bench" / "stamp", directory / "stamp")
        if cell.monitor:
            shutil.copy(kernel_file(cell.kernel), directory / "bzimage")
            if "{prepared}" in cell.monitor:
                make(cell, riffle(), "prepare", kernel_file(cell.kernel), "-o", directory / "kernel-prepared")
        arguments = ["sh", "-c", SCRIPT % commands(cell, image), "boots", name, "1" if counted else "0", str(cell.runs),
                     str(seconds), "1" if cell.cold else "0"]
        if counted:
            arguments = [str(ROOT / "tools" / "kvmbox"), "--icount", "--mem", str(box_memory(cell)), "--timeout",
                         str(seconds * (cell.runs + 1)), "--share", name, *arguments]
        r = subprocess.run(arguments, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           text=True, errors="replace", check=False)
        if r.returncode:
            raise Unavailable((r.stderr.strip() or f"the boots ended with {r.returncode}").splitlines()[-1])
        figures = parse(r.stdout.splitlines(), "Minstr" if counted else "ms")
        if counted and cell.method.startswith("bzimage"):
            figures.append(("copying", "Minstr", 1, bootstrap_copies(kernel_file(cell.kernel), image, cell.method)))
    return [dict(zip(FIELDS, (pathlib.Path(cell.kernel).name, cell.method, cell.condition, metric, unit, number,
                              f"{value:.3f}"))) for metric, unit, number, value in figures]


def write_rows(path, rows):
    """Writes the file atomically."""
    part = path.with_suffix(".part")
    with open(part, "w", newline="", encoding="ascii") as file:
        out = csv.DictWriter(file, FIELDS, lineterminator="\n")
        out.writeheader()
        out.writerows(rows)
    part.replace(path)


def read_rows(path):
    with open(path, newline="", encoding="ascii") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != FIELDS:
            raise ValueError(f"{path}: the first line is not {','.join(FIELDS)}")
        return list(reader)
