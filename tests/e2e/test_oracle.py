# SPDX-License-Identifier: Apache-2.0
"""riffle's load is identical to the result of the kernel's own bootstrap, and of the loader stage, at the same layout."""
import dataclasses
import json
import re
import shlex
import subprocess

import pytest
from conftest import BUILD, RIFFLE
from guests import LINK_VIRTUAL, LONG, Guest, in_box, run_guests

ORACLE = BUILD / "tests" / "e2e" / "oracle"
KERNELS = ["cloud-6.1", "cloud-6.12"] + (["generic-6.1", "cloud-5.10", "cloud-newest"] if LONG else [])
TIMES = 10 if LONG else 2
SAME, DIFFERENT = 0, 3


@dataclasses.dataclass
class Verdict:
    code: int
    layout: dict
    words: str


@pytest.fixture(scope="module")
def ask(forms, guest_initrd, tmp_path_factory):
    """Runs the oracle on a kernel several times, in one box."""

    def run(kernel, calls, images=()):
        """Or on these images of it, one for each call."""
        directory = tmp_path_factory.mktemp(kernel)
        script = []
        for i, options in enumerate(calls):
            command = shlex.join(map(str, [ORACLE, "--initrd-bytes", guest_initrd.stat().st_size, *options,
                                           images[i] if images else forms.fetch(kernel), forms.prepared(kernel)]))
            script.append(f"{command} >{directory}/{i}.out 2>{directory}/{i}.err; echo $? >{directory}/{i}.code")
        r = in_box(["sh", "-c", "\n".join(script)])
        assert r.returncode == 0, r.stderr
        verdicts = []
        for i, _ in enumerate(calls):
            out = (directory / f"{i}.out").read_text()
            verdicts.append(Verdict(int((directory / f"{i}.code").read_text()), json.loads(out or "null"),
                                    (directory / f"{i}.err").read_text()))
        return verdicts

    return run


@pytest.mark.parametrize("kernel", KERNELS)
def test_same_to_the_byte_and_replayed(ask, forms, guest_initrd, tmp_path, kernel):
    verdicts = ask(kernel, [[]] * TIMES)
    for v in verdicts:
        assert v.code == SAME, v.words
        compared = int(re.search(r"(\d+) bytes compared, 0 differ, 0 words written beside them", v.words).group(1))
        assert compared > 30 << 20
    assert len({v.layout["virtual_base"] + v.layout["physical_base"] for v in verdicts}) > 1

    # and a guest started at the bootstrap's own layout works
    guests = {str(i): Guest(forms.prepared(kernel), layout=v.layout) for i, v in enumerate(verdicts[:2])}
    run_guests(guests, guest_initrd, tmp_path / "replay")
    for guest in guests.values():
        assert guest.reached and guest.fact("warnings") == "0", guest.everything()
        assert guest.text == int(guest.layout["virtual_base"], 16)
        assert guest.physical == int(guest.layout["physical_base"], 16)
        assert guest.offset == int(guest.layout["virtual_base"], 16) - LINK_VIRTUAL


def test_one_wrong_byte_or_relocation_is_noticed(ask):
    """Tests the comparison itself: it reports the byte that was corrupted."""
    what = ["byte"] * 3 + ["relocation"] * 3
    for spoiled, v in zip(what, ask("cloud-6.1", [["--spoil", s] for s in what])):
        if spoiled == "relocation" and int(v.layout["virtual_base"], 16) == LINK_VIRTUAL:
            continue  # skipping a relocation by 0 makes no difference
        assert v.code == DIFFERENT, v.words
        at = int(re.search(rf"spoiled {spoiled} at image offset (0x[0-9a-f]+)", v.words).group(1), 16)
        wrong = [int(n, 16) for n in re.findall(r"image offset (0x[0-9a-f]+): the bootstrap left", v.words)]
        assert wrong and all(at <= n < at + (1 if spoiled == "byte" else 4) for n in wrong), v.words


def test_a_bzimage_without_the_jump_is_refused(ask, forms, programs):
    """With an unknown bootstrap the oracle must fail instead of passing without a comparison."""
    broken = programs.directory / "bzimage"
    image = bytearray(forms.fetch("cloud-6.1").read_bytes())
    at = image.index(bytes.fromhex("4c89feffe0"))
    image[at + 4] = 0xE1
    broken.write_bytes(image)
    r = programs.run(ORACLE, broken, forms.prepared("cloud-6.1"))
    assert (r.returncode, r.stdout) == (1, "")
    assert r.stderr == "oracle: the bootstrap's last jump (mov %r15,%rsi; jmp *%rax) is there 0 times, not once\n"


# ---- the loader stage

MODES = ("kaslr", "fgkaslr", "kaslr+slide", "fgkaslr+slide", "auto", "auto")


def self_image(forms, kernel, mode):
    return forms.make(f"{kernel}.{mode}.self", lambda out: subprocess.run(
        [RIFFLE, "prepare", "--bootstrap", "--randomize", mode, forms.prepared(kernel), "-o", out], check=True, timeout=300))


@pytest.mark.parametrize("kernel", KERNELS)
def test_stage_leaves_what_the_library_loads(ask, forms, kernel):
    """The order and the slides too are those that the stage drew, read from its stack: every byte, gaps included."""
    told = subprocess.run([RIFFLE, "inspect", "--json", forms.prepared(kernel)], check=True, capture_output=True, timeout=300)
    blocks = len(json.loads(told.stdout)["slides"]["blocks"])
    verdicts = ask(kernel, [["--stage", "yes"]] * len(MODES), [self_image(forms, kernel, mode) for mode in MODES])
    for mode, v in zip(MODES, verdicts):
        assert v.code == SAME, v.words
        compared = int(re.search(r"(\d+) bytes compared, 0 differ\n", v.words).group(1))
        slides = v.layout["slides"]
        assert v.layout["mode"] == ("fgkaslr" if mode == "auto" else mode.removesuffix("+slide"))
        assert len(slides) == (blocks if mode == "auto" or mode.endswith("+slide") else 0)
        assert compared > (40 << 20) + (slides or [0])[-1] and slides == sorted(slides)
    slid = [v.layout["slides"] for v in verdicts if v.layout["slides"]]
    assert len({tuple(s) for s in slid}) == len(slid) == 4
    assert len({(v.layout["physical_base"], v.layout["virtual_base"]) for v in verdicts}) > 1


def test_one_wrong_byte_of_the_stage_is_noticed(ask, forms):
    image = self_image(forms, "cloud-6.1", "auto")
    for v in ask("cloud-6.1", [["--stage", "yes", "--spoil", "byte"]] * 2, [image] * 2):
        assert v.code == DIFFERENT, v.words
        at = re.search(r"spoiled address (0x[0-9a-f]+)", v.words).group(1)
        assert re.findall(r"address (0x[0-9a-f]+): the stage left", v.words) == [at]
