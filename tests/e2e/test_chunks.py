# SPDX-License-Identifier: Apache-2.0
"""How much of a kernel can be shuffled: riffle prepare --debug-vmlinux, and riffle inspect."""
import json
import math
import re
import struct
import subprocess

import pytest
from small_kernels import Kernel

STOCK = ["cloud-6.1", "cloud-6.12"]


def failed(r, words):
    assert r.returncode == 1 and r.stdout == "" and r.stderr.count("\n") == 1, (r.stdout, r.stderr)
    assert words in r.stderr, r.stderr


# ---- prepare --debug-vmlinux


@pytest.mark.parametrize("name", STOCK)
def test_debug_vmlinux_of_the_same_build(programs, fetch_kernel, name):
    kernel, debug = fetch_kernel(name), fetch_kernel(f"{name}-dbg")
    r = programs.riffle("prepare", kernel, "--debug-vmlinux", debug, "-o", "prepared")
    assert (r.returncode, r.stdout, r.stderr) == (0, "", "")
    assert programs.riffle("prepare", "--check", "prepared").returncode == 0
    assert programs.riffle("prepare", f"fd:{(f := open(kernel, 'rb')).fileno()}", "-d", debug, "-o", "again",
                           pass_fds=[f.fileno()]).returncode == 0
    f.close()
    assert (programs.directory / "again").read_bytes() == (programs.directory / "prepared").read_bytes()


def test_debug_vmlinux_of_another_build(programs, fetch_kernel, tmp_path):
    kernel = fetch_kernel("cloud-6.1")
    debug = fetch_kernel("cloud-6.1-dbg")
    output = programs.directory / "prepared"

    def refused(path, words):
        failed(programs.riffle("prepare", kernel, "-d", path, "-o", output), words)
        assert not list(programs.directory.iterdir())

    refused(fetch_kernel("cloud-6.12-dbg"), "another build")
    refused(kernel, "ELF")
    refused(tmp_path / "none", "cannot be opened")
    refused(tmp_path, "is a directory")
    for cut in (0, 1000, 1 << 20):
        (tmp_path / "cut").write_bytes(debug.open("rb").read(cut))
        refused(tmp_path / "cut", "cut: --debug-vmlinux: ")
    # the right build id, and one byte of code that is another: of the same source, built once more
    text = subprocess.run(["readelf", "-WS", debug], capture_output=True, text=True, check=True).stdout
    offset = int(re.search(r"\] \.text +PROGBITS +[0-9a-f]+ ([0-9a-f]+)", text).group(1), 16)
    changed = tmp_path / "changed"
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", debug, changed], check=True)
    with changed.open("r+b") as f:
        f.seek(offset + 0x123456)
        byte = f.read(1)
        f.seek(offset + 0x123456)
        f.write(bytes([byte[0] ^ 1]))
    refused(changed, "has another byte than the kernel")
    changed.unlink()


def test_debug_vmlinux_stripped(programs, fetch_kernel, tmp_path):
    stripped = tmp_path / "stripped"
    subprocess.run(["strip", "-o", stripped, fetch_kernel("cloud-6.12-dbg")], check=True)
    failed(programs.riffle("prepare", fetch_kernel("cloud-6.12"), "-d", stripped, "-o", "prepared"), "stripped: --debug")


def test_debug_vmlinux_of_a_kernel_that_cannot_be_shuffled(programs, fetch_kernel):
    """Without the option that kernel is prepared without a shuffle; with it the request cannot be met."""
    (programs.directory / "kernel").write_bytes(Kernel().bzimage())
    (programs.directory / "vmlinux").write_bytes(Kernel().elf())
    failed(programs.riffle("prepare", "kernel", "-d", "vmlinux", "-o", "prepared"), "")
    assert not (programs.directory / "prepared").exists()
    r = programs.riffle("prepare", "kernel", "-o", "prepared")
    assert (r.returncode, r.stderr) == (0, "")
    assert programs.riffle("prepare", "-d", "vmlinux", "--check", "prepared").returncode == 2


# ---- inspect

# at least so many chunks (the movable share, the largest chunk and so on are the same for all)
CHUNKS = {"cloud-6.1": 35000, "cloud-6.12": 40000}


def sections_of(prepared):
    """Chunks, regions and numbers of references, read from the file by its documented format: [(offset, bytes, …)]."""
    data = prepared.read_bytes()
    plan, = struct.unpack_from("<Q", data, 40)

    def entries(kind, form):
        offset, count = struct.unpack_from("<QQ", data, 0x248 + 16 * kind)
        return list(struct.iter_unpack(form, data[plan + offset : plan + offset + count * struct.calcsize(form)]))

    chunks = [(at, 16 * units, *counts) for at, units, *counts in entries(7, "<IHHHHHH")]
    return chunks, entries(6, "<IIII"), {"pc32": len(entries(10, "<H")), "abs32": len(entries(12, "<HH")), "abs64": len(entries(13, "<HH")),
                                           "own32": sum(step < 255 for step, in entries(11, "<B"))}


@pytest.mark.parametrize("name", STOCK)
def test_account_of_a_stock_kernel(programs, fetch_kernel, name):
    kernel, debug = fetch_kernel(name), fetch_kernel(f"{name}-dbg")
    told = json.loads(programs.riffle("inspect", "--json", "--chunks", kernel).stdout)
    shuffle = told["shuffle"]
    # what the kernel must allow
    assert shuffle["possible"] and shuffle["chunks"] >= CHUNKS[name]
    assert shuffle["function_bytes_that_move"] >= 0.999 * shuffle["function_bytes"]
    assert shuffle["function_bytes_not_alone"] <= 0.08 * shuffle["function_bytes_that_move"]
    assert shuffle["chunk_bytes"]["most"] <= 64 << 10
    assert shuffle["plan_bytes"] <= 0.1 * told["load_bytes"]
    assert abs(shuffle["plan_percent"] - 100 * shuffle["plan_bytes"] / told["load_bytes"]) < 0.01
    # the same by adding up what was prepared
    assert programs.riffle("prepare", kernel, "-o", "prepared").returncode == 0
    chunks, regions, references = sections_of(programs.directory / "prepared")
    sizes = sorted(c[1] for c in chunks)
    counts = [r[3] for r in regions]
    assert (shuffle["chunks"], shuffle["movable_bytes"], shuffle["regions"]) == (len(chunks), sum(sizes), len(regions))
    assert [shuffle["chunk_bytes"][k] for k in ("least", "median", "90%", "99%", "most")] == [
        sizes[(len(sizes) - 1) * p // 100] for p in (0, 50, 90, 99, 100)]
    assert shuffle["alone"] == counts.count(1)
    assert math.isclose(shuffle["order_bits"], sum(math.lgamma(n + 1) for n in counts) / math.log(2), rel_tol=1e-5)
    assert math.isclose(shuffle["place_bits"], sum(n * math.log2(n) for n in counts) / len(chunks), rel_tol=1e-5)
    assert references.items() <= shuffle["references"].items() and min(references.values()) >= 0
    assert references["pc32"] > references["own32"] > 50_000
    # what is pinned and what moves are all of .text, each byte once
    text = subprocess.run(["readelf", "-WS", debug], capture_output=True, text=True, check=True).stdout
    address, size = re.search(r"\] \.text +PROGBITS +([0-9a-f]+) [0-9a-f]+ ([0-9a-f]+)", text).groups()
    at = int(address, 16) - int(told["link_virtual"], 16)
    stretches = sorted([(p["image_offset"], p["bytes"]) for p in shuffle["pinned"]] + [r[:2] for r in regions])
    for offset, length in stretches:
        assert offset == at and length > 0
        at += length
    assert at == int(address, 16) - int(told["link_virtual"], 16) + int(size, 16)
    # each with a reason, and a name that is the symbol's there
    names = {}
    for line in subprocess.run(["nm", debug], capture_output=True, text=True, check=True).stdout.splitlines():
        where, _, symbol = line.rpartition(" ")
        names.setdefault(where[:16], set()).add(symbol)
    for p in shuffle["pinned"]:
        assert p["reason"] in ("head", "section", "unexplained", "large", "aligned", "page"), p
        assert int(p["link_virtual"], 16) == int(told["link_virtual"], 16) + p["image_offset"]
        assert not p["first_symbol"] or p["first_symbol"] in names[p["link_virtual"][2:]], p
    # a prepared kernel tells the same, but for what is pinned
    again = json.loads(programs.riffle("inspect", "--json", "--chunks", "prepared").stdout)["shuffle"]
    assert again == {k: v for k, v in shuffle.items() if k in again}
    assert set(shuffle) - set(again) == {"pinned", "function_bytes", "function_bytes_that_move",
                                         "function_bytes_not_alone", "words_scanned", "words_chance"}
    # and without --chunks a few of these
    short = json.loads(programs.riffle("inspect", "--json", kernel).stdout)["shuffle"]
    assert short == {k: v for k, v in shuffle.items() if k in short} and {"chunks", "plan_bytes"} <= set(short)


def test_account_in_words(programs, fetch_kernel):
    kernel = fetch_kernel("cloud-6.1")
    told = json.loads(programs.riffle("inspect", "--json", "--chunks", kernel).stdout)
    shuffle, slots = told["shuffle"], told["entropy"]["virtual_slots"]
    text = programs.riffle("inspect", "--chunks", kernel).stdout
    rows = re.findall(r"^  0x([0-9a-f]{8})  (0x[0-9a-f]{16}) +(\d+) +(\d+)  (\w+) +(\S*)$", text, re.M)
    assert [(int(o, 16), a, int(b), int(f), r, n) for o, a, b, f, r, n in rows] == [
        (p["image_offset"], p["link_virtual"], p["bytes"], p["functions"], p["reason"], p["first_symbol"])
        for p in shuffle["pinned"]]
    for reason in {p["reason"] for p in shuffle["pinned"]}:
        total = sum(p["bytes"] for p in shuffle["pinned"] if p["reason"] == reason)
        assert re.search(rf"^  {reason} +{total} bytes in \d+ ranges?: \w", text, re.M), reason
    assert f"the order: {shuffle['order_bits']:.0f} bits" in text
    candidates, left, base = re.search(r"base but for (\d+) candidates \(([\d.]+) of ([\d.]+) bits", text).groups()
    assert 2 <= int(candidates) <= slots and left == f"{math.log2(int(candidates)):.1f}"
    assert base == f"{math.log2(slots):.1f}"
    plain = programs.riffle("inspect", kernel).stdout
    assert re.search(rf"^shuffle +{shuffle['chunks']} chunks of functions, {shuffle['movable_bytes']} bytes", plain, re.M)
    assert re.search(rf"^plan +{shuffle['plan_bytes']} bytes, [\d.]+ % of the segments'$", plain, re.M)
    assert programs.riffle("prepare", kernel, "-o", "prepared").returncode == 0
    text = programs.riffle("inspect", "--chunks", "prepared").stdout
    assert "not told by a prepared kernel" in text and "what one leaked pointer gives away" in text


def test_account_with_a_debug_vmlinux(programs, fetch_kernel):
    kernel, debug = fetch_kernel("cloud-6.1"), fetch_kernel("cloud-6.1-dbg")
    text = programs.riffle("inspect", "--chunks", "-d", debug, kernel).stdout
    checked, agree = map(int, re.search(r"(\d+) relocations of the debug vmlinux, (\d+) of them", text).groups())
    assert checked > 300000 and agree <= checked
    for options in ((), ("--chunks",)):
        failed(programs.riffle("inspect", *options, "-d", kernel, kernel), "--debug-vmlinux")


def test_account_of_a_kernel_that_cannot_be_shuffled(programs):
    (programs.directory / "kernel").write_bytes(Kernel().bzimage())
    for options in ((), ("--chunks",)):
        r = programs.riffle("inspect", *options, "kernel")
        assert r.returncode == 0 and re.search(r"^shuffle +impossible: \w", r.stdout, re.M), r
        told = json.loads(programs.riffle("inspect", "--json", *options, "kernel").stdout)
        assert told["shuffle"]["possible"] is False and told["shuffle"]["reason"]
        # slides have no reason of their own where nothing was looked for
        assert told["slides"] == {"possible": False, "reason": told["shuffle"]["reason"]}
        assert f"slides            impossible: {told['slides']['reason']}\n" in r.stdout or options, r.stdout
    for junk in (b"", b"junk" * 5000):
        (programs.directory / "junk").write_bytes(junk)
        failed(programs.riffle("inspect", "--chunks", "junk"), "junk: ")
