# SPDX-License-Identifier: Apache-2.0
"""
Hostile input, for plans with chunks: as test_hostile.py, with functions that move. Each corrupted file has correct
checksums and is refused in one line that names file and field; tests/unit/lib/test_shuffle.c has many more.
"""
import ctypes
import re
import shutil
import struct
import subprocess

import pytest
from test_hostile import check_left_nothing, one_line

# include/riffle/format.h: fields of the header, sections of the plan and their entries
HEADER_CHECKSUM, PLAN_OFFSET, PLAN_BYTES, PLAN_CHECKSUM, BASE_BYTES, SHUFFLE_CHECKSUM = 24, 40, 48, 56, 0x238, 0x240
DIRECTORY, HEADER_BYTES = 0x248, 4096
FEATURES, FEATURE_KALLSYMS_MODE, KALLSYMS_MODE = 16, 128, 0x654
ENTRY = {"regions": (6, 16), "chunks": (7, 16), "groups": (8, 24), "pc_targets": (10, 2), "abs32_refs": (12, 4),
         "fixed32": (14, 4), "fixed32_targets": (15, 2), "tables": (18, 24), "gaps": (19, 4), "site_targets": (20, 2),
         "extable_targets": (21, 4), "kallsyms": (22, 32)}


def xxh3(data):
    function = ctypes.CDLL("libxxhash.so.0").XXH3_64bits
    function.restype, function.argtypes = ctypes.c_uint64, (ctypes.c_char_p, ctypes.c_size_t)
    return function(bytes(data), len(data))


class Plan:
    """Header and plan of a prepared kernel, to be changed and written back; the kernel's bytes are unchanged."""

    def __init__(self, path):
        self.path = path
        with path.open("rb") as f:
            self.header = bytearray(f.read(HEADER_BYTES))
            f.seek(self.get(PLAN_OFFSET))
            self.bytes = bytearray(f.read(self.get(PLAN_BYTES)))
        self.good = bytes(self.header), bytes(self.bytes)

    def get(self, offset):
        return struct.unpack_from("<Q", self.header, offset)[0]

    def put(self, offset, value):
        struct.pack_into("<Q", self.header, offset, value)

    def mode(self):
        return struct.unpack_from("<I", self.header, KALLSYMS_MODE)[0]

    def set_mode(self, value):
        struct.pack_into("<I", self.header, KALLSYMS_MODE, value)

    def count(self, section):
        return self.get(DIRECTORY + 16 * ENTRY[section][0] + 8)

    def set_count(self, section, value):
        self.put(DIRECTORY + 16 * ENTRY[section][0] + 8, value)

    def at(self, section, index):
        number, size = ENTRY[section]
        return self.get(DIRECTORY + 16 * number) + index % self.count(section) * size

    def change(self, section, index, offset, form, change):
        """A field of an entry, the last one's where index is -1."""
        at = self.at(section, index) + offset
        value, = struct.unpack_from(form, self.bytes, at)
        struct.pack_into(form, self.bytes, at, change(value) & (1 << 8 * struct.calcsize(form)) - 1)

    def write(self):
        base = self.get(BASE_BYTES)
        self.put(PLAN_CHECKSUM, xxh3(self.bytes[:base]))
        self.put(SHUFFLE_CHECKSUM, xxh3(self.bytes[base:]))
        self.put(HEADER_CHECKSUM, 0)
        self.put(HEADER_CHECKSUM, xxh3(self.header))
        with self.path.open("r+b") as f:
            f.write(self.header)
            f.seek(self.get(PLAN_OFFSET))
            f.write(self.bytes)

    def restore(self):
        self.header, self.bytes = map(bytearray, self.good)


def entry(section, index, offset, form, change):
    return lambda plan: plan.change(section, index, offset, form, change)


def fewer(section, by=1):
    return lambda plan: plan.set_count(section, plan.count(section) - by)


def absent(plan):
    """The number of chunks is the first invalid index that is not a marker for fixed code either."""
    return plan.count("chunks") + 1


def to_absent(section, offset):
    return lambda plan: plan.change(section, 3, offset, "<H", lambda _: absent(plan))


def chunk_twice(plan):
    """A chunk that repeats its neighbour, so that two cover the same bytes."""
    one, two = plan.at("chunks", 5), plan.at("chunks", 6)
    plan.bytes[two:two + 16] = plan.bytes[one:one + 16]


def mode(change):
    return lambda plan: plan.set_mode(change(plan.mode()))


def no_mode(plan, place=0):
    """As prepared by an earlier riffle; with a place it lies."""
    plan.put(FEATURES, plan.get(FEATURES) & ~FEATURE_KALLSYMS_MODE)
    plan.set_mode(place)


ROWS = [
    # what overlaps
    ("chunk runs into the next", entry("chunks", 5, 4, "<H", lambda n: n + 1), "chunk"),
    ("chunk twice", chunk_twice, "chunk"),
    ("table lies over chunks", entry("tables", 0, 4, "<I", lambda _: 0x200000), "area"),
    ("field in a fixed place inside a chunk", entry("fixed32", 0, 0, "<I", lambda _: 0x200000), "fixed32|area"),
    ("regions overlap", entry("regions", 1, 0, "<I", lambda n: n - 16), "region|chunk"),
    # what is out of range
    ("chunk outside its region", entry("chunks", 5, 0, "<I", lambda _: 0x3FFFFFF0), "chunk"),
    ("chunk of no bytes", entry("chunks", 5, 4, "<H", lambda _: 0), "chunk"),
    ("chunk off its alignment", entry("chunks", 5, 0, "<I", lambda n: n + 8), "chunk"),
    ("region outside the image", entry("regions", 0, 0, "<I", lambda _: 0x3FFFFFF0), "region|chunk"),
    ("region larger than its chunks", entry("regions", -1, 4, "<I", lambda n: n + 16), "region"),
    ("table outside the image", entry("tables", 0, 4, "<I", lambda _: 0x3FFFFFF0), "table entries"),
    ("field in a fixed place outside", entry("fixed32", -1, 0, "<I", lambda _: 0x3FFFFFF0), "fixed32"),
    ("kallsyms outside the image", entry("kallsyms", 0, 12, "<I", lambda _: 0x3FFFFFF0), "kallsyms"),
    # counts that are wrong
    ("one chunk fewer", fewer("chunks"), "chunks?|regions?|groups?"),
    ("no chunks", lambda plan: fewer("chunks", plan.count("chunks"))(plan), "chunks"),
    ("more chunks than the plan has bytes", lambda plan: plan.set_count("chunks", 1 << 60), "chunks"),
    ("region of one chunk more", entry("regions", 0, 12, "<I", lambda n: n + 1), "region|chunk"),
    ("group of one chunk more", entry("groups", 3, 0, "<I", lambda n: n + 1), "groups?|pc_targets"),
    ("group of more references", entry("groups", 3, 8, "<I", lambda n: n + 1), "pc_targets"),
    ("one reference fewer", fewer("pc_targets"), "pc_targets|groups"),
    ("table of one entry more", entry("tables", 0, 12, "<I", lambda n: n + 1), "tables?|chunks|site_targets"),
    ("chunk with more of a table", entry("chunks", 9, 6, "<H", lambda n: n + 1), "tables?"),
    ("chunk with more symbols", entry("chunks", 9, 12, "<H", lambda n: n + 1), "kallsyms"),
    ("kallsyms of one symbol more", entry("kallsyms", 0, 4, "<I", lambda n: n + 1), "kallsyms|gaps"),
    ("kallsyms of four thousand million", entry("kallsyms", 0, 4, "<I", lambda _: 0xFFFFFFFF), "kallsyms"),
    ("longer names", entry("chunks", 9, 14, "<H", lambda n: n + 1), "kallsyms names"),
    # references to nothing
    ("target of a branch", to_absent("pc_targets", 0), "pc_targets"),
    ("target of an absolute field", to_absent("abs32_refs", 2), "abs32_refs"),
    ("target of a field in a fixed place", to_absent("fixed32_targets", 0), "fixed32_targets"),
    ("target of a site", to_absent("site_targets", 0), "site_targets"),
    ("target of an exception", to_absent("extable_targets", 0), "extable_targets"),
    ("fields in no order", entry("fixed32", 1, 0, "<I", lambda _: 0), "fixed32"),
    ("a kind of table nobody knows", entry("tables", 0, 0, "<I", lambda _: 77), "table kind"),
    # the mode of /proc/kallsyms
    ("mode outside the image", mode(lambda _: 0x3FFFFFF0), "kallsyms_mode"),
    ("mode in a chunk", mode(lambda _: 0x200000), "kallsyms_mode"),
    ("mode in a field", mode(lambda n: n + 6), "kallsyms_mode"),     # the name's address
    ("mode that the features deny", lambda plan: no_mode(plan, plan.mode()), "kallsyms_mode"),
]


@pytest.fixture(scope="module")
def plan(forms, tmp_path_factory):
    path = tmp_path_factory.mktemp("hostile") / "prepared"
    subprocess.run(["cp", "--sparse=always", forms.prepared("cloud-6.1"), path], check=True)
    path.chmod(0o600)
    return Plan(path)


@pytest.fixture
def fresh(plan):
    plan.restore()
    yield plan
    plan.restore()


def commands(path):
    return (["run", "--accept-emulation", "-r", "fgkaslr", path], ["run", "--accept-emulation", path], ["prepare", "--check", path], ["inspect", "--chunks", path])


def test_what_was_only_sealed_again_is_good(programs, fresh):
    """Otherwise every row below might fail because of a checksum."""
    fresh.write()
    r = programs.riffle("inspect", "--chunks", fresh.path)
    assert (r.returncode, r.stderr) == (0, ""), r.stderr
    r = programs.riffle("run", "-r", "fgkaslr", "-m", "32M", "--accept-emulation", fresh.path)
    assert r.returncode == 1 and ": guest memory: " in one_line(r.stderr), r.stderr    # the plan passes


@pytest.mark.parametrize("tell, expected", [pytest.param(*row[1:], id=row[0]) for row in ROWS])
def test_row(programs, fresh, tell, expected):
    tell(fresh)
    assert (bytes(fresh.header), bytes(fresh.bytes)) != fresh.good
    fresh.write()
    for command in commands(fresh.path):
        r = programs.riffle(*command)
        assert r.returncode == 1 and r.stdout == "", (command, r.stdout, r.stderr)
        assert re.fullmatch(rf"riffle: {re.escape(str(fresh.path))}: ({expected}): .*", one_line(r.stderr)), r.stderr
        check_left_nothing(programs, [])


OPEN = "riffle: notice: where this kernel sets the mode of /proc/kallsyms is not known"


def emit(programs, kernel, mode="fgkaslr"):
    (programs.directory / "emitted").unlink(missing_ok=True)
    return programs.riffle("emit", "-o", "emitted", "-m", "512M", f"--randomize={mode}", kernel)


def test_kernel_that_leaves_kallsyms_open_is_told(programs, fresh):
    """By whatever shuffles it, and by nothing else."""
    def inspected(*options):
        return programs.riffle("inspect", *options, fresh.path).stdout

    for closed in (True, False):
        if not closed:
            no_mode(fresh)
        fresh.write()
        assert (f'"closes_kallsyms": {str(closed).lower()}') in inspected("--json")
        assert re.search("^/proc/kallsyms +closed to users" if closed else "^/proc/kallsyms +open to users", inspected(), re.M)
        for mode, told in (("fgkaslr", not closed), ("kaslr", False)):
            for r in (emit(programs, fresh.path, mode),
                      programs.riffle("prepare", "--bootstrap", "--force", f"--randomize={mode}", fresh.path, "-o", "self")):
                assert r.returncode == 0 and (OPEN in r.stderr) == told, r.stderr


def test_mode_that_is_none(programs, fresh):
    """It is the load that sees what is there, and only a load that would change it."""
    fresh.set_mode(fresh.mode() + 1)
    fresh.write()
    r = emit(programs, fresh.path)
    assert r.returncode == 1 and ": kallsyms_mode: leads to what is not the file's mode (found " in r.stderr, r.stderr
    assert r.stderr.rstrip().endswith("expected 292)"), r.stderr
    assert emit(programs, fresh.path, "kaslr").returncode == 0


def test_every_bit_of_the_shuffles_part_counts(programs, fresh):
    """With the old checksum, which detects the change before any of that part is used."""
    base, end = fresh.get(BASE_BYTES), fresh.get(PLAN_BYTES)
    fresh.write()
    for place in [base, *range(base + 7, end, (end - base) // 40), end - 1]:
        with fresh.path.open("r+b") as f:
            f.seek(fresh.get(PLAN_OFFSET) + place)
            f.write(bytes([fresh.bytes[place] ^ 0x40]))
            f.flush()
            r = programs.riffle("run", "--accept-emulation", "-r", "fgkaslr", fresh.path)
            assert r.returncode == 1 and ": shuffle_checksum: " in one_line(r.stderr), (place, r.stderr)
            f.seek(fresh.get(PLAN_OFFSET) + place)
            f.write(fresh.bytes[place:place + 1])


def test_cut_short(programs, fresh):
    """In the shuffle's part and right after it."""
    fresh.write()
    start = fresh.get(PLAN_OFFSET)
    for place in (start + fresh.get(BASE_BYTES), start + fresh.get(BASE_BYTES) + 1000, start + fresh.get(PLAN_BYTES)):
        cut = programs.directory / "cut"
        with fresh.path.open("rb") as f:
            cut.write_bytes(f.read(place))
        for command in commands("cut"):
            r = programs.riffle(*command)
            assert r.returncode == 1 and r.stdout == "", (command, r.stdout)
            assert one_line(r.stderr).startswith("riffle: cut: "), r.stderr


# ---- a kallsyms that lies


class Lying:
    """Debian's kernel as an ELF file, and where its kallsyms is according to a plan of the intact kernel."""

    def __init__(self, elf, relocs, plan, directory):
        self.relocs, self.path = relocs, directory / "elf"
        shutil.copyfile(elf, self.path)
        fields = struct.unpack_from("<8I", plan.bytes, plan.at("kallsyms", 0))
        self.symbols, self.offsets, self.names, self.names_bytes, self.markers = fields[1:6]
        with self.path.open("rb") as f:
            head = f.read(4096)
        at, count = struct.unpack_from("<Q", head, 32)[0], struct.unpack_from("<H", head, 56)[0]
        self.loads = [struct.unpack_from("<IIQQQQ", head, at + 56 * i) for i in range(count)]
        self.base = min(load[4] for load in self.loads if load[0] == 1)

    def change(self, image_offset, form, change):
        for kind, _, offset, _, physical, size in self.loads:
            if kind == 1 and 0 <= image_offset - (physical - self.base) < size:
                with self.path.open("r+b") as f:
                    f.seek(offset + image_offset - (physical - self.base))
                    value, = struct.unpack(form, f.read(struct.calcsize(form)))
                    f.seek(-struct.calcsize(form), 1)
                    f.write(struct.pack(form, change(value)))
                return
        raise AssertionError(hex(image_offset))


@pytest.fixture
def lying(forms, plan, tmp_path):
    return Lying(*forms.split("cloud-6.1"), plan, tmp_path)


@pytest.mark.parametrize("lie", ["names", "markers", "order"])
def test_kallsyms_that_contradicts_itself(programs, lying, lie):
    """A requested shuffle is refused with the reason; otherwise the best available mode is used."""
    if lie == "names":
        lying.change(lying.names, "<B", lambda n: n + 1)     # how long the first one is
    elif lie == "markers":
        lying.change(lying.markers + 40, "<I", lambda n: n + 1)
    else:
        lying.change(lying.offsets + 4 * (lying.symbols // 2), "<i", lambda n: 0x7FFFFFFF)
    r = programs.riffle("run", "--accept-emulation", "-m", "32M", "-r", "fgkaslr", "--relocs", lying.relocs, lying.path)
    assert r.returncode == 1 and "kallsyms" in one_line(r.stderr), r.stderr
    r = programs.riffle("inspect", "--relocs", lying.relocs, lying.path)
    assert r.returncode == 0 and re.search("^shuffle +impossible: .*kallsyms", r.stdout, re.M), r.stdout


@pytest.mark.parametrize("distance", [16, 5, -16])
def test_kallsyms_with_wrong_places(programs, lying, distance):
    """
    Wrong symbol addresses: the code shows the truth, and code that cannot be explained stays fixed or together. So the
    load is still correct, by objdump, or there is no shuffle.
    """
    for part in range(1, 40):
        lying.change(lying.offsets + 4 * (lying.symbols * part // 120), "<i", lambda n: n + distance)
    r = programs.riffle("prepare", "--relocs", lying.relocs, lying.path, "-o", "prepared")
    assert (r.returncode, r.stderr) == (0, "")
    told = programs.riffle("inspect", "prepared").stdout
    if re.search(r"^shuffle +impossible: \w", told, re.M):
        return
    for mode in ["fgkaslr"] if re.search(r"^slides +impossible: \w", told, re.M) else ["fgkaslr", "fgkaslr+slide"]:
        r = programs.riffle("verify", f"--randomize={mode}", "--prepared", "prepared", "--count", "2", "--relocs",
                            lying.relocs, lying.path, timeout=300)
        assert r.returncode == 0 and r.stdout.count("all right\n") == 2, r.stdout + r.stderr
