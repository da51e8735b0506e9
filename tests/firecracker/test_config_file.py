# SPDX-License-Identifier: Apache-2.0
"""Machines described by a configuration file: what is accepted, in which order, what ends the process and how."""
import json
import os
import re
import signal

import pytest
from api import AFTER

FAILED = "Configuration for VMM from one single json failed"
STARTED = "Successfully started microvm that was configured from one single json"


def base(kernel, **more):
    return {"boot-source": {"kernel_image_path": kernel}, "drives": [], **more}


@pytest.fixture
def run(start, tmp_path, needs_kvm):
    """A function that starts a process with this configuration."""
    def run(config, *arguments, **kwargs):
        path = tmp_path / "config.json"
        path.write_text(config if isinstance(config, str) else json.dumps(config))
        return start("--config-file", path, *arguments, **kwargs)
    return run


# Firecracker's own fixture for "GET /vm/config equals the file", with paths of this test
def fixture(kernel, disk):
    return {
        "boot-source": {"kernel_image_path": kernel, "boot_args": "console=ttyS0 reboot=k panic=1 pci=off",
                        "initrd_path": None},
        "drives": [{"drive_id": "rootfs", "partuuid": None, "is_root_device": True, "cache_type": "Unsafe",
                    "is_read_only": False, "path_on_host": disk, "io_engine": "Sync", "rate_limiter": None, "socket": None}],
        "machine-config": {"vcpu_count": 2, "mem_size_mib": 1024, "smt": False, "track_dirty_pages": False,
                           "huge_pages": "None"},
        "cpu-config": None, "balloon": None, "network-interfaces": [], "vsock": None, "logger": None, "metrics": None,
        "mmds-config": None, "entropy": None, "pmem": [], "memory-hotplug": None,
    }


def test_view_equals_the_file(run, kernel, tmp_path):
    (tmp_path / "disk").write_bytes(bytes(4096))
    config = fixture(kernel, str(tmp_path / "disk"))
    vmm = run(config)
    assert vmm.get("/")["state"] == "Running"
    assert vmm.get("/vm/config") == config
    assert vmm.get("/machine-config") == config["machine-config"]
    vmm.wait_for(lambda: STARTED in vmm.out)
    assert vmm.request("PUT", "/actions", {"action_type": "InstanceStart"}).raw == AFTER
    vmm.wait_for(lambda: "tiny guest" in vmm.console)


# ---- what is accepted: it runs

ACCEPTED = {
    "least": {},
    "sections that are null": {k: None for k in ("machine-config", "cpu-config", "balloon", "vsock", "logger", "metrics",
                                                 "mmds-config", "entropy", "memory-hotplug")},
    "unknown section": {"foo": {"bar": 1}},
    "empty lists": {"network-interfaces": [], "pmem": []},
    "machine": {"machine-config": {"vcpu_count": 2, "mem_size_mib": 64}},
    "balloon checked against the machine": {"balloon": {"amount_mib": 200, "deflate_on_oom": False},
                                            "machine-config": {"vcpu_count": 1, "mem_size_mib": 256}},
    "entropy": {"entropy": {}},
    "vsock": {"vsock": {"guest_cid": 3, "uds_path": "v.sock"}},
    "deprecated vsock_id": {"vsock": {"guest_cid": 3, "uds_path": "v.sock", "vsock_id": "root"}},
    "ids that a path could not have": {"drives": [{"drive_id": "a-b.c", "is_root_device": False, "path_on_host": "disk"}]},
    "CPU template": {"machine-config": {"vcpu_count": 1, "mem_size_mib": 64, "cpu_template": "None"}},
    "cpu-config": {"cpu-config": {}},
    "pmem": {"pmem": [{"id": "p", "path_on_host": "disk"}]},
    "root drive last": {"drives": [{"drive_id": "a", "is_root_device": False, "path_on_host": "disk"},
                                   {"drive_id": "r", "is_root_device": True, "path_on_host": "disk"}]},
}


@pytest.mark.parametrize("row", ACCEPTED)
def test_accepted(run, kernel, row):
    vmm = run(base(kernel, **ACCEPTED[row]), start=False)
    vmm.file("disk", size=2 << 20)
    vmm.start()
    assert vmm.get("/")["state"] == "Running"
    if row == "root drive last":
        assert sorted(d["drive_id"] for d in vmm.get("/vm/config")["drives"]) == ["a", "r"]


def test_cpu_config_in_a_file_of_its_own(run, kernel, tmp_path):
    (tmp_path / "cpu.json").write_text("{}")
    assert run(base(kernel, **{"cpu-config": str(tmp_path / "cpu.json")})).get("/")["state"] == "Running"


# ---- what is refused: exit code 1 and the reason

REFUSED = {
    "no JSON": ("{", FAILED),
    "empty": ("", FAILED),
    "no boot-source": ({"drives": []}, "missing field `boot-source`"),
    "no drives": ({"boot-source": {"kernel_image_path": "@"}}, "missing field `drives`"),
    "drives null": ({"boot-source": {"kernel_image_path": "@"}, "drives": None}, "invalid type: null, expected a sequence"),
    "boot-source null": ({"boot-source": None, "drives": []}, "invalid type: null"),
    "network-interfaces null": ({"network-interfaces": None}, "invalid type: null, expected a sequence"),
    "pmem null": ({"pmem": None}, "invalid type: null, expected a sequence"),
    "no vcpu_count": ({"machine-config": {"mem_size_mib": 128}}, "missing field `vcpu_count`"),
    "no mem_size_mib": ({"machine-config": {"vcpu_count": 1}}, "missing field `mem_size_mib`"),
    "unknown field of a section": ({"machine-config": {"vcpu_count": 1, "mem_size_mib": 64, "ht_enabled": False}},
                                   "unknown field `ht_enabled`"),
    "unknown field of a drive": ({"drives": [{"drive_id": "a", "is_root_device": False, "path_on_host": "@", "x": 1}]},
                                 "unknown field `x`"),
    "0 vCPUs": ({"machine-config": {"vcpu_count": 0, "mem_size_mib": 64}}, "The number of vCPUs must be greater than 0"),
    "no kernel": ({"boot-source": {"kernel_image_path": "nowhere"}},
                  "The kernel file cannot be opened: No such file or directory (os error 2)"),
    "no disk": ({"drives": [{"drive_id": "a", "is_root_device": False, "path_on_host": "nowhere"}]},
                "No such file or directory (os error 2)"),
    "two roots": ({"drives": [{"drive_id": n, "is_root_device": True, "path_on_host": "@"} for n in "ab"]},
                  "A root block device already exists!"),
    "balloon too large": ({"balloon": {"amount_mib": 129, "deflate_on_oom": False}}, FAILED),
    "metadata service without its interface": ({"mmds-config": {"network_interfaces": ["a"]}},
                                               "does not correspond to any existing network interface"),
    "list": ("[]", FAILED),
    "trailing comma": ('{"drives": [],}', "trailing comma at line 1 column 15"),
}


@pytest.mark.parametrize("row", REFUSED)
@pytest.mark.parametrize("api", [True, False])
def test_refused(run, kernel, row, api):
    config, text = REFUSED[row]
    if isinstance(config, dict):
        if "drives" not in config and "boot-source" not in config or "machine-config" in config:
            config = {**base(kernel), **config}
        elif row in ("unknown field of a drive", "no disk", "two roots"):
            config = {**base(kernel), **config}
        elif row == "no kernel":
            config = {**config, "drives": []}
        config = json.dumps(config).replace('"@"', json.dumps(kernel))
    vmm = run(config, *([] if api else ["--no-api"]), start=False)
    vmm.api, vmm.arguments = False, vmm.arguments if api else [a for a in vmm.arguments if a not in
                                                              ("--api-sock", str(vmm.socket))]
    vmm.start()
    assert vmm.wait() == 1, vmm.output
    assert FAILED in vmm.output and text in vmm.output, vmm.output


def test_logger_and_metrics_come_first(start, kernel, tmp_path):
    """What is wrong with a later section is told in the log that the file names."""
    for name in ("log", "metrics"):
        (tmp_path / name).touch()
    config = {"drives": [{"drive_id": "a", "is_root_device": False, "path_on_host": "nowhere"}],
              "boot-source": {"kernel_image_path": kernel}, "metrics": {"metrics_path": str(tmp_path / "metrics")},
              "logger": {"log_path": str(tmp_path / "log"), "show_level": True}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    vmm = start("--config-file", tmp_path / "config.json", "--no-api", api=False)
    assert vmm.wait() == 1, vmm.output
    assert FAILED in (tmp_path / "log").read_text() and FAILED not in vmm.out


# ---- without API

def test_no_api(run, kernel):
    vmm = run(base(kernel), "--no-api", "--api-sock", "unused.sock", api=False)
    vmm.wait_for(lambda: "tiny guest" in vmm.console)
    directory = f"/proc/{vmm.process.pid}/task"
    names = {open(f"{directory}/{t}/comm").read().strip() for t in os.listdir(directory)}
    assert "fc_api" not in names and "fc_vcpu 0" in names
    assert not (vmm.directory / "unused.sock").exists()


# ---- other people's files

def test_flintlock(run, kernel, tmp_path, taps):
    """flintlock's file, arguments and way to stop: SIGHUP."""
    (tmp_path / "root.img").write_bytes(bytes(1 << 20))
    config = {
        "drives": [{"drive_id": "root", "is_root_device": True, "is_read_only": False, "path_on_host": str(tmp_path / "root.img"),
                    "cache_type": "Unsafe"}],
        "boot-source": {"kernel_image_path": kernel, "boot_args": "console=ttyS0 ds=nocloud-net;s=http://169.254.169.254/latest/ "
                        "i8042.dumbkbd i8042.noaux i8042.nomux i8042.nopnp panic=1 pci=off reboot=k"},
        "logger": {"log_path": str(tmp_path / "firecracker.log"), "level": "Debug", "show_level": True, "show_log_origin": True},
        "machine-config": {"vcpu_count": 2, "mem_size_mib": 1024, "smt": True, "track_dirty_pages": False},
        "metrics": {"metrics_path": str(tmp_path / "firecracker.metrics")},
        "mmds-config": {"version": "V1", "network_interfaces": ["eth0"]},
        "network-interfaces": [{"iface_id": "eth0", "host_dev_name": taps[0], "guest_mac": "AA:FF:00:00:00:01"}],
    }
    for name in ("firecracker.log", "firecracker.metrics"):
        (tmp_path / name).touch()
    (tmp_path / "metadata.json").write_text(
        '{"latest":{"meta-data":"aW5zdGFuY2VfaWQ6IG5zL3ZtMQo=","user-data":"I2Nsb3VkLWNvbmZpZwo="}}\n')
    vmm = run(config, "--id", "01HFK9ZQ", "--boot-timer", "--no-api", "--metadata", tmp_path / "metadata.json", api=False)
    vmm.wait_for(lambda: "tiny guest" in vmm.console)
    log = vmm.wait_for(lambda: (t := (tmp_path / "firecracker.log").read_text()) and "Guest-boot-time" in t and t)
    assert re.search(r"\[01HFK9ZQ:[^:]+:INFO:[^:]+:\d+\] Guest-boot-time = +\d+ us \d+ ms, +\d+ CPU us \d+ CPU ms", log), log
    assert STARTED in log
    vmm.process.send_signal(signal.SIGHUP)
    assert vmm.wait() == 156
    assert [json.loads(line) for line in (tmp_path / "firecracker.metrics").read_text().splitlines()]


def test_kata(run, kernel, tmp_path, taps):
    """kata's file with its pool of placeholder drives; it asks until the machine runs and then patches them."""
    for name in ("rootfs", "drive_0", "new"):
        (tmp_path / name).write_bytes(bytes(1 << 20))
    config = {
        "boot-source": {"boot_args": "root=/dev/vda1 rootflags=data=ordered ro rootfstype=ext4 pci=off reboot=k panic=1 iommu=off "
                        "net.ifnames=0 random.trust_cpu=on acpi=off 8250.nr_uarts=0 agent.log_vport=1025",
                        "kernel_image_path": kernel},
        "machine-config": {"mem_size_mib": 2048, "smt": False, "vcpu_count": 1},
        "vsock": {"guest_cid": 3, "uds_path": str(tmp_path / "kata.hvsock"), "vsock_id": "root"},
        "logger": {"level": "Error", "log_path": str(tmp_path / "logs.fifo")},
        "metrics": {"metrics_path": str(tmp_path / "metrics.fifo")},
        "drives": [{"drive_id": "rootfs", "is_read_only": True, "is_root_device": False, "path_on_host": str(tmp_path / "rootfs")},
                   {"drive_id": "drive_0", "is_read_only": False, "is_root_device": False,
                    "path_on_host": str(tmp_path / "drive_0")}],
        "network-interfaces": [{"guest_mac": "02:00:ca:fe:00:04", "host_dev_name": taps[0], "iface_id": "0"}],
    }
    for name in ("logs.fifo", "metrics.fifo"):
        os.mkfifo(tmp_path / name)
    vmm = run(config)
    vmm.wait_for(lambda: vmm.get("/")["state"] == "Running")
    directory = f"/proc/{vmm.process.pid}/task"
    vcpus = [open(f"{directory}/{t}/comm").read().strip() for t in os.listdir(directory)]
    assert [n for n in vcpus if n.startswith("fc_vcpu")] == ["fc_vcpu 0"]
    vmm.patch("/drives/drive_0", {"drive_id": "drive_0", "path_on_host": str(tmp_path / "new")})
    drives = {d["drive_id"]: d["path_on_host"] for d in vmm.get("/vm/config")["drives"]}
    assert drives == {"rootfs": str(tmp_path / "rootfs"), "drive_0": str(tmp_path / "new")}
    vmm.process.terminate()
    assert vmm.wait() == -15
