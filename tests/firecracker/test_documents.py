# SPDX-License-Identifier: Apache-2.0
"""docs/firecracker.md names tests that are in their files, and every file of tests; no row is without a test or a reason."""
import pathlib
import re

import pytest
from vmm import ROOT

HERE = pathlib.Path(__file__).resolve().parent
TABLE = (ROOT / "docs" / "firecracker.md").read_text().partition("## Conformance")[2]
SOURCES = {path: path.read_text() for path in (ROOT / "tests").rglob("*.[pc]*") if path.suffix in (".py", ".c")}


def names(kind):
    return sorted(set(re.findall(kind, TABLE)))


@pytest.mark.parametrize("file,name", names(r"`(\w+\.(?:py|c))::(\w+)`"))
def test_name_is_in_its_file(file, name):
    texts = [text for path, text in SOURCES.items() if path.name == file]
    assert any(re.search(rf"^ *(?:def|class|static void) {name}\b", text, re.M) for text in texts), [file, name]


def test_rows_name_tests_or_say_why_not():
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in TABLE.splitlines() if row.startswith("|")][2:]
    assert len(rows) > 150
    for fact, tests, difference in rows:
        assert fact.startswith("**") or re.search(r"`\w+\.(py|c)", tests) or difference, fact


@pytest.mark.parametrize("file", names(r"`(?:[\w/]*/)?(\w+\.(?:py|c))(?:::\w+)?`"))
def test_file_is_there(file):
    assert file in {path.name for path in SOURCES}


@pytest.mark.parametrize("file", sorted({f.name for f in HERE.glob("test_*.py")} - {"test_documents.py"}))
def test_every_file_is_in_the_table(file):
    assert f"`{file}" in TABLE or file == "test_linux.py"
