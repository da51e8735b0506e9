// SPDX-License-Identifier: Apache-2.0
/* The tables of what requests say: names, kinds and order as in Firecracker's structs, which messages list. */
#include "api/bodies.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "api/log.h"
#include "monitor/core/cpu_config.h"

#define R SCHEMA_REQUIRED
#define N SCHEMA_NULLABLE
#define AT(type, member) offsetof(struct body_##type, member)
#define FIELD(kind_, type, name_, member, flags_, ...)                                                                 \
	{                                                                                                              \
		.name = name_, .kind = SCHEMA_##kind_, .flags = flags_, .offset = AT(type, member), __VA_ARGS__        \
	}
#define GIVEN(type, member) .given = AT(type, member) + 1
#define BODY(variable, rust_name, type, ...)                                                                           \
	SCHEMA(schema_##variable, rust_name, struct body_##type, variable##_fields, __VA_ARGS__)

const char *const body_huge_words[] = {"None", "Transparent", "2M", NULL};
const char *const body_template_words[] = {"C3", "T2", "T2S", "T2CL", "T2A", "V1N1", "None", NULL};
const char *const body_randomize_words[] = {"off",         "physical",      "kaslr", "fgkaslr",
					    "kaslr+slide", "fgkaslr+slide", "auto",  NULL};
const char *const body_cache_words[] = {"Unsafe", "Writeback", NULL};
const char *const body_engine_words[] = {"Async", "Sync", NULL};
const char *const body_mmds_words[] = {"V1", "V2", NULL};

static const struct schema_field bucket_fields[] = {
    FIELD(U64, bucket, "size", size, R),
    FIELD(U64, bucket, "one_time_burst", one_time_burst, N, GIVEN(bucket, has_burst)),
    FIELD(U64, bucket, "refill_time", refill_time, R),
};
static BODY(bucket, "TokenBucketConfig", bucket, .open = true);

static const struct schema_field limiter_fields[] = {
    FIELD(STRUCT, limiter, "bandwidth", bandwidth, N, GIVEN(limiter, has_bandwidth), .schema = &schema_bucket),
    FIELD(STRUCT, limiter, "ops", ops, N, GIVEN(limiter, has_ops), .schema = &schema_bucket),
};
static BODY(limiter, "RateLimiterConfig", limiter);

#define LIMITER(type, name, member, has)                                                                               \
	FIELD(STRUCT, type, name, member, N, GIVEN(type, has), .schema = &schema_limiter)

static const struct schema_field machine_put_fields[] = {
    FIELD(U8, machine, "vcpu_count", vcpu_count, R, GIVEN(machine, has_vcpus)),
    FIELD(USIZE, machine, "mem_size_mib", mem_size_mib, R, GIVEN(machine, has_memory)),
    FIELD(BOOL, machine, "smt", smt, 0, GIVEN(machine, has_smt)),
    FIELD(CHOICE, machine, "cpu_template", cpu_template, N, GIVEN(machine, has_template),
	  .choices = body_template_words),
    FIELD(BOOL, machine, "track_dirty_pages", track_dirty_pages, 0, GIVEN(machine, has_track)),
    FIELD(CHOICE, machine, "huge_pages", huge_pages, 0, GIVEN(machine, has_huge), .choices = body_huge_words),
};
BODY(machine_put, "MachineConfig", machine);

static const struct schema_field machine_patch_fields[] = {
    FIELD(U8, machine, "vcpu_count", vcpu_count, N, GIVEN(machine, has_vcpus)),
    FIELD(USIZE, machine, "mem_size_mib", mem_size_mib, N, GIVEN(machine, has_memory)),
    FIELD(BOOL, machine, "smt", smt, N, GIVEN(machine, has_smt)),
    FIELD(CHOICE, machine, "cpu_template", cpu_template, N, GIVEN(machine, has_template),
	  .choices = body_template_words),
    FIELD(BOOL, machine, "track_dirty_pages", track_dirty_pages, N, GIVEN(machine, has_track)),
    FIELD(CHOICE, machine, "huge_pages", huge_pages, N, GIVEN(machine, has_huge), .choices = body_huge_words),
};
BODY(machine_patch, "MachineConfigUpdate", machine);

static const struct schema_field boot_source_fields[] = {
    FIELD(STRING, boot_source, "kernel_image_path", kernel_image_path, R),
    FIELD(STRING, boot_source, "initrd_path", initrd_path, N),
    FIELD(STRING, boot_source, "boot_args", boot_args, N),
    FIELD(CHOICE, boot_source, "randomize", randomize, N | SCHEMA_HIDDEN, GIVEN(boot_source, has_randomize),
	  .choices = body_randomize_words),
    FIELD(PATH, boot_source, "layout_out", layout_out, N | SCHEMA_HIDDEN),
    FIELD(PATH, boot_source, "stock", stock, N | SCHEMA_HIDDEN),
};
BODY(boot_source, "BootSourceConfig", boot_source);

static const struct schema_field drive_fields[] = {
    FIELD(STRING, drive, "drive_id", drive_id, R),
    FIELD(STRING, drive, "partuuid", partuuid, N),
    FIELD(BOOL, drive, "is_root_device", is_root_device, R),
    FIELD(CHOICE, drive, "cache_type", cache_type, 0, .choices = body_cache_words),
    FIELD(BOOL, drive, "is_read_only", is_read_only, N, GIVEN(drive, has_read_only)),
    FIELD(STRING, drive, "path_on_host", path_on_host, N),
    LIMITER(drive, "rate_limiter", rate_limiter, has_limiter),
    FIELD(CHOICE, drive, "io_engine", io_engine, N, GIVEN(drive, has_engine), .choices = body_engine_words),
    FIELD(STRING, drive, "socket", socket, N),
};
BODY(drive, "BlockDeviceConfig", drive);

static const struct schema_field drive_patch_fields[] = {
    FIELD(STRING, drive_patch, "drive_id", drive_id, R),
    FIELD(STRING, drive_patch, "path_on_host", path_on_host, N),
    LIMITER(drive_patch, "rate_limiter", rate_limiter, has_limiter),
};
BODY(drive_patch, "BlockDeviceUpdateConfig", drive_patch);

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static const char *convert_mac(const char *string, size_t bytes, void *to)
{
	static const char problem[] = "The provided MAC address is invalid.";
	uint8_t *mac = to;

	if (bytes != 17)
		return problem;
	for (unsigned i = 0; i < 6; i++) {
		int high = hex_digit(string[3 * i]), low = hex_digit(string[3 * i + 1]);

		if (high < 0 || low < 0 || (i < 5 && string[3 * i + 2] != ':'))
			return problem;
		mac[i] = (uint8_t)(high << 4 | low);
	}
	return NULL;
}

static const struct schema_field net_fields[] = {
    FIELD(STRING, net, "iface_id", iface_id, R),
    FIELD(STRING, net, "host_dev_name", host_dev_name, R),
    FIELD(TEXT, net, "guest_mac", guest_mac, N | SCHEMA_LATE, GIVEN(net, has_mac), .convert = convert_mac),
    FIELD(U16, net, "mtu", mtu, N, GIVEN(net, has_mtu)),
    LIMITER(net, "rx_rate_limiter", rx, has_rx),
    LIMITER(net, "tx_rate_limiter", tx, has_tx),
};
BODY(net, "NetworkInterfaceConfig", net);

static const struct schema_field net_patch_fields[] = {
    FIELD(STRING, net_patch, "iface_id", iface_id, R),
    LIMITER(net_patch, "rx_rate_limiter", rx, has_rx),
    LIMITER(net_patch, "tx_rate_limiter", tx, has_tx),
};
BODY(net_patch, "NetworkInterfaceUpdateConfig", net_patch);

static const struct schema_field pmem_fields[] = {
    FIELD(STRING, pmem, "id", id, R),
    FIELD(STRING, pmem, "path_on_host", path_on_host, R),
    FIELD(BOOL, pmem, "root_device", root_device, 0),
    FIELD(BOOL, pmem, "read_only", read_only, 0),
    LIMITER(pmem, "rate_limiter", rate_limiter, has_limiter),
};
BODY(pmem, "PmemConfig", pmem);

static const struct schema_field pmem_patch_fields[] = {
    FIELD(STRING, drive_patch, "id", drive_id, R),
    LIMITER(drive_patch, "rate_limiter", rate_limiter, has_limiter),
};
BODY(pmem_patch, "PmemDeviceUpdateConfig", drive_patch);

static const struct schema_field vsock_fields[] = {
    FIELD(STRING, vsock, "vsock_id", vsock_id, N),
    FIELD(U32, vsock, "guest_cid", guest_cid, R),
    FIELD(STRING, vsock, "uds_path", uds_path, R),
};
BODY(vsock, "VsockDeviceConfig", vsock);

static const struct schema_field entropy_fields[] = {
    LIMITER(entropy, "rate_limiter", rate_limiter, has_limiter),
};
BODY(entropy, "EntropyDeviceConfig", entropy);

static const struct schema_field serial_fields[] = {
    FIELD(PATH, serial, "serial_out_path", serial_out_path, N),
    FIELD(STRUCT, serial, "rate_limiter", rate_limiter, N, GIVEN(serial, has_limiter), .schema = &schema_bucket),
};
BODY(serial, "SerialConfig", serial);

static const char *convert_level(const char *string, size_t bytes, void *to)
{
	int level = log_level_parse(string);

	(void)bytes;
	if (level < 0)
		return "unknown variant `%s`, expected one of `Off`, `Trace`, `Debug`, `Info`, `Warn`, `Error`";
	*(int *)to = level;
	return NULL;
}

static const struct schema_field logger_fields[] = {
    FIELD(PATH, logger, "log_path", log_path, N),
    FIELD(TEXT, logger, "level", level, N, GIVEN(logger, has_level), .convert = convert_level),
    FIELD(BOOL, logger, "show_level", show_level, N, GIVEN(logger, has_show_level)),
    FIELD(BOOL, logger, "show_log_origin", show_log_origin, N, GIVEN(logger, has_show_origin)),
    FIELD(STRING, logger, "module", module, N),
};
BODY(logger, "LoggerConfig", logger);

static const struct schema_field metrics_fields[] = {
    FIELD(PATH, metrics, "metrics_path", metrics_path, R),
    FIELD(BOOL, metrics, "emit_id", emit_id, 0),
    FIELD(MAP, metrics, "properties", properties, N),
};
BODY(metrics, "MetricsConfig", metrics, .open = true);

/* Four decimal numbers up to 255, without leading zeros. */
static const char *convert_ipv4(const char *string, size_t bytes, void *to)
{
	static const char problem[] = "invalid IPv4 address syntax";
	const char *end = string + bytes;
	uint32_t address = 0;

	for (unsigned i = 0; i < 4; i++) {
		unsigned number = 0, digits = 0;

		if (i && (string == end || *string++ != '.'))
			return problem;
		for (; string < end && *string >= '0' && *string <= '9'; string++, digits++) {
			if (digits == 3 || (digits && !number))
				return problem;
			number = number * 10 + (unsigned)(*string - '0');
		}
		if (!digits || number > 255)
			return problem;
		address = address << 8 | number;
	}
	*(uint32_t *)to = address;
	return string == end ? NULL : problem;
}

static const struct schema_field name_element = {.kind = SCHEMA_STRING};
static const struct schema_field mmds_fields[] = {
    FIELD(CHOICE, mmds, "version", version, 0, .choices = body_mmds_words),
    FIELD(LIST, mmds, "network_interfaces", network_interfaces, R, .element = &name_element),
    FIELD(TEXT, mmds, "ipv4_address", ipv4_address, N, GIVEN(mmds, has_address), .convert = convert_ipv4,
	  .expected = "IPv4 address"),
    FIELD(BOOL, mmds, "imds_compat", imds_compat, 0),
};
BODY(mmds, "MmdsConfig", mmds);

static const struct schema_field balloon_fields[] = {
    FIELD(U32, balloon, "amount_mib", amount_mib, R),
    FIELD(BOOL, balloon, "deflate_on_oom", deflate_on_oom, R),
    FIELD(U16, balloon, "stats_polling_interval_s", stats_polling_interval_s, 0),
    FIELD(BOOL, balloon, "free_page_hinting", free_page_hinting, 0),
    FIELD(BOOL, balloon, "free_page_reporting", free_page_reporting, 0),
};
BODY(balloon, "BalloonDeviceConfig", balloon);

static const struct schema_field balloon_amount_fields[] = {
    FIELD(U32, balloon_amount, "amount_mib", amount_mib, R),
};
BODY(balloon_amount, "BalloonUpdateConfig", balloon_amount);

static const struct schema_field balloon_stats_fields[] = {
    FIELD(U16, balloon_stats, "stats_polling_interval_s", stats_polling_interval_s, R),
};
BODY(balloon_stats, "BalloonUpdateStatsConfig", balloon_stats);

static const struct schema_field hinting_fields[] = {
    FIELD(BOOL, hinting, "acknowledge_on_stop", acknowledge_on_stop, 0),
};
BODY(hinting, "StartHintingCmd", hinting, .open = true);

static const struct schema_field hotplug_fields[] = {
    FIELD(USIZE, hotplug, "total_size_mib", total_size_mib, R),
    FIELD(USIZE, hotplug, "block_size_mib", block_size_mib, 0),
    FIELD(USIZE, hotplug, "slot_size_mib", slot_size_mib, 0),
};
BODY(hotplug, "MemoryHotplugConfig", hotplug);

static const struct schema_field hotplug_patch_fields[] = {
    FIELD(USIZE, hotplug_patch, "requested_size_mib", requested_size_mib, R),
};
BODY(hotplug_patch, "MemoryHotplugSizeUpdate", hotplug_patch);

static const char *const instance_words[] = {"FlushMetrics", "InstanceStart", "SendCtrlAltDel", NULL};
static const struct schema_field instance_fields[] = {
    FIELD(CHOICE, instance, "action_type", action_type, R, .choices = instance_words),
};
BODY(instance, "ActionBody", instance);

static const char *const vm_words[] = {"Paused", "Resumed", NULL};
static const struct schema_field vm_fields[] = {
    FIELD(CHOICE, vm, "state", state, R, .choices = vm_words),
};
BODY(vm, "Vm", vm);

static const char *const snapshot_words[] = {"Diff", "Full", NULL};
static const struct schema_field snapshot_create_fields[] = {
    FIELD(CHOICE, snapshot_create, "snapshot_type", snapshot_type, 0, .choices = snapshot_words),
    FIELD(PATH, snapshot_create, "snapshot_path", snapshot_path, R),
    FIELD(PATH, snapshot_create, "mem_file_path", mem_file_path, R),
};
BODY(snapshot_create, "CreateSnapshotParams", snapshot_create);

static const char *const backend_words[] = {"File", "Uffd", NULL};
static const struct schema_field mem_backend_fields[] = {
    FIELD(PATH, mem_backend, "backend_path", backend_path, R),
    FIELD(CHOICE, mem_backend, "backend_type", backend_type, R, .choices = backend_words),
};
static BODY(mem_backend, "MemBackendConfig", mem_backend);

static const struct schema_field net_override_fields[] = {
    FIELD(STRING, net_override, "iface_id", iface_id, R),
    FIELD(STRING, net_override, "host_dev_name", host_dev_name, R),
};
static BODY(net_override, "NetworkOverride", net_override, .open = true);
static const struct schema_field net_override_element = {.kind = SCHEMA_STRUCT, .schema = &schema_net_override};

static const struct schema_field vsock_override_fields[] = {
    {.name = "uds_path", .kind = SCHEMA_STRING, .flags = R},
};
static SCHEMA(schema_vsock_override, "VsockOverride", const char *, vsock_override_fields, .open = true);

static const char *const load_huge_words[] = {"Snapshot", "None", "Transparent", "2M", NULL};
static const struct schema_field snapshot_load_fields[] = {
    FIELD(PATH, snapshot_load, "snapshot_path", snapshot_path, R),
    FIELD(PATH, snapshot_load, "mem_file_path", mem_file_path, N),
    FIELD(STRUCT, snapshot_load, "mem_backend", mem_backend, N, GIVEN(snapshot_load, has_backend),
	  .schema = &schema_mem_backend),
    FIELD(BOOL, snapshot_load, "enable_diff_snapshots", enable_diff_snapshots, 0, GIVEN(snapshot_load, has_diff)),
    FIELD(BOOL, snapshot_load, "track_dirty_pages", track_dirty_pages, 0),
    FIELD(BOOL, snapshot_load, "resume_vm", resume_vm, 0),
    FIELD(LIST, snapshot_load, "network_overrides", network_overrides, 0, .element = &net_override_element),
    FIELD(STRUCT, snapshot_load, "vsock_override", vsock_override, N, .schema = &schema_vsock_override),
    FIELD(BOOL, snapshot_load, "clock_realtime", clock_realtime, 0),
    FIELD(CHOICE, snapshot_load, "huge_pages", huge_pages, 0, .choices = load_huge_words),
};
BODY(snapshot_load, "LoadSnapshotConfig", snapshot_load);

/* "0x1f" or "0b11" */
static const char *number_of(const char *string, uint64_t max, uint64_t *value)
{
	unsigned base = string[0] == '0' && string[1] == 'x' ? 16 : string[0] == '0' && string[1] == 'b' ? 2 : 0;

	*value = 0;
	if (!base || !string[2])
		return "No supported number system prefix found in value [%s]. Make sure to prefix the number with "
		       "'0x' for hexadecimal numbers or '0b' for binary numbers.";
	for (const char *c = string + 2; *c; c++) {
		int digit = hex_digit(*c);

		if (digit < 0 || digit >= (int)base || __builtin_mul_overflow(*value, base, value))
			return "Failed to parse string [%s] as a number for CPU template";
		*value += (unsigned)digit;
	}
	return *value > max ? "Failed to parse string [%s] as a number for CPU template" : NULL;
}

static const char *convert_u32(const char *string, size_t bytes, void *to)
{
	uint64_t value;
	const char *problem = number_of(string, UINT32_MAX, &value);

	(void)bytes;
	if (!problem)
		*(uint32_t *)to = (uint32_t)value;
	return problem;
}

static const char *bitmap_problem = "Failed to parse string [%s] as a bitmap";

static const char *convert_bits32(const char *string, size_t bytes, void *to)
{
	struct body_bits *bits = to;

	(void)bytes;
	return cpu_bitmap_parse(string, 32, &bits->filter, &bits->value) ? NULL : bitmap_problem;
}

static const char *convert_bits64(const char *string, size_t bytes, void *to)
{
	struct cpu_msr_modifier *msr = (void *)((char *)to - offsetof(struct cpu_msr_modifier, filter));

	(void)bytes;
	return cpu_bitmap_parse(string, 64, &msr->filter, &msr->value) ? NULL : bitmap_problem;
}

static const char *convert_capability(const char *string, size_t bytes, void *to)
{
	struct cpu_capability *capability = to;
	uint64_t number = 0;

	(void)bytes;
	capability->waived = *string == '!';
	string += capability->waived;
	for (const char *c = string; *c; c++) {
		if (*c < '0' || *c > '9' || c - string > 9)
			return "Failed to parse KVM capability [%s] as u32";
		number = number * 10 + (unsigned)(*c - '0');
	}
	capability->id = (uint32_t)number;
	return *string ? NULL : "Failed to parse KVM capability [%s] as u32";
}

static const char *const register_words[] = {"eax", "ebx", "ecx", "edx", NULL};
static const struct schema_field register_fields[] = {
    FIELD(CHOICE, register, "register", reg, R, .choices = register_words),
    FIELD(TEXT, register, "bitmap", bitmap, R | SCHEMA_LATE, .convert = convert_bits32),
};
static BODY(register, "CpuidRegisterModifier", register);
static const struct schema_field register_element = {.kind = SCHEMA_STRUCT, .schema = &schema_register};

static const struct schema_field cpuid_fields[] = {
    FIELD(TEXT, cpuid, "leaf", leaf, R | SCHEMA_LATE, .convert = convert_u32),
    FIELD(TEXT, cpuid, "subleaf", subleaf, R | SCHEMA_LATE, .convert = convert_u32),
    FIELD(U32, cpuid, "flags", flags, R),
    FIELD(LIST, cpuid, "modifiers", modifiers, R, .element = &register_element),
};
static BODY(cpuid, "CpuidLeafModifier", cpuid);
static const struct schema_field cpuid_element = {.kind = SCHEMA_STRUCT, .schema = &schema_cpuid};

static const struct schema_field msr_fields[] = {
    {.name = "addr",
     .kind = SCHEMA_TEXT,
     .flags = R | SCHEMA_LATE,
     .offset = offsetof(struct cpu_msr_modifier, index),
     .convert = convert_u32},
    {.name = "bitmap",
     .kind = SCHEMA_TEXT,
     .flags = R | SCHEMA_LATE,
     .offset = offsetof(struct cpu_msr_modifier, filter),
     .convert = convert_bits64},
};
static SCHEMA(schema_msr, "RegisterModifier", struct cpu_msr_modifier, msr_fields);
static const struct schema_field msr_element = {.kind = SCHEMA_STRUCT, .schema = &schema_msr};
static const struct schema_field capability_element = {
    .kind = SCHEMA_TEXT, .flags = SCHEMA_LATE, .bytes = sizeof(struct cpu_capability), .convert = convert_capability};

static const struct schema_field cpu_fields[] = {
    FIELD(LIST, cpu, "kvm_capabilities", kvm_capabilities, 0, .element = &capability_element),
    FIELD(LIST, cpu, "cpuid_modifiers", cpuid_modifiers, 0, .element = &cpuid_element),
    FIELD(LIST, cpu, "msr_modifiers", msr_modifiers, 0, .element = &msr_element),
};
BODY(cpu, "CustomCpuTemplate", cpu);

static const struct schema_field drive_element = {.kind = SCHEMA_STRUCT, .schema = &schema_drive};
static const struct schema_field net_element = {.kind = SCHEMA_STRUCT, .schema = &schema_net};
static const struct schema_field pmem_element = {.kind = SCHEMA_STRUCT, .schema = &schema_pmem};

#define SECTION(name, member, has, table)                                                                              \
	FIELD(STRUCT, file, name, member, N, GIVEN(file, has), .schema = &schema_##table)
static const struct schema_field file_fields[] = {
    SECTION("balloon", balloon, has_balloon, balloon),
    FIELD(LIST, file, "drives", drives, R, .element = &drive_element),
    FIELD(STRUCT, file, "boot-source", boot_source, R, .schema = &schema_boot_source),
    FIELD(ANY, file, "cpu-config", cpu_config, N, GIVEN(file, has_cpu)),
    SECTION("logger", logger, has_logger, logger),
    SECTION("machine-config", machine_config, has_machine, machine_put),
    SECTION("metrics", metrics, has_metrics, metrics),
    SECTION("mmds-config", mmds_config, has_mmds, mmds),
    FIELD(LIST, file, "network-interfaces", network_interfaces, 0, .element = &net_element),
    SECTION("vsock", vsock, has_vsock, vsock),
    SECTION("entropy", entropy, has_entropy, entropy),
    FIELD(LIST, file, "pmem", pmem, 0, .element = &pmem_element),
    SECTION("memory-hotplug", memory_hotplug, has_hotplug, hotplug),
};
BODY(file, "VmmConfig", file, .open = true);
