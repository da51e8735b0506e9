# SPDX-License-Identifier: Apache-2.0
"""A monitor whose console is read and written while its guest runs."""
import subprocess
import threading


class Console:
    """Starts a monitor, and collects its output line by line."""

    def __init__(self, command, echo=False, **kwargs):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **kwargs)
        self.lines, self.ended, self.changed = [], False, threading.Condition()
        threading.Thread(target=self.read, args=(echo,), daemon=True).start()

    def read(self, echo):
        for line in self.process.stdout:
            line = line.decode(errors="replace").strip()
            if echo:
                print(f"guest: {line}", flush=True)
            with self.changed:
                self.lines.append(line)
                self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def wait(self, found, seconds):
        """The value of found() once it is true, the output has ended or the time is up."""
        with self.changed:
            self.changed.wait_for(lambda: found() or self.ended, seconds)
            return found()

    def wait_for(self, *wanted, seconds=400):
        """The one of these lines that the guest printed; None without one."""
        return self.wait(lambda: next((line for line in wanted if line in self.lines), None), seconds)

    def wait_for_start(self, *starts, seconds=400):
        """The first line that begins with one of these words; None without one."""
        return self.wait(lambda: next((line for line in self.lines if line.startswith(starts)), None), seconds)

    def say(self, words):
        self.process.stdin.write(words.encode() + b"\n")
        self.process.stdin.flush()
