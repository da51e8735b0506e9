# SPDX-License-Identifier: Apache-2.0
"""Stock Linux kernels reach user space, are located where riffle says, and end as they request."""
import json
import re
import struct
import subprocess

import pytest
from conftest import RIFFLE
from guests import LINK_VIRTUAL, LONG, MEMORY_BASES, Boots, Guest

MIB = 1 << 20
GIB = 1 << 30

long_only = pytest.mark.skipif(not LONG, reason="one of the long tests: RIFFLE_LONG is not set")


@pytest.fixture(scope="module")
def boots(request, guest_initrd, forms, tmp_path_factory):
    """Starts the guests that the selected tests will need."""
    boots = Boots(guest_initrd, forms, tmp_path_factory.mktemp("boots"))
    for item in request.session.items:
        if item.module is request.module and not any(m.args[0] for m in item.iter_markers("skipif")):
            for mark in item.iter_markers("guests"):
                boots.start(mark.args[0])
    yield boots
    boots.close()


# ---- the guests; a group runs in one box, one guest after the other


def files(forms):
    """One kernel in every file format."""
    elf, relocs = forms.split("cloud-6.1")
    return {
        "bzimage": Guest(forms.fetch("cloud-6.1"), ("--seed", "feed")),
        "prepared": Guest(forms.prepared("cloud-6.1"), ("--seed", "feed")),
        "rela": Guest(forms.prepared("cloud-6.1-dbg"), memory=512, do="reboot"),
        "relocs": Guest(elf, ("--relocs", relocs), memory=512, do="poweroff"),
        "appended": Guest(forms.appended("cloud-6.1")),
        "physical": Guest(elf, ("--randomize=physical",), memory=512),
        "off": Guest(elf, ("--randomize=off",)),
    }


def sizes(forms):
    """Memory sizes and processor counts."""
    kernel = forms.prepared("cloud-6.1")
    told = json.loads(subprocess.run([RIFFLE, "inspect", "--json", kernel], capture_output=True, check=True).stdout)
    high = {"riffle_layout": 1, "mode": "kaslr", "physical_base": hex(4 * GIB + 514 * MIB),
            "virtual_base": hex(LINK_VIRTUAL + 402 * MIB), "link_physical": told["link_physical"],
            "link_virtual": told["link_virtual"], "image_bytes": told["image_bytes"],
            "kernel": {"content_digest": told["content_digest"]}}
    return {
        "128M": Guest(kernel, memory=128),
        "512M-4": Guest(kernel, memory=512, cpus=4),
        "5G-4": Guest(kernel, memory=5 * 1024, cpus=4, layout=high),
        "bootstrap": Guest(forms.fetch("cloud-6.1"), ("--boot=bootstrap",)),
        "nokaslr": Guest(kernel, append="nokaslr"),
    }


def kernels(forms):
    """The other stock kernels."""
    return {
        "generic-6.1": Guest(forms.fetch("generic-6.1"), memory=512),
        "cloud-6.12": Guest(forms.fetch("cloud-6.12"), memory=512, cpus=4),
        "generic-6.1-prepared": Guest(forms.prepared("generic-6.1"), memory=256, cpus=4, do="poweroff"),
        "cloud-6.12-prepared": Guest(forms.prepared("cloud-6.12"), memory=128, do="reboot"),
    }


def every_size(forms):
    return {f"{kernel}-{memory}-{cpus}": Guest(forms.prepared(kernel), memory=memory, cpus=cpus)
            for kernel in ("cloud-6.1", "generic-6.1", "cloud-6.12") for memory in (128, 512, 5 * 1024)
            for cpus in (1, 4)}


def many(forms):
    """Twenty layouts, and the other kernels' own bootstraps."""
    guests = {str(n): Guest(forms.prepared("cloud-6.1")) for n in range(20)}
    for kernel in ("generic-6.1", "cloud-6.12"):
        guests[f"bootstrap-{kernel}"] = Guest(forms.fetch(kernel), ("--boot=bootstrap",), memory=512)
    return guests


RANDOMISED = [(files, name) for name in ("bzimage", "prepared", "rela", "relocs", "appended")]
RANDOMISED += [(sizes, name) for name in ("128M", "512M-4", "5G-4")]
RANDOMISED += [(kernels, name) for name in ("generic-6.1", "generic-6.1-prepared", "cloud-6.12", "cloud-6.12-prepared")]
RANDOMISED_LONG = [(every_size, f"{kernel}-{memory}-{cpus}") for kernel in ("cloud-6.1", "generic-6.1", "cloud-6.12")
                   for memory in (128, 512, 5 * 1024) for cpus in (1, 4)]
RANDOMISED_LONG += [(many, str(n)) for n in range(20)]


def each(guests, *more):
    return [pytest.param(make, name, id=f"{make.__name__}-{name}", marks=[pytest.mark.guests.with_args(make), *more])
            for make, name in guests]


# ---- what holds for every guest


def is_well(guest):
    assert guest.reached, guest.everything()
    assert guest.ended, guest.everything()
    assert guest.fact("warnings") == "0", guest.everything()
    assert int(guest.fact("cpus")) == guest.cpus
    # memory that the kernel keeps: its image, 64 bytes for each page, bounce buffers where it goes above 4 GiB
    total, memory = int(guest.fact("memtotal_kib")) << 10, guest.memory * MIB
    kept = memory // 40 + (64 if memory < 3 * GIB else 128) * MIB
    assert memory - kept < total < memory


def lies_as_told(guest):
    assert guest.text == guest.base("virtual_base")
    assert guest.physical == guest.base("physical_base")


def is_in_bounds(guest):
    virtual, physical = guest.base("virtual_base"), guest.base("physical_base")
    image = guest.told["image_bytes"]
    assert virtual % (2 * MIB) == physical % (2 * MIB) == 0
    assert LINK_VIRTUAL <= virtual <= 0xFFFFFFFFC0000000 - image
    assert 16 * MIB <= physical <= guest.memory * MIB + (GIB if guest.memory > 3072 else 0) - image


@pytest.mark.parametrize("make, name", each(RANDOMISED) + each(RANDOMISED_LONG, long_only))
def test_randomised(boots, make, name):
    guest = boots.guest(make, name)
    is_well(guest)
    # auto takes the most that a kernel allows, and each of these can be shuffled and slide; the replayed layout is plain KASLR
    assert guest.told["mode"] == ("kaslr" if guest.layout else "fgkaslr+slide")
    lies_as_told(guest)
    is_in_bounds(guest)
    if guest.do == "panic":
        assert guest.offset == guest.base("virtual_base") - guest.base("link_virtual")
    # what a user would read is the order of functions, where that is a secret; their init does nothing about it
    assert guest.order_is_closed == (guest.told["mode"] != "kaslr")
    # KASLR_FLAG: the kernel also randomises its direct map
    assert guest.memory_bases != MEMORY_BASES
    assert guest.page_offset % GIB == 0
    if "--seed" not in guest.options and not guest.layout:
        assert "predictable" not in guest.err


@pytest.mark.guests.with_args(files)
@pytest.mark.guests.with_args(sizes)
def test_names_are_open_where_their_order_is_no_secret(boots):
    for make, name in ((files, "physical"), (files, "off"), (sizes, "nokaslr"), (sizes, "bootstrap")):
        assert not boots.guest(make, name).order_is_closed


@pytest.mark.guests.with_args(files)
@pytest.mark.guests.with_args(sizes)
@pytest.mark.guests.with_args(kernels)
def test_layouts_and_direct_maps_differ(boots):
    """Two of ten layouts may coincide once in a thousand runs; those given by --seed or --layout are left out."""
    guests = [boots.guest(*g) for g in RANDOMISED]
    free = [g for g in guests if "--seed" not in g.options and not g.layout]
    assert len({(g.text, g.physical) for g in free}) >= len(free) - 1
    assert len({g.text for g in free}) > 1 and len({g.physical for g in free}) > 1
    assert len({g.memory_bases for g in guests}) == len(guests)


@pytest.mark.guests.with_args(files)
def test_seed_replays_the_layout_and_nothing_else(boots):
    one, two = boots.guest(files, "bzimage"), boots.guest(files, "prepared")
    assert one.told == two.told
    assert (one.text, one.physical, one.offset) == (two.text, two.physical, two.offset)
    # the guest's own secrets do not come from the seed
    assert one.memory_bases != two.memory_bases
    for guest in (one, two):
        assert "replayed from --seed: predictable" in guest.err


@pytest.mark.guests.with_args(sizes)
def test_above_four_gib(boots):
    guest = boots.guest(sizes, "5G-4")
    assert guest.base("physical_base") == guest.physical == int(guest.layout["physical_base"], 16) > 4 * GIB
    assert guest.text == int(guest.layout["virtual_base"], 16)
    assert "replayed from --layout: predictable" in guest.err


@pytest.mark.guests.with_args(files)
def test_physical_only(boots):
    guest = boots.guest(files, "physical")
    is_well(guest)
    lies_as_told(guest)
    is_in_bounds(guest)
    assert guest.told["mode"] == "physical"
    assert guest.text == LINK_VIRTUAL
    assert guest.offset == "disabled"
    assert guest.memory_bases == MEMORY_BASES


@pytest.mark.guests.with_args(files)
@pytest.mark.guests.with_args(sizes)
@pytest.mark.parametrize("make, name", [(files, "off"), (sizes, "nokaslr")])
def test_off(boots, make, name):
    guest = boots.guest(make, name)
    is_well(guest)
    lies_as_told(guest)
    assert guest.told["mode"] == "off"
    assert (guest.text, guest.physical) == (LINK_VIRTUAL, 16 * MIB)
    assert guest.offset == "disabled"
    assert guest.memory_bases == MEMORY_BASES
    notice = "riffle: notice: nokaslr on the command line: the kernel is not randomised\n"
    assert (notice in guest.err) == (name == "nokaslr")


@pytest.mark.parametrize("make, name", each([(sizes, "bootstrap")]) +
                         each([(many, f"bootstrap-{k}") for k in ("generic-6.1", "cloud-6.12")], long_only))
def test_bootstrap(boots, make, name):
    """A bzImage booted as such randomises itself, with its own granularity."""
    guest = boots.guest(make, name)
    is_well(guest)
    assert guest.offset == guest.text - LINK_VIRTUAL
    assert guest.physical >= 16 * MIB
    assert guest.memory_bases != MEMORY_BASES


@pytest.mark.guests.with_args(files)
@pytest.mark.guests.with_args(sizes)
def test_command_line(boots, programs):
    """The default given by --help arrives, followed by what is appended."""
    default = re.search(r"^Default command line:\n  (.*)$", programs.riffle("run", "--help").stdout, re.M).group(1)
    assert boots.guest(files, "prepared").fact("cmdline") == default + " quiet riffle.do=panic"
    assert boots.guest(sizes, "nokaslr").fact("cmdline") == default + " quiet nokaslr riffle.do=panic"


# ---- without a guest


def test_rela_gives_the_bzimages_own_list(forms):
    """The relocations derived from the debug vmlinux's .rela sections equal those in the bzImage of the same build."""
    payload = forms.split("cloud-6.1")[1].read_bytes()
    lists = []
    for word in struct.unpack(f"<{len(payload) // 4}I", payload):
        if word:
            lists[-1].append(word - (LINK_VIRTUAL & 0xFFFFFFFF))
        else:
            lists.append([])
    own = {"64": lists[0], "32": lists[-1], "inverse": lists[1] if len(lists) == 3 else []}

    prepared = forms.prepared("cloud-6.1-dbg").read_bytes()
    plan, = struct.unpack_from("<Q", prepared, 40)          # include/riffle/format.h
    derived = {}
    for section, name in ((2, "64"), (3, "32"), (4, "inverse")):
        offset, count = struct.unpack_from("<QQ", prepared, 0x248 + 16 * section)
        derived[name] = list(struct.unpack_from(f"<{count}I", prepared, plan + offset))
    assert len(own["64"]) > 50_000 and len(own["32"]) > 20_000
    assert derived == own

    def digest(kernel):
        r = subprocess.run([RIFFLE, "inspect", "--json", kernel], capture_output=True, check=True)
        return json.loads(r.stdout)["content_digest"]

    assert digest(forms.prepared("cloud-6.1-dbg")) == digest(forms.prepared("cloud-6.1"))


@pytest.mark.parametrize("mode", ["auto", "kaslr"])
def test_no_relocations_no_kaslr(programs, forms, mode):
    elf, _ = forms.split("cloud-6.1")
    r = programs.riffle("run", "--accept-emulation", "--randomize", mode, elf)
    assert (r.returncode, r.stdout) == (1, "")
    assert re.fullmatch(rf"riffle: {re.escape(str(elf))}: relocations: [^\n]*\n", r.stderr), r.stderr
    assert mode != "auto" or "--randomize=physical" in r.stderr
