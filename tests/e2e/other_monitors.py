# SPDX-License-Identifier: Apache-2.0
"""Guests in other monitors: QEMU with software emulation on this machine, QEMU and tests/e2e/handoff.c in the box."""
import dataclasses
import shlex
import subprocess

from conftest import BUILD
from guests import Guest, in_box

HANDOFF = BUILD / "tests" / "e2e" / "handoff"
CONSOLE = "console=ttyS0 panic=-1"


@dataclasses.dataclass
class Machine(Guest):
    """One Linux booted by QEMU's -kernel, or by `handoff`, which takes entry and rsdp."""

    machine: str = "q35"
    initrd_bytes: int = 0           # the initrd is made so long
    times: int = 1                  # how often init is reached before the guest is killed
    entry: str = ""
    rsdp: str = "given"
    layout_file: str = None         # what riffle emit wrote of it

    def line(self):
        return " ".join([CONSOLE, *self.append.split(), f"riffle.do={self.do}"])

    def qemu(self, initrd, accelerator="tcg"):
        cpu = ["-cpu", "host"] if accelerator == "kvm" else []
        return ["qemu-system-x86_64", "-M", self.machine, "-accel", accelerator, *cpu, "-m", f"{self.memory}M",
                "-smp", str(self.cpus), "-display", "none", "-nodefaults", "-no-user-config", "-serial", "stdio",
                *(["-no-reboot"] if self.times == 1 else []), "-kernel", str(self.kernel), "-initrd", str(initrd),
                "-append", self.line()]

    def handoff(self, initrd):
        return [str(HANDOFF), "--entry", self.entry, "--rsdp", self.rsdp, "--memory", str(self.memory), "--initrd",
                str(initrd), "--cmdline", f"{self.line()} reboot=k pci=off", str(self.kernel)]

    def said(self, out):
        self.out = out.replace("\r", "")
        return self


def initrd_of(machine, initrd, directory):
    """The initramfs padded with zeros, which the kernel ignores."""
    if machine.initrd_bytes <= initrd.stat().st_size:
        return initrd
    longer = directory / "longer-initrd"
    longer.write_bytes(initrd.read_bytes())
    with open(longer, "r+b") as f:
        f.truncate(machine.initrd_bytes)
    return longer


def boot(machine, initrd, directory):
    """Runs it in QEMU's software emulation, until it ends or has reached init `times` times."""
    command = machine.qemu(initrd_of(machine, initrd, directory))
    with subprocess.Popen(["timeout", "-k", "5", str(machine.seconds), *command], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        lines = []
        for line in process.stdout:
            lines.append(line.decode(errors="replace"))
            # the last thing that init prints
            if machine.times > 1 and sum("guest: warnings=" in one for one in lines) == machine.times:
                process.terminate()
                break
        machine.code = process.wait()
    return machine.said("".join(lines))


def boot_in_box(machines, initrd, directory):
    """Boots several, by name, one after another: those with an entry by `handoff`, the others in QEMU under KVM."""
    script = [f"d={shlex.quote(str(directory))}"]
    for name, machine in machines.items():
        command = machine.handoff(initrd) if machine.entry else machine.qemu(initrd, "kvm")
        script.append(f'timeout -k 5 {machine.seconds} {shlex.join(command)} </dev/null >/run/out 2>&1; '
                      f'echo $? >"$d/{name}.code"; cp /run/out "$d/{name}.out"')
    memory = max(m.memory for m in machines.values())
    r = in_box(["sh", "-c", "\n".join(script), directory, initrd, *(m.kernel for m in machines.values())],
               max(2048, memory + 1536), sum(m.seconds + 10 for m in machines.values()))
    assert r.returncode == 0, r.stderr.decode(errors="replace")
    for name, machine in machines.items():
        machine.code = int((directory / f"{name}.code").read_text())
        machine.said((directory / f"{name}.out").read_text(errors="replace"))
    return machines
