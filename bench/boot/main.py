#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""riffle bench boot: boots a kernel to its guest's init several times, one way, and prints what each boot took."""
import argparse
import pathlib
import statistics
import sys

sys.dont_write_bytecode = True
import cells  # noqa: E402


def options():
    parser = argparse.ArgumentParser(
        prog="riffle bench boot", description="Boots a kernel to its guest's init several times, one way, and prints "
        "what each boot took: milliseconds on hardware KVM, else millions of instructions in tools/kvmbox --icount.")
    parser.add_argument("kernel", metavar="KERNEL", help="a name of tools/build-kernel or tools/fetch-kernel, or a file")
    parser.add_argument("--method", default="direct-kaslr", metavar="M",
                        help=f"one of {', '.join(cells.METHODS)} [direct-kaslr]")
    parser.add_argument("--memory", type=int, default=256, metavar="MIB", help="of the guest [256]")
    parser.add_argument("-n", "--runs", type=int, default=0, metavar="N",
                        help="boots that count, after a warm-up [100 on hardware KVM, else 5]")
    parser.add_argument("--cold", action="store_true",
                        help="drop the page cache before each boot; on hardware KVM only, as root")
    parser.add_argument("--monitor", default="", metavar="'CMD {kernel} {initrd} {cmdline}'",
                        help="another monitor, timed until its guest's init prints; {kernel} is an ELF; there are also "
                        "{bzimage}, {prepared} and {memory}, which is in MiB. ./riffle is beside them")
    parser.add_argument("--csv", metavar="FILE", help="write each figure there")
    chosen = parser.parse_args()
    if chosen.runs < 0 or chosen.memory < 64:
        parser.error("--runs takes a number from 1 on, --memory one from 64 on")
    return chosen


def report(rows):
    """Each boot's figures, one line per boot, then their medians and spread."""
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    value = {(row["metric"], int(row["run"])): float(row["value"]) for row in rows}
    runs = sorted({run for _, run in value})
    lines = [f"{'':8}" + "".join(f" {metric:>10}" for metric in metrics)]
    for run in runs:
        lines.append(f"boot {run:<3}" + "".join(
            f" {value[m, run]:10.3f}" if (m, run) in value else f" {'':10}" for m in metrics))
    of = {m: [value[m, run] for run in runs if (m, run) in value] for m in metrics}
    lines.append(f"{'median':8}" + "".join(f" {statistics.median(of[m]):10.3f}" for m in metrics))
    # maximum minus minimum, relative to the median
    spreads = [(max(of[m]) - min(of[m])) / statistics.median(of[m]) if statistics.median(of[m]) else 0 for m in metrics]
    lines.append(f"{'spread':8}" + "".join(f" {100 * spread:8.2f} %" for spread in spreads))
    return lines


def main():
    chosen = options()
    try:
        runs = chosen.runs or (100 if cells.hardware_kvm() else 5)
        rows = cells.boot(cells.Cell(chosen.kernel, cells.monitor_name(chosen.monitor) or chosen.method, chosen.memory, runs,
                                     chosen.monitor, chosen.cold))
    except cells.Unavailable as reason:
        sys.exit(f"riffle: bench boot: {reason}")
    if chosen.csv:
        cells.write_rows(pathlib.Path(chosen.csv), rows)
    unit = rows[0]["unit"]
    print(f"{rows[0]['kernel']}, {rows[0]['method']}, {rows[0]['condition']}, {runs} boots: "
          + ("milliseconds" if unit == "ms" else "million instructions (tools/kvmbox --icount), not times"))
    print("\n".join(report([row for row in rows if row["metric"] != "copying"])))
    copying = [float(row["value"]) for row in rows if row["metric"] == "copying"]
    if copying:
        print(f"of these copying, at least: {copying[0]:.3f}, reckoned from the sizes of its files")


if __name__ == "__main__":
    main()
