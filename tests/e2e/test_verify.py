# SPDX-License-Identifier: Apache-2.0
"""riffle verify: loads of stock kernels are checked to the byte by an independent path, and errors are detected."""
import json
import re

import pytest
from guests import LONG
from small_kernels import Kernel

ALL_RIGHT = re.compile(r"layout \d+: (\S+), .*, seed (\w+): (\d+) chunks moved, (\d+) bytes compared, "
                       r"(\d+) unwind states looked up, all right")
KERNELS = ["cloud-6.1", "cloud-6.12"] + (["generic-6.1", "generic-6.12"] if LONG else [])
LAYOUTS = 50 if LONG else 5
# where no layout changes anything: trampolines and boot-time functions stay where they are
UNCHANGED = {".static_call_tramp_key", "console-initcalls", "initcalls"}


def verify(programs, *arguments, code=0):
    r = programs.riffle("verify", *arguments, timeout=600)
    assert (r.returncode, r.stderr) == (code, ""), (r.returncode, r.stdout[-3000:], r.stderr)
    return r.stdout.splitlines()


def all_right(lines, mode="fgkaslr"):
    found = [m for m in map(ALL_RIGHT.fullmatch, lines) if m]
    for m in found:
        assert m[1] == mode and int(m[4]) > 40 << 20 and int(m[5]) > 5_000_000
        assert int(m[3]) > 35_000 if mode == "fgkaslr" else m[3] == "0"
    return found


def test_help(programs):
    assert "--spoil" in "\n".join(verify(programs, "--help"))


@pytest.mark.parametrize("arguments", [(), ("a", "b"), ("--count", "0", "a"), ("--seed", "xyz", "a"),
                                       ("--randomize", "much", "a"), ("--layout", "l", "--seed", "1", "a"), ("--no",)])
def test_wrong_usage(programs, arguments):
    r = programs.riffle("verify", *arguments)
    assert (r.returncode, r.stdout, r.stderr.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("kernel", KERNELS)
def test_bzimage_alone(programs, forms, fetch_kernel, kernel):
    """The plan made from the bzImage, several layouts, and KASLR without a shuffle."""
    source, prepared = fetch_kernel(kernel), forms.prepared(kernel)
    lines = verify(programs, "--prepared", prepared, "--count", LAYOUTS, source)
    found = all_right(lines)
    assert len(found) == len(lines) == LAYOUTS
    assert len({m[2] for m in found}) == LAYOUTS
    lines = verify(programs, "--prepared", prepared, "--randomize", "kaslr", source)
    assert len(all_right(lines, "kaslr")) == len(lines) == 1
    for mode in ("kaslr", "fgkaslr"):
        lines = verify(programs, "--prepared", prepared, "--randomize", f"{mode}+slide", source)
        assert len(all_right([line.replace("+slide", "") for line in lines], mode)) == len(lines) == 1
        assert f": {mode}+slide, " in lines[0]


@pytest.mark.parametrize("kernel, distances", [("cloud-6.1", 400_000), ("cloud-6.12", 100)])
def test_with_debug_vmlinux(programs, forms, fetch_kernel, kernel, distances):
    """The same plan, checked against the linker's relocations if the debug vmlinux kept them (6.12: a few)."""
    lines = verify(programs, "--prepared", forms.prepared(kernel), "--debug-vmlinux", fetch_kernel(f"{kernel}-dbg"),
                   "--count", 2, fetch_kernel(kernel))
    assert len(all_right(lines)) == 2
    told = re.fullmatch(r"rela: (\d+) distances, (\d+) agree .*, (\d+) lead elsewhere, (\d+) are known to .rela alone, "
                        r"(\d+) of these lead to code", lines[0])
    total, agree, elsewhere, unseen, unseen_code = map(int, told.groups())
    assert total >= distances and agree + elsewhere + unseen == total
    # what .rela alone knows are distances between data: no layout changes them
    assert (elsewhere, unseen_code) == (0, 0)


# what any kernel must have that is to be believed; what Debian's have besides
PARTS = {"kallsyms-offsets", "kallsyms-names", "kallsyms-markers", "kallsyms-seqs", "__ex_table", ".orc_unwind_ip",
         ".orc_unwind", "__jump_table", "code", "absolute32", "absolute64", "kallsyms-mode"}


def spoiled_parts(lines, unchanged=frozenset(UNCHANGED)):
    """The names of the parts (--list --spoil all), after checking that corrupting each is detected."""
    parts = {m[1]: int(m[2]) for m in (re.fullmatch(r"(\S+) +(\d+)", line) for line in lines) if m}
    assert PARTS <= parts.keys() and all(parts.values())
    spoiled, now = {}, None
    for line in lines:
        if " spoiled: " in line:
            now = line.split(" spoiled: ")[0]
            spoiled[now] = [line.split(" spoiled: ")[1]]
        elif now:
            spoiled[now].append(line)
    assert spoiled.keys() == parts.keys()
    for part, (verdict, *differences) in spoiled.items():
        if verdict == "nothing in it depends on this layout":
            assert part in unchanged
            continue
        assert re.search(r"[1-9]\d* differences?$", verdict), (part, verdict)
        # the first of them is told to be in that part
        assert f" {part}: loaded " in differences[0], (part, differences[0])
    return set(parts)


@pytest.mark.parametrize("kernel", KERNELS[:2])
def test_each_spoiled_part_is_noticed(programs, forms, fetch_kernel, kernel):
    common = ("--prepared", forms.prepared(kernel), "--seed", "5901", "--list", "--spoil", "all", fetch_kernel(kernel))
    parts = spoiled_parts(verify(programs, *common, code=3))
    assert len(parts) >= 23 and "__mcount_loc" in parts


@pytest.mark.parametrize("kernel", KERNELS[:1 + LONG])
def test_each_part_that_did_not_slide_is_noticed(programs, forms, fetch_kernel, kernel):
    """With bases and slides alone: each table is left without what slides do to it. Order and names stay as they are."""
    common = ("--prepared", forms.prepared(kernel), "--seed", "5901", "--list", "--spoil", "all", "--randomize", "kaslr+slide",
              fetch_kernel(kernel))
    unchanged = {"kallsyms-names", "kallsyms-markers", "kallsyms-seqs", ".orc_unwind", "kallsyms-mode"}
    assert len(spoiled_parts(verify(programs, *common, code=3), unchanged)) >= 23


@pytest.mark.skipif(not LONG, reason="one of the long tests: RIFFLE_LONG is not set")
@pytest.mark.parametrize("kernel", ["cloud-6.1", "generic-6.1"])
def test_slides_agree_with_the_linkers_relocations(programs, forms, fetch_kernel, kernel):
    """Distances from data to data included, which only slides change: .rela knows tens of thousands."""
    for mode in ("kaslr+slide", "fgkaslr+slide"):
        lines = verify(programs, "--prepared", forms.prepared(kernel), "--randomize", mode, "--debug-vmlinux",
                       fetch_kernel(f"{kernel}-dbg"), fetch_kernel(kernel))
        assert int(re.search(r"(\d+) are known to .rela alone", lines[0])[1]) > 10_000 and lines[1].endswith(", all right")


def test_spoiling_one_reference_is_one_difference(programs, forms, fetch_kernel):
    for part in ("code", "absolute32", "absolute64", "inverse32"):
        lines = verify(programs, "--prepared", forms.prepared("cloud-6.1"), "--spoil", part, fetch_kernel("cloud-6.1"),
                       code=3)
        assert lines[1].startswith(f"{part} spoiled: ") and lines[1].endswith(", 1 difference") and len(lines) == 3
    r = programs.riffle("verify", "--prepared", forms.prepared("cloud-6.1"), "--spoil", "nothing",
                        fetch_kernel("cloud-6.1"))
    assert r.returncode == 1 and "--spoil: names no part of this kernel" in r.stderr


def test_a_changed_byte_of_the_prepared_kernel_is_noticed(programs, forms, fetch_kernel):
    """Anywhere in the bytes to load; the plan has a checksum."""
    bad = bytearray(forms.prepared("cloud-6.1").read_bytes())
    payload = int.from_bytes(bad[64:72], "little")  # include/riffle/format.h
    bad[payload + 0x123456] ^= 0x40
    path = programs.directory / "bad.riffle"
    path.write_bytes(bad)
    path.chmod(0o600)
    lines = verify(programs, "--prepared", path, fetch_kernel("cloud-6.1"), code=3)
    assert len(lines) == 2 and lines[0].endswith(", 1 difference") and "linked at 0xffffffff81123456: .text, " in lines[1]


def test_errors_about_a_layout_name_it(programs):
    (programs.directory / "kernel").write_bytes(Kernel().bzimage())
    (programs.directory / "rubbish").write_bytes(b"no layout")
    r = programs.prepare("verify", "-l", "rubbish", "kernel")
    assert r.returncode == 1 and r.stderr.startswith("riffle: rubbish: layout file: ") and r.stderr.count("\n") == 1


def test_layout_of_a_run(programs, forms, fetch_kernel):
    """A layout file is replayed; one of another kernel is refused."""
    out = programs.directory / "layout"
    r = programs.riffle("inspect", "--json", forms.prepared("cloud-6.1"))
    told = json.loads(r.stdout)
    layout = {"riffle_layout": 1, "mode": "kaslr", "physical_base": hex(64 << 20),
              "virtual_base": hex(0xFFFFFFFF81000000 + (402 << 20)), "link_physical": told["link_physical"],
              "link_virtual": told["link_virtual"], "image_bytes": told["image_bytes"],
              "kernel": {"content_digest": told["content_digest"]}}
    out.write_text(json.dumps(layout))
    lines = verify(programs, "--prepared", forms.prepared("cloud-6.1"), "--layout", out, fetch_kernel("cloud-6.1"))
    assert len(lines) == 1 and "virtual base 0xffffffff9a200000, replayed: 0 chunks moved" in lines[0]
    assert lines[0].endswith("all right")
    # made from the same file with the same chunks, but stored differently
    fields = ["content_digest", "source_digest", "shuffle_checksum"]
    layout["kernel"] = {field: told[field] for field in fields}
    out.write_text(json.dumps(layout))
    assert programs.riffle("prepare", "--compress=lz4", fetch_kernel("cloud-6.1"), "-o", "stored").returncode == 0
    assert verify(programs, "-p", "stored", "-l", out, fetch_kernel("cloud-6.1"))[0].endswith("all right")
    layout["kernel"]["content_digest"] = "00" * 32
    for field in fields[1:]:
        other = {**layout, "kernel": {**layout["kernel"], field: "0" * len(told[field])}}
        out.write_text(json.dumps(other))
        r = programs.riffle("verify", "-p", "stored", "-l", out, fetch_kernel("cloud-6.1"))
        assert r.returncode == 1 and "content_digest" in r.stderr
    layout["kernel"] = {"content_digest": "00" * 32}
    out.write_text(json.dumps(layout))
    r = programs.riffle("verify", "--prepared", forms.prepared("cloud-6.1"), "--layout", out, fetch_kernel("cloud-6.1"))
    assert r.returncode == 1 and "content_digest" in r.stderr


def test_kernels_of_two_builds_are_refused(programs, forms, fetch_kernel):
    r = programs.riffle("verify", "--prepared", forms.prepared("cloud-6.1"), fetch_kernel("cloud-6.12"))
    assert r.returncode == 1 and "is not that of the kernel" in r.stderr
    # a debug vmlinux of another build: any ELF has another build id
    r = programs.riffle("verify", "-d", "/bin/true", fetch_kernel("cloud-6.1"))
    assert r.returncode == 1 and r.stderr.startswith("riffle: /bin/true: build id: is another than the kernel's")
