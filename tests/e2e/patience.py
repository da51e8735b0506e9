# SPDX-License-Identifier: Apache-2.0
"""Runs a program with no limit on its total time: it is killed when it makes no progress, not when it is slow."""
import os
import pathlib
import signal
import subprocess
import tempfile
import time


class Stalled(Exception):
    """A program that made no progress."""


class BuildFailed(Exception):
    """A kernel that could not be built: one failure, however many tests need it (conftest.py)."""

    def __init__(self, name, complaint):
        super().__init__(f"{name} could not be built: {complaint}")
        self.name = name


def family_ticks(session):
    """Processor time of all processes of a session, in ticks."""
    total = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                fields = pathlib.Path(entry.path, "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
            except OSError:     # it has ended meanwhile
                continue
            if int(fields[3]) == session:
                total += sum(map(int, fields[11:15]))
    return total


def logs_grown(directory):
    """Files written by other builds in a cache, which this one may be waiting for."""
    sizes = []
    for log in sorted(pathlib.Path(directory).glob(".b*/*.log")):
        try:
            sizes.append((log.name, log.stat().st_size))
        except OSError:
            continue
    return sizes


def run(command, silent=300, also=lambda: None, pause=1.0):
    """
    As subprocess.run() with captured text. Raises Stalled when for `silent` seconds the program has neither used processor time,
    nor printed, nor has what `also` returns changed.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        with subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=out, stderr=err, text=True,
                              start_new_session=True) as process:
            seen, since = None, time.monotonic()
            while True:
                try:
                    process.wait(pause)
                    break
                except subprocess.TimeoutExpired:
                    pass
                state = family_ticks(process.pid), os.fstat(out.fileno()).st_size, os.fstat(err.fileno()).st_size, also()
                if state != seen:
                    seen, since = state, time.monotonic()
                elif time.monotonic() - since > silent:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                    raise Stalled(f"{' '.join(str(c) for c in command)}: no progress for {silent} s")
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read())
    return subprocess.CompletedProcess(command, process.returncode, *texts)
