# SPDX-License-Identifier: Apache-2.0
"""The mutants of a C file: each changes one operator, bound, constant or branch, at an offset that libclang gives."""
import dataclasses
import json
import pathlib
import re
import shlex

from clang import cindex
from clang.cindex import CursorKind as Kind

SWAPS = {
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "&&": "||", "||": "&&",
    "+": "-", "-": "+", "*": "+", "/": "*", "%": "/", "&": "|", "|": "&", "^": "|", "<<": ">>", ">>": "<<",
    "+=": "-=", "-=": "+=", "*=": "+=", "/=": "*=", "%=": "/=", "&=": "|=", "|=": "&=", "^=": "|=", "<<=": ">>=", ">>=": "<<=",
}
# a comparison is also inverted: it can be wrong by more than an off-by-one
TURNED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}
# a condition is still evaluated, for its side effects
BRANCH = {b") && 0": "never", b") || 1": "always"}
UNARY = {"!": "", "~": "", "-": "", "++": "--", "--": "++"}
# more memory than is needed does nothing else, as a larger array does not
ALLOCATORS = {"malloc", "calloc", "realloc", "reallocarray", "aligned_alloc"}
# how long they wait is only a matter of time (see TUNED)
SLEEPS = {"nanosleep", "usleep", "sleep"}
NUMBER = re.compile(rb"(0[xX][0-9a-fA-F]+|0[bB][01]+|[0-9]+)([uUlL]*)(?![\w.])")
DEFINE = re.compile(rb"^[ \t]*#[ \t]*define[ \t]+(\w+)(?:\([^)]*\))?[ \t]+(.*)$", re.M)
# How long to wait, how often to try, how much to do before others get their turn: any number near it is as right, and a test that
# tells one from the next would have to measure time. A unit (NS_PER_MS) is no such number.
TUNED = re.compile(r"(?!.*_PER_)(?:\w+_)?(?:NS|US|MS|ACCEPTS|ATTEMPTS|BACKLOG|BUDGET|RETRIES)$")
NOT_CODE = re.compile(rb'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'', re.S)


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One change. Its key locates it without a line number, so that lists of keys survive edits elsewhere in a file."""
    path: str
    function: str
    line: int
    offset: int
    old: bytes
    new: bytes
    text: str           # the line, stripped
    column: int         # in the stripped line
    nth: int = 0        # index among identical ones in the function

    @property
    def change(self):
        branch = {b"(" + self.old + after: words for after, words in BRANCH.items()}
        return branch.get(self.new) or f"{self.old.decode()} => {self.new.decode() or 'nothing'}"

    @property
    def key(self):
        return f"{self.path}:{self.function}: {self.text} [{self.column}{f'#{self.nth}' if self.nth else ''}: {self.change}]"

    def apply(self, source):
        assert source[self.offset:self.offset + len(self.old)] == self.old, self.key
        return source[:self.offset] + self.new + source[self.offset + len(self.old):]


class Finder:
    """Walks a file's functions and initialisers and collects (function, offset, old, new)."""

    def __init__(self, source, unit, path):
        self.source, self.path = source, path
        self.found = {}
        self.sizes = False      # in the arguments of an allocation
        self.compares = False   # in a function for qsort(), of whose result only the sign counts
        for cursor in unit.cursor.get_children():
            if cursor.location.file and cursor.location.file.name == path:
                self.top(cursor)
        for define in DEFINE.finditer(source):
            if not TUNED.match(define[1].decode()):
                self.numbers("", define.start(2), define.end(2))

    def add(self, function, offset, old, new):
        if self.source[offset:offset + len(old)] == old and old != new:
            self.found.setdefault((offset, old, new), function)

    def top(self, cursor):
        if cursor.kind == Kind.FUNCTION_DECL and cursor.is_definition():
            self.compares = [a.type.spelling for a in cursor.get_arguments()] == ["const void *"] * 2
            for child in cursor.get_children():
                if child.kind == Kind.COMPOUND_STMT:
                    self.walk(child, cursor.spelling)
            self.compares = False
        elif cursor.kind == Kind.ENUM_DECL:
            for constant in cursor.get_children():
                if TUNED.match(constant.spelling):
                    continue
                for value in constant.get_children():
                    self.walk(value, cursor.spelling)
        elif cursor.kind == Kind.VAR_DECL:
            self.variable(cursor, "")

    def variable(self, cursor, function):
        """Only the initialiser: a larger array does not change behaviour."""
        equals = self.source.find(b"=", cursor.location.offset, cursor.extent.end.offset)
        if equals >= 0:
            for child in cursor.get_children():
                if child.extent.start.offset > equals:
                    self.walk(child, function)

    def walk(self, cursor, function, decides=False):
        """`decides`: it is a whole condition, which is made always true or false; a negation would be easier to detect."""
        kind = cursor.kind
        if kind == Kind.VAR_DECL:
            self.variable(cursor, function)
            return
        if kind.is_declaration() and kind != Kind.VAR_DECL and kind not in (Kind.STRUCT_DECL,):
            return
        if kind.name == "STATIC_ASSERT" or kind == Kind.CXX_UNARY_EXPR:     # sizeof, _Alignof
            return
        if kind in (Kind.BINARY_OPERATOR, Kind.COMPOUND_ASSIGNMENT_OPERATOR):
            self.binary(cursor, function, decides)
        elif kind == Kind.UNARY_OPERATOR and not decides:
            self.unary(cursor, function)
        elif kind == Kind.CALL_EXPR and cursor.spelling in SLEEPS:
            return
        elif kind == Kind.INTEGER_LITERAL:
            self.numbers(function, cursor.extent.start.offset, cursor.extent.start.offset + 24, first=True)
        elif kind in (Kind.IF_STMT, Kind.CONDITIONAL_OPERATOR):
            self.condition(next(iter(cursor.get_children()), None), function)
        elif kind in (Kind.BREAK_STMT, Kind.CONTINUE_STMT):
            word = b"break" if kind == Kind.BREAK_STMT else b"continue"
            self.add(function, cursor.extent.start.offset, word, b"(void)0")
        branches = kind in (Kind.IF_STMT, Kind.CONDITIONAL_OPERATOR)
        outside, self.sizes = self.sizes, self.sizes or (kind == Kind.CALL_EXPR and cursor.spelling in ALLOCATORS)
        for n, child in enumerate(cursor.get_children()):
            self.walk(child, function, branches and n == 0)
        self.sizes = outside

    def binary(self, cursor, function, decides):
        sides = list(cursor.get_children())
        if len(sides) != 2:
            return
        begin, end = sides[0].extent.end.offset, sides[1].extent.start.offset
        between = NOT_CODE.sub(lambda m: b" " * len(m[0]), self.source[begin:end])
        operator = re.fullmatch(rb"[\s)]*([-+*/%&|^<>=!]+)[\s(]*", between)
        if not operator:
            return
        old = operator[1]
        for table in (SWAPS, TURNED):
            if old.decode() in table and not (decides and (table is TURNED or old in (b"==", b"!="))):
                self.add(function, begin + operator.start(1), old, table[old.decode()].encode())

    def unary(self, cursor, function):
        start, end = cursor.extent.start.offset, cursor.extent.end.offset
        for old, new in UNARY.items():
            if self.source.startswith(old.encode(), start):
                self.add(function, start, old.encode(), new.encode())
                return
            if len(old) == 2 and self.source[end - 2:end] == old.encode():
                self.add(function, end - 2, old.encode(), new.encode())
                return

    def condition(self, cursor, function):
        """A branch never taken, and one always taken."""
        if cursor is None:
            return
        start, end = cursor.extent.start.offset, cursor.extent.end.offset
        old = self.source[start:end]
        if start >= end or b"#" in old or old.count(b"(") != old.count(b")"):
            return
        for after in BRANCH:
            self.add(function, start, old, b"(" + old + after)

    def numbers(self, function, begin, end, first=False):
        text = NOT_CODE.sub(lambda m: b" " * len(m[0]), self.source[begin:end])
        for number in ([NUMBER.match(text)] if first else NUMBER.finditer(text)):
            if not number or (number.start() and re.match(rb"[\w.]", text[number.start() - 1:number.start()])):
                continue
            digits = number[1]
            octal = len(digits) > 1 and digits.isdigit() and digits.startswith(b"0")
            value = int(digits, 8) if octal else int(digits, 0)
            for other in ((value + 1, value - 1) if value else (1,)):
                if other >> 64 or (self.sizes and other > value) or (self.compares and (value, other) == (1, 2)):
                    continue
                new = hex(other) if digits[:2] in (b"0x", b"0X") else f"0{other:o}" if octal else str(other)
                self.add(function, begin + number.start(), number[0], new.encode() + number[2])


def arguments(database, path):
    """The build's compiler arguments for a file, for libclang; the first set if there are several."""
    for entry in json.loads(pathlib.Path(database).read_text(encoding="utf-8")):
        if (pathlib.Path(entry["directory"]) / entry["file"]).resolve() == pathlib.Path(path).resolve():
            words = shlex.split(entry["command"])
            kept = [w for w in words if w.startswith(("-I", "-D", "-std=", "-U"))]
            for n, word in enumerate(words[:-1]):
                if word in ("-include", "-isystem"):
                    kept += [word, words[n + 1]]
            return [*(re.sub(r"^-I(?!/)", f"-I{entry['directory']}/", w) for w in kept)]
    return None


def of_file(root, path, database):
    """All mutants of `path`, relative to `root`, in the order of the file; None for a file that is not built."""
    full = str((pathlib.Path(root) / path).resolve())
    words = arguments(database, full)
    if words is None:
        return None
    source = pathlib.Path(full).read_bytes()
    unit = cindex.Index.create().parse(full, args=words)
    fatal = [d.spelling for d in unit.diagnostics if d.severity >= cindex.Diagnostic.Fatal]
    if fatal:
        raise ValueError(f"{path}: {fatal[0]}")
    mutants, seen = [], {}
    for (offset, old, new), function in sorted(Finder(source, unit, full).found.items()):
        begin = source.rfind(b"\n", 0, offset) + 1
        end = source.find(b"\n", offset)
        line = source[begin:end].decode()
        indent = len(line) - len(line.lstrip())
        mutant = Mutant(path, function, source.count(b"\n", 0, offset) + 1, offset, old, new, line.strip(),
                        offset - begin - indent)
        alike = (function, mutant.text, mutant.column, old, new)
        seen[alike] = seen.get(alike, -1) + 1
        mutants.append(dataclasses.replace(mutant, nth=seen[alike]))
    return mutants
