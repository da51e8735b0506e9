# SPDX-License-Identifier: Apache-2.0
"""`meson install` is complete, and the library exports exactly what its headers declare."""
import os
import re
import subprocess

import pytest

from conftest import BUILD, ROOT
from installed import install, option, output

HEADERS = sorted((ROOT / "include" / "riffle").glob("*.h"))
VERSION = re.search(r"version: '([^']+)'", (ROOT / "meson.build").read_text()).group(1)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return install(tmp_path_factory.mktemp("install") / "root")


def symbols(*arguments):
    """(type, name) of the lines that nm prints."""
    lines = output("nm", *arguments).splitlines()
    return [(m.group(1), m.group(2).split("@")[0])
            for m in (re.match(r"[0-9a-f]* *([A-Za-z]) (\S+)$", line) for line in lines) if m]


def declared():
    """The functions that the public headers declare."""
    found = set()
    for header in HEADERS:
        text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.S)
        found |= set(re.findall(r"^RIFFLE_PUBLIC\b[^;(]*?\b(riffle_\w+)\(", text, re.M))
    return found


# ---- what is installed


def test_programs_run_from_where_they_are_installed(tree, tmp_path):
    for name in ("riffle", "riffle-prepare"):
        told = output(tree.prefix / "bin" / name, "--version")
        assert re.fullmatch(rf"{name} {re.escape(VERSION)}\n(commit: \S+\n)?prepared kernels: format \d+\n", told), told
    vmm = output(tree.prefix / "bin" / "riffle-vmm", "--version")
    assert vmm.startswith("Firecracker v") and vmm.endswith("] Firecracker exiting successfully. exit_code=0\n")
    # riffle finds riffle-prepare beside itself, not where the build left it
    assert output(tree.prefix / "bin" / "riffle", "inspect", "--help").startswith("Usage: riffle inspect")


def test_headers_are_all_there(tree):
    directory = tree.prefix / option("includedir") / "riffle"
    assert sorted(h.name for h in directory.iterdir()) == [h.name for h in HEADERS]


def test_libraries_and_their_names(tree):
    assert (tree.libdir / "libriffle.a").is_file()
    assert (tree.libdir / "libriffle.so").resolve() == (tree.libdir / "libriffle.so.0").resolve()
    assert "Library soname: [libriffle.so.0]" in output("readelf", "-d", tree.libdir / "libriffle.so")


def test_nothing_internal_is_installed(tree):
    names = {p.name for p in tree.destdir.rglob("*") if not p.is_dir()}
    assert not [n for n in names if "prepare" in n and n not in ("riffle-prepare", "riffle-prepare.1")]
    assert not [n for n in names if "freestanding" in n or "monitor" in n or "test" in n]


def test_man_pages_are_all_there(tree):
    wanted = {f"man{p.suffix[1:]}/{p.name}" for p in (ROOT / "man").glob("*.[1-8]")}
    assert wanted
    there = {str(p.relative_to(tree.prefix / option("mandir")))
             for p in (tree.prefix / option("mandir")).rglob("*") if not p.is_dir()}
    assert there == wanted


def test_pkg_config_file_is_valid(tree):
    output("pkg-config", "--validate", tree.libdir / "pkgconfig" / "riffle.pc")
    assert tree.pkg_config("--modversion", "riffle") == [VERSION]
    assert tree.pkg_config("--libs", "riffle") == [f"-L{tree.libdir}", "-lriffle"]


# ---- where nobody may write: below a file, also for root


def refused(r, where):
    told = r.stdout + r.stderr
    assert r.returncode and "Traceback" not in told, told
    assert told.count("riffle: prefix ") == 1 and f": {where}: cannot be written to by " in told, told
    assert "as root: " in told and " -Dprefix=$HOME/.local, " in told, told


def test_make_install_where_nobody_may_write(tmp_path):
    (tmp_path / "file").touch()
    r = subprocess.run([ROOT / "tools" / "install", BUILD], capture_output=True, text=True, timeout=60, check=False,
                       env=os.environ | {"DESTDIR": str(tmp_path / "file")})
    refused(r, tmp_path / "file")


def test_meson_install_where_nobody_may_write(tmp_path):
    """By a build directory of its own, since meson builds before it installs: this refusal comes before anything is built."""
    (tmp_path / "file").touch()
    build, prefix, destdir = tmp_path / "build", tmp_path / "file" / "prefix", tmp_path / "file" / "destdir"
    output("meson", "setup", f"-Dprefix={prefix}", ROOT, build)
    environment = {k: v for k, v in os.environ.items() if k != "DESTDIR"}
    for command, variables in (
            (["meson", "install", "-C", build], {}),
            (["meson", "install", "--destdir", destdir], {}),
            (["ninja", "install"], {"DESTDIR": str(destdir)})):
        r = subprocess.run(command, cwd=build, env=environment | variables, capture_output=True, text=True, timeout=300,
                           check=False)
        refused(r, tmp_path / "file")
        assert f"sudo meson install -C {build}\n" in r.stdout + r.stderr
        assert f"riffle: prefix {prefix}: " in r.stdout + r.stderr
    assert not list(build.rglob("riffle*.so*")) and not (build / "cli" / "riffle").exists()
    # a build is no installation
    assert "riffle: " not in output("ninja", "-C", build, "can-install")


@pytest.mark.parametrize("tool, arguments, checked", [
    ("meson", "install -C build", True), ("meson", "install --destdir=none", False), ("meson", "install -n", False),
    ("meson", "compile -C install", False), ("meson", "install --destdir file/x", True), ("ninja", "-C build install", True),
    ("ninja", "-C install", False), ("ninja", "-j 2 all", False), ("other", "install", False)])
def test_only_installations_are_checked(tmp_path, tool, arguments, checked):
    (tmp_path / "file").touch()
    program = tmp_path / tool
    # the second command keeps the shell from replacing itself with the first
    program.write_text(f"#!/bin/sh\n{ROOT}/tools/can-install build /file/prefix $PWD/file/bin; code=$?\nexit $code\n")
    program.chmod(0o755)
    r = subprocess.run([program, *arguments.split()], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
                       env={"PATH": os.environ["PATH"]})
    if checked:
        refused(r, tmp_path / "file" if "--destdir" not in arguments else "file")
    else:
        assert (r.returncode, r.stdout, r.stderr) == (0, "", "")


def test_meson_may_ask_for_roots_rights_itself(tmp_path):
    """By polkit, in Debian 12: told too, and left to meson."""
    (tmp_path / "file").touch()
    for name, text in (("pkexec", "exit 1"), ("meson", f"{ROOT}/tools/can-install build /p $PWD/file; exit $?")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    for arguments, code in ((["install"], 0), (["install", "--destdir", "file"], 1)):
        r = subprocess.run([tmp_path / "meson", *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60,
                           check=False, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
        assert r.returncode == code and "riffle: prefix /p: " in r.stderr, r.stderr


# ---- what the library is


def test_shared_library_exports_what_the_headers_declare(tree):
    exported = {name for kind, name in symbols("-D", "--defined-only", tree.libdir / "libriffle.so") if kind != "A"}
    assert exported == declared()
    assert len(exported) > 10


def test_shared_library_needs_libc_alone(tree):
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", output("readelf", "-d", tree.libdir / "libriffle.so"))
    if option("b_sanitize") != "none":
        pytest.skip("the sanitizers' run-times are needed too")
    assert needed == ["libc.so.6"]


def test_shared_library_asks_for_no_writable_code_and_no_executable_stack(tree):
    dynamic = output("readelf", "-dlW", tree.libdir / "libriffle.so")
    assert "TEXTREL" not in dynamic
    assert re.search(r"GNU_STACK.* RW +0x", dynamic)
    assert not re.search(r"LOAD.* RWE ", dynamic)


def test_static_library_keeps_to_its_name_space(tree):
    names = {name for kind, name in symbols("-g", "--defined-only", tree.libdir / "libriffle.a")}
    assert declared() <= names
    assert not [n for n in names if not n.startswith("riffle_")]


@pytest.mark.parametrize("compiler, standard", [("gcc", "c11"), ("gcc", "c17"), ("g++", "c++17"), ("clang", "c11"),
                                                ("clang", "c17"), ("clang++", "c++17")])
def test_each_header_compiles_alone(tree, tmp_path, compiler, standard):
    """Without _GNU_SOURCE and other includes before it; twice, for its guard."""
    language = "c++" if "++" in compiler else "c"
    if subprocess.run(["sh", "-c", f"command -v {compiler}"], capture_output=True, check=False).returncode:
        pytest.skip(f"no {compiler} here")
    for header in HEADERS:
        source = tmp_path / f"{header.stem}.{language}"
        source.write_text(f"#include <riffle/{header.name}>\n" * 2 + "extern int nothing_else;\n")
        output(compiler, "-x", language, f"-std={standard}", "-Wall", "-Wextra", "-Wpedantic", "-Werror",
               "-fsyntax-only", *tree.pkg_config("--cflags", "riffle"), source)


# ---- what runs inside guests


@pytest.fixture
def freestanding():
    archive = BUILD / "lib" / "libriffle-freestanding.a"
    if option("b_sanitize") != "none":
        pytest.skip("a build with sanitizers has no freestanding library")
    return archive


def test_freestanding_library_needs_mem_functions_alone(freestanding):
    undefined = {name for kind, name in symbols("-u", freestanding)}
    defined = {name for kind, name in symbols("--defined-only", freestanding)}
    assert undefined - defined <= {"memcpy", "memset", "memmove", "memcmp"}
    assert {"riffle_plan_check", "riffle_layout_draw", "riffle_load"} <= defined


def test_freestanding_library_uses_no_vector_registers(freestanding):
    code = output("objdump", "-d", "--no-show-raw-insn", freestanding)
    assert re.search(r"\bret\b", code)
    assert not re.findall(r".*%(?:[xyz]mm|mm|st\().*", code)
