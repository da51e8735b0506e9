# SPDX-License-Identifier: Apache-2.0
"""riffle symbolize and gdb-script: map addresses of a randomised guest back to the kernel as linked."""
import json
import os
import random
import re
import shutil
import stat
import subprocess

import pytest
from conftest import PREPARE
from guests import Guest, run_guests

LINK_VIRTUAL = 0xFFFFFFFF81000000
LINK_PHYSICAL = 0x1000000
RUNNING = 0xFFFFFFFF9A000000
PHYSICAL = 0x5E00000
IMAGE_BYTES = 0x400000

SOURCE = """
__attribute__((section(".data..percpu"))) long percpu_counter = 7;
long some_data = 5;
__attribute__((noinline)) long first(long x) { return x * some_data; }
__attribute__((noinline)) long second(long x) { return first(x) + percpu_counter; }
void _start(void) { second(some_data); }
"""

# laid out like a kernel of 6.1: everything at the top, but percpu at 0
SCRIPT = """
PHDRS { text PT_LOAD; data PT_LOAD; percpu PT_LOAD; note PT_NOTE; }
SECTIONS {
  . = 0xffffffff81000000;
  .text : AT(0x1000000) { *(.text*) . += 64; } :text
  .notes : { *(.note.gnu.build-id) } :text :note
  . = 0xffffffff81200000;
  .data : AT(0x1200000) { *(.data) *(.bss) } :data
  .data..percpu 0 : AT(0x1300000) { *(.data..percpu) } :percpu
  /DISCARD/ : { *(.comment) *(.note.GNU-stack) *(.eh_frame) *(.note.gnu.property) }
}
"""


@pytest.fixture(scope="module")
def vmlinux(tmp_path_factory):
    """A small ELF linked like a kernel, in a directory with a difficult name."""
    directory = tmp_path_factory.mktemp("vmlinux") / 'a "kernel\\ build"'
    directory.mkdir()
    (directory / "small.c").write_text(SOURCE)
    (directory / "small.lds").write_text(SCRIPT)
    subprocess.run(["gcc", "-O1", "-g", "-falign-functions=16", "-mcmodel=kernel", "-fno-pic", "-fno-asynchronous-unwind-tables", "-nostdlib",
                    "-static", "-no-pie", "-Wl,--build-id=0x0123456789abcdef", "-Wl,-Tsmall.lds", "small.c", "-o",
                    "vmlinux"], cwd=directory, check=True, timeout=300)
    return directory / "vmlinux"


def symbols_of(vmlinux):
    text = subprocess.run(["nm", "-n", vmlinux], capture_output=True, text=True, check=True).stdout
    return text, {name: int(address, 16) for address, _, name in map(str.split, text.splitlines())}


def layout(directory, name="layout.json", **changes):
    told = {"riffle_layout": 1, "mode": "kaslr", "physical_base": hex(PHYSICAL), "virtual_base": hex(RUNNING),
            "link_physical": hex(LINK_PHYSICAL), "link_virtual": hex(LINK_VIRTUAL), "image_bytes": IMAGE_BYTES,
            "kernel": {"version": "6.1.0 small\nprint 1", "build_id": "0123456789abcdef"}}
    told.update(changes)
    path = directory / name
    path.write_text(json.dumps(told))
    return path


def shuffled(directory, symbols, **changes):
    """A layout with three functions in another order, and their new addresses."""
    linked = sorted(symbols[name] for name in ("first", "second", "_start"))
    sizes = [b - a for a, b in zip(linked, [*linked[1:], (linked[2] + 63) // 16 * 16])]
    assert linked[0] % 16 == 0 and len(set(sizes)) > 1
    at, rows, place = linked[0], {}, {}
    for i in (1, 2, 0):
        rows[linked[i]] = [linked[i] - LINK_VIRTUAL, sizes[i], at - linked[i]]
        place[linked[i]] = at - LINK_VIRTUAL + RUNNING
        at += sizes[i]
    path = layout(directory, "shuffled.json", mode="fgkaslr", chunks=[rows[a] for a in linked], **changes)
    return path, {name: place[symbols[name]] for name in ("first", "second", "_start")}


def running(address):
    return f"{address - LINK_VIRTUAL + RUNNING:016x}"


def failed(r, words):
    """One error line, and nothing on standard output."""
    assert r.returncode == 1, (r.stdout, r.stderr)
    assert r.stdout == ""
    assert r.stderr.count("\n") == 1, r.stderr
    assert words in r.stderr, r.stderr


# ---- symbolize


def test_log(programs, vmlinux):
    text, symbols = symbols_of(vmlinux)
    (programs.directory / "map").write_text(text)
    lay = layout(programs.directory)
    oops = (f"[    2.1] RIP: 0010:0x{running(symbols['first'] + 1)}\n"
            f" [<{running(symbols['second'])}>] RAX: {symbols['first']:016x} CR2: ffff888001000000\n"
            f"Code: 0f 0b no line feed at the end {running(symbols['some_data'])}")
    size = symbols["second"] - symbols["first"]
    wanted = (f"[    2.1] RIP: 0010:0x{symbols['first'] + 1:016x} [first+0x1/{hex(size)}]\n"
              f" [<{symbols['second']:016x} [second+0x0/{hex(symbols['_start'] - symbols['second'])}]>] "
              f"RAX: {symbols['first']:016x} CR2: ffff888001000000\n"
              f"Code: 0f 0b no line feed at the end {symbols['some_data']:016x} [some_data+0x0/")
    log = programs.directory / "oops"
    log.write_text(oops)
    for source in (("--vmlinux", vmlinux), ("--system-map", "map")):
        r = programs.prepare("symbolize", "--layout", lay, *source, log)
        assert r.returncode == 0, r.stderr
        assert r.stdout.startswith(wanted), r.stdout
        with open(log) as stdin:
            assert programs.prepare("symbolize", "--layout", lay, *source, stdin=stdin).stdout == r.stdout
        with open(log) as stdin:
            assert programs.prepare("symbolize", "--layout", lay, *source, "-", stdin=stdin).stdout == r.stdout
    r = programs.prepare("symbolize", "--layout", lay, log)
    assert r.stdout == re.sub(r" \[[a-z_]+\+[^]]*\]", "", wanted[:-len(" [some_data+0x0/")]), r.stdout
    # by way of riffle
    assert programs.riffle("symbolize", "--layout", lay, log).stdout == r.stdout


def test_log_is_followed(programs, vmlinux):
    """Input is processed and written before more arrives."""
    _, symbols = symbols_of(vmlinux)
    lay = layout(programs.directory)
    with subprocess.Popen([PREPARE, "symbolize", "-l", lay, "-v", vmlinux], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, env=programs.environment) as p:
        for _ in range(3):
            p.stdin.write(f"{running(symbols['first'])}\n".encode())
            p.stdin.flush()
            assert p.stdout.readline().startswith(f"{symbols['first']:016x} [first+0x0/".encode())
        p.stdin.close()
        assert p.stdout.read() == b""
        assert p.wait(timeout=300) == 0


def test_addresses(programs, vmlinux):
    _, symbols = symbols_of(vmlinux)
    lay = layout(programs.directory)
    r = programs.prepare("symbolize", "-l", lay, "-v", vmlinux, "--address", running(symbols["first"] + 2),
                         "0x" + running(symbols["second"]))
    assert r.returncode == 0, r.stderr
    assert [line.split("+")[0] for line in r.stdout.splitlines()] == [
        f"{symbols['first'] + 2:016x} [first", f"{symbols['second']:016x} [second"]
    r = programs.prepare("symbolize", "-l", lay, "-v", vmlinux, "-a", "0", running(symbols["first"]))
    assert r.returncode == 1
    assert r.stdout.splitlines()[0] == "0000000000000000 [not in the kernel's image]"
    assert "[first+0x0/" in r.stdout.splitlines()[1]
    for word in ("x", "-1", "12345678123456789", ""):
        assert programs.prepare("symbolize", "-l", lay, "-a", "--", word).returncode == 2


def test_shuffled(programs, vmlinux):
    """Each address is mapped through its chunk; anything but functions moves with the image."""
    text, symbols = symbols_of(vmlinux)
    (programs.directory / "map").write_text(text)
    lay, place = shuffled(programs.directory, symbols)
    log = "".join(f"{name} {place[name] + 2:016x} 0x{running(symbols['some_data'])}\n" for name in place)
    (programs.directory / "log").write_text(log)
    for source in (("-v", vmlinux), ("-m", "map")):
        r = programs.prepare("symbolize", "-l", lay, *source, "log")
        assert r.returncode == 0, r.stderr
        lines = r.stdout.splitlines()
        assert len(lines) == 3
        for name, line in zip(place, lines):
            assert line.startswith(f"{name} {symbols[name] + 2:016x} [{name}+0x2/"), line
            assert f" 0x{symbols['some_data']:016x} [some_data+0x0/" in line, line
    r = programs.prepare("symbolize", "-l", lay, "-v", vmlinux, "-a", *(hex(at) for at in place.values()))
    assert [re.match(r"[0-9a-f]{16} \[(\w+)\+0x0/", line).group(1) for line in r.stdout.splitlines()] == list(place)


def test_shuffled_wrongly(programs, vmlinux):
    """A layout with two chunks in one place is refused."""
    _, symbols = symbols_of(vmlinux)
    lay, _ = shuffled(programs.directory, symbols)
    (programs.directory / "log").write_text("")
    told = json.loads(lay.read_text())
    told["chunks"][1][2] += 16
    lay.write_text(json.dumps(told))
    for command in (("symbolize", "-l", lay, "log"), ("gdb-script", "-l", lay, "-v", vmlinux)):
        failed(programs.prepare(*command), "chunks")
    del told["chunks"]
    lay.write_text(json.dumps(told))
    failed(programs.prepare("symbolize", "-l", lay, "log"), "chunks")


def test_thousands_of_addresses_in_the_largest_shuffle(programs):
    """65,534 chunks and a log of 200,000 addresses take seconds, not minutes."""
    count = 65534
    places = list(range(count))
    random.Random(3).shuffle(places)
    lay = layout(programs.directory, mode="fgkaslr", image_bytes=16 * count,
                 chunks=[[16 * i, 16, 16 * (place - i)] for i, place in enumerate(places)])
    asked = [i * 7919 % count for i in range(200000)]
    (programs.directory / "log").write_text("".join(f"{RUNNING + 16 * places[i] + i % 16:016x}\n" for i in asked))
    r = programs.prepare("symbolize", "-l", lay, "log", timeout=300)
    assert r.returncode == 0, r.stderr
    assert r.stdout == "".join(f"{LINK_VIRTUAL + 16 * i + i % 16:016x}\n" for i in asked)


def test_wrong_files(programs, vmlinux):
    text, symbols = symbols_of(vmlinux)
    directory = programs.directory
    (directory / "log").write_text(running(symbols["first"]))
    (directory / "garbage").write_bytes(os.urandom(10000))
    (directory / "empty").write_bytes(b"")
    (directory / "debian.map").write_text("ffffffffffffffff B The real System.map is elsewhere\n")
    stripped = directory / "stripped"
    subprocess.run(["strip", "-o", stripped, vmlinux], check=True)
    lay = layout(directory)

    def run(*arguments):
        return programs.prepare("symbolize", "--layout", *arguments, "log")

    failed(run("none.json"), "none.json")
    failed(run("garbage"), "not JSON")
    failed(run(layout(directory, "big", image_bytes=1 << 40)), "image_bytes")
    failed(run(layout(directory, "wrap", virtual_base="0xffffffffffe00000")), "image_bytes")
    for option in ("-v", "-m"):
        for name in ("garbage", "empty", "none", "."):
            failed(run(lay, option, name), f"{name}: ")
    failed(run(lay, "-m", "debian.map"), "System.map")
    failed(run(lay, "-v", stripped), "stripped")
    failed(run(lay, "-k", "garbage"), "garbage: ")
    other = {"version": "6.1.0", "build_id": "0123456789abcdee"}
    failed(run(layout(directory, "other", kernel=other), "-v", vmlinux), "build id")
    for key, value in (("link_physical", "0x1200000"), ("link_virtual", "0xffffffff80000000"),
                       ("virtual_base", "0xffffffffa1200001"), ("virtual_base", "0xffff8000a1200000"),
                       ("physical_base", "0x8a00001")):
        failed(run(layout(directory, "impossible", **{key: value}), "-v", vmlinux), key)
    failed(run(layout(directory, "shifted", link_physical="0x1200000", link_virtual="0xffffffff81200000"), "-v",
               vmlinux), "p_paddr")
    failed(programs.prepare("symbolize", "-l", lay, "no-such-log"), "no-such-log")
    failed(programs.prepare("symbolize", "-l", lay, "."), "log")
    # a vmlinux truncated anywhere gives an error or, if only debug information is missing, none
    whole = vmlinux.read_bytes()
    cut = directory / "cut"
    for end in range(0, len(whole), len(whole) // 97):
        cut.write_bytes(whole[:end])
        assert run(lay, "-v", cut).returncode == 1
    with open("/dev/full", "w") as full:
        r = subprocess.run([PREPARE, "symbolize", "-l", lay, directory / "log"], stdout=full, stderr=subprocess.PIPE,
                           env=programs.environment, check=False)
    assert r.returncode == 1 and b"No space left" in r.stderr


@pytest.mark.parametrize("command", ["symbolize", "gdb-script"])
def test_usage(programs, command):
    r = programs.prepare(command, "--help")
    assert r.returncode == 0 and r.stdout.startswith(f"Usage: riffle {command} --layout FILE") and r.stderr == ""
    wrong = [(), ("--layout",), ("--nonsense",), ("-l", "a", "b", "c")]
    if command == "symbolize":
        wrong += [("-l", "a", "-m", "b", "-v", "c"), ("-l", "a", "-a")]
    for arguments in wrong:
        r = programs.prepare(command, *arguments)
        assert r.returncode == 2 and r.stdout == "" and r.stderr.count("\n") == 1, (arguments, r)


@pytest.mark.parametrize("name", ["cloud-6.1", "cloud-6.12"])
def test_kallsyms_of_stock_kernels(programs, fetch_kernel, name):
    """The kernel's own kallsyms name its entry, sections' ends and a function; from the file or prepared."""
    kernel = fetch_kernel(name)
    told = json.loads(programs.prepare("inspect", "--json", kernel).stdout)
    lay = layout(programs.directory, image_bytes=told["image_bytes"], link_virtual=told["link_virtual"],
                 kernel={"content_digest": told["content_digest"]})
    r = programs.prepare("symbolize", "-l", lay, "-k", kernel, "-a", *(hex(RUNNING + at) for at in range(
        0, told["image_bytes"], 1 << 12)))
    assert r.returncode == 0, r.stderr
    lines = r.stdout.splitlines()
    assert len(lines) == told["image_bytes"] >> 12
    assert re.fullmatch(r"ffffffff81000000 \[(startup_64|_stext|_text)\+0x0/0x[0-9a-f]+\]", lines[0])
    assert all(re.fullmatch(r"ffffffff8[0-9a-f]{7} \[\S+\+0x[0-9a-f]+/0x[0-9a-f]+\]", line) for line in lines)
    names = {line.split("[")[1].split("+")[0] for line in lines}
    assert len(names) > 1500 and names & {"vfs_read", "do_sys_poll", "ext4_fill_super", "tcp_sendmsg_locked", "bpf_check"}
    assert programs.prepare("prepare", kernel, "-o", "prepared").returncode == 0
    again = programs.prepare("symbolize", "-l", lay, "-k", "prepared", "-a", hex(RUNNING + 0x123456))
    assert again.returncode == 0 and again.stdout.split()[0] == "ffffffff81123456"
    other = layout(programs.directory, "other", image_bytes=told["image_bytes"], link_virtual=told["link_virtual"],
                   kernel={"content_digest": "00" * 32})
    failed(programs.prepare("symbolize", "-l", other, "-k", kernel, "-a", hex(RUNNING)), "content_digest")


def test_real_guest(programs, fetch_kernel, guest_initrd, tmp_path):
    """A guest prints the address of its _text, which the layout of that run maps back to _text."""
    kernel = fetch_kernel("cloud-6.1")
    guest = Guest(kernel)
    run_guests({"guest": guest}, guest_initrd, tmp_path / "boot")
    assert guest.reached, guest.everything()
    r = programs.prepare("symbolize", "--layout", tmp_path / "boot" / "guest.layout", "--kernel", kernel,
                         tmp_path / "boot" / "guest.out")
    assert r.returncode == 0, r.stderr
    assert re.search(r"guest: _text=(0x)?ffffffff81000000 \[(startup_64|_stext|_text)\+0x0/", r.stdout), r.stdout[-3000:]


# ---- gdb-script


def gdb(script, *commands):
    arguments = ["gdb", "-nx", "-batch", "-x", str(script)]
    for command in commands:
        arguments += ["-ex", command]
    r = subprocess.run(arguments, capture_output=True, text=True, timeout=300, check=False)
    return r.stdout, r.stderr


@pytest.mark.skipif(not shutil.which("gdb"), reason="no gdb (Debian package gdb)")
def test_gdb_script(programs, vmlinux):
    _, symbols = symbols_of(vmlinux)
    r = programs.prepare("gdb-script", "--layout", layout(programs.directory), "--vmlinux", vmlinux)
    assert r.returncode == 0, r.stderr
    script = programs.directory / "guest.gdb"
    script.write_text(r.stdout)
    at = int(running(symbols["first"]), 16)
    out, err = gdb(script, f"info symbol {at + 1:#x}", "print &some_data", "print &percpu_counter",
                   f"info line *{at:#x}", f"riffle-physical {at:#x}", "print/x $riffle_virtual_delta")
    assert "warning" not in err.lower() and "error" not in err.lower(), err
    assert re.search(r"^first \+ 1 in section \.text", out, re.M), out
    assert f"{running(symbols['some_data'])} <some_data>" in out, out
    assert re.search(r"\(long \*\) 0x0\b", out), out       # an offset into each processor's area, moved by no layout
    assert re.search(r'^Line 4 of "small.c"', out, re.M), out
    assert re.search(rf"^{at - RUNNING + PHYSICAL:#x}$", out, re.M), out
    assert f"= {RUNNING - LINK_VIRTUAL:#x}" in out, out
    # not randomised: the same at link addresses
    r = programs.prepare("gdb-script", "-l", layout(programs.directory, "off", mode="off",
                                                    virtual_base=hex(LINK_VIRTUAL)), "-v", vmlinux)
    script.write_text(r.stdout)
    out, err = gdb(script, f"info symbol {symbols['second']:#x}")
    assert "second in section .text" in out, out + err


def read_map(path):
    return [(int(address, 16), kind, name) for address, kind, name in map(str.split, path.read_text().splitlines())]


@pytest.mark.skipif(not shutil.which("gdb"), reason="no gdb (Debian package gdb)")
def test_gdb_of_a_shuffled_guest(programs, vmlinux):
    _, symbols = symbols_of(vmlinux)
    lay, place = shuffled(programs.directory, symbols)
    r = programs.prepare("gdb-script", "-l", lay, "-v", vmlinux, "--symbols", "guest symbols.elf")
    assert (r.returncode, r.stderr) == (0, "")
    written = programs.directory / "guest symbols.elf"
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    script = programs.directory / "guest.gdb"
    script.write_text(r.stdout)
    asked = [f"info symbol {at:#x}" for at in place.values()] + [f"info address {name}" for name in place]
    out, err = gdb(script, *asked, "print &some_data", "print &percpu_counter", "break second", "info breakpoints")
    assert "warning" not in err.lower() and "error" not in err.lower(), err
    for name, at in place.items():
        assert re.search(rf"^{name} in section \.text", out, re.M), out
        assert re.search(rf'^Symbol "{name}" is at {at:#x} in a file', out, re.M), out
    assert f"{running(symbols['some_data'])} <some_data>" in out, out
    assert re.search(r"0x0 <percpu_counter>|\) 0x0\b", out), out
    assert re.search(rf"breakpoint +keep y +0x{place['second']:016x} <second", out), out
    # types and data from the vmlinux beside them
    out, err = gdb(script, "riffle-types", "ptype first", "print &some_data", *asked[:3])
    assert "type = long (long)" in out and f"(long *) 0x{running(symbols['some_data'])} <some_data>" in out, out + err
    for name in place:
        assert re.search(rf"^{name} in section \.text", out, re.M), out
    # readers that are stricter than gdb
    r = subprocess.run(["readelf", "-WSs", written], capture_output=True, text=True, check=True)
    assert r.stderr == "" and re.search(rf"{place['second']:x} .* second$", r.stdout, re.M), r


def test_system_map_of_a_guest(programs, vmlinux):
    _, symbols = symbols_of(vmlinux)
    linked = {(a, k, n) for a, k, n in map(str.split, symbols_of(vmlinux)[0].splitlines())}
    # nothing moved: what nm says
    lay = layout(programs.directory, mode="off", virtual_base=hex(LINK_VIRTUAL))
    r = programs.prepare("gdb-script", "-l", lay, "-v", vmlinux, "-m", "plain.map")
    assert r.returncode == 0 and "add-symbol-file" in r.stdout, r.stderr
    assert {(f"{a:016x}", k, n) for a, k, n in read_map(programs.directory / "plain.map")} == linked
    # shuffled
    lay, place = shuffled(programs.directory, symbols)
    r = programs.prepare("gdb-script", "-l", lay, "-v", vmlinux, "--system-map", "map")
    assert (r.returncode, r.stdout, r.stderr) == (0, "", "")
    path = programs.directory / "map"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    told = read_map(path)
    assert [a for a, _, _ in told] == sorted(a for a, _, _ in told)
    assert sorted((k, n) for _, k, n in told) == sorted((k, n) for _, k, n in linked)
    wanted = {n: place.get(n, a if a < 1 << 32 else a - LINK_VIRTUAL + RUNNING) for n, a in symbols.items()}
    assert {n: a for a, _, n in told} == wanted
    # and both at once, for a guest that was not shuffled either
    r = programs.prepare("gdb-script", "-l", layout(programs.directory), "-v", vmlinux, "-m", "map2", "-s", "elf2")
    assert r.returncode == 0 and "/elf2\" -o 0x0" in r.stdout and len(read_map(programs.directory / "map2")) == len(told)


def test_files_of_a_guest_are_new(programs, vmlinux):
    """Never overwrites a file or follows a link; if one output fails, the other is removed."""
    _, symbols = symbols_of(vmlinux)
    directory = programs.directory
    lay, _ = shuffled(directory, symbols)
    failed(programs.prepare("gdb-script", "-l", lay, "-v", vmlinux), "--symbols")
    (directory / "there").write_text("mine")
    (directory / "link").symlink_to("nowhere")
    for name in ("there", "link", "none/x", ".", "/"):
        failed(programs.prepare("gdb-script", "-l", lay, "-v", vmlinux, "-m", name), "")
        failed(programs.prepare("gdb-script", "-l", lay, "-v", vmlinux, "-s", name), "")
        failed(programs.prepare("gdb-script", "-l", lay, "-v", vmlinux, "-s", "new", "-m", name), "")
        assert not (directory / "new").exists()
    assert (directory / "there").read_text() == "mine" and not (directory / "nowhere").exists()
    failed(programs.prepare("gdb-script", "-l", lay, "-v", vmlinux, "-s", "two\nlines"), "line feed")
    failed(programs.prepare("gdb-script", "-l", lay, "-v", vmlinux, "-s", "x" * 5000), "too long")
    whole = vmlinux.read_bytes()
    for end in range(0, len(whole), len(whole) // 47):
        (directory / "cut").write_bytes(whole[:end])
        failed(programs.prepare("gdb-script", "-l", lay, "-v", "cut", "-s", "new", "-m", "new.map"), "cut: ")
    assert not list(directory.glob("new*"))
    # the error is about the file that is wrong, and a script that was not printed leaves no files behind
    r = programs.prepare("gdb-script", "-l", lay, "-v", vmlinux, "-s", "none/x")
    assert (r.returncode, r.stderr) == (1, "riffle: none/x: path: cannot be found: No such file or directory\n")
    with open("/dev/full", "w", encoding="ascii") as full:
        r = subprocess.run([PREPARE, "gdb-script", "-l", lay, "-v", vmlinux, "-s", "new", "-m", "new.map"], stdout=full,
                           cwd=directory, env=programs.environment, stderr=subprocess.PIPE, text=True, check=False)
    assert r.returncode == 1 and "No space left" in r.stderr and not list(directory.glob("new*"))


def test_gdb_script_hides_nothing_in_comments(programs, vmlinux):
    """A line feed in the layout's version must not inject a gdb command."""
    r = programs.prepare("gdb-script", "-l", layout(programs.directory), "-v", vmlinux)
    assert "print 1" not in r.stdout.splitlines()
    assert "# Kernel: 6.1.0 small?print 1" in r.stdout.splitlines()
    link = programs.directory / "two\nlines"
    shutil.copy(vmlinux, link)
    r = programs.prepare("gdb-script", "-l", layout(programs.directory), "-v", link)
    assert r.returncode == 1 and r.stdout == "" and "line feed" in r.stderr


def test_gdb_script_wrong_files(programs, vmlinux):
    lay = layout(programs.directory)
    stripped = programs.directory / "stripped"
    subprocess.run(["strip", "-o", stripped, vmlinux], check=True)
    failed(programs.prepare("gdb-script", "-l", lay, "-v", stripped), "stripped")
    failed(programs.prepare("gdb-script", "-l", lay, "-v", "none"), "none")
    failed(programs.prepare("gdb-script", "-l", "none", "-v", vmlinux), "none")
    other = {"build_id": "ff"}
    failed(programs.prepare("gdb-script", "-l", layout(programs.directory, "other", kernel=other), "-v", vmlinux),
           "build id")
