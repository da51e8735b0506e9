# SPDX-License-Identifier: Apache-2.0
"""tools/mutate: its mutants and their keys, the list of equivalents, and ending tests that hang."""
import importlib.machinery
import importlib.util
import json
import subprocess
import sys

import pytest
from conftest import ROOT
from guests import LONG

sys.path.insert(0, str(ROOT / "tools" / "mutation"))
pytest.importorskip("clang.cindex", reason="python3-clang is not installed: tools/setup test")
import mutants  # noqa: E402
import suite  # noqa: E402

SOURCE = """\
#define LIMIT 8u /* not 9 */
#define WAIT_MS 30
#define NS_PER_MS 1000
enum kind { FIRST = 1 };
enum { BUDGET = 64 };
static const unsigned table[4] = {0x10, 2};
int f(int a, int b);
int usleep(unsigned us);
int f(int a, int b)
{
	char room[32];
	(void)room;
	if (a < b && b != 3)
		return -a;
	for (int i = 0; i <= b; i++)
		a += i << 1; /* a + b < 7 */
	usleep(100 * b);
	return a ? (int)table[0] : FIRST;
}
void *malloc(unsigned long bytes);
void *room(int n);
void *room(int n)
{
	return malloc((unsigned long)n + 1);
}
int order(const void *a, const void *b);
int order(const void *a, const void *b)
{
	return a == b ? 0 : 1;
}
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    directory = tmp_path_factory.mktemp("mutate")
    (directory / "f.c").write_text(SOURCE)
    (directory / "compile_commands.json").write_text(json.dumps([
        {"directory": str(directory), "file": "f.c", "command": "cc -std=gnu17 -c f.c", "output": "f.o"}]))
    return mutants.of_file(directory, "f.c", directory / "compile_commands.json")


@pytest.fixture(scope="module")
def mutate():
    loader = importlib.machinery.SourceFileLoader("mutate", str(ROOT / "tools" / "mutate"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


@pytest.mark.parametrize("words,diff,paths", [
    (["lib"], None, ["lib"]), (["--diff", "HEAD", "lib"], "HEAD", ["lib"]), (["--diff", "lib"], "HEAD", ["lib"]),
    (["--diff", "lib", "prepare"], "HEAD", ["lib", "prepare"]), (["lib", "--diff"], "HEAD", ["lib"])])
def test_diff_takes_a_revision_or_none(mutate, words, diff, paths):
    chosen = mutate.options(words)
    assert (chosen.diff, chosen.paths) == (diff, paths)


@pytest.mark.parametrize("words", [[], ["--diff"], ["--diff", "no-such-revision", "lib"]])
def test_wrong_usage_is_told(mutate, words, capsys):
    with pytest.raises(SystemExit):
        mutate.options(words)
    assert "tools/mutate: error: " in capsys.readouterr().err


def changes(found, line):
    return {m.change for m in found if SOURCE.splitlines()[m.line - 1].strip().startswith(line)}


def test_operators_bounds_constants_and_branches_are_changed(found):
    assert changes(found, "#define LIMIT") == {"8u => 9u", "8u => 7u"}
    assert changes(found, "#define NS_PER_MS") == {"1000 => 1001", "1000 => 999"}
    assert not changes(found, "#define WAIT_MS") and not changes(found, "enum { BUDGET")     # tuned
    assert not changes(found, "usleep(")
    assert changes(found, "enum kind") == {"1 => 2", "1 => 0"}
    assert changes(found, "static const") == {"0x10 => 0x11", "0x10 => 0xf", "2 => 3", "2 => 1"}
    assert changes(found, "if (a < b") == {"never", "always", "&& => ||", "< => <=", "< => >=", "!= => ==", "3 => 4", "3 => 2"}
    assert changes(found, "return -a") == {"- => nothing"}
    assert changes(found, "for (int i") == {"0 => 1", "<= => <", "<= => >", "++ => --"}
    assert changes(found, "a += i") == {"+= => -=", "<< => >>", "1 => 2", "1 => 0"}
    assert changes(found, "return a ?") == {"never", "always", "0 => 1"}
    assert not changes(found, "char room")      # a larger array does nothing else
    assert changes(found, "return malloc") == {"+ => -", "1 => 0"}      # nor does more memory
    assert changes(found, "return a == b") == {"never", "always", "0 => 1", "1 => 0"}   # the sign counts


def test_each_changes_one_place_and_has_a_key_of_its_own(found):
    source = SOURCE.encode()
    assert len({m.key for m in found}) == len(found)
    for mutant in found:
        after = mutant.apply(source)
        assert after != source and after.count(b"\n") == source.count(b"\n")
        before_line, after_line = (text.splitlines()[mutant.line - 1] for text in (source, after))
        assert before_line != after_line and "\n" not in mutant.key


def test_equivalents_need_a_reason(mutate):
    assert mutate.equivalents("# why\n\na.c:f: x [0: 1 => 2]\n\tno caller\n\tasks\nb\n  because\n") == {
        "a.c:f: x [0: 1 => 2]": "no caller asks", "b": "because"}
    for bad in ("a.c:f: x\n", "\treason\n", "a\nb\n\treason\n"):
        with pytest.raises(ValueError, match="equivalent: "):
            mutate.equivalents(bad)
    assert isinstance(mutate.equivalents(mutate.EQUIVALENT.read_text()), dict)


def test_an_equivalent_may_stand_for_all_of_a_function(mutate):
    listed = {"a.c:f: *": "a prefetch", "b.c:g: x [0: 1 => 2]": "no caller asks"}
    assert mutate.reason_of("a.c:f: y [3: 1 => 2]", listed) == "a prefetch"
    assert mutate.reason_of("b.c:g: x [0: 1 => 2]", listed) == "no caller asks"
    assert mutate.reason_of("a.c:ff: y [3: 1 => 2]", listed) is None
    assert mutate.reason_of("b.c:g: x [0: 1 => 2#1]", listed) is None


@pytest.mark.skipif(not LONG, reason="one of the long tests: RIFFLE_LONG is not set")
def test_every_equivalent_is_still_a_mutant(mutate, tmp_path):
    """A stale entry could excuse a mutant that no longer exists."""
    listed = mutate.equivalents(mutate.EQUIVALENT.read_text())
    database = suite.pathlib.Path(__import__("conftest").BUILD, "compile_commands.json")
    for path in {key.split(":")[0] for key in listed}:
        keys = {m.key for m in mutants.of_file(ROOT, path, database)}
        assert not [key for key in listed if key.startswith(f"{path}:") and not any(mutate.reason_of(k, {key: "it"}) for k in keys)]


def test_the_score_counts_what_can_be_noticed(mutate):
    assert mutate.score(["killed"] * 3 + ["survived", "same", "equivalent", "stillborn", "untried"])[0] == 75.0
    assert mutate.score(["same"])[0] is None


def test_names_choose_tests(tmp_path, monkeypatch):
    """--tests: of the tests that contain a file, only those whose name matches."""
    tree = object.__new__(suite.Tree)
    tree.build, tree.programs = tmp_path, {}
    tree.known_tests = [{"name": name, "cmd": [str(tmp_path / "tests/unit" / name)], "env": {}, "workdir": None, "depends": []}
                        for name in ("lib-plan", "lib-load", "cli-emit")]
    monkeypatch.setattr(tree, "inputs", lambda target: {"../lib/a.c"}, raising=False)
    monkeypatch.setattr(tree, "must_build", lambda *targets: None, raising=False)
    monkeypatch.setattr(suite, "linked", lambda program: {"a.c"})
    assert [t.name for t in tree.tests("lib/a.c")] == ["lib-plan", "lib-load", "cli-emit"]
    assert [t.name for t in tree.tests("lib/a.c", "^lib-(plan|slides)$")] == ["lib-plan"]
    assert tree.tests("lib/b.c", "lib") == []


def test_results_are_of_one_content_of_a_file(mutate, tmp_path):
    kept = mutate.Kept(tmp_path, "lib/a.c", b"one")
    kept.keep("key", "killed", "test-a")
    assert mutate.Kept(tmp_path, "lib/a.c", b"one").of == {"key": ["killed", "test-a"]}
    assert mutate.Kept(tmp_path, "lib/a.c", b"two").of == {}


def run(tmp_path, script, **limits):
    test = suite.Test("t", ["t"], ["sh", "-c", script], {}, str(tmp_path))
    try:
        return suite.run(test, tmp_path / "log", **limits)
    except OSError as error:
        pytest.skip(f"unshare: {error}")


def test_what_spins_or_hangs_is_ended(tmp_path):
    if subprocess.run([*suite.APART, "sh", "-c", suite.INSIDE, "sh", "true"], check=False).returncode:
        pytest.skip("no namespaces here")
    assert run(tmp_path, "exit 0")[0] and not run(tmp_path, "exit 1")[0]
    assert not run(tmp_path, "while :; do :; done", cpu_limit=0.5, silent_limit=300)[0]
    assert not run(tmp_path, "sleep 3600", cpu_limit=60, silent_limit=0.5)[0]
    # a mutant that kills all processes or empties /tmp does so where nothing else is
    (tmp_path / "outside").touch()
    run(tmp_path, f"kill -9 -1; rm -rf {tmp_path}/outside /tmp/*")
    assert (tmp_path / "outside").exists()


REACHED = """\
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
__attribute__((noinline)) static void entered(void) { __asm__ volatile(""); }
__attribute__((noinline)) static void never(void) { __asm__ volatile(""); }
__attribute__((noinline)) static void of_a_child(void) { kill(getpid(), SIGKILL); }
__attribute__((noinline)) static void of_a_program(void) { __asm__ volatile(""); }
static inline void inlined(void) { __asm__ volatile(""); }
int main(int argc, char **argv)
{
	char *no_environment[] = {NULL}, *again[] = {argv[0], (char *)"again", NULL};
	if (argc == 3)
		never();
	if (argc == 2) {
		of_a_program();
		return 0;
	}
	entered();
	inlined();
	if (!fork())
		of_a_child();
	wait(NULL);
	execve("/proc/self/exe", again, no_environment);
	return 1;
}
"""


def test_functions_that_a_test_does_not_enter(tmp_path):
    """Whatever its processes do: die, or run a program without an environment."""
    marks, program = tmp_path / "marks", tmp_path / "program"
    (tmp_path / "program.c").write_text(REACHED)
    subprocess.run(["cc", "-O2", "-finstrument-functions", f'-DREACH_FILE="{marks}"', f"-DREACH_SIZE={suite.REACH_SIZE}", "-include",
                    str(ROOT / "tools" / "mutation" / "reach.h"), str(tmp_path / "program.c"), "-o", str(program)], check=True)
    marks.touch()
    subprocess.run(["truncate", "-s", str(suite.REACH_SIZE), str(marks)], check=True)
    subprocess.run([str(program)], check=True)
    spared = suite.spared([program], marks.read_bytes())
    assert "never" in spared
    assert not spared & {"main", "entered", "inlined", "of_a_child", "of_a_program"}
