// SPDX-License-Identifier: Apache-2.0
/* InstanceStart: from what was configured to a machine's description, and the machine built and run. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/log.h"
#include "api/metrics.h"
#include "api/vmm.h"
#include "api/watch.h"
#include "common/fail.h"
#include "host/mode.h"
#include "machine/drop_code.h"
#include "machine/stock_start.h"

#define DEFAULT_COMMAND_LINE                                                                                           \
	"reboot=k panic=1 nomodule 8250.nr_uarts=0 i8042.noaux i8042.nomux i8042.dumbkbd swiotlb=noforce"
#define LINUX_COMMAND_LINE_MAX 2047u
#define MEMORY_MIB_MAX (UINT64_C(1022) << 10)

static struct limiter_bucket_config bucket(bool has, const struct body_bucket *b)
{
	if (!has)
		return (struct limiter_bucket_config){0};
	return (struct limiter_bucket_config){b->size, b->refill_time, b->one_time_burst};
}

static struct limiter_config limits(bool has, const struct body_limiter *l)
{
	if (!has)
		return (struct limiter_config){{0}, {0}};
	return (struct limiter_config){bucket(l->has_bandwidth, &l->bandwidth), bucket(l->has_ops, &l->ops)};
}

/* A multiple of 2 MiB, no more than was asked for unless that would be nothing. */
static uint64_t memory_mib(const struct body_machine *m)
{
	uint64_t mib = m->mem_size_mib < MEMORY_MIB_MAX ? m->mem_size_mib : MEMORY_MIB_MAX;

	return mib > 1 ? mib & ~UINT64_C(1) : 2;
}

static void describe_memory(struct machine_config *config, const struct body_machine *m)
{
	uint64_t mib = memory_mib(m);

	if (m->mem_size_mib > MEMORY_MIB_MAX)
		log_always(LOG_WARN, "vmm", "The memory size is cut to %llu MiB.", (unsigned long long)mib);
	else if (mib != m->mem_size_mib)
		log_always(LOG_WARN, "vmm", "The guest gets %llu MiB of memory: a multiple of 2.",
			   (unsigned long long)mib);
	config->memory_bytes = mib << 20;
	config->huge_pages = m->huge_pages != HUGE_NONE;
	config->huge_2m = m->huge_pages == HUGE_2M;
}

static void describe_layout(struct machine_config *config, const struct body_boot_source *b)
{
	config->layout.automatic = !b->has_randomize || b->randomize == RANDOMIZE_AUTO;
	config->layout.optional = !b->has_randomize;
	if (!config->layout.automatic)
		(void)mode_parse(body_randomize_words[b->randomize], &config->layout.mode, &config->layout.slide);
	config->layout.out = b->layout_out;
}

static bool describe_kernel(struct vmm *vmm, struct machine_config *config, struct reply *reply)
{
	const struct vmm_boot_source *b = &vmm->resources.boot_source;
	struct riffle_error error;
	char line[RIFFLE_BOOT_CMDLINE_MAX + 16], words[300];

	if (!b->set)
		return reply_fault(reply, "Start microvm error: Cannot start microvm without kernel configuration.");
	snprintf(vmm->kernel_name, sizeof vmm->kernel_name, "fd:%d", b->kernel_fd);
	snprintf(vmm->initrd_name, sizeof vmm->initrd_name, "fd:%d", b->initrd_fd);
	config->kernel = vmm->kernel_name;
	config->initrd_path = b->initrd_fd >= 0 ? vmm->initrd_name : NULL;
	config->devices.root_in_order = true;
	/* as it is, and then always this; init's own arguments stay last */
	snprintf(line, sizeof line, "%s", b->body.boot_args ? b->body.boot_args : DEFAULT_COMMAND_LINE);
	if (machine_config_command_line(config, line, false, &error) ||
	    machine_config_command_line(config, "pci=off", true, &error)) {
		riffle_error_format(&error, words, sizeof words);
		return reply_fault(reply, "Start microvm error: Cannot load command line: %s", words);
	}
	describe_layout(config, &b->body);
	return true;
}

static void describe_drive(struct machine_disk *disk, const struct vmm_drive *drive)
{
	const struct body_drive *b = &drive->body;

	*disk = (struct machine_disk){
	    .id = b->drive_id,
	    .path = b->path_on_host,
	    .has_fd = true,
	    .fd = drive->fd,
	    .shared = true,
	    .raw = true,
	    .read_only = b->is_read_only,
	    .root = b->is_root_device,
	    .partuuid = b->partuuid,
	    .cache = b->cache_type == CACHE_UNSAFE ? DISK_CACHE_UNSAFE : DISK_CACHE_WRITEBACK,
	    .io = BLOCK_ENGINE_AUTO,
	    .async = b->io_engine == ENGINE_ASYNC,
	    .limits = limits(b->has_limiter, &b->rate_limiter),
	};
}

static void describe_net(struct machine_net *to, const struct vmm_net *net)
{
	const struct body_net *b = &net->body;

	*to = (struct machine_net){
	    .id = b->iface_id,
	    .kind = MACHINE_NET_FD,
	    .tap = b->host_dev_name,
	    .fd = net->fd,
	    .mac_kind = b->has_mac ? MACHINE_MAC_GIVEN : MACHINE_MAC_NONE,
	    .mtu = b->has_mtu ? b->mtu : 0,
	    .rx = limits(b->has_rx, &b->rx),
	    .tx = limits(b->has_tx, &b->tx),
	};
	memcpy(to->mac, b->guest_mac, sizeof to->mac);
}

static void describe_pmem(struct machine_pmem *to, const struct vmm_pmem *pmem)
{
	const struct body_pmem *b = &pmem->body;

	*to = (struct machine_pmem){
	    .id = b->id,
	    .path = b->path_on_host,
	    .has_fd = true,
	    .fd = pmem->fd,
	    .read_only = b->read_only,
	    .root = b->root_device,
	    .limits = limits(b->has_limiter, &b->rate_limiter),
	};
}

static bool describe_devices(const struct vmm_resources *r, struct machine_devices_config *d, struct reply *reply)
{
	if (r->drive_count > MACHINE_DISKS_MAX || r->net_count > MACHINE_NETS_MAX || r->pmem_count > MACHINE_PMEMS_MAX)
		return reply_fault(reply, "Start microvm error: Could not attach device: Could not allocate GSI: The "
					  "requested resource is not available.");
	for (unsigned i = 0; i < r->drive_count; i++)
		describe_drive(&d->disks[d->disk_count++], &r->drives[i]);
	for (unsigned i = 0; i < r->net_count; i++)
		describe_net(&d->nets[d->net_count++], &r->nets[i]);
	for (unsigned i = 0; i < r->pmem_count; i++)
		describe_pmem(&d->pmems[d->pmem_count++], &r->pmems[i]);
	if (r->vsock.set) {
		d->vsock.path = r->vsock.body.uds_path;
		d->vsock.cid = r->vsock.body.guest_cid;
		d->vsock.has_listener = true;
		d->vsock.listener = r->vsock.listener;
	}
	d->rng.wanted = r->has_entropy;
	d->rng.limits = limits(r->entropy.has_limiter, &r->entropy.rate_limiter);
	d->balloon.wanted = r->has_balloon;
	/* all of an odd number of MiB may have been asked for */
	uint64_t target =
	    r->balloon.amount_mib < memory_mib(&r->machine) ? r->balloon.amount_mib : memory_mib(&r->machine);

	d->balloon.balloon = (struct balloon_config){.target_bytes = target << 20,
						     .deflate_on_oom = r->balloon.deflate_on_oom,
						     .reporting = r->balloon.free_page_reporting,
						     .hinting = r->balloon.free_page_hinting,
						     .stats_s = r->balloon.stats_polling_interval_s};
	return true;
}

/* The lists of a custom template as one array. */
static bool describe_cpuid(struct vmm *vmm, struct cpu_config *config)
{
	const struct schema_list *leaves = &vmm->resources.cpu.cpuid_modifiers;
	const struct body_cpuid *leaf = leaves->items;
	size_t count = 0, used = 0;

	for (size_t i = 0; i < leaves->count; i++)
		count += leaf[i].modifiers.count;
	free(vmm->cpuid);
	vmm->cpuid = calloc(count + 1, sizeof *vmm->cpuid);
	if (!vmm->cpuid)
		return false;
	for (size_t i = 0; i < leaves->count; i++) {
		const struct body_register *reg = leaf[i].modifiers.items;

		for (size_t k = 0; k < leaf[i].modifiers.count; k++)
			vmm->cpuid[used++] =
			    (struct cpu_cpuid_modifier){leaf[i].leaf, leaf[i].subleaf, (enum cpu_register)reg[k].reg,
							(uint32_t)reg[k].bitmap.filter, (uint32_t)reg[k].bitmap.value};
	}
	config->cpuid = vmm->cpuid;
	config->cpuid_count = count;
	return true;
}

static bool describe_cpu(struct vmm *vmm, struct cpu_config *config, struct reply *reply)
{
	/* in the order of the words */
	static const enum cpu_template templates[] = {CPU_TEMPLATE_C3,   CPU_TEMPLATE_T2,  CPU_TEMPLATE_T2S,
						      CPU_TEMPLATE_T2CL, CPU_TEMPLATE_T2A, CPU_TEMPLATE_V1N1,
						      CPU_TEMPLATE_NONE};
	const struct vmm_resources *r = &vmm->resources;

	if (r->template == VMM_TEMPLATE_STATIC)
		config->template = templates[r->machine.cpu_template];
	if (r->template != VMM_TEMPLATE_CUSTOM)
		return true;
	config->msrs = r->cpu.msr_modifiers.items;
	config->msr_count = r->cpu.msr_modifiers.count;
	config->capabilities = r->cpu.kvm_capabilities.items;
	config->capability_count = r->cpu.kvm_capabilities.count;
	return describe_cpuid(vmm, config) || reply_fault(reply, "Start microvm error: Out of memory.");
}

static bool describe_console(struct vmm *vmm, struct machine_config *config, struct reply *reply)
{
	struct vmm_resources *r = &vmm->resources;
	char words[160];

	config->console.lossy = true;
	config->console.limit = bucket(r->serial.has_limiter, &r->serial.rate_limiter);
	if (!r->serial.serial_out_path) {
		config->console.kind = MACHINE_CONSOLE_STDIO;
		return true;
	}
	if (r->serial_fd >= 0)
		close(r->serial_fd);
	/* of a FIFO both ends, so that nobody need read it yet */
	r->serial_fd = open(r->serial.serial_out_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0644);
	if (r->serial_fd < 0)
		return reply_fault(reply,
				   "Start microvm error: Error creating legacy device: Failed to open serial "
				   "output file: %s",
				   vmm_os_error(errno, words, sizeof words));
	config->console.kind = MACHINE_CONSOLE_FD;
	config->console.fd = r->serial_fd;
	return true;
}

bool vmm_describe_host(struct vmm *vmm, struct machine_config *config, struct reply *reply)
{
	machine_config_init(config);
	config->cache_directory = vmm->settings.cache_directory;
	config->boot_timer = vmm->settings.boot_timer;
	config->accept_emulation = vmm->settings.accept_emulation;
	config->unconfined = vmm->settings.unconfined;
	config->controlled = true;
	config->own_signals = config->keep_halted = true;
	config->timed = metrics_configured();
	config->vcpu_name = "fc_vcpu";
	config->can_save = true;
	return describe_console(vmm, config, reply);
}

bool vmm_describe(struct vmm *vmm, struct machine_config *config, struct reply *reply)
{
	if (!vmm_describe_host(vmm, config, reply))
		return false;
	config->vcpus = vmm->resources.machine.vcpu_count;
	config->track_dirty = vmm->resources.machine.track_dirty_pages;
	config->smt = vmm->resources.machine.smt;
	describe_memory(config, &vmm->resources.machine);
	if (vmm->resources.has_hotplug)
		log_always(LOG_WARN, "vmm", "The guest has no device for memory that is plugged: riffle has none.");
	return describe_kernel(vmm, config, reply) && describe_devices(&vmm->resources, &config->devices, reply) &&
	       vmm_describe_mmds(vmm, &config->devices, reply) && describe_cpu(vmm, &config->cpu, reply);
}

int vmm_check_machine(struct vmm *vmm, struct riffle_error *error)
{
	struct machine_config *config = calloc(1, sizeof *config);
	struct reply reply = {0};
	int status;

	if (!config)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "machine", "out of memory");
	machine_config_init(config);
	config->vcpus = vmm->resources.machine.vcpu_count;
	config->memory_bytes = memory_mib(&vmm->resources.machine) << 20;
	if (!describe_kernel(vmm, config, &reply))
		status = riffle_fail(error, RIFFLE_ERR_ARGUMENT, "command line", "has no room for pci=off");
	else if (!describe_devices(&vmm->resources, &config->devices, &reply))
		status = riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "devices", "are more than there are slots",
					      vmm->resources.drive_count + vmm->resources.net_count +
						  vmm->resources.pmem_count,
					      MACHINE_DISKS_MAX);
	else if (!(status = machine_config_check(config, error)))
		status = machine_config_check_line(config, error);
	/* what Linux takes, of which the setup header of the kernel tells; it is not opened here */
	if (!status && strlen(config->command_line) > LINUX_COMMAND_LINE_MAX)
		status =
		    riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "command line", "is too long with its devices",
					 strlen(config->command_line), LINUX_COMMAND_LINE_MAX);
	reply_free(&reply);
	free(config);
	return status;
}

static void notice(void *opaque, const char *text)
{
	(void)opaque;
	log_always(LOG_WARN, "vmm", "%s", text);
}

static void announce(void *opaque, const char *text)
{
	(void)opaque;
	log_always(LOG_INFO, "vmm", "%s", text);
}

static void preparing(void *opaque, bool begun)
{
	(void)opaque;
	if (begun)
		log_always(LOG_INFO, "vmm", "The kernel is prepared, once for all its starts.");
}

/* The start is answered when nothing can fail any more. */
static void before_run(void *opaque)
{
	struct vmm *vmm = opaque;
	struct reply reply = {0};

	vmm->state = VMM_RUNNING;
	log_always(LOG_DEBUG, "vmm", "event_end: boot microvm");
	machine_drop_code();
	reply_done(&reply);
	vmm->started(vmm->opaque, &reply);
}

static void start_fault(struct reply *reply, const struct machine_config *config, const char *blame,
			const struct riffle_error *error)
{
	char words[400];

	riffle_error_format(error, words, sizeof words);
	if (blame && blame == config->kernel)
		reply_fault(reply,
			    "Start microvm error: Cannot load kernel due to invalid memory configuration or invalid "
			    "kernel image: %s",
			    words);
	else if (error->status == RIFFLE_ERR_MEMORY)
		reply_fault(reply, "Start microvm error: Invalid Memory Configuration: Cannot create mmap region: Out "
				   "of memory (os error 12)");
	else if (!strcmp(error->field, "devices") && error->status == RIFFLE_ERR_ARGUMENT)
		reply_fault(reply,
			    "Start microvm error: Could not attach device: Could not allocate GSI: The requested "
			    "resource is not available. (%s)",
			    words);
	else if (blame && blame != config->initrd_path)
		reply_fault(reply, "Start microvm error: %s: %s", blame, words);
	else
		reply_fault(reply, "Start microvm error: %s%s", blame ? "Cannot load initrd: " : "", words);
}

static void failed(struct vmm *vmm, struct reply *reply)
{
	watch_end();
	machine_destroy(vmm->machine);
	vmm->machine = NULL;
	vmm->state = VMM_NOT_STARTED;
	vmm->started(vmm->opaque, reply);
}

bool vmm_run(struct vmm *vmm, enum vm_end *end, struct riffle_error *error)
{
	const struct machine_observer observer = {.notice = notice,
						  .announce = announce,
						  .preparing = preparing,
						  .before_run = before_run,
						  .booted = watch_booted,
						  .opaque = vmm};
	/* large, and not to be had on a small stack */
	struct machine_config *config = calloc(1, sizeof *config);
	struct reply reply = {0};
	struct phases phases;
	const char *blame = NULL;
	int status;

	if (!config || !vmm_describe(vmm, config, &reply)) {
		if (!config)
			reply_fault(&reply, "Start microvm error: Out of memory.");
		free(config);
		failed(vmm, &reply);
		return false;
	}
	phases_start(&phases, 0);
	watch_start();
	log_always(LOG_DEBUG, "vmm", "event_start: build microvm for boot");
	status = vmm_start_from_stock(vmm, config, &observer, &phases, &blame, error);
	if (status == STOCK_EMPTY)
		status = machine_build(&vmm->machine, config, &observer, &phases, &blame, error);
	if (!status) {
		blame = NULL;
		log_always(LOG_DEBUG, "vmm", "Kernel loaded using Linux 64-bit boot protocol");
		log_always(LOG_DEBUG, "vmm", "event_end: build microvm for boot");
		log_always(LOG_DEBUG, "vmm", "event_start: boot microvm");
		status = watch_machine(vmm->machine, error);
	}
	if (!status) {
		status = machine_run(vmm->machine, end, error);
		watch_stop();
	}
	if (status && vmm->state == VMM_NOT_STARTED) {
		start_fault(&reply, config, blame, error);
		failed(vmm, &reply);
		free(config);
		return false;
	}
	free(config);
	return true;
}
