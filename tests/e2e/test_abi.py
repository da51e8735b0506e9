# SPDX-License-Identifier: Apache-2.0
"""The library's ABI matches its description, and a change is detected."""
import re
import shutil
import subprocess

import pytest

from conftest import BUILD, ROOT
from installed import option, output


def compare(tools, build):
    return subprocess.run([tools / "abi", build], capture_output=True, text=True, timeout=120, check=False)


def test_library_is_as_described():
    if option("b_sanitize") != "none":
        pytest.skip("what sanitizers add is not described")
    r = compare(ROOT / "tools", BUILD)
    assert r.returncode == 0, r.stdout + r.stderr


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A tree with only the library, and how to build it there."""
    tree = tmp_path_factory.mktemp("abi")
    for name in ("include", "lib"):
        shutil.copytree(ROOT / name, tree / name)
    (tree / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "abi", tree / "tools")
    return tree


@pytest.mark.parametrize("old, new, named", [
    ("", "", None),
    ("uint64_t load_ticks;", "uint32_t load_ticks, other;", "load_ticks"),
    ("uint8_t reserved_zero[56];", "uint8_t reserved_zero[64];", "riffle_loaded"),
    ("const struct riffle_workers *workers, struct", "struct", "riffle_load"),
])
def test_changes_are_noticed(tree, old, new, named):
    header, build = tree / "include" / "riffle" / "load.h", tree / "build"
    text = (ROOT / "include" / "riffle" / "load.h").read_text()
    assert old in text
    header.write_text(text.replace(old, new, 1))
    shutil.rmtree(build, ignore_errors=True)
    (build / "lib").mkdir(parents=True)
    # only declarations and types are described, so empty functions are enough
    source = tree / "functions.c"
    source.write_text("#include <riffle/riffle.h>\n" + bodies(tree))
    output("cc", "-g", "-shared", "-fPIC", "-w", "-o", build / "lib" / "libriffle.so", source,
           f"-I{tree / 'include'}", "-Wl,-soname,libriffle.so.0", f"-Wl,--version-script={tree / 'lib' / 'riffle.map'}")
    r = compare(tree / "tools", "build")
    if named is None:
        assert r.returncode == 0, r.stdout + r.stderr
        return
    assert r.returncode == 1
    assert named in r.stdout
    assert "tools/abi --update" in r.stderr


def bodies(tree):
    """A definition for each declaration of the headers."""
    text = ""
    for header in sorted((tree / "include" / "riffle").glob("*.h")):
        plain = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.S)
        for declaration in re.findall(r"^RIFFLE_PUBLIC\b[^;]*;", plain, re.M):
            text += declaration[:-1] + " { __builtin_trap(); }\n"
    return text
