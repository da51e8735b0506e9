# SPDX-License-Identifier: Apache-2.0
# gdb: backtraces of a kernel by the ORC tables in its own memory, which are right wherever its functions lie.
import struct

import gdb
from gdb.unwinder import Unwinder, register_unwinder

# of struct orc_entry (arch/x86/include/asm/orc_types.h): where the stack pointer before a call is found
PREV_SP, REG_DX, REG_DI, REG_BP, REG_SP, REG_R10, REG_R13, BP_INDIRECT, SP_INDIRECT = 1, 2, 3, 4, 5, 6, 7, 8, 9
BASES = {REG_DX: "rdx", REG_DI: "rdi", REG_BP: "rbp", REG_SP: "rsp", REG_R10: "r10", REG_R13: "r13",
         BP_INDIRECT: "rbp", SP_INDIRECT: "rsp"}
ENTRY = struct.Struct("<hhH")
MASK = (1 << 64) - 1
# offsets in struct pt_regs
REGS_BP, REGS_IP, REGS_SP = 32, 128, 152
IRET_SP = 24


class FrameId:
    def __init__(self, sp, pc):
        self.sp, self.pc = sp, pc


class RiffleOrc(Unwinder):
    """Looks the instruction pointer up in .orc_unwind_ip and undoes what .orc_unwind says of it."""

    def __init__(self):
        super().__init__("riffle-orc")
        self.tables = None
        self.interrupted = set()    # frames, by rip and rsp, that did not call the next one

    @staticmethod
    def read(address, size):
        return bytes(gdb.selected_inferior().read_memory(address & MASK, size))

    def word(self, address):
        return int.from_bytes(self.read(address, 8), "little")

    def find_tables(self):
        """Where the tables are, how many entries they have, and how those tell their types."""
        ip, end, orc = (int(gdb.parse_and_eval(f"(unsigned long)&{name}"))
                        for name in ("__start_orc_unwind_ip", "__stop_orc_unwind_ip", "__start_orc_unwind"))
        count = (end - ip) // 4
        # Linux 6.4 counts the types anew: a call, which most entries are, is 2 in three bits there, 0 in two before
        sample = self.read(orc, ENTRY.size * min(count, 2000))
        calls = sum(bits >> 8 & 7 == 2 for _, _, bits in ENTRY.iter_unpack(sample))
        newer = 2 * calls > min(count, 2000)
        return ip, orc, count, (7, 2, 3, 4) if newer else (3, 0, 1, 2)

    def entry(self, address):
        table, orc, count, _ = self.tables
        low, high = 0, count
        while low < high:
            middle = (low + high) // 2
            at = table + 4 * middle
            if (at + int.from_bytes(self.read(at, 4), "little", signed=True)) & MASK <= address:
                low = middle + 1
            else:
                high = middle
        return ENTRY.unpack(self.read(orc + ENTRY.size * (low - 1), ENTRY.size)) if low else None

    def __call__(self, pending):
        try:
            return self.unwind(pending)
        except (gdb.error, gdb.MemoryError, OverflowError):
            return None

    def unwind(self, pending):
        registers = {name: int(pending.read_register(name)) & MASK for name in ("rip", "rsp", "rbp")}
        if registers["rip"] >> 63 == 0:
            return None
        if self.tables is None:
            self.tables = self.find_tables()
        if pending.level() == 0:
            self.interrupted = set()
        exact = pending.level() == 0 or (registers["rip"], registers["rsp"]) in self.interrupted
        # a return address may be the next function's already
        entry = self.entry(registers["rip"] - (not exact))
        caller = entry and self.caller(pending, registers, *entry)
        if not caller:
            return None
        frame_address, interrupted, values = caller
        if interrupted:
            self.interrupted.add((values["rip"], values["rsp"]))
        frame = pending.create_unwind_info(FrameId(gdb.Value(frame_address), gdb.Value(registers["rip"])))
        for name, value in values.items():
            kind = pending.read_register(name).type
            frame.add_saved_register(name, gdb.Value(value.to_bytes(8, "little"), kind))
        return frame

    def caller(self, pending, registers, sp_offset, bp_offset, bits):
        """The frame's address, whether it was interrupted and did not call, and the caller's registers."""
        sp_from, bp_from = bits & 15, bits >> 4 & 15
        mask, call, regs, iret = self.tables[3]
        kind = bits >> 8 & mask
        if sp_from not in BASES or kind not in (call, regs, iret):
            return None
        base = int(pending.read_register(BASES[sp_from])) & MASK
        if sp_from == SP_INDIRECT:
            base = self.word(base) + sp_offset
        elif sp_from == BP_INDIRECT:
            base = self.word(base + sp_offset)
        else:
            base += sp_offset
        base &= MASK
        bp = registers["rbp"]
        if kind == regs:
            values = {"rip": self.word(base + REGS_IP), "rsp": self.word(base + REGS_SP), "rbp": self.word(base + REGS_BP)}
        elif kind == iret:
            values = {"rip": self.word(base), "rsp": self.word(base + IRET_SP), "rbp": bp}
        else:
            if bp_from == PREV_SP:
                bp = self.word(base + bp_offset)
            elif bp_from == REG_BP:
                bp = self.word(bp + bp_offset)
            values = {"rip": self.word(base - 8), "rsp": base, "rbp": bp}
        return base, kind != call, values


register_unwinder(None, RiffleOrc(), replace=True)
