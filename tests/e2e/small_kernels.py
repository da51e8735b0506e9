# SPDX-License-Identifier: Apache-2.0
"""Kernels of a few pages in every file format, intact or broken in one place, built with struct alone."""
import bz2
import dataclasses
import gzip
import lzma
import struct

PAGE = 4096
LINK_PHYS = 0x1000000
MAP = 0xFFFFFFFF80000000
LINK_VIRT = MAP + LINK_PHYS
MASK = (1 << 64) - 1

# mov $0xfe, %al; out %al, $0x64; then wait: a guest that resets at once by the keyboard controller
RESET_CODE = b"\xb0\xfe\xe6\x64\xf4\xeb\xfd"

SETUP_SECTS = 3
SETUP_BYTES = (SETUP_SECTS + 1) * 512
VERSION = b"6.1.0-small (tests) #1\0"


@dataclasses.dataclass
class Segment:
    virt: int
    phys: int
    data: bytes
    memory: int
    flags: int = 5
    # overrides for header fields
    offset: int = None
    file_bytes: int = None


class Kernel:
    """Text, a zero-based percpu segment and data, with two relocations of each sort. Change it, then write it."""

    def __init__(self):
        text = bytearray(4 * PAGE)
        text[: len(RESET_CODE)] = RESET_CODE
        percpu = bytearray(PAGE)
        data = bytearray(2 * PAGE)
        self.percpu_offset = 4 * PAGE
        self.data_offset = 5 * PAGE
        self.reloc64 = [0x100, self.data_offset + 8]
        self.reloc32 = [0x200, PAGE + 3]
        self.inverse = [0x300, 2 * PAGE]
        struct.pack_into("<Q", text, 0x100, LINK_VIRT + 0x40)
        struct.pack_into("<Q", data, 8, LINK_VIRT + self.data_offset)
        for offset in self.reloc32:
            struct.pack_into("<I", text, offset, (LINK_VIRT + 0x80) & 0xFFFFFFFF)
        for offset in self.inverse:
            struct.pack_into("<I", text, offset, (0x20 - LINK_VIRT - offset - 4) & 0xFFFFFFFF)
        self.text, self.percpu, self.data = text, percpu, data
        self.segments = [
            Segment(LINK_VIRT, LINK_PHYS, text, len(text)),
            Segment(0, LINK_PHYS + self.percpu_offset, percpu, len(percpu), 6),
            Segment(LINK_VIRT + self.data_offset, LINK_PHYS + self.data_offset, data, 8 * PAGE, 6),
        ]
        self.entry = LINK_PHYS
        self.header = {}

    def elf(self):
        """A stripped vmlinux. self.header overrides fields of the ELF header by name."""
        fields = {
            "ident": b"\x7fELF\x02\x01\x01" + bytes(9), "type": 2, "machine": 62, "version": 1, "entry": self.entry,
            "phoff": 64, "shoff": 0, "flags": 0, "ehsize": 64, "phentsize": 56, "phnum": len(self.segments),
            "shentsize": 64, "shnum": 0, "shstrndx": 0,
        }
        fields.update(self.header)
        header = struct.pack("<16sHHIQQQIHHHHHH", *fields.values())
        table, body = b"", b""
        for s in self.segments:
            offset = PAGE + len(body)
            table += struct.pack("<IIQQQQQQ", 1, s.flags, offset if s.offset is None else s.offset, s.virt, s.phys,
                                 len(s.data) if s.file_bytes is None else s.file_bytes, s.memory, 0x200000)
            body += bytes(s.data) + bytes(-len(s.data) % PAGE)
        return (header + table).ljust(PAGE, b"\0") + body

    def words(self):
        """The list as arch/x86/tools/relocs writes it, as words."""
        def addresses(offsets):
            return [(LINK_VIRT + o) & 0xFFFFFFFF for o in offsets]

        return [0, *addresses(self.reloc64), 0, *addresses(self.inverse), 0, *addresses(self.reloc32)]

    def relocs(self):
        return pack_words(self.words())

    def appended(self):
        return self.elf() + self.relocs()

    def bzimage(self, compression="gzip", **changes):
        return bzimage(self.appended(), compression, **changes)


def pack_words(words):
    return struct.pack(f"<{len(words)}I", *words)


def lz4_legacy(data):
    """The legacy frame with blocks of literals only."""
    out = struct.pack("<I", 0x184C2102)
    for start in range(0, len(data), 8 << 20):
        piece = data[start : start + (8 << 20)]
        length, block = len(piece), b""
        block += bytes([min(length, 15) << 4])
        if length >= 15:
            block += b"\xff" * ((length - 15) // 255) + bytes([(length - 15) % 255])
        block += piece
        out += struct.pack("<I", len(block)) + block
    return out


def zstd_raw(data):
    """A frame of raw blocks, with its content's size."""
    out = [struct.pack("<IBQ", 0xFD2FB528, 0xE0, len(data))]
    pieces = [data[i : i + (1 << 17)] for i in range(0, len(data), 1 << 17)]
    for i, piece in enumerate(pieces):
        out += [struct.pack("<I", len(piece) << 3 | (i == len(pieces) - 1))[:3], piece]
    return b"".join(out)


COMPRESSORS = {
    "gzip": lambda data: gzip.compress(data, 1, mtime=0),
    "bzip2": bz2.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "xz": lambda data: lzma.compress(data, lzma.FORMAT_XZ, check=lzma.CHECK_CRC32),
    "lz4": lz4_legacy,
    "zstd": zstd_raw,
}


def bzimage(unpacked, compression="gzip", size_word=None, packed=None, init_size=None, patch=(), cut=None):
    """A bzImage around a payload. `patch` is a list of (format, offset, value) applied to the setup header."""
    if packed is None:
        packed = COMPRESSORS[compression](unpacked)
        if compression != "gzip":
            packed += struct.pack("<I", len(unpacked) if size_word is None else size_word)
        elif size_word is not None:
            packed = packed[:-4] + struct.pack("<I", size_word)
    payload_offset = 256
    system = bytes(payload_offset) + packed
    system += bytes(-len(system) % 16)
    setup = bytearray(SETUP_BYTES)
    struct.pack_into("<B", setup, 0x1F1, SETUP_SECTS)
    struct.pack_into("<I", setup, 0x1F4, len(system) // 16)
    struct.pack_into("<H", setup, 0x1FE, 0xAA55)
    setup[0x200:0x202] = b"\xeb\x6a"
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<HIHH", setup, 0x206, 0x20F, 0, 0x1000, 0x400)
    setup[0x600 : 0x600 + len(VERSION)] = VERSION
    struct.pack_into("<BB", setup, 0x210, 0, 1)
    struct.pack_into("<I", setup, 0x230, 0x200000)
    struct.pack_into("<B", setup, 0x234, 1)
    struct.pack_into("<HI", setup, 0x236, 0x3F, 2047)
    struct.pack_into("<II", setup, 0x248, payload_offset, len(packed))
    struct.pack_into("<Q", setup, 0x258, LINK_PHYS)
    struct.pack_into("<I", setup, 0x260, (len(unpacked) + (1 << 20)) if init_size is None else init_size)
    for form, offset, value in patch:
        struct.pack_into(form, setup, offset, value)
    return (bytes(setup) + system)[:cut]
