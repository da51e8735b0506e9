# SPDX-License-Identifier: Apache-2.0
"""A guest whose functions are shuffled and whose sections slide starts another kernel by kexec, also after a panic."""
import re
import shlex
import subprocess

import pytest
from conftest import RIFFLE, ROOT
from guests import LONG, in_box

GUEST = ROOT / "tests/guest"
# 6.1 and 6.12 map a page of .text to the code that kexec copies; since 6.14 that code lies in .data
GUESTS = [("cloud-6.1", "kexec"), ("cloud-6.12", "crash")]
if LONG:
    GUESTS += [(k, how) for k in ("cloud-5.10", "cloud-6.1", "cloud-6.12", "cloud-newest", "generic-6.1") for how in ("kexec", "crash")]
GUESTS = sorted(set(GUESTS))


@pytest.fixture(scope="module")
def outputs(fetch_kernel, tmp_path_factory):
    directory = tmp_path_factory.mktemp("kexec")
    program, second, initrd = (directory / name for name in ("kexec", "second", "initrd"))
    subprocess.run(["cc", "-std=gnu17", "-Wall", "-Werror", "-O2", "-static", "-o", program, GUEST / "kexec.c"], check=True)
    pack = [ROOT / "tools/mkinitramfs"]
    begin = ["--busybox", "--add", f"{GUEST / 'begin.sh'}:/begin.sh"]
    subprocess.run([*pack, second, *begin, "--init", GUEST / "second.sh"], check=True)
    # what it starts is the bzImage of 6.1, which randomises itself
    subprocess.run([*pack, initrd, *begin, "--add", f"{program}:/bin/kexec", "--add", f"{second}:/second",
                    "--add", f"{fetch_kernel('cloud-6.1')}:/kernel", "--init", GUEST / "kexec.sh"], check=True)
    script = ""
    for kernel, how in GUESTS:
        command = ["timeout", "900", str(RIFFLE), "run", "-m", "640M", "-a", f"crashkernel=192M riffle.kexec={how}",
                   "--randomize=fgkaslr+slide", "-i", str(initrd), str(fetch_kernel(kernel))]
        script += f"{shlex.join(command)}; echo; echo end $?\n"
    r = in_box(["sh", "-c", script], timeout=1000 * len(GUESTS))
    said = r.stdout.decode(errors="replace").replace("\r", "")
    ends = re.split(r"^end (\d+)\n", said, flags=re.M)
    assert len(ends) == 2 * len(GUESTS) + 1, said[-3000:] + r.stderr.decode(errors="replace")[-3000:]
    return dict(zip(GUESTS, zip(ends[0::2], ends[1::2])))


@pytest.mark.parametrize("guest", GUESTS, ids="-".join)
def test_another_kernel_is_started(outputs, guest):
    said, code = outputs[guest]
    assert "kexec: failed" not in said and "second: up\n" in said and code == "0", said[-3000:]
    if guest[1] == "crash":
        assert "kexec: loaded\n" in said
        # all of its memory but the crash kernel's, with the symbols' true addresses
        assert int(re.search(r"^second: vmcore of (\d+) bytes$", said, re.M)[1]) > 400 << 20, said[-3000:]
        text, data = (int(re.search(rf"^second: SYMBOL\({name}\)=([0-9a-f]{{16}})$", said, re.M)[1], 16)
                      for name in ("_stext", "init_uts_ns"))
        assert text % (2 << 20) == 0 and text < data < text + (128 << 20), said[-3000:]
