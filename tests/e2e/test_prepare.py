# SPDX-License-Identifier: Apache-2.0
"""riffle prepare, riffle inspect and the cache of riffle run, on Debian's kernels and on small ones."""
import gzip
import json
import lzma
import os
import random
import re
import shutil
import signal
import stat
import struct
import subprocess
import time

import pytest
from conftest import PREPARE, RIFFLE, ROOT
from small_kernels import COMPRESSORS, Kernel, bzimage, zstd_raw

STOCK = ["cloud-6.1", "cloud-6.12"]


def small(directory, name="kernel", content=None):
    path = directory / name
    path.write_bytes(Kernel().bzimage() if content is None else content)
    return path


def entries(programs):
    return sorted(programs.cache.iterdir()) if programs.cache.exists() else []


def boot(programs, *arguments, **kwargs):
    """`riffle run` of a guest that resets at once; needs a /dev/kvm, if only an emulating one."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("/dev/kvm cannot be opened")
    return programs.riffle("run", "--accept-emulation", "--boot-timer", *arguments, **kwargs)


def way(r):
    """How the kernel was obtained, according to the boot timer."""
    assert r.returncode == 3, r.stderr
    found = re.findall(r"boot-timer: open, (cache hit|prepared file|prepare)", r.stderr)
    assert len(found) == 1, r.stderr
    return found[0]


# --- kernels inside of other files


def uki(*sections):
    """A PE file with these sections, as ukify makes them."""
    table, body, at = b"", b"", 0x400
    for name, data in sections:
        padded = data + bytes(-len(data) % 512)
        table += struct.pack("<8sIIIIIIHHI", name, len(data), 0x1000, len(padded), at, 0, 0, 0, 0, 0x40000040)
        body += padded
        at += len(padded)
    head = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x80) + bytes(0x40)
    head += b"PE\0\0" + struct.pack("<HHIIIHH", 0x8664, len(sections), 0, 0, 0, 240, 0x22) + bytes(240) + table
    return head.ljust(0x400, b"\0") + body


def test_uki(programs):
    """The kernel is prepared as if it were alone, and the other contents are listed."""
    kernel = Kernel().bzimage()
    small(programs.directory, "alone", kernel)
    small(programs.directory, "uki", uki((b".osrel", b"ID=test"), (b".cmdline", b"root=/dev/vda quiet\n\0"),
                                         (b".initrd", b"070701" + bytes(700)), (b".linux", kernel)))
    for name in ("alone", "uki"):
        assert programs.prepare("prepare", name, "-o", name + ".riffle").returncode == 0
    assert (programs.directory / "uki.riffle").read_bytes() == (programs.directory / "alone.riffle").read_bytes()
    told = json.loads(programs.prepare("inspect", "--json", "uki").stdout)
    assert told["kind"] == "bzImage" and told["uki"]["command_line"] == "root=/dev/vda quiet"
    assert told["uki"]["initrd"]["bytes"] == 706 and told["uki"]["kernel"]["bytes"] == len(kernel)
    whole = (programs.directory / "uki").read_bytes()
    assert whole[told["uki"]["initrd"]["offset"]:].startswith(b"070701")
    assert json.loads(programs.prepare("inspect", "--json", "alone").stdout)["uki"] is None
    text = programs.prepare("inspect", "uki").stdout
    assert re.search(r"^UKI: command line root=/dev/vda quiet$", text, re.M), text


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress, zstd_raw])
def test_compressed_vmlinux(programs, compress):
    small(programs.directory, "vmlinux", Kernel().appended())
    small(programs.directory, "vmlinux.packed", compress(Kernel().appended()))
    told = [json.loads(programs.prepare("inspect", "--json", name).stdout) for name in ("vmlinux", "vmlinux.packed")]
    assert told[1]["kind"] == "ELF with relocation list appended" and told[1]["compression"] in ("gzip", "xz", "zstd")
    assert told[0]["relocations"] == told[1]["relocations"]


# --- names


ODD = "odd\n\x1b[31m\u009b31mname"


@pytest.mark.parametrize("arguments", [
    ("prepare", "-f", "-o", ODD, ODD), ("prepare", ODD, "-o", "out"), ("prepare", "-z", ODD, "k", "-o", "out"),
    ("prepare", "--" + ODD), ("prepare", "--check", ODD), ("inspect", ODD), ("inspect", "-m", ODD, ODD),
    ("inspect", "-r", ODD, ODD), ("verify", ODD), ("verify", "--randomize", ODD, "k"), ("symbolize", "-k", ODD, "-l", ODD),
    ("bench", "load", ODD), ("gdb-script", "-l", ODD, "--vmlinux", ODD), (ODD,),
])
def test_odd_names_are_shown_plainly(programs, arguments):
    """No name reaches the terminal with its control characters, neither in an error nor in what is printed."""
    small(programs.directory, ODD)
    r = programs.prepare(*arguments)
    assert "\x1b" not in r.stderr + r.stdout and "\u009b" not in r.stderr + r.stdout
    assert r.stderr.count("\n") == (1 if r.returncode else 0), r.stderr
    assert r.returncode == 0 or "odd??[31m" in r.stderr, r.stderr


def test_odd_name_of_a_whole_kernel(programs):
    small(programs.directory, ODD)
    assert programs.prepare("prepare", ODD, "-o", "ok\n\x1b").returncode == 0
    assert programs.prepare("prepare", "--check", "ok\n\x1b").stdout == "ok??: whole\n"


# --- stock kernels


@pytest.mark.parametrize("name", STOCK)
def test_stock_kernel(programs, fetch_kernel, name):
    kernel = fetch_kernel(name)
    r = programs.prepare("prepare", kernel, "-o", "prepared")
    assert (r.returncode, r.stdout, r.stderr) == (0, "", "")
    prepared = programs.directory / "prepared"
    assert stat.S_IMODE(prepared.stat().st_mode) == 0o644
    # the zero pages are holes
    assert prepared.stat().st_blocks * 512 < 0.8 * prepared.stat().st_size

    told = [json.loads(programs.prepare("inspect", "--json", f).stdout) for f in (kernel, prepared)]
    assert [t.pop("prepared") for t in told] == [False, True]
    for t in told:
        del t["file"], t["file_bytes"]
    assert told[0] == told[1]
    t = told[0]
    assert t["kind"] == "bzImage" and t["relocatable"] and t["kernel_version"].startswith(name.split("-")[1] + ".")
    assert t["relocations"]["64"] > 50_000 and t["relocations"]["32"] > 20_000
    assert t["relocations"]["inverse_list"]
    assert t["extents"]["bytes"] < t["load_bytes"] <= t["image_bytes"]
    # the slots by hand, as arch/x86/boot/compressed/kaslr.c counts them, in steps of 2 MiB
    step = 2 << 20
    floor = 16 << 20
    image = t["image_bytes"]
    assert t["entropy"]["virtual_slots"] == (t["window_bytes"] - int(t["link_physical"], 16) - image) // step + 1
    assert t["entropy"]["physical_slots"] == ((256 << 20) - floor - image) // step + 1
    five = json.loads(programs.prepare("inspect", "--json", "-m", "5G", prepared).stdout)["entropy"]
    # 3 GiB below the hole and 2 GiB above it
    assert five["physical_slots"] == ((3 << 30) - floor - image) // step + 1 + ((2 << 30) - image) // step + 1
    little = json.loads(programs.prepare("inspect", "--json", "-m", "32M", prepared).stdout)["entropy"]
    assert "error" in little and "physical_slots" not in little


@pytest.mark.parametrize("name", STOCK)
def test_stock_kernel_check_finds_a_flipped_bit(programs, fetch_kernel, name):
    programs.prepare("prepare", fetch_kernel(name), "-o", "prepared")
    assert programs.prepare("prepare", "--check", "prepared").returncode == 0
    path = programs.directory / "prepared"
    size = path.stat().st_size
    seed = random.randrange(1 << 32)
    print("seed", seed)
    dice = random.Random(seed)
    places = [0, 8, 4095, 4096, 2 << 20, size - 1] + [dice.randrange(size) for _ in range(20)]
    with open(path, "r+b") as f:
        for place in places:
            f.seek(place)
            byte = f.read(1)[0]
            f.seek(place)
            f.write(bytes([byte ^ 1 << dice.randrange(8)]))
            f.flush()
            r = programs.prepare("prepare", "--check", "prepared")
            assert r.returncode == 1 and r.stdout == "", f"byte {place}: {r.stderr}"
            assert re.fullmatch(r"riffle: prepared: [^\n]+\n", r.stderr)
            f.seek(place)
            f.write(bytes([byte]))
            f.flush()
    assert programs.prepare("prepare", "--check", "prepared").returncode == 0


def test_every_kind_of_file_gives_the_same_kernel(programs, fetch_kernel):
    """bzImage; what extract-vmlinux leaves of it; and that in two files."""
    kernel = fetch_kernel("cloud-6.1")
    r = subprocess.run([ROOT / "tools" / "extract-vmlinux", kernel], capture_output=True, check=False)
    if r.returncode:
        pytest.skip(f"extract-vmlinux: {r.stderr.decode()}")
    elf = r.stdout
    appended = programs.directory / "appended"
    appended.write_bytes(elf)
    told = json.loads(programs.prepare("inspect", "--json", kernel).stdout)
    words = 3 + told["relocations"]["64"] + told["relocations"]["32"] + told["relocations"]["inverse32"]
    (programs.directory / "vmlinux").write_bytes(elf[: len(elf) - 4 * words])
    (programs.directory / "vmlinux.relocs").write_bytes(elf[len(elf) - 4 * words :])
    others = [
        json.loads(programs.prepare("inspect", "--json", "appended").stdout),
        json.loads(programs.prepare("inspect", "--json", "vmlinux", "--relocs", "vmlinux.relocs").stdout),
    ]
    assert [o["kind"] for o in others] == ["ELF with relocation list appended", "ELF and relocation list"]
    for other in others:
        assert other["content_digest"] == told["content_digest"]
        assert other["build_id"] == told["build_id"] and len(told["build_id"]) == 40


# --- riffle prepare


@pytest.mark.parametrize("compression", sorted(COMPRESSORS))
def test_compressions(programs, compression):
    small(programs.directory, content=Kernel().bzimage(compression))
    small(programs.directory, "elf", Kernel().appended())
    told = [json.loads(programs.prepare("inspect", "--json", n).stdout) for n in ("kernel", "elf")]
    assert told[0]["compression"] == compression
    assert told[0]["content_digest"] == told[1]["content_digest"]


def test_lzo(programs):
    unpacked = Kernel().appended()
    r = subprocess.run(["lzop", "-c"], input=unpacked, capture_output=True, check=False)
    if r.returncode:
        pytest.skip("lzop is not installed")
    small(programs.directory, content=bzimage(unpacked, packed=r.stdout + struct.pack("<I", len(unpacked))))
    told = json.loads(programs.prepare("inspect", "--json", "kernel").stdout)
    assert told["compression"] == "lzo" and told["relocations"]["64"] == 2


def test_inputs_as_descriptors(programs):
    k = Kernel()
    elf, relocs = small(programs.directory, "elf", k.elf()), small(programs.directory, "relocs", k.relocs())
    with open(elf, "rb") as e, open(relocs, "rb") as r:
        fds = (e.fileno(), r.fileno())
        # neither is read from where its position happens to be
        e.seek(100)
        for form in ("fd:{}", "/dev/fd/{}"):
            out = programs.prepare("prepare", "-f", form.format(fds[0]), "-r", form.format(fds[1]), "-o", "out",
                                   pass_fds=fds)
            assert out.returncode == 0, out.stderr
    told = json.loads(programs.prepare("inspect", "--json", "out").stdout)
    assert told["kind"] == "ELF and relocation list" and told["relocations"]["inverse32"] == 2


def test_output_is_not_overwritten(programs):
    small(programs.directory)
    (programs.directory / "out").write_text("precious")
    r = programs.prepare("prepare", "kernel", "-o", "out")
    assert r.returncode == 1
    assert r.stderr == "riffle: out: output: is there already (--force replaces it): File exists\n"
    assert (programs.directory / "out").read_text() == "precious"
    assert programs.prepare("prepare", "kernel", "-o", "out", "--force").returncode == 0
    assert programs.prepare("prepare", "--check", "out").stdout == "out: whole\n"
    assert sorted(p.name for p in programs.directory.iterdir()) == ["kernel", "out"]


def test_output_mode_follows_umask(programs):
    small(programs.directory)
    for mask, mode in ((0o077, 0o600), (0o002, 0o644)):
        programs.prepare("prepare", "-f", "kernel", "-o", "out", preexec_fn=lambda mask=mask: os.umask(mask))
        assert stat.S_IMODE((programs.directory / "out").stat().st_mode) == mode


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_leaves_nothing_behind(programs, fetch_kernel, number):
    kernel = fetch_kernel("cloud-6.1")
    for delay in (0.005, 0.02, 0.05, 0.1):
        with subprocess.Popen([PREPARE, "prepare", kernel, "-o", "out"], cwd=programs.directory) as p:
            time.sleep(delay)
            p.send_signal(number)
            p.wait()
        if p.returncode == 0:
            (programs.directory / "out").unlink()
        assert list(programs.directory.iterdir()) == []


def test_the_full_disk(programs):
    kernel = small(programs.directory)
    disk = programs.directory / "disk"
    disk.mkdir()
    script = f"mount -t tmpfs -o size=16k none {disk} && {PREPARE} prepare {kernel} -o {disk}/out; " \
             f"echo $?; ls -A {disk}"
    r = programs.run("unshare", "--mount", "--map-root-user", "sh", "-c", script)
    if "mount" in r.stderr or "unshare" in r.stderr:
        pytest.skip(f"no tmpfs can be mounted: {r.stderr}")
    assert r.stdout == "1\n"
    assert r.stderr == f"riffle: {disk}/out: output: cannot be written: No space left on device\n"


def test_a_file_system_without_nameless_files(programs):
    """On 9p, which kvmbox uses for the working directory, unfinished files have a name, and finished ones replace
    nothing."""
    small(programs.directory)
    shutil.copy(PREPARE, programs.directory)
    script = "./riffle-prepare prepare kernel -o out; ./riffle-prepare prepare kernel -o out; " \
             "./riffle-prepare prepare -f kernel -o out; ./riffle-prepare prepare --check out; ls -A"
    r = programs.run(ROOT / "tools" / "kvmbox", "sh", "-c", script)
    if "kvmbox:" in r.stderr:
        pytest.skip(r.stderr)
    assert r.stdout.split("\n") == ["out: whole", "kernel", "out", "riffle-prepare", ""]
    assert r.stderr == "riffle: out: output: is there already (--force replaces it): File exists\n"


@pytest.mark.parametrize("arguments, code", [
    (["prepare"], 2), (["prepare", "kernel"], 2), (["prepare", "a", "b", "-o", "c"], 2), (["prepare", "-o"], 2),
    (["prepare", "--check", "kernel", "-o", "x"], 2), (["prepare", "--check", "--compress=lz4", "kernel"], 2),
    (["prepare", "--compress=xz", "kernel", "-o", "x"], 2), (["inspect"], 2), (["inspect", "kernel", "-m", "12Q"], 2),
    (["inspect", "kernel", "--frobnicate"], 2), (["run", "-m", "512G", "kernel"], 2),
    (["run", "--cache=", "kernel"], 2), (["frobnicate"], 2), ([], 2),
    (["prepare", "--help"], 0), (["inspect", "--help"], 0), (["--help"], 0), (["--version"], 0),
])
def test_usage(programs, arguments, code):
    small(programs.directory)
    r = (programs.riffle if arguments[:1] == ["run"] else programs.prepare)(*arguments)
    assert r.returncode == code
    assert (r.stdout == "") == (code == 2) and (r.stderr == "") == (code == 0)


def test_help_tells_every_option(programs):
    for command, options in (("prepare", ["--output", "--relocs", "--compress", "--force", "--check"]),
                             ("inspect", ["--relocs", "--memory", "--json"])):
        text = programs.riffle(command, "--help").stdout
        assert all(o in text for o in options)
        assert max(len(line) for line in text.splitlines()) <= 100


def test_inspect_in_words(programs):
    small(programs.directory)
    r = programs.prepare("inspect", "kernel")
    assert r.returncode == 0 and r.stderr == ""
    for line in ("kind              bzImage", "kernel version    6.1.0-small (tests) #1", "compression       gzip",
                 "relocations       2 of 64 bits, 2 of 32 bits, 2 of 32 bits inverse", "in a guest with 256 MiB:"):
        assert line in r.stdout.splitlines()


def test_a_version_cannot_speak_to_the_terminal(programs):
    content = Kernel().bzimage().replace(b"6.1.0-small", b"\x1b[31m-small")
    small(programs.directory, content=content)
    for arguments in (["inspect", "kernel"], ["inspect", "--json", "kernel"]):
        r = programs.prepare(*arguments)
        assert r.returncode == 0 and "\x1b" not in r.stdout and "\\u001b" not in r.stdout


# --- the cache of riffle run


def test_miss_then_hit(programs):
    small(programs.directory)
    assert way(boot(programs, "kernel")) == "prepare"
    assert len(entries(programs)) == 1
    assert way(boot(programs, "kernel")) == "cache hit"
    assert stat.S_IMODE(programs.cache.stat().st_mode) == 0o700
    os.link(programs.directory / "kernel", programs.directory / "other name")
    # the link changed its ctime, so it counts as another state of the file; from then on both names find it
    assert way(boot(programs, "other name")) == "prepare"
    assert way(boot(programs, "kernel")) == "cache hit"


def test_prepared_image_needs_no_cache(programs):
    small(programs.directory)
    programs.prepare("prepare", "kernel", "-o", "prepared")
    assert way(boot(programs, "prepared")) == "prepared file"
    assert entries(programs) == []


def test_relocs_belong_to_the_identity(programs):
    k = Kernel()
    small(programs.directory, "elf", k.elf())
    small(programs.directory, "relocs", k.relocs())
    small(programs.directory, "relocs2", k.relocs())
    assert way(boot(programs, "elf", "--relocs", "relocs")) == "prepare"
    assert way(boot(programs, "elf", "--relocs", "relocs")) == "cache hit"
    assert way(boot(programs, "elf", "--relocs", "relocs2")) == "prepare"
    assert way(boot(programs, "-r", "physical", "elf")) == "prepare"


@pytest.mark.parametrize("relocs, words", [(b"\1" * 64, "relocs: relocation list: "), (b"", "relocs: relocation file: is empty")],
                         ids=["rubbish", "empty"])
def test_errors_about_relocs_name_their_file(programs, relocs, words):
    small(programs.directory, "elf", Kernel().elf())
    small(programs.directory, "relocs", relocs)
    for r in (programs.prepare("inspect", "-r", "relocs", "elf"), programs.prepare("prepare", "-r", "relocs", "elf", "-o", "new"),
              boot(programs, "--relocs", "relocs", "elf"), boot(programs, "--no-cache", "--relocs", "relocs", "elf"),
              programs.prepare("verify", "-r", "relocs", "elf"), programs.prepare("bench", "load", "--relocs", "relocs", "elf"),
              programs.prepare("bench", "storage", "--relocs", "relocs", "elf")):
        assert r.returncode == 1 and r.stderr.startswith(f"riffle: {words}") and r.stderr.count("\n") == 1, r.stderr


def test_inspect_takes_the_sizes_that_run_takes(programs):
    small(programs.directory)
    for size, mib in (("64", 64), ("3G", 3072), ("4096K", 4)):
        assert f"in a guest with {mib} MiB:" in programs.prepare("inspect", "-m", size, "kernel").stdout
    for size in ("3K", "33", "512G", "0", "-2", "2T", ""):
        r = programs.prepare("inspect", "-m", size, "kernel")
        run = programs.riffle("run", "--accept-emulation", "-m", size, "kernel")
        assert r.returncode == run.returncode == 2
        assert "--memory: " in r.stderr
        assert r.stderr == run.stderr.split("; ")[0].replace("riffle run", "riffle inspect") + "\n"


def test_kernel_replaced_in_place(programs):
    path = small(programs.directory)
    before = path.stat()
    assert way(boot(programs, "kernel")) == "prepare"
    content = bytearray(path.read_bytes())
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert way(boot(programs, "kernel")) == "prepare"
    assert len(entries(programs)) == 2


def test_no_cache(programs):
    small(programs.directory)
    assert way(boot(programs, "--no-cache", "kernel")) == "prepare"
    assert entries(programs) == []
    assert way(boot(programs, "--cache", "elsewhere", "kernel")) == "prepare"
    assert way(boot(programs, "--cache", "elsewhere", "kernel")) == "cache hit"


@pytest.mark.parametrize("damage", ["empty", "cut", "header", "plan", "foreign", "garbage", "mode", "link"])
def test_bad_entry_is_ignored_and_replaced(programs, damage):
    small(programs.directory)
    assert way(boot(programs, "kernel")) == "prepare"
    (entry,) = entries(programs)
    content = bytearray(entry.read_bytes())
    if damage == "empty":
        content = b""
    elif damage == "cut":
        content = content[:-1]
    elif damage == "header":
        content[100] ^= 1
    elif damage == "plan":
        content[4096 + 8] ^= 1
    elif damage == "foreign":
        content = b"RIFFLE\r\n" + bytes(len(content) - 8)
    elif damage == "garbage":
        content = random.Random(1).randbytes(5000)
    if damage == "mode":
        entry.chmod(0o666)
    elif damage == "link":
        target = programs.directory / "target"
        entry.rename(target)
        entry.symlink_to(target)
    else:
        entry.write_bytes(content)
    r = boot(programs, "kernel")
    assert way(r) == "prepare" and re.findall("notice: (.*?):", r.stderr) == ["this kernel is not shuffled, and its sections do not slide apart"]
    assert way(boot(programs, "kernel")) == "cache hit"
    assert len(entries(programs)) == 1


def test_many_runs_at_once(programs, fetch_kernel):
    """All start without a cache entry, with a kernel that takes a while to prepare; each run is independent."""
    kernel = fetch_kernel("cloud-6.1")
    runs = [subprocess.Popen([RIFFLE, "run", "--accept-emulation", "--boot-timer", "-m", "16M", kernel],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             cwd=programs.directory, env=programs.environment) for _ in range(5)]
    for p in runs:
        _, complaint = p.communicate(timeout=300)
        # each has opened the kernel by the time it fails, because 16 MiB are too small or there is no KVM
        assert p.returncode == 1 and "notice" not in complaint, complaint
        assert re.search(rf"^riffle: ({kernel}: guest memory|/dev/kvm)", complaint, re.M), complaint
    assert len(entries(programs)) == 1
    assert programs.prepare("prepare", "--check", entries(programs)[0]).returncode == 0


def test_full_cache_disk_is_a_notice(programs):
    kernel = small(programs.directory)
    disk = programs.directory / "disk"
    disk.mkdir(mode=0o700)
    script = f"mount -t tmpfs -o size=16k,mode=700 none {disk} && " \
             f"{RIFFLE} run --accept-emulation --boot-timer --cache {disk} {kernel}; echo $?; ls -A {disk}"
    r = programs.run("unshare", "--mount", "--map-root-user", "sh", "-c", script)
    if "mount:" in r.stderr or "unshare:" in r.stderr or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip(f"no tmpfs or no KVM: {r.stderr}")
    assert f"riffle: notice: {disk}: output: cannot be written: No space left on device; " \
           "kernel prepared for this run alone\n" in r.stderr
    assert r.stdout == "3\n", r.stderr


def test_unusable_caches_are_notices(programs):
    small(programs.directory)
    others = programs.directory / "others"
    others.mkdir()
    others.chmod(0o777)
    r = boot(programs, "--cache", others, "kernel")
    assert way(r) == "prepare" and "mode: lets its group or others change" in r.stderr
    assert list(others.iterdir()) == []
    r = boot(programs, "--cache", "kernel", "kernel")
    assert way(r) == "prepare" and "riffle: notice: kernel: cache" in r.stderr
    without = {k: v for k, v in programs.environment.items() if k not in ("HOME", "XDG_CACHE_HOME")}
    r = boot(programs, "kernel", env=without)
    assert way(r) == "prepare" and "neither XDG_CACHE_HOME nor HOME is set" in r.stderr


def test_trust_in_prepared_images(programs):
    small(programs.directory)
    programs.prepare("prepare", "kernel", "-o", "prepared")
    path = programs.directory / "prepared"
    for mode in (0o664, 0o646):
        path.chmod(mode)
        r = programs.riffle("run", "prepared")
        assert r.returncode == 1
        assert r.stderr == "riffle: prepared: mode: lets its group or others change it (chmod go-w)\n"
    path.chmod(0o644)
    if os.geteuid() == 0:
        os.chown(path, 12345, 12345)
        r = programs.riffle("run", "prepared")
        assert r.returncode == 1
        assert r.stderr == "riffle: prepared: owner: is neither root nor the user that runs this " \
                           "(found 12345, expected 0)\n"


def test_the_worker_is_confined(programs, fetch_kernel):
    """The confinement of the child that reads a kernel, as /proc shows it."""
    kernel = fetch_kernel("cloud-6.1")
    seen = {}
    for _ in range(20):
        with subprocess.Popen([PREPARE, "prepare", "-f", kernel, "-o", "out"], cwd=programs.directory) as p:
            while p.poll() is None and "Seccomp:\t2" not in seen.get("status", ""):
                try:
                    with open(f"/proc/{p.pid}/task/{p.pid}/children", encoding="ascii") as f:
                        children = f.read().split()
                    if children:
                        child = children[0]
                        with open(f"/proc/{child}/status", encoding="ascii") as f:
                            seen["status"] = f.read()
                        if os.geteuid() == 0:
                            with open(f"/proc/{child}/environ", "rb") as f:
                                seen["environment"] = f.read()
                except OSError:
                    continue
        if "Seccomp:\t2" in seen.get("status", ""):
            break
    status = seen["status"]
    assert "Seccomp:\t2" in status and "NoNewPrivs:\t1" in status
    if os.geteuid() == 0:
        assert "Uid:\t65534\t65534\t65534\t65534" in status
        assert "CapEff:\t0000000000000000" in status
        assert "Groups:\t \n" in status or "Groups:\t\n" in status
        assert seen["environment"] == b""


# ---- what is never replaced, and what did not come out


def test_force_replaces_regular_files_alone(programs):
    small(programs.directory)
    os.mkfifo(programs.directory / "fifo")
    r = programs.prepare("prepare", "-f", "kernel", "-o", "fifo")
    assert r.returncode == 1 and r.stderr == "riffle: fifo: output: is there and is not a regular file: it is not replaced\n"
    assert stat.S_ISFIFO((programs.directory / "fifo").stat().st_mode)


@pytest.mark.parametrize("output", ["kernel", "other", "link"])
def test_force_replaces_no_input(programs, output):
    kernel = small(programs.directory)
    os.link(kernel, programs.directory / "other")
    os.symlink("kernel", programs.directory / "link")
    before = kernel.read_bytes()
    r = programs.prepare("prepare", "-f", "kernel", "-o", output)
    assert (r.returncode, r.stderr) == (1, f"riffle: {output}: output: is a file that it would be made from\n")
    assert kernel.read_bytes() == before and (programs.directory / "link").is_symlink()


def test_kernel_that_cannot_move_is_no_kernel_that_moves_itself(programs):
    (programs.directory / "kernel").write_bytes(Kernel().elf())
    r = programs.prepare("prepare", "-b", "kernel", "-o", "out")
    assert r.returncode == 1 and "relocations: are missing" in r.stderr
    assert [p.name for p in programs.directory.iterdir()] == ["kernel"]


@pytest.mark.parametrize("method", ["lz4", "zstd"])
def test_a_compressed_kernel_cannot_move_itself(programs, method):
    """Nothing in the guest decompresses it."""
    small(programs.directory)
    assert programs.prepare("prepare", f"--compress={method}", "kernel", "-o", "small").returncode == 0
    r = programs.prepare("prepare", "--bootstrap", "small", "-o", "new")
    assert r.returncode == 1 and r.stderr.startswith("riffle: small: storage: is compressed") and r.stderr.count("\n") == 1
    assert not (programs.directory / "new").exists()


def test_kernel_that_moves_itself_is_known_again(programs):
    """Every command says what such a file can be used for."""
    small(programs.directory)
    assert programs.prepare("prepare", "kernel", "-o", "prepared").returncode == 0
    r = programs.prepare("prepare", "-b", "prepared", "-o", "out")
    if "is not in this build" in r.stderr:
        pytest.skip(r.stderr)
    assert r.returncode == 0 and re.fullmatch(r"riffle: notice: this kernel is not shuffled, and its sections .*\n", r.stderr)
    for command in (["inspect", "out"], ["run", "--accept-emulation", "out"], ["prepare", "out", "-o", "again"]):
        r = programs.riffle(*command)
        assert r.returncode == 1 and re.fullmatch(r"riffle: out: payload: .*prepared with --bootstrap.*\n", r.stderr)
    assert programs.prepare("prepare", "-b", "--elf", "prepared", "-o", "out.elf").returncode == 0
    assert programs.riffle("emit", "prepared", "-m", "64M", "-o", "emitted").returncode == 0
    for made in ("out.elf", "emitted"):
        for command in (["inspect", made], ["run", "--accept-emulation", made], ["prepare", made, "-o", "again"]):
            r = programs.riffle(*command)
            assert r.returncode == 1 and re.fullmatch(rf"riffle: {made}: e_entry: .*made by prepare --bootstrap --elf or by emit.*\n",
                                                      r.stderr), r.stderr


TELLS = [["inspect", "kernel"], ["inspect", "--json", "kernel"], ["--help"], ["--version"], ["prepare", "--help"]]


@pytest.mark.parametrize("program, command", [(program, command) for program in (PREPARE, RIFFLE) for command in TELLS] +
                         [(RIFFLE, ["run", "--help"])])
def test_lost_output_is_an_error(programs, program, command):
    small(programs.directory)
    with open("/dev/full", "w", encoding="ascii") as full:
        r = subprocess.run([program, *command], cwd=programs.directory, env=programs.environment, stdin=subprocess.DEVNULL,
                           stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (r.returncode, r.stderr) == (1, "riffle: standard output: cannot be written\n")


def test_a_start_that_failed_leaves_no_layout(programs):
    """A corrupt frame is detected during the load, after the layout was chosen."""
    small(programs.directory)
    assert programs.prepare("prepare", "--compress=zstd", "kernel", "-o", "broken").returncode == 0
    with open(programs.directory / "broken", "r+b") as f:
        f.seek(64)
        payload, = struct.unpack("<Q", f.read(8))
        f.seek(payload)
        f.write(bytes(4))       # the first frame's magic number
    r = boot(programs, "--layout-out", "layout", "broken")
    assert r.returncode == 1 and "frame" in r.stderr and not (programs.directory / "layout").exists()
    assert boot(programs, "--layout-out", "layout", "kernel").returncode == 3
    assert (programs.directory / "layout").exists()


def seccomp_of(program):
    """The seccomp mode that /proc shows for a program, as soon as there is a filter; 0 if there is never one."""
    for _ in range(400):
        with open(f"/proc/{program.pid}/status", encoding="ascii") as f:
            mode = int(re.search(r"^Seccomp:\s*(\d+)$", f.read(), re.M).group(1))
        if mode:
            return mode
        time.sleep(0.01)
    return 0


@pytest.mark.skipif("sanitized" in str(PREPARE), reason="sanitizers cannot be confined")
def test_inspect_of_a_prepared_kernel_is_confined(programs):
    """The kernel's output fills an unread pipe, so that the program can be examined while it prints."""
    small(programs.directory)
    assert programs.prepare("prepare", "kernel", "-o", "prepared", "--compress=lz4").returncode == 0
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while True:
            os.write(write, b"x" * 4096)
    except BlockingIOError:
        pass
    os.set_blocking(write, True)
    with subprocess.Popen([PREPARE, "inspect", "prepared"], cwd=programs.directory, env=programs.environment,
                          stdin=subprocess.DEVNULL, stdout=write, stderr=subprocess.DEVNULL) as program:
        os.close(write)
        assert seccomp_of(program) == 2
        os.close(read)
