# SPDX-License-Identifier: Apache-2.0
"""A guest whose functions are shuffled and whose sections slide hibernates; started again with another layout, it continues with its own."""
import re
import shlex
import subprocess

import pytest
from conftest import RIFFLE, ROOT
from guests import LONG, in_box

KERNELS = ["cloud-6.1"] + (["generic-6.1", "cloud-6.12", "cloud-newest"] if LONG else [])


@pytest.fixture(scope="module")
def outputs(fetch_kernel, tmp_path_factory):
    """What each kernel's two starts say, and their exit statuses."""
    directory = tmp_path_factory.mktemp("hibernation")
    script = ""
    for kernel in KERNELS:
        disk, initrd = directory / f"{kernel}.disk", directory / f"{kernel}.initrd"
        with open(disk, "wb") as f:
            f.truncate(512 << 20)
        subprocess.run([ROOT / "tools/mkinitramfs", initrd, "--busybox", "--modules", f"{kernel}:virtio_mmio,virtio_blk,dummy",
                        "--init", ROOT / "tests/guest/hibernate.sh"], check=True)
        command = shlex.join(["timeout", "900", str(RIFFLE), "run", "-m", "384M", "--randomize=fgkaslr+slide", "-i", str(initrd),
                              "--disk", f"{disk},raw,cache=unsafe", str(fetch_kernel(kernel))])
        script += f"{command}; echo; echo end $?\n" * 2
    r = in_box(["sh", "-c", script], timeout=2000 * len(KERNELS))
    said = r.stdout.decode(errors="replace").replace("\r", "")
    ends = re.split(r"^end (\d+)\n", said, flags=re.M)
    assert len(ends) == 4 * len(KERNELS) + 1, said[-3000:] + r.stderr.decode(errors="replace")[-3000:]
    runs = list(zip(ends[0::2], ends[1::2]))
    return dict(zip(KERNELS, zip(runs[0::2], runs[1::2])))


def layouts(said):
    return re.findall(r"^hibernate: (start|saving|resumed) ([0-9a-f]{16}(?: [0-9a-f]{16}){4}) $", said, re.M)


@pytest.mark.parametrize("kernel", KERNELS)
def test_image_continues_with_its_own_layout(outputs, kernel):
    (first, first_status), (second, second_status) = outputs[kernel]
    assert (first_status, second_status) == ("0", "0"), first[-3000:] + second[-3000:]
    (started, saved), (other, resumed) = layouts(first), layouts(second)
    assert [word for word, _ in (started, saved, other, resumed)] == ["start", "saving", "start", "resumed"]
    assert started[1] == saved[1] == resumed[1]
    assert other[1].split()[0] != resumed[1].split()[0], "the second start drew the first one's order"
    for what in ("counts_on", "memory", "traces", "loads_a_module"):
        assert f"{what}: ok\n" in second, second[-3000:]
    assert "hibernate: failed" not in second and "hibernate: trouble" not in second, second[-3000:]
