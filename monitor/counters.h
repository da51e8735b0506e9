/* SPDX-License-Identifier: Apache-2.0 */
/* Counters of devices and vCPUs, for monitoring a machine. */
#ifndef RIFFLE_MONITOR_COUNTERS_H
#define RIFFLE_MONITOR_COUNTERS_H

#include "common/counter.h"

/*
 * Each struct holds only counters, in the order in which api/metrics.c names them. All only ever grow, except the
 * extremes of a latency. A struct belongs to its device, whose lock must be held for counting.
 */

struct block_counters {
	counter activate_fails, config_fails;
	counter no_buffers; /* a notification with nothing in the queue */
	counter event_fails;
	counter execute_fails; /* requests that failed or had an unknown type */
	counter invalid;       /* malformed ones */
	counter flushes, queue_events, limiter_events;
	counter updates, update_fails; /* of the file, its size, the limits */
	counter read_bytes, write_bytes, reads, writes;
	counter limited, engine_limited;
	counter remaining; /* requests left in the queue for later */
	struct latency read_time, write_time;
};

struct net_counters {
	counter activate_fails, config_fails;
	counter rx_no_buffers, tx_no_buffers;
	counter event_fails;
	counter rx_queue_events, rx_limiter_events, rx_limited, rx_backend_events;
	counter rx_bytes, rx_packets, rx_dropped, rx_frames; /* bytes with headers */
	counter backend_read_fails, backend_write_fails;
	counter tx_bytes, tx_malformed, tx_dropped, tx_frames, tx_packets;
	counter tx_queue_events, tx_limiter_events, tx_limited;
	counter tx_foreign_mac; /* frames whose sender is not the device's MAC */
	counter tx_remaining;
	struct latency backend_write_time;
};

struct vsock_counters {
	counter activate_fails, config_fails;
	counter rx_queue_fails, tx_queue_fails, event_queue_fails, event_fails, connection_fails;
	counter rx_queue_events, tx_queue_events;
	counter to_guest_bytes, to_host_bytes, to_guest_packets, to_host_packets;
	counter added, killed, removed;
	counter kill_resyncs; /* always 0: there is no queue of killed connections */
	counter flush_fails, write_fails, read_fails;
};

struct rng_counters {
	counter activate_fails, event_fails, events, bytes, host_fails, limited, limiter_events;
};

struct balloon_counters {
	counter activate_fails;
	counter inflates, stats_updates, stats_fails, deflates;
	counter event_fails;
	counter reports, reported_bytes, report_fails;
	counter hints, hinted_bytes, hint_fails;
};

struct serial_counters {
	counter errors, flushes, missed_reads, missed_writes, reads, writes, limited_bytes;
};

struct i8042_counters {
	counter errors, missed_reads, missed_writes, reads, resets, writes;
};

struct vcpu_counters {
	counter io_in, io_out, mmio_reads, mmio_writes, failures, clock_fails;
	struct latency io_in_time, io_out_time, mmio_read_time, mmio_write_time;
};

struct interrupt_counters {
	counter triggers, config_updates;
};

/* For a file mapped into the guest as persistent memory. */
struct pmem_counters {
	counter activate_fails, config_fails, event_fails, queue_events, limited, limiter_events;
};

struct memory_hotplug_counters {
	counter activate_fails, queue_fails, queue_events;
	counter plugs, plug_bytes, plug_fails;
	struct latency plug_time;
	counter unplugs, unplug_bytes, unplug_fails, discard_fails;
	struct latency unplug_time;
	counter states, state_fails;
	struct latency state_time;
	counter unplug_alls, unplug_all_fails;
	struct latency unplug_all_time;
};

#endif
