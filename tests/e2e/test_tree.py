# SPDX-License-Identifier: Apache-2.0
"""The tree respects its component boundaries (includes), and riffle-format(5) agrees with format.h."""
import os
import re
import subprocess

from conftest import ROOT

# Each component, and those whose headers it may include in addition to its own and the public ones (<riffle/...>).
# "lib/common" has stateless helpers, open to all. A rule that names a header opens only that file of a component.
LAYERS = {
    "lib/common": [],
    "lib/plan": [],
    "lib/layout": [],
    "lib/load": ["lib/plan"],
    "lib/boot": [],
    "stage": ["lib/layout"],
    "guest": [],
    "initramfs": ["guest"],
    "prepare/image": ["stage/stage.h"],
    "prepare/symbols": [],
    "prepare/shuffle": ["prepare/image", "prepare/symbols"],
    "prepare/strength": ["prepare/image", "prepare/shuffle"],
    "prepare/verify": ["prepare/image"],
    "prepare/analysis": ["prepare/image", "prepare/shuffle"],
    "monitor": [],
    "monitor/confine": [],
    "monitor/event": [],
    "monitor/bus": [],
    "monitor/core": ["monitor", "monitor/confine"],
    "monitor/platform": ["monitor", "monitor/core", "monitor/bus", "monitor/confine", "monitor/virtio/limiter.h", "guest"],
    "monitor/virtio": ["monitor", "monitor/core", "monitor/bus", "monitor/event", "monitor/confine"],
    "monitor/debug": ["monitor/core"],
    "monitor/snapshot": ["monitor/*"],
    "host": [],
    "kernel": ["host", "stage", "prepare/*"],
    "machine": ["host", "kernel/kernel.h", "monitor/*"],
    "api/mmds": ["api", "monitor/event", "monitor/virtio"],
    "api": ["api/mmds", "host", "kernel", "machine", "monitor/*"],
    "jailer": [],
    "cli": ["cli/*", "api", "host", "kernel", "machine", "monitor/*", "initramfs", "guest", "stage", "prepare/*"],
    "bench": ["cli/commands/emit_image.h", "bench/*", "cli", "host", "kernel", "guest", "stage", "prepare/*", "monitor/*"],
    "examples": [],
}
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"([^"]+)"', re.M)


def sources():
    told = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.c", "*.h"], cwd=ROOT, check=True,
                          capture_output=True, text=True)
    return [name for name in told.stdout.split() if not name.startswith(("tests/", "bindings/")) and (ROOT / name).exists()]


def component(path):
    """The longest of a file's directories in the table; cli's subdirectories are components without an entry."""
    directory = os.path.dirname(path)
    if directory.startswith("cli/"):
        return directory
    while directory and directory not in LAYERS:
        directory = os.path.dirname(directory)
    return directory


def allowed(owner, header):
    table = LAYERS.get(owner, LAYERS["cli"] if owner.startswith("cli/") else [])
    theirs = component(header)
    return theirs in (owner, "lib/common") or any(
        rule in (header, theirs) or (rule.endswith("/*") and (header.startswith(rule[:-1]) or theirs == rule[:-2]))
        for rule in table)


def resolve(path, name, names):
    """The file in the tree that an include resolves to; None for generated ones."""
    for candidate in (name, f"lib/{name}", os.path.join(os.path.dirname(path), name)):
        if os.path.normpath(candidate) in names:
            return os.path.normpath(candidate)
    return None


def crossings(files):
    """{(file, header)} of includes that the table does not allow, for {path: text}."""
    found = set()
    for path, text in files.items():
        for name in INCLUDE.findall(text):
            header = resolve(path, name, files)
            if header and not allowed(component(path), header):
                found.add((path, header))
    return found


def test_every_include_is_one_that_the_table_allows():
    files = {name: (ROOT / name).read_text(encoding="utf-8") for name in sources()}
    assert len(files) > 200
    assert not [name for name in files if not component(name) and not name.startswith(("include/", "tools/"))]
    assert not crossings(files), "includes across a boundary"


def test_a_crossing_is_noticed():
    """Checks the table itself for rules that are too wide."""
    headers = dict.fromkeys(["lib/load/shuffle.h", "lib/plan/areas.h", "lib/boot/internal.h", "lib/common/bytes.h", "kernel/kernel.h",
                             "monitor/virtio/limiter.h", "monitor/virtio/queue.h", "prepare/image/image.h"], "")
    wrong = {"prepare/shuffle/a.c": '#include "load/shuffle.h"\n', "prepare/image/b.c": '# include "plan/areas.h"\n',
             "lib/plan/c.c": '#include "prepare/image/image.h"\n', "monitor/core/d.c": '#include "kernel/kernel.h"\n',
             "monitor/platform/e.c": '#include "monitor/virtio/queue.h"\n'}
    right = {"prepare/shuffle/f.c": '#include "common/bytes.h"\n#include "prepare/image/image.h"\n',
             "lib/load/g.c": '#include "plan/areas.h"\n', "monitor/platform/h.c": '#include "monitor/virtio/limiter.h"\n'}
    assert {path for path, _ in crossings({**headers, **wrong, **right})} == set(wrong)


# ---- riffle-format(5) against format.h


def header_constants():
    """{name: value} of the numbers that format.h defines."""
    text = (ROOT / "include" / "riffle" / "format.h").read_text(encoding="utf-8")
    number = r"\(?(\d+)u?l?(?: *<< *(\d+))?\)?"
    found = {}
    for name, value, shift in re.findall(rf"^#define RIFFLE_(\w+) {number}(?=\s|$)", text, re.M):
        found[name] = int(value) << int(shift or 0)
    for name, value in re.findall(r"^\s+RIFFLE_(\w+) =\s*(\d+),", text, re.M):
        found[name] = int(value)
    return found


def size(of):
    for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if of % (1 << shift) == 0:
            return f"{of >> shift} {unit}"
    return f"{of} bytes"


def page():
    text = (ROOT / "man" / "riffle-format.5").read_text(encoding="utf-8")
    return re.sub(r"\s+", " ", re.sub(r"^\.(?:Dv|Va|Ar|Qq|Pp|It|Nm|In) ?", "", text, flags=re.M))


def test_the_format_page_says_what_the_header_says():
    told, constants = page(), header_constants()
    assert f"format's version, which is {constants['FORMAT_VERSION']}," in told
    assert f"{constants['HEADER_BYTES']} bytes at offset 0" in told
    assert f"Begins at a multiple of {size(constants['PAYLOAD_ALIGN'])}." in told
    assert f"image is shorter than {size(constants['IMAGE_MAX'])}, a plan not longer than {size(constants['PLAN_MAX'])}" in told
    assert f"stored in pieces of {size(constants['FRAME_BYTES_MAX'])}," in told
    assert f"decompresses to at most {size(constants['FRAME_BYTES_MAX'])}" in told
    assert re.search(rf"group[^.]*{size(constants['GROUP_BYTES_MAX'])}", told)


def test_the_format_page_names_every_feature_and_section():
    told, constants = page(), header_constants()
    features = [name for name in constants if name.startswith("FEATURE_") and name != "FEATURES_KNOWN"]
    assert len(features) >= 3 and not [name for name in features if f"RIFFLE_{name}" not in told]
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    assert re.search(rf"Version {constants['FORMAT_VERSION']} has {words[len(features)]}\b", told)
    # the page groups sections; each has to be in one of its groups
    groups = {"segments": ["SEGMENTS"], "extents": ["EXTENTS"], "relocations": ["RELOC64", "RELOC32", "RELOC32_INVERSE"],
              "frames": ["FRAMES"], "regions": ["REGIONS"], "chunks": ["CHUNKS"], "groups": ["GROUPS"],
              "references": ["PC_STEPS", "PC_TARGETS", "OWN_STEPS", "ABS32_REFS", "ABS64_REFS", "FIXED32", "FIXED32_TARGETS", "FIXED64",
                             "FIXED64_TARGETS"],
              "tables": ["TABLES", "GAPS", "SITE_TARGETS", "EXTABLE_TARGETS", "KALLSYMS"],
              "blocks": ["BLOCKS"], "crossing fields": ["CROSS32", "CROSS32_BLOCKS"], "tables of crossing fields": ["CROSS_TABLES"]}
    sections = {name.removeprefix("SECTION_") for name in constants if name.startswith("SECTION_")} - {"COUNT", "SLOTS"}
    assert sections == {name for names in groups.values() for name in names}
    assert len(sections) == constants["SECTION_COUNT"]
    assert not [word for word in groups if word not in told]
