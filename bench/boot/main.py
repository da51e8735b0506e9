#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""riffle bench boot: boots a kernel to its guest's init several times, one way, and prints what each boot took."""
import argparse
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
                        help="boots that count, behind one that warms [100 on hardware KVM, else 5]")
    parser.add_argument("--monitor", default="", metavar="'CMD {kernel} {initrd} {cmdline}'",
                        help="another monitor: started with the kernel's ELF, timed until its guest's init prints")
    parser.add_argument("--csv", metavar="FILE", help="write each figure there")
    chosen = parser.parse_args()
    if chosen.runs < 0 or chosen.memory < 64:
        parser.error("--runs takes a number from 1 on, --memory one from 64 on")
    return chosen


def main():
    chosen = options()
    try:
        runs = chosen.runs or (100 if cells.hardware_kvm() else 5)
        rows = cells.boot(cells.Cell(chosen.kernel, cells.monitor_name(chosen.monitor) or chosen.method, chosen.memory, runs,
                                     chosen.monitor))
    except cells.Unavailable as reason:
        sys.exit(f"riffle: bench boot: {reason}")
    if chosen.csv:
        import pathlib
        cells.write_rows(pathlib.Path(chosen.csv), rows)
    unit = rows[0]["unit"]
    print(f"{rows[0]['kernel']}, {rows[0]['method']}, {chosen.memory} MiB, {runs} boots: "
          + ("milliseconds" if unit == "ms" else "million instructions (tools/kvmbox --icount), not times"))
    print(f"{'':12} {'median':>10} {'least':>10} {'most':>10}")
    for metric in dict.fromkeys(row["metric"] for row in rows):
        values = [float(row["value"]) for row in rows if row["metric"] == metric]
        print(f"{metric:12} {statistics.median(values):10.3f} {min(values):10.3f} {max(values):10.3f}")


if __name__ == "__main__":
    main()
