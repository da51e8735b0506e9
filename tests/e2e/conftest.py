# SPDX-License-Identifier: Apache-2.0
"""Fixtures of all end-to-end tests: the built programs, an isolated environment, stock kernels."""
import collections
import dataclasses
import os
import pathlib
import signal
import struct
import subprocess
import threading

import patience
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("RIFFLE_BUILD", ROOT / "build")).resolve()
RIFFLE = BUILD / "cli" / "riffle"
PREPARE = BUILD / "cli" / "riffle-prepare"

# the programs under test would inherit signals ignored by nohup or a background job
for _number in (signal.SIGHUP, signal.SIGINT):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)


@dataclasses.dataclass
class Programs:
    """The programs under test, run in a directory and with a cache of their own for each test."""

    directory: pathlib.Path
    cache: pathlib.Path
    environment: dict

    def run(self, *command, timeout=300, **kwargs):
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        kwargs.setdefault("cwd", self.directory)
        kwargs.setdefault("env", self.environment)
        return subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=timeout, check=False,
                              **kwargs)

    def riffle(self, *arguments, **kwargs):
        return self.run(RIFFLE, *arguments, **kwargs)

    def prepare(self, *arguments, **kwargs):
        return self.run(PREPARE, *arguments, **kwargs)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A kernel that cannot be built fails only the first test that needs it; the others are skipped."""
    outcome = yield
    if call.excinfo and isinstance(call.excinfo.value, patience.BuildFailed):
        name, told = call.excinfo.value.name, item.session.__dict__.setdefault("failed_builds", set())
        if name in told:
            report = outcome.get_result()
            report.outcome = "skipped"
            report.longrepr = (str(item.path), 0, f"Skipped: {name} could not be built, which another test says")
        told.add(name)


@pytest.fixture
def programs(tmp_path):
    for program in (RIFFLE, PREPARE):
        if not program.exists():
            pytest.fail(f"{program} is not there: build first, or set RIFFLE_BUILD")
    directory = tmp_path / "work"
    directory.mkdir()
    cache = tmp_path / "xdg"
    cache.mkdir(mode=0o700)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_CACHE_HOME": str(cache), "LC_ALL": "C"}
    return Programs(directory, cache / "riffle", environment)


@pytest.fixture(scope="session")
def fetch_kernel():
    """A function from a name of tools/fetch-kernel to the kernel's path; skips if it cannot be fetched."""
    known = {}

    def fetch(name):
        if name not in known:
            r = subprocess.run([ROOT / "tools" / "fetch-kernel", name], capture_output=True, text=True, timeout=900,
                               check=False)
            known[name] = (r.returncode, r.stdout.strip(), r.stderr.strip())
        status, path, complaint = known[name]
        if status:
            pytest.skip(f"kernel {name} cannot be had: {complaint}")
        return pathlib.Path(path)

    return fetch


TERMINAL = []


def pytest_sessionstart(session):
    """Tests' output is captured; this stream goes where pytest's own lines do."""
    with session.config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
        TERMINAL.append(os.fdopen(os.dup(1), "w", buffering=1))


def tell(line):
    """Prints a line on the terminal in the middle of a test."""
    for terminal in TERMINAL:
        terminal.write(f"\n{line}\n")


def pytest_configure(config):
    config.addinivalue_line("markers", "guests(group): the test looks at guests of this group (tests/e2e/guests.py)")


# The longest files start first, so that two workers end at about the same time.
LONGEST_FIRST = ("test_command", "test_disks", "test_network", "test_kernels", "test_boot", "test_machine", "test_series",
                 "test_shuffle", "test_verify", "test_emit", "test_hostile_chunks", "test_stage", "test_rust")


def pytest_collection_modifyitems(items):
    """The same order in each worker, whole files at a time (tools/check: --dist loadfile)."""
    rank = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.fixture(scope="session")
def guest_initrd(tmp_path_factory):
    """The initramfs of tests/guest."""
    path = tmp_path_factory.mktemp("initrd") / "initrd"
    subprocess.run([ROOT / "tools" / "mkinitramfs", path], check=True, timeout=300)
    return path


@pytest.fixture(scope="module")
def boots(guest_initrd, forms, tmp_path_factory):
    """Boots groups of guests when a test first needs one. Modules that start guests differently override this."""
    from guests import Boots    # which imports this file
    boots = Boots(guest_initrd, forms, tmp_path_factory.mktemp("boots"))
    yield boots
    boots.close()


@pytest.fixture(scope="session")
def forms(tmp_path_factory, fetch_kernel):
    """Stock kernels in file formats other than Debian's."""
    return Forms(tmp_path_factory.mktemp("forms"), fetch_kernel)


class Forms:
    """Makes each file when first needed, outside the box, where unpacking is slow."""

    def __init__(self, directory, fetch):
        self.directory, self.fetch, self.locks = directory, fetch, collections.defaultdict(threading.RLock)

    def make(self, name, write):
        with self.locks[name]:
            path = self.directory / name
            if not path.exists():
                part = self.directory / (name + ".part")
                write(part)
                part.rename(path)
            return path

    def prepared(self, kernel):
        source = self.fetch(kernel)
        return self.make(f"{kernel}.riffle", lambda out: subprocess.run(
            [RIFFLE, "prepare", source, "-o", out], check=True, timeout=300))

    def appended(self, kernel):
        """The bzImage's payload: an ELF followed by a list of relocations."""
        def write(out):
            with open(out, "wb") as f:
                subprocess.run([ROOT / "tools" / "extract-vmlinux", self.fetch(kernel)], stdout=f, check=True)
        return self.make(f"{kernel}.appended", write)

    def split(self, kernel):
        """The same, as two files."""
        payload = self.appended(kernel).read_bytes()
        sections, = struct.unpack_from("<Q", payload, 40)
        size, count = struct.unpack_from("<HH", payload, 58)
        end = sections + size * count
        return (self.make(f"{kernel}.elf", lambda out: out.write_bytes(payload[:end])),
                self.make(f"{kernel}.relocs", lambda out: out.write_bytes(payload[end:])))
