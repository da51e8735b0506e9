# SPDX-License-Identifier: Apache-2.0
"""riffle config --check and riffle run --config, on the schema of the configuration file."""
import json
import os
import random
import re
import subprocess
import time

import pytest
from vmm import BUILD

RIFFLE = BUILD / "cli" / "riffle"


@pytest.fixture
def riffle(tmp_path):
    def run(*arguments, **kwargs):
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(tmp_path)}
        return subprocess.run([RIFFLE, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False,
                              stdin=subprocess.DEVNULL, cwd=tmp_path, env=environment, **kwargs)
    return run


@pytest.fixture
def check(riffle, tmp_path):
    """The faults of a text as (line, key, problem)."""
    def run(text):
        (tmp_path / "vm.json").write_text(text)
        r = riffle("config", "--check", "vm.json")
        faults = [re.fullmatch(r"riffle: vm\.json:(\d+): (?:([\w.\[\]-]+): )?(.+)", line).groups() for line in r.stderr.splitlines()]
        assert (r.returncode, r.stdout) == (1 if faults else 0, "")
        assert [int(line) for line, _, _ in faults] == sorted(int(line) for line, _, _ in faults)
        return {(int(line), key, problem) for line, key, problem in faults}
    (tmp_path / "vmlinux").touch()
    (tmp_path / "disk").write_bytes(b"\0" * 4096)
    return run


GOOD = """{
  "boot-source": {
    "kernel_image_path": "vmlinux",
    "boot_args": "quiet", "initrd_path": null,
    "randomize": "kaslr"
  },
  "drives": [
    {"drive_id": "a", "is_root_device": true,
     "path_on_host": "disk"},
    {"drive_id": "b", "is_root_device": false, "path_on_host": "disk",
     "rate_limiter": {"ops": {"size": 1, "refill_time": 1}}}
  ],
  "machine-config": {
    "vcpu_count": 2,
    "mem_size_mib": 128
  },
  "network-interfaces": [
    {"iface_id": "e", "host_dev_name": "tap-that-nobody-makes", "guest_mac": "06:00:00:00:00:01"}],
  "vsock": {"guest_cid": 3, "uds_path": "v.sock"},
  "balloon": {"amount_mib": 1, "deflate_on_oom": false},
  "cpu-config": {"cpuid_modifiers": [{"leaf": "0x1", "subleaf": "0x0", "flags": 0, "modifiers": []}]},
  "entropy": {}, "logger": null, "metrics": {"metrics_path": "m"}
}
"""

CHANGES = {
    "nothing": ("", "", []),
    "a number that is too large": ('"vcpu_count": 2', '"vcpu_count": 256',
                                   [(14, "machine-config.vcpu_count", "invalid value: integer `256`, expected u8")]),
    "a string for a number": ("128", '"128"', [(15, "machine-config.mem_size_mib", 'invalid type: string "128", expected usize')]),
    "a value that makes no sense": ('"vcpu_count": 2', '"vcpu_count": 33', [
        (14, "machine-config.vcpu_count", "The number of vCPUs must be greater than 0, less than 32 and must be 1 or an even number if SMT is "
                               "enabled.")]),
    "no required key": ('"drive_id": "a", ', "", [(9, "drives[0].drive_id", "missing field `drive_id`")]),
    "an unknown key": ('"boot_args"', '"bootargs"', [(4, "boot-source.bootargs", "there is no such key")]),
    "an unknown section": ('"entropy"', '"entropie"', [(22, "entropie", "there is no such section: it is ignored")]),
    "inside of a nested object": ('"size": 1', '"size": -1', [
        (11, "drives[1].rate_limiter.ops.size", "invalid value: integer `-1`, expected u64")]),
    "a second root": ('"is_root_device": false', '"is_root_device": true',
                      [(10, "drives[1].is_root_device", "A root block device already exists!")]),
    "a disk that is not there": ('"path_on_host": "disk"}', '"path_on_host": "none"}', [
        (9, "drives[0].path_on_host", "Unable to create the virtio block device: Virtio backend error: Error manipulating the backing file: "
                         "No such file or directory (os error 2) none")]),
    "a kernel that is not there": ('"vmlinux"', '"none"', [
        (3, "boot-source.kernel_image_path", "The kernel file cannot be opened: No such file or directory (os error 2)")]),
    "a word that is none": ('"kaslr"', '"chaos"', None),
    "a list that is an object": ('"modifiers": []', '"modifiers": {}', None),
    "a comma too many": ('"entropy": {}', '"entropy": {},', [(22, None, "expected value")]),
    "a key twice": ('"drive_id": "b", ', '"drive_id": "b", "drive_id": "c", ', [
        (10, "drives[1].drive_id", "duplicate field `drive_id`")]),
    "a key twice, further down": ('"path_on_host": "disk"}', '"path_on_host": "disk",\n "is_root_device": true}', [
        (10, "drives[0].is_root_device", "duplicate field `is_root_device`")]),
    "a section twice": ('"entropy": {}', '"vsock": null,\n"entropy": {}', [(22, "vsock", "duplicate field `vsock`")]),
    "a CPU's key twice": ('"flags": 0,', '"flags": 0, "flags": 1,', [
        (21, "cpu-config.cpuid_modifiers[0].flags", "duplicate field `flags`")]),
    "an initrd that is not there": ('"initrd_path": null', '"initrd_path": "none"', [
        (4, "boot-source.initrd_path", "The initrd file cannot be opened due to invalid path or invalid permissions. No such file or "
                                       "directory (os error 2)")]),
    "a line that is none": ('"quiet"', '"a\\tb"', [
        (4, "boot-source.boot_args", "The kernel command line is invalid: string contains non-printable ASCII character")]),
    "a balloon that is too large": ('"amount_mib": 1', '"amount_mib": 129', [
        (20, "balloon.amount_mib", "Amount of pages requested is too large.")]),
    "an MTU": ('"guest_mac"', '"mtu": 67, "guest_mac"', [(18, "network-interfaces[0].mtu", "Could not create the network device: MTU must "
                                                                                             "be between 68 and 65535")]),
    "metrics that cannot be written": ('"m"', '"none/m"', [
        (22, "metrics.metrics_path", "cannot be opened for writing: No such file or directory")]),
    "a log that is a directory": ('"logger": null', '"logger": {"log_path": "/"}', [
        (22, "logger.log_path", "cannot be opened for writing: Is a directory")]),
    "a property that is no string": ('"metrics_path": "m"', '"metrics_path": "m", "properties": {"a": "b", "c": 1, "d": 2}', [
        (22, "metrics.properties.c", "invalid type: integer `1`, expected a string"),
        (22, "metrics.properties.d", "invalid type: integer `2`, expected a string")]),
    "a layout that is there": ('"randomize"', '"layout_out": "disk", "randomize"', [
        (5, "boot-source.layout_out", "cannot be made: File exists")]),
    "a stock that is none": ('"randomize"', '"stock": "disk",\n"randomize"', [
        (5, "boot-source.stock", "cannot be opened: Not a directory")]),
    "a stock's socket that is none": ('"randomize"', '"stock": "unix:none", "randomize"', [
        (5, "boot-source.stock", "cannot be opened: No such file or directory")]),
}


@pytest.mark.parametrize("row", CHANGES)
def test_check(check, row):
    before, after, faults = CHANGES[row]
    assert not before or GOOD.count(before) == 1
    found = check(GOOD.replace(before, after) if before else GOOD)
    if faults is None:      # the words are serde's; the place is what counts
        assert len(found) == 1
    elif row == "a comma too many":
        assert {line for line, _, _ in found} == {22}
    else:
        assert found == set(faults)


def test_every_fault_is_named(check):
    text = GOOD.replace('"vcpu_count": 2', '"vcpu_count": true').replace('"drive_id": "a"', '"drive_id": 1').replace(
        '"guest_cid": 3', '"guest_cid": null').replace('"amount_mib"', '"amount"')
    assert {(line, key) for line, key, _ in check(text)} == {
        (14, "machine-config.vcpu_count"), (8, "drives[0].drive_id"), (19, "vsock.guest_cid"), (20, "balloon.amount"),
        (20, "balloon.amount_mib")}


def test_values_beside_wrong_types(check):
    """What is wrong with one key hides nothing of another, and nothing is judged by what is not known."""
    text = GOOD.replace('"path_on_host": "disk"}', '"path_on_host": "none", "is_read_only": 1}', 1)
    for before, after in {
            '"vcpu_count": 2': '"vcpu_count": 33', "128": "0", '"vmlinux"': '"none"', '"initrd_path": null': '"initrd_path": "none"',
            '"drive_id": "b", "is_root_device": false': '"drive_id": 1, "is_root_device": true', '"guest_cid": 3': '"guest_cid": -1',
            '"v.sock"': '""', '"amount_mib": 1': '"amount_mib": 4000', '"guest_mac"': '"mtu": 1, "mtu": 2, "guest_mac"',
            '"entropy": {}': '"mmds-config": {"network_interfaces": ["f"], "ipv4_address": "10.0.0.1"},\n'
                             '"memory-hotplug": {"total_size_mib": 1, "block_size_mib": 3, "slot_size_mib": 1}'}.items():
        assert before in text
        text = text.replace(before, after)
    assert {(line, key) for line, key, _ in check(text)} == {
        (3, "boot-source.kernel_image_path"), (4, "boot-source.initrd_path"), (9, "drives[0].path_on_host"),
        (9, "drives[0].is_read_only"), (10, "drives[1].drive_id"), (10, "drives[1].is_root_device"),
        (14, "machine-config.vcpu_count"), (15, "machine-config.mem_size_mib"), (18, "network-interfaces[0].mtu"), (19, "vsock.guest_cid"), (19, "vsock.uds_path"),
        (22, "mmds-config.ipv4_address"), (22, "mmds-config.network_interfaces"), (23, "memory-hotplug.total_size_mib"),
        (23, "memory-hotplug.block_size_mib"), (23, "memory-hotplug.slot_size_mib")}


def test_what_cannot_be_judged(check):
    """The size of a balloon in memory of a size that is no number, and the network whose name is none."""
    text = GOOD.replace("128", '"x"').replace('"amount_mib": 1', '"amount_mib": 4000').replace('"iface_id": "e"', '"iface_id": 5')
    text = text.replace('"entropy": {}', '"mmds-config": {"network_interfaces": ["e"]}')
    assert {key for _, key, _ in check(text)} == {"machine-config.mem_size_mib", "network-interfaces[0].iface_id"}


@pytest.mark.parametrize("value", ["[5]", "[null]", '["e", 5]', "5", "{}"])
def test_list_that_is_read_in_part(check, value):
    text = GOOD.replace('"entropy": {}', f'"mmds-config": {{"network_interfaces": {value}}}')
    assert {(line, key.partition("[")[0]) for line, key, _ in check(text)} == {(22, "mmds-config.network_interfaces")}


VALUES = ["null", "5", "-1", '""', '"x"', "[]", "{}", "true", "1e99", "[null]", '{"a": [{}]}', '"' + "y" * 400 + '"', "9" * 20]


@pytest.mark.parametrize("seed", range(4))
def test_mutated_files(check, seed):
    """Whatever is changed, left out or moved: faults are told or there are none, and each has a line of the file."""
    draw = random.Random(seed)
    text = GOOD.replace('"entropy": {}', '"mmds-config": {"network_interfaces": ["e"], "ipv4_address": "169.254.1.1"}, "entropy": {}, '
                        '"pmem": [{"id": "p", "path_on_host": "disk"}], "memory-hotplug": {"total_size_mib": 1024}')
    words = re.findall(r'"[^"]*"|[\[\]{}:,]|[^\s\[\]{}:,"]+', text)
    for _ in range(75):
        some = list(words)
        for _ in range(draw.randint(1, 4)):
            at, kind = draw.randrange(len(some)), draw.random()
            if kind < 0.6:
                some[at] = draw.choice(VALUES)
            elif kind < 0.8:
                del some[at]
            else:
                some.insert(at, draw.choice(some))
        assert all(1 <= line <= len(some) for line, _, _ in check("\n".join(some)))


SYNTAX = {
    "in a section": ('"vcpu_count": 2', '"vcpu_count": x', (14, "machine-config.vcpu_count")),
    "in an object inside": ('"size": 1', '"size" 1', (11, "drives")),
    "after a key": ('"boot_args": "quiet"', '"boot_args" "quiet"', (4, "boot-source.boot_args")),
}


@pytest.mark.parametrize("row", SYNTAX)
def test_place_of_a_fault_in_the_syntax(check, row):
    before, after, place = SYNTAX[row]
    assert GOOD.count(before) == 1
    faults = check(GOOD.replace(before, after))
    assert [(line, key) for line, key, _ in faults] == [place]


@pytest.mark.parametrize("text", ["", "[]", "5", '{"drives": ', '{"a": "\n"}', "\x00", "{" * 1000])
def test_what_is_no_object(check, text):
    assert check(text) if "\0" not in text else True


CPU = '{\n "cpuid_modifiers": [{"leaf": "0x1", "subleaf": "0x0", "flags": 0, "modifiers": []}]}'
OBJECT = CPU.replace("\n ", "")
CPU_FILES = {
    "a good one": (CPU, None),
    "a key that is unknown": (CPU.replace("cpuid_modifiers", "cpuid"), "unknown field `cpuid`"),
    "no JSON": ("{", "EOF while parsing an object at line 1 column 1"),
    "nothing": ("", "EOF while parsing a value"),
    "a directory": ("/", "Is a directory"),
    "nowhere": (None, "No such file or directory"),
    "a FIFO": ("fifo", "Not a regular file"),
}


@pytest.mark.parametrize("row", CPU_FILES)
def test_cpu_file(check, riffle, tmp_path, row):
    """What is in the file is checked too, as reading it for use does."""
    text, problem = CPU_FILES[row]
    name = tmp_path / "cpu.json"
    if text == "/":
        name.mkdir()
    elif text == "fifo":
        os.mkfifo(name)
    elif text is not None:
        name.write_text(text)
    assert GOOD.count(OBJECT) == 1
    faults = check(GOOD.replace(OBJECT, '"cpu.json"'))
    assert [(line, key) for line, key, _ in faults] == ([(21, "cpu-config")] if problem else [])
    assert not problem or problem in next(iter(faults))[2]
    if problem:
        r = riffle("run", "--config", "vm.json")
        assert r.returncode == 2 and problem.partition(" at line")[0] in r.stderr, r.stderr


MEANINGS = {
    "metadata of no network": ('"entropy": {}', '"mmds-config": {"network_interfaces": ["f"]}', "does not correspond to any existing"),
    "metadata of a network": ('"entropy": {}', '"mmds-config": {"network_interfaces": ["e"]}', None),
    "an address that is not link-local": ('"entropy": {}', '"mmds-config": {"network_interfaces": ["e"], "ipv4_address": "10.0.0.1"}',
                                          "not link local"),
    "an MTU too small": ('"guest_mac"', '"mtu": 67, "guest_mac"', "MTU must be between"),
    "a MAC address twice": ('{"iface_id"', '{"iface_id": "x", "host_dev_name": "y", "guest_mac": "06:00:00:00:00:01"}, {"iface_id"',
                            "already in use"),
    "no socket's path": ('"v.sock"', '""', "path must not be empty"),
    "a socket's path of 107 bytes": ('"v.sock"', f'"{"v" * 107}"', None),
    "a socket's path of 108 bytes": ('"v.sock"', f'"{"v" * 108}"', "shorter than SUN_LEN"),
}


@pytest.mark.parametrize("row", MEANINGS)
def test_what_devices_mean(check, tmp_path, row):
    before, after, problem = MEANINGS[row]
    assert GOOD.count(before) == 1
    faults = check(GOOD.replace(before, after))
    assert len(faults) == (1 if problem else 0), faults
    assert not problem or problem in next(iter(faults))[2]
    assert {p.name for p in tmp_path.iterdir()} == {"vm.json", "vmlinux", "disk"}


def test_order_in_the_file_does_not_count(check):
    """The balloon is larger than a guest's memory is without machine-config."""
    config = json.loads(GOOD)
    config["balloon"]["amount_mib"] = config["machine-config"]["mem_size_mib"] = 1000
    config = {"balloon": config.pop("balloon"), **config}
    assert list(config).index("machine-config") > 0
    assert check(json.dumps(config)) == set()


def test_faults_without_number(riffle, tmp_path):
    """The work grows with the file, not with its square; a person sees some, and how many there are."""
    count = 150000
    keys = "".join(f'"k{i}": 1,\n' for i in range(count))
    (tmp_path / "vmlinux").touch()
    (tmp_path / "vm.json").write_text("{\n" + keys + '"drives": [], "boot-source": {"kernel_image_path": "vmlinux"}}')
    r = riffle("config", "--check", "vm.json")
    lines = r.stderr.splitlines()
    assert r.returncode == 1 and len(lines) == 1001
    assert lines[999] == "riffle: vm.json:1001: k999: there is no such section: it is ignored"
    assert lines[1000] == f"riffle: vm.json: {count - 1000} more faults"


def test_lines_of_faults_in_any_order(check):
    """Keys that are unknown are found before values that are wrong, and each is told with its own line."""
    text = "{" + "".join(f'\n"drives{i}": 1,' for i in range(3)) + '"drives": [' + ",".join(
        f'\n{{"x": 1,\n "drive_id": {i},\n "is_root_device": false, "path_on_host": {i}}}' for i in range(5)) + \
        '],\n"boot-source": {"kernel_image_path": "vmlinux"}}'
    assert {(line, key) for line, key, _ in check(text)} == \
        {(2 + i, f"drives{i}") for i in range(3)} | {(5 + 3 * i, f"drives[{i}].x") for i in range(5)} | \
        {(6 + 3 * i, f"drives[{i}].drive_id") for i in range(5)} | {(7 + 3 * i, f"drives[{i}].path_on_host") for i in range(5)}


@pytest.mark.parametrize("drives,good", [(16, True), (17, False)])
def test_devices_that_find_no_slot(check, drives, good):
    """17 of them with the vsock."""
    config = {"boot-source": {"kernel_image_path": "vmlinux"}, "vsock": {"guest_cid": 3, "uds_path": "v.sock"},
              "drives": [{"drive_id": str(i), "is_root_device": False, "path_on_host": "disk"} for i in range(drives)]}
    faults = check(json.dumps(config))
    assert faults == (set() if good else {(1, "drives", "devices: are more than there are slots (found 18, expected 17)")})


@pytest.mark.parametrize("length,good", [(2004, True), (2005, False)])
def test_command_line_without_room_for_devices(check, length, good):
    """2047 bytes, of which " pci=off" takes 8 and a vsock's " virtio_mmio.device=4K@0xc0001000:5" 35."""
    config = {"boot-source": {"kernel_image_path": "vmlinux", "boot_args": "x" * length}, "drives": [],
              "vsock": {"guest_cid": 3, "uds_path": "v.sock"}}
    faults = check(json.dumps(config))
    problem = "command line: is too long with its devices (found 2048, expected 2047)"
    assert faults == (set() if good else {(1, "boot-source.boot_args", problem)})


@pytest.mark.parametrize("arguments", [["config", "--check"], ["run", "--config"]])
def test_fifo(riffle, tmp_path, arguments):
    """Nobody is waited for; what the parent gives as a descriptor is read to its end."""
    os.mkfifo(tmp_path / "fifo")
    r = riffle(*arguments, "fifo")
    assert r.returncode and r.stderr == "riffle: fifo: cannot be read: Not a regular file\n"
    if arguments[0] == "config":
        (tmp_path / "vmlinux").touch()
        text = '{"drives": [], "boot-source": {"kernel_image_path": "vmlinux"}}'
        r = subprocess.run(["sh", "-c", f"{{ sleep 0.2; echo '{text}'; }} | {RIFFLE} config --check /dev/stdin"], cwd=tmp_path,
                           capture_output=True, text=True, timeout=60, check=False)
        assert (r.returncode, r.stderr) == (0, "")


def test_check_changes_nothing(check, tmp_path):
    before = {p.name for p in tmp_path.iterdir()} | {"vm.json"}
    assert check(GOOD) == set()
    assert {p.name for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("arguments", [[], ["--check"], ["vm.json"], ["--check", "a", "b"], ["--nonsense"]])
def test_wrong_usage(riffle, arguments):
    r = riffle("config", *arguments)
    assert r.returncode == 2 and "riffle config --help shows more" in r.stderr


def test_run_says_what_is_wrong(riffle, tmp_path):
    (tmp_path / "vm.json").write_text(GOOD.replace("128", '"x"'))
    r = riffle("run", "--config", "vm.json")
    assert r.returncode == 2
    assert re.fullmatch(r'riffle: vm\.json: --config: Invalid JSON: invalid type: string "x", expected usize at line 15 column \d+\n',
                        r.stderr), r.stderr
    for more, code in ((["vmlinux"], 2), (["--", "true"], 125)):
        (tmp_path / "vm.json").write_text(json.dumps({"boot-source": {"kernel_image_path": "vmlinux"}, "drives": []}))
        (tmp_path / "vmlinux").touch()
        r = riffle("run", "--config", "vm.json", *more)
        assert r.returncode == code and "cannot be combined with --config" in r.stderr


def test_options_stand_instead_of_the_files_devices(riffle, tmp_path, kernel):
    """Of devices of which there is one; saved before the guest runs, so that its description tells."""
    (tmp_path / "vm.json").write_text(json.dumps({
        "boot-source": {"kernel_image_path": kernel}, "drives": [], "machine-config": {"vcpu_count": 1, "mem_size_mib": 32},
        "entropy": {}, "balloon": {"amount_mib": 8, "deflate_on_oom": True}}))
    words = ["run", "--config", "vm.json", "--accept-emulation", "--console", "none", "--save-to", "saved", "--balloon", "4M",
             "--rng=bps=64K"]
    r = riffle(*words)
    assert r.returncode == 0, r.stderr
    state = (tmp_path / "saved" / "state").read_bytes()
    devices = json.JSONDecoder().raw_decode(state[state.index(b'{\n "vcpus"'):].decode("latin-1"))[0]["devices"]
    assert devices["balloon"]["target"] == 4 << 20 and not devices["balloon"]["deflate_on_oom"]
    assert devices["rng"]["bytes"][0] == 64 << 10
    for word in ("--balloon=4M", "--rng"):
        r = riffle(*words, word)
        assert r.returncode == 2 and f"{word.partition('=')[0]}: is given twice, expected once" in r.stderr


def test_status_of_a_run_that_cannot_be_saved(riffle, tmp_path, kernel):
    (tmp_path / "file").touch()
    r = riffle("run", "--status-out", "status", "--save-to", "file", kernel)
    assert r.returncode == 1 and r.stderr == "riffle: file: --save-to: the files of a snapshot cannot be made there: Not a directory\n"
    assert json.loads((tmp_path / "status").read_text()) == {"end": "error", "exit_code": 1}


def test_run(riffle, tmp_path, kernel, needs_kvm):
    """The tiny guest by its file; an option changes what that says."""
    (tmp_path / "vm.json").write_text(json.dumps({
        "boot-source": {"kernel_image_path": kernel, "boot_args": "console=ttyS0 end=reset"}, "drives": [],
        "machine-config": {"vcpu_count": 1, "mem_size_mib": 64}, "entropy": {}, "metrics": {"metrics_path": "metrics"}}))
    with subprocess.Popen([RIFFLE, "run", "--config", "vm.json", "--accept-emulation", "--console", "file:out"], cwd=tmp_path,
                          stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env={"HOME": str(tmp_path)}) as process:
        try:
            out, end = tmp_path / "out", time.monotonic() + 60
            while not (out.exists() and "tiny guest" in out.read_text()):
                assert process.poll() is None and time.monotonic() < end, process.stderr.read()
                time.sleep(0.02)
        finally:
            process.terminate()
            process.wait()
    first, last = (json.loads(line) for line in (tmp_path / "metrics").read_text().splitlines())
    assert first["uart"]["write_count"] == 0 and last["uart"]["write_count"] >= len("tiny guest")
