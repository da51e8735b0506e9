# SPDX-License-Identifier: Apache-2.0
"""The evaluation's driver on made-up figures: reading, keeping, resuming, ratios."""
import importlib.machinery
import importlib.util
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import pytest
from conftest import BUILD, ROOT
from guests import LONG

sys.path.insert(0, str(ROOT / "bench" / "boot"))
import beside  # noqa: E402
import cells  # noqa: E402
import sides  # noqa: E402


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
    """Two boots with the same work, one after a tick of waiting in the monitor."""
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
        cells.commands(cells.Cell("k", "monitor", monitor=template), tmp_path / "kernel-elf")


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
    assert {c.method for c in wanted if isinstance(c, cells.Cell)} <= set(cells.METHODS)
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


def test_a_failed_boot_tells_its_last_words():
    lines = said(0, (INIT, 50)) + said(1, (INIT, 50), reached=False) + ["said Booting", "said ", "said no PVH ELF Note"]
    with pytest.raises(cells.Unavailable, match="run 1 did not reach the guest's init: no PVH ELF Note"):
        cells.parse(lines, "ms")


def test_a_cell_is_done_when_it_has_the_boots_that_are_wanted(evaluate, tmp_path):
    path = tmp_path / "cell.csv"
    assert not evaluate.finished(path, cells.Cell("lupine", "direct-off", runs=2))
    cells.write_rows(path, [row("direct-off", "init", n, 50) for n in (1, 2)])
    assert evaluate.finished(path, cells.Cell("lupine", "direct-off", runs=2))
    assert not evaluate.finished(path, cells.Cell("lupine", "direct-off", runs=3))


def test_cold_boots_are_cells_only_where_there_are_disks_to_time(evaluate, monkeypatch):
    assert not any(c.cold for c in evaluate.matrix(["lupine"], 5) if isinstance(c, cells.Cell))
    cold = [c for c in evaluate.matrix(["lupine"], 5, cold=True) if isinstance(c, cells.Cell) and c.cold]
    assert {c.condition for c in cold} == {"256M-cold"} and "direct-kaslr" in {c.method for c in cold}
    monkeypatch.setattr(cells, "hardware_kvm", lambda: False)
    with pytest.raises(cells.Unavailable, match="instructions, which say nothing of disks"):
        cells.boot(cells.Cell("lupine", "direct-off", cold=True))


def test_native_cost_comes_of_both_benches_and_never_into_the_boots(report, tmp_path):
    load = {"rows": {"floor": {"ms": [2, 2, 2]}, "load_kaslr": {"ms": [3, 4, 5]}, "bootstrap_bound": {"ms": [9]}}}
    start = "             floor ms  start ms\nkaslr            2.196    22.756     10.36     7.485                  3.369\n"
    rows = beside.native_rows("lupine", load, start)
    cells.write_rows(tmp_path / "n.csv", rows)
    cells.write_rows(tmp_path / "a.csv", [row("direct-kaslr", "init", 1, 50)])
    figures = report.Figures(tmp_path.glob("*.csv"))
    assert "| direct-kaslr | 4.00 | 3.00 to 5.00 | 2.00 | 22.8 | 7.5 |" in sides.native(figures)
    assert report.boots_table(figures, "lupine")[2].startswith("| direct-kaslr | 50.0 |")


def test_cold_is_reading_then_the_processor(report, tmp_path):
    def stored(storage, read, cpu):
        return [row("kaslr", "storage_read", 1, read, condition=storage, unit="MB"),
                row("kaslr", "storage_cpu", 1, cpu, condition=storage, unit="ms")]
    cells.write_rows(tmp_path / "s.csv", stored("none", 10, 5) + stored("lz4", 5, 10))
    table = sides.cold_table(report.Figures([tmp_path / "s.csv"]), "lupine")
    # reading 5 MB less saves 5 ms at 1000 MB/s, where the two break even
    assert "| KASLR: prepared | 10.0 | 5.0 | 205.0 | 105.0 | 55.0 | 30.0 | 17.5 | **11.2** | **8.1** | **6.6** |" in table
    assert any(line.startswith("| KASLR: prepared, LZ4 | 5.0 | 10.0 | **110.0** |") and "**16.2** | 13.1" in line
               for line in table)


def test_work_is_a_ratio_over_the_operations_that_every_layout_has(report, tmp_path):
    rows = [row(method, op, n, factor * base, condition="icount", unit="instructions")
            for method, factor in (("direct", 1), ("direct-kaslr", 1.1), ("direct-fgkaslr", 1.2))
            for op, base in (("fork", 1000), ("getpid", 10)) for n in (1, 2)]
    rows += [row("direct", "poll", 1, 5, condition="icount", unit="instructions")]
    cells.write_rows(tmp_path / "w.csv", rows)
    lines = sides.work(report.Figures([tmp_path / "w.csv"]), tmp_path)
    assert any("geometric mean of 2" in line and "1.1000" in line and "1.2000" in line for line in lines)
    assert not any("poll" in line for line in lines) and "counts of instructions" in lines[0]
    assert (tmp_path / "work-lupine.svg").read_text().startswith("<?xml")


def test_what_was_not_booted_is_a_row_that_says_why(report, tmp_path):
    cells.write_rows(tmp_path / "a.csv", [row("direct-off", "init", 1, 50)])
    (tmp_path / "lupine_bzimage-none-off_256M.reason").write_text("no image\n")
    table = report.boots_table(report.Figures([tmp_path / "a.csv"]), "lupine", reasons=tmp_path.glob("*.reason"))
    assert "| bzimage-none-off | not available: no image | | | | | | 3.219 |" in table
    assert {line.split(" | ")[0].strip("| ") for line in table[2:]} == set(cells.METHODS)


def test_a_stage_that_unpacks_nothing_sets_up_until_it_relocates(report, tmp_path):
    cells.write_rows(tmp_path / "a.csv", [row("bootstrap-fgkaslr", "init", 1, 80)] + [
        row("bootstrap-fgkaslr", f"mark{n}", 1, v) for n, v in ((1, 10), (4, 20), (5, 45))])
    assert "| lupine, bootstrap-fgkaslr | 10.0 |  |  | 25.0 | 35.0 |" in report.phases_table(
        report.Figures([tmp_path / "a.csv"]))


def test_an_image_that_cannot_be_made_says_why(monkeypatch, tmp_path):
    def output(command, what):
        if "--image" in command:
            raise cells.Unavailable(f"{what}: the patch does not apply")
        return str(tmp_path / "bzImage")
    monkeypatch.setattr(cells, "output", output)
    monkeypatch.setattr(cells, "compression_of", lambda kernel: "lz4")
    with pytest.raises(cells.Unavailable, match="payload none: the patch does not apply"):
        cells.boot_file(cells.Cell("lupine", "bzimage-none-off"), tmp_path)
    (tmp_path / "bzImage").write_text("its own")
    assert cells.boot_file(cells.Cell("lupine", "bzimage-lz4-off"), tmp_path).read_text() == "its own"


def test_other_monitors_are_never_among_the_boots(report, tmp_path):
    """Marks are timestamps, but boots are measured by their work."""
    cells.write_rows(tmp_path / "a.csv", [row(m, "init", 1, v) for m, v in (
        ("direct-off", 50), ("monitor-qemu", 300), ("monitor-riffle", 200))])
    figures = report.Figures([tmp_path / "a.csv"])
    assert "monitor" not in " ".join(line.split(" | ")[0] for line in report.boots_table(figures, "lupine")[2:])
    assert "| qemu | 300.0 | 1 | 1.500 |" in sides.others(figures)


@pytest.mark.skipif(not LONG, reason="one of the long tests: RIFFLE_LONG is not set")
def test_a_real_cell(programs, tmp_path):
    r = programs.run(ROOT / "bench" / "boot" / "main.py", "lupine", "--method", "direct-kaslr", "--runs", "1", "--csv",
                     tmp_path / "cell.csv", timeout=1800, env={**os.environ, "RIFFLE_BUILD": str(BUILD)})
    assert r.returncode == 0, r.stderr
    rows = cells.read_rows(tmp_path / "cell.csv")
    told = {x["metric"]: float(x["value"]) for x in rows}
    assert 0 < told["load"] < told["monitor"] < told["init"] and {x["run"] for x in rows} == {"1"}
    assert "boot 1" in r.stdout and "median" in r.stdout


def test_larger_kernels_are_fitted(report, tmp_path):
    """Made-up loads of six kernels: 0.1 ms per thousand chunks, 0.2 ms per MB, and 0.5 ms."""
    paths = []
    for n, (chunks, size) in enumerate([(10_000, 10), (20_000, 12), (40_000, 16), (10_000, 20), (20_000, 40), (10_000, 30)]):
        added = 0.1 * chunks / 1e3 + 0.2 * size + 0.5
        ms = {"floor": 1.0, "load": 2.0, "load_kaslr": 2.0, "load_fgkaslr": 2.0 + added, "load_fgkaslr_lazy": 3.0}
        rows = beside.scale_rows(f"lupine+{n}x256", {"rows": {k: {"ms": [v, v, v]} for k, v in ms.items()}},
                                 {"load_bytes": size * 1_000_000, "shuffle": {"chunks": chunks}})
        paths.append(tmp_path / f"{n}.csv")
        cells.write_rows(paths[-1], rows)
    figures = report.Figures(paths)
    lines = sides.scale(figures, tmp_path)
    assert "| lupine+0x256 | 10.0 | 10000 | 1.00 | 2.00 | 2.00 | 5.50 | 3.00 | 3.50 |" in lines
    assert any("adds 0.100 ms for each thousand chunks and 0.200 ms for each MB to a constant 0.50 ms" in l for l in lines)
    assert "<svg" in (tmp_path / "scale.svg").read_text()
    assert sides.native(figures) == [] and figures.kernels() == []


def test_kernels_of_one_size_are_not_fitted():
    assert sides.least_squares([(1, 2, 3), (1, 2, 4), (1, 2, 5), (1, 2, 6)]) is None


# ---- command lines, the archive, plots


def test_boots_have_riffles_own_command_line():
    """riffle uses its default command line; other monitors are given the same one."""
    plain = cells.commands(cells.Cell("k", "direct-kaslr"), ROOT / "kernel")[1]
    assert "--cmdline" not in plain and "--append 'quiet riffle.do=reboot'" in plain
    tests = cells.commands(cells.Cell("k", "direct-kaslr", selftests=True), ROOT / "kernel")[1]
    assert "--cmdline 'console=ttyS0 " in tests and "notests" not in tests
    other = cells.commands(cells.Cell("k", "monitor", monitor="vmm {cmdline}"), ROOT / "kernel")[1]
    assert "cryptomgr.notests" in cells.default_line() and cells.default_line() in other
    assert cells.Cell("k", "direct-off", selftests=True).name == "k_direct-off_256M-selftests"


def test_a_stock_is_filled_once_and_a_boot_takes_from_it():
    """One item for each boot and one for the warm-up, in a box with memory for all of them."""
    for stage in ("laid", "booted"):
        cell = cells.Cell("k", f"stock-{stage}", memory=128, runs=3)
        fill, boot, figures = cells.commands(cell, ROOT / "kernel")
        assert f"--keep 4 --once --stage {stage} -- -m 128M --randomize=fgkaslr " in fill and "kernel" == fill.split()[-1]
        assert boot == "./riffle run --boot-timer --from-stock stock" and ("0.000" in figures) == (stage == "booted")
        assert cells.box_memory(cell) >= 1536 + 5 * 128


def test_a_resumed_guest_is_at_its_init_with_its_first_instruction(tmp_path):
    """Its figures, by the shell that the box has: what is told of a fresh boot where it says nothing of its init."""
    told = ["riffle: boot-timer: CPU, all threads                      5.734 ms",
            "riffle: boot-timer: start to first guest instruction     16.059 ms"]
    (tmp_path / "err").write_text("\n".join(told) + "\n")
    script = cells.commands(cells.Cell("k", "stock-booted"), ROOT / "kernel")[2]
    lines = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True).stdout.splitlines()
    rows = cells.parse(["run 0", *lines, "reached", "run 1", *lines, "reached"], "Minstr")
    assert {(metric, value) for metric, _, _, value in rows} == {
        ("cpu", 5.734), ("monitor", 16.059), ("init", 16.059), ("guest", 0.0), ("work", 5.734)}


def test_an_emitted_kernel_is_booted_by_qemu_and_compared_with_its_like(report, tmp_path):
    _, boot, _ = cells.commands(cells.Cell("k", "emit-fgkaslr"), ROOT / "kernel")
    assert boot.startswith("./stamp sh -c ") and "./riffle emit -m 256M --randomize=fgkaslr kernel -o emitted && " in boot
    assert cells.default_line() in boot
    cells.write_rows(tmp_path / "a.csv", [row(m, "init", 1, v) for m, v in (
        ("direct-off", 50), ("emit-off", 300), ("emit-fgkaslr", 330))])
    table = report.boots_table(report.Figures([tmp_path / "a.csv"]), "lupine")
    assert any(line.startswith("| emit-fgkaslr | 330.0 |") and "| 1.1000 |" in line for line in table)


def test_ratios_are_of_one_command_line(report, tmp_path):
    """A method that only has boots with the self-tests is compared with the like, and marked."""
    slow = "256M-selftests"
    cells.write_rows(tmp_path / "a.csv", [row("direct-off", "init", 1, 50), row("direct-kaslr", "init", 1, 55),
                                          row("direct-off", "init", 1, 100, condition=slow),
                                          row("direct-kaslr", "init", 1, 300, condition=slow),
                                          row("direct-fgkaslr", "init", 1, 150, condition=slow)])
    figures = report.Figures([tmp_path / "a.csv"])
    table = report.boots_table(figures, "lupine")
    assert table[2].startswith("| direct-off | 50.0 |") and table[3].startswith("| direct-off † | 100.0 |")
    assert table[4].startswith("| direct-kaslr | 55.0 |") and "| 1.1000 |" in table[4]
    assert table[5].startswith("| direct-fgkaslr † | 150.0 |") and "| 1.5000 |" in table[5]
    assert "| in-monitor FGKASLR / no KASLR | 1.5000 † | 2.491 |" in report.ratios_table(figures)
    assert any(line.startswith("| in-monitor KASLR / no KASLR | 1.032 to 1.063 | 1.100 | ") for line in report.summary(figures))


def test_the_archive_gives_back_what_was_put_into_it(report, tmp_path):
    old, new, back = (tmp_path / name for name in ("old", "new", "back"))
    for directory in (old, new, back):
        directory.mkdir()
    (old / "a_x_256M.csv").write_text("1\n")
    (old / "a_y_256M.reason").write_text("no\n")
    (old / "a_z_256M.csv").write_text("kept\n")
    report.archive_all(tmp_path / "r.tar.xz", old)
    once = (tmp_path / "r.tar.xz").read_bytes()
    report.archive_all(tmp_path / "r.tar.xz", old)
    assert (tmp_path / "r.tar.xz").read_bytes() == once
    (new / "a_x_256M.csv").write_text("2\n")
    (new / "a_y_256M.csv").write_text("had\n")
    (new / "a_z_256M.reason").write_text("failed this time\n")
    report.archived(tmp_path / "r.tar.xz", back)
    report.take(new, back)
    assert {p.name: p.read_text() for p in back.iterdir()} == {"a_x_256M.csv": "2\n", "a_y_256M.csv": "had\n",
                                                               "a_z_256M.csv": "kept\n"}


def test_the_page_is_what_its_archive_says(report):
    """The committed tables and plots match the committed results."""
    page = (ROOT / "docs" / "evaluation.md").read_text()
    with tempfile.TemporaryDirectory() as name:
        results, plots = pathlib.Path(name, "results"), pathlib.Path(name, "plots")
        results.mkdir()
        plots.mkdir()
        report.archived(ROOT / "docs" / "evaluation" / "results.tar.xz", results)
        assert report.document(page, report.Figures(sorted(results.glob("*.csv"))), sorted(results.glob("*.reason")), plots) == page
        committed = ROOT / "docs" / "evaluation"
        assert {p.name for p in plots.iterdir()} == {p.name for p in committed.glob("*.svg")}
        assert (plots / "boots.svg").read_text() == (committed / "boots.svg").read_text()


def texts(svg):
    """(left, right, baseline, words) of each text, estimated by the width of a letter."""
    for x, y, size, anchor, words in re.findall(
            r'<text x="([\d.]+)" y="([\d.]+)" [^>]*?font-size="(\d+)" text-anchor="(\w+)"[^>]*>([^<]*)<', svg):
        width = 0.6 * int(size) * len(words)
        left = float(x) - {"start": 0, "middle": width / 2, "end": width}[anchor]
        yield left, left + width, float(y), words


@pytest.mark.parametrize("name", ["boots", "phases", "work-lupine", "work-microvm"])
def test_no_label_is_turned_over_another_or_outside(name):
    svg = (ROOT / "docs" / "evaluation" / f"{name}.svg").read_text()
    assert "rotate" not in svg
    labels = sorted(texts(svg), key=lambda label: label[2])
    assert len(labels) > 30 and all(left > -1 and right < 900 for left, right, _, _ in labels)
    for n, (left, right, y, words) in enumerate(labels):
        for other_left, other_right, other_y, other in labels[n + 1:]:
            if other_y - y >= 10:
                break
            assert right <= other_left or other_right <= left, (words, other)
