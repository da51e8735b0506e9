# SPDX-License-Identifier: Apache-2.0
"""
A Debian kernel booted through the API, with every device and its real driver; runs where KVM is real, as root, since it
makes interfaces. Prints a JSON object: for each check "ok" or what went wrong.

usage: linux.py KERNEL INITRD
"""
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from api import Connection, no_content, request  # noqa: E402
from vmm import Vmm  # noqa: E402

PATIENCE = 300
CHECKS = []


def check(function):
    """A check; they are done in the order of this file, on one guest, and each after a failure as well."""
    CHECKS.append(function)
    return function


class Linux:
    """A guest of tests/guest/shell.sh: what it is told on the console, and what it answers."""

    def __init__(self, vmm, kernel, initrd, tap):
        self.vmm, self.kernel, self.initrd, self.tap, self.count = vmm, kernel, initrd, tap, 0

    def configure(self):
        vmm, directory = self.vmm, self.vmm.directory
        for name, size in (("root", 1 << 20), ("scratch", 16 << 20), ("larger", 32 << 20), ("pmem", 2 << 20)):
            vmm.file(name, size=size)
        (directory / "larger").write_bytes(b"larger!!" + bytes((32 << 20) - 8))
        vmm.put("/logger", {"log_path": vmm.file("log"), "level": "Debug", "show_level": True})
        vmm.put("/metrics", {"metrics_path": vmm.file("metrics")})
        vmm.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 256})
        vmm.put("/balloon", {"amount_mib": 0, "deflate_on_oom": True, "stats_polling_interval_s": 1})
        vmm.put("/boot-source", {"kernel_image_path": self.kernel, "initrd_path": self.initrd,
                                 "boot_args": "console=ttyS0 reboot=k panic=1 quiet -- init argument"})
        vmm.put("/drives/scratch", {"drive_id": "scratch", "is_root_device": False, "path_on_host": "scratch",
                                    "cache_type": "Writeback"})
        vmm.put("/drives/root", {"drive_id": "root", "is_root_device": True, "is_read_only": True, "path_on_host": "root"})
        vmm.put("/network-interfaces/eth0", {"iface_id": "eth0", "host_dev_name": self.tap, "guest_mac": "06:00:AC:10:00:02"})
        vmm.put("/vsock", {"guest_cid": 3, "uds_path": "v.sock"})
        vmm.put("/entropy", {})
        vmm.put("/mmds/config", {"network_interfaces": ["eth0"], "version": "V2"})
        vmm.put("/mmds", {"latest": {"meta-data": {"ami-id": "ami-1"}}})

    def boot(self):
        self.vmm.put("/actions", {"action_type": "InstanceStart"})
        self.vmm.wait_for(lambda: "shell ready" in self.vmm.out, PATIENCE)

    def begin(self, command):
        self.count += 1
        self.vmm.process.stdin.write(command.encode() + b"\n")
        self.vmm.process.stdin.flush()
        return self.count

    def end(self, number):
        """What a command printed; it must have ended well."""
        def found():
            return re.search(rf"\[{number}:(\d+)\]", self.vmm.out)
        status = self.vmm.wait_for(found, PATIENCE).group(1)
        text = self.vmm.out.replace("\r", "")
        begin = f"[{number - 1}:" if number > 1 else "shell ready"
        text = text[text.index("\n", text.index(begin)) + 1:text.index(f"[{number}:")]
        assert status == "0", (status, text)
        return text.strip()

    def run(self, command):
        return self.end(self.begin(command))

    def metrics(self):
        """All counters of a group since the start, added up."""
        self.vmm.put("/actions", {"action_type": "FlushMetrics"})
        total = {}
        for line in (self.vmm.directory / "metrics").read_text().splitlines():
            for group, values in json.loads(line).items():
                if isinstance(values, dict):
                    for name, value in values.items():
                        if isinstance(value, int):
                            total[group, name] = total.get((group, name), 0) + value
        return total


# ---- the boot

@check
def boots(linux):
    linux.configure()
    linux.boot()
    assert linux.vmm.get("/")["state"] == "Running"


@check
def command_line(linux):
    """What was given, what is always added, devices in the order of their slots, all before the arguments of init."""
    words = linux.run("cat /proc/cmdline")
    devices = "".join(f" virtio_mmio.device=4K@{0xc0001000 + 0x1000 * n:#x}:{5 + n if n < 3 else 7 + n}" for n in range(6))
    # the balloon comes first, so the drive that announces root= is the second device
    first, rest = devices.split(" virtio_mmio", 2)[1:]
    assert words == (f"console=ttyS0 reboot=k panic=1 quiet pci=off virtio_mmio{first} root=/dev/vda ro virtio_mmio{rest}"
                     " -- init argument"), words


@check
def devices_in_their_slots(linux):
    """balloon, root, the other drive, net, vsock, entropy."""
    found = linux.run("cat /sys/bus/virtio/devices/virtio*/device").split()
    assert [int(x, 16) for x in found] == [5, 2, 2, 1, 19, 4], found
    assert linux.run("cat /sys/block/vda/size /sys/block/vda/ro /sys/block/vdb/size /sys/block/vdb/ro").split() == [
        "2048", "1", "32768", "0"]


@check
def interrupts(linux):
    text = linux.run("grep virtio /proc/interrupts")
    assert re.search(r"\b[0-9]+: .*IO-APIC +5-edge +virtio0", text), text


@check
def features_of_the_drives(linux):
    """FLUSH only for Writeback, RO only for read-only; VERSION_1 and EVENT_IDX; nothing else."""
    for name, bits in (("vda", {5, 29, 32}), ("vdb", {9, 29, 32})):
        text = linux.run(f"cat /sys/block/{name}/device/features")
        offered = {i for i, c in enumerate(text.strip()) if c == "1"}
        assert offered == bits, (name, offered)


@check
def kernel_is_randomised(linux):
    text = linux.run("grep -w _text /proc/kallsyms")
    assert int(text.split()[0], 16) != 0xffffffff81000000, text


@check
def entropy(linux):
    assert linux.run("cat /sys/class/misc/hw_random/rng_current").startswith("virtio_rng")
    linux.run("dd if=/dev/hwrng of=/tmp/random bs=1k count=4")
    assert linux.metrics()["entropy", "entropy_bytes"] >= 4096


# ---- drives

@check
def data(linux):
    linux.run("dd if=/dev/urandom of=/tmp/data bs=64k count=16 && dd if=/tmp/data of=/dev/vdb bs=64k conv=fsync")
    digest = linux.run("sha256sum < /tmp/data")
    written = subprocess.run(["sh", "-c", f"head -c 1048576 '{linux.vmm.directory}/scratch' | sha256sum"], capture_output=True,
                             text=True, check=True).stdout
    assert digest == written.strip(), (digest, written)
    counts = linux.metrics()
    assert counts["block_scratch", "write_bytes"] >= 1 << 20 and counts["block_scratch", "flush_count"] >= 1


@check
def read_only_drive(linux):
    linux.run("! dd if=/dev/zero of=/dev/vda bs=512 count=1 conv=fsync")


@check
def patch_under_load(linux):
    """The drive's file is changed while the guest reads: the new size and the new bytes show."""
    number = linux.begin("(while [ ! -e /tmp/stop ]; do dd if=/dev/vdb of=/dev/null bs=64k count=32; done) 2>/dev/null & sleep 1")
    linux.end(number)
    linux.vmm.patch("/drives/scratch", {"drive_id": "scratch", "path_on_host": "larger"})
    linux.run("for i in $(seq 60); do [ $(cat /sys/block/vdb/size) = 65536 ] && break; sleep 1; done; touch /tmp/stop; wait")
    assert linux.run("cat /sys/block/vdb/size") == "65536"
    assert linux.run("echo 3 >/proc/sys/vm/drop_caches; head -c 8 /dev/vdb") == "larger!!"


@check
def limiter_at_run_time(linux):
    before = linux.metrics()["block_scratch", "rate_limiter_throttled_events"]
    linux.vmm.patch("/drives/scratch", {"drive_id": "scratch", "rate_limiter": {"bandwidth": {"size": 65536, "refill_time": 100}}})
    linux.run("echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vdb of=/dev/null bs=64k count=8")
    throttled = linux.metrics()["block_scratch", "rate_limiter_throttled_events"]
    assert throttled > before
    linux.vmm.patch("/drives/scratch", {"drive_id": "scratch", "rate_limiter": {"bandwidth": {"size": 0, "refill_time": 0}}})
    linux.run("echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vdb of=/dev/null bs=64k count=64")
    assert linux.metrics()["block_scratch", "rate_limiter_throttled_events"] <= throttled + 1


# ---- the network and the metadata

@check
def ping(linux):
    assert linux.run("cat /sys/class/net/eth0/address") == "06:00:ac:10:00:02"
    linux.run("ip addr add 192.168.77.2/24 dev eth0; ip link set eth0 up; ping -c 3 -W 10 192.168.77.1")


def http_from_guest(linux, lines, body=""):
    text = "\\r\\n".join(lines) + "\\r\\n\\r\\n" + body
    return linux.run(f"(printf '{text}'; sleep 2) | nc -w 20 169.254.169.254 80")


@check
def metadata(linux):
    linux.run("ip route add 169.254.169.254 dev eth0")
    answer = http_from_guest(linux, ["GET /latest/meta-data/ami-id HTTP/1.1"])
    assert answer.startswith("HTTP/1.1 401"), answer
    answer = http_from_guest(linux, ["PUT /latest/api/token HTTP/1.1", "X-metadata-token-ttl-seconds: 60"])
    assert answer.startswith("HTTP/1.1 200"), answer
    token = answer.split()[-1]
    answer = http_from_guest(linux, ["GET /latest/meta-data/ami-id HTTP/1.1", f"X-metadata-token: {token}"])
    assert answer.startswith("HTTP/1.1 200") and answer.endswith("ami-1"), answer
    linux.vmm.patch("/mmds", {"latest": {"meta-data": {"ami-id": None, "more": "x"}}})
    answer = http_from_guest(linux, ["GET /latest/meta-data HTTP/1.1", f"X-metadata-token: {token}", "Accept: application/json"])
    assert answer.endswith('{"more":"x"}'), answer
    assert linux.metrics()["mmds", "connections_created"] >= 4


@check
def limiters_of_the_network(linux):
    bucket = {"size": 10, "refill_time": 1000}
    linux.vmm.patch("/network-interfaces/eth0", {"iface_id": "eth0", "tx_rate_limiter": {"ops": bucket}})
    shown = linux.vmm.get("/vm/config")["network-interfaces"][0]
    assert shown["tx_rate_limiter"] == {"bandwidth": None, "ops": {**bucket, "one_time_burst": None}}
    linux.run("ping -c 30 -i 0.05 -W 20 192.168.77.1 >/dev/null || true")
    assert linux.metrics()["net", "tx_rate_limiter_throttled"] >= 1
    linux.vmm.patch("/network-interfaces/eth0", {"iface_id": "eth0", "tx_rate_limiter": {"ops": {"size": 0, "refill_time": 0}}})
    linux.run("ping -c 3 -W 10 192.168.77.1")


@check
def unknown_interface(linux):
    r = linux.vmm.request("PATCH", "/network-interfaces/nobody", {"iface_id": "nobody"})
    assert r.status == 400 and r.fault.startswith("Network config error: "), r.raw


# ---- vsock

@check
def vsock_from_the_host(linux):
    linux.run("vsock serve 52 >/dev/null 2>&1 & sleep 1")
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(PATIENCE)
        s.connect(str(linux.vmm.directory / "v.sock"))
        s.sendall(b"CONNECT 52\n")
        answer = s.recv(100)
        assert re.fullmatch(rb"OK \d+\n", answer) and int(answer.split()[1]) >= 1 << 30, answer
        s.sendall(b"x" * 1000)
        got = b""
        while len(got) < 1000:
            got += s.recv(1000)
        assert got == b"x" * 1000


@check
def vsock_to_the_host(linux):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(linux.vmm.directory / "v.sock_1234"))
    listener.listen()

    def serve():
        connection = listener.accept()[0]
        while block := connection.recv(65536):
            connection.sendall(block)
        connection.close()

    threading.Thread(target=serve, daemon=True).start()
    linux.run("vsock call 1234 10000")


# ---- the balloon

@check
def balloon(linux):
    linux.vmm.patch("/balloon", {"amount_mib": 64})
    statistics = linux.vmm.wait_for(
        lambda: (s := linux.vmm.get("/balloon/statistics")) and s["actual_mib"] == 64 and "free_memory" in s and s, PATIENCE)
    assert statistics["target_pages"] == statistics["actual_pages"] == 64 * 256
    assert statistics["total_memory"] > statistics["free_memory"] > 0
    linux.vmm.patch("/balloon", {"amount_mib": 0})
    linux.vmm.wait_for(lambda: linux.vmm.get("/balloon/statistics")["actual_mib"] == 0, PATIENCE)
    assert linux.metrics()["balloon", "inflate_count"] >= 1


# ---- while it runs

@check
def pause_and_resume(linux):
    number = linux.begin("i=0; while [ $i -lt 2000 ]; do i=$((i + 1)); done; echo counted")
    for _ in range(5):
        linux.vmm.patch("/vm", {"state": "Paused"})
        assert linux.vmm.get("/")["state"] == "Paused"
        linux.vmm.patch("/vm", {"state": "Resumed"})
    assert linux.end(number) == "counted"


@check
def paused_guest_stands_still(linux):
    linux.vmm.patch("/vm", {"state": "Paused"})
    number = linux.begin("echo heard")
    time.sleep(1)
    assert f"[{number}:" not in linux.vmm.out
    linux.vmm.patch("/vm", {"state": "Resumed"})
    assert linux.end(number) == "heard"


@check
def two_clients(linux):
    """One asks all the time while the other patches and the guest reads its disk."""
    stop, errors = threading.Event(), []

    def poll():
        with Connection(linux.vmm.socket, PATIENCE) as c:
            while not stop.is_set():
                r = c.request("GET", "/")
                if r.status != 200:
                    errors.append(r.raw)

    thread = threading.Thread(target=poll)
    thread.start()
    number = linux.begin("echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vdb of=/dev/null bs=4k count=500")
    for path in ("scratch", "larger") * 3:
        linux.vmm.patch("/drives/scratch", {"drive_id": "scratch", "path_on_host": path})
    linux.end(number)
    stop.set()
    thread.join()
    assert not errors, errors


@check
def client_vanishes(linux):
    """Requests whose client is gone before the answer are carried out."""
    for amount in range(10):
        with Connection(linux.vmm.socket) as c:
            c.send(request("PATCH", "/balloon", {"amount_mib": amount}))
    linux.vmm.wait_for(lambda: linux.vmm.get("/balloon")["amount_mib"] == 9, PATIENCE)
    linux.vmm.patch("/balloon", {"amount_mib": 0})


@check
def no_warnings(linux):
    text = linux.run("dmesg | grep -cE 'WARNING|BUG:|Oops|Call Trace' || true")
    assert text == "0", linux.run("dmesg | tail -40")


@check
def ctrl_alt_del(linux):
    """The keyboard's driver restarts the machine, which is the end of the process."""
    assert linux.vmm.request("PUT", "/actions", {"action_type": "SendCtrlAltDel"}).raw == no_content()
    assert linux.vmm.wait(PATIENCE) == 0, linux.vmm.output[-2000:]
    lines = (linux.vmm.directory / "metrics").read_text().splitlines()
    assert json.loads(lines[-1])["i8042"]["reset_count"] == 1


def main():
    kernel, initrd = sys.argv[1:3]
    subprocess.run("ip link set lo up; ip tuntap add tap0 mode tap && ip addr add 192.168.77.1/24 dev tap0 && "
                   "ip link set tap0 up", shell=True, check=True)
    seen = {}
    # in the box's own memory: its directories that are shared with the host take no sockets
    vmm = Vmm(tempfile.mkdtemp(), "--boot-timer", stdin=subprocess.PIPE)
    linux = Linux(vmm, kernel, initrd, "tap0")
    for function in CHECKS:
        begun = time.monotonic()
        try:
            function(linux)
            seen[function.__name__] = "ok"
        except Exception:   # each check's failure is told by itself
            seen[function.__name__] = traceback.format_exc()
        print(f"{time.monotonic() - begun:6.1f} s {function.__name__}: {seen[function.__name__]}", file=sys.stderr, flush=True)
        if not vmm.running and function is not CHECKS[-1]:
            break
    seen["output"] = vmm.output[-8000:]
    vmm.stop()
    print(json.dumps(seen))


if __name__ == "__main__":
    os.umask(0o022)
    main()
