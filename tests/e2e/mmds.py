# SPDX-License-Identifier: Apache-2.0
"""
The host side of the guest tests/guest/mmds.sh: riffle-vmm with a tap, on which it listens for frames meant for the
metadata service. Runs as root in its own box. Prints its observations as a JSON object, by version.

usage: mmds.py RIFFLE_VMM KERNEL INITRD VERSION...
"""
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading

SERVICE = bytes([169, 254, 169, 254])
LARGE = 40000
STORE = {"name": "riffle", "latest": {"meta-data": {"number": 7, "id": "i-1"}, "list": [1]}, "large": "x" * LARGE}


class Tap:
    """Counts the guest's frames: all, and those for the service."""

    def __init__(self, name):
        subprocess.run(f"ip tuntap add {name} mode tap vnet_hdr && ip addr add 192.168.77.1/24 dev {name} && "
                       f"ip link set {name} up", shell=True, check=True)
        self.frames = self.leaked = 0
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.bind((name, 0))
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            try:
                frame, address = self.socket.recvfrom(65536)
            except OSError:     # the interface is gone
                return
            if address[2] == socket.PACKET_OUTGOING:
                continue
            self.frames += 1
            kind = frame[12:14]
            self.leaked += (kind == b"\x08\x06" and frame[38:42] == SERVICE) or (kind == b"\x08\x00" and frame[30:34] == SERVICE)


def boot(vmm, kernel, initrd, version, directory, tap):
    config = {
        "boot-source": {"kernel_image_path": kernel, "initrd_path": initrd,
                        "boot_args": f"console=ttyS0 reboot=k panic=1 quiet mmds.version={version} mmds.bytes={LARGE}"},
        "drives": [],
        "machine-config": {"vcpu_count": 1, "mem_size_mib": 192},
        "network-interfaces": [{"iface_id": "eth0", "host_dev_name": tap, "guest_mac": "06:00:ac:10:00:02"}],
        "mmds-config": {"network_interfaces": ["eth0"], "version": version},
        "metrics": {"metrics_path": str(directory / "metrics")},
    }
    (directory / "config").write_text(json.dumps(config))
    (directory / "store").write_text(json.dumps(STORE))
    (directory / "metrics").write_text("")
    counter = Tap(tap)
    r = subprocess.run([vmm, "--no-api", "--config-file", directory / "config", "--metadata", directory / "store"],
                       stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False)
    subprocess.run(["ip", "link", "del", tap], check=True)
    lines = [json.loads(line)["mmds"] for line in (directory / "metrics").read_text().splitlines()]
    return {"code": r.returncode, "lines": [line.strip() for line in r.stdout.splitlines()], "err": r.stderr,
            "frames": counter.frames, "leaked": counter.leaked,
            "metrics": {name: sum(line[name] for line in lines) for name in (lines[0] if lines else {})}}


def main():
    vmm, kernel, initrd, *versions = sys.argv[1:]
    subprocess.run("ip link set lo up", shell=True, check=True)
    seen = {}
    for i, version in enumerate(versions):
        directory = pathlib.Path(tempfile.mkdtemp())
        os.chmod(directory, 0o755)
        seen[version] = boot(vmm, kernel, initrd, version, directory, f"tap{i}")
    print(json.dumps(seen))


main()
