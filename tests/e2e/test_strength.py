# SPDX-License-Identifier: Apache-2.0
"""Gadgets for code reuse in a kernel, and the entropy left after a leaked pointer: riffle inspect --strength."""
import json
import math
import re

import pytest
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
    # each mode, from each kind of pointer
    assert set(strength["fixed"]) == {"off", "kaslr", "fgkaslr"}
    for mode, fixed in strength["fixed"].items():
        assert set(fixed) == {"from_text_base", "from_data", "from_read_only_data"}
        for counts in fixed.values():
            if mode != "fgkaslr":
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
    pointers = {"none", "function", "fixed_code", "read_only_data", "data", "reads_memory"}
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
    assert re.search(r"^  fgkaslr  data, bss +0\.0 +0\.0 +0\.0 +15\.\d ", text, re.M)


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
