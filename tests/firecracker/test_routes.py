# SPDX-License-Identifier: Apache-2.0
"""Which method and path leads where: empty bodies, unknown routes, ids, phases before the start."""
import re

import pytest
from api import BEFORE, EMPTY, fault, no_content

ID_EMPTY = fault("The ID cannot be empty.")
ID_BAD = fault("API Resource IDs can only contain alphanumeric characters and underscores.")
ID_DIFFERS = fault("The id from the path does not match the id from the body!")
GET_BODY = fault("GET request cannot have a body.")


def unknown(method, segment):
    return fault(f"Invalid request method and/or path: {method} {segment}.")


# ---- no body where one is needed, and a body on GET

PUTS = ["actions", "balloon", "boot-source", "cpu-config", "drives/a", "entropy", "hotplug/memory", "logger",
        "machine-config", "metrics", "mmds", "mmds/config", "network-interfaces/a", "pmem/a", "serial",
        "snapshot/create", "snapshot/load", "vsock", "nowhere", ""]
PATCHES = ["balloon", "balloon/statistics", "drives/a", "hotplug/memory", "machine-config", "mmds", "network-interfaces/a",
           "pmem/a", "vm", "nowhere", ""]
GETS = ["", "version", "vm/config", "machine-config", "mmds", "balloon", "balloon/statistics", "balloon/hinting/status",
        "hotplug/memory", "nowhere"]


@pytest.mark.parametrize("path", PUTS)
def test_put_without_body(shared, path):
    assert shared.request("PUT", "/" + path).raw == EMPTY["PUT"]


@pytest.mark.parametrize("path", PATCHES)
def test_patch_without_body(shared, path):
    assert shared.request("PATCH", "/" + path).raw == EMPTY["PATCH"]


@pytest.mark.parametrize("path", GETS)
def test_get_with_body(shared, path):
    assert shared.request("GET", "/" + path, "{}").raw == GET_BODY


# ---- unknown routes: the first segment is named, without slash

UNKNOWN = {
    **{f"GET {p}": ("GET", "/" + p, None, p.split("/")[0]) for p in
       ("actions", "boot-source", "cpu-config", "drives", "drives/a", "entropy", "logger", "metrics", "network-interfaces/a",
        "pmem/a", "serial", "snapshot/create", "vsock", "vm", "vm/nothing", "hotplug", "hotplug/cpu", "nowhere", "Version",
        "machine_config", "x/y/z")},
    **{f"PUT {p}": ("PUT", "/" + p, "{}", p.split("/")[0]) for p in
       ("version", "vm", "vm/config", "hotplug", "hotplug/cpu", "nowhere", "drive/a", "network-interface/a", "Actions")},
    **{f"PATCH {p}": ("PATCH", "/" + p, "{}", p.split("/")[0]) for p in
       ("actions", "boot-source", "cpu-config", "entropy", "logger", "metrics", "serial", "vsock", "version", "hotplug",
        "snapshot/create", "nowhere")},
    **{f"DELETE {p}": ("DELETE", "/" + p, None, p.split("/")[0]) for p in ("version", "vsock", "machine-config", "nowhere")},
    "PUT root": ("PUT", "/", "{}", ""),
    "PATCH root": ("PATCH", "/", "{}", ""),
    "DELETE root": ("DELETE", "/", None, ""),
    "PUT snapshot/x": ("PUT", "/snapshot/x", "{}", "/snapshot/x"),
}


@pytest.mark.parametrize("row", UNKNOWN)
def test_unknown_route(shared, row):
    method, path, body, segment = UNKNOWN[row]
    assert shared.request(method, path, body).raw == unknown(method, segment)


WORDED = {
    "PUT snapshot": ("PUT", "/snapshot", "{}", "Missing snapshot operation type."),
    "GET balloon/x": ("GET", "/balloon/x", None, "Unrecognized GET request path `x`."),
    "GET balloon/hinting": ("GET", "/balloon/hinting", None, "Unrecognized GET request path `/hinting/`."),
    "GET balloon/hinting/x": ("GET", "/balloon/hinting/x", None, "Unrecognized GET request path `/hinting/x`."),
    "PATCH balloon/hinting": ("PATCH", "/balloon/hinting", None, "Unrecognized PATCH request path `/hinting/`."),
    "PATCH balloon/hinting/x": ("PATCH", "/balloon/hinting/x", "{}", "Unrecognized PATCH request path `/hinting/x`."),
}


@pytest.mark.parametrize("row", WORDED)
def test_unknown_subpath(shared, row):
    method, path, body, text = WORDED[row]
    assert shared.request(method, path, body).raw == fault(text)


# ---- ids in paths

COLLECTIONS = {
    "drives": ("drive_id", {"path_on_host": "/nowhere", "is_root_device": False}, {}),
    "network-interfaces": ("iface_id", {"host_dev_name": "name-too-long-for-it"}, {}),
    "pmem": ("id", {"path_on_host": "/nowhere"}, {}),
}


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize("collection", COLLECTIONS)
class TestIds:
    def request(self, shared, method, collection, in_path, in_body):
        key, put, patch = COLLECTIONS[collection]
        return shared.request(method, f"/{collection}{in_path}", {key: in_body, **(put if method == "PUT" else patch)}).raw

    @pytest.mark.parametrize("path", ["", "/"])
    def test_no_id(self, shared, method, collection, path):
        assert self.request(shared, method, collection, path, "a") == ID_EMPTY

    def test_empty_id_between_slashes(self, shared, method, collection):
        assert self.request(shared, method, collection, "//", "a") == ID_EMPTY

    @pytest.mark.parametrize("bad", ["a-b", "a.b", "a b".replace(" ", "%20"), "a!", "-", "a?x=1", "a%2F", "é-"])
    def test_bad_id(self, shared, method, collection, bad):
        assert self.request(shared, method, collection, "/" + bad, bad) == ID_BAD

    def test_id_differs(self, shared, method, collection):
        expected = (fault("The id from the path [a] does not match the id from the body [b]!")
                    if collection == "network-interfaces" else ID_DIFFERS)
        assert self.request(shared, method, collection, "/a", "b") == expected

    @pytest.mark.parametrize("good", ["a", "_", "0", "A_9", "x" * 200, "ärger", "东京"])
    def test_good_id(self, shared, method, collection, good):
        """It gets as far as the device: PATCH to the phase, PUT to the file or tap that is not there."""
        raw = self.request(shared, method, collection, "/" + good, good)
        if method == "PATCH":
            assert raw == BEFORE
        else:
            assert raw.startswith(b"HTTP/1.1 400 ") and raw not in (ID_EMPTY, ID_BAD)
            assert b" config error: " in raw

    def test_id_is_checked_before_the_body(self, shared, method, collection):
        assert shared.request(method, f"/{collection}/a-b", "no JSON").raw == ID_BAD
        assert shared.request(method, f"/{collection}", "no JSON").raw == ID_EMPTY


# ---- phases: what exists only once the machine runs

ONLY_AFTER = {
    "PATCH drives": ("PATCH", "/drives/a", {"drive_id": "a", "path_on_host": "x"}),
    "PATCH drives, nothing to change": ("PATCH", "/drives/a", {"drive_id": "a"}),
    "PATCH network-interfaces": ("PATCH", "/network-interfaces/a", {"iface_id": "a"}),
    "PATCH pmem": ("PATCH", "/pmem/a", {"id": "a"}),
    "PATCH balloon": ("PATCH", "/balloon", {"amount_mib": 1}),
    "PATCH balloon/statistics": ("PATCH", "/balloon/statistics", {"stats_polling_interval_s": 1}),
    "GET balloon/statistics": ("GET", "/balloon/statistics", None),
    "GET balloon/hinting/status": ("GET", "/balloon/hinting/status", None),
    "PATCH balloon/hinting/start": ("PATCH", "/balloon/hinting/start", None),
    "PATCH balloon/hinting/start with body": ("PATCH", "/balloon/hinting/start", {"acknowledge_on_stop": True}),
    "PATCH balloon/hinting/stop": ("PATCH", "/balloon/hinting/stop", None),
    "PATCH balloon/hinting/stop with body": ("PATCH", "/balloon/hinting/stop", {}),
    "GET hotplug/memory": ("GET", "/hotplug/memory", None),
    "PATCH hotplug/memory": ("PATCH", "/hotplug/memory", {"requested_size_mib": 0}),
    "FlushMetrics": ("PUT", "/actions", {"action_type": "FlushMetrics"}),
    "SendCtrlAltDel": ("PUT", "/actions", {"action_type": "SendCtrlAltDel"}),
    "Paused": ("PATCH", "/vm", {"state": "Paused"}),
    "Resumed": ("PATCH", "/vm", {"state": "Resumed"}),
    "Paused, path with more": ("PATCH", "/vm/anything", {"state": "Paused"}),
    "snapshot/create": ("PUT", "/snapshot/create", {"snapshot_path": "a", "mem_file_path": "b"}),
    "snapshot/create Diff": ("PUT", "/snapshot/create", {"snapshot_type": "Diff", "snapshot_path": "a", "mem_file_path": "b"}),
    "DELETE drives": ("DELETE", "/drives/a", None),
    "DELETE network-interfaces": ("DELETE", "/network-interfaces/a", None),
    "DELETE pmem": ("DELETE", "/pmem/a", None),
}


@pytest.mark.parametrize("row", ONLY_AFTER)
def test_not_before_the_start(shared, row):
    assert shared.request(*ONLY_AFTER[row]).raw == BEFORE


# ---- what works without a configuration

def test_instance_info(shared):
    r = shared.request("GET", "/")
    version = shared.get("/version")["firecracker_version"]
    assert r.body == ('{"id":"anonymous-instance","state":"Not started","vmm_version":"%s","app_name":"Firecracker"}'
                      % version).encode()


def test_instance_id(start):
    vmm = start("--id", "my-Vm-0")
    assert vmm.get("/")["id"] == "my-Vm-0"


def test_version_looks_like_one(shared):
    assert re.fullmatch(r"\d+\.\d+\.\d+(-dev)?", shared.get("/version")["firecracker_version"])


def test_default_machine_config(shared):
    assert shared.request("GET", "/machine-config").body == (
        b'{"vcpu_count":1,"mem_size_mib":128,"smt":false,"track_dirty_pages":false,"huge_pages":"None"}')


def test_start_without_kernel(vmm):
    """It fails and leaves the process up."""
    r = vmm.request("PUT", "/actions", {"action_type": "InstanceStart"})
    assert r.raw == fault("Start microvm error: Cannot start microvm without kernel configuration.")
    assert vmm.get("/")["state"] == "Not started"


def test_no_balloon(shared):
    r = shared.request("GET", "/balloon")
    assert r.status == 400 and r.fault.startswith("Balloon config error: ")


@pytest.mark.parametrize("path", ["/entropy", "/entropy/more", "/entropy/"])
def test_segments_past_the_route_are_ignored(start, path):
    vmm = start()
    assert vmm.request("PUT", path, {}).raw == no_content()
    assert vmm.get("/vm/config")["entropy"] == {"rate_limiter": None}
