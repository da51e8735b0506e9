# SPDX-License-Identifier: Apache-2.0
"""riffle bench load: the rows that a kernel has, and the figures that they make."""
import json
import statistics

import pytest
from small_kernels import Kernel

SLIDES = {"load_kaslr_slide", "load_kaslr_slide_faulted", "load_fgkaslr_slide", "load_fgkaslr_slide_faulted"}


@pytest.mark.parametrize("kernel", ["cloud-6.1", None])
def test_rows_for_slides(programs, forms, kernel):
    """A kernel whose sections can slide has rows for it; one that cannot be shuffled has none."""
    name = forms.prepared(kernel) if kernel else "kernel"
    if not kernel:
        (programs.directory / name).write_bytes(Kernel().bzimage())
    r = programs.prepare("bench", "load", "--cpu", "-n", "21", "--json", name)
    assert r.returncode == 0, r.stderr
    told = json.loads(r.stdout)
    rows = told["rows"]
    assert {"floor", "load", "load_kaslr", "load_kaslr_faulted"} <= set(rows)
    assert set(rows) & SLIDES == (SLIDES if kernel else set())
    for row in rows.values():
        assert len(row["ms"]) == 21 and row["median_ms"] == pytest.approx(statistics.median(row["ms"]), abs=1e-5)
    for mode in ("kaslr", "fgkaslr"):
        assert (f"slides_add_to_{mode}_ms" in told) == bool(kernel)
        if kernel:
            added = [a - b for a, b in zip(rows[f"load_{mode}_slide"]["ms"], rows[f"load_{mode}"]["ms"])]
            assert told[f"slides_add_to_{mode}_ms"] == pytest.approx(statistics.median(added), abs=1e-4)
