# SPDX-License-Identifier: Apache-2.0
"""riffle config --check and riffle run --config, on the schema of the configuration file."""
import json
import os
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
        (13, "machine-config", "The number of vCPUs must be greater than 0, less than 32 and must be 1 or an even number if SMT is "
                               "enabled.")]),
    "no required key": ('"drive_id": "a", ', "", [(9, "drives[0].drive_id", "missing field `drive_id`")]),
    "an unknown key": ('"boot_args"', '"bootargs"', [(4, "boot-source.bootargs", "there is no such key")]),
    "an unknown section": ('"entropy"', '"entropie"', [(22, "entropie", "there is no such section: it is ignored")]),
    "inside of a nested object": ('"size": 1', '"size": -1', [
        (11, "drives[1].rate_limiter.ops.size", "invalid value: integer `-1`, expected u64")]),
    "a second root": ('"is_root_device": false', '"is_root_device": true',
                      [(10, "drives[1]", "A root block device already exists!")]),
    "a disk that is not there": ('"path_on_host": "disk"}', '"path_on_host": "none"}', [
        (8, "drives[0]", "Unable to create the virtio block device: Virtio backend error: Error manipulating the backing file: "
                         "No such file or directory (os error 2) none")]),
    "a kernel that is not there": ('"vmlinux"', '"none"', [
        (2, "boot-source", "The kernel file cannot be opened: No such file or directory (os error 2)")]),
    "a word that is none": ('"kaslr"', '"chaos"', None),
    "a list that is an object": ('"modifiers": []', '"modifiers": {}', None),
    "a comma too many": ('"entropy": {}', '"entropy": {},', [(22, None, "expected value")]),
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


@pytest.mark.parametrize("text", ["", "[]", "5", '{"drives": ', '{"a": "\n"}', "\x00", "{" * 1000])
def test_what_is_no_object(check, text):
    assert check(text) if "\0" not in text else True


def test_check_changes_nothing(check, tmp_path):
    before = {p.name for p in tmp_path.iterdir()} | {"vm.json"}
    assert check(GOOD) == set()
    assert {p.name for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("arguments", [[], ["--check"], ["vm.json"], ["--check", "a", "b"], ["--nonsense"]])
def test_wrong_usage(riffle, arguments):
    r = riffle("config", *arguments)
    assert r.returncode == 2 and "riffle config --help tells more" in r.stderr


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
        assert r.returncode == code and "cannot be had with --config" in r.stderr


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
