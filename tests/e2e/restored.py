# SPDX-License-Identifier: Apache-2.0
"""
Saves and restores the guest of tests/guest/restored.sh twice by riffle-vmm's API: its network moves to another tap, its
vsock to another path, and its clocks continue once from the saved time and once from the host's. Runs as root in its
own box (tools/kvmbox). Prints its observations as a JSON object.

usage: restored.py RIFFLE_VMM KERNEL INITRD CPUS
"""
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
from network import sh

GAP = 20        # seconds between save and restore


class Vmm(Console):
    def __init__(self, program, path):
        self.path = str(path)
        super().__init__([program, "--api-sock", self.path], stderr=subprocess.STDOUT)
        while not path.exists():
            time.sleep(0.05)

    def check(self, name, *command):
        self.say(" ".join(["check", name, *command]))
        return self.wait_for_start(f"{name}:") == f"{name}: ok"

    def ticks(self):
        """(number, uptime, seconds of the epoch) of each tick."""
        with self.changed:
            words = [line.split() for line in self.lines if line.startswith("tick ")]
        return [(int(w[1]), float(w[2]), int(w[3])) for w in words if len(w) == 4]

    def ask(self, method, path, body):
        data = json.dumps(body).encode()
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(300)
            s.connect(self.path)
            s.sendall(f"{method} {path} HTTP/1.1\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
            head = s.recv(65536).decode()
        if head.split()[1] not in ("200", "204"):
            raise RuntimeError(f"{method} {path} {body}: {head}\n" + "\n".join(self.lines))

    def put(self, path, **body):
        self.ask("PUT", path, body)

    def end(self):
        self.process.kill()
        self.process.wait()


def receive(s, count):
    got = b""
    while len(got) < count and (block := s.recv(count - len(got))):
        got += block
    return got


def vsock_connect(path):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(300)
    s.connect(path)
    s.sendall(b"CONNECT 52\n")
    answer = b""
    while not answer.endswith(b"\n") and (byte := s.recv(1)):
        answer += byte
    return s, answer.startswith(b"OK ")


def echoes(s, data):
    s.sendall(data)
    return receive(s, len(data)) == data


def describe(vmm, d, kernel, initrd, cpus):
    vmm.put("/boot-source", kernel_image_path=kernel, initrd_path=initrd,
            boot_args="console=ttyS0 reboot=k panic=-1 quiet i8042.noaux i8042.nomux i8042.dumbkbd")
    vmm.put("/machine-config", vcpu_count=int(cpus), mem_size_mib=256, track_dirty_pages=True)
    vmm.put("/drives/d", drive_id="d", path_on_host=str(d / "disk"), is_root_device=False)
    vmm.put("/network-interfaces/n", iface_id="n", host_dev_name="tap0", guest_mac="06:00:ac:10:00:02")
    vmm.put("/vsock", guest_cid=3, uds_path=str(d / "vsock"))
    vmm.put("/balloon", amount_mib=0, deflate_on_oom=False)
    vmm.put("/entropy")
    vmm.put("/pmem/p", id="p", path_on_host=str(d / "pmem"))
    vmm.put("/actions", action_type="InstanceStart")


def save(vmm, d, name, **more):
    """Saves while data is in flight to the guest and it has unread console input."""
    vmm.ask("PATCH", "/vm", {"state": "Paused"})
    vmm.say(f"typed-{name}")
    time.sleep(1)
    vmm.put("/snapshot/create", snapshot_path=str(d / f"state-{name}"), mem_file_path=str(d / "memory"), **more)
    vmm.end()
    return time.time(), vmm.ticks()[-1]


def check_guest(seen, vmm, name, restores):
    """Checks common to both restores."""
    def note(what, *command):
        seen[f"{name}-{what}"] = vmm.check(f"{name}-{what}", *command)

    seen[f"{name}-typed"] = bool(vmm.wait_for_start(f"heard typed-{name}"))
    note("disk", "grows", "/tmp/verified")
    note("cpus", "all_grow")
    note("timers", "timers")
    note("rng", "rng")
    note("pmem", "pmem", f"left-{restores - 1}", f"left-{restores}")
    note("reset", "wait_until", "vsock_connections", "1")
    note("reseeded", "wait_until", "reseeded", str(restores))
    note("clean", "clean")


def main():
    program, kernel, initrd, cpus = sys.argv[1:]
    d = pathlib.Path(tempfile.mkdtemp())
    seen = {}
    (d / "disk").write_bytes(bytes(4 << 20))
    (d / "pmem").write_bytes(b"left-0\n" + bytes((16 << 20) - 7))
    sh("ip link add br0 type bridge && ip addr add 192.168.77.1/24 dev br0 && ip link set br0 up")
    for tap in ("tap0", "tap1"):
        sh(f"ip tuntap add {tap} mode tap vnet_hdr && ip link set {tap} master br0 && ip link set {tap} up")

    vmm = Vmm(program, d / "api-1")
    describe(vmm, d, kernel, initrd, cpus)
    if not vmm.wait_for_start("ready", seconds=500):
        raise RuntimeError("the guest is not ready:\n" + "\n".join(vmm.lines))
    seen["cpus"], seen["clocksource"] = vmm.wait_for_start("cpus="), vmm.wait_for_start("clocksource=")
    tcp = socket.create_connection(("192.168.77.2", 5000), timeout=300)
    seen["tcp-before"] = echoes(tcp, b"before" * 10000)
    old, seen["vsock-before"] = vsock_connect(str(d / "vsock"))
    seen["vsock-echo-before"] = echoes(old, b"before" * 1000)
    vmm.ask("PATCH", "/balloon", {"amount_mib": 32})
    seen["balloon-before"] = vmm.check("balloon-before", "wait_until", "memory_is_less", str(32 << 10))
    block = os.urandom(200000)
    threading.Thread(target=tcp.sendall, args=(block,), daemon=True).start()
    away, last = save(vmm, d, "one")

    time.sleep(GAP)
    (d / "vsock").unlink(missing_ok=True)
    vmm = Vmm(program, d / "api-2")
    vmm.put("/snapshot/load", snapshot_path=str(d / "state-one"), resume_vm=True, track_dirty_pages=True,
            mem_backend={"backend_type": "File", "backend_path": str(d / "memory")},
            network_overrides=[{"iface_id": "n", "host_dev_name": "tap1"}], vsock_override={"uds_path": str(d / "moved")})
    back = time.time()
    seen["tcp-in-flight"] = receive(tcp, len(block)) == block
    seen["tcp-after"] = echoes(tcp, b"after" * 10000)
    seen["old-vsock-ends"] = old.recv(1) == b""
    check_guest(seen, vmm, "one", 1)
    # ticks continue as if nothing had happened
    first = vmm.ticks()[0]
    seen["stood"] = {"gap": back - away, "ticks": first[0] - last[0], "uptime": first[1] - last[1], "time": first[2] - last[2]}
    new, seen["vsock-moved"] = vsock_connect(str(d / "moved"))
    seen["vsock-echo-after"] = echoes(new, b"after" * 1000)
    seen["old-path-is-gone"] = not (d / "vsock").exists()
    seen["balloon-kept"] = vmm.check("balloon-kept", "memory_is_less", str(32 << 10))
    vmm.ask("PATCH", "/balloon", {"amount_mib": 0})
    seen["balloon-after"] = vmm.check("balloon-after", "wait_until", "memory_is_less", "0")

    # merge the changes into a copy, because the running guest reads the file itself
    sh(f"cp --sparse=always {d}/memory {d}/memory-2 && mv {d}/memory-2 {d}/memory && rm -f {d}/state-two")
    away, last = save(vmm, d, "two", snapshot_type="Diff")
    time.sleep(GAP)
    (d / "moved").unlink(missing_ok=True)
    vmm = Vmm(program, d / "api-3")
    vmm.put("/snapshot/load", snapshot_path=str(d / "state-two"), clock_realtime=True,
            mem_backend={"backend_type": "File", "backend_path": str(d / "memory")})
    vmm.ask("PATCH", "/vm", {"state": "Resumed"})
    back = time.time()
    seen["tcp-again"] = echoes(tcp, b"again" * 10000)
    check_guest(seen, vmm, "two", 2)
    first = vmm.ticks()[0]
    seen["went on"] = {"gap": back - away, "ticks": first[0] - last[0], "time": first[2] - last[2]}
    vmm.say("quit")
    seen["done"] = bool(vmm.wait_for_start("all-done"))
    seen["code"] = vmm.process.wait(120)
    seen["pmem"] = (d / "pmem").read_bytes()[:6].decode()
    seen["lines"] = vmm.lines
    print(json.dumps(seen))


main()
