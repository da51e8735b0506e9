/* SPDX-License-Identifier: Apache-2.0 */
/* The groups of a line of metrics, in its order, and the names in each. */
#include "api/metrics_groups.h"

#include <stddef.h>

#include "api/metrics.h"

#define COUNTED(group, name) #name,
#define STORED(group, name) "=" #name,
#define OWN_FIELDS(GROUP) METRICS_##GROUP(COUNTED, STORED)

static const char *const api_server_fields[] = {OWN_FIELDS(API_SERVER) NULL};
static const char *const balloon_fields[] = {"activate_fails",
					     "inflate_count",
					     "stats_updates_count",
					     "stats_update_fails",
					     "deflate_count",
					     "event_fails",
					     "free_page_report_count",
					     "free_page_report_freed",
					     "free_page_report_fails",
					     "free_page_hint_count",
					     "free_page_hint_freed",
					     "free_page_hint_fails",
					     NULL};
_Static_assert(sizeof(struct balloon_counters) == 12 * sizeof(counter), "a name for each counter");
static const char *const block_fields[] = {"activate_fails",
					   "cfg_fails",
					   "no_avail_buffer",
					   "event_fails",
					   "execute_fails",
					   "invalid_reqs_count",
					   "flush_count",
					   "queue_event_count",
					   "rate_limiter_event_count",
					   "update_count",
					   "update_fails",
					   "read_bytes",
					   "write_bytes",
					   "read_count",
					   "write_count",
					   "rate_limiter_throttled_events",
					   "io_engine_throttled_events",
					   "remaining_reqs_count",
					   "*read_agg",
					   "*write_agg",
					   NULL};
_Static_assert(sizeof(struct block_counters) == 24 * sizeof(counter), "a name for each counter");
static const char *const deprecated_api_fields[] = {OWN_FIELDS(DEPRECATED_API) NULL};
static const char *const get_api_requests_fields[] = {OWN_FIELDS(GET_API_REQUESTS) NULL};
static const char *const i8042_fields[] = {
    "error_count", "missed_read_count", "missed_write_count", "read_count", "reset_count", "write_count", NULL};
_Static_assert(sizeof(struct i8042_counters) == 6 * sizeof(counter), "a name for each counter");
static const char *const uart_fields[] = {
    "error_count", "flush_count", "missed_read_count",          "missed_write_count",
    "read_count",  "write_count", "rate_limiter_dropped_bytes", NULL};
_Static_assert(sizeof(struct serial_counters) == 7 * sizeof(counter), "a name for each counter");
static const char *const latencies_us_fields[] = {OWN_FIELDS(LATENCIES_US) NULL};
static const char *const logger_fields[] = {OWN_FIELDS(LOGGER) NULL};
static const char *const mmds_fields[] = {OWN_FIELDS(MMDS) NULL};
static const char *const net_fields[] = {"activate_fails",
					 "cfg_fails",
					 "no_rx_avail_buffer",
					 "no_tx_avail_buffer",
					 "event_fails",
					 "rx_queue_event_count",
					 "rx_event_rate_limiter_count",
					 "rx_rate_limiter_throttled",
					 "rx_tap_event_count",
					 "rx_bytes_count",
					 "rx_packets_count",
					 "rx_fails",
					 "rx_count",
					 "tap_read_fails",
					 "tap_write_fails",
					 "tx_bytes_count",
					 "tx_malformed_frames",
					 "tx_fails",
					 "tx_count",
					 "tx_packets_count",
					 "tx_queue_event_count",
					 "tx_rate_limiter_event_count",
					 "tx_rate_limiter_throttled",
					 "tx_spoofed_mac_count",
					 "tx_remaining_reqs_count",
					 "*tap_write_agg",
					 NULL};
_Static_assert(sizeof(struct net_counters) == 28 * sizeof(counter), "a name for each counter");
static const char *const patch_api_requests_fields[] = {OWN_FIELDS(PATCH_API_REQUESTS) NULL};
static const char *const put_api_requests_fields[] = {OWN_FIELDS(PUT_API_REQUESTS) NULL};
static const char *const seccomp_fields[] = {OWN_FIELDS(SECCOMP) NULL};
static const char *const vcpu_fields[] = {"exit_io_in",
					  "exit_io_out",
					  "exit_mmio_read",
					  "exit_mmio_write",
					  "failures",
					  "kvmclock_ctrl_fails",
					  "*exit_io_in_agg",
					  "*exit_io_out_agg",
					  "*exit_mmio_read_agg",
					  "*exit_mmio_write_agg",
					  NULL};
_Static_assert(sizeof(struct vcpu_counters) == 18 * sizeof(counter), "a name for each counter");
static const char *const vmm_fields[] = {OWN_FIELDS(VMM) NULL};
static const char *const signals_fields[] = {OWN_FIELDS(SIGNALS) NULL};
static const char *const vsock_fields[] = {"activate_fails",
					   "cfg_fails",
					   "rx_queue_event_fails",
					   "tx_queue_event_fails",
					   "ev_queue_event_fails",
					   "muxer_event_fails",
					   "conn_event_fails",
					   "rx_queue_event_count",
					   "tx_queue_event_count",
					   "rx_bytes_count",
					   "tx_bytes_count",
					   "rx_packets_count",
					   "tx_packets_count",
					   "conns_added",
					   "conns_killed",
					   "conns_removed",
					   "killq_resync",
					   "tx_flush_fails",
					   "tx_write_fails",
					   "rx_read_fails",
					   NULL};
_Static_assert(sizeof(struct vsock_counters) == 20 * sizeof(counter), "a name for each counter");
static const char *const entropy_fields[] = {"activate_fails",           "entropy_event_fails",
					     "entropy_event_count",      "entropy_bytes",
					     "host_rng_fails",           "entropy_rate_limiter_throttled",
					     "rate_limiter_event_count", NULL};
_Static_assert(sizeof(struct rng_counters) == 7 * sizeof(counter), "a name for each counter");
static const char *const pmem_fields[] = {
    "activate_fails",           "cfg_fails", "event_fails", "queue_event_count", "rate_limiter_throttled_events",
    "rate_limiter_event_count", NULL};
_Static_assert(sizeof(struct pmem_counters) == 6 * sizeof(counter), "a name for each counter");
static const char *const interrupts_fields[] = {"triggers", "config_updates", NULL};
_Static_assert(sizeof(struct interrupt_counters) == 2 * sizeof(counter), "a name for each counter");
static const char *const memory_hotplug_fields[] = {"activate_fails",
						    "queue_event_fails",
						    "queue_event_count",
						    "plug_count",
						    "plug_bytes",
						    "plug_fails",
						    "*plug_agg",
						    "unplug_count",
						    "unplug_bytes",
						    "unplug_fails",
						    "unplug_discard_fails",
						    "*unplug_agg",
						    "state_count",
						    "state_fails",
						    "*state_agg",
						    "unplug_all_count",
						    "unplug_all_fails",
						    "*unplug_all_agg",
						    NULL};
_Static_assert(sizeof(struct memory_hotplug_counters) == 26 * sizeof(counter), "a name for each counter");

/* the enumerators of a group follow each other */
#define OWN(group, first_name)                                                                                         \
	{                                                                                                              \
#group, group##_fields, METRICS_OWN, METRIC(group, first_name)                                         \
	}
#define COUNTERS(name, kind)                                                                                           \
	{                                                                                                              \
#name, name##_fields, MACHINE_COUNTERS_##kind, 0                                                       \
	}

const struct metrics_group metrics_groups[] = {
    OWN(api_server, process_startup_time_us),
    COUNTERS(balloon, BALLOON),
    COUNTERS(block, BLOCK),
    OWN(deprecated_api, deprecated_http_api_calls),
    OWN(get_api_requests, instance_info_count),
    COUNTERS(i8042, I8042),
    COUNTERS(uart, SERIAL),
    OWN(latencies_us, full_create_snapshot),
    OWN(logger, missed_metrics_count),
    OWN(mmds, rx_accepted),
    COUNTERS(net, NET),
    OWN(patch_api_requests, drive_count),
    OWN(put_api_requests, actions_count),
    OWN(seccomp, num_faults),
    COUNTERS(vcpu, VCPU),
    OWN(vmm, panic_count),
    OWN(signals, sigbus),
    COUNTERS(vsock, VSOCK),
    COUNTERS(entropy, RNG),
    COUNTERS(pmem, PMEM),
    COUNTERS(interrupts, INTERRUPTS),
    COUNTERS(memory_hotplug, MEMORY_HOTPLUG),
};
const unsigned metrics_group_count = sizeof metrics_groups / sizeof *metrics_groups;
