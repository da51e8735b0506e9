# SPDX-License-Identifier: Apache-2.0
"""
A machine that runs. Its guest is a few instructions (guest.S), which the slowest KVM runs at once; one machine with every
device answers all requests that leave it running, and others end in each of the ways that a guest can end.
"""
import json
import os
import re
import resource
import signal
import subprocess
import time

import pytest
from api import AFTER, Connection, deserialize, no_content, request
from vmm import Vmm

BUCKET = {"size": 1000, "refill_time": 100}
SHOWN = {"size": 1000, "one_time_burst": None, "refill_time": 100}
pytestmark = pytest.mark.usefixtures("needs_kvm")


def configure(vmm, kernel, **machine):
    """A machine with every device that needs no privileges."""
    vmm.put("/machine-config", {"vcpu_count": 2, "mem_size_mib": 128, **machine})
    for name in ("root", "scratch", "other", "pmem"):
        vmm.file(name, size=2 << 20)
    vmm.put("/balloon", {"amount_mib": 1, "deflate_on_oom": True, "stats_polling_interval_s": 5})
    vmm.put("/boot-source", {"kernel_image_path": kernel, "boot_args": "console=ttyS0 reboot=k"})
    vmm.put("/drives/scratch", {"drive_id": "scratch", "is_root_device": False, "path_on_host": "scratch", "io_engine": "Async"})
    vmm.put("/drives/root", {"drive_id": "root", "is_root_device": True, "is_read_only": True, "path_on_host": "root"})
    vmm.put("/vsock", {"guest_cid": 15, "uds_path": "v.sock"})
    vmm.put("/entropy", {})
    vmm.put("/pmem/pmem0", {"id": "pmem0", "path_on_host": "pmem"})
    vmm.put("/logger", {"log_path": vmm.file("log"), "level": "Debug", "show_level": True})
    vmm.put("/metrics", {"metrics_path": vmm.file("metrics")})
    vmm.put("/mmds", {"a": 1})


def instance_start(vmm):
    r = vmm.request("PUT", "/actions", {"action_type": "InstanceStart"})
    assert r.raw == no_content(), (r.raw, vmm.output)


@pytest.fixture(scope="module")
def running(tmp_path_factory, kernel):
    vmm = Vmm(tmp_path_factory.mktemp("running"), "--boot-timer", "--id", "running")
    configure(vmm, kernel)
    vmm.before = vmm.get("/vm/config")
    instance_start(vmm)
    vmm.wait_for(lambda: "tiny guest" in vmm.console)
    yield vmm
    assert vmm.running, vmm.output
    vmm.stop()


@pytest.fixture
def small(start, kernel):
    """A machine of this test's own with nothing but a kernel."""
    vmm = start("--boot-timer")
    vmm.put("/boot-source", {"kernel_image_path": kernel})
    instance_start(vmm)
    vmm.wait_for(lambda: "tiny guest" in vmm.console)
    return vmm


# ---- what is asked

def test_state(running):
    assert running.get("/") == {"id": "running", "state": "Running", "app_name": "Firecracker",
                                "vmm_version": running.get("/version")["firecracker_version"]}


def test_configuration_is_what_it_was(running):
    def in_order(config):
        return {**config, "drives": sorted(config["drives"], key=lambda d: d["drive_id"])}
    first = next(d for d in running.before["drives"] if d["is_root_device"])
    assert running.before["drives"][0] == first
    now = running.get("/vm/config")
    assert list(now) == list(running.before)
    for key in ("boot-source", "machine-config", "vsock", "entropy", "cpu-config", "logger", "metrics", "mmds-config"):
        assert now[key] == running.before[key], key
    assert {d["drive_id"] for d in in_order(now)["drives"]} == {"root", "scratch"}


def test_machine_config(running):
    assert running.get("/machine-config") == running.before["machine-config"]


def test_threads(running):
    directory = f"/proc/{running.process.pid}/task"
    names = [open(f"{directory}/{t}/comm").read().strip() for t in os.listdir(directory)]
    assert "fc_api" in names and {"fc_vcpu 0", "fc_vcpu 1"} <= set(names)


def test_boot_timer(running):
    running.wait_for(lambda: re.search(
        r"\[running:[^:]+:INFO\] Guest-boot-time = *\d+ us \d+ ms, *\d+ CPU us \d+ CPU ms",
        (running.directory / "log").read_text()))


# ---- what is over once it runs

PUTS = {
    "boot-source": {"kernel_image_path": "x"},
    "machine-config": {"vcpu_count": 4, "mem_size_mib": 128},
    "cpu-config": {},
    "balloon": {"amount_mib": 0, "deflate_on_oom": False},
    "vsock": {"guest_cid": 17, "uds_path": "w.sock"},
    "entropy": {},
    "serial": {},
    "logger": {"level": "Info"},
    "metrics": {"metrics_path": "m"},
    "mmds/config": {"network_interfaces": ["a"], "version": "V2"},
    "hotplug/memory": {"total_size_mib": 1024},
    "actions": {"action_type": "InstanceStart"},
    "snapshot/load": {"snapshot_path": "a", "mem_backend": {"backend_type": "File", "backend_path": "b"}},
}


@pytest.mark.parametrize("path", PUTS)
def test_put_after_the_start(running, path):
    assert running.request("PUT", "/" + path, PUTS[path]).raw == AFTER


@pytest.mark.parametrize("body", [{"vcpu_count": 4}, {"mem_size_mib": 64}, {"smt": True}])
def test_patch_machine_after_the_start(running, body):
    assert running.request("PATCH", "/machine-config", body).raw == AFTER


@pytest.mark.parametrize("method,path,body", [
    ("PUT", "/drives/new", {"drive_id": "new", "is_root_device": False, "path_on_host": "other"}),
    ("PUT", "/network-interfaces/new", {"iface_id": "new", "host_dev_name": "name-too-long-for-it"}),
    ("PUT", "/pmem/new", {"id": "new", "path_on_host": "other"}),
    ("DELETE", "/drives/scratch", None), ("DELETE", "/network-interfaces/a", None), ("DELETE", "/pmem/pmem0", None),
])
def test_hot_plugging_needs_pci(running, method, path, body):
    r = running.request(method, path, body)
    assert r.raw == AFTER or (r.status == 400 and "PCI is not enabled" in r.fault)


def test_json_is_looked_at_before_the_phase(running):
    assert running.request("PUT", "/boot-source", "{}").raw == deserialize("missing field `kernel_image_path` at line 1 column 2")


# ---- PATCH of drives

def test_patch_drive_with_nothing(running):
    r = running.request("PATCH", "/drives/scratch", {"drive_id": "scratch"})
    assert r.status == 400 and "Running method expected different backend." in r.fault


PATCH_REFUSED = {
    "unknown drive": ("nobody", {"path_on_host": "other"}, "Device not found"),
    "unknown drive, limits": ("nobody", {"rate_limiter": {}}, "Device not found"),
    "no file": ("scratch", {"path_on_host": "foo.bar"},
                "Error manipulating the backing file: No such file or directory (os error 2) foo.bar"),
    "no file and limits": ("scratch", {"path_on_host": "foo.bar", "rate_limiter": {"ops": BUCKET}}, "No such file or directory"),
    "is_read_only": ("scratch", {"path_on_host": "other", "is_read_only": True}, "unknown field `is_read_only`"),
    "io_engine": ("scratch", {"path_on_host": "other", "io_engine": "Sync"}, "unknown field `io_engine`"),
    "is_root_device": ("scratch", {"path_on_host": "other", "is_root_device": False}, "unknown field `is_root_device`"),
    "directory": ("scratch", {"path_on_host": "."}, ""),
}


@pytest.mark.parametrize("row", PATCH_REFUSED)
def test_patch_drive_refused(running, row):
    drive, body, text = PATCH_REFUSED[row]
    before = running.get("/vm/config")
    r = running.request("PATCH", f"/drives/{drive}", {"drive_id": drive, **body})
    assert r.status == 400 and text in r.fault, r.raw
    if row.startswith("unknown drive"):
        assert r.fault.startswith("Drive config error: ") and "Failed perform action on device: " in r.fault
    assert running.get("/vm/config") == before


def shown_drive(vmm, name):
    return next(d for d in vmm.get("/vm/config")["drives"] if d["drive_id"] == name)


@pytest.mark.parametrize("more", [{}, {"rate_limiter": {"ops": BUCKET}}])
def test_patch_drive_path(running, more):
    for path in ("other", "scratch", running.file("larger", size=4 << 20), "scratch"):
        running.patch("/drives/scratch", {"drive_id": "scratch", "path_on_host": path, **more})
        assert shown_drive(running, "scratch")["path_on_host"] == path


def test_patch_drive_limits(running):
    """An absent bucket is untouched, size 0 or refill 0 turns it off."""
    def patch(limiter):
        running.patch("/drives/scratch", {"drive_id": "scratch", "rate_limiter": limiter})
        return shown_drive(running, "scratch")["rate_limiter"]
    off = {"size": 0, "refill_time": 0}
    patch({"bandwidth": off, "ops": off})
    assert patch({"bandwidth": BUCKET}) == {"bandwidth": SHOWN, "ops": None}
    assert patch({"ops": BUCKET}) == {"bandwidth": SHOWN, "ops": SHOWN}
    assert patch({}) == {"bandwidth": SHOWN, "ops": SHOWN}
    assert patch({"ops": {**BUCKET, "one_time_burst": 7}}) == {"bandwidth": SHOWN, "ops": {**SHOWN, "one_time_burst": 7}}
    assert patch({"ops": {"size": 0, "refill_time": 100}}) == {"bandwidth": SHOWN, "ops": None}
    assert patch({"bandwidth": {"size": 5, "refill_time": 0}}) is None


# ---- PATCH of pmem

@pytest.mark.parametrize("more", [{}, {"rate_limiter": None}, {"rate_limiter": {}}, {"rate_limiter": {"bandwidth": BUCKET}},
                                  {"rate_limiter": {"ops": BUCKET, "bandwidth": BUCKET}}])
def test_patch_pmem(running, more):
    assert running.request("PATCH", "/pmem/pmem0", {"id": "pmem0", **more}).raw == no_content()


def test_patch_pmem_refused(running):
    r = running.request("PATCH", "/pmem/nobody", {"id": "nobody", "rate_limiter": {"ops": BUCKET}})
    assert r.status == 400 and "not found" in r.fault
    r = running.request("PATCH", "/pmem/pmem0", {"id": "pmem0", "path_on_host": "x"})
    assert "unknown field `path_on_host`" in r.fault


# ---- the balloon; the guest has no driver

def test_balloon(running):
    running.patch("/balloon", {"amount_mib": 4})
    assert running.get("/balloon") == {"amount_mib": 4, "deflate_on_oom": True, "stats_polling_interval_s": 5,
                                       "free_page_hinting": False, "free_page_reporting": False}
    assert running.get("/vm/config")["balloon"]["amount_mib"] in (1, 4)


@pytest.mark.parametrize("amount", [129, 300, 33554432, 4294967295])
def test_balloon_too_large(running, amount):
    r = running.request("PATCH", "/balloon", {"amount_mib": amount})
    assert r.status == 400 and r.fault.startswith("Balloon update error: "), r.raw


def test_balloon_statistics(running):
    running.patch("/balloon", {"amount_mib": 2})
    statistics = running.get("/balloon/statistics")
    assert statistics["target_mib"] == 2 and statistics["target_pages"] == 512
    assert statistics["actual_mib"] == 0 and statistics["actual_pages"] == 0


@pytest.mark.parametrize("interval,good", [(5, True), (1, True), (65535, True), (0, False), (5, True)])
def test_balloon_interval(running, interval, good):
    r = running.request("PATCH", "/balloon/statistics", {"stats_polling_interval_s": interval})
    assert r.status == (204 if good else 400), r.raw
    if good:
        assert running.get("/balloon")["stats_polling_interval_s"] == interval


@pytest.mark.parametrize("method,path,body", [("PATCH", "start", None), ("PATCH", "start", {}), ("PATCH", "stop", None),
                                              ("PATCH", "start", {"acknowledge_on_stop": False}), ("GET", "status", None)])
def test_hinting_that_was_not_asked_for(running, method, path, body):
    r = running.request(method, "/balloon/hinting/" + path, body)
    assert r.status == 400 and r.fault.startswith("Balloon update error: "), r.raw


def test_no_balloon(small):
    for method, path, body in (("GET", "/balloon", None), ("GET", "/balloon/statistics", None),
                               ("PATCH", "/balloon", {"amount_mib": 0}),
                               ("PATCH", "/balloon/statistics", {"stats_polling_interval_s": 0})):
        assert small.request(method, path, body).status == 400


def test_statistics_that_are_off(start, kernel):
    vmm = start()
    vmm.put("/balloon", {"amount_mib": 0, "deflate_on_oom": False})
    vmm.put("/boot-source", {"kernel_image_path": kernel})
    instance_start(vmm)
    assert vmm.request("GET", "/balloon/statistics").status == 400
    assert vmm.request("PATCH", "/balloon/statistics", {"stats_polling_interval_s": 1}).status == 400
    vmm.patch("/balloon/statistics", {"stats_polling_interval_s": 0})


@pytest.mark.parametrize("method,body", [("GET", None), ("PATCH", {"requested_size_mib": 0})])
def test_no_memory_to_plug(running, method, body):
    r = running.request(method, "/hotplug/memory", body)
    assert r.status == 400 and "Device not found" in r.fault, r.raw


# ---- metadata without an interface for it

@pytest.mark.parametrize("method,body", [("GET", None), ("PUT", {"a": 2}), ("PATCH", {"a": 2})])
def test_metadata_without_interface(running, method, body):
    r = running.request(method, "/mmds", body)
    assert r.status == 400 and "The MMDS data store is not initialized." in r.fault, r.raw


# ---- pause and resume, in the order of this file

def test_pause_and_resume(running):
    for _ in range(3):
        for state, shown in (("Paused", "Paused"), ("Paused", "Paused"), ("Resumed", "Running"), ("Resumed", "Running")):
            assert running.request("PATCH", "/vm", {"state": state}).raw == no_content()
            assert running.get("/")["state"] == shown


def test_requests_while_paused(running):
    running.patch("/vm", {"state": "Paused"})
    running.patch("/drives/scratch", {"drive_id": "scratch", "path_on_host": "other"})
    running.patch("/balloon", {"amount_mib": 3})
    running.put("/actions", {"action_type": "FlushMetrics"})
    assert running.request("PUT", "/actions", {"action_type": "InstanceStart"}).raw == AFTER
    running.patch("/drives/scratch", {"drive_id": "scratch", "path_on_host": "scratch"})
    running.patch("/vm", {"state": "Resumed"})
    assert running.get("/")["state"] == "Running"


def test_log_tells_of_pausing(running):
    log = (running.directory / "log").read_text()
    for what in ("pause vm", "resume vm"):
        assert re.search(rf"'{what}' API request took \d+ us\.", log), log[-3000:]


# ---- metrics

def metrics(vmm):
    return [json.loads(line) for line in (vmm.directory / "metrics").read_text().splitlines()]


def test_metrics_at_the_start(running):
    assert len(metrics(running)) >= 1


def test_flush_metrics(running):
    before = len(metrics(running))
    running.get("/version")
    running.put("/actions", {"action_type": "FlushMetrics"})
    lines = metrics(running)
    assert len(lines) == before + 1
    assert lines[-1]["get_api_requests"]["vmm_version_count"] >= 1
    running.put("/actions", {"action_type": "FlushMetrics"})
    last = metrics(running)[-1]
    assert last["get_api_requests"]["vmm_version_count"] == 0, "increments since the last line"
    assert last["put_api_requests"]["actions_count"] >= 1
    assert last["api_server"]["process_startup_time_us"] == lines[-1]["api_server"]["process_startup_time_us"]


def test_latencies_stay(running):
    running.patch("/vm", {"state": "Paused"})
    running.patch("/vm", {"state": "Resumed"})
    for _ in range(2):
        running.put("/actions", {"action_type": "FlushMetrics"})
        last = metrics(running)[-1]["latencies_us"]
        for name in ("pause_vm", "resume_vm", "vmm_pause_vm", "vmm_resume_vm"):
            assert last[name] > 0, name
        assert last["pause_vm"] >= last["vmm_pause_vm"]


def test_metrics_of_devices(running):
    running.patch("/drives/scratch", {"drive_id": "scratch", "path_on_host": "scratch"})
    running.put("/actions", {"action_type": "FlushMetrics"})
    every = metrics(running)
    for name in ("block_root", "block_scratch"):
        assert name in every[-1], sorted(every[-1])
    numbers = ("read_bytes", "read_count", "write_bytes", "update_count", "flush_count")
    for line in every:
        for number in numbers:
            assert line["block"][number] == line["block_root"][number] + line["block_scratch"][number]
    assert sum(line["block_scratch"]["update_count"] for line in every) >= 1
    assert sum(line["vcpu"]["exit_io_out"] for line in every) >= len("tiny guest\n")
    assert sum(line["uart"]["write_count"] for line in every) >= len("tiny guest\n")


def test_metrics_at_the_end(small, start, kernel):
    vmm = start()
    vmm.put("/metrics", {"metrics_path": vmm.file("metrics")})
    vmm.put("/boot-source", {"kernel_image_path": kernel})
    instance_start(vmm)
    vmm.process.send_signal(signal.SIGHUP)
    assert vmm.wait() == 156
    assert metrics(vmm)[-1]["signals"]["sighup"] == 1


# ---- snapshots that cannot be

def test_snapshot_of_a_running_machine(running):
    r = running.request("PUT", "/snapshot/create", {"snapshot_path": "s", "mem_file_path": "m"})
    assert r.status == 400 and r.fault == ("Create snapshot error: Cannot save the microVM state: Operation not allowed: "
                                           "save/restore unavailable while running"), r.raw
    assert running.get("/")["state"] == "Running"


# ---- the kernel's command line

DEFAULT = ("reboot=k panic=1 nomodule 8250.nr_uarts=0 i8042.noaux i8042.nomux i8042.dumbkbd swiotlb=noforce")


def slots(count, first=0):
    """Addresses as Firecracker's; of its interrupts 8 and 9 are not used, which here are the clock's and ACPI's."""
    return "".join(f" virtio_mmio.device=4K@{0xc0001000 + 0x1000 * n:#x}:{5 + n if n < 3 else 7 + n}"
                   for n in range(first, first + count))


LINES = {
    "default": (None, [], DEFAULT + " pci=off"),
    "none": ("", [], "pci=off"),
    "as given": ("console=ttyS0 quiet", [], "console=ttyS0 quiet pci=off"),
    "pci=off given: doubled": ("pci=off", [], "pci=off pci=off"),
    "before the arguments of init": ("a b -- c d", [], "a b pci=off -- c d"),
    "a drive": ("x", [("a", {})], "x pci=off" + slots(1)),
    "root": ("x", [("r", {"is_root_device": True})], "x pci=off root=/dev/vda rw" + slots(1)),
    "read-only root": ("x", [("r", {"is_root_device": True, "is_read_only": True})], "x pci=off root=/dev/vda ro" + slots(1)),
    "partition": ("x", [("r", {"is_root_device": True, "partuuid": "0eaa91a0-01"})],
                  "x pci=off root=PARTUUID=0eaa91a0-01 rw" + slots(1)),
    "partuuid of no root": ("x", [("r", {"partuuid": "0eaa91a0-01"})], "x pci=off" + slots(1)),
    "root put last goes first": ("x", [("a", {}), ("b", {}), ("r", {"is_root_device": True})],
                                 "x pci=off root=/dev/vda rw" + slots(3)),
    "root given as well": ("root=/dev/vdb", [("r", {"is_root_device": True})], "root=/dev/vdb pci=off root=/dev/vda rw" + slots(1)),
    "root and arguments of init": ("x -- y", [("r", {"is_root_device": True}), ("a", {})],
                                   "x pci=off root=/dev/vda rw" + slots(2) + " -- y"),
}


def told_line(vmm):
    vmm.wait_for(lambda: "tiny guest" in vmm.console)
    return re.search(r"cmdline=(.*)\n", vmm.out).group(1)


@pytest.mark.parametrize("row", LINES)
def test_command_line(start, kernel, row):
    boot_args, drives, line = LINES[row]
    vmm = start()
    vmm.file("disk", size=4096)
    vmm.put("/boot-source", {"kernel_image_path": kernel, "boot_args": boot_args})
    for name, more in drives:
        vmm.put(f"/drives/{name}", {"drive_id": name, "is_root_device": False, "path_on_host": "disk", **more})
    instance_start(vmm)
    assert told_line(vmm) == line


def test_order_of_devices(start, kernel, taps):
    """The balloon, drives, interfaces, pmem, vsock and the entropy device, whatever the order of requests."""
    vmm = start()
    vmm.file("disk", size=2 << 20)
    vmm.put("/entropy", {})
    vmm.put("/vsock", {"guest_cid": 3, "uds_path": "v.sock"})
    vmm.put("/pmem/p", {"id": "p", "path_on_host": "disk", "read_only": True, "root_device": True})
    vmm.put("/network-interfaces/n", {"iface_id": "n", "host_dev_name": taps[0]})
    vmm.put("/drives/d", {"drive_id": "d", "is_root_device": False, "path_on_host": "disk"})
    vmm.put("/balloon", {"amount_mib": 0, "deflate_on_oom": False})
    vmm.put("/boot-source", {"kernel_image_path": kernel, "boot_args": "x"})
    instance_start(vmm)
    assert told_line(vmm) == "x pci=off" + slots(3) + " root=/dev/pmem0 ro" + slots(3, 3)


@pytest.mark.parametrize("length,good", [(2030, True), (2039, True), (2040, False)])
def test_line_that_grows_too_long(start, kernel, length, good):
    """2048 bytes with the NUL, of which " pci=off" takes 8."""
    vmm = start()
    vmm.put("/boot-source", {"kernel_image_path": kernel, "boot_args": "x" * length})
    r = vmm.request("PUT", "/actions", {"action_type": "InstanceStart"})
    assert r.status == (204 if good else 400), r.raw
    if not good:
        assert r.fault.startswith("Start microvm error: ")
        assert vmm.get("/")["state"] == "Not started"


# ---- the ways to end

def test_ctrl_alt_del(small):
    assert small.request("PUT", "/actions", {"action_type": "SendCtrlAltDel"}).raw == no_content()
    assert small.wait() == 0, small.output
    assert "Firecracker exiting successfully. exit_code=0" in small.out
    assert "Vmm is stopping." in small.out


def test_ctrl_alt_del_while_paused(small):
    small.patch("/vm", {"state": "Paused"})
    small.put("/actions", {"action_type": "SendCtrlAltDel"})
    time.sleep(0.1)
    assert small.running
    small.patch("/vm", {"state": "Resumed"})
    assert small.wait() == 0, small.output


def test_guest_resets(start, kernel):
    """The guest resets when it reads a "!" from the serial console, which is standard input."""
    vmm = start(stdin=subprocess.PIPE)
    vmm.put("/boot-source", {"kernel_image_path": kernel})
    instance_start(vmm)
    vmm.wait_for(lambda: "tiny guest" in vmm.console)
    vmm.process.stdin.write(b"hello")
    vmm.process.stdin.flush()
    vmm.wait_for(lambda: "hello" in vmm.out)
    vmm.process.stdin.write(b"!")
    vmm.process.stdin.flush()
    assert vmm.wait() == 0, vmm.output


def test_triple_fault(start, kernel):
    """As reboot=t does it: an error of the vCPU, and exit code 1."""
    vmm = start(stdin=subprocess.PIPE)
    vmm.put("/metrics", {"metrics_path": vmm.file("metrics")})
    vmm.put("/boot-source", {"kernel_image_path": kernel})
    instance_start(vmm)
    vmm.wait_for(lambda: "tiny guest" in vmm.console)
    vmm.process.stdin.write(b"^")
    vmm.process.stdin.flush()
    assert vmm.wait() == 1, vmm.output
    assert "exit_code=0" not in vmm.out
    assert len(metrics(vmm)) == 2       # the last ones are written


def test_standard_input_that_ends(start, kernel):
    """The guest goes on without its console's input."""
    vmm = start(stdin=subprocess.PIPE)
    vmm.put("/boot-source", {"kernel_image_path": kernel})
    instance_start(vmm)
    vmm.wait_for(lambda: "tiny guest" in vmm.console)
    vmm.process.stdin.close()
    for _ in range(5):
        assert vmm.get("/")["state"] == "Running"
        time.sleep(0.02)
    vmm.put("/actions", {"action_type": "SendCtrlAltDel"})
    assert vmm.wait() == 0


def test_no_standard_input_for_output_elsewhere(start, kernel):
    """With serial_out_path nothing is read: a "!" would reset the guest."""
    vmm = start(stdin=subprocess.PIPE)
    vmm.put("/serial", {"serial_out_path": vmm.file("console")})
    vmm.put("/boot-source", {"kernel_image_path": kernel})
    instance_start(vmm)
    vmm.wait_for(lambda: "tiny guest" in (vmm.directory / "console").read_text())
    vmm.process.stdin.write(b"!")
    vmm.process.stdin.flush()
    time.sleep(0.3)
    assert vmm.running and vmm.get("/")["state"] == "Running"


def test_serial_limit(start, kernel):
    """One bucket, of bytes; what is above it is dropped and counted."""
    vmm = start()
    vmm.put("/metrics", {"metrics_path": vmm.file("metrics")})
    vmm.put("/serial", {"serial_out_path": vmm.file("console"), "rate_limiter": {"size": 4, "refill_time": 3600000}})
    vmm.put("/boot-source", {"kernel_image_path": kernel, "boot_args": "x"})
    instance_start(vmm)
    vmm.wait_for(lambda: (vmm.directory / "console").read_text())

    def dropped():
        vmm.put("/actions", {"action_type": "FlushMetrics"})
        return sum(line["uart"]["rate_limiter_dropped_bytes"] for line in metrics(vmm)) >= len("tiny guest")
    vmm.wait_for(dropped)
    assert len((vmm.directory / "console").read_bytes()) <= 4


def test_keys_that_find_no_room(small):
    """Each Ctrl-Alt-Del takes four of the controller's 16 bytes; the request is refused when there are none."""
    small.patch("/vm", {"state": "Paused"})
    statuses = [small.request("PUT", "/actions", {"action_type": "SendCtrlAltDel"}).status for _ in range(6)]
    assert statuses[0] == 204 and statuses[-1] == 400 and statuses == sorted(statuses), statuses
    small.patch("/vm", {"state": "Resumed"})
    assert small.wait() == 0


def test_serial_output_elsewhere(start, kernel):
    vmm = start()
    vmm.put("/serial", {"serial_out_path": vmm.file("console")})
    vmm.put("/boot-source", {"kernel_image_path": kernel})
    instance_start(vmm)
    vmm.wait_for(lambda: "tiny guest" in (vmm.directory / "console").read_text())
    assert "tiny guest" not in vmm.out


@pytest.mark.parametrize("name,code", [("SIGTERM", -15), ("SIGINT", -2), ("SIGHUP", 156), ("SIGKILL", -9), ("SIGBUS", 149),
                                       ("SIGXCPU", 154)])
def test_signals(small, name, code):
    small.process.send_signal(getattr(signal, name))
    assert small.wait() == code, small.output
    assert small.socket.exists()


@pytest.mark.parametrize("number", [34, 35])
def test_signals_that_wake_vcpus(small, number):
    """Firecracker's has number 35; sent by somebody else, neither ends the process."""
    for _ in range(5):
        os.kill(small.process.pid, number)
        assert small.get("/")["state"] == "Running"
    small.put("/actions", {"action_type": "SendCtrlAltDel"})
    assert small.wait() == 0


def test_start_that_fails_can_be_repaired(start, kernel):
    """A kernel that is none: 400, the process lives; another kernel then starts."""
    vmm = start()
    vmm.put("/boot-source", {"kernel_image_path": vmm.file("bad", b"no kernel" * 1000)})
    r = vmm.request("PUT", "/actions", {"action_type": "InstanceStart"})
    assert r.status == 400 and r.fault.startswith("Start microvm error: "), r.raw
    assert vmm.get("/")["state"] == "Not started"
    vmm.put("/machine-config", {"vcpu_count": 2, "mem_size_mib": 64})
    vmm.put("/boot-source", {"kernel_image_path": kernel})
    instance_start(vmm)
    vmm.wait_for(lambda: "tiny guest" in vmm.console)


def test_pool_of_huge_pages_is_empty(start, kernel):
    """All pages are taken at the start, which fails without them; in other pages the same machine then starts."""
    with open("/proc/meminfo", encoding="ascii") as f:
        free = int(re.search(r"HugePages_Free: *(\d+)", f.read()).group(1))
    vmm = start()
    vmm.put("/boot-source", {"kernel_image_path": kernel})
    vmm.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 2 * free + 64, "huge_pages": "2M"})
    r = vmm.request("PUT", "/actions", {"action_type": "InstanceStart"})
    assert r.status == 400 and r.fault == ("Start microvm error: Invalid Memory Configuration: Cannot create mmap region: "
                                           "Out of memory (os error 12)"), r.raw
    vmm.patch("/machine-config", {"huge_pages": "None", "mem_size_mib": 64})
    instance_start(vmm)
    vmm.wait_for(lambda: "tiny guest" in vmm.console)


@pytest.mark.parametrize("template", ["C3", "T2", "T2S", "T2CL", "T2A", "V1N1"])
def test_cpu_template_of_another_host(start, kernel, template):
    """Looked at when the machine starts; what does not fit is refused, and another one then starts."""
    with open("/proc/cpuinfo", encoding="ascii") as f:
        amd = "AuthenticAMD" in f.read()
    vmm = start()
    vmm.put("/boot-source", {"kernel_image_path": kernel})
    vmm.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 64, "cpu_template": template}, deprecated=True)
    r = vmm.request("PUT", "/actions", {"action_type": "InstanceStart"})
    if template == "V1N1" or (template == "T2A") != amd:
        assert r.status == 400, r.raw
    if r.status != 204:
        assert r.fault.startswith("Start microvm error: "), r.raw
        assert vmm.get("/")["state"] == "Not started"
        vmm.patch("/machine-config", {"cpu_template": "None"}, deprecated=True)
        instance_start(vmm)
    vmm.wait_for(lambda: "tiny guest" in vmm.console)


def test_memory_that_is_too_large(start, kernel):
    """Cut to what a guest's addresses allow, with a warning; what then cannot be had is told, and less is given."""
    vmm = start()
    vmm.put("/boot-source", {"kernel_image_path": kernel})
    vmm.put("/machine-config", {"vcpu_count": 2, "mem_size_mib": 256})
    resource.prlimit(vmm.process.pid, resource.RLIMIT_AS, (1000000000, resource.RLIM_INFINITY))
    vmm.patch("/machine-config", {"mem_size_mib": (1 << 64) - 1})
    assert vmm.get("/machine-config")["mem_size_mib"] == (1 << 64) - 1
    r = vmm.request("PUT", "/actions", {"action_type": "InstanceStart"})
    assert r.status == 400 and r.fault == ("Start microvm error: Invalid Memory Configuration: Cannot create mmap region: "
                                           "Out of memory (os error 12)"), r.raw
    assert "The memory size is cut to 1046528 MiB." in vmm.out
    assert vmm.request("PATCH", "/machine-config", {"mem_size_mib": 0}).status == 400
    vmm.patch("/machine-config", {"mem_size_mib": 256})
    instance_start(vmm)
    vmm.wait_for(lambda: "tiny guest" in vmm.console)


def test_limits_of_an_interface(start, kernel, taps):
    """As those of a drive: an absent bucket is untouched, size 0 or refill 0 turns it off."""
    vmm = start()
    vmm.put("/boot-source", {"kernel_image_path": kernel})
    vmm.put("/network-interfaces/n", {"iface_id": "n", "host_dev_name": taps[0], "rx_rate_limiter": {"ops": BUCKET}})
    instance_start(vmm)

    def patch(**more):
        vmm.patch("/network-interfaces/n", {"iface_id": "n", **more})
        (shown,) = vmm.get("/vm/config")["network-interfaces"]
        return shown["rx_rate_limiter"], shown["tx_rate_limiter"]
    first = {"bandwidth": None, "ops": SHOWN}
    assert patch() == (first, None)
    assert patch(rx_rate_limiter=None, tx_rate_limiter={}) == (first, None)
    assert patch(tx_rate_limiter={"bandwidth": BUCKET}) == (first, {"bandwidth": SHOWN, "ops": None})
    assert patch(rx_rate_limiter={"ops": {"size": 0, "refill_time": 5}}, tx_rate_limiter={"ops": BUCKET}) == (
        None, {"bandwidth": SHOWN, "ops": SHOWN})
    r = vmm.request("PATCH", "/network-interfaces/m", {"iface_id": "m", "rx_rate_limiter": {"ops": BUCKET}})
    assert r.status == 400 and r.fault.startswith("Network config error: ") and "Device not found" in r.fault
    r = vmm.request("PATCH", "/network-interfaces/n", {"iface_id": "n", "host_dev_name": taps[1]})
    assert r.status == 400 and "unknown field `host_dev_name`" in r.fault


def test_hinting(start, kernel):
    """Without a driver the guest has said nothing."""
    vmm = start()
    vmm.put("/boot-source", {"kernel_image_path": kernel})
    vmm.put("/balloon", {"amount_mib": 0, "deflate_on_oom": False, "free_page_hinting": True})
    instance_start(vmm)
    first = vmm.get("/balloon/hinting/status")
    assert list(first) == ["host_cmd", "guest_cmd"] and first["guest_cmd"] is None
    for body in (None, {}, {"acknowledge_on_stop": False}, {"acknowledge_on_stop": True, "unknown": 1}):
        assert vmm.request("PATCH", "/balloon/hinting/start", body).raw == no_content()
        started = vmm.get("/balloon/hinting/status")
        assert started["host_cmd"] > 1 and started["guest_cmd"] is None
    assert vmm.request("PATCH", "/balloon/hinting/stop", {}).raw == no_content()
    assert vmm.get("/balloon/hinting/status")["host_cmd"] in (0, 1)


def test_kernel_of_another_system(start, other_kernel):
    """What is linked otherwise than Linux is refused, and says why; the process lives."""
    vmm = start()
    vmm.put("/boot-source", {"kernel_image_path": other_kernel})
    r = vmm.request("PUT", "/actions", {"action_type": "InstanceStart"})
    assert r.status == 400 and r.fault.startswith("Start microvm error: ") and "p_vaddr" in r.fault
    assert vmm.get("/")["state"] == "Not started"


def test_kernel_replaced_between_put_and_start(start, kernel):
    """The file that PUT opened is the one that starts, whatever is done to its name."""
    vmm = start()
    path = vmm.file("vmlinux", open(kernel, "rb").read())
    vmm.put("/boot-source", {"kernel_image_path": path})
    os.rename(path, path + ".old")
    vmm.file("vmlinux", b"something else")
    instance_start(vmm)
    vmm.wait_for(lambda: "tiny guest" in vmm.console)


def test_drive_removed_between_put_and_start(start, kernel):
    vmm = start()
    os_path = vmm.file("disk", size=4096)
    vmm.put("/drives/a", {"drive_id": "a", "is_root_device": False, "path_on_host": os_path})
    os.unlink(os_path)
    vmm.put("/boot-source", {"kernel_image_path": kernel})
    instance_start(vmm)


def test_two_clients_race_to_start(start, kernel):
    vmm = start()
    vmm.put("/boot-source", {"kernel_image_path": kernel})
    clients = [Connection(vmm.socket) for _ in range(4)]

    for c in clients:
        c.send(request("PUT", "/actions", {"action_type": "InstanceStart"}))
    answers = [c.read().raw for c in clients]
    assert sorted(answers) == sorted([no_content(), AFTER, AFTER, AFTER])


def test_many_requests_while_it_runs(running):
    """In one connection, as a client that polls."""
    for _ in range(300):
        assert running.request("GET", "/").status == 200


@pytest.mark.parametrize("more", [1, 4])
def test_more_devices_than_there_are_slots(start, kernel, more):
    vmm = start()
    vmm.file("disk", size=4096)
    for i in range(17 + more):
        vmm.put(f"/drives/d{i}", {"drive_id": f"d{i}", "is_root_device": False, "path_on_host": "disk"})
    vmm.put("/boot-source", {"kernel_image_path": kernel})
    vmm.put("/entropy", {})
    r = vmm.request("PUT", "/actions", {"action_type": "InstanceStart"})
    assert r.status == 400 and r.fault.startswith("Start microvm error: "), r.raw
    assert "Could not allocate GSI: The requested resource is not available." in r.fault, r.raw
    assert vmm.get("/")["state"] == "Not started"


def test_seventeen_devices(start, kernel):
    vmm = start()
    vmm.file("disk", size=4096)
    for i in range(17):
        vmm.put(f"/drives/d{i}", {"drive_id": f"d{i}", "is_root_device": False, "path_on_host": "disk"})
    vmm.put("/boot-source", {"kernel_image_path": kernel})
    instance_start(vmm)
    assert len(vmm.get("/vm/config")["drives"]) == 17
