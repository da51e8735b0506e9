# SPDX-License-Identifier: Apache-2.0
"""Nothing reveals the layout: not what a guest's users can read, nor riffle's output, files and process."""
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import time

import pytest
from conftest import BUILD, RIFFLE
from guests import LONG, Guest, in_box
from small_kernels import Kernel

LEAK = BUILD / "tests" / "e2e" / "leak"
NOBODY = 65534
FOREVER = b"\xf4\xeb\xfd"     # hlt; jmp -3: with interrupts off, a guest that waits forever

needs_kvm = pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm cannot be opened")


# ---- the guest's memory


@pytest.mark.parametrize("kernel, memory, cpus", [("cloud-6.1", 256, 1), ("cloud-6.12", 5120, 4)])
def test_memory_beside_the_kernel_is_the_same(programs, forms, kernel, memory, cpus):
    """Zero page, e820, page tables, GDT, setup_data, ACPI and MP tables of 50 layouts, byte for byte."""
    r = programs.run(LEAK, forms.prepared(kernel), 50, memory, cpus)
    assert r.returncode == 0, r.stderr
    elsewhere, pages = map(int, re.match(r"50 layouts, (\d+) elsewhere than the first, (\d+) pages", r.stdout).groups())
    assert elsewhere > 40
    # compared in both directions; at least GDT and zero page, tables, command line, seed, MP table, ACPI
    assert pages >= 50 * 2 * 8


def test_one_bit_of_the_layout_in_the_zero_page_is_noticed(programs, forms):
    r = programs.run(LEAK, "--spoil", forms.prepared("cloud-6.1"), 20, 128, 1)
    assert r.returncode == 3
    assert set(r.stderr.splitlines()) == {"leak: byte 0x7fff of memory depends on the layout"}


# ---- what Linux reveals


def twins(forms):
    """Two boots of the same machine, and two more, at unrelated layouts."""
    def guest(kernel, seed):
        return Guest(forms.prepared(kernel), ("--seed", seed), do="sysfs,poweroff")

    return {f"{kernel}-{seed}": guest(kernel, seed) for kernel in ("cloud-6.1", "cloud-6.12") for seed in "12"}


def dump(guest):
    """The files that init printed: size, checksum and content of each."""
    found = re.findall(r"^guest: FILE (\S+) mode=0\d+ (size=\d+ crc32=[0-9a-f]{8} [0-9a-f]*)$", guest.out, re.M)
    assert guest.code == 0 and found, guest.everything()
    return dict(found)


@pytest.mark.parametrize("kernel", ["cloud-6.1", "cloud-6.12"])
def test_sysfs_of_two_layouts_is_the_same(boots, kernel):
    guests = [boots.guest(twins, f"{kernel}-{seed}") for seed in "12"]
    for which in ("virtual_base", "physical_base"):
        assert guests[0].base(which) != guests[1].base(which)
    dumps = [dump(g) for g in guests]
    for d in dumps:
        # root sees addresses there, others zeros; and the address of the kernel's vmcoreinfo note
        assert d.pop("/proc/iomem") and d.pop("/sys/kernel/vmcoreinfo")
    assert dumps[0] == dumps[1]

    content = {name: bytes.fromhex(text.partition("crc32=")[2][9:]) for name, text in dumps[0].items()}
    assert {"/proc/cmdline", "/sys/kernel/notes", "/sys/kernel/boot_params/version"} <= content.keys()
    assert {f"/sys/firmware/acpi/tables/{table}" for table in ("APIC", "DSDT", "FACP")} <= content.keys()
    assert sum(f.startswith("/sys/firmware/memmap/") for f in content) >= 9
    # RNG_SEED, which the kernel wipes after use
    assert content["/sys/kernel/boot_params/setup_data/0/type"] == b"0x9\n"
    assert content["/sys/kernel/boot_params/setup_data/0/data"] == b""
    zero_page = content["/sys/kernel/boot_params/data"]
    assert len(zero_page) == 4096 and zero_page[0x202:0x206] == b"HdrS"
    assert zero_page[0x211] & 2     # KASLR_FLAG


# what a user of a guest reads of the kernel's symbols: names alone, but in the order of their addresses
USER = r"""
wc -l </proc/kallsyms
mkdir /again && mount -t proc again /again
for file in /proc/kallsyms /again/kallsyms; do su -s /bin/sh nobody -c "head -n 1 $file"; done
chmod 444 /proc/kallsyms
su -s /bin/sh nobody -c "head -n 1 /proc/kallsyms"
"""


@pytest.fixture(scope="module")
def order(forms, tmp_path_factory):
    """What root and nobody read in a guest whose command riffle's init started, and in one without the file."""
    busybox = shutil.which("busybox")
    if not busybox:
        pytest.skip("no busybox")
    where = tmp_path_factory.mktemp("order")
    (where / "root" / "bin").mkdir(parents=True)
    (where / "root" / "etc").mkdir()
    (where / "root" / "etc" / "passwd").write_text(f"root:x:0:0::/:/bin/sh\nnobody:x:{NOBODY}:{NOBODY}::/:/bin/sh\n")
    (where / "root" / "user").write_text(USER)
    shutil.copy(busybox, where / "root" / "bin")
    for name in ("sh", "wc", "head", "su", "mkdir", "mount", "chmod"):
        (where / "root" / "bin" / name).symlink_to("busybox")
    kernels = [forms.prepared(name) for name in ("cloud-6.1", "cloud-6.12")]
    guests = [(kernel, option) for kernel in kernels for option in ([], ["-a", "initcall_blacklist=kallsyms_init"])]
    script = "".join(shlex.join(["timeout", "200", str(RIFFLE), "run", *option, "--root", str(where / "root"), str(kernel), "--",
                                 "sh", "/user"]) + " 2>&1; echo end $?\n" for kernel, option in guests)
    r = in_box(["sh", "-c", script], timeout=210 * len(guests) + 300)
    told = re.split(r"^end \d+\n", r.stdout.decode(errors="replace"), flags=re.M)
    assert len(told) == len(guests) + 1, (told, r.stderr.decode(errors="replace"))
    return told[:-1]


def test_order_of_functions_is_not_for_users(order):
    """By any mount of proc. The sizes of functions are in the kernel's file, so their order is where each lies."""
    for told in order[0::2]:
        assert "randomize=fgkaslr" in told and int(re.search(r"^(\d+)$", told, re.M)[1]) > 80_000, told
        for file in ("/proc/kallsyms", "/again/kallsyms"):
            assert f"head: {file}: Permission denied" in told, told
        # unless root wants it otherwise
        assert len(re.findall("^0000000000000000 ", told, re.M)) == 1, told


def test_guest_without_the_symbols_file(order):
    """With the words that randomisation.md gives, nobody has it, not even root."""
    for told in order[1::2]:
        assert "randomize=fgkaslr" in told, told
        for file in ("/proc/kallsyms", "/again/kallsyms"):
            assert f"head: {file}: No such file" in told, told


# Files and directories that differ between two boots of one layout are left out; how many of the others there are at least.
READABLE = 3500
# What the program itself has read; limits by the memory that is free, which differ a little between boots, and of which
# test_slides.py compares some; a page that the kernel allocates, which may tell its physical base (docs/randomisation.md).
BY_CHANCE = {"READ /proc/self//io", "READ /proc/sys/fs/file-max", "READ /proc/sys/fs/file-nr",
             "READ /proc/sys/vm/user_reserve_kbytes", "READ /sys/kernel/vmcoreinfo"}


@pytest.mark.skipif(not LONG, reason="one of the long tests: RIFFLE_LONG is not set")
@pytest.mark.parametrize("kernel", ["cloud-6.1", "cloud-6.12"])
def test_nothing_that_users_can_read_depends_on_the_layout(forms, tmp_path, kernel):
    """Values, and the order of lines and of names: all of /proc and /sys, in two boots of each of two layouts."""
    (tmp_path / "root").mkdir()
    shutil.copy(BUILD / "tests" / "e2e" / "readable", tmp_path / "root")
    script = "".join(shlex.join(["timeout", "400", str(RIFFLE), "run", "-m", "512M", "--seed", seed, "--root", str(tmp_path / "root"),
                                 str(forms.prepared(kernel)), "--", "/readable"]) + " 2>&1; echo end $?\n" for seed in "1122")
    r = in_box(["sh", "-c", script], timeout=2000)
    *boots, rest = re.split(r"^end 0\n", r.stdout.decode(errors="replace"), flags=re.M)
    assert len(boots) == 4 and not rest, (rest, r.stderr)
    dumps = [{name: content for name, content in re.findall(r"^(.*READ \S+) (\d+ [0-9a-f]{16})$", told, re.M)} for told in boots]

    names = set(dumps[0]).intersection(*dumps[1:])
    steady = {n for n in names if dumps[0][n] == dumps[1][n] and dumps[2][n] == dumps[3][n]}
    steady -= BY_CHANCE
    assert len(steady) > READABLE, len(steady)
    # what root reads shows that a difference would be seen
    assert {n for n in steady if dumps[0][n] != dumps[2][n]} == {"as root: READ /proc/kallsyms"}
    assert "READ /proc/kallsyms" not in names and {"READ /proc/modules", "READ /proc/self//stat"} <= names


# ---- what riffle prints


def words_of(layout):
    """How a layout could appear in text: in hex or decimal, whole or as an offset."""
    virtual, physical = int(layout["virtual_base"], 16), int(layout["physical_base"], 16)
    offset = virtual - int(layout["link_virtual"], 16)
    numbers = [virtual, virtual & 0xFFFFFFFF, virtual - (1 << 64), physical, physical + layout["image_bytes"],
               virtual + layout["image_bytes"]]
    for start, slide in layout.get("slides", []):
        if slide:
            numbers += [virtual + start + slide, virtual + start + slide - (1 << 64), physical + start + slide]
    if offset >= 1 << 24:   # a small one could be there by chance
        numbers.append(offset)
    return {f"{n:x}" for n in numbers} | {f"{n}" for n in numbers}


def silent(text, layout):
    text = text.lower()
    for word in words_of(layout):
        assert word not in text, (word, text)


def test_words_of():
    """Tests the search itself."""
    layout = {"virtual_base": "0xffffffffa1200000", "physical_base": "0x8a00000", "link_virtual": "0xffffffff81000000",
              "image_bytes": 0x2E00000}
    slid = {**layout, "slides": [[0, 0], [0x1000000, 0x630000]]}
    for line in ("at 0xFFFFFFFFA1200000", "offset 0x20200000", "base 144703488", "end 0xb800000"):
        with pytest.raises(AssertionError):
            silent(line, layout)
    for line in ("data at 0xffffffffa2830000", "at 0xa030000"):
        silent(line, layout)
        with pytest.raises(AssertionError):
            silent(line, slid)
    silent("randomize=kaslr: virtual one of 482 slots (8.9 bits), physical one of 97 (6.6 bits)", layout)


def small(directory, code=None, name="kernel"):
    kernel = Kernel()
    if code:
        kernel.text[:len(code)] = code
    (directory / name).write_bytes(kernel.appended())
    return directory / name


@needs_kvm
def test_no_layout_in_what_riffle_says(programs):
    # resets; ends by a triple fault, or where KVM only emulates perhaps by KVM's own error
    for name, code, codes in (("reset", None, {3}), ("fault", b"\x0f\x0b", {1, 4}),
                              ("cmpxchg", b"\xf0\x48\x0f\xc7\x0f", {1, 4})):
        kernel = small(programs.directory, code, name)
        for i in range(5):
            r = programs.riffle("run", "--accept-emulation", "--boot-timer", "--layout-out", f"{name}-{i}", kernel)
            assert r.returncode in codes, r.stderr
            silent(r.stdout + r.stderr, json.loads((programs.directory / f"{name}-{i}").read_text()))


def test_no_layout_in_what_riffle_says_of_linux(boots):
    for name in ("cloud-6.1-1", "cloud-6.12-2"):
        guest = boots.guest(twins, name)
        silent(guest.err, guest.told)


# ---- the layout file


@needs_kvm
def test_layout_file(programs):
    kernel = small(programs.directory)
    old = os.umask(0)
    try:
        r = programs.riffle("run", "--accept-emulation", "--layout-out", "layout", kernel)
    finally:
        os.umask(old)
    assert r.returncode == 3, r.stderr
    path = programs.directory / "layout"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    layout = json.loads(path.read_text())
    assert layout["riffle_layout"] == 1 and layout["mode"] == "kaslr"
    assert int(layout["link_virtual"], 16) == 0xFFFFFFFF81000000 and int(layout["link_physical"], 16) == 16 << 20
    # it is what --layout takes, and gives the same again
    r = programs.riffle("run", "--accept-emulation", "--layout", "layout", "--layout-out", "again", kernel)
    assert r.returncode == 3, r.stderr
    assert json.loads((programs.directory / "again").read_text()) == layout
    assert "replayed from --layout: predictable" in r.stderr


@needs_kvm
@pytest.mark.parametrize("what", ["file", "empty", "directory", "link", "dangling", "fifo", "nowhere", "device"])
def test_layout_file_is_never_written_over_or_through(programs, what):
    kernel = small(programs.directory)
    path, other = programs.directory / "layout", programs.directory / "other"
    if what in ("file", "empty"):
        path.write_text("precious" if what == "file" else "")
    elif what == "directory":
        path.mkdir()
    elif what in ("link", "dangling"):
        path.symlink_to(other)
        if what == "link":
            other.write_text("precious")
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "nowhere":
        path = path / "layout"
    else:
        path = "/dev/null"
    r = programs.riffle("run", "--accept-emulation", "--layout-out", path, kernel, timeout=300)
    assert (r.returncode, r.stdout) == (1, "")
    assert re.search(rf"^riffle: {re.escape(str(path))}: layout file: cannot be created: [A-Z][a-z ]+$", r.stderr, re.M)
    if what == "file":
        assert path.read_text() == "precious"
    elif what == "empty":
        assert path.read_text() == ""
    elif what == "link":
        assert other.read_text() == "precious" and path.is_symlink()
    elif what == "dangling":
        assert not other.exists() and path.is_symlink()


def but(**changes):
    """A layout file with some members changed."""
    def make(layout):
        return json.dumps({**layout, **changes})
    return make


MIB = 1 << 20
WRONG_LAYOUTS = {
    "empty": (lambda _: "", "layout file"),
    "not JSON": (lambda _: "{", "layout file"),
    "a list": (lambda _: "[]", "riffle_layout"),
    "later version": (but(riffle_layout=2), "riffle_layout"),
    "unknown mode": (but(mode="best"), "mode"),
    "base as a number": (but(physical_base=32 * MIB), "physical_base"),
    "no hex": (but(virtual_base="0xffffffffg"), "virtual_base"),
    "65 bits": (but(virtual_base="0x1ffffffff81000000"), "virtual_base"),
    "another kernel's": (but(kernel={"content_digest": "00" * 32}), "content_digest"),
    "not aligned": (but(physical_base=hex(32 * MIB + 4096)), "physical_base"),
    "below the floor": (but(physical_base=hex(14 * MIB)), "physical_base"),
    "behind memory": (but(physical_base=hex(256 * MIB)), "physical_base"),
    "wraps": (but(physical_base=hex((1 << 64) - 2 * MIB)), "physical_base"),
    "virtual not aligned": (but(virtual_base="0xffffffff81001000"), "virtual_base"),
    "in the modules": (but(virtual_base="0xffffffffc0000000"), "virtual_base"),
    "below the window": (but(virtual_base="0xffffffff80e00000"), "virtual_base"),
    "off, yet moved": (but(mode="off", virtual_base="0xffffffff81000000", physical_base=hex(32 * MIB)),
                       "physical_base"),
    "physical, yet virtual": (but(mode="physical", virtual_base="0xffffffff81200000"), "virtual_base"),
}


@needs_kvm
@pytest.mark.parametrize("name", WRONG_LAYOUTS)
def test_wrong_layouts_are_refused(programs, name):
    kernel = small(programs.directory)
    assert programs.riffle("run", "--accept-emulation", "--layout-out", "layout", kernel).returncode == 3
    make, field = WRONG_LAYOUTS[name]
    (programs.directory / "wrong").write_text(make(json.loads((programs.directory / "layout").read_text())))
    r = programs.riffle("run", "--accept-emulation", "--layout", "wrong", kernel)
    assert (r.returncode, r.stdout) == (1, ""), r.stderr
    assert re.fullmatch(rf"riffle: wrong: [^\n]*{field}[^\n]*\n", r.stderr), r.stderr


# ---- the process


def owner(pid):
    """Owner of the files in /proc/PID: root for an undumpable process, whoever runs it."""
    return os.stat(f"/proc/{pid}/fd").st_uid


@pytest.fixture
def as_nobody():
    """Prefix of a command to run it as nobody with access to /dev/kvm; empty unless the tests run as root."""
    if os.geteuid() != 0:
        return []
    if not shutil.which("setpriv"):
        pytest.skip("no setpriv")
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=+dac_override",
            "--ambient-caps=+dac_override", "--bounding-set=-all,+dac_override"]


def until(what):
    end = time.monotonic() + 20
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


@needs_kvm
def test_process_cannot_be_looked_into(programs, as_nobody):
    """No core file, no ptrace, no /proc/PID/mem for another process of the same user."""
    kernel = small(programs.directory, FOREVER)
    prepared = programs.directory / "prepared"
    assert programs.prepare("prepare", kernel, "-o", prepared).returncode == 0
    command = [*as_nobody, RIFFLE, "run", "--accept-emulation", "--boot-timer", prepared]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as riffle, \
            subprocess.Popen([*as_nobody, "sleep", "60"]) as other:
        try:
            for line in riffle.stderr:
                if "start to first guest instruction" in line:
                    break
            else:
                pytest.fail(f"riffle ended: {riffle.wait()}")
            me = NOBODY if as_nobody else os.geteuid()
            until(lambda: owner(other.pid) == me)   # the check itself
            assert owner(riffle.pid) == 0
            if as_nobody:
                plain = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
                for name in ("maps", "mem", "environ"):
                    look = subprocess.run([*plain, "head", "-c1", f"/proc/{riffle.pid}/{name}"], capture_output=True,
                                          text=True, check=False)
                    assert look.stdout == "" and "Permission denied" in look.stderr, name
        finally:
            riffle.terminate()
            other.terminate()
        assert riffle.wait(20) == 143
