# SPDX-License-Identifier: Apache-2.0
"""The Rust bindings, built offline with Debian's toolchain and crates against an installed library."""
import os
import re
import subprocess

import pytest

from conftest import BUILD, ROOT
from guests import in_box
from installed import install, option, output

RUST = ROOT / "bindings" / "rust"


@pytest.fixture(scope="module")
def cargo(tmp_path_factory):
    """Runs cargo in the bindings; what it builds stays in the build directory."""
    if option("b_sanitize") != "none":
        pytest.skip("Rust programs do not start with the sanitizers' run-times")
    tree = install(tmp_path_factory.mktemp("rust") / "root")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tree.destdir), "CARGO_HOME": str(BUILD / "cargo"),
                   "CARGO_TARGET_DIR": str(BUILD / "rust"), "RIFFLE_LIB_DIR": str(tree.libdir), "RIFFLE_STATIC": "1"}

    def run(*arguments, **more):
        r = subprocess.run([RUST / "cargo-debian", *arguments], cwd=RUST, env=environment | more, capture_output=True,
                           text=True, timeout=900, check=False)
        assert r.returncode == 0, r.stdout[-6000:] + r.stderr[-6000:]
        return r.stdout + r.stderr
    return run


@pytest.fixture(scope="module")
def kernels(forms, tmp_path_factory):
    """A prepared kernel, and the same one compressed."""
    plain = forms.prepared("cloud-6.1")
    compressed = tmp_path_factory.mktemp("rust-kernels") / "compressed.riffle"
    output(BUILD / "cli" / "riffle", "prepare", "--compress=lz4", forms.fetch("cloud-6.1"), "-o", compressed)
    return plain, compressed


def test_bindings_are_those_of_the_headers(tmp_path):
    fresh = tmp_path / "bindings.rs"
    output(RUST / "generate", fresh, env={"PATH": "/usr/bin:/bin"})
    committed = (RUST / "riffle-sys" / "src" / "bindings.rs").read_text()
    assert fresh.read_text() == committed, "bindings/rust/generate writes them anew"
    # every constant but those that are not numbers or strings
    defined = set()
    for header in (ROOT / "include" / "riffle").glob("*.h"):
        defined |= set(re.findall(r"^#define (RIFFLE_\w+)[ \t]+\S", re.sub(r"/\*.*?\*/", "", header.read_text(),
                                                                           flags=re.S), re.M))
    defined -= {"RIFFLE_PUBLIC", "RIFFLE_MUST_CHECK", "RIFFLE_PLAN_INIT", "RIFFLE_LAYOUT_INIT"}
    assert defined <= set(re.findall(r"pub const (\w+)", committed))


def test_formatted():
    sources = [p for p in RUST.rglob("*.rs") if p.name != "bindings.rs"]
    output("/usr/bin/rustfmt", "--check", "--edition", "2021", "--config-path", RUST, *sources)


def test_library_through_the_bindings(cargo, kernels):
    plain, compressed = kernels
    told = cargo("test", "--features", "vm-memory", "--tests", RIFFLE_TEST_KERNEL=str(plain),
                 RIFFLE_TEST_COMPRESSED=str(compressed))
    assert int(re.search(r"test result: ok\. ([1-9]\d*) passed; 0 failed; 0 ignored", told).group(1)) >= 11
    assert "warning" not in told


def test_example_boots_a_shuffled_kernel(cargo, kernels, tmp_path):
    cargo("build", "--features", "vm-memory", "--examples")
    program = tmp_path / "vm-memory-monitor"
    program.write_bytes((BUILD / "rust" / "debug" / "examples" / "vm-memory-monitor").read_bytes())
    program.chmod(0o755)
    r = in_box([program, kernels[0]])
    console = r.stdout.decode(errors="replace").replace("\r", "")
    told = r.stderr.decode(errors="replace")
    assert r.returncode == 0, told + console[-4000:]
    assert "Linux version 6.1" in console
    assert re.search(r"Kernel panic - not syncing: VFS: Unable to mount root fs", console)
    assert re.search(r"one of \d+ virtual and \d+ physical places, \d{4,} chunks, 6 blocks", told)
    offset = re.search(r"Kernel Offset: (0x[0-9a-f]+) from 0xffffffff81000000", console)
    assert offset, console[-4000:]
    assert offset.group(1) not in told
