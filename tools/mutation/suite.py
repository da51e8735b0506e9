# SPDX-License-Identifier: Apache-2.0
"""A copy of the tree with its own build and unit tests, and a test runner that kills tests without progress."""
import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import time

# with its own PID namespace and /tmp: a mutant may kill or delete anything
APART = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--"] if os.geteuid() == 0 else \
        ["unshare", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "--"]
INSIDE = 'mount -t tmpfs -o size=2g tmpfs /tmp && mount -t proc proc /proc && export TMPDIR=/tmp && exec "$@"'
SILENT = 20             # minimum seconds without output or processor time after which a run counts as hanging
TICKS = os.sysconf("SC_CLK_TCK")
REACH_SIZE = 64 << 20   # one byte for each of a program


@dataclasses.dataclass
class Test:
    name: str
    targets: list       # its program, for ninja, and those that it runs
    command: list
    environment: dict
    directory: str
    cpu: float = 0.0    # of the unmutated run
    silence: float = 0.0
    spared: frozenset = frozenset()     # functions in the program that the test does not enter


def family(pid):
    """Processor ticks of a process and all its descendants."""
    children, ticks = {}, {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                fields = pathlib.Path(entry.path, "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
            ticks[int(entry.name)] = sum(map(int, fields[11:15]))
    total, todo = 0, [pid]
    while todo:
        one = todo.pop()
        total += ticks.get(one, 0)
        todo += children.get(one, [])
    return total


def run(test, log, cpu_limit=None, silent_limit=None):
    """
    Runs a test; returns (passed, processor seconds, longest silence). A run is ended when it has used more processor time than
    `cpu_limit`, or when it has neither used any nor printed for `silent_limit` seconds: never for being slow on a busy machine.
    """
    environment = {**os.environ, **test.environment, "MALLOC_PERTURB_": "85"}
    with open(log, "wb") as out:
        process = subprocess.Popen([*APART, "sh", "-c", INSIDE, "sh", *test.command], stdin=subprocess.DEVNULL, stdout=out,
                                   stderr=subprocess.STDOUT, env=environment, cwd=test.directory, start_new_session=True,
                                   preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)))
        seen, since, longest, used = None, time.monotonic(), 0.0, 0
        pause = 0.01
        while process.poll() is None:
            time.sleep(pause)
            pause = min(0.25, pause * 1.5)
            used = max(used, family(process.pid))
            state = used, os.fstat(out.fileno()).st_size
            now = time.monotonic()
            if state != seen:
                seen, since = state, now
            longest = max(longest, now - since)
            if (cpu_limit and used / TICKS > cpu_limit) or (silent_limit and now - since > silent_limit):
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return False, used / TICKS, longest
    return process.returncode == 0, used / TICKS, longest


class Tree:
    """The tree in which mutants are built: a copy of the sources below `work`."""

    def __init__(self, root, work):
        self.root, self.tree, self.build = root, work / "tree", work / "tree" / "build"
        work.mkdir(parents=True, exist_ok=True)
        self.lock = open(work / "lock", "w", encoding="ascii")      # held until the end: two concurrent runs would test each other's mutants
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RuntimeError(f"{work}: another run works there: --work names another directory") from None
        self.log = work / "log"
        self.reach, self.marks = self.tree / "build-reach", work / "marks"
        self.known_inputs, self.known_tests, self.programs = {}, [], {}
        self.update()
        if not (self.build / "build.ninja").exists():
            # compiled again for each mutant, in which -O3 takes more than twice as long; the last -O counts, and a target may set its own
            self.call("meson", "setup", "-Dtests=true", "-Ddebug=false", "-Db_ndebug=false", "-Dc_args=['-O1','-w']", "build")
        if not (self.reach / "build.ninja").exists():
            words = ["-finstrument-functions", "-w", f"-DREACH_SIZE={REACH_SIZE}", f'-DREACH_FILE="{self.marks}"', "-include",
                     str(self.tree / "tools" / "mutation" / "reach.h")]
            self.call("meson", "setup", "-Dtests=true", "-Ddebug=false", "-Doptimization=1",
                      "-Dc_args=[" + ",".join(f"'{word}'" for word in words) + "]", "build-reach")
        # what is asked of them below is what the last change of a meson.build made of them
        self.must_build("build.ninja")
        self.must_build("build.ninja", build=self.reach)

    def call(self, *command):
        with open(self.log, "wb") as log:
            status = subprocess.run(command, cwd=self.tree, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
        if status:
            raise RuntimeError(f"{' '.join(command)}: ended with {status}:\n{self.log.read_text(errors='replace')[-2000:]}")

    def update(self):
        """Copies what differs, and removes what no longer exists."""
        listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=self.root,
                                stdout=subprocess.PIPE, check=True).stdout.decode().split("\0")
        wanted = {name for name in listed if name and (self.root / name).is_file()}
        for name in wanted:
            source, copy = self.root / name, self.tree / name
            if not copy.exists() or copy.read_bytes() != source.read_bytes():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, copy)
                shutil.copymode(source, copy)
        if self.tree.exists():
            for path in self.tree.rglob("*.[ch]"):
                name = str(path.relative_to(self.tree))
                if not name.startswith(("build/", "build-reach/")) and name not in wanted:
                    path.unlink()

    def ninja(self, *targets, mutant=False, build=None):
        """Whether they could be built. Without ccache, since a mutant is never compiled again."""
        more = {"CCACHE_DISABLE": "1"} if mutant else {}
        with open(self.log, "wb") as log:
            return subprocess.run(["ninja", "-C", str(build or self.build), "--quiet", *targets], stdout=log, stderr=subprocess.STDOUT,
                                  env={**os.environ, **more}, check=False).returncode == 0

    def introspect(self, what):
        told = subprocess.run(["meson", "introspect", f"--{what}", str(self.build)], stdout=subprocess.PIPE, check=True)
        return json.loads(told.stdout)

    def inputs(self, target):
        """All inputs of a target, as ninja names them; queried once, since it takes as long as a link."""
        if target not in self.known_inputs:
            told = subprocess.run(["ninja", "-C", str(self.build), "-t", "inputs", target], stdout=subprocess.PIPE, check=True,
                                  text=True)
            self.known_inputs[target] = set(told.stdout.split())
        return self.known_inputs[target]

    def must_build(self, *targets, build=None):
        if targets and not self.ninja(*targets, build=build):
            raise RuntimeError(f"{' '.join(targets)}: cannot be built:\n{self.log.read_text(errors='replace')[-2000:]}")

    def tests(self, path, names=None):
        """
        The unit tests, among those whose name `names` matches, that contain a file's object, according to ninja and then to the programs themselves. Since the
        set of objects does not depend on their content, only the relevant programs are rebuilt. A program that runs during the build is
        in none of them: its tests are those that are built with what it writes.
        """
        if not self.known_tests:
            self.known_tests = self.introspect("tests")
            self.programs = {t["id"]: pathlib.Path(t["filename"][0]) for t in self.introspect("targets") if t["type"] == "executable"}
        found, built_with = [], []
        for told in self.known_tests:
            program = pathlib.Path(told["cmd"][0])
            if not program.is_relative_to(self.build) or "tests/unit" not in str(program):
                continue
            if names and not re.search(names, told["name"]):
                continue
            programs = [program, *(self.programs[i] for i in told["depends"] if self.programs.get(i, program) != program)]
            targets = [str(p.relative_to(self.build)) for p in programs]
            if not any(f"../{path}" in self.inputs(target) for target in targets):
                continue
            if not all(p.exists() for p in programs):
                self.must_build(*targets)
            inside = any(pathlib.Path(path).name in linked(p) for p in programs)
            (found if inside else built_with).append(
                Test(told["name"], targets, told["cmd"], told["env"], told["workdir"] or str(self.build)))
        found = found or built_with
        self.must_build(*(target for test in found for target in test.targets))
        return found

    def objects(self, path):
        """The objects that a file is compiled to for the host's programs, as ninja names them."""
        database = json.loads((self.build / "compile_commands.json").read_text(encoding="utf-8"))
        return [entry["output"] for entry in database
                if (pathlib.Path(entry["directory"]) / entry["file"]).resolve() == (self.tree / path).resolve()]


def linked(program):
    """Base names of the C files whose objects are in a program."""
    told = subprocess.run(["readelf", "-sW", str(program)], stdout=subprocess.PIPE, check=True, text=True).stdout
    return frozenset(re.findall(r"\bFILE +LOCAL +DEFAULT +ABS +(\S+\.c)$", told, re.M))


def digest_of(programs):
    return hashlib.sha256(b"".join(program.read_bytes() for program in programs)).hexdigest()


def baseline(tree, test, log, kept):
    """Runs a test unmutated, unless the same programs ran before; False if it fails, which makes it useless."""
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    digest = digest_of(tree.build / target for target in test.targets)
    if known.get(test.name, [None])[0] != digest:
        known[test.name] = [digest, *run(test, log, silent_limit=300)]
        kept.write_text(json.dumps(known), encoding="utf-8")
    _, passed, test.cpu, test.silence = known[test.name]
    return passed


def reached(tree, test, log, kept):
    """
    The functions in a test's program that it does not enter, according to a build that marks those it enters: a mutant of one cannot
    be noticed. One that fails in that build is taken to enter all.
    """
    programs = [tree.reach / target for target in test.targets]
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    digest = digest_of(programs)
    if known.get(test.name, [None])[0] != digest:
        with open(tree.marks, "wb") as marks:
            marks.truncate(REACH_SIZE)
        tree.marks.chmod(0o666)         # some processes of some tests are another user's
        marking = dataclasses.replace(test, command=[str(programs[0]), *test.command[1:]],
                                      environment={k: v.replace(str(tree.build), str(tree.reach)) for k, v in test.environment.items()})
        passed = run(marking, log, silent_limit=300)[0]
        known[test.name] = [digest, sorted(spared(programs, tree.marks.read_bytes())) if passed else []]
        kept.write_text(json.dumps(known), encoding="utf-8")
    return frozenset(known[test.name][1])


def spared(programs, marks):
    """
    Names of functions none of which is marked. Those of one name count as one, and a mark as one of each program: too many functions
    may be taken for entered, never too few.
    """
    inside, entered = set(), set()
    for program in programs:
        told = subprocess.run(["nm", "--defined-only", str(program)], stdout=subprocess.PIPE, check=True, text=True).stdout
        symbols = [(int(address, 16), kind, name.partition(".")[0]) for address, kind, name in map(str.split, told.splitlines())]
        base = next(address for address, _, name in symbols if name == "__ehdr_start")
        functions = [(address, name) for address, kind, name in symbols if kind in "tTwW"]
        inside |= {name for _, name in functions}
        entered |= {name for address, name in functions if marks[address - base]}
    return inside - entered


def notices(test, log):
    """Whether a test fails with the current build."""
    passed, _, _ = run(test, log, cpu_limit=5 + 10 * test.cpu, silent_limit=SILENT + 10 * test.silence)
    return not passed
