# SPDX-License-Identifier: Apache-2.0
"""
What tools/bench-snapshots runs in its box: starts from stocks and snapshots, and saves, counted by clocks of which a
nanosecond is an instruction. Prints a line for each row.

usage: inside.py DIRECTORY ITEMS MIB,... PART,...
"""
import json
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

MILLION = 1e6


class Started:
    """A monitor, its boot timer's lines, and when its guest called; "answer" is None where it was not waited for."""

    def __init__(self, listener, *words, answer=True, console="none", keep=False):
        begun = time.monotonic_ns()
        self.process = subprocess.Popen([str(w) for w in words] + ["--boot-timer", "--console", console], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.answer = None
        if answer:
            connection, _ = listener.accept()
            connection.recv(16)
            self.answer = time.monotonic_ns() - begun
            while connection.recv(16):
                pass
            connection.sendall(bytes(ord_byte(i) for i in range(16)))
            connection.close()
        self.timer = {}
        while "start to first guest instruction" not in self.timer:
            line = self.process.stderr.readline().decode()
            if not line:
                sys.exit(f"{words}: ended with {self.process.wait()}")
            if found := re.match(r"riffle: boot-timer: *(.*\S) +([0-9.]+) ms", line):
                self.timer[found[1]] = float(found[2])
        if not keep:
            self.end()

    def say(self, words):
        self.process.stdin.write(words.encode() + b"\n")
        self.process.stdin.flush()
        while (line := self.process.stdout.readline()).strip() != b"done: " + words.encode():
            if not line:
                sys.exit("the guest ended")

    def end(self):
        self.process.kill()
        self.process.communicate()


def ord_byte(at):
    """As byte_at() of tests/guest/vsock.c."""
    return ((at * 2654435761 % 2**32 >> 13) ^ at) & 255


def row(name, runs):
    def median(values):
        values = [v for v in values if v is not None]
        return f"{statistics.median(values):9.2f}" if values else "        -"

    print(f"{name:44} to the first instruction {median([r.timer['start to first guest instruction'] for r in runs])}, "
          f"CPU {median([r.timer['CPU, all threads'] for r in runs])}, "
          f"answer {median([r.answer / MILLION if r.answer else None for r in runs])}", flush=True)


def run(*words):
    r = subprocess.run([str(w) for w in words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if r.returncode:
        sys.exit(f"{words}: {r.stdout}{r.stderr}")
    return r.stdout


def fill(riffle, stock, stage, count, options):
    run(riffle, "stock", "--dir", stock, "--keep", count, "--once", "--stage", stage, "--", *options)


def allocated(directory):
    return sum(p.stat().st_blocks * 512 for p in directory.rglob("*")) / (1 << 20)


def cpu(pid):
    """Of all its threads, in nanoseconds."""
    return sum(int((p / "schedstat").read_text().split()[0]) for p in pathlib.Path(f"/proc/{pid}/task").iterdir())


def main():
    shared, items, sizes, parts = sys.argv[1:]
    items, parts = int(items), parts.split(",")
    d = pathlib.Path(tempfile.mkdtemp(dir="/tmp"))
    for name in ("riffle", "initrd", "kernel"):
        shutil.copy(pathlib.Path(shared) / name, d)
    os.chdir(d)
    riffle, vsock = d / "riffle", ("--vsock", f"cid=3,path={d}/v")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("v_1234")
    listener.listen(8)

    def options(mib):
        return ["-m", f"{mib}M", "-i", d / "initrd", "-a", "quiet", *vsock, d / "kernel"]

    def start(*words, **more):
        pathlib.Path("v").unlink(missing_ok=True)
        return Started(listener, *words, **more)

    start(riffle, "run", *options(256), answer=False)       # what is read first is warm then
    if "laid" in parts:
        fill(riffle, "laid", "laid", 2 * items, options(256))
        print(f"a laid item: {allocated(next(pathlib.Path('laid/ready').iterdir())):.1f} MiB", flush=True)
        row("fresh, kaslr", [start(riffle, "run", "-r", "kaslr", *options(256), answer=False) for _ in range(items)])
        row("fresh, fgkaslr", [start(riffle, "run", *options(256), answer=False) for _ in range(items)])
        row("laid, fgkaslr", [start(riffle, "run", "--from-stock", "laid", answer=False) for _ in range(2 * items)])
    if "booted" in parts:
        row("fresh, fgkaslr, 256 MiB", [start(riffle, "run", *options(256)) for _ in range(items)])
        for mib in sizes.split(","):
            fill(riffle, "booted", "booted", items, options(mib))
            one = next(pathlib.Path("booted/ready").iterdir())
            print(f"a booted item of {mib} MiB: {allocated(one):.1f} MiB", flush=True)
            run("cp", "-r", "--sparse=always", one, "copy")
            row(f"booted, {mib} MiB", [start(riffle, "run", "--from-stock", "booted") for _ in range(items)])
            row(f"one snapshot, {mib} MiB",
                [start(riffle, "resume", "--share-layout", "copy") for _ in range(items)])
            shutil.rmtree("copy")
            shutil.rmtree("booted")
    if "save" in parts:
        guest = start(riffle, "run", "--track-dirty", "--snapshot-socket", "s", *options(256), console="stdio", keep=True)
        for name, words in (("all", ()), ("nothing new", ("--changed",)), ("16 MiB", ("--changed",))):
            if name == "16 MiB":
                guest.say("dd if=/dev/urandom of=/tmp/data bs=1M count=16")
            before = cpu(guest.process.pid)
            said = run(riffle, "snapshot", "-s", "s", *words, "saved").strip()
            print(f"save, {name}: {said}; CPU of the monitor {(cpu(guest.process.pid) - before) / MILLION:.1f}", flush=True)
        guest.end()


main()
