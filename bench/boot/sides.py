# SPDX-License-Identifier: Apache-2.0
"""Tables and plots of bootstraps, cold starts, native cost and run time (the paper's figures 5, 4 and 11)."""
import math
import statistics
import subprocess
import sys

import cells
import plots

sys.path.insert(0, str(cells.ROOT / "bench" / "kernel"))
import ratios  # noqa: E402

# Means of the paper's raw data, ms: figure 4, direct and LZ4 bzImage from a cold page cache (a SATA SSD); figure 11, geometric
# means of ratios over 38 rows of LEBench.
PAPER_COLD = {"lupine": (63.4, 47.1), "microvm": (119.8, 98.2), "distro": (234.0, 219.0)}
PAPER_WORK = {"direct-kaslr": 1.006, "direct-fgkaslr": 1.067}
BANDWIDTHS = (50, 100, 200, 400, 800, 1600, 3200, 6400)     # 10^6 bytes a second
STORED = {"none": "prepared", "lz4": "prepared, LZ4", "zstd": "prepared, Zstandard", "bzimage": "bzImage, least"}
PHASES = [("set-up", None, 2), ("decompress", 2, 3), ("parse ELF", 3, 4), ("relocate", 4, 5)]
# methods of riffle bench load
LOADS = ("floor", "direct-off", "direct-kaslr", "direct-fgkaslr", "direct-fgkaslr-lazy")
COLOURS = plots.COLOURS


def number(value, digits=1):
    return "" if value is None else f"{value:.{digits}f}"


def quartiles(values):
    """The lower one, the median and the upper one."""
    return statistics.quantiles(values, n=4) if len(values) > 1 else list(values) * 3


def kernels_with(figures, metric):
    return list(dict.fromkeys(key[0] for key in sorted(figures.values) if key[3] == metric))


def draw(out, title, ylabel, settings, data, plots):
    """A plot of blocks of data, each {name: lines}."""
    blocks = "\n".join(f"${name} << END\n" + "\n".join(lines) + "\nEND" for name, lines in data.items())
    script = f"""set terminal svg size 860,480 font "sans,12" background "white"
set output "{out}"
set title "{title}"
set ylabel "{ylabel}"
set grid ytics
set pointintervalbox 0
set bmargin 4
{settings}
{blocks}
plot {", ".join(plots)}
"""
    subprocess.run(["gnuplot"], input=script, text=True, check=True)


# ---- figure 5 ----

def phases(figures, condition="256M"):
    """[(kernel, method, parts, whole)] of the boots that reported at least the bootstrap's beginning and end."""
    rows = []
    for kernel in figures.kernels():
        for method in figures.methods(kernel, condition):
            where = figures.where(kernel, method, condition)
            marks = {n: figures.median(kernel, method, where, f"mark{n}") for n in range(1, 6)}
            if marks[1] is None or marks[5] is None:
                continue
            parts = [None if marks[a or 1] is None or marks[b] is None else marks[b] - marks[a or 1] for _, a, b in PHASES]
            # everything before the first reported phase is set-up
            first = next((marks[n] for n in (2, 3, 4) if marks[n] is not None), None)
            parts[0] = None if first is None else first - marks[1]
            rows.append((kernel, method, parts, marks[5] - marks[1]))
    return rows


# ---- figure 4 ----

def cold_table(figures, kernel):
    """Measured processor time and modelled reads of each way to store a kernel; which is loaded first."""
    lines = [f"| {kernel} | read, MB | processor, ms | " + " | ".join(f"{b} MB/s" for b in BANDWIDTHS) + " |",
             "|---|---|---|" + "---|" * len(BANDWIDTHS)]
    for method in ("kaslr", "fgkaslr"):
        rows = {stored: (figures.median(kernel, method, stored, "storage_read"),
                         figures.median(kernel, method, stored, "storage_cpu")) for stored in STORED}
        rows = {stored: row for stored, row in rows.items() if None not in row}
        total = {(s, b): cpu + 1e3 * read / b for s, (read, cpu) in rows.items() for b in BANDWIDTHS}
        for stored, (read, cpu) in rows.items():
            cells_ = []
            for b in BANDWIDTHS:
                first = total[stored, b] == min(total[s, b] for s in rows)
                cells_.append(f"**{total[stored, b]:.1f}**" if first else f"{total[stored, b]:.1f}")
            words = {"kaslr": "KASLR", "fgkaslr": "FGKASLR"}[method]
            lines.append(f"| {words}: {STORED[stored]} | {read:.1f} | {cpu:.1f} | " + " | ".join(cells_) + " |")
    return lines


def cold_plot(figures, kernel, out):
    data, plots = {}, []
    for i, (stored, words) in enumerate(STORED.items()):
        cpu = figures.of(kernel, "kaslr", stored, "storage_cpu")
        read = figures.median(kernel, "kaslr", stored, "storage_read")
        if not cpu or read is None:
            continue
        low, middle, high = quartiles(cpu)
        data[f"d{i}"] = [f"{b} {1e3 * read / b + middle:.3f} {1e3 * read / b + low:.3f} {1e3 * read / b + high:.3f}"
                         for b in BANDWIDTHS]
        plots.append(f'$d{i} using 1:2:3:4 with yerrorlines lc rgb "{COLOURS[i]}" pt 7 ps 0.5 title "{words}"')
    if not plots:
        return False
    draw(out, f"{kernel}, KASLR: from a cold file to the loaded kernel (lower is better; reads modelled, processor measured)", "ms",
         'set logscale xy\nset xlabel "read bandwidth, MB/s"\nset xrange [40:8000]\nset key top right', data, plots)
    return True


def cold(figures, directory):
    lines = []
    for kernel in kernels_with(figures, "storage_cpu"):
        lines += [*cold_table(figures, kernel), ""]
        if kernel in PAPER_COLD:
            direct, bzimage = PAPER_COLD[kernel]
            lines += [f"The paper's, whole boots: direct {direct} ms, bzImage (LZ4) {bzimage} ms; direct / bzImage "
                      f"{direct / bzimage:.3f}.", ""]
        if cold_plot(figures, kernel, directory / f"cold-{kernel}.svg"):
            lines += [f"![{kernel}: which storage is loaded soonest](evaluation/cold-{kernel}.svg)", ""]
    for kernel in figures.kernels():
        measured = figures.methods(kernel, "256M-cold")
        if measured:
            lines += [f"| {kernel}, page cache dropped before each boot | to init, ms | least to most |", "|---|---|---|"]
            for method in measured:
                values = figures.of(kernel, method, "256M-cold", "init")
                lines.append(f"| {method} | {statistics.median(values):.1f} | {min(values):.1f} to {max(values):.1f} |")
            lines.append("")
    return lines[:-1]


# ---- other monitors ----

def others(figures):
    """Monitors timed from outside, including riffle if it was started the same way."""
    rows = sorted(key for key in figures.values if key[1].startswith("monitor-") and key[3] == "init")
    lines = []
    for kernel, condition in sorted({(key[0], key[2]) for key in rows}):
        base = figures.median(kernel, "monitor-riffle", condition, "init")
        lines += [f"| {kernel}, {condition} | start to the init's first word | boots | / riffle |", "|---|---|---|---|"]
        for method in [key[1] for key in rows if (key[0], key[2]) == (kernel, condition)]:
            values = figures.of(kernel, method, condition, "init")
            middle = statistics.median(values)
            lines.append(f"| {method.removeprefix('monitor-')} | {middle:.1f} | {len(values)} | "
                         f"{number(middle / base if base else None, 3)} |")
        lines.append("")
    return lines[:-1]


# ---- the monitor's part, natively ----

def native(figures):
    """The time of the monitor's part on this machine. Never to be added to counts."""
    lines = []
    for kernel in kernels_with(figures, "native_load"):
        floor = figures.median(kernel, "floor", "native", "native_load")
        lines += [f"| {kernel} | load, ms | middle half | / floor | start to first KVM_RUN, ms | processor, ms |",
                  "|---|---|---|---|---|---|"]
        for method in LOADS:
            values = figures.of(kernel, method, "native", "native_load")
            if not values:
                continue
            low, middle, high = quartiles(values)
            lines.append(f"| {method} | {middle:.2f} | {low:.2f} to {high:.2f} | "
                         f"{number(middle / floor if floor else None, 2)} | "
                         f"{number(figures.median(kernel, method, 'native', 'native_start'))} | "
                         f"{number(figures.median(kernel, method, 'native', 'native_cpu'))} |")
        lines.append("")
    return lines[:-1]


# ---- larger kernels ----

def least_squares(points):
    """Least squares: the a, b and c for which a + b x1 + c x2 is closest to y, for points (x1, x2, y); None if undetermined."""
    rows = [(1.0, x1, x2) for x1, x2, _ in points]
    matrix = [[sum(r[i] * r[j] for r in rows) for j in range(3)] + [sum(r[i] * p[2] for r, p in zip(rows, points))]
              for i in range(3)]
    for i in range(3):
        pivot = max(range(i, 3), key=lambda k: abs(matrix[k][i]))
        matrix[i], matrix[pivot] = matrix[pivot], matrix[i]
        if abs(matrix[i][i]) < 1e-9:
            return None
        for k in range(3):
            if k != i:
                factor = matrix[k][i] / matrix[i][i]
                matrix[k] = [a - factor * b for a, b in zip(matrix[k], matrix[i])]
    return [matrix[i][3] / matrix[i][i] for i in range(3)]


def scale(figures, directory):
    """Load times against kernel size and number of functions."""
    kernels = sorted(kernels_with(figures, "scale_load"),
                     key=lambda k: (figures.median(k, "kernel", "native", "scale_chunks"),
                                    figures.median(k, "kernel", "native", "scale_bytes")))
    if not kernels:
        return []
    lines = ["| kernel | loadable, MB | chunks | " + " | ".join(f"{m.removeprefix('direct-')}, ms" for m in LOADS) +
             " | FGKASLR adds / floor |", "|---|---|---|" + "---|" * (len(LOADS) + 1)]
    points, data = [], []
    for kernel in kernels:
        size = figures.median(kernel, "kernel", "native", "scale_bytes") / 1e6
        chunks = figures.median(kernel, "kernel", "native", "scale_chunks")
        load = {m: figures.median(kernel, m, "native", "scale_load") for m in LOADS}
        added = load["direct-fgkaslr"] - load["direct-kaslr"]
        points.append((chunks / 1e3, size, added))
        lines.append(f"| {kernel} | {size:.1f} | {chunks:.0f} | " + " | ".join(f"{load[m]:.2f}" for m in LOADS) +
                     f" | {added / load['floor']:.2f} |")
        whiskers = []
        for method in ("floor", "direct-kaslr", "direct-fgkaslr"):
            low, middle, high = quartiles(figures.of(kernel, method, "native", "scale_load"))
            whiskers.append(f"{middle:.3f} {low:.3f} {high:.3f}")
        data.append(f"{size:.3f} " + " ".join(whiskers) + f" {chunks / 1e3:.3f}")
    fitted = least_squares(points) if len(points) > 3 else None
    if fitted:
        base, per_thousand, per_mb = fitted
        off = max(abs(base + per_thousand * x1 + per_mb * x2 - y) for x1, x2, y in points)
        lines += ["", f"By least squares FGKASLR adds {per_thousand:.3f} ms for each thousand chunks and {per_mb:.3f} ms for each MB "
                  f"to a constant {base:.2f} ms; the worst point lies {off:.2f} ms off."]
    draw(directory / "scale.svg", "Load into fresh memory, kernels made larger (lower is better; medians and quartiles)", "ms",
         'set xlabel "loadable bytes, MB (thousands of chunks beside the points)"\nset yrange [0:*]\nset key top left',
         {"d": sorted(data, key=lambda row: float(row.split()[0]))},
         [f'$d using 1:{2 + 3 * i}:{3 + 3 * i}:{4 + 3 * i} with yerrorbars lc rgb "{COLOURS[i]}" pt 7 ps 0.5 title "{words}"'
          for i, words in enumerate(("floor (memcpy)", "KASLR", "FGKASLR"))] +
         ['$d using 1:8:(sprintf("%.0f", $11)) with labels offset 1.5,0 left font ",10" notitle'])
    return lines + ["", "![Load against the size of a kernel](evaluation/scale.svg)"]


# ---- figure 11 ----

def operations(figures, kernel):
    """{operation: {method: values}} of the operations present in every layout of every method, and the condition."""
    found = {}
    for (k, method, condition, metric), values in figures.values.items():
        if k == kernel and condition in ("icount", "kvm"):
            found.setdefault(condition, {}).setdefault(metric, {})[method] = values
    if not found:
        return {}, None
    condition, table = sorted(found.items())[0]
    layouts = {}
    for by_method in table.values():
        for method, values in by_method.items():
            layouts[method] = max(layouts.get(method, 0), len(values))
    return {name: by for name, by in sorted(table.items()) if {m: len(v) for m, v in by.items()} == layouts}, condition


def ratio_words(r):
    return f"{r.mean:.4f}" + ("" if math.isnan(r.low) else f" ({r.low:.4f} to {r.high:.4f})")


def work(figures, directory):
    lines = []
    for kernel in sorted({key[0] for key in figures.values if key[2] in ("icount", "kvm")}):
        table, condition = operations(figures, kernel)
        methods = [m for m in PAPER_WORK if all(m in by and "direct" in by for by in table.values())]
        if not table or not methods:
            continue
        layouts = len(next(iter(table.values()))["direct"])
        what = "counts of instructions" if condition == "icount" else "times"
        lines += [f"| {kernel}, {layouts} layouts, ratios of {what} to no KASLR (95 % interval) | "
                  + " | ".join(methods) + " |", "|---|" + "---|" * len(methods)]
        each = {name: [ratios.ratio(by[m], by["direct"]) for m in methods] for name, by in table.items()}
        lines += [f"| {name} | " + " | ".join(map(ratio_words, row)) + " |" for name, row in each.items()]

        def means(method, table=table):
            runs = len(next(iter(table.values()))[method])
            return ratios.overall([{name: by[method][i] for name, by in table.items()} for i in range(runs)])
        whole = [ratios.ratio(means(m), means("direct")) for m in methods]
        lines.append(f"| **geometric mean of {len(table)}** | " + " | ".join(map(ratio_words, whole)) + " |")
        lines.append("| the paper's, 38 rows of LEBench, times | " + " | ".join(f"{PAPER_WORK[m]:.3f}" for m in methods)
                     + " |")
        lines.append("")
        out = directory / f"work-{kernel}.svg"
        plots.work(kernel, what, methods, each, [PAPER_WORK[m] for m in methods], out)
        lines += [f"![{kernel} at work](evaluation/work-{kernel}.svg)", ""]
    return lines[:-1]
