# SPDX-License-Identifier: Apache-2.0
"""The evaluation's driver on made-up figures: what it reads, keeps, takes up again, and makes ratios of."""
import importlib.machinery
import importlib.util
import sys

import pytest
from conftest import BUILD, ROOT

sys.path.insert(0, str(ROOT / "bench" / "boot"))
import cells  # noqa: E402


def program(name):
    loader = importlib.machinery.SourceFileLoader(f"bench_{name}", str(ROOT / "bench" / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def evaluate():
    return program("evaluate")


@pytest.fixture(scope="module")
def report():
    return program("report")


def said(run, *figures, reached=True):
    return [f"run {run}", *(f"riffle: boot-timer: {name:33} {value:9.3f} ms" for name, value in figures), "exit 0",
            *(["reached"] if reached else [])]


def row(method, metric, run, value, kernel="lupine", condition="256M", unit="Minstr"):
    return dict(zip(cells.FIELDS, (kernel, method, condition, metric, unit, run, value)))


INIT = "start to guest's init"


def test_the_first_run_warms_and_the_others_count():
    rows = cells.parse(said(0, (INIT, 99)) + said(1, ("load", 2), (INIT, 50), ("mark 4", 7)) + said(2, (INIT, 51)), "ms")
    assert rows == [("load", "ms", 1, 2.0), ("init", "ms", 1, 50.0), ("mark4", "ms", 1, 7.0), ("init", "ms", 2, 51.0)]


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_a_boot_that_fails_fails_its_cell(bad):
    lines = [line for run in range(3) for line in said(run, (INIT, 50), reached=run != bad)]
    with pytest.raises(cells.Unavailable, match=f"run {bad} "):
        cells.parse(lines, "ms")


def test_a_boot_without_its_init_fails_its_cell():
    with pytest.raises(cells.Unavailable):
        cells.parse(said(0, (INIT, 50)) + said(1, (INIT, 50)) + said(2, ("load", 1)), "ms")


def test_what_the_box_waited_is_not_counted():
    """Two boots of the same work, one behind a tick of waiting in the monitor."""
    runs = [said(n, ("CPU, all threads", 9.7), ("start to first guest instruction", first), ("guest's init", 38.6),
                 (INIT, first + 38.6)) for n, first in ((0, 9.2), (1, 9.2), (2, 13.0))]
    rows = cells.parse(sum(runs, []), "Minstr")
    assert [value for metric, _, _, value in rows if metric == "work"] == pytest.approx([48.3, 48.3])
    assert not [r for r in cells.parse(sum(runs, []), "ms") if r[0] == "work"]


def test_rows_come_back_and_no_half_of_a_file_is_left(tmp_path):
    path = tmp_path / "cell.csv"
    cells.write_rows(path, [row("direct-off", "init", 1, "50.000")])
    assert [r["value"] for r in cells.read_rows(path)] == ["50.000"]
    with pytest.raises(ValueError):
        cells.write_rows(path, [{"no": "field"}])
    assert [r["value"] for r in cells.read_rows(path)] == ["50.000"]


@pytest.mark.parametrize("template", ["CMD {nothing}", "CMD {", "CMD {kernel.x}"])
def test_a_template_that_cannot_be_filled_is_refused(template, tmp_path):
    with pytest.raises(cells.Unavailable):
        cells.commands(cells.Cell("k", "monitor", monitor=template), tmp_path, tmp_path / "kernel-elf")


def test_a_file_that_is_no_kernel_is_one_clear_line(programs, tmp_path):
    (tmp_path / "text").write_text("no kernel\n")
    r = programs.run(ROOT / "bench" / "boot" / "main.py", tmp_path / "text", "--runs", "1",
                     env={**programs.environment, "RIFFLE_BUILD": str(BUILD)})
    assert (r.returncode, r.stdout) == (1, "") and len(r.stderr.splitlines()) == 1, r.stderr
    assert "neither a bzImage nor an ELF" in r.stderr


def test_what_fails_leaves_its_reason_and_what_is_there_is_kept(evaluate, tmp_path):
    todo = [cells.Cell("lupine", m) for m in ("direct-off", "bzimage-xz-off", "direct-kaslr")]

    def boot(cell):
        if cell.method == "bzimage-xz-off":
            raise cells.Unavailable("no image")
        return [row(cell.method, "init", 1, "50.000")]

    words = []
    assert evaluate.evaluate(todo, tmp_path, 0, boot, iter(range(0, 1000, 10)).__next__, words.append) == [todo[1]]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lupine_bzimage-xz-off_256M.reason",
                                                          "lupine_direct-kaslr_256M.csv", "lupine_direct-off_256M.csv"]
    assert (tmp_path / "lupine_bzimage-xz-off_256M.reason").read_text() == "no image\n"
    assert "not available: no image" in words[1] and "left" in words[0]


def test_no_cell_begins_when_the_time_is_over(evaluate, tmp_path):
    todo = [cells.Cell("lupine", m) for m in ("direct-off", "direct-kaslr")]
    words = []
    evaluate.evaluate(todo, tmp_path, 1, lambda cell: [row(cell.method, "init", 1, "1")],
                      iter(range(0, 10000, 50)).__next__, words.append)
    assert len(list(tmp_path.glob("*.csv"))) == 1 and "1 cells are left" in words[-1]


def test_every_cell_of_the_matrix_is_a_method_and_no_two_share_a_file(evaluate):
    wanted = evaluate.matrix(["lupine", "microvm"], 5)
    assert {c.method for c in wanted} <= set(cells.METHODS)
    assert len({c.name for c in wanted}) == len(wanted)
    assert wanted[0].method == "direct-off" and wanted[0].kernel == "lupine"


def test_ratios_are_of_medians_and_the_papers_stand_beside_them(report, tmp_path):
    rows = [row("direct-off", "init", n, v) for n, v in enumerate((40, 50, 900), 1)]
    rows += [row("direct-kaslr", "init", n, v) for n, v in enumerate((55, 54, 56), 1)]
    rows += [row("direct-kaslr", "monitor", 1, 11)]
    cells.write_rows(tmp_path / "a.csv", rows)
    table = report.ratios_table(report.Figures([tmp_path / "a.csv"]))
    assert "| in-monitor KASLR / no KASLR | 1.1000 | 1.063 |" in table
    assert "| bootstrap FGKASLR / in-monitor FGKASLR | not measured | 1.930 |" in table
    assert "| share of the monitor, direct-kaslr | 20.0 % | 46.6 % |" in table


def test_counted_boots_are_judged_by_their_work(report, tmp_path):
    for method, cpu, monitor in (("direct-off", 10, 13), ("direct-kaslr", 10, 10)):
        cells.write_rows(tmp_path / f"{method}.csv", [row(method, "init", 1, monitor + 40), row(method, "cpu", 1, cpu),
                                                      row(method, "monitor", 1, monitor), row(method, "work", 1, 50)])
    table = report.ratios_table(report.Figures(tmp_path.glob("*.csv")))
    assert "| in-monitor KASLR / no KASLR | 1.0000 | 1.063 |" in table
    assert "| share of the monitor, direct-off | 20.0 % | 44.2 % |" in table


def test_counts_and_times_are_never_one_table(report, tmp_path):
    cells.write_rows(tmp_path / "a.csv", [row("direct-off", "init", 1, "50")])
    cells.write_rows(tmp_path / "b.csv", [row("direct-kaslr", "init", 1, "20", unit="ms")])
    with pytest.raises((ValueError, SystemExit)):
        report.Figures([tmp_path / "a.csv", tmp_path / "b.csv"])


def test_phases_are_differences_of_marks(report, tmp_path):
    marks = {1: 10, 2: 12, 3: 30, 4: 31, 5: 36}
    cells.write_rows(tmp_path / "a.csv", [row("bzimage-lz4-kaslr", "init", 1, 80)] + [
        row("bzimage-lz4-kaslr", f"mark{n}", 1, v) for n, v in marks.items()])
    assert "| lupine, bzimage-lz4-kaslr | 2.0 | 18.0 | 1.0 | 5.0 | 26.0 |" in report.phases_table(
        report.Figures([tmp_path / "a.csv"]))


def test_only_what_is_between_the_marks_is_replaced(report):
    text = "a\n<!-- x -->\nold\n<!-- end -->\nb\n<!-- y -->\nkept\n<!-- end -->\n"
    once = report.fill(text, "x", ["new"])
    assert once == text.replace("old", "new") and report.fill(once, "x", ["new"]) == once
