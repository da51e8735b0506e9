# SPDX-License-Identifier: Apache-2.0
"""A time limit that follows progress; and one failed build is one failure."""
import subprocess
import sys

import patience
import pytest
from conftest import ROOT

# prints now and then, for longer than it may be silent
SLOW = "for i in 1 2 3 4 5 6 7 8; do sleep 0.6; echo $i; done"


def test_what_goes_on_is_not_ended():
    r = patience.run(["sh", "-c", SLOW], silent=4, pause=0.05)
    assert (r.returncode, r.stdout.split()) == (0, list("12345678"))


def test_work_without_a_word_is_progress():
    busy = "import time\nend = time.monotonic() + 5\nwhile time.monotonic() < end: pass\n"
    assert patience.run([sys.executable, "-c", busy], silent=4, pause=0.05).returncode == 0


def test_what_others_do_is_progress(tmp_path):
    """A build that waits for another's lock."""
    log = tmp_path / ".build-x" / "build.log"
    log.parent.mkdir()
    log.touch()
    with subprocess.Popen(["sh", "-c", SLOW.replace("echo $i", f"echo $i >> '{log}'")]) as other:
        r = patience.run(["sleep", "4.7"], silent=4, pause=0.05, also=lambda: patience.logs_grown(tmp_path))
        assert r.returncode == 0
        other.wait()


def test_what_stands_still_is_ended_with_all_that_it_started(tmp_path):
    with pytest.raises(patience.Stalled, match="no progress for 0.5 s"):
        patience.run(["sh", "-c", f"(sleep 600; touch {tmp_path}/late) & echo started; wait"], silent=0.5, pause=0.05)


def test_status_and_both_streams_are_told():
    r = patience.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (r.returncode, r.stdout, r.stderr) == (3, "out\n", "err\n")


def test_one_failed_build_is_one_failure(tmp_path):
    """Three tests need the same kernel; another kernel's failure counts separately."""
    (tmp_path / "conftest.py").write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT / 'tests' / 'e2e')!r})\n"
        "import importlib.util\n"
        f"spec = importlib.util.spec_from_file_location('ours', {str(ROOT / 'tests' / 'e2e' / 'conftest.py')!r})\n"
        "ours = importlib.util.module_from_spec(spec)\nspec.loader.exec_module(ours)\n"
        "pytest_runtest_makereport = ours.pytest_runtest_makereport\n")
    (tmp_path / "test_three.py").write_text(
        "import patience, pytest\n\n\n@pytest.fixture\ndef kernel(request):\n"
        "    raise patience.BuildFailed(request.param, 'make failed')\n\n\n"
        "@pytest.mark.parametrize('kernel', ['small', 'small', 'small', 'large'], indirect=True)\ndef test_it(kernel):\n    pass\n\n\n"
        "def test_body():\n    raise patience.BuildFailed('small', 'make failed')\n")
    r = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", tmp_path], cwd=tmp_path,
                       capture_output=True, text=True, check=False)
    last = r.stdout.strip().splitlines()[-1]
    assert r.returncode == 1 and "3 skipped" in last and ("2 errors" in last or "1 failed, " in last), r.stdout
