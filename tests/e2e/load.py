# SPDX-License-Identifier: Apache-2.0
"""
The host side of guests that use all their devices at once (tests/guest/obey.sh): streams over tap, passt and vsock,
drivers unbound and rebound, and a soak test. Runs as root in its own box (tools/kvmbox). Prints its progress, and
`load: ok` at the end.

usage: load.py streams RIFFLE KERNEL INITRD VCPUS MEGABYTES
       load.py soak RIFFLE_VMM KERNEL INITRD VCPUS SECONDS
"""
import functools
import hashlib
import http.client
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

from console import Console
from network import GATEWAY, Quiet, echo_server, sh

BIG = 2 << 20
WARM = 60       # seconds until memory and descriptors have settled


class Guest(Console):
    """A guest that executes commands from its console."""

    def __init__(self, command):
        super().__init__(command, echo=True)

    def wait_until_ready(self):
        assert self.wait_for("obey: ready", seconds=1500), "the guest did not start"

    def do(self, name, command, seconds=1500):
        """The lines that the guest printed about it."""
        begun, before = time.monotonic(), len(self.lines)
        self.say(f"{name} {command}")
        answer = self.wait_for(f"{name}: ok", f"{name}: FAILED", seconds=seconds)
        if answer != f"{name}: ok":
            sh("top -b -H -n 1 -w 150 | sed '/ 0.0 *[0-9.]* *[0-9:.]* [^ ]*$/d'; ss -tanpx | grep -v LISTEN")
            raise AssertionError((name, answer))
        print(f"load: {name} took {time.monotonic() - begun:.1f} s", flush=True)
        return self.lines[before:]

    def end(self):
        self.say("end")
        code = self.process.wait(120)
        assert code == 0, code


def prepare(directory):
    """Creates interfaces, servers, disks; returns the digest of the HTTP server's file."""
    os.chmod(directory, 0o755)
    (directory / "big").write_bytes(os.urandom(BIG))
    for name in "ab":
        with open(directory / name, "wb") as f:
            f.truncate(32 << 20)
    sh("ip link set lo up")
    sh(f"ip link add out0 type dummy && ip addr add 10.77.0.2/24 dev out0 && ip link set out0 up && "
       f"ip route add default via {GATEWAY}")
    sh("ip tuntap add tap0 mode tap vnet_hdr && ip addr add 192.168.77.1/24 dev tap0 && ip link set tap0 up")
    handler = functools.partial(Quiet, directory=str(directory))
    server = http.server.ThreadingHTTPServer(("0.0.0.0", 8000), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    echo_server(str(directory / "vsock_1234"))
    return hashlib.sha256((directory / "big").read_bytes()).hexdigest()


def start_loops(guest, digest):
    for name, command in (("disk", "disk_pass"), ("read", "read_pass"), ("net", f"net_pass {digest}"),
                          ("vsock", "vsock_pass 500000"), ("rng", "rng_pass")):
        guest.do(f"start-{name}", f"again {name} {command} &")


def streams(directory, riffle, kernel, initrd, vcpus, megabytes):
    digest = prepare(directory)
    subprocess.Popen(["iperf3", "-s"], stdout=subprocess.DEVNULL)
    guest = Guest([riffle, "run", "-m", "256M", "-c", vcpus, "-i", initrd, "--append", "quiet", "--disk", directory / "a",
                   "--disk", directory / "b", "--rng", "--balloon", "16M,reporting", "--net", "tap=tap0", "--net", "user,host",
                   "--vsock", f"cid=3,path={directory / 'vsock'}", kernel])
    guest.wait_until_ready()
    guest.do("up", "up")
    guest.do("user", "user_up")
    part = max(1, int(megabytes) // 16)
    for way, address in (("tap", "192.168.77.1"), ("passt", GATEWAY)):
        for direction, option in (("out", ""), ("in", "-R")):
            guest.do(f"iperf-{way}-{direction}", f"iperf3 -c {address} -n {part}M {option}")
    guest.do("vsock-echo", f"vsock call 1234 {int(megabytes) << 20}")
    # loops that failed because their device was gone continue once it is back
    start_loops(guest, digest)
    guest.do("rebind", "rebind 3")
    guest.do("up-again", "up")
    guest.do("user-again", "user_up")
    guest.do("forget", "sleep 35; rm -f /tmp/failed.*; sleep 20")
    guest.do("stop", "stop")
    guest.end()


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


def patch(api, path, body):
    connection = UnixConnection(api)
    connection.request("PATCH", path, json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    said = response.read()
    assert response.status == 204, (path, body, said)
    connection.close()


def beside_guest(pid):
    """Resident KiB without guest memory (the largest mappings), and the number of open descriptors."""
    resident, size = 0, 0
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if line.startswith("Size:"):
            size = int(line.split()[1])
        elif line.startswith("Rss:") and size != 2048 and size < 200000:
            resident += int(line.split()[1])
    return resident, len(os.listdir(f"/proc/{pid}/fd"))


def soak(directory, vmm, kernel, initrd, vcpus, seconds):
    digest = prepare(directory)
    api = str(directory / "api")
    (directory / "config").write_text(json.dumps({
        "boot-source": {"kernel_image_path": kernel, "initrd_path": initrd, "boot_args": "console=ttyS0 quiet reboot=k panic=1"},
        "machine-config": {"vcpu_count": int(vcpus), "mem_size_mib": 256},
        "drives": [{"drive_id": name, "path_on_host": str(directory / name), "is_root_device": False} for name in "ab"],
        "network-interfaces": [{"iface_id": "eth0", "host_dev_name": "tap0"}],
        "vsock": {"guest_cid": 3, "uds_path": str(directory / "vsock")},
        "balloon": {"amount_mib": 0, "deflate_on_oom": True, "stats_polling_interval_s": 1},
        "entropy": {}}))
    guest = Guest([vmm, "--api-sock", api, "--config-file", directory / "config"])
    guest.wait_until_ready()
    guest.do("up", "up")
    start_loops(guest, digest)
    begun, first, rounds = time.monotonic(), None, 0
    while time.monotonic() - begun < float(seconds):
        patch(api, "/vm", {"state": "Paused"})
        time.sleep(1)
        patch(api, "/vm", {"state": "Resumed"})
        patch(api, "/balloon", {"amount_mib": 32 if rounds % 2 else 0})
        time.sleep(9)
        rounds += 1
        now = beside_guest(guest.process.pid)
        if not first and time.monotonic() - begun >= min(WARM, float(seconds) / 2):
            first = now
        if rounds % 10 == 1:
            print(f"load: {time.monotonic() - begun:.0f} s: {now[0]} KiB resident beside the guest, {now[1]} descriptors",
                  flush=True)
    last = beside_guest(guest.process.pid)
    print(f"load: {rounds} pauses; {first[0]} KiB and {first[1]} descriptors when warm, {last[0]} and {last[1]} at the end",
          flush=True)
    said = guest.do("stop", "stop")
    times = {line.split()[1]: int(line.split()[2]) for line in said if line and line.startswith("times ")}
    assert set(times) == {"disk", "read", "net", "vsock", "rng"} and min(times.values()) > 0, times
    assert last[0] - first[0] <= 256, (first, last)
    assert last[1] - first[1] <= 4, (first, last)   # connections that are just open
    guest.say("end")
    guest.process.wait(120)


if __name__ == "__main__":
    {"streams": streams, "soak": soak}[sys.argv[1]](pathlib.Path(tempfile.mkdtemp()), *sys.argv[2:])
    print("load: ok")
