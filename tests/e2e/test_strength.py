# SPDX-License-Identifier: Apache-2.0
"""Gadgets for code reuse in a kernel, and the entropy left after a leaked pointer: riffle inspect --strength."""
import json
import math
import re

import pytest
from conftest import ROOT
from small_kernels import Kernel

CLASSES = ["load_rdi", "load_rsi", "load_rdx", "load_rcx", "load_r8", "load_r9", "store", "read", "pivot", "call",
           "call_loaded", "control", "user"]


def failed(r, words):
    assert r.returncode == 1 and r.stdout == "" and r.stderr.count("\n") == 1, (r.stdout, r.stderr)
    assert words in r.stderr, r.stderr


def cell(strength, mode, pointer):
    found, = [row for row in strength["leaks"] if (row["mode"], row["pointer_to"]) == (mode, pointer)]
    return found


def test_strength_of_a_stock_kernel(programs, fetch_kernel):
    kernel = fetch_kernel("cloud-6.1")
    told = json.loads(programs.riffle("inspect", "--json", "--strength", kernel).stdout)
    shuffle, strength = told["shuffle"], told["strength"]
    everything = strength["gadgets"]
    assert set(everything) == {"starts", *CLASSES}
    assert everything["starts"] > 500_000 and all(0 < everything[c] < everything["starts"] for c in CLASSES)
    # each mode, from each kind of pointer: with slides text is at no fixed distance from data
    assert set(strength["fixed"]) == {"off", "kaslr", "fgkaslr", "kaslr+slide", "fgkaslr+slide"}
    for mode, fixed in strength["fixed"].items():
        assert set(fixed) == {"from_text_base", "from_data", "from_read_only_data"}
        for pointer, counts in fixed.items():
            if mode.endswith("slide") and pointer != "from_text_base":
                assert counts.pop("bases") in (4, 8) and set(counts.values()) == {0}
                continue
            assert counts.pop("bases") == 1
            if not mode.startswith("fgkaslr"):
                assert counts == everything
            else:
                assert all(counts[c] <= everything[c] for c in counts) and counts["starts"] <= 0.001 * everything["starts"]
    # the list holds the fixed gadgets that a chain needs, as many of each class as were counted
    fixed = strength["fixed"]["fgkaslr"]["from_text_base"]
    for name in ("load_rdi", "load_rsi", "load_rdx", "store", "pivot", "call_loaded", "control"):
        assert sum(name in g["classes"] for g in strength["useful_fixed"]) == fixed[name], name
    places = [int(g["link_virtual"], 16) for g in strength["useful_fixed"]]
    assert places == sorted(set(places)) and all(g["symbol"] for g in strength["useful_fixed"])
    # the table of leaks: starts at the layout's entropy, and never exceeds it for code reuse
    base = told["entropy"]["virtual_bits"]
    pointers = {"none", "function", "fixed_code", "read_only_data", "data", "bss", "brk", "reads_memory"}
    assert {(r["mode"], r["pointer_to"]) for r in strength["leaks"]} == {(m, p) for m in strength["fixed"] for p in pointers}
    for row in strength["leaks"]:
        assert row["function_bits_with_code_reuse"] <= row["function_bits"]
        assert not strength["fixed_code_suffices"] or row["function_bits_with_code_reuse"] <= row["base_bits"] + 1e-6
    assert math.isclose(cell(strength, "kaslr", "none")["base_bits"], base, abs_tol=1e-4)
    assert cell(strength, "kaslr", "data")["function_bits"] == cell(strength, "kaslr", "function")["base_bits"] == 0
    assert 15 < cell(strength, "fgkaslr", "data")["function_bits"] <= math.log2(shuffle["chunks"])
    assert 0 < cell(strength, "fgkaslr", "function")["base_bits"] < base
    assert cell(strength, "fgkaslr", "reads_memory")["function_bits"] == 0
    # in words, the same numbers
    text = programs.riffle("inspect", "--strength", kernel).stdout
    for name in ("starts", *CLASSES):
        row = re.search(rf"^  {name} +(\d+) +(\d+) +(\d+) ", text, re.M).groups()
        assert list(map(int, row)) == [everything[name], everything[name],
                                       strength["fixed"]["fgkaslr"]["from_text_base"][name]]
    assert re.search(r"^  fgkaslr +data( +0\.0){5} +15\.\d ", text, re.M)
    for row in strength["leaks"]:
        if row["mode"] != "off":
            bits = [f"{row[key]:.1f}" for key in row if key.endswith(("bits", "reuse"))]
            assert re.search(rf"^  {re.escape(row['mode'])} .* {' +'.join(bits)}$", text, re.M), row


def spread(blocks, first, last):
    """
    How often each sum of the gaps before these blocks occurs, in pages. A gap that the next one complements counts for its own
    block alone: whatever follows is as far away in each layout.
    """
    counts = {0: 1}
    for i, block in enumerate(blocks[first:last + 1], first):
        if not block["gaps"] or (i < last and not blocks[i + 1]["gaps"]):
            continue
        step, sums = block["gap_align"] // 4096, {}
        for at, count in counts.items():
            for i in range(block["gaps"]):
                sums[at + i * step] = sums.get(at + i * step, 0) + count
        counts = sums
    return counts


@pytest.mark.parametrize("kernel", ["cloud-6.1", "cloud-6.12"])
def test_leaks_with_slides_are_those_of_the_blocks(programs, fetch_kernel, kernel):
    """What can be counted from the gaps alone, by other means; all layouts of small kernels are counted by a unit test."""
    told = json.loads(programs.riffle("inspect", "--json", "--strength", fetch_kernel(kernel)).stdout)
    strength, blocks, slots = told["strength"], told["slides"]["blocks"], told["entropy"]["virtual_slots_slid"]
    number = {block["block"]: i for i, block in enumerate(blocks)}
    assert sum((b["gaps"] - 1) * b["gap_align"] for b in blocks if b["gaps"]) == told["slides"]["bytes_most"]
    assert slots == (2**30 - int(told["link_physical"], 16) - told["image_bytes"] - told["slides"]["bytes_most"]) // 2**21 + 1
    for mode in ("kaslr+slide", "fgkaslr+slide"):
        assert math.isclose(cell(strength, mode, "none")["base_bits"], math.log2(slots), abs_tol=1e-4)
        for pointer, known in (("fixed_code", "text"), ("read_only_data", "read_only_data"), ("data", "data"), ("bss", "bss")):
            row = cell(strength, mode, pointer)
            for later in ("read_only_data", "data", "bss"):
                if number[later] <= number[known]:
                    continue
                sums = spread(blocks, number[known] + 1, number[later])
                # where a pointer leaves two bases, at the ends of a gap of 2 MiB, a place may be likelier from both
                paired = number["data"] > number["read_only_data"] + 1
                within = 0.01 if paired and pointer == "read_only_data" else 1e-4
                assert math.isclose(row[f"{later}_bits"], math.log2(sum(sums.values()) / max(sums.values())), abs_tol=within)
            # the last gap is the rest of a sum: .brk moves with the base
            assert blocks[number["brk"]]["gaps"] == 0 and row["brk_bits"] == row["base_bits"]
            # the text base: each sum of gaps that fits the low bits is as likely as it is often
            sums = spread(blocks, 1, number[known])
            best, bases = {}, {}
            for at, count in sums.items():
                best[at % 512] = max(best.get(at % 512, 0), count)
                bases[at % 512] = bases.get(at % 512, 0) + 1
            inside = math.log2(sum(sums.values()) / sum(best.values()))
            assert inside - 0.05 < row["base_bits"] <= inside + 1e-6, (pointer, row)
            if pointer != "bss":
                assert strength["fixed"][mode][{"fixed_code": "from_text_base"}.get(pointer, f"from_{pointer}")]["bases"] == max(bases.values())
    # 9 bits between text and each other block, and between data, .bss and read-only data
    wide = cell(strength, "fgkaslr+slide", "fixed_code")
    assert wide["data_bits"] > 8.95 and wide["bss_bits"] > 8.95 and wide["read_only_data_bits"] > 8.95
    assert cell(strength, "fgkaslr+slide", "data")["bss_bits"] > 8.95 and cell(strength, "fgkaslr+slide", "bss")["data_bits"] > 8.95
    assert cell(strength, "fgkaslr+slide", "data")["read_only_data_bits"] > 8.95


def test_no_slides_in_too_little_memory(programs, fetch_kernel):
    r = programs.riffle("inspect", "--strength", "-m", "80M", fetch_kernel("cloud-6.1"))
    assert "kaslr+slide" not in r.stdout and "\nno slides: guest memory" in r.stdout, r.stdout


# entry code, which page-table isolation forces to stay, and thunks, whose place in a cache line matters
STAYS = re.compile(r"thunk|entry|nmi|syscall_return|common_interrupt|restore_regs|early_xen|xen_|native_irq|paranoid_|error_|"
                   r"clear_bhb|int80|asm_exc")


@pytest.mark.parametrize("kernel", ["cloud-6.1", "cloud-6.12", "cloud-newest"])
def test_little_stays(programs, fetch_kernel, kernel):
    strength = json.loads(programs.riffle("inspect", "--json", "--strength", fetch_kernel(kernel)).stdout)["strength"]
    fixed = strength["fixed"]["fgkaslr"]["from_text_base"]
    assert fixed["starts"] <= 0.001 * strength["gadgets"]["starts"]
    assert strength["fixed_bytes"] <= 0.001 * strength["text_bytes"]
    others = {g["symbol"] for g in strength["useful_fixed"] if not STAYS.search(g["symbol"])}
    if kernel == "cloud-6.1":
        # the entry is the image's first byte, and short branches tie this to it
        assert others <= {"startup_64", "secondary_startup_64_no_verify"}
    else:
        assert not others and fixed["pivot"] == fixed["control"] == 0


def test_refused(programs, fetch_kernel):
    assert programs.riffle("prepare", fetch_kernel("cloud-6.1"), "-o", "prepared").returncode == 0
    failed(programs.riffle("inspect", "--strength", "prepared"), "prepared: --strength: needs the kernel")
    (programs.directory / "kernel").write_bytes(Kernel().bzimage())
    failed(programs.riffle("inspect", "--strength", "kernel"), "kernel: section headers: name no .text")


def test_tables_in_the_documentation(programs, fetch_kernel):
    """Allows for the pages by which Debian's next 6.1 kernel may differ."""
    text = (ROOT / "docs" / "shuffling.md").read_text()
    told = json.loads(programs.riffle("inspect", "--json", "--strength", fetch_kernel("cloud-6.1")).stdout)["strength"]
    words = {"none": "nothing", "function": "a function that moves", "fixed_code": "code that does not move", "read_only_data": "read-only data",
             "data": "data", "bss": ".bss", "brk": ".brk", "reads_memory": "(reads memory at will)"}
    for mode in ("fgkaslr", "fgkaslr+slide"):
        rows = text.split(f"With `{mode}`:\n\n", 1)[1].split("\n\n")[0].splitlines()[2:]
        assert len(rows) == len(words)
        for row, (pointer, shown) in zip(rows, words.items()):
            name, *bits = [part.strip() for part in row.strip("|").split("|")]
            computed = [value for key, value in cell(told, mode, pointer).items() if key not in ("mode", "pointer_to")]
            assert name == shown and len(bits) == len(computed)
            assert all(abs(float(a) - b) <= 0.2 for a, b in zip(bits, computed)), (row, computed)
