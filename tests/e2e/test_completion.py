# SPDX-License-Identifier: Apache-2.0
"""Completion in bash and zsh offers what --help lists, for every program and command; the example unit runs what there is."""
import re
import shutil
import subprocess

import pytest
from conftest import BUILD, RIFFLE, ROOT
from test_docs import commands, help_of, options_of_help

PROGRAMS = {"riffle": RIFFLE, "riffle-vmm": BUILD / "api" / "riffle-vmm", "riffle-jailer": BUILD / "jailer" / "riffle-jailer"}

BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_riffle "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
# zsh's own part of the work is left out: what it would be given is printed
ZSH = """
file=$1; shift
compadd() { shift; print -l -- ${(P)1} }
_files() { print -l -- files }
words=("$@"); CURRENT=$#
source $file
"""


def bash(*words, cwd=None):
    r = subprocess.run(["bash", "-c", BASH, "bash", ROOT / "completions/riffle.bash", *map(str, words)], capture_output=True,
                       text=True, timeout=300, check=True, cwd=cwd)
    assert not r.stderr, r.stderr
    return r.stdout.split()


def zsh(*words):
    if not shutil.which("zsh"):
        pytest.skip("zsh is not installed: tools/setup test")
    r = subprocess.run(["zsh", "-f", "-c", ZSH, "zsh", ROOT / "completions/_riffle", *map(str, words)], capture_output=True,
                       text=True, timeout=300, check=True)
    assert not r.stderr, r.stderr
    return r.stdout.split()


def listed(*command):
    """What a help text lists, parsed independently of the completion: options with "=" and "[" too."""
    text = help_of(*command, "--help")
    return options_of_help(re.sub(r"(--[\w-]+)[=\[]", r"\1 ", text))


@pytest.mark.parametrize("command", commands())
def test_options_of_commands(command):
    want = listed(RIFFLE, command)
    assert set(bash(RIFFLE, command, "-")) == want
    assert set(zsh(RIFFLE, command, "-")) == want


@pytest.mark.parametrize("name", ["riffle-vmm", "riffle-jailer"])
def test_options_of_programs(name):
    want = listed(PROGRAMS[name])
    assert len(want) > 10
    assert set(bash(PROGRAMS[name], "-")) == want
    assert set(zsh(PROGRAMS[name], "-")) == want


def test_commands():
    assert bash(RIFFLE, "") == [*commands(), "--help", "--version"]
    assert set(zsh(RIFFLE, "")) == {*commands(), "--help", "--version"}
    assert set(bash(RIFFLE, "in")) == {c for c in commands() if c.startswith("in")}


def test_the_word_so_far_decides(tmp_path):
    assert bash(RIFFLE, "run", "--rand") == ["--randomize"]
    (tmp_path / "vmlinuz").touch()
    assert bash(RIFFLE, "run", "vm", cwd=tmp_path) == ["vmlinuz"]
    # a guest's command is not riffle's to complete
    assert bash(RIFFLE, "run", "vmlinuz", "--", "vm", cwd=tmp_path) == ["vmlinuz"]
    assert zsh(RIFFLE, "run", "vmlinuz", "--", "-") == ["files"]


def test_unit_uses_options_that_there_are():
    unit = (ROOT / "examples" / "riffle@.service").read_text()
    lines = re.findall(r"^Exec\w+=/usr/bin/riffle (\w+) (.*)$", unit, re.M)
    assert len(lines) == 2
    for command, arguments in lines:
        assert set(re.findall(r"--[\w-]+", arguments)) <= listed(RIFFLE, command)
