# SPDX-License-Identifier: Apache-2.0
"""
Bodies that are not what an endpoint takes: each field of each body with each kind of wrong value, null where it is
allowed and where not, unknown, missing and doubled fields, broken JSON. All refused bodies leave no trace.
"""
import dataclasses
import json

import pytest
import serde
from api import EMPTY, deserialize

BOOL, STRING, PATH, MAC, IPV4, WORD, STRINGS, OBJECT, LEVEL = (
    "a boolean", "a string", "path string", "MAC", "IPv4", "word", "strings", "object", "level")
INTEGERS = {"u8": (1 << 8) - 1, "u16": (1 << 16) - 1, "u32": (1 << 32) - 1, "u64": (1 << 64) - 1, "usize": (1 << 64) - 1}


@dataclasses.dataclass
class Field:
    kind: str
    required: bool = False
    null: bool = False          # null means absent
    words: tuple = ()


def required(kind, **more):
    return Field(kind, required=True, **more)


def optional(kind, **more):
    return Field(kind, null=True, **more)


def default(kind, **more):
    """A field with a default value: null is no value."""
    return Field(kind, **more)


TEMPLATES = ("C3", "T2", "T2S", "T2CL", "T2A", "V1N1", "None")
PAGES = ("None", "Transparent", "2M")

# endpoint -> (a minimal body, the fields in their order)
BODIES = {
    "PUT /machine-config": ({"vcpu_count": 1, "mem_size_mib": 128}, {
        "vcpu_count": required("u8"), "mem_size_mib": required("usize"), "smt": default(BOOL),
        "cpu_template": optional(WORD, words=TEMPLATES), "track_dirty_pages": default(BOOL),
        "huge_pages": default(WORD, words=PAGES)}),
    "PATCH /machine-config": ({"vcpu_count": 1}, {
        "vcpu_count": optional("u8"), "mem_size_mib": optional("usize"), "smt": optional(BOOL),
        "cpu_template": optional(WORD, words=TEMPLATES), "track_dirty_pages": optional(BOOL),
        "huge_pages": optional(WORD, words=PAGES)}),
    "PUT /boot-source": ({"kernel_image_path": "kernel"}, {
        "kernel_image_path": required(STRING), "initrd_path": optional(STRING), "boot_args": optional(STRING)}),
    "PUT /drives/a": ({"drive_id": "a", "is_root_device": False, "path_on_host": "kernel"}, {
        "drive_id": required(STRING), "partuuid": optional(STRING), "is_root_device": required(BOOL),
        "cache_type": default(WORD, words=("Unsafe", "Writeback")), "is_read_only": optional(BOOL),
        "path_on_host": optional(STRING), "rate_limiter": optional(OBJECT),
        "io_engine": optional(WORD, words=("Async", "Sync")), "socket": optional(STRING)}),
    "PATCH /drives/a": ({"drive_id": "a"}, {
        "drive_id": required(STRING), "path_on_host": optional(STRING), "rate_limiter": optional(OBJECT)}),
    "PUT /network-interfaces/a": ({"iface_id": "a", "host_dev_name": "name-too-long-for-it"}, {
        "iface_id": required(STRING), "host_dev_name": required(STRING), "guest_mac": optional(MAC), "mtu": optional("u16"),
        "rx_rate_limiter": optional(OBJECT), "tx_rate_limiter": optional(OBJECT)}),
    "PATCH /network-interfaces/a": ({"iface_id": "a"}, {
        "iface_id": required(STRING), "rx_rate_limiter": optional(OBJECT), "tx_rate_limiter": optional(OBJECT)}),
    "PUT /pmem/a": ({"id": "a", "path_on_host": "kernel"}, {
        "id": required(STRING), "path_on_host": required(STRING), "root_device": default(BOOL), "read_only": default(BOOL),
        "rate_limiter": optional(OBJECT)}),
    "PATCH /pmem/a": ({"id": "a"}, {"id": required(STRING), "rate_limiter": optional(OBJECT)}),
    "PUT /vsock": ({"guest_cid": 3, "uds_path": "v.sock"}, {
        "vsock_id": optional(STRING), "guest_cid": required("u32"), "uds_path": required(STRING)}),
    "PUT /entropy": ({}, {"rate_limiter": optional(OBJECT)}),
    "PUT /serial": ({}, {"serial_out_path": optional(PATH), "rate_limiter": optional(OBJECT)}),
    "PUT /logger": ({}, {
        "log_path": optional(PATH), "level": optional(LEVEL), "show_level": optional(BOOL),
        "show_log_origin": optional(BOOL), "module": optional(STRING)}),
    "PUT /mmds/config": ({"network_interfaces": ["a"]}, {
        "version": default(WORD, words=("V1", "V2")), "network_interfaces": required(STRINGS),
        "ipv4_address": optional(IPV4), "imds_compat": default(BOOL)}),
    "PUT /balloon": ({"amount_mib": 0, "deflate_on_oom": False}, {
        "amount_mib": required("u32"), "deflate_on_oom": required(BOOL), "stats_polling_interval_s": default("u16"),
        "free_page_hinting": default(BOOL), "free_page_reporting": default(BOOL)}),
    "PATCH /balloon": ({"amount_mib": 0}, {"amount_mib": required("u32")}),
    "PATCH /balloon/statistics": ({"stats_polling_interval_s": 1}, {"stats_polling_interval_s": required("u16")}),
    "PATCH /hotplug/memory": ({"requested_size_mib": 0}, {"requested_size_mib": required("usize")}),
    "PUT /actions": ({"action_type": "InstanceStart"}, {
        "action_type": required(WORD, words=("FlushMetrics", "InstanceStart", "SendCtrlAltDel"))}),
    "PATCH /vm": ({"state": "Paused"}, {"state": required(WORD, words=("Paused", "Resumed"))}),
    "PUT /snapshot/create": ({"snapshot_path": "s", "mem_file_path": "m"}, {
        "snapshot_type": default(WORD, words=("Diff", "Full")), "snapshot_path": required(PATH),
        "mem_file_path": required(PATH)}),
}
UNORDERED = {"PUT /actions", "PUT /snapshot/create", "PUT /drives/a"}   # where the facts do not give the order of words


def rows():
    """(endpoint, what, text of the body, expected message); a message may be a tuple of parts that it must hold."""
    for endpoint, (minimal, fields) in BODIES.items():
        for name, field in fields.items():
            def body(value, name=name, minimal=minimal):
                return {**minimal, name: value}

            kind = field.kind
            if kind in INTEGERS:
                top = INTEGERS[kind]
                for value in ("1", True, [], {}, 1.5, 2.0):
                    yield endpoint, f"{name}={value!r}", *serde.wrong_type(body(value), name, kind)
                yield endpoint, f"{name}=-1", *serde.out_of_range(body(-1), name, kind)
                if top < (1 << 64) - 1:
                    yield endpoint, f"{name} above", *serde.out_of_range(body(top + 1), name, kind)
                    yield endpoint, f"{name} far above", *serde.out_of_range(body((1 << 64) - 1), name, kind)
            elif kind == BOOL:
                for value in ("true", 1, 0, [], {}, 1.5):
                    yield endpoint, f"{name}={value!r}", *serde.wrong_type(body(value), name, kind)
            elif kind in (STRING, PATH):
                for value in (1, False, [], {}, 0.5):
                    yield endpoint, f"{name}={value!r}", *serde.wrong_type(body(value), name, kind)
            elif kind == WORD:
                for value in ("foo", "", field.words[0].lower() if field.words[0].lower() != field.words[0] else "x"):
                    text, message = serde.unknown_variant(body(value), name, field.words)
                    if endpoint in UNORDERED:
                        message = (f"unknown variant `{value}`, expected ", *(f"`{w}`" for w in field.words),
                                   " at " + message.rsplit(" at ", 1)[1])
                    yield endpoint, f"{name}={value!r}", text, message
                yield endpoint, f"{name}=1", *serde.no_variant(body(1), name)
                yield endpoint, f"{name}=true", *serde.no_variant(body(True), name)
            elif kind == STRINGS:
                for value in ("a", 1, True, {}):
                    yield endpoint, f"{name}={value!r}", *serde.wrong_type(body(value), name, "a sequence")
            elif kind == OBJECT:
                for value in ("a", 1, True):
                    text, message = serde.wrong_type(body(value), name, "struct ")
                    yield endpoint, f"{name}={value!r}", text, tuple(message.split("struct "))
            # null
            if not field.null:
                text, message = {
                    WORD: lambda: serde.no_variant(body(None), name),
                    STRINGS: lambda: serde.wrong_type(body(None), name, "a sequence"),
                }.get(kind, lambda: serde.wrong_type(body(None), name, kind))()
                yield endpoint, f"{name}=null", text, message
        # fields that are missing, unknown or given twice
        for name, field in fields.items():
            if field.required:
                # the first of the missing ones, in the fields' order, is told
                without = {k: v for k, v in minimal.items() if k != name}
                yield endpoint, f"no {name}", *serde.missing_field(without, name)
            if name in minimal:
                yield endpoint, f"{name} twice", *serde.duplicate_field(minimal, name)
        for unknown in ("foo", "", "a b", "Vcpu_count"):
            text, message = serde.unknown_field({**minimal, unknown: 1}, unknown, list(fields))
            yield endpoint, f"unknown {unknown!r}", text, message


ROWS = {f"{endpoint} {what}": (endpoint, text, message) for endpoint, what, text, message in rows()}


@pytest.mark.parametrize("row", ROWS)
def test_refused(shared, row):
    endpoint, text, message = ROWS[row]
    r = shared.request(*endpoint.split(), text)
    if isinstance(message, str):
        assert r.raw == deserialize(message)
    else:
        assert r.status == 400
        rest = r.fault
        assert rest.startswith("An error occurred when deserializing the json body of a request: " + message[0])
        for part in message[1:]:
            assert part in rest


# ---- null means absent where the default is "nothing"

NULLS = [(endpoint, name) for endpoint, (_, fields) in BODIES.items() for name, field in fields.items() if field.null]


@pytest.mark.parametrize("endpoint,name", NULLS)
def test_null_is_absent(shared, endpoint, name):
    """What is answered to a body with null is what is answered to one without the field."""
    minimal = BODIES[endpoint][0]
    with_null = shared.request(*endpoint.split(), {**minimal, name: None})
    if endpoint == "PATCH /machine-config" and name == "vcpu_count":
        assert with_null.raw == EMPTY["PATCH"]
        return
    without = shared.request(*endpoint.split(), {k: v for k, v in minimal.items() if k != name})
    assert with_null.raw == without.raw
    assert b"deserializing" not in with_null.raw


# ---- values that no type describes

SPECIAL = {
    # a number that no integer of 64 bits holds is a floating point number
    "PUT /machine-config mem_size_mib=2^64": ("PUT /machine-config", '{"vcpu_count": 1, "mem_size_mib": 18446744073709551616}',
        "invalid type: floating point `1.8446744073709552e19`, expected usize at line 1 column 54"),
    "PUT /machine-config vcpu_count=-2 as a string": ("PUT /machine-config", '{"vcpu_count": "-2", "mem_size_mib": 1}',
        'invalid type: string "-2", expected u8 at line 1 column 19'),
    "PUT /machine-config missing, as Firecracker's tests have it": ("PUT /machine-config", '{"mem_size_mib": 128}',
        "missing field `vcpu_count` at line 1 column 21"),
    "PUT /machine-config missing, the other": ("PUT /machine-config", '{"vcpu_count": 2}',
        "missing field `mem_size_mib` at line 1 column 17"),
    "lines are counted": ("PUT /machine-config", '{\n  "vcpu_count": 1,\n  "mem_size_mib": "x"\n}',
        'invalid type: string "x", expected usize at line 3 column 21'),
    "missing field on the last line": ("PUT /machine-config", '{\n"vcpu_count": 1\n}',
        "missing field `mem_size_mib` at line 3 column 1"),
    "limiter: bucket of the wrong type": ("PUT /entropy", '{"rate_limiter":{"bandwidth":{"size":"1","refill_time":1}}}',
        'invalid type: string "1", expected u64 at line 1 column 40'),
    "limiter: negative size": ("PUT /entropy", '{"rate_limiter":{"ops":{"size":-1,"refill_time":1}}}',
        "invalid value: integer `-1`, expected u64 at line 1 column 33"),
    "limiter: bucket without size": ("PUT /entropy", '{"rate_limiter":{"ops":{"refill_time":1}}}',
        "missing field `size` at line 1 column 40"),
    "limiter: bucket without refill_time": ("PUT /entropy", '{"rate_limiter":{"ops":{"size":1}}}',
        "missing field `refill_time` at line 1 column 33"),
    "limiter: unknown field": ("PUT /entropy", '{"rate_limiter":{"foo":1}}',
        "unknown field `foo`, expected `bandwidth` or `ops` at line 1 column 22"),
    "limiter: null burst is absent, size null is not": ("PUT /entropy",
        '{"rate_limiter":{"ops":{"size":null,"refill_time":1,"one_time_burst":null}}}',
        "invalid type: null, expected u64 at line 1 column 35"),
    "interfaces: one is no string": ("PUT /mmds/config", '{"network_interfaces":["a",1]}',
        "invalid type: integer `1`, expected a string at line 1 column 28"),
    "IPv4 address": ("PUT /mmds/config", '{"network_interfaces":["a"],"ipv4_address":"300.0.0.1"}',
        "invalid IPv4 address syntax at line 1 column 54"),
    "IPv4 address with a leading zero": ("PUT /mmds/config", '{"network_interfaces":["a"],"ipv4_address":"169.254.01.1"}',
        "invalid IPv4 address syntax at line 1 column 57"),
    "memory backend of an unknown kind": ("PUT /snapshot/load",
        '{"snapshot_path":"a","mem_backend":{"backend_type":"foo","backend_path":"b"}}',
        "unknown variant `foo`, expected `File` or `Uffd` at line 1 column 56"),
    "memory backend without kind": ("PUT /snapshot/load", '{"snapshot_path":"a","mem_backend":{"backend_path":"b"}}',
        "missing field `backend_type` at line 1 column 55"),
    "memory backend without path": ("PUT /snapshot/load", '{"snapshot_path":"a","mem_backend":{"backend_type":"File"}}',
        "missing field `backend_path` at line 1 column 58"),
    "no memory backend": ("PUT /snapshot/load", '{"snapshot_path":"a"}',
        "missing field: either `mem_backend` or `mem_file_path` is required"),
    "two memory backends": ("PUT /snapshot/load",
        '{"snapshot_path":"a","mem_file_path":"b","mem_backend":{"backend_type":"File","backend_path":"b"}}',
        "too many fields: either `mem_backend` or `mem_file_path` exclusively is required"),
    "no snapshot_path": ("PUT /snapshot/load", '{"mem_backend":{"backend_type":"File","backend_path":"b"}}',
        "missing field `snapshot_path` at line 1 column 58"),
}


@pytest.mark.parametrize("row", SPECIAL)
def test_special(shared, row):
    endpoint, text, message = SPECIAL[row]
    assert shared.request(*endpoint.split(), text).raw == deserialize(message)


# ---- what is no JSON, or more than that

BROKEN = {
    "a word": ("x", "expected value at line 1 column 1"),
    "only a brace": ("{", "EOF while parsing an object at line 1 column 1"),
    "ends after a key": ('{"vcpu_count"', "EOF while parsing an object at line 1 column 13"),
    "ends after a colon": ('{"vcpu_count":', "EOF while parsing a value at line 1 column 14"),
    "ends after a value": ('{"vcpu_count":1', "EOF while parsing an object at line 1 column 15"),
    "ends after a comma": ('{"vcpu_count":1,', "EOF while parsing a value at line 1 column 16"),
    "ends in a string": ('{"vcpu_count', "EOF while parsing a string at line 1 column 12"),
    "blanks only": ("   ", "EOF while parsing a value at line 1 column 3"),
    "trailing comma": ('{"vcpu_count":1,}', "trailing comma at line 1 column 17"),
    "trailing characters": ('{"vcpu_count":1,"mem_size_mib":128}x', "trailing characters at line 1 column 36"),
    "two values": ('{"vcpu_count":1,"mem_size_mib":128}{}', "trailing characters at line 1 column 36"),
    "trailing characters on another line": ('{"vcpu_count":1,"mem_size_mib":128}\n\n x', "trailing characters at line 3 column 2"),
    "key is no string": ("{1:2}", "key must be a string at line 1 column 2"),
    "no colon": ('{"vcpu_count" 1}', "expected `:` at line 1 column 15"),
    "no comma": ('{"vcpu_count":1 "mem_size_mib":2}', "expected `,` or `}` at line 1 column 17"),
    "comma first": ("{,}", "key must be a string at line 1 column 2"),
    "half a word": ('{"smt":tru}', "expected ident at line 1 column 11"),
    "quotes that are none": ("{'vcpu_count':1}", "key must be a string at line 1 column 2"),
    "leading zero": ('{"vcpu_count":01}', "invalid number at line 1 column 16"),
    "lone minus": ('{"vcpu_count":-}', "invalid number at line 1 column 16"),
    "plus": ('{"vcpu_count":+1}', "expected value at line 1 column 15"),
    "control character": ('{"vcpu\ncount":1}',
                          "control character (\\u0000-\\u001F) found while parsing a string at line 2 column 0"),
    "bad escape": ('{"vcpu\\x":1}', "invalid escape at line 1 column 8"),
    "NaN": ('{"vcpu_count":NaN}', "expected value at line 1 column 15"),
    "comment": ('{/**/"vcpu_count":1}', "key must be a string at line 1 column 2"),
}


@pytest.mark.parametrize("row", BROKEN)
def test_broken(shared, row):
    text, message = BROKEN[row]
    assert shared.request("PUT", "/machine-config", text).raw == deserialize(message)


TOPS = {
    "number": ("5", "invalid type: integer `5`, expected struct MachineConfig at line 1 column 1"),
    "string": ('"a"', 'invalid type: string "a", expected struct MachineConfig at line 1 column 3'),
    "null": ("null", "invalid type: null, expected struct MachineConfig at line 1 column 4"),
    "boolean": ("true", "invalid type: boolean `true`, expected struct MachineConfig at line 1 column 4"),
}


@pytest.mark.parametrize("row", TOPS)
def test_body_is_no_object(shared, row):
    text, message = TOPS[row]
    assert shared.request("PUT", "/machine-config", text).raw == deserialize(message)


WHITESPACE = {
    "around": ' \t\r\n{"vcpu_count":1,"mem_size_mib":128}\r\n',
    "inside": '{ "vcpu_count" :\n1 , "mem_size_mib"\t:\r\n128 }',
    "escapes in a key": '{"vcpu_c\\u006funt":1,"mem_size_mib":128}',
    "escapes in a word": '{"vcpu_count":1,"mem_size_mib":128,"huge_pages":"N\\u006fne"}',
    "order": '{"huge_pages":"None","mem_size_mib":128,"vcpu_count":1}',
}


@pytest.mark.parametrize("row", WHITESPACE)
def test_same_meaning(shared, row):
    assert shared.request("PUT", "/machine-config", WHITESPACE[row]).status == 204
    assert shared.get("/machine-config")["vcpu_count"] == 1


@pytest.mark.parametrize("text", ['{"vcpu_count":1e0,"mem_size_mib":128}', '{"vcpu_count":1.0,"mem_size_mib":128}'])
def test_integers_are_integers(shared, text):
    assert "invalid type: floating point `1.0`, expected u8" in shared.request("PUT", "/machine-config", text).fault


@pytest.mark.parametrize("endpoint,text", [("/machine-config", "[1,128]"), ("/actions", '{"action_type":{"InstanceStart":null}}')])
def test_quirks_of_serde(shared, endpoint, text):
    """An array of the fields for an object and an object for a word, which Firecracker takes and nobody sends."""
    r = shared.request("PUT", endpoint, text)
    assert r.status == 400 and r.fault.startswith("An error occurred when deserializing the json body of a request: ")


# ---- where unknown fields are ignored

IGNORED = {
    "token bucket": ("PUT", "/entropy", {"rate_limiter": {"ops": {"size": 1, "refill_time": 1, "foo": 1}}}),
    "token bucket of a drive": ("PUT", "/drives/a", {"drive_id": "a", "is_root_device": False, "path_on_host": "kernel",
                                                     "rate_limiter": {"bandwidth": {"size": 1, "refill_time": 1, "x": []}}}),
    "metrics": ("PUT", "/metrics", {"metrics_path": "metrics", "foo": 1}),
}


@pytest.mark.parametrize("row", IGNORED)
def test_unknown_field_is_ignored(start, row):
    vmm = start()
    vmm.file("kernel", size=4096)
    vmm.file("metrics")
    vmm.do(*IGNORED[row])


@pytest.mark.parametrize("word", ["Off", "Trace", "Debug", "Info", "Warn", "Warning", "Error", "off", "DEBUG", "wArNiNg"])
def test_log_levels_in_any_case(start, word):
    start().put("/logger", {"level": word})


def test_log_level_unknown(shared):
    r = shared.request("PUT", "/logger", {"level": "loud"})
    assert r.status == 400 and r.fault.startswith("An error occurred when deserializing the json body of a request: ")


@pytest.mark.parametrize("mac", ["", "0", "06:00:00:00:00", "06:00:00:00:00:01:02", "06-00-00-00-00-01", "06:00:00:00:00:0g",
                                 "6:0:0:0:0:1", "060000000001", "06:00:00:00:00:001", " 06:00:00:00:00:01", "+6:00:00:00:00:01"])
def test_mac_addresses_refused(shared, mac):
    r = shared.request("PUT", "/network-interfaces/a", {"iface_id": "a", "host_dev_name": "name-too-long-for-it", "guest_mac": mac})
    assert r.status == 400 and r.fault.startswith("An error occurred when deserializing the json body of a request: "), r.raw


@pytest.mark.parametrize("mtu", [0, 67, 1])
def test_mtu_too_small(shared, mtu):
    r = shared.request("PUT", "/network-interfaces/a", {"iface_id": "a", "host_dev_name": "name-too-long-for-it", "mtu": mtu})
    assert r.status == 400


@pytest.mark.parametrize("depth", [127, 128, 129, 1000, 20000])
def test_nesting(shared, depth):
    """serde_json stops at 128; whatever the depth, the process survives."""
    r = shared.request("PUT", "/mmds", '{"a":' * depth + "1" + "}" * depth)
    assert r.status == (204 if depth < 128 else 400)


def test_shared_process_kept_its_configuration(shared):
    """None of the refused bodies left anything."""
    config = json.loads(shared.request("GET", "/vm/config").body)
    assert config["boot-source"] is None or config["boot-source"]["kernel_image_path"] == "kernel"
    assert config["network-interfaces"] == []
    assert config["mmds-config"] is None
