# SPDX-License-Identifier: Apache-2.0
"""
Clients, as they were seen or read to talk: the arguments, the requests in their order and form, the way to stop. curl and
node are themselves; the others are imitated byte by byte.
"""
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time

import pytest
from api import Connection

pytestmark = pytest.mark.usefixtures("needs_kvm")


class GoClient:
    """net/http over a unix socket: header and body in two writes, bodies end with a newline, keep-alive."""

    def __init__(self, vmm):
        self.vmm, self.connection = vmm, None

    def call(self, method, path, body=None):
        if self.connection is None:
            self.connection = Connection(self.vmm.socket)
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: Go-http-client/1.1\r\n"
        data = b""
        if body is not None:
            data = (json.dumps(body, separators=(",", ":"), sort_keys=True) + "\n").encode()
            head += f"Content-Length: {len(data)}\r\n"
        head += "Accept: application/json\r\n"
        if body is not None:
            head += "Content-Type: application/json\r\n"
        head += "Accept-Encoding: gzip\r\n\r\n"
        self.connection.send(head)
        if data:
            time.sleep(0.002)
            self.connection.send(data)
        return self.connection.read()

    def put(self, path, body):
        r = self.call("PUT", path, body)
        assert r.status == 204, (path, body, r.raw)

    def wait(self):
        """Polls for the file, then asks for the machine's configuration until it is answered."""
        end = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                if self.vmm.socket.exists() and self.call("GET", "/machine-config").status == 200:
                    return
                time.sleep(0.01)
            assert time.monotonic() < end


def fifos(vmm):
    for name in ("log.fifo", "metrics.fifo"):
        os.mkfifo(vmm.directory / name)
    return [os.open(vmm.directory / n, os.O_RDONLY | os.O_NONBLOCK) for n in ("log.fifo", "metrics.fifo")]


@pytest.mark.parametrize("stop", ["Shutdown", "StopVMM"])
def test_go_sdk_and_firectl(start, kernel, taps, stop):
    vmm = start("--id", "0f7b4e2a-0d6a", start=False)
    readers = fifos(vmm)
    for name in ("root.img", "data.img"):
        vmm.file(name, size=1 << 20)
    vmm.api = False     # this client waits for the socket by itself
    vmm.start()
    go = GoClient(vmm)
    go.wait()
    go.put("/logger", {"level": "Debug", "log_path": str(vmm.directory / "log.fifo"), "show_level": True,
                       "show_log_origin": False})
    go.put("/metrics", {"metrics_path": str(vmm.directory / "metrics.fifo")})
    go.put("/machine-config", {"mem_size_mib": 256, "smt": True, "vcpu_count": 2})
    assert go.call("GET", "/machine-config").json["mem_size_mib"] == 256
    go.put("/boot-source", {"boot_args": "ro console=ttyS0 reboot=k panic=1 pci=off", "kernel_image_path": kernel})
    go.put("/drives/2", {"drive_id": "2", "is_read_only": False, "is_root_device": False, "path_on_host": "data.img"})
    go.put("/drives/1", {"drive_id": "1", "is_read_only": False, "is_root_device": True, "partuuid": "0f-01",
                         "path_on_host": "root.img"})
    go.put("/network-interfaces/1", {"guest_mac": "06:00:AC:10:00:02", "host_dev_name": taps[0], "iface_id": "1"})
    go.put("/vsock", {"guest_cid": 3, "uds_path": str(vmm.directory / "v.sock")})
    go.put("/mmds/config", {"network_interfaces": ["1"], "version": "V1"})
    assert [d["drive_id"] for d in go.call("GET", "/vm/config").json["drives"]] == ["1", "2"]
    go.put("/actions", {"action_type": "InstanceStart"})
    go.put("/mmds", {"latest": {"meta-data": {"ami-id": "x"}}})
    assert go.call("GET", "/mmds").json == {"latest": {"meta-data": {"ami-id": "x"}}}
    assert go.call("GET", "/").json["state"] == "Running"
    assert b"The API server received a Put request on \"/actions\"" in os.read(readers[0], 1 << 20)
    assert json.loads(os.read(readers[1], 1 << 20).splitlines()[0])["utc_timestamp_ms"]
    if stop == "Shutdown":
        vmm.wait_for(lambda: "tiny guest" in vmm.console)
        go.put("/actions", {"action_type": "SendCtrlAltDel"})
        assert vmm.wait() == 0, vmm.output
    else:
        vmm.process.terminate()
        assert vmm.wait() == -signal.SIGTERM


def test_go_sdk_first_answer_is_soon(start):
    """Its own tests give the process 250 ms; here only the order of events is looked at: no answer needs a second try."""
    vmm = start()
    assert vmm.get("/machine-config") and vmm.get("/version")


@pytest.mark.parametrize("vsock", [False, True])
def test_go_sdk_snapshot(start, kernel, vsock):
    """Its order of requests for a snapshot, and for a guest of one; a vsock that it configures before is in the way."""
    vmm = start()
    go = GoClient(vmm)
    go.put("/machine-config", {"mem_size_mib": 64, "smt": False, "vcpu_count": 1})
    go.put("/boot-source", {"boot_args": "console=ttyS0", "kernel_image_path": kernel})
    go.put("/actions", {"action_type": "InstanceStart"})
    assert go.call("PATCH", "/vm", {"state": "Paused"}).status == 204
    paths = {"mem_file_path": str(vmm.directory / "mem"), "snapshot_path": str(vmm.directory / "state")}
    go.put("/snapshot/create", paths)
    assert go.call("PATCH", "/vm", {"state": "Resumed"}).status == 204
    vmm.process.terminate()
    assert vmm.wait() == -signal.SIGTERM
    clone = start(start=False)
    fifos(clone)
    clone.start()
    go = GoClient(clone)
    go.wait()
    go.put("/logger", {"level": "Debug", "log_path": "log.fifo", "show_level": True, "show_log_origin": False})
    go.put("/metrics", {"metrics_path": "metrics.fifo"})
    if vsock:
        go.put("/vsock", {"guest_cid": 3, "uds_path": "v.sock"})
    r = go.call("PUT", "/snapshot/load", {**paths, "resume_vm": True})
    if vsock:
        assert r.status == 400 and "not allowed after configuring boot-specific resources" in r.fault
    else:
        assert r.status == 204 and go.call("GET", "/").json["state"] == "Running", r.raw


def test_containerd(start, kernel, taps):
    """Relative paths in the shim's directory, stub drives that are patched, fifos, metadata after the start."""
    vmm = start(start=False)
    fifos(vmm)
    for name in ("ctrstub0", "ctrstub1", "layer", "rootfs"):
        vmm.file(name, size=1 << 20)
    vmm.start()
    go = GoClient(vmm)
    go.wait()
    go.put("/logger", {"level": "Error", "log_path": "log.fifo", "show_level": True, "show_log_origin": True})
    go.put("/metrics", {"metrics_path": "metrics.fifo"})
    go.put("/machine-config", {"mem_size_mib": 128, "smt": False, "vcpu_count": 1})
    go.put("/balloon", {"amount_mib": 66, "deflate_on_oom": True, "stats_polling_interval_s": 1})
    go.put("/boot-source", {"boot_args": "ro console=ttyS0 noapic reboot=k panic=1 pci=off nomodules "
                            "systemd.unified_cgroup_hierarchy=0 init=/sbin/overlay-init", "kernel_image_path": kernel})
    for i in range(2):
        go.put(f"/drives/stub{i}", {"drive_id": f"stub{i}", "is_read_only": False, "is_root_device": False,
                                    "path_on_host": f"ctrstub{i}"})
    go.put("/drives/root_drive", {"drive_id": "root_drive", "is_read_only": True, "is_root_device": True, "path_on_host": "rootfs"})
    go.put("/network-interfaces/1", {"guest_mac": "06:00:AC:10:00:02", "host_dev_name": taps[0], "iface_id": "1"})
    assert go.call("PUT", "/vsock", {"guest_cid": 3, "uds_path": "firecracker.vsock", "vsock_id": "agent_api"}).status == 204
    go.put("/mmds/config", {"network_interfaces": ["1"], "version": "V1"})
    go.put("/actions", {"action_type": "InstanceStart"})
    go.put("/mmds", {})
    r = go.call("PATCH", "/drives/stub0", {"drive_id": "stub0", "path_on_host": "layer"})
    assert r.status == 204, r.raw
    assert go.call("PATCH", "/balloon", {"amount_mib": 16}).status == 204
    assert go.call("GET", "/balloon").json["amount_mib"] == 16
    assert (vmm.directory / "firecracker.vsock").exists()


def test_kata_rust(start, kernel):
    """hyper: lower-case headers, absolute requests' order, PATCH of drives, and a kill."""
    vmm = start()
    for name in ("rootfs", "drive1", "drive2"):
        vmm.file(name, size=1 << 20)

    def put(method, path, body):
        data = json.dumps(body)
        with Connection(vmm.socket) as c:
            c.send(f"{method} {path} HTTP/1.1\r\nhost: 2f746d702f736f636b\r\naccept: application/json\r\n"
                   f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n{data}")
            r = c.read()
        assert r.status == 204, (path, r.raw)

    put("PUT", "/boot-source", {"kernel_image_path": kernel, "boot_args": "console=ttyS0"})
    put("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 128})
    put("PUT", "/drives/rootfs", {"drive_id": "rootfs", "path_on_host": "rootfs", "is_root_device": False, "is_read_only": True})
    for i in (1, 2):
        put("PUT", f"/drives/drive{i}", {"drive_id": f"drive{i}", "path_on_host": f"drive{i}", "is_root_device": False,
                                         "is_read_only": False})
    put("PUT", "/vsock", {"guest_cid": 3, "uds_path": "kata.hvsock"})
    put("PUT", "/actions", {"action_type": "InstanceStart"})
    put("PATCH", "/drives/drive1", {"drive_id": "drive1", "path_on_host": "drive2"})
    vmm.process.kill()
    assert vmm.wait() == -9


NODE = """
const http = require('http');
const agent = new http.Agent({keepAlive: true, maxSockets: 1});
const [socketPath, kernel] = process.argv.slice(2);
function call(method, path, body) {
  return new Promise((resolve, reject) => {
    const data = body && JSON.stringify(body);
    const headers = {'Accept': 'application/json', 'Content-Type': 'application/json'};
    if (data) headers['Content-Length'] = Buffer.byteLength(data);
    const r = http.request({socketPath, path, method, headers, agent}, response => {
      let text = '';
      response.on('data', d => text += d);
      response.on('end', () => resolve([response.statusCode, text]));
    });
    r.on('error', reject);
    if (data) r.write(data);
    r.end();
  });
}
(async () => {
  const answers = [];
  answers.push(await call('GET', '/'));
  answers.push(await call('PUT', '/boot-source', {kernel_image_path: kernel, boot_args: 'console=ttyS0'}));
  answers.push(await call('PUT', '/drives/rootfs', {drive_id: 'rootfs', path_on_host: 'rootfs', is_root_device: true,
                                                   is_read_only: false}));
  answers.push(await call('PUT', '/actions', {action_type: 'InstanceStart'}));
  answers.push(await call('GET', '/'));
  answers.push(await call('GET', '/nowhere'));
  answers.push(await call('GET', '/version'));
  console.log(JSON.stringify(answers));
  process.exit(0);
})().catch(e => { console.error(e); process.exit(1); });
"""


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
def test_node(start, kernel):
    """firecrackerode's requests by node's own client: Content-Type also on GET, one connection kept alive."""
    vmm = start()
    vmm.file("rootfs", size=1 << 20)
    vmm.file("client.js", NODE)
    r = subprocess.run(["node", vmm.directory / "client.js", vmm.socket, kernel], capture_output=True, text=True, timeout=120,
                       check=False)
    assert r.returncode == 0, r
    answers = json.loads(r.stdout)
    assert [a[0] for a in answers] == [200, 204, 204, 204, 200, 400, 200]
    assert json.loads(answers[0][1])["state"] == "Not started" and json.loads(answers[4][1])["state"] == "Running"


class UnixHttp(http.client.HTTPConnection):
    """What python-requests is built on."""

    def __init__(self, path):
        super().__init__("localhost")
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self.path)


def test_python(start, kernel):
    """As Firecracker's own tests: a body of {} where there is none, several connections, errors by either key."""
    vmm = start()
    pool = [UnixHttp(vmm.socket) for _ in range(8)]

    def call(method, path, body=None, c=0):
        data = None if body is None else json.dumps(body)
        headers = {"User-Agent": "python-requests/2.28.1", "Accept-Encoding": "gzip, deflate", "Accept": "application/json",
                   "Connection": "keep-alive"}
        if data is not None:
            headers["Content-Type"] = "application/json"
        pool[c].request(method, path, data, headers)
        r = pool[c].getresponse()
        return r.status, r.read()

    assert call("PUT", "/boot-source", {"kernel_image_path": kernel})[0] == 204
    assert call("PUT", "/entropy", {}, 1)[0] == 204
    assert call("PUT", "/balloon", {"amount_mib": 1, "deflate_on_oom": True, "free_page_hinting": True}, 2)[0] == 204
    assert call("PUT", "/actions", {"action_type": "InstanceStart"}, 3)[0] == 204
    for i in range(8):
        status, body = call("GET", "/", c=i)
        assert status == 200 and json.loads(body)["state"] == "Running"
    status, body = call("PATCH", "/balloon/hinting/stop", {}, 4)
    assert status in (204, 400)
    status, body = call("PUT", "/entropy", {}, 5)
    assert status == 400 and "fault_message" in json.loads(body)


# ---- curl

def curl(vmm, *arguments):
    r = subprocess.run(["curl", "-sS", "--max-time", "60", "--unix-socket", vmm.socket, *arguments], capture_output=True,
                       timeout=120, check=False)
    assert r.returncode == 0, r
    return r.stdout


needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")


@needs_curl
@pytest.mark.parametrize("limit", [None, 250])
def test_curl_body_above_the_limit(start, limit):
    """All that curl -i prints when the length that it is told to send is one byte too much."""
    vmm = start(*(["--http-api-max-payload-size", limit] if limit else []))
    limit = limit or 51200
    text = (f'{{ "error": "Request payload with size {limit + 1} is larger than the limit of {limit} allowed by server.\n'
            'All previous unanswered requests will be dropped." }')
    assert curl(vmm, "-i", "-X", "PUT", "http://localhost/mmds/config", "-H", f"Content-Length: {limit + 1}",
                "-H", "Accept: application/json", "-d", "some body").decode() == (
        "HTTP/1.1 400 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(text)}\r\n\r\n{text}")


@needs_curl
def test_curl(start, kernel):
    vmm = start()
    text = curl(vmm, "-i", "-X", "PUT", "http://localhost/machine-config", "-H", "Content-Type: application/json",
                "-d", '{"vcpu_count": 1, "mem_size_mib": 64}')
    assert text == b"HTTP/1.1 204 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n"
    # its own Content-Type, several requests in one go
    assert curl(vmm, "-X", "PUT", "http://localhost/boot-source", "-d", json.dumps({"kernel_image_path": kernel})) == b""
    answers = curl(vmm, "http://localhost/version", "http://localhost/", "http://localhost/machine-config")
    assert answers.count(b"{") == 3


@needs_curl
@pytest.mark.parametrize("size", [1500, 40000])
def test_curl_expects_continue(start, size):
    vmm = start()
    body = json.dumps({"a": "x" * size})
    vmm.file("body", body)
    out = curl(vmm, "-i", "-X", "PUT", "http://localhost/mmds", "-H", "Expect: 100-continue", "-H",
               "Content-Type: application/json", "-d", f"@{vmm.directory / 'body'}")
    assert out.endswith(b"HTTP/1.1 204 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n")
    assert json.loads(curl(vmm, "http://localhost/mmds")) == {"a": "x" * size}


@needs_curl
def test_curl_http_1_0(start):
    assert b'"firecracker_version"' in curl(start(), "--http1.0", "http://localhost/version")
