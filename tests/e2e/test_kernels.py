# SPDX-License-Identifier: Apache-2.0
"""Kernels built from unpatched source (kernels/, tools/build-kernel) boot, shuffled and not; and the builder itself."""
import json
import os
import pathlib
import pty
import re
import shutil
import signal
import subprocess
import threading
import time

import patience
import pytest
from conftest import BUILD, ROOT, Forms
from guests import LINK_VIRTUAL, LONG, Boots, Guest
from test_shuffle import COMPILE, PATIENT, do, numbers, said, without_complaint
from test_verify import spoiled_parts, verify

BUILD_KERNEL = ROOT / "tools" / "build-kernel"
KERNELS = pathlib.Path(os.environ.get("RIFFLE_CACHE") or
                       pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache", "riffle-kernels"))
FRAGMENTS = sorted(p.stem for p in (ROOT / "kernels").glob("*.config"))
NAMES = [name for name in FRAGMENTS if not name.startswith("small")]
ROWS = [name for name in FRAGMENTS if name.startswith("small-")]     # one thing changed in each
LUPINE_SEEDS = 200 if LONG else 6
SEEDS = 20
LAYOUTS = 10 if LONG else 3
A_BOX = 25      # guests in a box, one after another
A_BOX_OF_WORKERS = 5
WHAT = ["efault", "symbols", "bpf", "kprobes", "tracer", "tasks"]   # of tests/guest/exercise.c
QUICK = ["efault", "symbols", "bpf", "tasks"]

long_only = pytest.mark.skipif(not LONG, reason="one of the long tests: RIFFLE_LONG is not set")


# ---- the builder, with a fake source of twenty empty objects

SMALL_MERGE = """#!/bin/sh
# what Kconfig does to an option without its dependencies: CONFIG_NOWHERE is left out in silence
while getopts nmO: option; do [ "$option" = O ] && out=$OPTARG; done
shift $((OPTIND - 1))
cat "$@" | grep -v CONFIG_NOWHERE > "$out/.config"
"""

# as Linux does it: with O= from the source, or in the object directory itself
SMALL_MAKEFILE = """\
O ?= .
HERE := $(dir $(lastword $(MAKEFILE_LIST)))
OBJECTS := $(patsubst %,$(O)/o%.o,1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20)
olddefconfig mod2noconfig prepare init/version-timestamp.o:
	@:
vmlinux: $(OBJECTS)
	@echo elf $(LOCALVERSION) > $(O)/vmlinux
bzImage: vmlinux
	@mkdir -p $(O)/arch/x86/boot
	@echo image $(strip $(LOCALVERSION) $(KCFLAGS) $(RIFFLE_BOOT_FLAGS) $(shell cat $(HERE)arch/x86/boot/mark) \
		$(shell grep ^CONFIG_KERNEL_ $(O)/.config)) > $(O)/arch/x86/boot/bzImage
	@echo "  BUILD   bzImage"
$(O)/o%.o:
	@sleep 0.1
	@echo "  CC      o$*.o"
	@test ! -e $(O)/../broken || { echo "o$*.c:1: error: it is broken"; exit 1; }
	@touch $@
"""


SMALL_PATCH = """\
--- a/arch/x86/boot/mark
+++ b/arch/x86/boot/mark
@@ -1 +1 @@
-
+%s
"""


class Small:
    """A fake tree with the builder and a cache with a source."""

    def __init__(self, directory):
        self.cache, self.tree = directory / "cache", directory / "tree"
        scripts = self.cache / "linux-source-6.1_6.1.0-1" / "scripts" / "kconfig"
        scripts.mkdir(parents=True)
        (scripts / "merge_config.sh").write_text(SMALL_MERGE)
        (scripts / "merge_config.sh").chmod(0o755)
        (scripts.parent.parent / "Makefile").write_text(SMALL_MAKEFILE)
        boot = scripts.parent.parent / "arch" / "x86" / "boot"
        boot.mkdir(parents=True)
        (boot / "mark").write_text("\n")
        (scripts.parent.parent / "lib").mkdir()
        (scripts.parent.parent / "lib" / "Makefile").write_text("obj-y += own.o\n")
        (self.cache / "linux-source-6.1").symlink_to("linux-source-6.1_6.1.0-1")
        (self.tree / "tools").mkdir(parents=True)
        shutil.copy(BUILD_KERNEL, self.tree / "tools")
        for other in ("build-image", "build-grown"):
            shutil.copy(BUILD_KERNEL.parent / other, self.tree / "tools")
        (self.tree / "tools" / "setup").write_text("#!/bin/sh\n")
        (self.tree / "tools" / "setup").chmod(0o755)
        (self.tree / "kernels" / "patches").mkdir(parents=True)
        self.patch("marked")
        self.fragment("CONFIG_64BIT=y\n# CONFIG_SMP is not set\n")
        self.command = [self.tree / "tools" / "build-kernel", "-j", "1", "small"]
        self.environment = {**os.environ, "RIFFLE_CACHE": str(self.cache)}

    def fragment(self, text):
        (self.tree / "kernels" / "small.config").write_text("# base: allnoconfig\n# objects: 20\n" + text)

    def patch(self, word):
        (self.tree / "kernels" / "patches" / "bootstrap.patch").write_text(SMALL_PATCH % word)

    def run(self, *arguments):
        return subprocess.run([*self.command, *arguments], env=self.environment, capture_output=True, text=True,
                              timeout=300, check=False)

    def start(self, **kwargs):
        # tests started in a shell's background have SIGINT ignored, and then a shell cannot trap it
        return subprocess.Popen(self.command, env=self.environment, text=True,
                                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **kwargs)

    def compiled(self):
        """How often each object was compiled, according to the logs."""
        logs = [p.read_text() for p in self.cache.glob("*small_*/build.log")]
        objects = re.findall(r"^  CC +(o\d+\.o)$", "".join(logs), re.M)
        return {o: objects.count(o) for o in objects}

    def wait_for_objects(self, number):
        deadline = time.monotonic() + 30
        while len(self.compiled()) < number:
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.fixture
def small(tmp_path):
    return Small(tmp_path)


def test_build_prints_the_path_alone_and_builds_once(small):
    r = small.run()
    assert (r.returncode, r.stderr) == (0, ""), r.stderr
    image = pathlib.Path(r.stdout.rstrip("\n"))
    assert image.name == "bzImage" and image.read_text() == "image -small\n"
    assert set(p.name for p in image.parent.iterdir()) == {"bzImage", "vmlinux", "config", "build.log"}
    assert (image.parent / "config").read_text().endswith("CONFIG_64BIT=y\n# CONFIG_SMP is not set\n")
    assert "6.1.0-1" in image.parent.name
    assert not list(small.cache.glob(".build-*")) and not list(small.cache.glob(".tmp.*"))

    before = image.stat().st_mtime_ns
    for option, name in (("--vmlinux", "vmlinux"), ("--config", "config")):
        again = small.run(option)
        assert (again.returncode, again.stdout) == (0, f"{image.parent / name}\n")
    assert small.run().stdout == r.stdout and image.stat().st_mtime_ns == before


def test_build_is_of_its_fragment_and_flags(small):
    """A different fragment (apart from comments) or different flags make a different kernel."""
    paths = [small.run().stdout]
    small.fragment("# a remark\nCONFIG_64BIT=y\n# CONFIG_SMP is not set\n")
    assert small.run().stdout == paths[0]
    paths.append(small.run("--function-sections").stdout)
    assert "-ffunction-sections" in pathlib.Path(paths[1].strip()).read_text()
    small.fragment("CONFIG_64BIT=y\n")
    paths.append(small.run().stdout)
    assert len(set(paths)) == 3 and all(pathlib.Path(p.strip()).exists() for p in paths)


# what kernels from 6.5 on do to the vmlinux that they have linked
STRIPPING = """
vmlinux: stripped
stripped: $(OBJECTS)
	@cd $(O) && echo 'int f(void); int g(void) { return f(); } int f(void) { return 1; }' >f.c && cc -c -O0 f.c -o f.o
	@cd $(O) && ld -q -e g f.o -o vmlinux && $(OBJCOPY) --remove-section='.rel.*' --remove-section='.rela.*' vmlinux
"""


def test_source_is_the_fragments_and_relocations_are_kept(small):
    one = small.run("--vmlinux").stdout
    source, other = (small.cache / f"linux-source-{v}_{v}.0-1" for v in ("6.1", "6.12"))
    shutil.copytree(source, other)
    makefile = (source / "Makefile").read_text().replace("\t@echo elf $(LOCALVERSION) > $(O)/vmlinux\n", "") + STRIPPING
    (other / "Makefile").write_text(makefile)
    (small.cache / "linux-source-6.12").symlink_to(other.name)
    small.fragment("# source: linux-source-6.12\nCONFIG_64BIT=y\n# CONFIG_SMP is not set\n")
    r = small.run("--vmlinux")
    assert (r.returncode, r.stderr) == (0, "") and "small_6.12.0-1_" in r.stdout and r.stdout != one, r.stderr
    assert {".text", ".rela.text"} <= sections_of(r.stdout.strip())
    small.fragment("# source: ../elsewhere\nCONFIG_64BIT=y\n")
    r = small.run()
    assert (r.returncode, r.stdout) == (1, "") and "is no source of a kernel" in r.stderr


def test_option_that_cannot_be_had_is_named(small):
    small.fragment("CONFIG_64BIT=y\nCONFIG_NOWHERE=y\n")
    r = small.run()
    assert (r.returncode, r.stdout) == (1, "")
    assert "small: CONFIG_NOWHERE: wanted y, got n\n" in r.stderr and "64BIT" not in r.stderr
    assert not list(small.cache.glob("small_*"))


def test_fragment_over_another(small):
    """The last fragment wins; each one in the chain is part of the key; a chain must end."""
    over = small.tree / "kernels" / "over.config"
    over.write_text("# base: small\nCONFIG_SMP=y\nCONFIG_MORE=y\n")
    small.command[-1] = "over"
    r = small.run()
    assert (r.returncode, r.stderr) == (0, ""), r.stderr
    config = (pathlib.Path(r.stdout.strip()).parent / "config").read_text()
    assert config.endswith("CONFIG_64BIT=y\n# CONFIG_SMP is not set\n# base: small\nCONFIG_SMP=y\nCONFIG_MORE=y\n")
    small.fragment("CONFIG_64BIT=y\n# CONFIG_SMP is not set\nCONFIG_NOWHERE=y\n")
    again = small.run()
    assert (again.returncode, again.stdout) == (1, "") and "over: CONFIG_NOWHERE: wanted y, got n" in again.stderr
    over.write_text("# base: over\nCONFIG_SMP=y\n")
    r = small.run()
    assert (r.returncode, r.stdout) == (1, "") and "the chain of fragments does not end" in r.stderr
    over.write_text("# base: small\n# llvm: x; y\n")
    r = small.run()
    assert (r.returncode, r.stdout) == (1, "") and "is no version of LLVM" in r.stderr


def image_of(small, kind):
    r = small.run("--image", kind)
    assert (r.returncode, r.stderr) == (0, ""), r.stderr
    return pathlib.Path(r.stdout.rstrip("\n"))


def test_images_are_of_their_kind_and_of_one_kernel(small):
    """Another, patched bootstrap: the kernel is not compiled again, and no configuration option is set twice."""
    small.fragment("CONFIG_64BIT=y\nCONFIG_KERNEL_XZ=y\n")
    own = pathlib.Path(small.run().stdout.strip())
    told = {"gzip": "marked CONFIG_KERNEL_GZIP=y", "xz": "marked CONFIG_KERNEL_XZ=y",
            "none": "-DRIFFLE_PAYLOAD_NONE marked CONFIG_KERNEL_LZ4=y",
            "none-optimised": "-DRIFFLE_PAYLOAD_NONE -DRIFFLE_PAYLOAD_IN_PLACE marked CONFIG_KERNEL_LZ4=y"}
    for kind, words in told.items():
        image = image_of(small, kind)
        assert image.name == kind and image.read_text() == f"image -small {words}\n"
        before = image.stat().st_mtime_ns
        assert image_of(small, kind) == image and image.stat().st_mtime_ns == before
    assert own.read_text() == "image -small CONFIG_KERNEL_XZ=y\n"
    assert set(small.compiled().values()) == {1}
    logs = "".join(p.read_text() for p in small.cache.glob(".boot-small_*/build.log"))
    assert logs.count("BUILD   bzImage") == len(told) and "  CC " not in logs
    assert (small.cache / "linux-source-6.1" / "arch" / "x86" / "boot" / "mark").read_text() == "\n"


def test_images_are_of_their_patch(small):
    first = image_of(small, "lz4")
    small.patch("otherwise")
    second = image_of(small, "lz4")
    assert first != second and "otherwise" in second.read_text() and "marked" in first.read_text()


def test_image_that_make_spoils_is_not_kept(small):
    """If vmlinux were rebuilt, the image would not hold the kernel it claims to."""
    small.run()
    makefile = small.cache / "linux-source-6.1" / "Makefile"
    makefile.write_text(makefile.read_text().replace('@echo "  BUILD', '@echo again > $(O)/vmlinux; echo "  BUILD'))
    r = small.run("--image", "gzip")
    assert (r.returncode, r.stdout) == (1, "") and "has built another vmlinux" in r.stderr
    assert not list(small.cache.glob("small_*/images-*/*"))


def test_grown_kernel_has_so_many_functions_of_that_size(small, tmp_path):
    r = small.run("--grow", "1200x256")
    assert (r.returncode, r.stderr) == (0, ""), r.stderr
    image = pathlib.Path(r.stdout.strip())
    assert image.name == "1200x256" and image.read_text() == "image -small\n"
    assert small.run("--grow", "1200x256").stdout == r.stdout
    assert (small.cache / "linux-source-6.1" / "lib" / "Makefile").read_text() == "obj-y += own.o\n"
    farm, = small.cache.glob(".grown-source-small_*")
    assert (farm / "lib" / "Makefile").read_text() == "obj-y += own.o\nobj-y += riffle-grown/\n"
    assert (farm / "lib" / "riffle-grown" / "Makefile").read_text() == "obj-y += part0.o\nobj-y += part1.o\n"
    # linked into one program: no function is defined twice, and none is undefined
    subprocess.run(["cc", "-std=gnu11", "-O2", "-shared", "-fPIC", "-Wl,-z,defs", "-fcf-protection=none", "-o",
                    tmp_path / "all.so", *(farm / "lib" / "riffle-grown").glob("*.c")], check=True)
    sizes = [int(size, 16) for size in
             re.findall(r"^\w+ (\w+) T riffle_grown_\d+$", subprocess.run(
                 ["nm", "-S", tmp_path / "all.so"], capture_output=True, text=True, check=True).stdout, re.M)]
    assert len(sizes) == 1200 and 200 <= sum(sizes) / 1200 <= 320


@pytest.mark.parametrize("grown", ["12", "x256", "0x256", "10x63", "10x65537", "400001x64", "400000x1024", "1 x64"])
def test_growth_that_cannot_be(small, grown):
    r = small.run("--grow", grown)
    assert (r.returncode, r.stdout) == (2, "") and "COUNTxBYTES" in r.stderr
    assert not list(small.cache.glob(".grown-*"))


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda s: s.name)
def test_interrupted_build_goes_on(small, sign):
    with small.start(stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True) as p:
        small.wait_for_objects(5)
        # to the whole group, as from a terminal, except that KILL goes to the builder alone and leaves make running
        (os.kill if sign == signal.SIGKILL else os.killpg)(p.pid, sign)
        assert p.wait(timeout=300) != 0
    if sign != signal.SIGKILL:
        stopped = small.compiled()
        time.sleep(0.5)
        assert small.compiled() == stopped and len(stopped) < 20
    r = small.run()
    assert r.returncode == 0, r.stderr
    times = small.compiled()
    assert len(times) == 20 and sum(times.values()) <= 21     # the one that was cut short


def test_two_builds_at_once_are_one(small):
    both = [small.start(stdout=subprocess.PIPE) for _ in range(2)]
    said = [p.communicate(timeout=300)[0] for p in both]
    assert [p.returncode for p in both] == [0, 0] and said[0] == said[1] != ""
    assert set(small.compiled().values()) == {1}


def test_failed_build_shows_what_make_said(small):
    (small.cache / "broken").touch()
    r = small.run()
    assert (r.returncode, r.stdout) == (1, "")
    assert "o1.c:1: error: it is broken" in r.stderr and "build.log" in r.stderr
    assert not list(small.cache.glob("small_*"))
    (small.cache / "broken").unlink()
    assert small.run().returncode == 0


def test_progress_on_a_terminal(small):
    master, slave = pty.openpty()
    with small.start(stdout=subprocess.PIPE, stderr=slave) as p:
        os.close(slave)
        told = b""
        while True:
            try:
                part = os.read(master, 4096)
            except OSError:     # the other end is closed
                break
            told += part
        assert p.wait(timeout=300) == 0
    os.close(master)
    counts = [int(n) for n in re.findall(rb"(\d+) of 20 objects", told)]
    assert counts == sorted(counts) and counts[-1] > counts[0]


@pytest.mark.parametrize("arguments", [(), ("nothing-of-ours",), ("../kernels/lupine",), ("lupine", "microvm"),
                                       ("--odd", "lupine"), ("-j", "0", "lupine"), ("-j",), ("--image", "zip", "lupine"),
                                       ("--image", "lz4"), ("--image", "lz4", "--vmlinux", "lupine")], ids=" ".join)
def test_wrong_usage(arguments):
    r = subprocess.run([BUILD_KERNEL, *arguments], capture_output=True, text=True, timeout=300, check=False)
    assert (r.returncode, r.stdout) == (2, "") and r.stderr.startswith("usage: ")


# ---- the kernels


@pytest.fixture(scope="session")
def built():
    """A function from a kernel's name and options to the output of tools/build-kernel; skips without a source."""
    known, failed, lock = {}, {}, threading.RLock()

    def attempt(name, options):
        if name in failed:
            return failed[name]
        try:
            r = patience.run([BUILD_KERNEL, *options, name], also=lambda: patience.logs_grown(KERNELS))
        except patience.Stalled as stalled:
            failed[name] = (1, "", str(stalled))
            return failed[name]
        told = (r.returncode, r.stdout.strip(), r.stderr)
        if r.returncode:
            failed[name] = told
        return told

    def build(name, *options):
        with lock:
            if (name, options) not in known:
                known[name, options] = attempt(name, options)
        status, path, complaint = known[name, options]
        if status and re.search(r"cannot download|apt offers no|setup: (root is needed|apt-get)", complaint):
            pytest.skip(f"no source to build from: {complaint[-300:]}")
        if status:
            raise patience.BuildFailed(name, complaint[-4000:])
        return pathlib.Path(path)

    return build


@pytest.mark.parametrize("name", [pytest.param(n, marks=long_only if n == "judge" else ()) for n in NAMES])
def test_fragment_is_taken_whole(built, name):
    """No option of a fragment is lost with Debian's newest source; checks independently what build-kernel ensures."""
    config = built(name, "--config").read_text()
    wanted = re.findall(r"^(?:# )?CONFIG_.*$", (ROOT / "kernels" / f"{name}.config").read_text(), re.M)
    assert wanted
    for line in wanted:
        option = re.match(r"# (CONFIG_\w+) is not set", line)
        if option:
            assert not re.search(rf"^{option.group(1)}=", config, re.M), line
        else:
            assert f"\n{line}\n" in config, line
    assert not re.search(r"^CONFIG_\w+=m$", config, re.M)


@long_only
@pytest.mark.parametrize("name", ROWS)
def test_row_is_verified(built, programs, name):
    """Shuffled layouts are correct according to verify; test_row_boots boots them."""
    image = built(name)
    r = programs.riffle("verify", "-n", "3", image, timeout=900)
    assert r.returncode == 0 and r.stdout.count("all right\n") == 3, r.stdout + r.stderr
    slid = programs.riffle("verify", "-n", "3", "--randomize=fgkaslr+slide", image, timeout=900)
    assert slid.stdout.count("all right\n") == 3 or "cannot slide apart" in slid.stderr, slid.stdout + slid.stderr


class Kernels(Forms):
    """Built kernels in place of test_boot's Debian kernels: "lupine" is its bzImage, "lupine --vmlinux" its ELF file."""

    def __init__(self, directory, build):
        super().__init__(directory, lambda name: build(*name.split()))


@pytest.fixture(scope="module")
def boots(request, built, tmp_path_factory):
    """Starts at once what the tests that were chosen will ask for."""
    directory = tmp_path_factory.mktemp("kernels")
    exercise, initrd = directory / "exercise", directory / "initrd"
    subprocess.run([*COMPILE, "-o", exercise, ROOT / "tests" / "guest" / "exercise.c"], check=True)
    subprocess.run([ROOT / "tools" / "mkinitramfs", initrd,
                    *(x for what in WHAT for x in ("--add", f"{exercise}:bin/{what}"))], check=True, timeout=300)
    (directory / "forms").mkdir()
    boots = Boots(initrd, Kernels(directory / "forms", built), tmp_path_factory.mktemp("boots"))
    for item in request.session.items:
        make = getattr(item, "callspec", None) and item.callspec.params.get("make")
        if item.module is request.module and make and not any(m.args[0] for m in item.iter_markers("skipif")):
            if item.callspec.params.get("name") in PLAIN:
                boots.start(PLAIN[item.callspec.params["name"]])
            boots.start(make)
    yield boots
    boots.close()


def shuffled(kernel, seeds, **kwargs):
    return {str(s): Guest(kernel, ("--randomize=fgkaslr", "--seed", f"{s:x}"), **kwargs) for s in seeds}


def lupine_files(kernels):
    """Without ACPI and SMP, so that it ends by a reset or a panic."""
    do = "kallsyms,panic"
    return {
        "bzimage": Guest(kernels.fetch("lupine"), ("--randomize=kaslr",), memory=64, do=do),
        "vmlinux": Guest(kernels.prepared("lupine --vmlinux"), ("--randomize=kaslr",), memory=64, do=do),
        "off": Guest(kernels.fetch("lupine"), ("--randomize=off",), memory=64, do="reboot"),
        "auto": Guest(kernels.fetch("lupine"), memory=128, do=do),
        "fgkaslr": Guest(kernels.fetch("lupine"), ("--randomize=fgkaslr",), memory=128, do=do),
        "fgkaslr-vmlinux": Guest(kernels.prepared("lupine --vmlinux"), ("--randomize=fgkaslr",), memory=128, do=do),
    }


KINDS = ("gzip", "bzip2", "lzma", "xz", "lzo", "lz4", "zstd", "none", "none-optimised")


def bootstraps(kind):
    """Lupine with a patched bootstrap, with and without randomisation."""
    def make(kernels):
        return {word: Guest(kernels.fetch(f"lupine --image {kind}"), ("--boot=bootstrap", "--boot-timer"), append=word,
                            do="reboot") for word in ("kaslr", "nokaslr")}
    make.__name__ = f"lupine_{kind}"
    return make


def group(name, first, count, **kwargs):
    def make(kernels):
        return shuffled(kernels.prepared(name), range(first, first + count), **kwargs)
    make.__name__ = f"{name}_{first}"
    return make


def boxes(name, seeds, **kwargs):
    """Groups of guests with the seeds from 1 to `seeds`, and a list of (group, seed)."""
    groups = {first: group(name, first, min(A_BOX, seeds + 1 - first), **kwargs)
              for first in range(1, seeds + 1, A_BOX)}
    return [(groups[s - (s - 1) % A_BOX], str(s)) for s in range(1, seeds + 1)]


def rows(kernels):
    """Every row's kernel, unshuffled and shuffled. KASAN takes an eighth of the memory, and time."""
    return {f"{name} {mode}": Guest(kernels.fetch(name), (f"--randomize={mode}", "--seed", "5"), memory=256, seconds=600,
                                    append="watchdog_thresh=60", do="kallsyms,panic")
            for name in ROWS for mode in ("kaslr", "fgkaslr")}


@long_only
@pytest.mark.parametrize("mode", ["kaslr", "fgkaslr"])
@pytest.mark.parametrize("name", ROWS)
def test_row_boots(boots, name, mode):
    guest = boots.guest(rows, f"{name} {mode}")
    is_well(guest)
    assert guest.told["mode"] == mode


LUPINE = boxes("lupine", LUPINE_SEEDS, memory=64, do="kallsyms,panic")

# The larger kernels run exercises, some of them all, which takes a guest minutes. Four vCPUs share the box's one
# processor, and probes and the tracer stop each of them: only one of the guests with four does that, which takes twice
# as long as with one.
AT_ALL = (1, 2, 11)
SMP = {"microvm": 4, "distro": 4, "judge": 1}     # judge has no ACPI


def worker(kernel, options, cpus=1, what=WHAT):
    return Guest(kernel, options, memory=512, cpus=cpus, seconds=900, append=PATIENT, do=do(*what))


def plain(name):
    def make(kernels):
        return {"plain": worker(kernels.prepared(name), ("--randomize=kaslr",))}
    make.__name__ = f"{name}_plain"
    return make


def large(name, first):
    def make(kernels):
        guests = {}
        for seed in range(first, first + A_BOX_OF_WORKERS):
            cpus = 1 if seed % 2 else SMP[name]
            guests[str(seed)] = worker(kernels.prepared(name), ("--randomize=fgkaslr", "--seed", f"{seed:x}"), cpus,
                                       WHAT if seed in AT_ALL else QUICK)
        return guests
    make.__name__ = f"{name}_{first}"
    return make


PLAIN = {name: plain(name) for name in SMP}
LARGE = []
for name_ in SMP:
    for first_ in range(1, SEEDS + 1, A_BOX_OF_WORKERS):
        group_ = large(name_, first_)
        LARGE += [(name_, group_, str(first_ + n)) for n in range(A_BOX_OF_WORKERS)]


def is_well(guest):
    assert guest.reached, guest.everything()
    assert guest.ended, guest.everything()
    assert guest.fact("warnings") == "0", guest.everything()
    without_complaint(guest)
    assert int(guest.fact("cpus")) == guest.cpus
    assert (guest.text, guest.physical) == (guest.base("virtual_base"), guest.base("physical_base"))
    assert guest.order_is_closed == guest.told["mode"].startswith("fgkaslr")


def asked_of(guest):
    return re.findall(r"exec:/bin/(\w+)", guest.do)


def symbols(guest):
    """How many symbols /proc/kallsyms has, and a checksum of the order of their names."""
    found = re.search(r"^guest: kallsyms symbols=(\d+) order=([0-9a-f]{8})$", guest.out, re.M)
    assert found, guest.everything()
    return found.groups()


def trace(guest):
    """
    Init's part of the panic's call trace, unwound by ORC and named by kallsyms. Frames with a question mark are left
    out: they are leftovers on the stack, which vary.
    """
    lines = guest.out.split("Call Trace:", 1)[1].split("</TASK>", 1)[0]
    return re.findall(r"^(?:\[[ \d.]+\] )? ([\w.]+)\+0x", lines, re.M)


@pytest.mark.parametrize("name", ["bzimage", "vmlinux", "auto", "fgkaslr", "fgkaslr-vmlinux"])
def test_lupine_boots(boots, name):
    guest = boots.guest(lupine_files, name)
    is_well(guest)
    assert guest.told["mode"] == ("kaslr" if name in ("bzimage", "vmlinux") else "fgkaslr+slide" if name == "auto" else "fgkaslr")
    assert guest.offset == guest.base("virtual_base") - guest.base("link_virtual")


def test_lupine_boots_as_linked(boots):
    guest = boots.guest(lupine_files, "off")
    is_well(guest)
    assert (guest.text, guest.told["mode"]) == (LINK_VIRTUAL, "off")


@long_only
@pytest.mark.parametrize("kind, make", [(k, bootstraps(k)) for k in KINDS], ids=KINDS)
def test_bootstrap_of_each_kind(boots, kind, make):
    """Boots, reports its marks in order, and moves the kernel only if allowed."""
    for word in ("kaslr", "nokaslr"):
        guest = boots.guest(make, word)
        assert guest.reached and guest.ended, guest.everything()
        marks = re.findall(r"^riffle: boot-timer: mark (\d+) +([\d.]+) ms$", guest.err, re.M)
        assert [m for m, _ in marks] == ["1", "2", "3", "4", "5"], guest.everything()
        times = [float(t) for _, t in marks]
        assert times == sorted(times)
        # as linked, or at a slot above: one of 500 is the linked one again
        assert guest.text % (2 << 20) == 0 and guest.text >= LINK_VIRTUAL
        assert word == "kaslr" or guest.text == LINK_VIRTUAL, guest.everything()


@long_only
@pytest.mark.parametrize("kind", KINDS)
def test_image_has_the_kernel_to_the_byte(built, programs, kind):
    """Its payload unpacks to the same as that of the kernel's own bzImage; riffle detects the compression and prepares it."""
    def payload(image):
        return subprocess.run([ROOT / "tools" / "extract-vmlinux", image], stdout=subprocess.PIPE, check=True).stdout

    image = built("lupine", "--image", kind)
    assert payload(image) == payload(built("lupine"))
    told = json.loads(programs.riffle("inspect", "--json", image).stdout)
    assert told["compression"] == kind.removesuffix("-optimised")
    assert programs.riffle("prepare", image, "-o", "prepared").returncode == 0


def judge(guest, plain=None):
    """A shuffled guest works, has all its symbols in another order, and the usual trace in a panic."""
    is_well(guest)
    assert guest.told["mode"] == "fgkaslr"
    assert "panic" in trace(guest)[:2] and "do_syscall_64" in trace(guest)
    if plain:
        assert symbols(guest)[0] == symbols(plain)[0] and symbols(guest)[1] != symbols(plain)[1]
        assert trace(guest) == trace(plain)


@pytest.mark.parametrize("make, seed", LUPINE, ids=[s for _, s in LUPINE])
def test_lupine_shuffled(boots, make, seed):
    judge(boots.guest(make, seed), boots.guest(lupine_files, "bzimage"))


def test_lupine_orders_differ(boots):
    guests = [boots.guest(make, seed) for make, seed in LUPINE]
    assert len({symbols(g)[1] for g in guests}) == len(guests)
    assert all(len(g.told["chunks"]) > 10_000 for g in guests)


def test_lupine_bzimage_and_vmlinux_are_one_kernel(boots):
    one, two = boots.guest(lupine_files, "bzimage"), boots.guest(lupine_files, "vmlinux")
    assert symbols(one) == symbols(two) and one.told["kernel"]["build_id"] == two.told["kernel"]["build_id"]


@long_only
@pytest.mark.parametrize("name, make, seed", LARGE, ids=[f"{name}-{seed}" for name, _, seed in LARGE])
def test_large_shuffled(boots, name, make, seed):
    """tests/guest/exercise.c has the same results as in the unshuffled kernel."""
    guest, plain = boots.guest(make, seed), boots.guest(PLAIN[name], "plain")
    for each in (guest, plain):
        is_well(each)
        assert re.findall(r"^guest: exec /bin/(\S+) exit=0$", each.out, re.M) == asked_of(each), each.everything()
    judge(guest)
    assert trace(guest) == trace(plain)
    assert said(guest, "efault") == said(plain, "efault")
    there, here = numbers(plain, "symbols"), numbers(guest, "symbols")
    assert (here["count"], here["sum"], here["unsorted"]) == (there["count"], there["sum"], "0")
    assert here["order"] != there["order"]
    assert numbers(guest, "bpf")["returned"] == numbers(plain, "bpf")["returned"] == "42"
    if "tracer" in asked_of(guest):
        assert numbers(guest, "tracer") == numbers(plain, "tracer")
        assert int(numbers(guest, "kprobes")["set"]) > 100


# ---- without a guest


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n == "lupine" else long_only) for n in NAMES])
def test_kernel_is_verified_and_moves(built, programs, name):
    """Checked by verify; at least 95 % of the bytes of ordinary functions move, few of them together."""
    image, vmlinux = built(name), built(name, "--vmlinux")
    for extra in ((), ("--debug-vmlinux", vmlinux)):
        r = programs.riffle("verify", "-n", str(LAYOUTS), *extra, image, timeout=900)
        assert r.returncode == 0 and r.stdout.count("all right\n") == LAYOUTS, r.stdout + r.stderr
        slid = programs.riffle("verify", "-n", str(LAYOUTS), "--randomize=fgkaslr+slide", *extra, image, timeout=900)
        assert slid.stdout.count("all right\n") == LAYOUTS or (name != "lupine" and "cannot slide apart" in slid.stderr), \
            slid.stdout + slid.stderr
    told = json.loads(programs.riffle("inspect", "--json", "--chunks", image).stdout)["shuffle"]
    assert told["function_bytes_that_move"] >= 0.95 * told["function_bytes"] > 0
    assert told["function_bytes_not_alone"] <= 0.08 * told["function_bytes"]
    assert told["chunk_bytes"]["most"] <= 64 << 10 and told["plan_percent"] <= 10


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n == "lupine" else long_only) for n in NAMES])
def test_each_spoiled_part_is_noticed(built, programs, name):
    """A table of the plan left stale makes the proof fail, for each table that the kernel has."""
    image = built(name)
    parts = spoiled_parts(verify(programs, "--seed", "5901", "--list", "--spoil", "all", image, code=3))
    assert len(parts) >= (17 if name == "lupine" else 20)


# judge has the sections of 6.12 that a shuffle must handle and that lupine lacks.
JUDGES_SECTIONS = {"__bug_table", "__ex_table", "__ksymtab", "__ksymtab_gpl", ".altinstructions", ".call_sites",
                   ".ibt_endbr_seal", ".pci_fixup", ".retpoline_sites", ".return_sites", ".smp_locks", ".orc_unwind_ip",
                   "runtime_ptr_USER_PTR_MAX"}


def sections_of(elf):
    told = subprocess.run(["readelf", "-SW", elf], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"^ +\[ *\d+\] (\S+)", told, re.M))


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n == "lupine" else long_only) for n in NAMES])
def test_three_sources_make_one_plan(built, programs, name):
    """
    The bzImage alone, with a vmlinux with only symbols, and with one that kept its .rela give identical prepared
    kernels. Each relocation in or to code was found without .rela; no reference was found that it lacks.
    """
    image, vmlinux = built(name), built(name, "--vmlinux")
    symbols = programs.directory / "symbols"
    subprocess.run(["objcopy", "--wildcard", "--remove-section=.rela*", vmlinux, symbols], check=True)
    assert ".rela.text" in sections_of(vmlinux) and not [s for s in sections_of(symbols) if s.startswith(".rela")]
    if name == "judge":
        assert JUDGES_SECTIONS <= sections_of(vmlinux), JUDGES_SECTIONS - sections_of(vmlinux)
    made = []
    for extra in ((), ("--debug-vmlinux", symbols), ("--debug-vmlinux", vmlinux)):
        r = programs.riffle("prepare", *extra, "-f", image, "-o", "prepared", timeout=300)
        assert (r.returncode, r.stdout, r.stderr) == (0, "", ""), (extra, r.stderr)
        made.append((programs.directory / "prepared").read_bytes())
    assert made[0] == made[1] == made[2]
    r = programs.run(BUILD / "tests" / "e2e" / "tables", image, vmlinux, timeout=300)
    checked, agree = re.search(r"^judged .* checked (\d+) agree (\d+)$", r.stdout, re.M).groups()
    assert checked == agree and int(checked) > 80_000, r.stdout


def test_objects_of_the_fragment(built):
    """The number of objects that progress is measured against is right within 5 %."""
    log = (built("lupine").parent / "build.log").read_text()
    told = int(re.search(r"^# objects: (\d+)$", (ROOT / "kernels" / "lupine.config").read_text(), re.M).group(1))
    assert abs(len(re.findall(r"^  (?:CC|AS) ", log, re.M)) - told) <= told / 20


def test_vmlinux_keeps_symbols_and_relocations(built):
    sections = subprocess.run(["readelf", "-SW", built("lupine", "--vmlinux")], capture_output=True, text=True,
                              check=True).stdout
    assert " .symtab " in sections and " .rela.text " in sections and " .rela.data " in sections
