/* SPDX-License-Identifier: Apache-2.0 */
/* The contents of requests and of the configuration file as C structs; the tables for reading them are in bodies.c. */
#ifndef RIFFLE_API_BODIES_H
#define RIFFLE_API_BODIES_H

#include "api/schema.h"

/* has_x: x was given, and is not null. Strings that were not given are NULL. */

struct body_bucket {
	uint64_t size, one_time_burst, refill_time;
	bool has_burst;
};

struct body_limiter {
	bool has_bandwidth, has_ops;
	struct body_bucket bandwidth, ops;
};

enum { HUGE_NONE, HUGE_TRANSPARENT, HUGE_2M };
enum { TEMPLATE_NONE = 6 }; /* of the words of cpu_template; the others are real ones */
extern const char *const body_huge_words[], *const body_template_words[];

/* PUT and PATCH /machine-config */
struct body_machine {
	uint8_t vcpu_count;
	uint64_t mem_size_mib;
	bool smt, track_dirty_pages;
	int cpu_template, huge_pages;
	bool has_vcpus, has_memory, has_smt, has_template, has_track, has_huge;
};

struct body_boot_source {
	const char *kernel_image_path, *initrd_path, *boot_args;
	/* ours */
	int randomize;
	bool has_randomize;
	const char *layout_out, *stock;
};
enum { RANDOMIZE_KASLR = 2, RANDOMIZE_AUTO = 6 }; /* of the words; the others are names of modes as well */
extern const char *const body_randomize_words[];

enum { CACHE_UNSAFE, CACHE_WRITEBACK };
enum { ENGINE_ASYNC, ENGINE_SYNC };
extern const char *const body_cache_words[], *const body_engine_words[];

struct body_drive {
	const char *drive_id, *partuuid, *path_on_host, *socket;
	bool is_root_device, is_read_only;
	int cache_type, io_engine;
	struct body_limiter rate_limiter;
	bool has_read_only, has_limiter, has_engine; /* without an engine: ENGINE_SYNC */
};

/* PATCH /drives, and of PATCH /pmem without the path */
struct body_drive_patch {
	const char *drive_id, *path_on_host;
	struct body_limiter rate_limiter;
	bool has_limiter;
};

struct body_net {
	const char *iface_id, *host_dev_name;
	uint8_t guest_mac[6];
	uint16_t mtu;
	struct body_limiter rx, tx;
	bool has_mac, has_mtu, has_rx, has_tx;
};

struct body_net_patch {
	const char *iface_id;
	struct body_limiter rx, tx;
	bool has_rx, has_tx;
};

struct body_pmem {
	const char *id, *path_on_host;
	bool root_device, read_only;
	struct body_limiter rate_limiter;
	bool has_limiter;
};

struct body_vsock {
	uint32_t guest_cid;
	const char *uds_path, *vsock_id;
};

struct body_entropy {
	struct body_limiter rate_limiter;
	bool has_limiter;
};

struct body_serial {
	const char *serial_out_path;
	struct body_bucket rate_limiter;
	bool has_limiter;
};

struct body_logger {
	const char *log_path, *module;
	int level; /* enum log_level */
	bool show_level, show_log_origin;
	bool has_level, has_show_level, has_show_origin;
};

struct body_metrics {
	const char *metrics_path;
	bool emit_id;
	struct schema_list properties; /* of struct schema_pair */
};

enum { BODY_MMDS_V1, BODY_MMDS_V2 };
extern const char *const body_mmds_words[];
struct body_mmds {
	int version;
	struct schema_list network_interfaces; /* of const char * */
	uint32_t ipv4_address;                 /* most significant byte first */
	bool has_address, imds_compat;
};

struct body_balloon {
	uint32_t amount_mib;
	bool deflate_on_oom, free_page_hinting, free_page_reporting;
	uint16_t stats_polling_interval_s;
};

struct body_balloon_amount {
	uint32_t amount_mib;
};
struct body_balloon_stats {
	uint16_t stats_polling_interval_s;
};
struct body_hinting {
	bool acknowledge_on_stop;
};

struct body_hotplug {
	uint64_t total_size_mib, block_size_mib, slot_size_mib;
};
struct body_hotplug_patch {
	uint64_t requested_size_mib;
};

enum { INSTANCE_FLUSH_METRICS, INSTANCE_START, INSTANCE_CTRL_ALT_DEL };
struct body_instance {
	int action_type;
};

enum { VM_STATE_PAUSED, VM_STATE_RESUMED };
struct body_vm {
	int state;
};

enum { SNAPSHOT_DIFF, SNAPSHOT_FULL };
struct body_snapshot_create {
	int snapshot_type;
	const char *snapshot_path, *mem_file_path;
};

enum { BACKEND_FILE, BACKEND_UFFD };
struct body_mem_backend {
	const char *backend_path;
	int backend_type;
};
struct body_net_override {
	const char *iface_id, *host_dev_name;
};
enum { HUGE_SNAPSHOT }; /* as in the snapshot; then HUGE_NONE + 1 and so on */
struct body_snapshot_load {
	const char *snapshot_path, *mem_file_path;
	struct body_mem_backend mem_backend;
	bool has_backend, enable_diff_snapshots, has_diff, track_dirty_pages, resume_vm, clock_realtime;
	struct schema_list network_overrides; /* of struct body_net_override */
	const char *vsock_override;           /* its uds_path */
	int huge_pages;
};

/* PUT /cpu-config */
struct body_register {
	int reg; /* enum cpu_register */
	struct body_bits {
		uint64_t filter, value;
	} bitmap;
};
struct body_cpuid {
	uint32_t leaf, subleaf;
	uint32_t flags;               /* KVM's, which follow from the leaf */
	struct schema_list modifiers; /* of struct body_register */
};
struct body_cpu {
	struct schema_list kvm_capabilities; /* of struct cpu_capability */
	struct schema_list cpuid_modifiers;  /* of struct body_cpuid */
	struct schema_list msr_modifiers;    /* of struct cpu_msr_modifier */
};

/* The configuration file. */
struct body_file {
	struct body_balloon balloon;
	struct schema_list drives; /* of struct body_drive, and so on */
	struct body_boot_source boot_source;
	struct schema_raw cpu_config;
	struct body_logger logger;
	struct body_machine machine_config;
	struct body_metrics metrics;
	struct body_mmds mmds_config;
	struct schema_list network_interfaces, pmem;
	struct body_vsock vsock;
	struct body_entropy entropy;
	struct body_hotplug memory_hotplug;
	bool has_balloon, has_cpu, has_logger, has_machine, has_metrics, has_mmds, has_vsock, has_entropy, has_hotplug;
};

/* Defaults that are not zero. */
#define BODY_HOTPLUG_DEFAULTS ((struct body_hotplug){.block_size_mib = 2, .slot_size_mib = 128})
#define BODY_SNAPSHOT_DEFAULTS ((struct body_snapshot_create){.snapshot_type = SNAPSHOT_FULL})

extern const struct schema schema_machine_put, schema_machine_patch, schema_boot_source, schema_drive,
    schema_drive_patch, schema_net, schema_net_patch, schema_pmem, schema_pmem_patch, schema_vsock, schema_entropy,
    schema_serial, schema_logger, schema_metrics, schema_mmds, schema_balloon, schema_balloon_amount,
    schema_balloon_stats, schema_hinting, schema_hotplug, schema_hotplug_patch, schema_instance, schema_vm,
    schema_snapshot_create, schema_snapshot_load, schema_cpu, schema_file;

#endif
