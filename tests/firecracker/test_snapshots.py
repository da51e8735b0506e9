# SPDX-License-Identifier: Apache-2.0
"""Snapshots by the API: when they can be made and loaded, what is asked for, what a failure does to the process."""
import json
import os
import re
import resource
import subprocess

import pytest
from api import AFTER, no_content
from vmm import BUILD

pytestmark = pytest.mark.usefixtures("needs_kvm")
MEMORY = 64
NOT_NOW = "Loading a microVM snapshot not allowed after configuring boot-specific resources."


@pytest.fixture
def made(start, kernel):
    """A snapshot of a machine that was paused, which has ended; the directory with both files."""
    vmm = start()
    vmm.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": MEMORY})
    vmm.put("/boot-source", {"kernel_image_path": kernel, "boot_args": "console=ttyS0 marker"})
    vmm.put("/drives/a", {"drive_id": "a", "is_root_device": False, "path_on_host": vmm.file("disk", size=4096)})
    vmm.put("/actions", {"action_type": "InstanceStart"})
    vmm.wait_for(lambda: "tiny guest" in vmm.console)
    vmm.patch("/vm", {"state": "Paused"})
    r = vmm.request("PUT", "/snapshot/create", {"snapshot_path": "state", "mem_file_path": "mem"})
    assert r.raw == no_content(), (r.raw, vmm.output[-2000:])
    vmm.stop()
    return vmm.directory


def load(vmm, made, **more):
    backend = {"backend_type": "File", "backend_path": str(made / "mem")}
    return vmm.request("PUT", "/snapshot/load", {"snapshot_path": str(made / "state"), "mem_backend": backend, **more})


def test_files(made):
    assert (made / "mem").stat().st_size == MEMORY << 20
    assert 0 < (made / "state").stat().st_size < 10 << 20


def test_made_machine_goes_on(start, kernel):
    vmm = start()
    vmm.put("/boot-source", {"kernel_image_path": kernel})
    vmm.put("/actions", {"action_type": "InstanceStart"})
    vmm.wait_for(lambda: "tiny guest" in vmm.console)
    vmm.patch("/vm", {"state": "Paused"})
    vmm.put("/snapshot/create", {"snapshot_type": "Full", "snapshot_path": "state", "mem_file_path": "mem"})
    assert vmm.get("/")["state"] == "Paused"
    vmm.patch("/vm", {"state": "Resumed"})
    vmm.put("/actions", {"action_type": "SendCtrlAltDel"})
    assert vmm.wait() == 0


@pytest.mark.parametrize("body", [{"snapshot_path": "none/s", "mem_file_path": "m"}, {"snapshot_path": "s", "mem_file_path": "none/m"}])
def test_files_that_cannot_be_made(start, kernel, body):
    vmm = start()
    vmm.put("/boot-source", {"kernel_image_path": kernel})
    vmm.put("/actions", {"action_type": "InstanceStart"})
    vmm.patch("/vm", {"state": "Paused"})
    r = vmm.request("PUT", "/snapshot/create", body)
    assert r.status == 400 and r.fault.startswith("Create snapshot error: "), r.raw
    vmm.patch("/vm", {"state": "Resumed"})


@pytest.fixture
def paused(start, kernel):
    vmm = start()
    vmm.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": MEMORY, "track_dirty_pages": True})
    vmm.put("/boot-source", {"kernel_image_path": kernel})
    vmm.put("/actions", {"action_type": "InstanceStart"})
    vmm.patch("/vm", {"state": "Paused"})
    return vmm


def create(vmm, state, memory, kind="Full"):
    return vmm.request("PUT", "/snapshot/create", {"snapshot_path": state, "mem_file_path": memory, "snapshot_type": kind})


KNOWN = ("s", "m", "hard", "soft", "fifo", "dir")  # beside logs, which grow


@pytest.mark.parametrize("kind", ["Full", "Diff"])
def test_paths_that_are_refused(paused, kind):
    """Before anything is touched: one file by two names, and what is not a regular file."""
    directory = paused.directory
    assert create(paused, "s", "m").status == 204
    os.link(directory / "s", directory / "hard")
    os.symlink("m", directory / "soft")
    os.mkfifo(directory / "fifo")
    (directory / "dir").mkdir()

    def files():
        return {n: ((directory / n).lstat().st_ino, (directory / n).lstat().st_mtime_ns) if n in KNOWN else None
                for n in os.listdir(directory)}

    before = files()
    for state, memory in (("s", "s"), ("s", "./s"), ("s", "hard"), ("hard", "s"), ("new", "new"), ("new", "./new"), ("s", "soft"),
                          ("soft", "m"), ("s", "fifo"), ("fifo", "m"), ("s", "dir"), ("dir", "m")):
        r = create(paused, state, memory, kind)
        assert r.status == 400 and r.fault.startswith("Create snapshot error: "), (state, memory, r.raw)
        assert files() == before, (state, memory)
    assert create(paused, "s", "m", kind).status == 204


def test_file_that_may_not_grow(paused):
    """An error of the request, and not the end of the process; what was there before stays."""
    assert create(paused, "s", "m").status == 204
    before = {name: (paused.directory / name).stat().st_ino for name in "sm"}
    names = sorted(p.name for p in paused.directory.iterdir())
    soft, hard = resource.prlimit(paused.process.pid, resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
    r = create(paused, "s", "m")
    resource.prlimit(paused.process.pid, resource.RLIMIT_FSIZE, (soft, hard))
    assert r.status == 400 and "File too large" in r.fault, r.raw
    assert sorted(p.name for p in paused.directory.iterdir()) == names
    assert {name: (paused.directory / name).stat().st_ino for name in "sm"} == before
    assert create(paused, "s", "m", "Diff").status == 204


def test_changes_against_another_save(paused):
    """Where a state tells that the memory beside it is not the last save's all of it is written."""
    assert create(paused, "s1", "m1").status == 204
    assert create(paused, "s2", "m2").status == 204
    first = (paused.directory / "m1").stat().st_ino
    assert create(paused, "s1", "m1", "Diff").status == 204
    second = (paused.directory / "m1").stat().st_ino
    assert second != first
    assert create(paused, "s1", "m1", "Diff").status == 204
    assert (paused.directory / "m1").stat().st_ino == second


@pytest.mark.parametrize("tracked", [False, True])
def test_changes_that_nothing_tells(start, kernel, tracked):
    """Not refused, as Firecracker does not; the log says that all of the memory was written."""
    vmm = start()
    vmm.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": MEMORY, "track_dirty_pages": tracked})
    vmm.put("/boot-source", {"kernel_image_path": kernel})
    vmm.put("/actions", {"action_type": "InstanceStart"})
    vmm.patch("/vm", {"state": "Paused"})
    said = "Nothing tells what this guest changed: the snapshot of its changes has all of its memory."
    for kind, told in (("Full", False), ("Diff", not tracked)):
        assert create(vmm, "s", "m", kind).status == 204
        assert (said in vmm.out) == told, vmm.out


@pytest.mark.parametrize("resume", [None, False, True])
def test_load(start, made, resume):
    """Paused until it is resumed; the configuration is the one that was saved."""
    vmm = start()
    r = load(vmm, made, **({} if resume is None else {"resume_vm": resume}))
    assert r.raw == no_content(), (r.raw, vmm.output[-2000:])
    assert vmm.get("/")["state"] == ("Running" if resume else "Paused")
    config = vmm.get("/vm/config")
    assert config["machine-config"]["mem_size_mib"] == MEMORY
    assert config["boot-source"]["boot_args"].startswith("console=ttyS0 marker")
    assert [d["drive_id"] for d in config["drives"]] == ["a"]
    vmm.patch("/vm", {"state": "Resumed"})
    assert vmm.request("PUT", "/actions", {"action_type": "InstanceStart"}).raw == AFTER
    vmm.put("/actions", {"action_type": "SendCtrlAltDel"})
    assert vmm.wait() == 0, vmm.output[-2000:]


def test_metadata_service(start, kernel, taps):
    """It comes with the snapshot, what was stored in it does not; as with the machine that was saved."""
    service = {"version": "V2", "network_interfaces": ["b"], "ipv4_address": "169.254.170.2", "imds_compat": True}
    vmm = start()
    vmm.put("/boot-source", {"kernel_image_path": kernel})
    for name, tap in zip("ab", taps):
        vmm.put(f"/network-interfaces/{name}", {"iface_id": name, "host_dev_name": tap})
    vmm.put("/mmds/config", service)
    vmm.put("/mmds", {"secret": "of this guest"})
    vmm.put("/actions", {"action_type": "InstanceStart"})
    vmm.patch("/vm", {"state": "Paused"})
    vmm.put("/snapshot/create", {"snapshot_path": "state", "mem_file_path": "mem"})
    vmm.stop()
    clone = start()
    r = load(clone, vmm.directory)
    assert r.raw == no_content(), (r.raw, clone.output[-2000:])
    assert clone.get("/vm/config")["mmds-config"] == service
    assert clone.get("/mmds") == {}
    assert clone.request("PATCH", "/mmds", {"a": 1}).fault == "MMDS error: The MMDS data store is not initialized."
    clone.put("/mmds", {"a": 1})
    assert clone.get("/mmds") == {"a": 1}


@pytest.fixture
def every(start, kernel, taps):
    """A paused machine with everything that GET shows, its limits changed while it ran."""
    vmm = start()
    path = {name: vmm.file(name, size=2 << 20) for name in ("root", "other", "pmem", "initrd")}
    vmm.put("/machine-config", {"vcpu_count": 2, "mem_size_mib": 129, "smt": True, "track_dirty_pages": True})
    vmm.put("/boot-source", {"kernel_image_path": kernel, "initrd_path": "initrd", "boot_args": "console=ttyS0 -- init",
                             "randomize": "off"})
    vmm.put("/drives/r", {"drive_id": "r", "is_root_device": True, "path_on_host": path["root"], "partuuid": "0f-01",
                          "rate_limiter": {"ops": {"size": 7, "refill_time": 8, "one_time_burst": 9}}})
    vmm.put("/drives/o", {"drive_id": "o", "is_root_device": False, "path_on_host": path["other"], "is_read_only": True,
                          "cache_type": "Writeback", "io_engine": "Async"})
    vmm.put("/network-interfaces/n", {"iface_id": "n", "host_dev_name": taps[0], "guest_mac": "06:00:00:00:00:01", "mtu": 1400})
    vmm.put("/pmem/p", {"id": "p", "path_on_host": path["pmem"], "read_only": True})
    vmm.put("/vsock", {"guest_cid": 9, "uds_path": "v.sock"})
    vmm.put("/entropy", {"rate_limiter": {"bandwidth": {"size": 1000, "refill_time": 100}}})
    vmm.put("/balloon", {"amount_mib": 1, "deflate_on_oom": True, "stats_polling_interval_s": 5, "free_page_hinting": True})
    vmm.put("/hotplug/memory", {"total_size_mib": 1024, "slot_size_mib": 512})
    vmm.put("/mmds/config", {"network_interfaces": ["n"]}, deprecated=True)
    vmm.put("/actions", {"action_type": "InstanceStart"})
    limit = {"bandwidth": {"size": 4096, "refill_time": 50}}
    vmm.patch("/drives/r", {"drive_id": "r", "rate_limiter": {**limit, "ops": {"size": 0, "refill_time": 0}}})
    vmm.patch("/network-interfaces/n", {"iface_id": "n", "rx_rate_limiter": limit})
    vmm.patch("/pmem/p", {"id": "p", "rate_limiter": limit})
    vmm.patch("/balloon", {"amount_mib": 2})
    vmm.patch("/balloon/statistics", {"stats_polling_interval_s": 6})
    vmm.patch("/vm", {"state": "Paused"})
    assert create(vmm, "state", "mem").status == 204, vmm.output[-2000:]
    return vmm


def test_whole_configuration_comes_back(start, every, taps):
    """To the byte, but for what belongs to the load: dirty pages, and where networks and the vsock are."""
    before = every.request("GET", "/vm/config").body.decode()
    every.stop()
    clone = start()
    assert load(clone, every.directory, track_dirty_pages=True).status == 204, clone.output[-2000:]
    assert clone.request("GET", "/vm/config").body.decode() == before
    # of a clone's clone too
    assert create(clone, "state", "mem").status == 204
    clone.stop()
    third = start()
    r = load(third, clone.directory, network_overrides=[{"iface_id": "n", "host_dev_name": taps[1]}],
             vsock_override={"uds_path": "w.sock"})
    assert r.status == 204, third.output[-2000:]
    after = before.replace(f'"{taps[0]}"', f'"{taps[1]}"').replace('"v.sock"', '"w.sock"').replace(
        '"track_dirty_pages":true', '"track_dirty_pages":false')
    assert third.request("GET", "/vm/config").body.decode() == after
    assert third.get("/balloon") == json.loads(before)["balloon"]


def test_limits_of_a_snapshot_are_those_of_its_devices(every):
    """What was changed while the machine ran is in its description, from which devices are made again."""
    state = (every.directory / "state").read_bytes()
    description = json.JSONDecoder().raw_decode(state[state.index(b'{\n "vcpus"'):].decode("latin-1"))[0]
    devices = description["devices"]
    changed = {"bytes": [4096, 50, 0], "ops": [0, 0, 0]}
    assert devices["disks"][0]["limits"] == changed
    assert devices["nets"][0]["rx"] == changed and devices["pmems"][0]["limits"] == changed
    assert devices["nets"][0]["tx"] == {"bytes": [0, 0, 0], "ops": [0, 0, 0]}
    assert devices["balloon"]["stats"] == 6 and devices["balloon"]["target"] == 2 << 20


@pytest.mark.parametrize("pages,shown", [("Snapshot", "None"), ("None", "None"), ("Transparent", "Transparent")])
def test_pages_of_a_load(start, made, pages, shown):
    vmm = start()
    assert load(vmm, made, huge_pages=pages).status == 204, vmm.output[-2000:]
    assert vmm.get("/machine-config")["huge_pages"] == shown


def test_huge_pages_are_not_a_files(start, made):
    vmm = start()
    r = load(vmm, made, huge_pages="2M")
    assert r.status == 400 and ("Cannot restore hugetlbfs backed snapshot by mapping the memory file. Please use uffd."
                                in r.fault), r.raw
    assert vmm.wait() == 1


def test_load_by_the_old_name(start, made):
    """go-sdk's default; the header says that it is deprecated."""
    vmm = start()
    r = vmm.request("PUT", "/snapshot/load", {"mem_file_path": str(made / "mem"), "resume_vm": True,
                                              "snapshot_path": str(made / "state")})
    assert r.raw == no_content(deprecated=True), r.raw


def test_dirty_pages_by_the_old_name(start, made):
    """enable_diff_snapshots is track_dirty_pages, and deprecated."""
    vmm = start()
    r = load(vmm, made, enable_diff_snapshots=True)
    assert r.raw == no_content(deprecated=True), r.raw
    assert vmm.get("/machine-config")["track_dirty_pages"] is True


OVERRIDES = {
    "a network that there is not": {"network_overrides": [{"iface_id": "none", "host_dev_name": "tap"}]},
    "a vsock that there is not": {"vsock_override": {"uds_path": "v.sock"}},
    "pages that nobody provides": {"mem_backend": {"backend_type": "Uffd", "backend_path": "nobody.sock"}},
}


@pytest.mark.parametrize("row", OVERRIDES)
def test_override_of_nothing(start, made, row):
    vmm = start()
    r = load(vmm, made, **OVERRIDES[row])
    assert r.status == 400 and r.fault.startswith("Load snapshot error: "), r.raw
    assert vmm.wait() == 1, vmm.output[-2000:]


def test_what_an_override_ignores(start, made):
    """Unknown members; and the clock is advanced where that is asked for."""
    vmm = start()
    assert load(vmm, made, network_overrides=[], clock_realtime=True).status == 204, vmm.output[-2000:]
    vmm = start()
    r = load(vmm, made, network_overrides=[{"iface_id": "none", "host_dev_name": "tap", "more": 1}])
    assert r.status == 400 and "unknown field" not in r.fault, r.raw


def test_log_and_metrics_of_snapshots(start, kernel):
    """Each kind is timed, in the log and in the metrics, where the last ones stay."""
    vmm = start()
    vmm.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": MEMORY, "track_dirty_pages": True})
    vmm.put("/boot-source", {"kernel_image_path": kernel})
    vmm.put("/metrics", {"metrics_path": vmm.file("metrics")})
    vmm.put("/actions", {"action_type": "InstanceStart"})
    vmm.patch("/vm", {"state": "Paused"})
    for kind in ("Full", "Diff"):
        assert create(vmm, "state", "mem", kind).status == 204
        assert re.search(f"'create {kind.lower()} snapshot' API request took \\d+ us\\.", vmm.out), vmm.out
    for _ in range(2):
        vmm.put("/actions", {"action_type": "FlushMetrics"})
        latencies = json.loads((vmm.directory / "metrics").read_text().splitlines()[-1])["latencies_us"]
        for name in ("full_create_snapshot", "diff_create_snapshot"):
            assert latencies[name] >= latencies["vmm_" + name] > 0, latencies
    vmm.stop()
    clone = start()
    clone.put("/metrics", {"metrics_path": clone.file("metrics")})
    assert load(clone, vmm.directory, resume_vm=True).status == 204
    assert re.search(r"'load snapshot' API request took \d+ us\.", clone.out), clone.out
    clone.put("/actions", {"action_type": "FlushMetrics"})
    latencies = json.loads((clone.directory / "metrics").read_text().splitlines()[-1])["latencies_us"]
    assert latencies["load_snapshot"] >= latencies["vmm_load_snapshot"] > 0, latencies


BEFORE = {
    "logger": ("/logger", {"level": "Info"}), "metrics": ("/metrics", {"metrics_path": "m"}), "serial": ("/serial", {}),
    "cpu-config": ("/cpu-config", {}), "mmds": ("/mmds", {"a": 1}),
}


@pytest.mark.parametrize("row", BEFORE)
def test_what_may_come_before(start, made, row):
    vmm = start()
    vmm.file("m")
    vmm.put(*BEFORE[row])
    assert load(vmm, made).status == 204, vmm.output[-2000:]


BOOT = {
    "machine-config": ("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 128}),
    "PATCH machine-config": ("PATCH", "/machine-config", {"vcpu_count": 1}),
    "drives": ("PUT", "/drives/a", {"drive_id": "a", "is_root_device": False, "path_on_host": "f"}),
    "a drive that is refused": ("PUT", "/drives/a", {"drive_id": "a", "is_root_device": False, "path_on_host": "none"}),
    "boot-source": ("PUT", "/boot-source", {"kernel_image_path": "f"}),
    "vsock": ("PUT", "/vsock", {"guest_cid": 3, "uds_path": "v.sock"}),
    "entropy": ("PUT", "/entropy", {}),
    "balloon": ("PUT", "/balloon", {"amount_mib": 0, "deflate_on_oom": False}),
    "pmem": ("PUT", "/pmem/p", {"id": "p", "path_on_host": "f"}),
}


@pytest.mark.parametrize("row", BOOT)
def test_what_may_not_come_before(start, row):
    """Refused, and the process lives, whether the files exist or not."""
    vmm = start()
    vmm.file("f", size=4096)
    vmm.request(*BOOT[row])
    r = load(vmm, vmm.directory)
    assert r.status == 400 and r.fault == f"Load snapshot error: {NOT_NOW}", r.raw
    assert vmm.get("/")["state"] == "Not started"


def test_failure_tells_of_deprecation(start):
    """Firecracker's own test looks for the header in the answer that ends the process."""
    vmm = start()
    r = vmm.request("PUT", "/snapshot/load", {"snapshot_path": "foo", "mem_file_path": "bar"})
    assert r.status == 400 and r.header("Deprecation") == "true"
    assert vmm.wait() == 1


GONE = {
    "state": "Failed to get snapshot state from file: Failed to open snapshot file: ",
    "mem": "Failed to load guest memory: Error creating guest memory from file: Failed to load guest memory: ",
    "disk": "Virtio backend error: Error manipulating the backing file: ",
}


@pytest.mark.parametrize("name", GONE)
def test_file_that_cannot_be_opened(start, made, name):
    """In the words that Firecracker's own tests look for."""
    (made / name).unlink()
    vmm = start()
    r = load(vmm, made)
    assert r.status == 400 and r.fault == (f"Load snapshot error: Failed to restore from snapshot: {GONE[name]}"
                                           f"No such file or directory (os error 2) {made / name}"), r.raw
    assert vmm.wait() == 1


@pytest.mark.parametrize("kind,reason", [("none", "No such file or directory (os error 2)"),
                                         ("file", "Connection refused (os error 111)")])
def test_handler_that_is_not_there(start, made, kind, reason):
    vmm = start()
    path = vmm.file("handler") if kind == "file" else str(vmm.directory / "handler")
    r = load(vmm, made, mem_backend={"backend_type": "Uffd", "backend_path": path})
    assert r.status == 400 and r.fault == (
        "Load snapshot error: Failed to restore from snapshot: Failed to load guest memory: Error creating guest memory from uffd: "
        f"Failed to connect to UDS Unix stream: {reason} {path}"), r.raw
    assert vmm.wait() == 1


@pytest.mark.parametrize("what", ["nothing there", "no memory", "state is garbage", "memory too short"])
def test_load_that_fails_ends_the_process(start, made, what):
    if what == "nothing there":
        (made / "state").unlink()
    elif what == "no memory":
        (made / "mem").unlink()
    elif what == "state is garbage":
        (made / "state").write_bytes(os.urandom(5000))
    else:
        os.truncate(made / "mem", 4096)
    vmm = start()
    r = load(vmm, made)
    assert r.status == 400 and r.fault.startswith("Load snapshot error: "), r.raw
    assert vmm.wait() == 1, vmm.output[-2000:]


def test_fields_that_are_ignored_and_that_are_not(start, made):
    vmm = start()
    r = load(vmm, made, network_overrides=[], track_dirty_pages=True, foo=1)
    assert r.status == 400 and "unknown field `foo`" in r.fault
    assert load(vmm, made, network_overrides=[]).status == 204, vmm.output[-2000:]


def test_describe(start, made):
    vmm = start("--describe-snapshot", made / "state", api=False)
    assert vmm.wait() == 0 and vmm.out.startswith("v"), vmm.output
    # who compares the two learns that it can be loaded
    version = start("--snapshot-version", api=False)
    assert version.wait() == 0 and version.out.split()[0] == vmm.out.split()[0], (version.output, vmm.output)


def test_devices_that_had_no_id(start, kernel, tmp_path):
    """A machine of riffle run: its devices get names by which requests find them, and which its own snapshots keep."""
    disks = [tmp_path / name for name in ("first", "second", "other")]
    for disk in disks:
        disk.write_bytes(bytes(8192))
    saved = tmp_path / "saved"
    r = subprocess.run([BUILD / "cli" / "riffle", "run", "--save-to", saved, "--accept-emulation", "-r", "off", "-m", "64M",
                        "--disk", disks[0], "--disk", f"{disks[1]},ro", kernel],
                       stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                       env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)})
    assert r.returncode == 0, r.stderr
    (saved / "memory").rename(saved / "mem")
    for _ in range(3):
        vmm = start()
        assert load(vmm, saved).status == 204, vmm.output[-2000:]
        drives = vmm.get("/vm/config")["drives"]
        assert [(d["drive_id"], d["path_on_host"]) for d in drives] == [("0", str(disks[0])), ("1", str(disks[1]))]
        vmm.patch("/drives/0", {"drive_id": "0", "path_on_host": str(disks[2])})
        vmm.patch("/drives/0", {"drive_id": "0", "path_on_host": str(disks[0])})
        assert create(vmm, "state", "mem").status == 204, vmm.output[-2000:]
        vmm.stop()
        saved = vmm.directory
