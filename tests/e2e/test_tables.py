# SPDX-License-Identifier: Apache-2.0
"""Stock kernels: a missed table is always detected, and the linker's relocations confirm those found."""
import re
import subprocess

import pytest
from conftest import BUILD
from guests import LONG

TABLES = BUILD / "tests" / "e2e" / "tables"
long_only = pytest.mark.skipif(not LONG, reason="one of the long tests: RIFFLE_LONG is not set")

# tables in all of Debian's kernels; tables in only some
EVERYWHERE = {".altinstructions", "__bug_table", ".smp_locks", ".retpoline_sites", ".return_sites", "__ksymtab",
              "__ksymtab_gpl", ".pci_fixup", "__jump_table", ".static_call_sites", ".static_call_tramp_key",
              "__initcall_start", "__con_initcall_start", "__ex_table", ".orc_unwind_ip"}
SINCE_6_12 = {".call_sites", ".ibt_endbr_seal", "runtime_*"}


def run(*arguments):
    r = subprocess.run([TABLES, *arguments], capture_output=True, text=True, timeout=300, check=False)
    assert r.returncode == 0, r.stdout + r.stderr
    return r.stdout.splitlines()


@pytest.mark.parametrize("name", ["cloud-6.1", "cloud-6.12", pytest.param("generic-6.1", marks=long_only),
                                  pytest.param("generic-6.12", marks=long_only)])
def test_a_table_unknown_is_noticed(fetch_kernel, name):
    alone, *tables = run(fetch_kernel(name))
    counts = dict(re.findall(r"(\w+) (\d+)", alone))
    assert int(counts["chance"]) * 1000 < int(counts["words"])
    verdicts = {line.split()[0]: line for line in tables}
    noticed = EVERYWHERE | (SINCE_6_12 if "6.12" in name else set())
    for table, verdict in verdicts.items():
        if table in noticed:
            assert "refused completeness: an unknown table" in verdict
        else:
            assert verdict.endswith(" same"), verdict
    assert noticed <= set(verdicts)


# tables whose fields all lead to functions, which the shuffle's census must find (above), and slides' need not
OF_FUNCTIONS = {".smp_locks", ".retpoline_sites", "__initcall_start", "__con_initcall_start", "runtime_*"}
# no distances (from a base), which tests/e2e/test_verify.py finds
OFFSETS = {"kallsyms offsets"}
SERIES = [pytest.param(f"{flavour}-{series}", marks=() if (flavour, series) == ("cloud", "6.1") else long_only)
          for series in ("6.1", "6.12", "5.10", "newest") for flavour in ("cloud", "generic")]


@pytest.mark.parametrize("name", SERIES)
def test_a_table_of_slides_unknown_is_noticed(fetch_kernel, name):
    """Each table, and each column of one, of which a field leads to another section; what leads to none needs no slide."""
    *rows, sums = run("--slides", fetch_kernel(name))
    assert re.fullmatch(r"slides possible, \d{5,} fields, \d\d columns, \d{1,4} leads", sums)
    across, missed = set(), set()
    for table, column, count, verdict in (re.fullmatch(r"(.*) (-?\d+): (\d+) across: (.*)", row).groups() for row in rows):
        if int(count):
            across.add((table, int(column)))
            if not verdict.startswith("an unknown table: "):
                assert verdict == "not noticed"
                missed.add((table, int(column)))
    assert {(table, -1) for table in ("__bug_table", "__ksymtab", "__jump_table", ".static_call_sites", "__tracepoints_ptrs",
                                      ".altinstructions", "__ex_table", ".orc_unwind_ip")} <= across
    assert {("__bug_table", 4), ("__jump_table", 8), (".static_call_sites", 4)} <= across
    # distances that are all the same, which say nothing without the table's other column; 5.10 has but one entry
    short = {(".static_call_tramp_key", column) for column in ((0, 4, -1) if "5.10" in name else (0,))}
    assert {row for row in missed if row[0] not in OF_FUNCTIONS | OFFSETS} <= short


@pytest.mark.parametrize("name", [pytest.param("cloud-6.1", marks=long_only),
                                  pytest.param("generic-6.1", marks=long_only)])
def test_the_linker_agrees(fetch_kernel, name):
    """6.1's debug packages keep all of .rela: with it and without it the same chunks, fields and targets are found."""
    alone, judged, *verdicts = run(fetch_kernel(name), fetch_kernel(name + "-dbg"))
    assert verdicts == ["ranges same", "refs same", "targets 0"]
    checked, agree = re.search(r"checked (\d+) agree (\d+)", judged).groups()
    assert int(checked) > 400_000 and checked == agree
    assert re.search(r"refs \d+", alone).group() == re.search(r"refs \d+", judged).group()


@long_only
def test_symbols_alone_change_nothing(fetch_kernel):
    """6.12's debug packages have only symbols, which agree with kallsyms."""
    alone, judged, *verdicts = run(fetch_kernel("cloud-6.12"), fetch_kernel("cloud-6.12-dbg"))
    assert verdicts == ["ranges same", "refs same", "targets 0"], judged + alone
