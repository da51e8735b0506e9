# SPDX-License-Identifier: Apache-2.0
"""The evaluation's plots of boots, of bootstraps and of a kernel at work: one panel per kernel, methods in groups."""
import math
import statistics

import bars

COLOURS = bars.COLOURS
FAST = ("lz4", "none", "none-optimised")
GROUPS = ("entered directly by riffle", "own bootstrap, fast to unpack", "own bootstrap, slow to unpack")


def group_of(method):
    if not method.startswith("bzimage") and method != "bootstrap-fgkaslr":
        return GROUPS[0]
    kind = method.removeprefix("bzimage-").removesuffix("-kaslr").removesuffix("-off")
    return GROUPS[1] if kind in FAST or method == "bootstrap-fgkaslr" else GROUPS[2]


def grouped(rows):
    """[(name, rows)] of (method, row)."""
    return [(name, there) for name in GROUPS if (there := [row for method, row in rows if group_of(method) == name])]


def write(out, svg):
    out.write_text(svg, encoding="utf-8")
    return True


def boots(figures, paper, out, condition="256M"):
    """Every method relative to the boot without KASLR with the same command line, with the paper's ratio below."""
    panels, axes = [], []
    for kernel in figures.kernels():
        rows, ends = [], []
        for method in figures.methods(kernel, condition):
            where = figures.where(kernel, method, condition)
            base = figures.median(kernel, "direct-off", where, "init")
            # another monitor, and a guest that has booted before its start, are not compared in one picture
            if not base or method in ("direct-off", "stock-booted") or method.startswith("emit-"):
                continue
            values = [v / base for v in figures.of(kernel, method, where, "init")]
            ours = statistics.median(values)
            known = paper.get(kernel, {})
            theirs = known[method] / known["direct-off"] if method in known else None
            words = f"{ours:.3f}" + (f" (paper {theirs:.2f})" if theirs else "")
            rows.append((method, bars.Row(method + (" †" if where != condition else ""), (ours, theirs), min(values), max(values),
                                          text=words)))
            ends += [ours, theirs or 1, *values]
        if rows:
            panels.append(bars.Panel(kernel, grouped(rows)))
            axes.append(bars.Axis(min(0.95, min(ends) * 0.98), max(ends) * 1.05, max(ends) > 8, 1))
    what = "instructions" if figures.unit() == "Minstr" else "time"
    return bool(panels) and write(out, bars.plot(
        f"From exec to the guest's init: {what}, over the boot without KASLR",
        ["Shorter is better; 1 is direct-off of the same kernel. The black line spans all boots of a row.",
         "The paper's are ratios of milliseconds, on its machine and kernels. †: with the kernel's self-tests."],
        panels, ("riffle", "the paper"), "ratio to direct-off (logarithmic where bars pass 8)", axes))


def phases(figures, out, condition="256M"):
    import sides    # which draws by this module
    told = sides.phases(figures, condition)
    if not told:
        return False
    panels, axes = [], []
    for kernel in dict.fromkeys(row[0] for row in told):
        for slow in (False, True):
            rows = [(method, bars.Row(method, parts=tuple(p or 0 for p in parts), text=f"{whole:.1f}"))
                    for k, method, parts, whole in told if k == kernel and (group_of(method) == GROUPS[2]) == slow]
            if rows:
                panels.append(bars.Panel(f"{kernel}, {'slow' if slow else 'fast'} to unpack", [("", [row for _, row in rows])]))
                axes.append(bars.Axis(0, 1.02 * max(sum(row.parts) for _, row in rows), False, 0))
    unit = "million instructions" if figures.unit() == "Minstr" else "ms"
    return write(out, bars.plot("Inside the bootstrap: from its first instruction to the kernel's",
                                ["Shorter is better. Each panel has a scale of its own."], panels,
                                [name for name, _, _ in sides.PHASES], unit, axes))


def work(kernel, what, methods, each, papers, out):
    """`each`: {operation: [ratio with an interval, a method each]}."""
    rows, ends = [], [*papers, 1]
    for name, ratios in each.items():
        values = tuple((r.mean, r.mean if math.isnan(r.low) else r.low, r.mean if math.isnan(r.high) else r.high) for r in ratios)
        rows.append(bars.Row(name, values))
        ends += [bound for value in values for bound in value]
    margin = 0.02 * (max(ends) - min(ends)) or 0.01
    return write(out, bars.plot(
        f"{kernel} at work: {what}, over the kernel without KASLR",
        ["Further left is better; 1 is no difference. Lines are 95 % intervals over layouts.",
         "Dashed: the paper's geometric mean of the method of that colour (times, 38 rows of LEBench)."],
        [bars.Panel("", [("", rows)])], methods, "ratio", [bars.Axis(min(ends) - margin, max(ends) + margin, False, 1)],
        row=bars.point_row, rules=[(value, n, "") for n, value in enumerate(papers)]))
