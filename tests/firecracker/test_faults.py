# SPDX-License-Identifier: Apache-2.0
"""Faults: clients that vanish or lie, kills at any time, and what is left for the next start with the same arguments."""
import os
import random
import resource
import signal
import socket
import time

import pytest
from api import Connection, request

SEED = int(os.environ.get("RIFFLE_SEED", random.SystemRandom().randrange(1 << 32)))


def remove_and_start(vmm):
    """The next start with the same arguments: it says which file is in the way, and works without that."""
    vmm.api, again = False, vmm
    again.start()
    assert again.wait() == 1
    assert f"Failed to open the API socket at: {vmm.socket}. Check that it is not already used." in again.output
    vmm.socket.unlink()
    vmm.api = True
    again.start()
    assert again.get("/")["state"] == "Not started"


@pytest.mark.parametrize("phase", ["listening", "configured", "vsock", "running", "paused"])
def test_killed_and_started_again(start, kernel, needs_kvm, phase):
    vmm = start()
    if phase != "listening":
        vmm.put("/boot-source", {"kernel_image_path": kernel})
        vmm.put("/drives/a", {"drive_id": "a", "is_root_device": False, "path_on_host": vmm.file("disk", size=4096)})
    if phase == "vsock":
        vmm.put("/vsock", {"guest_cid": 3, "uds_path": "v.sock"})
    if phase in ("running", "paused"):
        vmm.put("/actions", {"action_type": "InstanceStart"})
    if phase == "paused":
        vmm.patch("/vm", {"state": "Paused"})
    vmm.process.kill()
    vmm.wait()
    remove_and_start(vmm)
    if phase == "vsock":
        r = vmm.request("PUT", "/vsock", {"guest_cid": 3, "uds_path": "v.sock"})
        assert r.status == 400 and "Address" in r.fault and "in use (os error 98)" in r.fault
        (vmm.directory / "v.sock").unlink()
        vmm.put("/vsock", {"guest_cid": 3, "uds_path": "v.sock"})
    if phase != "listening":
        vmm.put("/boot-source", {"kernel_image_path": kernel})
        vmm.put("/drives/a", {"drive_id": "a", "is_root_device": False, "path_on_host": "disk"})
        vmm.put("/actions", {"action_type": "InstanceStart"})


def test_killed_while_it_starts(start, kernel):
    """At moments drawn at random within the first 30 ms of its life."""
    draw = random.Random(SEED)
    for _ in range(12):
        vmm = start(start=False)
        vmm.api = False
        vmm.start()
        time.sleep(draw.random() * 0.03)
        vmm.process.kill()
        vmm.wait()
        if vmm.socket.exists():
            vmm.socket.unlink()
        vmm.api = True
        vmm.start()
        assert vmm.get("/version"), SEED
        vmm.stop()


def test_client_vanishes_after_its_request(vmm):
    """Before it reads the answer: the request is carried out."""
    for i in range(20):
        with Connection(vmm.socket) as c:
            c.send(request("PUT", "/machine-config", {"vcpu_count": i % 32 + 1, "mem_size_mib": 64}))
    vmm.wait_for(lambda: vmm.get("/machine-config")["vcpu_count"] == 20)


def test_client_resets_the_connection(vmm):
    for _ in range(20):
        c = Connection(vmm.socket)
        c.send(request("GET", "/vm/config") * 50)
        c.close()
    assert vmm.get("/version")


def test_two_clients_configure_at_once(vmm):
    clients = [vmm.connect() for _ in range(8)]
    for i in range(40):
        for n, c in enumerate(clients):
            c.send(request("PUT", "/machine-config", {"vcpu_count": n + 1, "mem_size_mib": 64 + n}))
        assert all(c.read().status == 204 for c in clients), i
        config = vmm.get("/machine-config")
        assert config["mem_size_mib"] == 63 + config["vcpu_count"]


def test_random_bytes(vmm):
    """The server answers or waits; it never ends."""
    draw = random.Random(SEED)
    for _ in range(200):
        with Connection(vmm.socket) as c:
            c.socket.settimeout(0.005)
            try:
                c.send(draw.randbytes(draw.choice((1, 10, 100, 1024, 5000))))
                c.socket.recv(100)
            except OSError:
                pass
    assert vmm.get("/")["state"] == "Not started", SEED


def mutate(draw, data):
    data = bytearray(data)
    for _ in range(draw.randrange(1, 5)):
        where = draw.randrange(len(data))
        what = draw.randrange(4)
        if what == 0:
            data[where] = draw.randrange(256)
        elif what == 1:
            del data[where:where + draw.randrange(1, 20)]
        elif what == 2:
            data[where:where] = data[draw.randrange(len(data)):][:draw.randrange(1, 50)]
        else:
            data[where:where] = draw.choice((b"\r\n", b" ", b":", b"{", b"}", b"\0", b'"', b"null", b"1e999", b"\xff"))
        if not data:
            data = bytearray(b" ")
    return bytes(data)


def test_mutated_requests(vmm):
    """Good requests with a few bytes changed."""
    draw = random.Random(SEED)
    vmm.file("disk", size=4096)
    good = [request("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 128}),
            request("PUT", "/drives/a", {"drive_id": "a", "is_root_device": True, "path_on_host": "disk"}),
            request("PUT", "/mmds", {"a": {"b": [1, 2, {"c": None}]}}), request("GET", "/vm/config"),
            request("PUT", "/cpu-config", {"msr_modifiers": [{"addr": "0x1", "bitmap": "0b1"}]})]
    for _ in range(300):
        with Connection(vmm.socket) as c:
            c.socket.settimeout(0.005)
            try:
                c.send(mutate(draw, draw.choice(good)))
                c.socket.recv(100)
            except OSError:
                pass
    assert vmm.get("/")["state"] == "Not started", SEED


def test_random_requests_against_a_model(start, kernel, needs_kvm):
    """Requests in a random order: what GET shows is what the last successful request of each kind said."""
    draw = random.Random(SEED)
    for _ in range(3):
        vmm = start()
        vmm.file("disk", size=4096)
        machine, entropy, boot, running, paused = (1, 128), None, None, False, False
        for _ in range(60):
            what = draw.choice(("machine", "machine", "entropy", "boot", "bad", "start", "pause", "resume"))
            if what == "machine":
                want = draw.randrange(0, 34), draw.choice((0, 64, 100))
                good = not running and 1 <= want[0] <= 32 and want[1]
                r = vmm.request("PUT", "/machine-config", {"vcpu_count": want[0], "mem_size_mib": want[1]})
                machine = want if good else machine
            elif what == "entropy":
                good = not running
                r = vmm.request("PUT", "/entropy", {})
                entropy = {"rate_limiter": None} if good else entropy
            elif what == "boot":
                good = not running
                r = vmm.request("PUT", "/boot-source", {"kernel_image_path": kernel})
                boot = kernel if good else boot
            elif what == "bad":
                good = False
                r = vmm.request("PUT", draw.choice(("/drives/a", "/nowhere", "/boot-source", "/vsock")), {"x": 1})
            elif what == "start":
                if draw.random() < 0.7:
                    continue
                good = not running and boot
                if good and machine[0] > 4:
                    continue    # a machine of many vCPUs takes its time
                r = vmm.request("PUT", "/actions", {"action_type": "InstanceStart"})
                running = running or bool(good)
            else:
                good = running
                r = vmm.request("PATCH", "/vm", {"state": "Paused" if what == "pause" else "Resumed"})
                paused = (what == "pause") if good else paused
            assert r.status == (204 if good else 400), (SEED, what, r.raw)
            config = vmm.get("/vm/config")
            assert (config["machine-config"]["vcpu_count"], config["machine-config"]["mem_size_mib"]) == machine, SEED
            assert config["entropy"] == entropy, SEED
            assert vmm.get("/")["state"] == ("Not started" if not running else "Paused" if paused else "Running"), SEED
        vmm.stop()


def test_memory_that_cannot_be_had(start, kernel, needs_kvm):
    """The start fails and the process lives; with less it works."""
    vmm = start()
    vmm.put("/boot-source", {"kernel_image_path": kernel})
    resource.prlimit(vmm.process.pid, resource.RLIMIT_AS, (1 << 30, resource.RLIM_INFINITY))
    vmm.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 1 << 20})
    r = vmm.request("PUT", "/actions", {"action_type": "InstanceStart"})
    assert r.status == 400 and r.fault.startswith("Start microvm error: ") and "os error 12" in r.fault
    vmm.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 64})
    vmm.put("/actions", {"action_type": "InstanceStart"})


def test_fifos_without_reader_while_it_runs(start, kernel, needs_kvm):
    vmm = start()
    for name in ("log.fifo", "metrics.fifo"):
        os.mkfifo(vmm.directory / name)
    vmm.put("/logger", {"log_path": "log.fifo", "level": "Debug"})
    vmm.put("/metrics", {"metrics_path": "metrics.fifo"})
    vmm.put("/boot-source", {"kernel_image_path": kernel})
    vmm.put("/actions", {"action_type": "InstanceStart"})
    vmm.wait_for(lambda: "tiny guest" in vmm.console)
    for _ in range(40):
        assert vmm.request("PUT", "/actions", {"action_type": "FlushMetrics"}).status in (204, 400)
    assert vmm.get("/")["state"] == "Running"


def test_metrics_on_a_full_disk(start, kernel, needs_kvm):
    vmm = start()
    vmm.put("/metrics", {"metrics_path": "/dev/full"})
    vmm.put("/boot-source", {"kernel_image_path": kernel})
    vmm.put("/actions", {"action_type": "InstanceStart"})
    assert vmm.request("PUT", "/actions", {"action_type": "FlushMetrics"}).status in (204, 400)
    assert vmm.get("/")["state"] == "Running"


def test_socket_of_a_length_that_no_address_holds(start):
    vmm = start("--api-sock", "x" * 200, api=False)
    assert vmm.wait() == 1 and "RunWithApiError error: " in vmm.output


def test_process_without_descriptors_left(start):
    """Clients that take all descriptors do not end it."""
    vmm = start()
    vmm.connection.close()
    resource.prlimit(vmm.process.pid, resource.RLIMIT_NOFILE, (16, 16))
    clients = []
    for _ in range(30):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(1)
        s.connect(str(vmm.socket))
        clients.append(s)
    time.sleep(0.1)
    for s in clients:
        s.close()
    with vmm.connect() as c:
        assert c.request("GET", "/version").status == 200
    assert vmm.running


def test_signals_stay_what_they_are_after_faults(vmm):
    vmm.request("PUT", "/drives/a", "{")
    vmm.process.send_signal(signal.SIGTERM)
    assert vmm.wait() == -15
    assert vmm.socket.exists()
