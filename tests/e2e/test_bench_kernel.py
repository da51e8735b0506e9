# SPDX-License-Identifier: Apache-2.0
"""The kernel benchmark: its program runs anywhere, its statistics are correct for made-up figures."""
import importlib.machinery
import importlib.util
import math
import random
import sys

import pytest
from conftest import BUILD, ROOT

sys.path.insert(0, str(ROOT / "bench" / "kernel"))
import ratios  # noqa: E402

OPERATIONS = {"getpid", "context-switch", "fork", "fork-big", "thread-create", "send", "send-big", "recv", "recv-big",
              "select", "select-big", "poll", "poll-big", "epoll", "epoll-big"} | {
    f"{what}-{size}" for what in ("mmap", "munmap", "page-fault", "read", "write") for size in ("small", "mid", "big")}


@pytest.fixture(scope="module")
def tool():
    loader = importlib.machinery.SourceFileLoader("bench_kernel", str(ROOT / "tools" / "bench-kernel"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("bench_kernel", loader))
    loader.exec_module(module)
    return module


def test_every_operation_runs_as_an_ordinary_process(programs):
    if not (BUILD / "bench" / "kernel-bench").exists():
        pytest.skip("no static C library")
    r = programs.run(BUILD / "bench" / "kernel-bench", "--once")
    assert (r.returncode, r.stderr) == (0, "")
    lines = [line.split() for line in r.stdout.splitlines()]
    assert lines.pop() == ["bench:", "end"]
    assert {line[1] for line in lines} == OPERATIONS and len(lines) == len(OPERATIONS)
    for line in lines:
        assert len(line) == 3 and float(line[2]) > 0, line


def test_an_unknown_argument_is_refused(programs):
    if not (BUILD / "bench" / "kernel-bench").exists():
        pytest.skip("no static C library")
    assert programs.run(BUILD / "bench" / "kernel-bench", "--twice").returncode == 2


@pytest.mark.parametrize("freedom, limit", [(1, 12.7062), (2, 4.3027), (4, 2.7764), (10, 2.2281), (30, 2.0423)])
def test_quantiles_are_those_of_the_tables(freedom, limit):
    assert ratios.t_quantile(freedom) == pytest.approx(limit, abs=1e-4)


def test_ratio_is_of_geometric_means():
    r = ratios.ratio([2, 8], [1, 4])
    assert r.mean == pytest.approx(2) and r.low < 2 < r.high
    assert ratios.ratio([3, 3], [2, 2])[:3] == pytest.approx((1.5, 1.5, 1.5))
    assert math.isnan(ratios.ratio([3], [2, 2]).low)


def test_interval_holds_the_truth_as_often_as_it_says():
    seed = 20261127
    print("seed", seed)
    draw = random.Random(seed)
    held = 0
    for _ in range(150):
        base = [math.exp(draw.gauss(5, 0.05)) for _ in range(4)]
        ours = [math.exp(draw.gauss(5.1, 0.05)) for _ in range(4)]
        r = ratios.ratio(ours, base)
        held += r.low <= math.exp(0.1) <= r.high
    assert 0.9 * 150 <= held <= 149


def test_overall_takes_what_all_runs_have():
    assert ratios.overall([{"a": 2, "b": 8, "c": 5}, {"a": 1, "b": 1}]) == pytest.approx([4, 1])
    with pytest.raises(ValueError):
        ratios.overall([{"a": 1}, {"b": 1}])


def test_output_of_guests_is_read(tool):
    lines = []
    for mode, value in (("off", 10), ("kaslr", 11), ("fgkaslr", 12)):
        lines += [f"run {mode} 1", "[    0.1] noise", f"bench: getpid {value}.0",
                  "bench: send missing: Function not implemented", "bench: end"]
    runs, missing = tool.parse(lines)
    assert runs == {"off": [{"getpid": 10}], "kaslr": [{"getpid": 11}], "fgkaslr": [{"getpid": 12}]}
    assert missing == {"send": "Function not implemented"}
    for cut in (lines[:-1], lines[:4] + lines[5:], lines[:5], ["bench: end"]):
        with pytest.raises(ValueError):
            tool.parse(cut)
