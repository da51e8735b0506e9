# SPDX-License-Identifier: Apache-2.0
"""Clients that repeat what costs something, that choose names to mislead whoever reads them, and hosts that are short of descriptors."""
import json
import os
import resource
import threading

import pytest
from api import request
from test_snapshots import load
from vmm import VMM

MEMORY = 64
LONG = "x" * 300


def memory_kib(vmm):
    with open(f"/proc/{vmm.process.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


def start_guest(vmm, kernel, drives=("a",), **machine):
    vmm.put("/machine-config", {"vcpu_count": 2, "mem_size_mib": MEMORY, **machine})
    vmm.put("/boot-source", {"kernel_image_path": kernel})
    disk = vmm.file("disk", size=4096)
    for name in drives:
        vmm.put(f"/drives/{name}", {"drive_id": name, "is_root_device": False, "path_on_host": disk})
    vmm.put("/actions", {"action_type": "InstanceStart"})
    vmm.wait_for(lambda: "tiny guest" in vmm.console)


@pytest.mark.parametrize("good", [False, True])
def test_repeated_patches_keep_no_memory(vmm, kernel, needs_kvm, good):
    """Each has a path of its own; 1000 of them would be 4 MB (40 MB of those that fail)."""
    if b"__asan_init" in VMM.read_bytes():
        pytest.skip("AddressSanitizer keeps what was freed")
    start_guest(vmm, kernel)
    names = [vmm.file(name, size=4096) for name in ("even", "odd")]

    def patch(i):
        path = "/" * (3800 if good else 40000) + (names[i % 2] if good else "none")
        r = vmm.request("PATCH", "/drives/a", {"drive_id": "a", "path_on_host": path})
        assert r.status == (204 if good else 400), r.raw
        return path
    for i in range(20):
        patch(i)
    before = memory_kib(vmm)
    for i in range(1000):
        last = patch(i)
    assert memory_kib(vmm) - before < 1500
    shown = vmm.get("/vm/config")["drives"][0]["path_on_host"]
    assert shown == (last if good else str(vmm.directory / "disk"))


def test_snapshot_names_the_last_file(start, kernel, needs_kvm):
    vmm = start()
    start_guest(vmm, kernel)
    for name in ("second", "third"):
        vmm.patch("/drives/a", {"drive_id": "a", "path_on_host": vmm.file(name, size=4096)})
    vmm.patch("/vm", {"state": "Paused"})
    vmm.put("/snapshot/create", {"snapshot_path": "state", "mem_file_path": "mem"})
    vmm.stop()
    (vmm.directory / "disk").unlink()
    clone = start()
    assert load(clone, vmm.directory).status == 204, clone.output[-2000:]
    assert clone.get("/vm/config")["drives"][0]["path_on_host"] == str(vmm.directory / "third")


@pytest.mark.parametrize("engine", ["Sync", "Async", None])
@pytest.mark.parametrize("huge,smt", [("Transparent", True), ("None", False)])
def test_configuration_of_a_snapshot(start, kernel, needs_kvm, engine, huge, smt):
    """What was configured is shown of each clone as of the machine that was saved."""
    vmm = start()
    vmm.put("/drives/b", {"drive_id": "b", "is_root_device": False, "path_on_host": vmm.file("b", size=4096),
                          "is_read_only": True, "cache_type": "Writeback", **({"io_engine": engine} if engine else {})})
    start_guest(vmm, kernel, huge_pages=huge, smt=smt)
    vmm.patch("/vm", {"state": "Paused"})
    vmm.put("/snapshot/create", {"snapshot_path": "state", "mem_file_path": "mem"})
    before = vmm.get("/vm/config")
    vmm.stop()
    clone = start()
    assert load(clone, vmm.directory).status == 204, clone.output[-2000:]
    after = clone.get("/vm/config")
    for section in ("drives", "machine-config"):
        assert after[section] == before[section]
    assert clone.get("/machine-config") == before["machine-config"]


PATHS = {
    "line feed": (b"/a\n2026-01-01T00:00:00.000000000 [id:main] forged", r'"/a\n2026-01-01T00:00:00.000000000 [id:main] forged"'),
    "escape": (b"/\x1b[2J\x07", r'"/\u{1b}[2J\u{7}"'),
    "quotes": (b'/" with body "x\\', r'"/\" with body \"x\\"'),
    "C1": ("/\x9b2J\u202e".encode(), r'"/\u{9b}2J\u{202e}"'),
    "other letters": ("/é".encode(), '"/é"'),
}


@pytest.mark.parametrize("row", PATHS)
def test_path_in_the_log(vmm, row):
    path, shown = PATHS[row]
    path = path.replace(b" ", b"_")
    shown = shown.replace(" ", "_")
    vmm.put("/logger", {"log_path": vmm.file("log")})
    with vmm.connect() as c:
        c.send(b"GET " + path + b" HTTP/1.1\r\n\r\n")
        assert c.read().status == 400
    text = (vmm.directory / "log").read_text()
    assert f"received a Get request on {shown}.\n" in text
    assert all(line.startswith("20") and "fc_" in line for line in text.splitlines())
    assert not [c for c in text if c != "\n" and not c.isprintable()]


def test_names_in_the_log(vmm):
    """What a fault quotes of a request is as much the client's as its path."""
    vmm.put("/logger", {"log_path": vmm.file("log")})
    for path, body in (("/drives/a", {"drive_id": "a", "is_root_device": False, "path_on_host": "no\n2026 [a:b] \x1b[2Jne"}),
                       ("/boot-source", {"a\nb\x1b": 1}), ("/cpu-config", {"cpuid_modifiers": [{"leaf": "\n\x1b\x9b"}]})):
        assert vmm.request("PUT", path, body).status == 400
    text = (vmm.directory / "log").read_text()
    assert not [c for c in text if c != "\n" and not c.isprintable()]
    assert all(line.startswith("20") and "fc_" in line for line in text.splitlines())


def test_names_in_metrics(start, kernel, needs_kvm):
    """Characters are whole, and each drive has a key of its own, however long the ids are."""
    letters = [n * "x" + 100 * "é" for n in (0, 1)] + [n * "x" + 100 * "水" for n in (0, 1, 2)]
    ids = ["short", *letters, LONG + "1", LONG + "2", LONG[:153], LONG[:154]]
    vmm = start("--metrics-path", "metrics")
    start_guest(vmm, kernel, drives=ids)
    vmm.put("/actions", {"action_type": "FlushMetrics"})

    def unique(pairs):
        keys = [key for key, _ in pairs]
        assert len(keys) == len(set(keys)), keys
        return dict(pairs)
    line = (vmm.directory / "metrics").read_bytes().splitlines()[-1].decode()       # UTF-8, or this fails
    metrics = json.loads(line, object_pairs_hook=unique)
    keys = [key for key in metrics if key.startswith("block_")]
    assert len(keys) == len(ids)
    assert {"block_short", "block_" + LONG[:153]} <= set(keys)
    assert "block_" + LONG[:154] not in keys


def thread_state(vmm):
    tasks = f"/proc/{vmm.process.pid}/task"
    for task in os.listdir(tasks):
        with open(f"{tasks}/{task}/stat", encoding="ascii") as f:
            stat = f.read()
        if "(fc_api)" in stat:
            return stat.rpartition(")")[2].split()[0]
    raise AssertionError("no API thread")


def test_no_descriptor_for_a_connection(vmm):
    """The thread waits until there is one, serves others meanwhile, and then the one that waited."""
    vmm.get("/")
    most = max(int(fd) for fd in os.listdir(f"/proc/{vmm.process.pid}/fd")) + 2
    resource.prlimit(vmm.process.pid, resource.RLIMIT_NOFILE, (most, most))
    last = vmm.connect()
    last.request("GET", "/")
    waiting = vmm.connect()
    waiting.send(request("GET", "/version"))
    pause = threading.Event()
    states = []
    for _ in range(40):
        pause.wait(0.02)
        states.append(thread_state(vmm))
    assert states.count("S") > 20, states
    assert vmm.get("/")["state"] == "Not started"
    last.close()
    assert waiting.read().status == 200


@pytest.mark.parametrize("soft,hard,then", [(256, 8192, 2047), (256, 512, 512), (4096, 8192, 4096)])
def test_descriptors_for_the_connections_of_a_vsock(start, kernel, needs_kvm, soft, hard, then):
    """1023 of them beside all else: the soft limit goes as far up as it has to, and as the hard one lets it."""
    vmm = start()
    resource.prlimit(vmm.process.pid, resource.RLIMIT_NOFILE, (soft, hard))
    vmm.put("/vsock", {"guest_cid": 3, "uds_path": "v.sock"})
    start_guest(vmm, kernel)
    assert resource.prlimit(vmm.process.pid, resource.RLIMIT_NOFILE) == (then, hard)
