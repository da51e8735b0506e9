# SPDX-License-Identifier: Apache-2.0
"""The man pages and documents are accurate: options, commands, functions, links, fields, numbers."""
import json
import re
import subprocess

import pytest

from conftest import BUILD, RIFFLE, ROOT
from guests import in_box

MAN = ROOT / "man"
PAGES = sorted(MAN.glob("*.[1-8]"))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
HEADERS = sorted((ROOT / "include" / "riffle").glob("*.h"))

# options of other programs in the documents, and of riffle-prepare as called by riffle
FOREIGN_OPTIONS = {"--unix-socket", "--cflags", "--libs", "--prefix", "--toggle-collect", "--toggle-collect", "--tool", "--variable", "--worker"}
# and of other monitors
FOREIGN_OPTIONS |= {"--firecracker-bin", "--firecracker-binary", "--initramfs", "--kernel", "--params", "--serial"}


# programs beside riffle
PROGRAMS = {"riffle-jailer": BUILD / "jailer" / "riffle-jailer", "riffle-vmm": BUILD / "api" / "riffle-vmm"}


def help_of(*command):
    r = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=300, check=False)
    assert r.returncode == 0, r.stderr
    return r.stdout


def options_of_help(text):
    """The options that a help text lists, one per line: {"-m", "--memory"}."""
    found = set()
    for line in text.splitlines():
        m = re.match(r"\s+((?:-\w|--[\w-]+)(?:, --[\w-]+)?)(?:\s|$)", line)
        if m:
            found |= set(m.group(1).split(", "))
    return found


def commands():
    return re.findall(r"^  ([a-z][a-z-]*) +\S", help_of(RIFFLE, "--help"), re.M)


def render(page):
    text = subprocess.run(["mandoc", "-Tutf8", "-O", "width=500", page], capture_output=True, text=True, check=True,
                          timeout=300).stdout
    return re.sub(r".\x08", "", text)


def code_in(document):
    """Fenced and indented blocks, and text in backquotes."""
    return re.findall(r"^```.*?^```|^    .*?$|`[^`\n]+`", document.read_text(), re.M | re.S)


# ---- man pages


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_man_page_is_well_formed(page):
    r = subprocess.run(["mandoc", "-Tlint", "-W", "warning", page], capture_output=True, text=True, check=False,
                       timeout=300)
    assert (r.returncode, r.stdout) == (0, "")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_man_page_refers_to_pages_that_are_there(page):
    others = {"crash.8", "gdb.1", "getrandom.2", "objdump.1", "perf-report.1", "pkg-config.1", "passt.1"}
    for name, section in re.findall(r"^\.Xr (\S+) (\d)", page.read_text(), re.M):
        assert (MAN / f"{name}.{section}").exists() or f"{name}.{section}" in others, name


def test_every_command_has_a_page():
    assert commands()
    assert {p.name for p in PAGES if p.suffix == ".1"} == ({"riffle.1", *(f"{p}.1" for p in PROGRAMS)} |
                                                           {f"riffle-{c}.1" for c in commands()})


def test_riffle_page_lists_the_commands():
    listed = re.findall(r"^\.It Cm (\S+)$", (MAN / "riffle.1").read_text(), re.M)
    assert sorted(listed) == sorted(commands())


@pytest.mark.parametrize("command", ["run", "prepare", "emit", "inspect", "symbolize", "gdb-script", "doctor", "verify", "bench",
                                     "initramfs", "config", "dump", "snapshot", "resume", "stock"])
def test_man_page_has_the_options_of_the_help(command):
    asked = options_of_help(help_of(RIFFLE, command, "--help")) | {"-h", "--help"}
    told = {"-h", "--help"}
    for item in re.findall(r"^\.It (Fl .*)$", (MAN / f"riffle-{command}.1").read_text(), re.M):
        told |= {"-" + name for name in re.findall(r"Fl (-?[\w-]+)", item)}
    assert told == asked


@pytest.mark.parametrize("program", PROGRAMS)
def test_man_page_has_the_options_of_the_program(program):
    told = set()
    for item in re.findall(r"^\.It (Fl .*)$", (MAN / f"{program}.1").read_text(), re.M):
        told |= {"-" + name for name in re.findall(r"Fl (-?[\w-]+)", item)}
    assert told == options_of_help(help_of(PROGRAMS[program], "--help")) | {"-h", "--help"}


def test_run_page_has_the_defaults_of_the_help():
    page = " ".join(render(MAN / "riffle-run.1").split())
    text = help_of(RIFFLE, "run", "--help")
    assert re.search(r"Default command line:\n  (.*)\n", text).group(1) in page
    for default in re.findall(r"\[(\d+M?)\]", text):
        assert f"{default} by default" in page


def test_run_page_has_the_exit_codes_of_the_help():
    text = " ".join(help_of(RIFFLE, "run", "--help").split())
    codes = re.findall(r"(\d+|128\+N) \w+", text.split("Exit code: ")[1])
    assert len(codes) >= 6
    page = (MAN / "riffle-run.1").read_text().split(".Sh EXIT STATUS")[1]
    assert sorted(re.findall(r"^\.It (\S+)$", page, re.M)) == sorted(codes)


def test_library_page_names_every_function():
    declared = set()
    for header in HEADERS:
        text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.S)
        declared |= set(re.findall(r"^RIFFLE_PUBLIC\b[^;(]*?\b(riffle_\w+)\(", text, re.M))
    assert set(re.findall(r"^\.Fn (\w+)", (MAN / "libriffle.3").read_text(), re.M)) == declared


def test_format_page_has_the_numbers_of_the_header():
    header = (ROOT / "include" / "riffle" / "format.h").read_text()
    page = " ".join(render(MAN / "riffle-format.5").split())
    version = re.search(r"RIFFLE_FORMAT_VERSION (\d+)u", header).group(1)
    assert f"the format's version, which is {version}" in page
    assert f"{re.search(r'RIFFLE_HEADER_BYTES ([0-9]+)u', header).group(1)} bytes at offset 0" in page
    assert re.search(r'RIFFLE_MAGIC ("[^"]*")', header).group(1)[1:-1] in page
    assert "RIFFLE_PAYLOAD_ALIGN (2ul << 20)" in header and "a multiple of 2 MiB" in page
    assert "RIFFLE_IMAGE_MAX (1ul << 30)" in header and "shorter than 1 GiB" in page
    assert "RIFFLE_PLAN_MAX (256ul << 20)" in header and "not longer than 256 MiB" in page


def members(value):
    return {k: members(v) if isinstance(v, dict) else type(v) for k, v in value.items()}


def test_layout_page_shows_what_a_run_writes(programs, fetch_kernel, tmp_path):
    page = (MAN / "riffle-layout.5").read_text()
    example = json.loads(re.search(r"^\.Bd -literal\n(.*?)^\.Ed", page, re.M | re.S).group(1))
    layout, kernel = tmp_path / "layout.json", tmp_path / "kernel.riffle"
    assert programs.riffle("prepare", fetch_kernel("cloud-6.1"), "-o", kernel).returncode == 0
    r = in_box([RIFFLE, "run", "--randomize=fgkaslr+slide", "--layout-out", layout, "--append", "quiet", kernel])
    assert r.returncode == 7, r.stderr.decode(errors="replace")    # no root file system: a panic
    written = json.loads(layout.read_text())
    assert members(example) == members(written)
    described = re.findall(r"^\.It Li (.*)$", page, re.M)
    assert sorted(name.strip() for d in described for name in d.split(",")) == sorted([*written, *written["kernel"]])
    for kind, value in (("physical", example["physical_base"]), ("virtual", example["virtual_base"])):
        assert int(value, 16) % (2 << 20) == 0, kind


# ---- documents


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_links_lead_somewhere(document):
    text = document.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        file = document.parent / path if path else document
        assert file.exists(), target
        if anchor:
            headings = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-")
                        for h in re.findall(r"^#+ (.*)$", file.read_text(), re.M)}
            assert anchor in headings, target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_files_and_targets_that_are_named_are_there(document):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for code in code_in(document):
        for target in re.findall(r"\bmake ([a-z-]+)", code):
            assert target in targets, target
        for path in re.findall(r"(?<![\w/.~$-])((?:tools|lib|prepare|monitor|cli|tests|include|examples|man|docs|bench)/[\w./-]*\w)",
                               code):
            assert (ROOT / path).exists(), path


@pytest.fixture(scope="module")
def known_options():
    known = set(FOREIGN_OPTIONS) | {"--help", "--version"}
    for command in commands():
        known |= options_of_help(help_of(RIFFLE, command, "--help"))
    for program in PROGRAMS.values():
        known |= options_of_help(help_of(program, "--help"))
    for tool in ("kvmbox", "fetch-kernel", "build-kernel", "mkinitramfs", "mkimage", "check", "bench-io", "bench-snapshots"):
        known |= options_of_help(help_of(ROOT / "tools" / tool, "--help"))
    # Python's argparse indents alike, whatever the program
    for program in ("bench/evaluate", "bench/report", "bench/vmm-start", "bench/boot/main.py", "tools/bench-io", "tools/bench-kernel",
                    "tools/bench-many", "tools/mutate"):
        known |= options_of_help(help_of(ROOT / program, "--help"))
    return known


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_commands_and_options_that_are_named_exist(document, known_options):
    for code in code_in(document):
        for command in re.findall(r"(?:^|[\s`/])riffle ([a-z][a-z-]*)", code):
            assert command in commands(), command
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", code):
            assert option in known_options, option


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_functions_that_are_named_are_declared(document):
    text = "".join(h.read_text() for h in HEADERS)
    for code in code_in(document):
        for function in re.findall(r"\b(riffle_[a-z0-9_]+)\(", code):
            assert re.search(rf"\b{function}\(", text), function


@pytest.mark.parametrize("language, examples, least", [
    ("c", "examples/*.c", 6), ("rust", "bindings/rust/riffle/examples/*/main.rs", 1)])
def test_embedding_quotes_the_examples(language, examples, least):
    lines = {line.strip() for example in ROOT.glob(examples) for line in example.read_text().splitlines()}
    quoted = re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "docs" / "embedding.md").read_text(), re.M | re.S)
    assert len(quoted) >= least
    assert not [line for block in quoted for line in block.splitlines() if line.strip() not in lines]


def test_entropy_is_what_inspect_prints(fetch_kernel):
    """Allows for the pages by which Debian's next 6.1 kernel may differ."""
    table = re.findall(r"^\| (\d+) ([MG])iB \| (\d+) slots, ([\d.]+) bits \| (\d+) slots, ([\d.]+) bits \|$",
                       (ROOT / "docs" / "randomisation.md").read_text(), re.M)
    assert len(table) >= 4
    for size, unit, *told in table:
        text = help_of(RIFFLE, "inspect", "-m", size + unit, fetch_kernel("cloud-6.1"))
        printed = [n for bits, slots in re.findall(r"([\d.]+) bits \((\d+) slots", text) for n in (slots, bits)]
        assert len(printed) == 4
        for a, b in zip(told, printed):
            assert abs(float(a) - float(b)) <= (8 if "." not in a else 0.3), (size + unit, told, printed)
