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
