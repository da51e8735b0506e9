# SPDX-License-Identifier: Apache-2.0
"""Logger and metrics: the form of lines, what is told of each request, fifos that nobody reads, names of all metrics."""
import json
import os
import re
import signal
import time

import pytest
from api import fault, no_content
from vmm import Vmm

LINE = r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}) \[(?P<id>[^:\]]+):(?P<thread>[^:\]]+)%s\] (?P<text>.*)"
LEVEL, ORIGIN = ":(?P<level>ERROR|WARN|INFO|DEBUG|TRACE)", r":(?P<file>[^:\]]+):(?P<line>\d+)"


def lines(vmm, name="log"):
    return (vmm.directory / name).read_text().splitlines()


@pytest.fixture
def logged(vmm):
    vmm.file("log")
    vmm.put("/logger", {"log_path": "log"})
    return vmm


@pytest.mark.parametrize("level", [False, True])
@pytest.mark.parametrize("origin", [False, True])
def test_form_of_a_line(start, level, origin):
    vmm = start("--id", "vm-7")
    vmm.put("/logger", {"log_path": vmm.file("log"), "show_level": level, "show_log_origin": origin})
    vmm.get("/version")
    vmm.request("GET", "/nowhere")
    form = re.compile(LINE % ((LEVEL if level else "") + (ORIGIN if origin else "")))
    found = [form.fullmatch(line) for line in lines(vmm)]
    assert found and all(found), lines(vmm)
    assert {m["id"] for m in found} == {"vm-7"} and "fc_api" in {m["thread"] for m in found}
    if level:
        assert {"INFO", "ERROR"} <= {m["level"] for m in found}


def test_times_are_now_and_rise(logged):
    for _ in range(10):
        logged.get("/version")
    times = [re.match(LINE % "", line)["time"] for line in lines(logged)]
    assert times == sorted(times)
    assert abs(time.mktime(time.strptime(times[-1][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone - time.time()) < 100


REQUESTS = {
    "GET": ("GET", "/version", None, 'The API server received a Get request on "/version".',
            "The request was executed successfully. Status code: 200 OK."),
    "PUT": ("PUT", "/entropy", "{}", 'The API server received a Put request on "/entropy" with body "{}".',
            "The request was executed successfully. Status code: 204 No Content."),
    "PUT with quotes": ("PUT", "/actions", '{"action_type":"FlushMetrics"}',
                        r'The API server received a Put request on "/actions" with body "{\"action_type\":\"FlushMetrics\"}".',
                        "Received Error. Status code: 400 Bad Request. Message: The requested operation is not supported before "
                        "starting the microVM."),
    "PATCH": ("PATCH", "/machine-config", '{"vcpu_count":2}',
              r'The API server received a Patch request on "/machine-config" with body "{\"vcpu_count\":2}".',
              "The request was executed successfully. Status code: 204 No Content."),
    "newline in a body": ("PUT", "/entropy", "{\n}", r'The API server received a Put request on "/entropy" with body "{\n}".',
                          "204 No Content."),
    "metadata is not told": ("PUT", "/mmds", '{"secret":"x"}', 'The API server received a Put request on "/mmds".',
                             "204 No Content."),
    "CPU template is not told": ("PUT", "/cpu-config", "{}", 'The API server received a Put request on "/cpu-config". To view the '
                                 "CPU template received by the API, configure log-level to DEBUG.", "204 No Content."),
}


@pytest.mark.parametrize("row", REQUESTS)
def test_each_request_is_told(logged, row):
    method, path, body, asked, answered = REQUESTS[row]
    logged.request(method, path, body)
    texts = [re.match(LINE % "", line)["text"] for line in lines(logged)]
    assert asked in texts, texts
    assert any(answered in t for t in texts[texts.index(asked):]), texts
    assert "secret" not in "".join(texts)


@pytest.mark.parametrize("level,shown", [("Off", set()), ("Error", {"ERROR"}), ("Warning", {"ERROR", "WARN"}),
                                         ("Info", {"ERROR", "INFO", "WARN"}), ("Debug", {"ERROR", "INFO", "WARN"})])
def test_levels(vmm, level, shown):
    vmm.put("/logger", {"log_path": vmm.file("log"), "level": level, "show_level": True})
    vmm.get("/version")
    vmm.request("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 128, "cpu_template": "None"})
    vmm.request("PUT", "/actions", {"action_type": "FlushMetrics"})
    found = {re.match(LINE % LEVEL, line)["level"] for line in lines(vmm)}
    assert found - {"DEBUG", "TRACE"} <= shown and (not shown or "ERROR" in found)


def test_log_is_not_truncated(vmm):
    vmm.file("log", "x" * 100000)
    vmm.put("/logger", {"log_path": "log"})
    vmm.get("/version")
    assert (vmm.directory / "log").stat().st_size == 100000


def test_log_is_made(vmm):
    vmm.put("/logger", {"log_path": "new"})
    vmm.get("/version")
    assert "/version" in (vmm.directory / "new").read_text()


def test_logger_again(vmm):
    for name in ("a", "b"):
        vmm.put("/logger", {"log_path": vmm.file(name), "level": "Error"})
    vmm.get("/version")
    assert "/version" not in (vmm.directory / "b").read_text()
    vmm.put("/logger", {"show_level": False})       # the level goes back to Info
    vmm.get("/version")
    assert "/version" in (vmm.directory / "b").read_text()


@pytest.mark.parametrize("body", [{}, {"level": "Debug"}, {"module": "api"}, {"show_log_origin": True}])
def test_logger_without_path(vmm, body):
    assert vmm.request("PUT", "/logger", body).raw == no_content()


@pytest.mark.parametrize("path", ["none/log", "", "."])
def test_log_that_cannot_be_opened(vmm, path):
    r = vmm.request("PUT", "/logger", {"log_path": path})
    assert r.status == 400 and r.fault.startswith("Logger error: ")


def test_fifo_without_reader(vmm):
    """A full fifo loses lines and stops nobody."""
    os.mkfifo(vmm.directory / "log.fifo")
    vmm.put("/logger", {"log_path": "log.fifo", "level": "Debug"})
    for i in range(1000):
        vmm.request("PUT", "/mmds/nothing" + str(i), "x" * 100)
    assert vmm.get("/")["state"] == "Not started"


def test_fifo_with_reader(vmm):
    os.mkfifo(vmm.directory / "log.fifo")
    reader = os.open(vmm.directory / "log.fifo", os.O_RDONLY | os.O_NONBLOCK)
    vmm.put("/logger", {"log_path": "log.fifo"})
    vmm.get("/version")
    assert b'Get request on "/version"' in os.read(reader, 65536)
    os.close(reader)
    vmm.get("/version")


def test_disk_full_under_the_log(vmm):
    vmm.put("/logger", {"log_path": "/dev/full"})
    for _ in range(20):
        assert vmm.get("/version")


# ---- metrics

@pytest.mark.parametrize("body", [{"metrics_path": "m"}, {"metrics_path": "m", "emit_id": True},
                                  {"metrics_path": "m", "properties": {"a": "b"}}, {"metrics_path": "m", "properties": None}])
def test_metrics(vmm, body):
    vmm.file("m")
    assert vmm.request("PUT", "/metrics", body).raw == no_content()
    r = vmm.request("PUT", "/metrics", body)
    assert r.status == 400 and r.fault.endswith("Reinitialization of metrics not allowed.")


@pytest.mark.parametrize("body", [{}, {"metrics_path": 5}, {"metrics_path": "m", "properties": {"a": 1}},
                                  {"metrics_path": "m", "properties": []}])
def test_metrics_refused(vmm, body):
    r = vmm.request("PUT", "/metrics", body)
    assert r.status == 400 and "deserializing" in r.fault
    vmm.put("/metrics", {"metrics_path": vmm.file("m")})


def test_metrics_path_that_cannot_be_opened(vmm):
    r = vmm.request("PUT", "/metrics", {"metrics_path": "none/m"})
    assert r.status == 400 and r.fault.startswith("Metrics error: ")
    vmm.put("/metrics", {"metrics_path": vmm.file("m")})


def test_flush_before_the_start(vmm):
    vmm.put("/metrics", {"metrics_path": vmm.file("m")})
    assert vmm.request("PUT", "/actions", {"action_type": "FlushMetrics"}).raw == fault(
        "The requested operation is not supported before starting the microVM.")
    assert (vmm.directory / "m").read_text() == ""


AGGREGATES = {"min_us": int, "max_us": int, "sum_us": int}
GROUPS = {
    "api_server": ["process_startup_time_us", "process_startup_time_cpu_us"],
    "balloon": ["activate_fails", "inflate_count", "stats_updates_count", "stats_update_fails", "deflate_count", "event_fails"],
    "block": ["activate_fails", "cfg_fails", "no_avail_buffer", "event_fails", "execute_fails", "invalid_reqs_count",
              "flush_count", "queue_event_count", "rate_limiter_event_count", "update_count", "update_fails", "read_bytes",
              "write_bytes", "read_count", "write_count", "rate_limiter_throttled_events", "io_engine_throttled_events",
              "remaining_reqs_count", "read_agg", "write_agg"],
    "deprecated_api": ["deprecated_http_api_calls"],
    "get_api_requests": ["instance_info_count", "machine_cfg_count", "mmds_count", "vmm_version_count"],
    "i8042": ["error_count", "missed_read_count", "missed_write_count", "read_count", "reset_count", "write_count"],
    "latencies_us": [p + n for p in ("", "vmm_") for n in
                     ("full_create_snapshot", "diff_create_snapshot", "load_snapshot", "pause_vm", "resume_vm")],
    "logger": ["missed_metrics_count", "metrics_fails", "missed_log_count"],
    "mmds": ["rx_accepted", "rx_accepted_err", "rx_accepted_unusual", "rx_bad_eth", "rx_count", "tx_bytes", "tx_count",
             "tx_errors", "tx_frames", "connections_created", "connections_destroyed"],
    "net": ["activate_fails", "cfg_fails", "no_rx_avail_buffer", "no_tx_avail_buffer", "event_fails",
            "rx_queue_event_count", "rx_event_rate_limiter_count", "rx_rate_limiter_throttled",
            "rx_tap_event_count", "rx_bytes_count", "rx_packets_count", "rx_fails", "rx_count", "tap_read_fails",
            "tap_write_fails", "tx_bytes_count", "tx_malformed_frames", "tx_fails", "tx_count", "tx_packets_count",
            "tx_queue_event_count", "tx_rate_limiter_event_count", "tx_rate_limiter_throttled",
            "tx_spoofed_mac_count", "tx_remaining_reqs_count", "tap_write_agg"],
    "patch_api_requests": ["drive_count", "drive_fails", "network_count", "network_fails", "machine_cfg_count",
                           "machine_cfg_fails", "mmds_count", "mmds_fails"],
    "put_api_requests": [f"{n}_{w}" for n in ("actions", "boot_source", "drive", "logger", "machine_cfg", "cpu_cfg", "metrics",
                                              "network", "mmds", "vsock") for w in ("count", "fails")],
    "seccomp": ["num_faults"],
    "vcpu": ["exit_io_in", "exit_io_out", "exit_mmio_read", "exit_mmio_write", "failures"],
    "vmm": ["panic_count"],
    "uart": ["error_count", "flush_count", "missed_read_count", "missed_write_count", "read_count", "write_count"],
    "signals": ["sigbus", "sigsegv", "sigxfsz", "sigxcpu", "sigpipe", "sighup", "sigill"],
    "vsock": ["activate_fails", "cfg_fails", "rx_queue_event_fails", "tx_queue_event_fails", "ev_queue_event_fails",
              "muxer_event_fails", "conn_event_fails", "rx_queue_event_count", "tx_queue_event_count", "rx_bytes_count",
              "tx_bytes_count", "rx_packets_count", "tx_packets_count", "conns_added", "conns_killed", "conns_removed",
              "killq_resync", "tx_flush_fails", "tx_write_fails", "rx_read_fails"],
    "entropy": ["activate_fails", "entropy_event_fails", "entropy_event_count", "entropy_bytes", "host_rng_fails",
                "entropy_rate_limiter_throttled", "rate_limiter_event_count"],
    "pmem": [], "interrupts": [], "memory_hotplug": [],
}


@pytest.fixture(scope="module")
def last_words(tmp_path_factory):
    """The line that a process writes that ends by SIGHUP, after some requests."""
    vmm = Vmm(tmp_path_factory.mktemp("metrics"), "--id", "counted", "--start-time-us", "1", "--start-time-cpu-us", "1")
    vmm.put("/metrics", {"metrics_path": vmm.file("m"), "emit_id": True, "properties": {"k": "v"}})
    for _ in range(3):
        vmm.get("/")
    vmm.get("/version")
    vmm.get("/machine-config")
    vmm.get("/mmds")
    vmm.request("PUT", "/boot-source", {})
    vmm.request("PUT", "/drives/a", {})
    vmm.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 128, "cpu_template": "None"}, deprecated=True)
    vmm.put("/mmds", {})
    vmm.request("PATCH", "/mmds", "{")
    vmm.process.send_signal(signal.SIGHUP)
    vmm.wait()
    (line,) = (vmm.directory / "m").read_text().splitlines()
    return json.loads(line)


@pytest.mark.parametrize("group", GROUPS)
def test_names_of_metrics(last_words, group):
    assert group in last_words
    for name in GROUPS[group]:
        assert name in last_words[group], (group, name)
        value = last_words[group][name]
        if name.endswith("_agg"):
            assert set(value) == set(AGGREGATES)
        else:
            assert isinstance(value, int) and value >= 0, (group, name, value)


def test_timestamp(last_words):
    assert abs(last_words["utc_timestamp_ms"] / 1000 - time.time()) < 1000


def test_id_and_properties(last_words):
    assert last_words["id"] == "counted" and last_words["properties"] == {"k": "v"}


COUNTS = {
    ("get_api_requests", "instance_info_count"): 3, ("get_api_requests", "vmm_version_count"): 1,
    ("get_api_requests", "machine_cfg_count"): 1, ("get_api_requests", "mmds_count"): 1,
    ("put_api_requests", "boot_source_count"): 1, ("put_api_requests", "boot_source_fails"): 1,
    ("put_api_requests", "drive_count"): 1, ("put_api_requests", "drive_fails"): 1,
    ("put_api_requests", "machine_cfg_count"): 1, ("put_api_requests", "machine_cfg_fails"): 0,
    ("put_api_requests", "mmds_count"): 1, ("patch_api_requests", "mmds_count"): 1,
    ("deprecated_api", "deprecated_http_api_calls"): 1, ("signals", "sighup"): 1, ("signals", "sigill"): 0,
}


@pytest.mark.parametrize("group,name", COUNTS)
def test_counts(last_words, group, name):
    assert last_words[group][name] == COUNTS[group, name]


def test_startup_times(last_words):
    assert last_words["api_server"]["process_startup_time_us"] > 0
    assert last_words["api_server"]["process_startup_time_cpu_us"] > 0


@pytest.mark.skipif(not os.environ.get("RIFFLE_LONG"), reason="takes two minutes: make check-long")
def test_a_line_each_minute(start, kernel, needs_kvm):
    """While the guest runs, and not while it is paused."""
    vmm = start()
    vmm.put("/metrics", {"metrics_path": vmm.file("m")})
    vmm.put("/boot-source", {"kernel_image_path": kernel})
    vmm.put("/actions", {"action_type": "InstanceStart"})
    vmm.wait_for(lambda: len(lines(vmm, "m")) == 2, 120)
    first, second = (json.loads(line)["utc_timestamp_ms"] for line in lines(vmm, "m"))
    assert second - first >= 59000
    vmm.patch("/vm", {"state": "Paused"})
    time.sleep(65)
    assert len(lines(vmm, "m")) == 2
    vmm.put("/actions", {"action_type": "FlushMetrics"})
    assert len(lines(vmm, "m")) == 3
