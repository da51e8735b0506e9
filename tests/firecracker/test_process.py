# SPDX-License-Identifier: Apache-2.0
"""The process around the machine: what it leaves behind and says of it, signals in each of its threads, metrics while it runs."""
import ctypes
import json
import os
import signal
import subprocess
import time

import pytest

SYS_TGKILL = 234


def boot(vmm, kernel):
    # the console's text would have log lines in the middle
    vmm.put("/logger", {"log_path": vmm.file("log")})
    vmm.put("/metrics", {"metrics_path": vmm.file("metrics")})
    vmm.put("/boot-source", {"kernel_image_path": kernel})
    vmm.put("/entropy", {})
    vmm.put("/drives/a_drive", {"drive_id": "a_drive", "is_root_device": False,
                                                  "path_on_host": vmm.file("disk", size=4096)})
    vmm.put("/actions", {"action_type": "InstanceStart"})
    vmm.wait_for(lambda: "tiny guest" in vmm.console)


def metrics(vmm):
    return [json.loads(line) for line in (vmm.directory / "metrics").read_text().splitlines()]


def test_socket_that_nobody_listens_at(start, vmm):
    """Whose it was cannot be known: it is left alone, and the log says what to do."""
    hint = f"Nobody listens at {vmm.socket}: a process that ended left it behind. Remove it, and start again."
    second = start("--api-sock", vmm.socket, api=False)
    assert second.wait() == 1 and hint not in second.output
    assert vmm.get("/version")
    vmm.process.kill()
    vmm.wait()
    third = start("--api-sock", vmm.socket, api=False)
    assert third.wait() == 1 and hint in third.output
    assert vmm.socket.exists()


@pytest.mark.parametrize("thread,name,code", [("riffle-vmm", "SIGHUP", 156), ("fc_vcpu 0", "SIGHUP", 156), ("fc_vcpu 0", "SIGSEGV", 150),
                                              ("fc_api", "SIGSEGV", 150), ("fc_vcpu 0", "SIGSYS", 148), ("fc_api", "SIGXFSZ", 151)])
def test_signal_in_a_thread(vmm, kernel, needs_kvm, thread, name, code):
    """Each thread is confined, and can still write the last line of log and metrics."""
    boot(vmm, kernel)
    tasks = f"/proc/{vmm.process.pid}/task"
    (task,) = [t for t in os.listdir(tasks) if open(f"{tasks}/{t}/comm").read().strip() == thread]
    ctypes.CDLL(None).syscall(SYS_TGKILL, vmm.process.pid, int(task), int(getattr(signal, name)))
    assert vmm.wait() == code, vmm.output
    assert "Shutting down VM after intercepting " in (vmm.directory / "log").read_text()
    first, last = metrics(vmm)
    counted = last["seccomp"]["num_faults"] if name == "SIGSYS" else last["signals"][name.lower()]
    assert counted == 1 and first["signals"]["sighup"] == 0


def test_layout_is_told_once_and_never_where(vmm, kernel, needs_kvm):
    boot(vmm, kernel)
    vmm.put("/actions", {"action_type": "FlushMetrics"})
    first, second = metrics(vmm)
    assert set(first["riffle"]) == {"mode", "virtual_bits", "physical_bits", "chunks", "load_us", "start_us", "origin", "stock_empty",
                                    "stock_bad_items", "shared_layout_restores"}
    assert first["riffle"]["mode"] == "off" and first["riffle"]["start_us"] >= first["riffle"]["load_us"] > 0
    assert "riffle" not in second


def test_what_the_guest_did_is_counted(vmm, kernel, needs_kvm):
    boot(vmm, kernel)
    vmm.put("/actions", {"action_type": "FlushMetrics"})
    first, second = metrics(vmm)
    assert first["vcpu"]["exit_io_out"] == first["uart"]["write_count"] == 0
    assert second["uart"]["write_count"] >= len("tiny guest")
    assert second["vcpu"]["exit_io_out"] >= second["uart"]["write_count"]
    spent = second["vcpu"]["exit_io_out_agg"]
    assert spent["max_us"] >= spent["min_us"] and spent["sum_us"] >= spent["max_us"]
    assert "block_a_drive" in second and set(second["block_a_drive"]) == set(second["block"])
    vmm.put("/actions", {"action_type": "FlushMetrics"})
    assert metrics(vmm)[2]["uart"]["write_count"] < second["uart"]["write_count"] + 1


def test_pause_is_timed(vmm, kernel, needs_kvm):
    boot(vmm, kernel)
    vmm.patch("/vm", {"state": "Paused"})
    vmm.patch("/vm", {"state": "Resumed"})
    vmm.put("/actions", {"action_type": "FlushMetrics"})
    latencies = metrics(vmm)[-1]["latencies_us"]
    assert latencies["pause_vm"] >= latencies["vmm_pause_vm"] > 0 and latencies["resume_vm"] >= latencies["vmm_resume_vm"]
    for words in ("'pause vm' API request took ", "'pause vm' VMM action took ", "'resume vm' API request took "):
        assert words in (vmm.directory / "log").read_text()


def test_fifo_that_is_read_late_has_whole_lines(vmm, kernel, needs_kvm):
    """What did not fit is in the lines that come once there is room: nothing is torn and no increment is lost."""
    fifo = vmm.directory / "metrics"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    vmm.put("/metrics", {"metrics_path": "metrics"})
    vmm.put("/boot-source", {"kernel_image_path": kernel})
    vmm.put("/actions", {"action_type": "InstanceStart"})
    asked = 40
    refused = sum(vmm.request("PUT", "/actions", {"action_type": "FlushMetrics"}).status != 204 for _ in range(asked))
    text = b""
    for _ in range(3):
        while True:
            try:
                block = os.read(reader, 1 << 16)
            except BlockingIOError:
                break
            text += block
        vmm.put("/actions", {"action_type": "FlushMetrics"})
    os.close(reader)
    lines = [json.loads(line) for line in text.splitlines(True) if line.endswith(b"\n")]
    assert len(lines) > 5
    assert sum(line["logger"]["missed_metrics_count"] for line in lines) >= refused
    assert sum(line["put_api_requests"]["actions_count"] for line in lines) >= asked


def test_guest_that_halts_for_good(start, kernel, needs_kvm):
    """It stays, as in Firecracker, until somebody ends the process."""
    vmm = start(stdin=subprocess.PIPE)
    boot(vmm, kernel)
    vmm.process.stdin.write(b"#")
    vmm.process.stdin.flush()
    vmm.wait_for(lambda: "#" in vmm.out)
    time.sleep(2.5)
    assert vmm.get("/")["state"] == "Running"
    vmm.process.terminate()
    assert vmm.wait() == -signal.SIGTERM


def test_start_in_the_log(vmm, kernel, needs_kvm):
    """What tests of Firecracker's look for at Debug, in order."""
    vmm.put("/logger", {"log_path": vmm.file("log"), "level": "Debug"})
    vmm.put("/boot-source", {"kernel_image_path": kernel})
    vmm.put("/actions", {"action_type": "InstanceStart"})
    text = (vmm.directory / "log").read_text()
    places = [text.find("] " + words + "\n") for words in (
        "event_start: build microvm for boot", "Kernel loaded using Linux 64-bit boot protocol",
        "event_end: build microvm for boot", "event_start: boot microvm", "event_end: boot microvm")]
    assert -1 not in places and places == sorted(places), text
