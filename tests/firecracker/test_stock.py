# SPDX-License-Identifier: Apache-2.0
"""Starts from a stock of tiny guests: what is configured beside it is compared with the item, honoured or refused by name."""
import json
import os
import shutil
import subprocess
import time

import pytest
from vmm import BUILD

pytestmark = pytest.mark.usefixtures("needs_kvm")
RIFFLE = BUILD / "cli" / "riffle"
ARGUMENTS = "console=ttyS0"
CPU = {"cpuid_modifiers": [{"leaf": "0x1", "subleaf": "0x0", "flags": 0, "modifiers": [
    {"register": "ecx", "bitmap": "0b0xxxxxxxxxxx"}]}]}


class Stock:
    """A directory with the items of a machine of one configuration file, and the files that it names."""

    def __init__(self, directory, kernel):
        self.directory, self.stock = directory, directory / "stock"
        shutil.copy(kernel, directory / "kernel")
        (directory / "initrd").write_bytes(b"initrd" * 100)
        (directory / "other").write_bytes(b"iNitrd" * 100)
        (directory / "disk").write_bytes(bytes(4096))
        self.config = {
            "boot-source": {"kernel_image_path": str(directory / "kernel"), "initrd_path": str(directory / "initrd"),
                            "boot_args": ARGUMENTS},
            "machine-config": {"vcpu_count": 1, "mem_size_mib": 32},
            "drives": [{"drive_id": "d", "path_on_host": str(directory / "disk"), "is_root_device": False}]}

    def write(self, name="machine.json", **sections):
        (self.directory / name).write_text(json.dumps({**self.config, **sections}))
        return self.directory / name

    def riffle(self, *words):
        return subprocess.run([RIFFLE, *map(str, words)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
                              check=False, cwd=self.directory, env={"PATH": os.environ["PATH"], "HOME": str(self.directory)})

    def fill(self, count=1, *words, **sections):
        r = self.riffle("stock", "--dir", self.stock, "--keep", count, "--once", "--machine", self.write(**sections), "--",
                        "--accept-emulation", *words)
        assert r.returncode == 0, r.stderr + self.log

    @property
    def log(self):
        return (self.stock / "log").read_text()

    @property
    def ready(self):
        return len(list((self.stock / "ready").iterdir()))

    def run(self, *words):
        """The exit code, None of a guest that began to run and was killed then, and what was said."""
        words = [RIFFLE, "run", "--accept-emulation", "--boot-timer", "--console", "none", *words]
        with open(self.directory / "err", "w+", encoding="ascii") as err:
            process = subprocess.Popen([str(w) for w in words], stdin=subprocess.DEVNULL, stderr=err, cwd=self.directory,
                                       env={"PATH": os.environ["PATH"], "HOME": str(self.directory)})
            end = time.monotonic() + 60
            while process.poll() is None and "first guest instruction" not in (self.directory / "err").read_text():
                assert time.monotonic() < end
                time.sleep(0.01)
            process.kill()
            code = process.wait()
        said = (self.directory / "err").read_text()
        return (None if "start to first guest instruction" in said else code), said

    def take(self, *words):
        return self.run("--from-stock", self.stock, *words)


@pytest.fixture
def stock(tmp_path, kernel):
    return Stock(tmp_path, kernel)


def configure(vmm, stock, **changes):
    """The machine of the stock, but for changes by endpoint: a body, of which the keys change those of the file's."""
    source = {**stock.config["boot-source"], "stock": str(stock.stock), **changes.get("boot_source", {})}
    vmm.put("/machine-config", {**stock.config["machine-config"], **changes.get("machine_config", {})},
            deprecated="cpu_template" in changes.get("machine_config", {}))
    if "cpu_config" in changes:
        vmm.put("/cpu-config", changes["cpu_config"])
    vmm.put("/drives/d", stock.config["drives"][0])
    vmm.put("/boot-source", {k: v for k, v in source.items() if v is not None})
    return vmm.request("PUT", "/actions", {"action_type": "InstanceStart"})


HONOURED = {
    "the same": {},
    "mode": {"boot_source": {"randomize": "off"}},
    "huge pages where the file has them": {"machine_config": {"huge_pages": "Transparent"}},
    "dirty pages": {"machine_config": {"track_dirty_pages": True}},
}


@pytest.mark.parametrize("row", HONOURED)
def test_started(start, stock, row):
    stock.fill()
    vmm = start()
    vmm.file("metrics")
    vmm.put("/metrics", {"metrics_path": "metrics"})
    r = configure(vmm, stock, **HONOURED[row])
    assert r.status == 204, r.raw
    vmm.wait_for(lambda: "tiny guest" in vmm.console)
    assert stock.ready == 0
    if "huge_pages" in HONOURED[row].get("machine_config", {}):
        assert "Guest memory is a file's: its pages are as large as the file's." in vmm.out
    # what was drawn is told of an item as of a fresh load
    group = json.loads((vmm.directory / "metrics").read_text().splitlines()[0])["riffle"]
    assert group["origin"] == "stock" and group["mode"] == "off", group


REFUSED = {
    "mode": ({"boot_source": {"randomize": "physical"}}, "randomize: the stock's item has mode off, unlike what was configured"),
    "a mode that is not below kaslr": ({"boot_source": {"randomize": "auto"}}, "randomize: the stock's item has mode off"),
    "kernel": ({"boot_source": {"kernel_image_path": "{}/other"}},
               "kernel_image_path: the stock's item was made of a file with other contents than was configured"),
    "initrd": ({"boot_source": {"initrd_path": "{}/other"}},
               "initrd_path: the stock's item was made of a file with other contents than was configured"),
    "no initrd": ({"boot_source": {"initrd_path": None}}, "initrd_path: the stock's item has one, unlike what was configured"),
    "huge pages": ({"machine_config": {"huge_pages": "2M"}},
                   "huge_pages: 2M: the memory of a stock's item is a file, whose pages are not the host's pool's"),
    "cpu-config": ({"cpu_config": CPU}, "cpu-config: the stock's item has another CPU configuration than was configured"),
    "template": ({"machine_config": {"cpu_template": "T2"}}, "cpu-config: the stock's item has another CPU configuration"),
    "memory": ({"machine_config": {"mem_size_mib": 64}},
               "mem_size_mib: the stock's item is of another machine than was configured (found 32, expected 64)"),
}


@pytest.mark.parametrize("row", REFUSED)
def test_item_of_another_machine(start, stock, row):
    changes, problem = REFUSED[row]
    stock.fill()
    vmm = start()
    changes = json.loads(json.dumps(changes).replace("{}", str(stock.directory)))
    r = configure(vmm, stock, **changes)
    assert r.status == 400 and problem in r.fault, r.raw
    assert vmm.get("/")["state"] == "Not started"


def test_copies_are_the_same_files(start, stock):
    """As a jail has them: what counts is what is in them."""
    stock.fill()
    vmm = start()
    for name in ("kernel", "initrd"):
        shutil.copy(stock.directory / name, vmm.directory / name)
    assert configure(vmm, stock, boot_source={"kernel_image_path": "kernel", "initrd_path": "initrd"}).status == 204


def test_cpu_configuration_of_an_item(start, stock):
    stock.fill(**{"cpu-config": CPU})
    assert configure(start(), stock, cpu_config=CPU).status == 204
    stock.fill(**{"cpu-config": CPU})
    r = configure(start(), stock)
    assert r.status == 400 and "cpu-config: " in r.fault, r.raw


def test_layout_of_an_item_is_not_told(vmm, stock):
    r = vmm.request("PUT", "/boot-source", {**stock.config["boot-source"], "stock": "s", "layout_out": "l"})
    assert r.fault == "Boot source error: layout_out: cannot be combined with stock: an item does not tell its layout"


def test_metrics_of_a_snapshot(start, stock):
    """Of one that was loaded, and of that one's own."""
    stock.fill()
    first = start()
    assert configure(first, stock).status == 204
    for _ in range(2):
        first.patch("/vm", {"state": "Paused"})
        first.put("/snapshot/create", {"snapshot_path": "state", "mem_file_path": "mem"})
        second = start()
        second.file("metrics")
        second.put("/metrics", {"metrics_path": "metrics"})
        second.put("/snapshot/load", {"snapshot_path": str(first.directory / "state"), "mem_backend": {
            "backend_type": "File", "backend_path": str(first.directory / "mem")}})
        second.put("/actions", {"action_type": "FlushMetrics"})
        group = json.loads((second.directory / "metrics").read_text().splitlines()[0])["riffle"]
        assert group["mode"] == "off" and group["origin"] == "snapshot", group
        first.stop()
        first = second


# ---- riffle run


def test_run_without_kernel(stock):
    stock.fill()
    code, said = stock.take()
    assert code is None and stock.ready == 0, said


DECIDED = {
    "-m": ["-m", "64M"], "-c": ["-c", "2"], "-i": ["-i", "initrd"], "-k": ["-k", "x"], "-a": ["-a", "x"], "-r": ["-r", "off"],
    "--relocs": ["--relocs", "kernel"], "--boot": ["--boot", "direct"], "--disk": ["--disk", "disk"], "--rng": ["--rng"],
    "--balloon": ["--balloon", "1M"],
}
NAMES = {"-m": "--memory", "-c": "--cpus", "-i": "--initrd", "-k": "--cmdline", "-a": "--append", "-r": "--randomize"}


@pytest.mark.parametrize("option", DECIDED)
def test_option_that_the_item_decides(stock, option):
    """Before an item is taken."""
    stock.fill()
    assert stock.take(*DECIDED[option]) == (
        2, f"riffle run: {NAMES.get(option, option)}: is decided by the item of --from-stock; with KERNEL it is compared (found "
           f"'{stock.stock}'); riffle run --help shows more\n")
    assert stock.ready == 1


@pytest.mark.parametrize("words", [["--seed", "1"], ["--layout", "l"], ["--layout-out", "l"], ["--tables", "lazy"],
                                   ["--gdb", "tcp:1"]])
@pytest.mark.parametrize("kernel_too", [False, True])
def test_option_that_says_nothing_of_an_item(stock, words, kernel_too):
    code, said = stock.take(*words, *(["kernel"] if kernel_too else []))
    assert code == 2 and said.startswith(f"riffle run: {words[0]}: says nothing of an item that is ready"), said


def test_command_and_directory(stock):
    code, said = stock.take("kernel", "--", "true")
    assert code == 125 and "--from-stock: cannot be combined with a command" in said, said
    code, said = stock.take("-i", stock.directory, "kernel")
    assert code == 2 and "--initrd: a directory cannot be compared" in said, said


MACHINE = {"-m": "32M", "-i": "initrd", "-k": f"{ARGUMENTS} pci=off", "--disk": "disk,raw"}
COMPARED = {
    "the same": ({}, None),
    "another disk": ({"--disk": "other"}, None),    # an item takes the devices that it is given
    "memory": ({"-m": "64M"}, "--memory: the stock's item is of another machine than was configured (found 32, expected 64)"),
    "vCPUs": ({"-c": "2"}, "--cpus: the stock's item is of another machine than was configured (found 1, expected 2)"),
    "initrd": ({"-i": "other"}, "--initrd: the stock's item was made of a file with other contents than was configured"),
    "no initrd": ({"-i": None}, "--initrd: the stock's item has one, unlike what was configured"),
    "line": ({"-k": "x"}, "--cmdline: the stock's item has another kernel command line than was configured"),
    "mode": ({"-r": "physical"}, "--randomize: the stock's item has mode off, unlike what was configured"),
    "no disk": ({"--disk": None}, "--disk: the stock's item is of another machine than was configured (found 1, expected 0)"),
}


@pytest.mark.parametrize("row", COMPARED)
def test_run_with_kernel(stock, row):
    changes, problem = COMPARED[row]
    stock.fill()
    words = [w for k, v in {**MACHINE, "-r": "off", **changes}.items() if v is not None for w in (k, v)]
    code, said = stock.take(*words, stock.directory / "kernel")
    if problem:
        assert code == 1 and problem in said, said
    else:
        assert code is None and "notice" not in said, said
    assert stock.ready == (1 if problem else 0)    # one that does not match stays


def test_run_with_another_kernel(stock):
    stock.fill()
    code, said = stock.take(*(w for pair in MACHINE.items() for w in pair), "-r", "off", "other")
    assert code == 1 and "KERNEL: the stock's item was made of a file with other contents" in said, said


@pytest.mark.parametrize("key", ["stock", "memory", "none"])
def test_stock_of_a_file(stock, key):
    """The key works as the option does; the file's own machine is what the item must be."""
    stock.fill()
    config = {"boot-source": {**stock.config["boot-source"], "stock": str(stock.stock)}}
    if key == "memory":
        config["machine-config"] = {"vcpu_count": 1, "mem_size_mib": 64}
    elif key == "none":
        config["boot-source"]["stock"] = str(stock.directory / "none")
    name = stock.write("with.json", **config)
    code, said = stock.run("--config", name)
    if key == "stock":
        assert code is None and stock.ready == 0, said
        code, said = stock.run("--config", name)
        assert code is None and "the stock is empty: the kernel is loaded afresh" in said, said
    elif key == "memory":
        assert code == 1 and "--memory: the stock's item is of another machine" in said, said
    else:
        assert code == 1 and "stock: cannot be opened: No such file or directory" in said, said
        r = stock.riffle("config", "--check", name)
        assert r.returncode == 1 and r.stderr == \
            f"riffle: {name}:1: boot-source.stock: cannot be opened: No such file or directory\n", r.stderr


def test_items_of_a_file_that_names_their_stock(stock):
    """It is where they go to, and not where they come from."""
    stock.fill(**{"boot-source": {**stock.config["boot-source"], "stock": str(stock.stock)}})
    assert stock.ready == 1


def test_dump_of_an_item(stock):
    stock.fill()
    code, said = stock.take("--dump-out", "dump")
    assert code is None, said
    assert (stock.directory / "dump").exists()
