# SPDX-License-Identifier: Apache-2.0
"""Configuring a machine before its start: what each PUT accepts, refuses, opens at once, replaces and shows."""
import json
import os
import socket
import stat

import pytest
from api import answer, fault, no_content
from vmm import listens

DEFAULTS = {"vcpu_count": 1, "mem_size_mib": 128, "smt": False, "track_dirty_pages": False, "huge_pages": "None"}
VCPUS = fault("Machine config error: The number of vCPUs must be greater than 0, less than 32 and must be 1 or an even "
              "number if SMT is enabled.")
MEMORY = fault("Machine config error: The memory size (MiB) is either 0, or not a multiple of the configured page size.")


# ---- machine-config

MACHINES_REFUSED = {
    "0 vCPUs": ({"vcpu_count": 0, "mem_size_mib": 128}, VCPUS),
    "33 vCPUs": ({"vcpu_count": 33, "mem_size_mib": 128}, VCPUS),
    "255 vCPUs": ({"vcpu_count": 255, "mem_size_mib": 128}, VCPUS),
    "3 vCPUs with SMT": ({"vcpu_count": 3, "mem_size_mib": 128, "smt": True}, VCPUS),
    "31 vCPUs with SMT": ({"vcpu_count": 31, "mem_size_mib": 128, "smt": True}, VCPUS),
    "no memory": ({"vcpu_count": 1, "mem_size_mib": 0}, MEMORY),
    "1 MiB in huge pages": ({"vcpu_count": 1, "mem_size_mib": 1, "huge_pages": "2M"}, MEMORY),
    "129 MiB in huge pages": ({"vcpu_count": 1, "mem_size_mib": 129, "huge_pages": "2M"}, MEMORY),
    "both wrong: the vCPUs are told": ({"vcpu_count": 0, "mem_size_mib": 0}, VCPUS),
}


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize("row", MACHINES_REFUSED)
def test_machine_refused(vmm, row, method):
    body, expected = MACHINES_REFUSED[row]
    vmm.put("/machine-config", {"vcpu_count": 2, "mem_size_mib": 64})
    assert vmm.request(method, "/machine-config", body).raw == expected
    assert vmm.get("/machine-config") == {**DEFAULTS, "vcpu_count": 2, "mem_size_mib": 64}


MACHINES = {
    "smallest": {"vcpu_count": 1, "mem_size_mib": 1},
    "32 vCPUs": {"vcpu_count": 32, "mem_size_mib": 128},
    "3 vCPUs": {"vcpu_count": 3, "mem_size_mib": 128},
    "1 vCPU with SMT": {"vcpu_count": 1, "mem_size_mib": 128, "smt": True},
    "32 vCPUs with SMT": {"vcpu_count": 32, "mem_size_mib": 128, "smt": True},
    "dirty pages": {"vcpu_count": 2, "mem_size_mib": 256, "track_dirty_pages": True},
    "huge pages": {"vcpu_count": 2, "mem_size_mib": 2, "huge_pages": "2M"},
    "transparent huge pages": {"vcpu_count": 2, "mem_size_mib": 129, "huge_pages": "Transparent"},
    "all": {"vcpu_count": 4, "mem_size_mib": 512, "smt": True, "track_dirty_pages": True, "huge_pages": "2M"},
    "odd memory": {"vcpu_count": 1, "mem_size_mib": 333},
}


@pytest.mark.parametrize("row", MACHINES)
def test_machine(vmm, row):
    body = MACHINES[row]
    assert vmm.request("PUT", "/machine-config", body).raw == no_content()
    expected = {**DEFAULTS, **body}
    assert vmm.request("GET", "/machine-config").raw == answer(200, json.dumps(expected, separators=(",", ":")))
    assert vmm.get("/vm/config")["machine-config"] == expected


PATCHES = {
    "vcpu_count": 4, "mem_size_mib": 256, "smt": True, "track_dirty_pages": True, "huge_pages": "2M",
}


@pytest.mark.parametrize("field", PATCHES)
def test_patch_machine_changes_one_field(vmm, field):
    assert vmm.request("PATCH", "/machine-config", {field: PATCHES[field]}).raw == no_content()
    assert vmm.get("/machine-config") == {**DEFAULTS, field: PATCHES[field]}


@pytest.mark.parametrize("body", [{}, {"vcpu_count": None}, {"smt": None, "mem_size_mib": None}])
def test_patch_machine_with_nothing(vmm, body):
    assert vmm.request("PATCH", "/machine-config", body).raw == fault("Empty PATCH request.")


def test_patch_is_checked_against_what_is_there(vmm):
    vmm.put("/machine-config", {"vcpu_count": 3, "mem_size_mib": 129})
    assert vmm.request("PATCH", "/machine-config", {"smt": True}).raw == VCPUS
    assert vmm.request("PATCH", "/machine-config", {"huge_pages": "2M"}).raw == MEMORY
    vmm.patch("/machine-config", {"vcpu_count": 2, "smt": True})
    assert vmm.request("PATCH", "/machine-config", {"vcpu_count": 3}).raw == VCPUS


def test_put_machine_resets_what_is_absent(vmm):
    vmm.put("/machine-config", MACHINES["all"])
    vmm.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 128})
    assert vmm.get("/machine-config") == DEFAULTS


@pytest.mark.parametrize("template", ["C3", "T2", "T2S", "T2CL", "T2A", "V1N1"])
def test_cpu_template(vmm, template):
    """Accepted whatever the host is; shown; an older way of saying so, which the header tells."""
    r = vmm.request("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 128, "cpu_template": template})
    if template == "V1N1" and r.status == 400:      # a word for ARM
        return
    assert r.raw == no_content(deprecated=True)
    shown = vmm.request("GET", "/machine-config").body.decode()
    assert shown == ('{"vcpu_count":1,"mem_size_mib":128,"smt":false,"cpu_template":"%s","track_dirty_pages":false,'
                     '"huge_pages":"None"}' % template)


def test_cpu_template_none(vmm):
    assert vmm.request("PUT", "/machine-config", {**DEFAULTS, "cpu_template": "None"}).raw == no_content(deprecated=True)
    assert vmm.get("/machine-config") == DEFAULTS
    assert vmm.request("PATCH", "/machine-config", {"cpu_template": "None"}).raw == no_content(deprecated=True)
    vmm.wait_for(lambda: "PUT /machine-config: cpu_template field is deprecated." in vmm.out)
    vmm.wait_for(lambda: "PATCH /machine-config: cpu_template field is deprecated." in vmm.out)


def test_cpu_template_stays_until_none(vmm):
    vmm.put("/machine-config", {**DEFAULTS, "cpu_template": "T2"}, deprecated=True)
    vmm.put("/machine-config", DEFAULTS)
    assert vmm.get("/machine-config")["cpu_template"] == "T2"
    vmm.put("/machine-config", {**DEFAULTS, "cpu_template": "None"}, deprecated=True)
    assert "cpu_template" not in vmm.get("/machine-config")


def test_no_deprecation_header_on_errors_of_json(vmm):
    r = vmm.request("PUT", "/machine-config", {"cpu_template": "T2"})
    assert r.status == 400 and r.header("Deprecation") is None


# ---- cpu-config

CPU_CONFIGS = {
    "empty": {},
    "all of it": {
        "kvm_capabilities": ["121", "!122"],
        "cpuid_modifiers": [{"leaf": "0x1", "subleaf": "0x0", "flags": 0, "modifiers": [
            {"register": "eax", "bitmap": "0bxxxx0000xxxxxxxxxxxxxxxxxxxxxxxx"}]}],
        "msr_modifiers": [{"addr": "0x10a", "bitmap": "0b0000x1xx"}],
    },
    "cpuid only": {"cpuid_modifiers": [{"leaf": "0x7", "subleaf": "0x0", "flags": 1, "modifiers": [
        {"register": "ebx", "bitmap": "0b" + "x" * 32}, {"register": "edx", "bitmap": "0b0" + "x" * 31}]}]},
}


@pytest.mark.parametrize("row", CPU_CONFIGS)
def test_cpu_config(vmm, row):
    assert vmm.request("PUT", "/cpu-config", CPU_CONFIGS[row]).raw == no_content()
    assert vmm.get("/vm/config")["cpu-config"] is None


def test_last_of_template_and_cpu_config_wins(vmm):
    """Only a static template is shown."""
    template = {**DEFAULTS, "cpu_template": "T2"}
    vmm.put("/machine-config", template, deprecated=True)
    vmm.put("/cpu-config", CPU_CONFIGS["all of it"])
    assert vmm.get("/machine-config") == DEFAULTS
    vmm.put("/machine-config", DEFAULTS)
    assert vmm.get("/machine-config") == DEFAULTS
    vmm.patch("/machine-config", {"cpu_template": "T2"}, deprecated=True)
    assert vmm.get("/machine-config") == template


@pytest.mark.parametrize("body", [
    {"foo": False}, {"cpuid_modifiers": {}}, {"cpuid_modifiers": [{}]}, {"msr_modifiers": [{"addr": "x", "bitmap": "0b1"}]},
    {"msr_modifiers": [{"addr": "0x1", "bitmap": "0b2"}]}, {"kvm_capabilities": ["x"]},
    {"cpuid_modifiers": [{"leaf": "0x1", "subleaf": "0x0", "flags": 0, "modifiers": [{"register": "xyz", "bitmap": "0b1"}]}]},
])
def test_cpu_config_refused(vmm, body):
    assert vmm.request("PUT", "/cpu-config", body).status == 400


# ---- boot-source

def test_boot_source(vmm):
    kernel, initrd = vmm.file("kernel"), vmm.file("initrd")
    vmm.put("/boot-source", {"kernel_image_path": kernel})
    assert vmm.get("/vm/config")["boot-source"] == {"kernel_image_path": kernel, "initrd_path": None, "boot_args": None}
    vmm.put("/boot-source", {"kernel_image_path": "kernel", "initrd_path": initrd, "boot_args": "a b -- c"})
    assert vmm.get("/vm/config")["boot-source"] == {"kernel_image_path": "kernel", "initrd_path": initrd, "boot_args": "a b -- c"}
    vmm.put("/boot-source", {"kernel_image_path": kernel, "boot_args": ""})
    assert vmm.get("/vm/config")["boot-source"] == {"kernel_image_path": kernel, "initrd_path": None, "boot_args": ""}


BOOT_REFUSED = {
    "no kernel": ({"kernel_image_path": "foo.bar"},
                  "The kernel file cannot be opened: No such file or directory (os error 2)"),
    "kernel below a file": ({"kernel_image_path": "kernel/x"}, "The kernel file cannot be opened: Not a directory (os error 20)"),
    "no initrd": ({"kernel_image_path": "kernel", "initrd_path": "foo"},
                  "The initrd file cannot be opened due to invalid path or invalid permissions. "
                  "No such file or directory (os error 2)"),
}


@pytest.mark.parametrize("row", BOOT_REFUSED)
def test_boot_source_refused(vmm, row):
    kernel = vmm.file("kernel")
    vmm.put("/boot-source", {"kernel_image_path": kernel, "boot_args": "x"})
    body, text = BOOT_REFUSED[row]
    assert vmm.request("PUT", "/boot-source", body).raw == fault(f"Boot source error: {text}")
    assert vmm.get("/vm/config")["boot-source"] == {"kernel_image_path": kernel, "initrd_path": None, "boot_args": "x"}


@pytest.mark.parametrize("length,good", [(2000, True), (2047, True), (2048, False), (5000, False)])
def test_length_of_boot_args(vmm, length, good):
    """At most 2048 bytes with the NUL."""
    vmm.file("kernel")
    r = vmm.request("PUT", "/boot-source", {"kernel_image_path": "kernel", "boot_args": "x" * length})
    assert r.status == (204 if good else 400)
    if not good:
        assert r.fault.startswith("Boot source error: The kernel command line is invalid: ")


MODES = ("off", "physical", "kaslr", "fgkaslr", "kaslr+slide", "fgkaslr+slide", "auto")


@pytest.mark.parametrize("extra,good", [({"randomize": m}, True) for m in MODES] +
                         [({"randomize": "much"}, False), ({"randomize": 1}, False), ({"layout_out": "layout.json"}, True)])
def test_boot_source_extras(vmm, extra, good):
    """What riffle adds; shown only when it was given."""
    vmm.file("kernel")
    assert vmm.request("PUT", "/boot-source", {"kernel_image_path": "kernel", **extra}).status == (204 if good else 400)
    if good:
        assert vmm.get("/vm/config")["boot-source"] == {"kernel_image_path": "kernel", "initrd_path": None, "boot_args": None,
                                                       **extra}


# ---- drives

def drive(path, **more):
    return {"drive_id": None, "partuuid": None, "is_root_device": False, "cache_type": "Unsafe", "is_read_only": False,
            "path_on_host": path, "rate_limiter": None, "io_engine": "Sync", "socket": None, **more}


BUCKET = {"size": 1000, "one_time_burst": None, "refill_time": 100}
LIMITS = {
    "absent": (None, None),
    "empty": ({}, None),
    "both null": ({"bandwidth": None, "ops": None}, None),
    "bandwidth": ({"bandwidth": {"size": 1000, "refill_time": 100}}, {"bandwidth": BUCKET, "ops": None}),
    "ops": ({"ops": {"size": 1000, "refill_time": 100}}, {"bandwidth": None, "ops": BUCKET}),
    "both": ({"bandwidth": {"size": 1000, "refill_time": 100}, "ops": {"size": 1000, "refill_time": 100}},
             {"bandwidth": BUCKET, "ops": BUCKET}),
    "burst": ({"ops": {"size": 1000, "refill_time": 100, "one_time_burst": 5}},
              {"bandwidth": None, "ops": {**BUCKET, "one_time_burst": 5}}),
    "size 0 is no limit": ({"ops": {"size": 0, "refill_time": 100}}, None),
    "refill_time 0 is no limit": ({"ops": {"size": 1000, "refill_time": 0}}, None),
}


@pytest.mark.parametrize("row", LIMITS)
def test_drive_limits(vmm, row):
    given, shown = LIMITS[row]
    vmm.file("disk", size=4096)
    vmm.put("/drives/a", {"drive_id": "a", "is_root_device": False, "path_on_host": "disk",
                          **({} if row == "absent" else {"rate_limiter": given})})
    assert vmm.get("/vm/config")["drives"] == [drive("disk", drive_id="a", rate_limiter=shown)]


DRIVES = {
    "least": {}, "root": {"is_root_device": True}, "read-only": {"is_read_only": True}, "writeback": {"cache_type": "Writeback"},
    "unsafe": {"cache_type": "Unsafe"}, "sync": {"io_engine": "Sync"}, "async": {"io_engine": "Async"},
    "partuuid": {"is_root_device": True, "partuuid": "0eaa91a0-01"}, "partuuid of no root": {"partuuid": "0eaa91a0-01"},
}


@pytest.mark.parametrize("row", DRIVES)
def test_drive(vmm, row):
    path = vmm.file("disk", size=4096)
    r = vmm.request("PUT", "/drives/a_1", {"drive_id": "a_1", "is_root_device": False, "path_on_host": path, **DRIVES[row]})
    assert r.raw == no_content()
    assert vmm.get("/vm/config")["drives"] == [drive(path, drive_id="a_1", **DRIVES[row])]


def test_keys_of_a_drive_are_in_order(vmm):
    path = vmm.file("disk", size=4096)
    vmm.put("/drives/a", {"drive_id": "a", "is_root_device": True, "path_on_host": path})
    text = vmm.request("GET", "/vm/config").body.decode()
    assert ('"drives":[{"drive_id":"a","partuuid":null,"is_root_device":true,"cache_type":"Unsafe","is_read_only":false,'
            f'"path_on_host":"{path}","rate_limiter":null,"io_engine":"Sync","socket":null}}]') in text


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 4096])
def test_drive_of_any_size(vmm, size):
    vmm.file("disk", size=size)
    vmm.put("/drives/a", {"drive_id": "a", "is_root_device": False, "path_on_host": "disk"})


DRIVES_REFUSED = {
    "no file": {"path_on_host": "nowhere"},
    "file below a file": {"path_on_host": "disk/x"},
    "no path and no socket": {},
    "socket that nobody serves": {"socket": "nowhere.sock"},
    "path and socket": {"path_on_host": "disk", "socket": "x.sock"},
}


@pytest.mark.parametrize("row", DRIVES_REFUSED)
def test_drive_refused(vmm, row):
    vmm.file("disk", size=4096)
    r = vmm.request("PUT", "/drives/a", {"drive_id": "a", "is_root_device": False, **DRIVES_REFUSED[row]})
    assert r.status == 400 and r.fault.startswith("Drive config error: "), r.raw
    if row == "no file":
        assert "No such file or directory (os error 2)" in r.fault
    assert vmm.get("/vm/config")["drives"] == []


class TestDriveOrder:
    def put(self, vmm, name, root=False, path=None, expected=204):
        r = vmm.request("PUT", f"/drives/{name}", {"drive_id": name, "is_root_device": root, "path_on_host": path or name})
        assert r.status == expected, r.raw
        return r

    def shown(self, vmm):
        return [d["drive_id"] for d in vmm.get("/vm/config")["drives"]]

    @pytest.fixture
    def vmm(self, vmm):
        for name in "abcdr":
            vmm.file(name, size=4096)
        return vmm

    def test_in_order_of_put(self, vmm):
        for name in "cab":
            self.put(vmm, name)
        assert self.shown(vmm) == ["c", "a", "b"]

    def test_root_goes_first(self, vmm):
        for name in "ab":
            self.put(vmm, name)
        self.put(vmm, "r", root=True)
        self.put(vmm, "c")
        assert self.shown(vmm) == ["r", "a", "b", "c"]

    def test_replaced_drive_keeps_its_place(self, vmm):
        for name in "abc":
            self.put(vmm, name)
        self.put(vmm, "b", path="d")
        assert self.shown(vmm) == ["a", "b", "c"]
        assert vmm.get("/vm/config")["drives"][1]["path_on_host"] == "d"

    def test_second_root(self, vmm):
        self.put(vmm, "r", root=True)
        assert self.put(vmm, "a", root=True, expected=400).raw == fault(
            "Drive config error: A root block device already exists!")
        self.put(vmm, "a")
        assert self.put(vmm, "a", root=True, expected=400).status == 400
        assert self.shown(vmm) == ["r", "a"]

    def test_root_given_up(self, vmm):
        self.put(vmm, "r", root=True)
        self.put(vmm, "a")
        self.put(vmm, "r")
        self.put(vmm, "a", root=True)
        assert self.shown(vmm)[0] == "a"

    def test_drive_becomes_root(self, vmm):
        for name in "abc":
            self.put(vmm, name)
        self.put(vmm, "c", root=True)
        assert self.shown(vmm)[0] == "c"

    def test_failed_replacement_leaves_the_old_one(self, vmm):
        self.put(vmm, "a")
        before = vmm.get("/vm/config")["drives"]
        self.put(vmm, "a", path="nowhere", expected=400)
        assert vmm.get("/vm/config")["drives"] == before


def test_drives_file_is_opened_at_put(vmm):
    """A file that is removed afterwards is no matter."""
    path = vmm.file("disk", size=4096)
    vmm.put("/drives/a", {"drive_id": "a", "is_root_device": False, "path_on_host": path})
    opened = {os.readlink(f"/proc/{vmm.process.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{vmm.process.pid}/fd")}
    assert path in opened


# ---- pmem

PMEM = {"root_device": False, "read_only": False, "rate_limiter": None}
ROOT_PMEM = "Attempt to add pmem as a root device while the root device defined as a block device"


@pytest.mark.parametrize("more", [{}, {"root_device": True}, {"read_only": True}, {"root_device": True, "read_only": True},
                                  {"rate_limiter": {"ops": {"size": 1000, "refill_time": 100}}}])
def test_pmem(vmm, more):
    path = vmm.file("pmem", size=2 << 20)
    assert vmm.request("PUT", "/pmem/p", {"id": "p", "path_on_host": path, **more}).raw == no_content()
    if "rate_limiter" in more:
        more = {"rate_limiter": {"bandwidth": None, "ops": BUCKET}}
    assert vmm.get("/vm/config")["pmem"] == [{"id": "p", "path_on_host": path, **PMEM, **more}]


def test_pmem_and_root(vmm):
    for name in ("disk", "pmem"):
        vmm.file(name, size=2 << 20)
    vmm.put("/drives/d", {"drive_id": "d", "is_root_device": True, "path_on_host": "disk"})
    root = {"id": "p", "path_on_host": "pmem", "root_device": True}
    assert ROOT_PMEM in vmm.request("PUT", "/pmem/p", root).fault
    vmm.put("/drives/d", {"drive_id": "d", "is_root_device": False, "path_on_host": "disk"})
    vmm.put("/pmem/p", root)
    r = vmm.request("PUT", "/pmem/q", {**root, "id": "q"})
    assert r.status == 400 and "A root pmem device already exist" in r.fault
    assert vmm.request("PUT", "/drives/d", {"drive_id": "d", "is_root_device": True, "path_on_host": "disk"}).status == 400
    vmm.put("/pmem/p", {**root, "root_device": False})
    vmm.put("/pmem/q", {**root, "id": "q"})
    assert [p["id"] for p in vmm.get("/vm/config")["pmem"]] in (["p", "q"], ["q", "p"])


def test_pmem_replaced(vmm):
    for name in "ab":
        vmm.file(name, size=2 << 20)
    vmm.put("/pmem/a", {"id": "a", "path_on_host": "a", "rate_limiter": {"ops": {"size": 1, "refill_time": 1}}})
    vmm.put("/pmem/b", {"id": "b", "path_on_host": "b"})
    vmm.put("/pmem/a", {"id": "a", "path_on_host": "b"})
    assert vmm.get("/vm/config")["pmem"] == [{"id": "a", "path_on_host": "b", **PMEM}, {"id": "b", "path_on_host": "b", **PMEM}]


# ---- vsock

def test_vsock(vmm):
    assert vmm.request("PUT", "/vsock", {"guest_cid": 3, "uds_path": "v.sock"}).raw == no_content()
    assert vmm.request("GET", "/vm/config").body.find(b'"vsock":{"guest_cid":3,"uds_path":"v.sock"}') > 0
    assert listens(vmm.directory / "v.sock")
    assert stat.S_ISSOCK((vmm.directory / "v.sock").stat().st_mode)


def test_vsock_id_is_deprecated(vmm):
    for _ in range(2):
        r = vmm.request("PUT", "/vsock", {"vsock_id": "vsock1", "guest_cid": 15, "uds_path": "v.sock"})
        assert r.raw == no_content(deprecated=True)
    assert vmm.get("/vm/config")["vsock"] == {"guest_cid": 15, "uds_path": "v.sock"}


def test_vsock_again_unlinks_the_first_socket(vmm):
    vmm.put("/vsock", {"guest_cid": 3, "uds_path": "a.sock"})
    vmm.put("/vsock", {"guest_cid": 4, "uds_path": "b.sock"})
    assert not (vmm.directory / "a.sock").exists() and listens(vmm.directory / "b.sock")
    vmm.put("/vsock", {"guest_cid": 5, "uds_path": "b.sock"})
    assert listens(vmm.directory / "b.sock")
    assert vmm.get("/vm/config")["vsock"] == {"guest_cid": 5, "uds_path": "b.sock"}


@pytest.mark.parametrize("kind", ["file", "directory", "socket", "no directory"])
def test_vsock_path_must_be_free(vmm, kind):
    path = vmm.directory / "v.sock"
    if kind == "file":
        path.write_text("x")
    elif kind == "directory":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(str(path))
    else:
        path = vmm.directory / "none" / "v.sock"
    r = vmm.request("PUT", "/vsock", {"guest_cid": 3, "uds_path": str(path)})
    assert r.status == 400 and r.fault.startswith("Vsock config error: ")
    assert vmm.get("/vm/config")["vsock"] is None
    if kind == "file":
        assert path.read_text() == "x"


def test_failed_second_vsock_loses_the_first(vmm):
    vmm.put("/vsock", {"guest_cid": 3, "uds_path": "a.sock"})
    assert vmm.request("PUT", "/vsock", {"guest_cid": 3, "uds_path": "none/a.sock"}).status == 400
    assert vmm.get("/vm/config")["vsock"] is None
    assert not (vmm.directory / "a.sock").exists()


@pytest.mark.parametrize("cid", [0, 1, 2, 3, 4294967295])
def test_any_cid_is_accepted(vmm, cid):
    vmm.put("/vsock", {"guest_cid": cid, "uds_path": "v.sock"})


def test_vsock_stays_behind(vmm):
    vmm.put("/vsock", {"guest_cid": 3, "uds_path": "v.sock"})
    vmm.process.terminate()
    assert vmm.wait() == -15
    assert (vmm.directory / "v.sock").exists()


# ---- entropy, serial, balloon, memory that can be plugged

@pytest.mark.parametrize("row", LIMITS)
def test_entropy(vmm, row):
    given, shown = LIMITS[row]
    assert vmm.request("PUT", "/entropy", {} if row == "absent" else {"rate_limiter": given}).raw == no_content()
    assert vmm.get("/vm/config")["entropy"] == {"rate_limiter": shown}


@pytest.mark.parametrize("body", [{}, {"serial_out_path": "console"}, {"rate_limiter": {"size": 10, "refill_time": 10}},
                                  {"serial_out_path": None, "rate_limiter": None}])
def test_serial(vmm, body):
    """Nothing of it is in the configuration that is shown."""
    vmm.file("console")
    before = vmm.request("GET", "/vm/config").body
    assert vmm.request("PUT", "/serial", body).raw == no_content()
    assert vmm.request("GET", "/vm/config").body == before
    assert b"serial" not in before


BALLOON = {"amount_mib": 0, "deflate_on_oom": False, "stats_polling_interval_s": 0, "free_page_hinting": False,
           "free_page_reporting": False}
BALLOONS = [{"amount_mib": 0, "deflate_on_oom": False}, {"amount_mib": 1, "deflate_on_oom": True},
            {"amount_mib": 128, "deflate_on_oom": True}, {"stats_polling_interval_s": 65535}, {"free_page_hinting": True},
            {"free_page_reporting": True}]


@pytest.mark.parametrize("body", BALLOONS)
def test_balloon(vmm, body):
    body = {"amount_mib": 0, "deflate_on_oom": False, **body}
    assert vmm.request("PUT", "/balloon", body).raw == no_content()
    assert vmm.get("/balloon") == {**BALLOON, **body} == vmm.get("/vm/config")["balloon"]
    vmm.put("/balloon", {"amount_mib": 2, "deflate_on_oom": False})
    assert vmm.get("/balloon") == {**BALLOON, "amount_mib": 2}


def test_balloon_and_memory(vmm):
    """Checked against the memory that there is now."""
    too_much = {"amount_mib": 129, "deflate_on_oom": False}
    r = vmm.request("PUT", "/balloon", too_much)
    assert r.status == 400 and r.fault.startswith("Balloon config error: ")
    assert vmm.get("/vm/config")["balloon"] is None
    vmm.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 256})
    vmm.put("/balloon", too_much)
    assert vmm.request("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 128}).raw == fault(
        "Machine config error: The memory size (MiB) is smaller than the previously set balloon device target size.")
    assert vmm.get("/machine-config")["mem_size_mib"] == 256
    vmm.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 129})


PLUGGABLE = {
    "default sizes": ({"total_size_mib": 1024}, {"total_size_mib": 1024, "block_size_mib": 2, "slot_size_mib": 128}),
    "all given": ({"total_size_mib": 1024, "block_size_mib": 128, "slot_size_mib": 1024},
                  {"total_size_mib": 1024, "block_size_mib": 128, "slot_size_mib": 1024}),
    "one slot": ({"total_size_mib": 128}, {"total_size_mib": 128, "block_size_mib": 2, "slot_size_mib": 128}),
    "block below 2": ({"total_size_mib": 1024, "block_size_mib": 1}, None),
    "block 0": ({"total_size_mib": 1024, "block_size_mib": 0}, None),
    "block is no power of 2": ({"total_size_mib": 1024, "block_size_mib": 3}, None),
    "slot below 128": ({"total_size_mib": 1024, "slot_size_mib": 64}, None),
    "slot is not a multiple of block": ({"total_size_mib": 1024, "slot_size_mib": 129}, None),
    "total below slot": ({"total_size_mib": 64}, None),
    "total is not a multiple of slot": ({"total_size_mib": 200}, None),
    "nothing": ({"total_size_mib": 0}, None),
}


@pytest.mark.parametrize("row", PLUGGABLE)
def test_memory_that_can_be_plugged(vmm, row):
    body, shown = PLUGGABLE[row]
    r = vmm.request("PUT", "/hotplug/memory", body)
    if shown:
        assert r.raw == no_content()
    else:
        assert r.status == 400 and r.fault.startswith("Memory hotplug config error: ")
    assert vmm.get("/vm/config")["memory-hotplug"] == shown


# ---- the whole view

KEYS = ["balloon", "drives", "boot-source", "cpu-config", "logger", "machine-config", "metrics", "mmds-config",
        "network-interfaces", "vsock", "entropy", "pmem", "memory-hotplug"]


def test_empty_configuration(vmm):
    config = vmm.get("/vm/config")
    assert list(config) == KEYS
    nothing = {"kernel_image_path": "", "initrd_path": None, "boot_args": None}
    assert config.pop("boot-source") in (None, nothing)
    assert config.pop("machine-config") == DEFAULTS
    for key, value in config.items():
        assert value == ([] if key in ("drives", "network-interfaces", "pmem") else None), key


@pytest.mark.parametrize("segments", ["/vm/config", "/vm/config/", "/vm/config/more"])
def test_path_of_the_configuration(vmm, segments):
    assert list(vmm.get(segments)) == KEYS


def test_logger_and_metrics_are_not_shown(vmm):
    vmm.put("/logger", {"log_path": vmm.file("log")})
    vmm.put("/metrics", {"metrics_path": vmm.file("metrics")})
    config = vmm.get("/vm/config")
    assert config["logger"] is None and config["metrics"] is None
