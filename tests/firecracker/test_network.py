# SPDX-License-Identifier: Apache-2.0
"""Network interfaces and the metadata service, as the API configures them; the taps are real."""
import json
import subprocess

import pytest
from api import answer, deserialize, fault, no_content

NET = {"guest_mac": None, "mtu": None, "rx_rate_limiter": None, "tx_rate_limiter": None}
NO_INTERFACES = "The list of network interface IDs that allow forwarding MMDS requests is empty."
UNKNOWN_INTERFACE = ("The list of network interface IDs provided contains at least one ID that does not correspond to any "
                     "existing network interface.")
BUCKET = {"size": 1000000, "one_time_burst": None, "refill_time": 100}


def put(vmm, name, tap, expected=204, **more):
    r = vmm.request("PUT", f"/network-interfaces/{name}", {"iface_id": name, "host_dev_name": tap, **more})
    assert r.status == expected, r.raw
    return r


def shown(vmm):
    return vmm.get("/vm/config")["network-interfaces"]


@pytest.mark.parametrize("more", [
    {}, {"guest_mac": "06:00:00:00:00:01"}, {"mtu": 68}, {"mtu": 1500}, {"mtu": 65535},
    {"rx_rate_limiter": {"bandwidth": BUCKET, "ops": None}}, {"tx_rate_limiter": {"bandwidth": None, "ops": BUCKET}},
])
def test_interface(vmm, taps, more):
    assert put(vmm, "eth0", taps[0], **more).raw == no_content()
    assert shown(vmm) == [{"iface_id": "eth0", "host_dev_name": taps[0], **NET, **more}]


def test_keys_of_an_interface_are_in_order(vmm, taps):
    put(vmm, "eth0", taps[0], guest_mac="AA:BB:CC:DD:EE:FF")
    assert ('"network-interfaces":[{"iface_id":"eth0","host_dev_name":"%s","guest_mac":"aa:bb:cc:dd:ee:ff","mtu":null,'
            '"rx_rate_limiter":null,"tx_rate_limiter":null}]' % taps[0]) in vmm.request("GET", "/vm/config").body.decode()


def test_empty_limiter_shows_as_null(vmm, taps):
    put(vmm, "a", taps[0], rx_rate_limiter={}, tx_rate_limiter={"bandwidth": {"size": 0, "refill_time": 1}})
    assert shown(vmm) == [{"iface_id": "a", "host_dev_name": taps[0], **NET}]


def test_mac_in_use(vmm, taps):
    put(vmm, "a", taps[0], guest_mac="06:00:00:00:00:01")
    put(vmm, "b", taps[1], guest_mac="07:00:00:00:00:01")
    assert put(vmm, "b", taps[1], 400, guest_mac="06:00:00:00:00:01").raw == fault(
        "Network config error: The MAC address is already in use: 06:00:00:00:00:01")
    put(vmm, "b", taps[1], guest_mac="08:00:00:00:00:01")
    put(vmm, "b", taps[1], guest_mac="08:00:00:00:00:01")
    put(vmm, "a", taps[1], 400, guest_mac="06:00:00:00:00:01")
    put(vmm, "c", taps[2], guest_mac="06:00:00:00:00:01")


def test_mac_in_use_in_other_letters(vmm, taps):
    put(vmm, "a", taps[0], guest_mac="0a:00:00:00:00:0b")
    assert "The MAC address is already in use: 0a:00:00:00:00:0b" in put(vmm, "b", taps[1], 400,
                                                                         guest_mac="0A:00:00:00:00:0B").fault


def test_same_tap_twice(vmm, taps):
    put(vmm, "a", taps[0])
    r = put(vmm, "b", taps[0], 400)
    assert r.fault.startswith("Network config error: Could not create the network device: Open tap device failed: ")
    assert "Resource busy (os error 16)" in r.fault or "Device or resource busy (os error 16)" in r.fault
    assert [n["iface_id"] for n in shown(vmm)] == ["a"]


def test_replaced_interface_goes_last_and_the_last_takes_its_place(vmm, taps):
    for name, tap in zip("abc", taps):
        put(vmm, name, tap)
    put(vmm, "a", taps[0], mtu=1400)
    assert [n["iface_id"] for n in shown(vmm)] == ["c", "b", "a"]


def test_failed_replacement_loses_the_old_interface(vmm, taps):
    for name, tap in zip("ab", taps):
        put(vmm, name, tap)
    put(vmm, "a", taps[1], 400)
    assert [n["iface_id"] for n in shown(vmm)] == ["b"]
    put(vmm, "c", taps[0])      # its tap is free again


@pytest.mark.parametrize("name", ["x" * 16, "x" * 100])
def test_names_that_are_too_long(vmm, name):
    assert put(vmm, "a", name, 400).fault == (
        "Network config error: Could not create the network device: Open tap device failed: Invalid interface name")


@pytest.mark.parametrize("name", ["", "no/such", "lo"])
def test_names_that_are_no_tap(vmm, taps, name):
    r = put(vmm, "a", name, 400)
    assert r.fault.startswith("Network config error: Could not create the network device: Open tap device failed: "), r.raw
    if name == "lo":
        assert r.fault.endswith("Error while creating ifreq structure: Invalid argument (os error 22). Invalid TUN/TAP Backend "
                                "provided by lo. Check our documentation on setting up the network devices.")


def test_missing_tap_is_made(vmm, taps):
    """Where privileges allow it, and it is gone with the process."""
    name = taps[0][:-1] + "z"
    put(vmm, "a", name)
    assert subprocess.run(["ip", "link", "show", name], capture_output=True, check=False).returncode == 0
    vmm.process.kill()
    vmm.wait()
    vmm.wait_for(lambda: subprocess.run(["ip", "link", "show", name], capture_output=True, check=False).returncode)


# ---- mmds/config

class TestMmdsConfig:
    def put(self, vmm, status=204, deprecated=None, **body):
        r = vmm.request("PUT", "/mmds/config", body)
        assert r.status == status, r.raw
        if deprecated is not None:
            assert (r.header("Deprecation") == "true") == deprecated
        return r

    def test_no_interfaces(self, vmm):
        assert self.put(vmm, 400, network_interfaces=[]).fault == f"MMMDS config error: {NO_INTERFACES}"

    def test_unknown_interface(self, vmm, taps):
        assert self.put(vmm, 400, network_interfaces=["foo"]).fault == f"MMMDS config error: {UNKNOWN_INTERFACE}"
        put(vmm, "a", taps[0])
        assert self.put(vmm, 400, network_interfaces=["a", "foo"]).fault == f"MMMDS config error: {UNKNOWN_INTERFACE}"
        assert vmm.get("/vm/config")["mmds-config"] is None

    def test_defaults_are_filled_in(self, vmm, taps):
        put(vmm, "a", taps[0])
        assert self.put(vmm, network_interfaces=["a"]).raw == no_content(deprecated=True)
        assert ('"mmds-config":{"version":"V1","network_interfaces":["a"],"ipv4_address":"169.254.169.254","imds_compat":false}'
                in vmm.request("GET", "/vm/config").body.decode())

    @pytest.mark.parametrize("version,deprecated", [("V1", True), ("V2", False)])
    def test_versions(self, vmm, taps, version, deprecated):
        put(vmm, "a", taps[0])
        self.put(vmm, deprecated=deprecated, network_interfaces=["a"], version=version)
        assert vmm.get("/vm/config")["mmds-config"]["version"] == version

    def test_all_of_it(self, vmm, taps):
        put(vmm, "a", taps[0])
        put(vmm, "b", taps[1])
        body = {"version": "V2", "network_interfaces": ["b"], "ipv4_address": "169.254.169.250", "imds_compat": True}
        self.put(vmm, **body)
        assert vmm.get("/vm/config")["mmds-config"] == body
        body = {**body, "network_interfaces": ["a", "b"], "imds_compat": False}
        self.put(vmm, **body)
        assert sorted(vmm.get("/vm/config")["mmds-config"]["network_interfaces"]) == ["a", "b"]

    @pytest.mark.parametrize("address,good", [("169.254.1.0", True), ("169.254.254.255", True), ("169.254.0.255", False),
                                              ("169.254.255.0", False), ("10.0.0.1", False), ("169.253.1.1", False)])
    def test_addresses(self, vmm, taps, address, good):
        put(vmm, "a", taps[0])
        r = self.put(vmm, 204 if good else 400, network_interfaces=["a"], ipv4_address=address)
        if not good:
            assert r.fault == "MMMDS config error: The MMDS IPv4 address is not link local."

    def test_word_that_is_no_version(self, vmm):
        assert vmm.request("PUT", "/mmds/config", '{"version":"foo","network_interfaces":["1"]}').raw == deserialize(
            "unknown variant `foo`, expected `V1` or `V2` at line 1 column 16")


# ---- the store

def test_store_is_empty_at_first(vmm):
    assert vmm.request("GET", "/mmds").raw == answer(200, "{}")


@pytest.mark.parametrize("value", [{}, {"a": {"b": [1, 2.5, "c", None, True]}}, [1], "text", 5, 1.5, True, {"ä": "東京"},
                                   {"latest": {"meta-data": {"ami-id": "x" * 40000}}}])
def test_store_takes_any_value(vmm, value):
    assert vmm.request("PUT", "/mmds", json.dumps(value, ensure_ascii=False)).raw == no_content()
    assert vmm.get("/mmds") == value


def test_store_is_compact_and_sorted(vmm):
    vmm.put("/mmds", '{ "b" : 1 , "a" : { "d" : [ 1 , 2 ] , "c" : "x" } }')
    assert vmm.request("GET", "/mmds").body == b'{"a":{"c":"x","d":[1,2]},"b":1}'


MERGES = {      # RFC 7396, appendix A
    "replace": ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    "add": ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    "remove": ({"a": "b"}, {"a": None}, {}),
    "remove one": ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    "array": ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    "to array": ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    "nested": ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    "objects in arrays are replaced": ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    "array by array": (["a", "b"], ["c", "d"], ["c", "d"]),
    "object by array": ({"a": "b"}, ["c"], ["c"]),
    "null stays in the target": ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    "array by object": ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    "deep removal from nothing": ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    "by text": ({"a": "foo"}, "bar", "bar"),
}


@pytest.mark.parametrize("row", MERGES)
def test_patch_is_a_merge(vmm, row):
    target, patch, result = MERGES[row]
    vmm.put("/mmds", json.dumps(target))
    assert vmm.request("PATCH", "/mmds", json.dumps(patch)).raw == no_content()
    assert vmm.get("/mmds") == result


def test_patch_before_put(vmm):
    r = vmm.request("PATCH", "/mmds", {"a": 1})
    assert r.raw == fault("MMDS error: The MMDS data store is not initialized.")


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_store_too_large(start, method):
    vmm = start("--mmds-size-limit", 100)
    vmm.put("/mmds", {"k": "v"})
    r = vmm.request(method, "/mmds", {"big": "x" * 100})
    assert r.status == 413
    assert "The MMDS patch request doesn't fit." in r.fault
    assert vmm.get("/mmds") == {"k": "v"}


def test_limit_of_the_store_is_exact(start):
    vmm = start("--mmds-size-limit", 20)
    vmm.put("/mmds", '{"a":"123456789012"}')        # 20 bytes
    assert vmm.request("PUT", "/mmds", '{"a":"1234567890123"}').status == 413


def test_limit_of_the_store_is_that_of_the_payload(start):
    vmm = start("--http-api-max-payload-size", 300)
    vmm.put("/mmds", {"a": "x" * 200})
    assert vmm.request("PATCH", "/mmds", {"b": "x" * 200}).status == 413


@pytest.mark.parametrize("text", ["{", "", "{'a':1}", '{"a":1,}'])
def test_store_refuses_broken_json(vmm, text):
    assert vmm.request("PUT", "/mmds", text or " ").status == 400


def test_unknown_path_below_mmds(vmm):
    assert vmm.request("PUT", "/mmds/foo", {}).raw == fault("Unrecognized PUT request path `foo`.")
