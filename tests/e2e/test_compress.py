# SPDX-License-Identifier: Apache-2.0
"""Compressed prepared kernels: loaded to the same bytes, damage detected, plausible benchmark figures."""
import csv
import io
import json
import os
import random
import re

import pytest
from small_kernels import PAGE, Kernel
from test_verify import all_right, verify

METHODS = ["lz4", "zstd"]
PAYLOAD = 2 * PAGE      # where a small kernel's frames begin: behind header and plan, on a page


def roomy_kernel():
    """A kernel with compressible bytes, and one incompressible page."""
    k = Kernel()
    data = bytearray(k.data) + b"riffle and shuffle " * 30000 + random.Random(5).randbytes(300000)
    data += bytes(-len(data) % PAGE)
    k.segments[2].data = data
    k.segments[2].memory = len(data) + 8 * PAGE
    return k.appended()


def prepare(programs, method, kernel="kernel", out="prepared"):
    r = programs.riffle("prepare", f"--compress={method}", "-f", kernel, "-o", out)
    assert (r.returncode, r.stdout, r.stderr) == (0, "", "")
    return programs.directory / out


def storage(programs, path):
    return json.loads(programs.riffle("inspect", "--json", path).stdout)["storage"]


@pytest.fixture
def kernel(programs):
    path = programs.directory / "kernel"
    path.write_bytes(roomy_kernel())
    return path


@pytest.mark.parametrize("method", METHODS)
def test_stock_kernel_is_loaded_to_the_same_bytes(programs, forms, fetch_kernel, method):
    """By riffle verify, which reads the bzImage and not the compressed file."""
    source, raw = fetch_kernel("cloud-6.1"), forms.prepared("cloud-6.1")
    stored = prepare(programs, method, source)
    assert programs.riffle("prepare", "--check", stored).returncode == 0
    told = storage(programs, stored)
    assert told["compression"] == method and told["frames"] > 100
    assert told["payload_bytes"] < 0.5 * storage(programs, raw)["payload_bytes"]
    assert stored.stat().st_size < 0.55 * raw.stat().st_blocks * 512
    lines = verify(programs, "--prepared", stored, "--count", 2, source)
    assert len(all_right(lines)) == len(lines) == 2
    lines = verify(programs, "--prepared", stored, "--randomize", "kaslr", source)
    assert len(all_right(lines, "kaslr")) == len(lines) == 1


@pytest.mark.parametrize("method", [*METHODS, "none"])
def test_runs_as_any_prepared_kernel(programs, kernel, method):
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("/dev/kvm cannot be opened")
    prepare(programs, method)
    kernel.unlink()
    for mode in ("kaslr", "off"):
        r = programs.riffle("run", "--accept-emulation", "--boot-timer", "--randomize", mode, "prepared")
        assert r.returncode == 3 and "open, prepared file" in r.stderr, r.stderr


@pytest.mark.parametrize("method", [*METHODS, "none"])
def test_inspect_tells_how_it_is_stored(programs, kernel, method):
    path = prepare(programs, method)
    lines = programs.riffle("inspect", path).stdout.splitlines()
    assert f"stored            {method}" in lines
    assert any(line.startswith(f"file              {path.stat().st_size} bytes") for line in lines)
    told = storage(programs, path)
    assert told["compression"] == method and (told["frames"] > 0) == (method != "none")


def test_the_cache_stays_as_it_was(programs, kernel):
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("/dev/kvm cannot be opened")
    assert programs.riffle("run", "--accept-emulation", "kernel").returncode == 3
    entry, = (p for p in programs.cache.iterdir() if p.stat().st_size > PAGE)
    assert storage(programs, entry)["compression"] == "none"


@pytest.mark.parametrize("method", METHODS)
def test_any_flipped_bit_is_found(programs, kernel, method):
    path = prepare(programs, method)
    content = path.read_bytes()
    dice = random.Random(17)
    for place in [0, 8, PAGE, PAYLOAD, len(content) - 1] + [dice.randrange(len(content)) for _ in range(20)]:
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << dice.randrange(8)]) + content[place + 1:])
        r = programs.riffle("prepare", "--check", "prepared")
        assert r.returncode == 1 and re.fullmatch(r"riffle: prepared: [ -~]+\n", r.stderr), (place, r.stderr)
    path.write_bytes(content)
    assert programs.riffle("prepare", "--check", "prepared").returncode == 0


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_bench_storage_of_a_small_kernel(programs, kernel):
    r = programs.riffle("bench", "storage", "-n", 21, "--csv", "kernel")
    assert (r.returncode, r.stderr) == (0, "")
    found = rows(r.stdout)
    assert {f["method"] for f in found} == {"kaslr"}    # it has no functions to shuffle
    runs = [f for f in found if f["metric"] == "storage_cpu" and f["condition"] == "zstd"]
    assert [int(f["run"]) for f in runs] == list(range(1, 22))
    read = {f["condition"]: float(f["value"]) for f in found if f["metric"] == "storage_read"}
    assert read["zstd"] < read["none"] and read["lz4"] < read["none"]
    assert len([f for f in found if f["metric"] == "storage_break_even"]) == 3
    text = programs.riffle("bench", "storage", "-n", 21, "kernel").stdout
    assert "modelled" in text and "beats none" in text


def test_no_frame_of_a_stock_kernel_is_decompressed_twice(programs, fetch_kernel):
    """Frames are cut where loads read: in both modes hardly more is decompressed than the kernel's size."""
    r = programs.riffle("bench", "storage", "-n", 21, "--json", fetch_kernel("cloud-6.1"), timeout=900)
    assert (r.returncode, r.stderr) == (0, "")
    told = json.loads(r.stdout)
    for mode in ("kaslr", "fgkaslr"):
        for method in METHODS:
            assert 0 <= told[mode][method]["decompressed_again_percent"] < 3
            assert told[mode][method]["read_bytes"] < 0.6 * told[mode]["none"]["read_bytes"]
    assert told["kaslr"]["bzimage"]["read_bytes"] == fetch_kernel("cloud-6.1").stat().st_size
    assert "bzimage" not in told["fgkaslr"]


@pytest.mark.parametrize("arguments", [("--csv", "--json", "kernel"), ("--csv",), ("--csv", "a", "b")])
def test_bench_storage_usage(programs, kernel, arguments):
    r = programs.riffle("bench", "storage", *arguments)
    assert (r.returncode, r.stdout, r.stderr.count("\n")) == (2, "", 1)


def test_bench_storage_wants_what_a_prepared_kernel_was_made_from(programs, kernel):
    prepare(programs, "none")
    r = programs.riffle("bench", "storage", "prepared")
    assert r.returncode == 1 and r.stderr.startswith("riffle: prepared: kernel: is prepared already"), r.stderr
