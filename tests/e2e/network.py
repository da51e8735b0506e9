# SPDX-License-Identifier: Apache-2.0
"""
The host side of the guest tests/guest/network.sh: a tap, a passt that can reach this host, HTTP servers, unix sockets
for vsock. Runs as root in its own box (tools/kvmbox), since it creates interfaces. Prints its observations as a JSON
object.

usage: network.py RIFFLE KERNEL INITRD BYTES [OPTION...]
"""
import functools
import hashlib
import http.server
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from console import Console

GATEWAY = "10.77.0.1"
FORWARDED = 8080


def sh(command):
    subprocess.run(command, shell=True, check=True)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Guest(Console):
    """riffle, whose messages are kept apart from the console."""

    def __init__(self, command):
        super().__init__(command, stderr=subprocess.PIPE)

    def resident(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])


def fetch(url):
    return hashlib.sha256(urllib.request.urlopen(url, timeout=300).read()).hexdigest()


def echo_server(path):
    """Echoes each connection, then closes its half."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(100)

    def serve(connection):
        with connection:
            try:
                while block := connection.recv(65536):
                    connection.sendall(block)
            except OSError:
                pass    # the guest's driver was unbound

    def accept():
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def vsock_call(path, port, data):
    """What the guest's server sends back, including the reply to CONNECT."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(300)
    s.connect(path)
    s.sendall(b"CONNECT %d\n" % port)
    answer = b""
    while not answer.endswith(b"\n"):
        byte = s.recv(1)
        if not byte:
            return answer, b""
        answer += byte
    sender = threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR)))
    sender.start()
    got = b""
    while block := s.recv(65536):
        got += block
    sender.join()
    s.close()
    return answer, got


def many_calls(path, port, count):
    """Opens that many connections at once, each with a byte there and back."""
    sockets = []
    for _ in range(count):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(300)
        s.connect(path)
        s.sendall(b"CONNECT %d\n" % port)
        sockets.append(s)
    good = 0
    for i, s in enumerate(sockets):
        answer = b""
        while not answer.endswith(b"\n") and (byte := s.recv(1)):
            answer += byte
        s.sendall(bytes([i % 256]))
    for i, s in enumerate(sockets):
        good += s.recv(1) == bytes([i % 256])
        s.close()
    return good


def prepare(directory, size):
    (directory / "big").write_bytes(os.urandom(size))
    sh("ip link set lo up")
    # passt expects a default route
    sh(f"ip link add out0 type dummy && ip addr add 10.77.0.2/24 dev out0 && ip link set out0 up && "
       f"ip route add default via {GATEWAY}")
    sh("ip tuntap add tap0 mode tap vnet_hdr && ip addr add 192.168.77.1/24 dev tap0 && ip link set tap0 up")
    handler = functools.partial(Quiet, directory=str(directory))
    server = http.server.ThreadingHTTPServer(("0.0.0.0", 8000), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return hashlib.sha256((directory / "big").read_bytes()).hexdigest()


def passt_processes():
    return subprocess.run(["pgrep", "-c", "passt"], capture_output=True, text=True, check=False).stdout.strip()


def main():
    riffle, kernel, initrd, size, *options = sys.argv[1:]
    size = int(size)
    memory = 192 + 2 * ((size >> 20) - 2)       # MiB: the guest keeps what it sends in memory
    seen = {"memory": memory << 10}
    directory = pathlib.Path(tempfile.mkdtemp())
    os.chmod(directory, 0o755)
    seen["big"] = prepare(directory, size)
    vsock = str(directory / "vsock")
    echo_server(f"{vsock}_1234")
    guest = Guest([riffle, "run", "-m", f"{memory}M", "-i", initrd, "--append",
                   f"quiet net.bytes={size} net.user={GATEWAY}",
                   "--net", "tap=tap0,mac=06:00:ac:10:00:02", "--net", f"user,host,forward=tcp:{FORWARDED}:80",
                   "--net", "user",
                   "--vsock", f"cid=3,path={vsock}", "--balloon", "32M,stats=1,reporting", *options, kernel])

    def talk():
        if not guest.wait_for("ready-for-tap"):
            return
        seen["from_tap"] = fetch("http://192.168.77.2/back")
        guest.say("tap-done")
        if not guest.wait_for("ready-for-user"):
            return
        seen["from_user"] = fetch(f"http://127.0.0.1:{FORWARDED}/back")
        seen["passt"] = passt_processes()
        sh("pkill -o passt")        # the guest is done with it
        guest.say("user-done")
        if not guest.wait_for("ready-for-vsock"):
            return
        data = os.urandom(size)
        answer, got = vsock_call(vsock, 52, data)
        seen["vsock_answer"], seen["vsock_echo"] = answer.decode(), got == data
        seen["vsock_nobody"] = [part.decode() for part in vsock_call(vsock, 53, b"")]
        seen["vsock_many"] = many_calls(vsock, 52, 50)
        guest.say("vsock-done")
        if not guest.wait_for("memory-used"):
            return
        seen["resident_used"] = guest.resident()
        guest.say("memory-seen")
        if not guest.wait_for("memory-freed"):
            return
        for _ in range(60):     # Linux reports free memory only after some seconds
            seen["resident_freed"] = guest.resident()
            if seen["resident_used"] - seen["resident_freed"] > 30 << 10:
                break
            time.sleep(1)
        guest.say("memory-back")

    try:
        talk()
        guest.wait(lambda: guest.ended, 60)
    finally:
        try:
            seen["code"] = guest.process.wait(60)
        except subprocess.TimeoutExpired:
            guest.process.kill()
            seen["code"] = "did not end"
    time.sleep(1)
    seen["passt_after"] = passt_processes()
    seen["lines"] = guest.lines
    seen["err"] = guest.process.stderr.read().decode(errors="replace")
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
