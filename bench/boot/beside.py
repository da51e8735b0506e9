# SPDX-License-Identifier: Apache-2.0
"""
Measurements other than boots: reads from a disk (figure 4), the monitor's part natively and by kernel size, run time
(figure 11).
"""
import csv
import dataclasses
import json
import pathlib
import re
import subprocess
import tempfile

import cells

# rows of riffle bench load, and the methods whose native cost they are
NATIVE = {"floor": "floor", "load": "direct-off", "load_kaslr": "direct-kaslr", "load_fgkaslr": "direct-fgkaslr",
          "load_fgkaslr_lazy": "direct-fgkaslr-lazy"}
ROUNDS = 41
# a line of riffle bench start: mode, floor, start, start over floor, CPU, CPU beside the load
START = re.compile(r"(off|kaslr|fgkaslr) +([0-9.]+) +([0-9.]+) +([0-9.]+) +([0-9.]+) +([0-9.]+)$")


@dataclasses.dataclass(frozen=True)
class Beside:
    """One of these measurements of a kernel; named, stored and resumed like a cell."""
    kernel: str
    what: str                   # storage, native, scale or work
    layouts: int = 3            # boots of each mode, of a kernel at work

    @property
    def name(self):
        return f"{pathlib.Path(self.kernel).name}_{self.what}"


def run(*command):
    r = subprocess.run([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       text=True, check=False)
    if r.returncode:
        words = (r.stderr.strip() or f"ended with {r.returncode}").splitlines()[-1]
        raise cells.Unavailable(f"{pathlib.Path(command[0]).name}: {words}")
    return r.stdout


def named(kernel, lines):
    """Rows of a program's CSV, with the kernel's name as in the rows of boots."""
    reader = csv.DictReader(lines)
    if reader.fieldnames != cells.FIELDS:
        raise cells.Unavailable(f"{kernel}: a CSV that begins with {reader.fieldnames}")
    return [{**row, "kernel": kernel} for row in reader]


def row(kernel, method, metric, number, value, unit="ms"):
    return dict(zip(cells.FIELDS, (kernel, method, "native", metric, unit, number,
                                   f"{value:.3f}" if unit == "ms" else value)))


def load_rows(kernel, metric, load):
    """Each round's load by each method, from the JSON of riffle bench load."""
    return [row(kernel, method, metric, number, value) for key, method in NATIVE.items() if key in load["rows"]
            for number, value in enumerate(load["rows"][key]["ms"], 1)]


def native_rows(kernel, load, start):
    """From the JSON of riffle bench load and the table of riffle bench start."""
    rows = load_rows(kernel, "native_load", load)
    for found in filter(None, map(START.match, start.splitlines())):
        rows.append(row(kernel, f"direct-{found[1]}", "native_start", 1, float(found[3])))
        rows.append(row(kernel, f"direct-{found[1]}", "native_cpu", 1, float(found[5])))
    return rows


def scale_rows(kernel, load, told):
    """From the JSON of riffle bench load and of riffle inspect --chunks: the kernel's size and loading times."""
    return [row(kernel, "kernel", "scale_bytes", 1, told["load_bytes"], "bytes"),
            row(kernel, "kernel", "scale_chunks", 1, told["shuffle"]["chunks"], "chunks"),
            *load_rows(kernel, "scale_load", load)]


def measure(item):
    """The rows of one measurement. Raises Unavailable with the reason."""
    name, own = pathlib.Path(item.kernel).name, cells.kernel_file(item.kernel)
    with tempfile.TemporaryDirectory(prefix="riffle-bench-") as directory:
        if item.what == "storage":
            return named(name, run(cells.riffle(), "bench", "storage", "--runs", ROUNDS, "--csv", own).splitlines())
        if item.what == "work":
            out = pathlib.Path(directory, "work.csv")
            run(cells.ROOT / "tools" / "bench-kernel", "--kernel", item.kernel, "--layouts", item.layouts, "--csv", out)
            return named(name, out.read_text(encoding="ascii").splitlines())
        prepared = pathlib.Path(directory, "prepared")
        run(cells.riffle(), "prepare", own, "-o", prepared)
        load = json.loads(run(cells.riffle(), "bench", "load", "--runs", ROUNDS, "--json", prepared))
        if item.what == "scale":
            return scale_rows(name, load, json.loads(run(cells.riffle(), "inspect", "--json", "--chunks", prepared)))
        return native_rows(name, load, run(cells.riffle(), "bench", "start", "--runs", ROUNDS, prepared))
