# SPDX-License-Identifier: Apache-2.0
"""kvmbox runs a command as if it ran here, except that its /dev/kvm virtualises."""
import os
import pathlib
import pty
import random
import select
import signal
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
KVMBOX = str(ROOT / "tools" / "kvmbox")


def box(*args, **kwargs):
    kwargs.setdefault("stdin", subprocess.DEVNULL)
    if "input" in kwargs:
        del kwargs["stdin"]
    return subprocess.run([KVMBOX, *args], capture_output=True, timeout=600, check=False, **kwargs)


def test_exit_status_zero_and_silence():
    r = box("true")
    assert (r.returncode, r.stdout, r.stderr) == (0, b"", b"")


@pytest.mark.parametrize("script, status", [("exit 3", 3), ("exit 255", 255), ("kill -9 $$", 137)])
def test_exit_status_of_the_command(script, status):
    r = box("sh", "-c", script)
    assert (r.returncode, r.stderr) == (status, b"")


def test_a_command_that_does_not_exist():
    r = box("no-such-command")
    assert r.returncode == 127
    assert b"no-such-command" in r.stderr


def test_streams_are_separate_and_binary_clean():
    data = random.Random(1).randbytes(100_000)
    r = box("sh", "-c", "tee /dev/stderr", input=data)
    assert r.returncode == 0
    assert r.stdout == data
    assert r.stderr == data


def test_arguments_and_environment_arrive_unaltered():
    odd = "a b\n'\"$x\\ \u00e9 *"
    r = box("--env", "SOME=" + odd, "sh", "-c", 'printf "%s|%s|%s|%s" "$1" "$SOME" "$RIFFLE_TEST" "$PWD"', "sh", odd,
            env={**os.environ, "RIFFLE_TEST": odd}, cwd=ROOT)
    assert r.stdout.decode() == "|".join([odd, odd, odd, str(ROOT)])


def test_working_directory_is_shared_and_tmp_is_not(tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    (here / "given").write_text("given\n")
    own = pathlib.Path("/tmp") / f"kvmbox-{os.getpid()}"
    r = box("sh", "-c", f"cat given; echo made >made; echo lost >/tmp/${{0##*/}}; stat -f -c %T /tmp", own.name, cwd=here)
    assert (r.returncode, r.stdout) == (0, b"given\ntmpfs\n")
    assert (here / "made").read_text() == "made\n"
    assert not own.exists()


def test_time_limit():
    start = time.monotonic()
    r = box("--timeout", "4", "sleep", "60")
    assert r.returncode == 124
    assert b"time limit" in r.stderr
    assert time.monotonic() - start < 55     # and does not take the command's input


def test_a_signal_ends_box_and_machine():
    p = subprocess.Popen([KVMBOX, "sh", "-c", "echo ready; sleep 60"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert p.stdout.readline() == b"ready\n"
    children = pathlib.Path(f"/proc/{p.pid}/task/{p.pid}/children").read_text().split()
    assert children
    p.send_signal(signal.SIGTERM)
    assert p.wait(10) == 128 + signal.SIGTERM
    assert not any(pathlib.Path(f"/proc/{c}").exists() for c in children)


WAKES = """
count() { awk '/virtqueues$/ { n += $2 } END { print n + 0 }' /proc/interrupts; }
a=$(count); sleep 6; echo $(($(count) - a))
"""


def test_a_sleeping_processor_is_woken():
    """Once a second, in case the timer interrupt was lost: see tools/box/host.c. Not when counting instructions."""
    r = box("sh", "-c", WAKES)
    assert r.returncode == 0 and int(r.stdout) >= 4, r
    r = box("--icount", "sh", "-c", WAKES)
    assert r.returncode == 0 and int(r.stdout) < 4, r


def test_two_at_once():
    both = [subprocess.Popen([KVMBOX, "sh", "-c", f"sleep 1; echo {n}; exit {n}"], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE) for n in (1, 2)]
    for n, p in enumerate(both, 1):
        out, err = p.communicate(timeout=600)
        assert (p.returncode, out, err) == (n, b"%d\n" % n, b"")


def test_read_only(tmp_path):
    r = box("--ro", "sh", "-c", "echo x >made", cwd=tmp_path)
    assert r.returncode != 0
    assert not (tmp_path / "made").exists()


def test_terminal():
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(KVMBOX, ["kvmbox", "sh", "-c", "test -t 0 && test -t 1 && echo terminal; read x; echo got $x; exit 7"])
    seen, sent, end = b"", False, time.monotonic() + 600
    while time.monotonic() < end:
        if not select.select([fd], [], [], 1)[0]:
            continue
        try:
            more = os.read(fd, 4096)
        except OSError:
            break
        seen += more
        if b"terminal" in seen and not sent:
            os.write(fd, b"key\r")
            sent = True
    assert b"got key" in seen
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


KVM_PROGRAM = r"""
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
/* Real mode: adds 2 and 2, writes the sum to port 0x10, halts. */
int main(void)
{
    static const unsigned char code[] = {0xb0, 2, 0x04, 2, 0xe6, 0x10, 0xf4};
    int kvm = open("/dev/kvm", O_RDWR), vm, vcpu;
    printf("%d\n", ioctl(kvm, KVM_GET_API_VERSION, 0));
    vm = ioctl(kvm, KVM_CREATE_VM, 0);
    char *memory = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memcpy(memory, code, sizeof code);
    struct kvm_userspace_memory_region slot = {.guest_phys_addr = 0x1000, .memory_size = 4096,
                                               .userspace_addr = (unsigned long)memory};
    ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot);
    vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    struct kvm_run *run = mmap(0, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    struct kvm_sregs sregs;
    ioctl(vcpu, KVM_GET_SREGS, &sregs);
    sregs.cs.base = sregs.cs.selector = 0;
    ioctl(vcpu, KVM_SET_SREGS, &sregs);
    struct kvm_regs regs = {.rip = 0x1000, .rflags = 2};
    ioctl(vcpu, KVM_SET_REGS, &regs);
    ioctl(vcpu, KVM_RUN, 0);
    if (run->exit_reason == KVM_EXIT_IO)
        printf("port %#x value %d\n", run->io.port, ((char *)run)[run->io.data_offset]);
    ioctl(vcpu, KVM_RUN, 0);
    printf("exit %d\n", run->exit_reason);
    return 0;
}
"""


def test_kvm_runs_a_guest(tmp_path):
    (tmp_path / "kvm.c").write_text(KVM_PROGRAM)
    subprocess.run(["cc", "-o", "kvm", "kvm.c"], cwd=tmp_path, check=True)
    r = box("./kvm", cwd=tmp_path)
    assert (r.returncode, r.stdout, r.stderr) == (0, b"12\nport 0x10 value 4\nexit 5\n", b"")
