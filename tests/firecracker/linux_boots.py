# SPDX-License-Identifier: Apache-2.0
"""
Debian guests booted as other people's tools boot them: flintlock's and kata's configuration files, the requests of the
SDK, of containerd's shim and of kata's Rust runtime. Runs where KVM is real, as root; prints a JSON object as linux.py.

usage: linux_boots.py CLOUD-KERNEL GENERIC-KERNEL CLOUD-INITRD GENERIC-INITRD
"""
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from linux import PATIENCE, Linux  # noqa: E402
from vmm import Vmm  # noqa: E402

CHECKS = []
QUIET = "console=ttyS0 reboot=k panic=1 pci=off quiet"


def check(function):
    CHECKS.append(function)
    return function


class Place:
    """Where a guest is booted: a directory with two disks, two kernels with their initrds, a tap."""

    def __init__(self, cloud, generic, cloud_initrd, generic_initrd):
        self.directory = pathlib.Path(tempfile.mkdtemp())
        self.cloud, self.generic, self.initrds = cloud, generic, {cloud: cloud_initrd, generic: generic_initrd}
        for name in ("root.img", "data.img", "other.img"):
            with open(self.directory / name, "wb") as f:
                f.write(name.encode().ljust(4 << 20, b"\0"))

    def path(self, name):
        return str(self.directory / name)

    def start(self, *arguments, config=None, **kwargs):
        if config:
            (self.directory / "config.json").write_text(json.dumps(config))
            arguments = ("--config-file", self.path("config.json"), *arguments)
        self.vmm = Vmm(self.directory, *arguments, stdin=subprocess.PIPE, **kwargs)
        return self.vmm

    def guest(self):
        """The guest's shell, when it is there."""
        linux = Linux(self.vmm, None, None, "tap0")
        self.vmm.wait_for(lambda: "shell ready" in self.vmm.out, PATIENCE)
        return linux


@check
def flintlock(place):
    for name in ("firecracker.log", "firecracker.metrics"):
        (place.directory / name).touch()
    (place.directory / "metadata.json").write_text('{"latest":{"meta-data":"aW5z","user-data":"I2Ns"}}')
    config = {
        "drives": [{"drive_id": "root", "is_root_device": True, "is_read_only": False, "path_on_host": place.path("root.img"),
                    "cache_type": "Unsafe"}],
        "boot-source": {"kernel_image_path": place.cloud, "initrd_path": place.initrds[place.cloud],
                        "boot_args": "console=ttyS0 ds=nocloud-net;s=http://169.254.169.254/latest/ i8042.dumbkbd i8042.noaux "
                        "i8042.nomux i8042.nopnp panic=1 pci=off reboot=k"},
        "logger": {"log_path": place.path("firecracker.log"), "level": "Debug", "show_level": True, "show_log_origin": True},
        "machine-config": {"vcpu_count": 2, "mem_size_mib": 512, "smt": True, "track_dirty_pages": False},
        "metrics": {"metrics_path": place.path("firecracker.metrics")},
        "mmds-config": {"version": "V1", "network_interfaces": ["eth0"]},
        "network-interfaces": [{"iface_id": "eth0", "host_dev_name": "tap0", "guest_mac": "AA:FF:00:00:00:01"}],
    }
    vmm = place.start("--id", "01HFK9ZQ", "--boot-timer", "--no-api", "--metadata", place.path("metadata.json"), config=config,
                      api=False)
    linux = place.guest()
    assert linux.run("grep -c ^processor /proc/cpuinfo") == "2"
    linux.run("ip addr add 192.168.77.2/24 dev eth0; ip link set eth0 up; ip route add 169.254.169.254 dev eth0")
    assert linux.run("wget -q -O - http://169.254.169.254/latest/user-data") == "I2Ns"
    assert linux.run("head -c 8 /dev/vda") == "root.img"
    vmm.process.send_signal(signal.SIGHUP)
    assert vmm.wait() == 156


def start_kata(place, kernel, acpi):
    for name in ("logs.fifo", "metrics.fifo"):
        os.mkfifo(place.directory / name)
    config = {
        "boot-source": {"boot_args": "console=ttyS0 root=/dev/vda1 rootflags=data=ordered ro rootfstype=ext4 pci=off reboot=k "
                        f"panic=1 iommu=off net.ifnames=0 random.trust_cpu=on {acpi} agent.log_vport=1025",
                        "kernel_image_path": kernel, "initrd_path": place.initrds[kernel]},
        "machine-config": {"mem_size_mib": 512, "smt": False, "vcpu_count": 1},
        "vsock": {"guest_cid": 3, "uds_path": place.path("kata.hvsock"), "vsock_id": "root"},
        "logger": {"level": "Error", "log_path": place.path("logs.fifo")},
        "metrics": {"metrics_path": place.path("metrics.fifo")},
        "drives": [{"drive_id": "rootfs", "is_read_only": True, "is_root_device": False, "path_on_host": place.path("root.img")},
                   {"drive_id": "drive_0", "is_read_only": False, "is_root_device": False, "path_on_host": place.path("data.img")}],
        "network-interfaces": [{"guest_mac": "02:00:ca:fe:00:04", "host_dev_name": "tap0", "iface_id": "0"}],
    }
    vmm = place.start(config=config)
    vmm.wait_for(lambda: vmm.get("/")["state"] == "Running")
    return vmm


@check
def kata(place):
    """A drive of its pool is patched under a running guest."""
    vmm = start_kata(place, place.cloud, "")
    linux = place.guest()
    assert linux.run("head -c 8 /dev/vda; head -c 8 /dev/vdb") == "root.imgdata.img"
    vmm.patch("/drives/drive_0", {"drive_id": "drive_0", "path_on_host": place.path("other.img")})
    linux.run("echo 3 >/proc/sys/vm/drop_caches; sleep 1")
    assert linux.run("head -c 9 /dev/vdb") == "other.img"
    vmm.process.terminate()
    assert vmm.wait() == -15


@check
def kata_without_acpi(place):
    """
    As kata has it: processors by the MP table, devices by the command line. Debian's kernels boot so, but have no driver
    that takes the devices from there (VIRTIO_MMIO_CMDLINE_DEVICES); the command line is what such a one needs.
    """
    vmm = start_kata(place, place.generic, "acpi=off")
    line = place.guest().run("cat /proc/cmdline")
    assert "acpi=off" in line and line.count("virtio_mmio.device=4K@0x") == 4, line
    vmm.process.terminate()
    assert vmm.wait() == -15


@check
def go_sdk(place):
    vmm = place.start()
    for method, path, body in (
        ("PUT", "/machine-config", {"mem_size_mib": 256, "smt": True, "vcpu_count": 2}),
        ("PUT", "/boot-source", {"boot_args": QUIET, "initrd_path": place.initrds[place.cloud], "kernel_image_path": place.cloud}),
        ("PUT", "/drives/2", {"drive_id": "2", "is_read_only": False, "is_root_device": False,
                              "path_on_host": place.path("data.img")}),
        ("PUT", "/drives/1", {"drive_id": "1", "is_read_only": False, "is_root_device": True, "path_on_host": place.path("root.img")}),
        ("PUT", "/network-interfaces/1", {"guest_mac": "06:00:AC:10:00:02", "host_dev_name": "tap0", "iface_id": "1"}),
        ("PUT", "/vsock", {"guest_cid": 3, "uds_path": place.path("v.sock")}),
        ("PUT", "/actions", {"action_type": "InstanceStart"})):
        vmm.do(method, path, body)
    linux = place.guest()
    assert linux.run("head -c 8 /dev/vda; head -c 8 /dev/vdb") == "root.imgdata.img"
    assert "root=/dev/vda rw" in linux.run("cat /proc/cmdline")
    vmm.put("/actions", {"action_type": "SendCtrlAltDel"})
    assert vmm.wait(PATIENCE) == 0


@check
def containerd(place):
    vmm = place.start()
    vmm.put("/machine-config", {"mem_size_mib": 256, "smt": False, "vcpu_count": 1})
    vmm.put("/balloon", {"amount_mib": 66, "deflate_on_oom": True, "stats_polling_interval_s": 1})
    vmm.put("/boot-source", {"boot_args": "ro console=ttyS0 noapic reboot=k panic=1 pci=off nomodules quiet",
                             "initrd_path": place.initrds[place.cloud], "kernel_image_path": place.cloud})
    vmm.put("/drives/stub0", {"drive_id": "stub0", "is_read_only": False, "is_root_device": False, "path_on_host": "data.img"})
    vmm.put("/drives/root_drive", {"drive_id": "root_drive", "is_read_only": True, "is_root_device": True, "path_on_host": "root.img"})
    vmm.put("/vsock", {"guest_cid": 3, "uds_path": "firecracker.vsock", "vsock_id": "agent_api"}, deprecated=True)
    vmm.put("/actions", {"action_type": "InstanceStart"})
    linux = place.guest()
    vmm.patch("/drives/stub0", {"drive_id": "stub0", "path_on_host": "other.img"})
    linux.run("sleep 1")
    assert linux.run("head -c 9 /dev/vdb") == "other.img"
    vmm.wait_for(lambda: vmm.get("/balloon/statistics")["actual_mib"] == 66, PATIENCE)
    linux.begin("reboot -f")
    assert vmm.wait(PATIENCE) == 0


@check
def uncompressed_kernel(place):
    """The bzImage's payload, a vmlinux, as Firecracker's users have it; moved all the same."""
    vmm = place.start()
    with open(place.directory / "vmlinux", "wb") as f:
        subprocess.run([pathlib.Path(__file__).resolve().parents[2] / "tools/extract-vmlinux", place.cloud], stdout=f, check=True)
    vmm.put("/boot-source", {"kernel_image_path": "vmlinux", "initrd_path": place.initrds[place.cloud], "boot_args": QUIET})
    vmm.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 256})
    vmm.put("/actions", {"action_type": "InstanceStart"})
    text = place.guest().run("grep -w _text /proc/kallsyms")
    assert re.match(r"ffffffff[89a-f]", text) and not text.startswith("ffffffff81000000 "), text


def main():
    kernels = sys.argv[1:]
    subprocess.run("ip link set lo up; ip tuntap add tap0 mode tap && ip addr add 192.168.77.1/24 dev tap0 && "
                   "ip link set tap0 up", shell=True, check=True)
    seen = {}
    for function in CHECKS:
        place = Place(*kernels)
        try:
            function(place)
            seen[function.__name__] = "ok"
        except Exception:   # each check's failure is told by itself
            seen[function.__name__] = traceback.format_exc() + place.vmm.output[-3000:]
        finally:
            place.vmm.stop()
        print(f"{function.__name__}: {seen[function.__name__]}", file=sys.stderr, flush=True)
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
