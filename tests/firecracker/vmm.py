# SPDX-License-Identifier: Apache-2.0
"""
The program under test as a process in a directory of its own. RIFFLE_VMM names another one: Firecracker itself, to see
whether a test is right.
"""
import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

from api import TIMEOUT, Connection

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("RIFFLE_BUILD", ROOT / "build")).resolve()
VMM = pathlib.Path(os.environ.get("RIFFLE_VMM", BUILD / "api" / "riffle-vmm"))
PATIENCE = TIMEOUT


class Vmm:
    """riffle-vmm with the API socket `socket`, standard output in `out` and standard error in `err`."""

    def __init__(self, directory, *arguments, api=True, start=True, stdin=subprocess.DEVNULL):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.socket = self.directory / "api.sock"
        self.arguments = [str(a) for a in arguments]
        if api:
            self.arguments = ["--api-sock", str(self.socket), *self.arguments]
        self.api, self.process, self.connection, self.stdin = api, None, None, stdin
        if start:
            self.start()

    def start(self):
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.directory), "LC_ALL": "C", "TZ": "UTC",
                       "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(self.directory)),
                       "RIFFLE_ACCEPT_EMULATION": "1"}
        with open(self.directory / "out", "wb") as out, open(self.directory / "err", "wb") as err:
            self.process = subprocess.Popen([VMM, *self.arguments], cwd=self.directory, env=environment,
                                            stdin=self.stdin, stdout=out, stderr=err)
        if self.api:
            self.connection = self.connect()

    def connect(self):
        """A connection; waits until the socket listens."""
        end = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                return Connection(self.socket)
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.output}"
            assert time.monotonic() < end, "no API socket"
            time.sleep(0.005)

    def request(self, method, path, body=None, headers=()):
        return self.connection.request(method, path, body, headers)

    def get(self, path):
        answer = self.request("GET", path)
        assert answer.status == 200, answer.raw
        return answer.json

    def do(self, method, path, body=None, deprecated=False):
        """A request that must succeed."""
        answer = self.request(method, path, body)
        assert answer.status == 204, (method, path, body, answer.raw)
        assert (answer.header("Deprecation") == "true") == deprecated, answer.raw
        return answer

    def put(self, path, body, **kwargs):
        return self.do("PUT", path, body, **kwargs)

    def patch(self, path, body, **kwargs):
        return self.do("PATCH", path, body, **kwargs)

    def file(self, name, content=b"", size=None):
        """A file in the process's directory; its absolute path."""
        path = self.directory / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        if size is not None:
            os.truncate(path, size)
        return str(path)

    @property
    def out(self):
        return (self.directory / "out").read_text(errors="replace")

    @property
    def console(self):
        """Of the guest alone: a line of the log may begin anywhere in what it writes."""
        return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9} \[.*?\n", "", self.out)

    @property
    def err(self):
        return (self.directory / "err").read_text(errors="replace")

    @property
    def output(self):
        return self.out + self.err

    def wait(self, timeout=PATIENCE):
        """The exit code, as a shell would tell it of a signal: negative."""
        return self.process.wait(timeout)

    @property
    def running(self):
        return self.process.poll() is None

    def wait_for(self, condition, timeout=PATIENCE):
        """Polls until the condition gives something true, which is returned."""
        end = time.monotonic() + timeout
        while not (found := condition()):
            assert time.monotonic() < end, f"did not come: {self.output[-3000:]}"
            time.sleep(0.01)
        return found

    def stop(self):
        if self.connection:
            self.connection.close()
        if self.process and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGKILL)
            self.process.wait()


def listens(path):
    with socket.socket(socket.AF_UNIX) as s:
        return s.connect_ex(str(path)) == 0
