# SPDX-License-Identifier: Apache-2.0
"""docs/firecracker.md names tests that are there, and names the module of each test."""
import pathlib
import re

import pytest
from vmm import ROOT

HERE = pathlib.Path(__file__).resolve().parent
TABLE = (ROOT / "docs" / "firecracker.md").read_text().partition("## Conformance")[2]
SOURCES = {path: path.read_text() for path in (ROOT / "tests").rglob("*.[pc]*") if path.suffix in (".py", ".c")}


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(?:\w+\.py::)?(test_\w+|Test\w+)`|`\w+\.py::(\w+)`", TABLE))))
def test_name_is_there(name):
    name = "".join(name)
    assert any(re.search(rf"^ *(?:def|class|static void) {name}\b", text, re.M) for text in SOURCES.values())


@pytest.mark.parametrize("file", sorted(set(re.findall(r"`(?:[\w/]*/)?(\w+\.py)(?:::\w+)?`", TABLE))))
def test_file_is_there(file):
    assert file in {path.name for path in SOURCES}


@pytest.mark.parametrize("file", sorted({f.name for f in HERE.glob("test_*.py")} - {"test_documents.py"}))
def test_every_file_is_in_the_table(file):
    assert f"`{file}" in TABLE or file == "test_linux.py"
