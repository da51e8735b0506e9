# SPDX-License-Identifier: Apache-2.0
"""What every end-to-end test starts from: the built programs, an environment of its own, stock kernels."""
import dataclasses
import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("RIFFLE_BUILD", ROOT / "build")).resolve()
RIFFLE = BUILD / "cli" / "riffle"
PREPARE = BUILD / "cli" / "riffle-prepare"


@dataclasses.dataclass
class Programs:
    """The programs under test, run in a directory and with a cache that belong to one test."""

    directory: pathlib.Path
    cache: pathlib.Path
    environment: dict

    def run(self, *command, timeout=120, **kwargs):
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        kwargs.setdefault("cwd", self.directory)
        kwargs.setdefault("env", self.environment)
        return subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=timeout, check=False,
                              **kwargs)

    def riffle(self, *arguments, **kwargs):
        return self.run(RIFFLE, *arguments, **kwargs)

    def prepare(self, *arguments, **kwargs):
        return self.run(PREPARE, *arguments, **kwargs)


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
    """A function from a name of tools/fetch-kernel to the kernel's path; skips where it cannot be had."""
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
