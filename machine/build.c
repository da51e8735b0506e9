/* SPDX-License-Identifier: Apache-2.0 */
/* Builds a machine: from a checked description to the moment before its first instruction. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <jansson.h>
#include <riffle/riffle.h>

#include "common/fail.h"
#include "host/pool.h"
#include "machine/cmdline.h"
#include "machine/internal.h"
#include "machine/restore.h"
#include "monitor/confine/confine.h"
#include "monitor/core/kvm.h"
#include "monitor/core/probe.h"

void machine_notice(const struct machine *m, const char *text)
{
	if (m->observer.notice)
		m->observer.notice(m->observer.opaque, text);
}

/* An edge-triggered line: its rise is what counts. */
static void set_irq(void *opaque, unsigned irq, bool level)
{
	const struct machine *m = opaque;

	if (level)
		irq_raise(irq == IRQ_COM1 ? &m->irq_com1 : &m->irq_keyboard);
}

/*
 * Linux writes how it resets to the BIOS's data area: 0x1234 for a warm boot. reboot=panic_warm on its command line
 * makes that of a panic alone (5.3 and later).
 */
static bool is_warm_reset(const struct machine *m)
{
	uint16_t mode = 0;

	guest_memory_read(vm_memory(m->vm), BIOS_RESET_MODE, &mode, sizeof mode);
	return mode == BIOS_WARM_RESET;
}

static void end_for_guest(void *opaque, enum vm_end end)
{
	struct machine *m = opaque;

	if (end == VM_END_RESET && cmdline_tells_panic(m->config.command_line) && is_warm_reset(m))
		end = VM_END_PANIC;
	vm_end(m->vm, end);
}

static void input_wanted(void *opaque)
{
	struct machine *m = opaque;

	loop_post(&m->loop, &m->console.feed);
}

static void handle_port(void *opaque, uint16_t port, unsigned bytes, bool write, void *data)
{
	bus_port(&((struct machine *)opaque)->bus, port, bytes, write, data);
}

static void handle_mmio(void *opaque, uint64_t address, unsigned bytes, bool write, void *data)
{
	bus_mmio(&((struct machine *)opaque)->bus, address, bytes, write, data);
}

static void vm_debug(void *opaque, unsigned vcpu, const struct kvm_debug_exit_arch *stop)
{
	machine_debug_stop(&((struct machine *)opaque)->debug, vcpu, stop);
}

static void vm_ended(void *opaque)
{
	struct machine *m = opaque;

	loop_post(&m->loop, &m->ended);
}

/* Only who continues from a copy of its memory is told so; a controlled machine may be at any time. */
static bool has_generation_irq(const struct machine *m)
{
	return m->restored || m->config.controlled;
}

static int attach_devices(struct machine *m, struct riffle_error *error)
{
	int status;

	m->platform =
	    (struct platform){.set_irq = set_irq, .end = end_for_guest, .input_wanted = input_wanted, .opaque = m};
	if ((status = irq_open(&m->irq_com1, IRQ_COM1, error)) ||
	    (status = irq_open(&m->irq_keyboard, IRQ_KEYBOARD, error)) ||
	    (has_generation_irq(m) && (status = irq_open(&m->irq_generation, GENERATION_GSI, error))) ||
	    (status = serial_attach(&m->serial, &m->bus, &m->platform, &m->output, error)) ||
	    (status = i8042_attach(&m->i8042, &m->bus, &m->platform, error)) ||
	    (status = cmos_attach(&m->cmos, &m->bus, NULL, error)) ||
	    (status = power_attach(&m->power, &m->bus, &m->platform, error)) ||
	    (status = machine_command_open(m, error)))
		return status;
	serial_limit(&m->serial, &m->config.console.limit);
	if (!m->config.boot_timer && !m->config.save_at_mark)
		return 0;
	m->boot_timer.marked = m->observer.booted;
	m->boot_timer.opaque = m->observer.opaque;
	machine_save_at_mark(m);
	return boot_timer_attach(&m->boot_timer, &m->bus, error);
}

static int add_devices_to_line(struct machine_config *config, const struct machine_devices *devices,
			       struct riffle_error *error)
{
	char words[RIFFLE_BOOT_CMDLINE_MAX];

	if (!machine_devices_command_line(devices, &config->devices, config->command_line, words, sizeof words))
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "command_line", "has no room for the devices");
	return words[0] ? machine_config_kernel_words(config, words + 1, error) : 0;
}

int machine_config_check_line(struct machine_config *config, struct riffle_error *error)
{
	struct machine_devices *devices = calloc(1, sizeof *devices);
	int status;

	if (!devices)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "devices", "out of memory");
	machine_devices_foresee(devices, &config->devices);
	status = add_devices_to_line(config, devices, error);
	free(devices);
	return status;
}

/* After the platform and the guest's memory; the command line then tells where they are. */
static int make_devices(struct machine *m, struct riffle_error *error)
{
	m->devices.notice = m->observer.notice;
	m->devices.notice_opaque = m->observer.opaque;
	m->config.devices.timed = m->config.timed;
	int status = machine_devices_make(&m->devices, &m->config.devices, &m->bus, &m->loop, vm_memory_to_add(m->vm),
					  &m->blame, error);

	if (status)
		return status;
	if (m->restored)
		return 0; /* its command line was told when it booted */
	if (m->devices.count)
		phases_end(m->phases, "devices");
	return add_devices_to_line(&m->config, &m->devices, error);
}

/* What the boot tables say of the machine; again after vm_open(), which finds out about 1 GiB pages. */
static void describe(struct machine *m)
{
	struct riffle_machine *d = &m->description;

	d->ram = vm_memory(m->vm)->ram;
	d->ram_count = vm_memory(m->vm)->count;
	d->vcpus = m->config.vcpus;
	d->flags = RIFFLE_MACHINE_I8042 | RIFFLE_MACHINE_RTC | (vm_gib_pages(m->vm) ? RIFFLE_MACHINE_GIB_PAGES : 0);
	d->pm_port = PORT_PM;
	d->reset_port = PORT_RESET;
	d->reset_value = RESET_VALUE;
	d->event_gsi = GENERATION_GSI;
	d->vmgenid_address = GENERATION_VMGENID;
	d->vmclock_address = GENERATION_VMCLOCK;
	d->command_line = m->config.command_line;
	d->devices = m->devices.announced;
	d->device_count = m->devices.count;
	d->rng_seed = m->rng_seed;
	d->rng_seed_bytes = sizeof m->rng_seed;
}

/* Asked of /dev/kvm before there is a VM. */
static int choose_breakpoints(struct machine *m, struct riffle_error *error)
{
	int status = machine_ask_kvm(m, error);

	if (status)
		return status;
	m->debug.by_port = !probe_breakpoints(m->kvm_fd);
	if (m->debug.by_port)
		m->debug.has_registers = probe_debug_registers(m->kvm_fd);
	if (m->debug.by_port)
		machine_notice(
		    m, m->debug.has_registers
			   ? "this KVM does not report breakpoint instructions and watchpoints: there are none of "
			     "the latter, and breakpoints after the fourth are port writes, in the guest's kernel alone"
			   : "this KVM reports no breakpoints: they are made of port writes, in the guest's kernel "
			     "alone, and there are no watchpoints");
	return 0;
}

/*
 * What a new guest has of its own, never from --seed: a replayed layout must not replay the guest's secrets. One that
 * is restored brings its own.
 */
static int draw_own(struct machine *m, struct riffle_error *error)
{
	uint8_t generation[RIFFLE_BOOT_VMGENID_BYTES];

	if (entropy_take(&m->entropy, m->rng_seed, sizeof m->rng_seed) ||
	    entropy_take(&m->entropy, m->layout_id, sizeof m->layout_id) ||
	    entropy_take(&m->entropy, generation, sizeof generation))
		return riffle_fail_full(error, RIFFLE_ERR_RANDOM, errno, "getrandom", "failed", 0, 0, 0, 0);
	return generation_begin(vm_memory(m->vm), generation, error);
}

static int new_vm(struct machine *m, struct riffle_error *error)
{
	const struct vm_config config = {
	    .vcpus = m->config.vcpus,
	    .memory_bytes = m->config.memory_bytes,
	    .pages = m->config.huge_2m      ? GUEST_PAGES_HUGETLB
		     : m->config.huge_pages ? GUEST_PAGES_TRANSPARENT
					    : GUEST_PAGES_SMALL,
	    .unconfined = m->config.unconfined,
	    .timed = m->config.timed,
	    .thread_name = m->config.vcpu_name,
	    .cpu = m->config.cpu,
	    .can_save = m->config.can_save || m->restored,
	    .restored = m->restored,
	    .track_dirty = m->config.track_dirty,
	    .memory_file = m->memory_file,
	};
	const struct vm_handlers handlers = {.port = handle_port,
					     .mmio = handle_mmio,
					     .ended = vm_ended,
					     .debug = m->debug.wanted ? vm_debug : NULL,
					     .debug_port = m->debug.by_port ? DEBUG_PORT : 0,
					     .opaque = m};
	int status = vm_new(&m->vm, &config, &handlers, error);

	m->memory_file = NULL;

	if (!status && !m->restored)
		status = draw_own(m, error);
	if (status)
		return status;
	phases_end(m->phases, "memory");
	status = make_devices(m, error);
	if (status)
		return status;
	describe(m);
	return 0;
}

int machine_check_kvm(int *kvm_fd, const struct machine_config *config, struct riffle_error *error)
{
	*kvm_fd = kvm_open(error);
	if (*kvm_fd < 0)
		return error->status;
	int status = kvm_check(*kvm_fd, config->vcpus, &config->cpu, error);

	if (!status && !config->accept_emulation)
		status = probe_refuse_emulation(*kvm_fd, error);
	return status;
}

int machine_ask_kvm(struct machine *m, struct riffle_error *error)
{
	return m->kvm_fd >= 0 ? 0 : machine_check_kvm(&m->kvm_fd, &m->config, error);
}

int machine_open_vm(struct machine *m, struct riffle_error *error)
{
	int kvm_fd, status;

	if ((status = machine_ask_kvm(m, error)))
		return status;
	kvm_fd = m->kvm_fd;
	m->kvm_fd = -1;
	if ((status = vm_open(m->vm, kvm_fd, error)) || (status = vm_prepare_vcpus(m->vm, error)) ||
	    (status = irq_connect(&m->irq_com1, vm_descriptor(m->vm), error)) ||
	    (status = irq_connect(&m->irq_keyboard, vm_descriptor(m->vm), error)) ||
	    (has_generation_irq(m) && (status = irq_connect(&m->irq_generation, vm_descriptor(m->vm), error))) ||
	    (status = machine_devices_connect(&m->devices, vm_descriptor(m->vm), error)))
		return status;
	describe(m);
	return 0;
}

static int load_direct(struct machine *m, struct riffle_error *error)
{
	int status;

	if ((status = machine_place_initrd(m, &m->kernel.plan, error)) || (status = machine_choose_layout(m, error)))
		return status;
	machine_announce(m);
	if ((status = machine_load_kernel(m, error)))
		return status;
	status = riffle_boot_write(&m->registers, &m->description, &m->kernel.plan, &m->loaded, error);
	if (status)
		return status;
	phases_end(m->phases, "boot tables");
	/* of a guest that will run, and of no other */
	if ((status = machine_load_initrd(m, error)) || (status = machine_write_layout(m, error)))
		return status;
	/* plan and order have done their work: megabytes that need not stay while the guest runs */
	machine_give_shuffle_memory(m);
	kernel_close(&m->kernel);
	m->kernel_opened = false;
	return 0;
}

int machine_build_platform(struct machine *m, struct riffle_error *error)
{
	int status;

	if (m->config.can_save)
		machine_prepare_saving(m);
	machine_prepare_end(m);
	if ((status = loop_init(&m->loop, error)) || (status = machine_console_open(m, error)) ||
	    (status = machine_debug_open(&m->debug, &m->config.gdb, &m->blame, error)) ||
	    (status = machine_dump_open(m, error)) || (status = machine_snapshot_listen(m, error)) ||
	    (status = attach_devices(m, error)))
		return status;
	if (m->debug.wanted && (status = choose_breakpoints(m, error)))
		return status;
	status = new_vm(m, error);
	/* not before the devices: passt may need privileges that its file gives it */
	return status || m->config.unconfined ? status : confine_begin(error);
}

static int build(struct machine *m, struct riffle_error *error)
{
	bool direct = m->config.boot == MACHINE_BOOT_DIRECT;
	int status;

	if ((status = machine_config_check(&m->config, error)))
		return status;
	if (m->config.identify && (status = machine_origin_identify(&m->config.origin, &m->config, &m->blame, error)))
		return status;
	if (direct && ((status = machine_open_kernel(m, error)) || (status = machine_choose_mode(m, error))))
		return status;
	if ((status = machine_build_platform(m, error)))
		return status;
	status = direct ? load_direct(m, error) : machine_load_bootstrap(m, error);
	if (!status)
		status = vm_set_entry(m->vm, &m->registers, error);
	explicit_bzero(&m->entropy, sizeof m->entropy);
	explicit_bzero(m->rng_seed, sizeof m->rng_seed);
	explicit_bzero(&m->registers, sizeof m->registers);
	return status;
}

/* Everything of a machine that is not zero before anything is made, so that machine_destroy() works at any point. */
struct machine *machine_allocate(const struct machine_config *config, const struct machine_observer *observer,
				 struct phases *phases)
{
	/* pages of its own: the buffers of what a machine does not use are never touched, which calloc() would */
	struct machine *m = mmap(NULL, sizeof *m, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (m == MAP_FAILED)
		return NULL;
	m->config = *config;
	if (observer)
		m->observer = *observer;
	m->phases = phases;
	m->kvm_fd = m->initrd_fd = m->signal_fd = -1;
	m->debug.listen_fd = m->debug.fd = m->dump_fd = -1;
	m->pagemap_fd = m->snapshot.listen_fd = -1;
	m->uffd = (struct uffd){.fd = -1, .socket = -1};
	m->irq_com1.fd = m->irq_keyboard.fd = m->irq_generation.fd = -1;
	m->loop.epoll_fd = m->loop.wake_fd = m->loop.timer_fd = -1;
	m->console.in_fd = m->console.out_fd = m->console.listen_fd = m->console.held_fd = -1;
	bus_init(&m->bus);
	return m;
}

int machine_build(struct machine **result, const struct machine_config *config, const struct machine_observer *observer,
		  struct phases *phases, const char **blame, struct riffle_error *error)
{
	struct machine *m = *result = machine_allocate(config, observer, phases);
	int status;

	if (blame)
		*blame = NULL;
	if (!m)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "struct machine", "out of memory");
	status = build(m, error);
	if (status && blame)
		*blame = m->blame;
	return status;
}

int machine_build_empty(struct machine **result, const struct machine_config *config,
			const struct machine_observer *observer, struct phases *phases, struct riffle_error *error)
{
	struct machine *m = *result = machine_allocate(config, observer, phases);
	int status;

	if (!m)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "struct machine", "out of memory");
	if ((status = machine_build_platform(m, error)))
		return status;
	return machine_open_vm(m, error);
}

int machine_enter_at(struct machine *m, const struct riffle_boot_registers *registers, struct riffle_error *error)
{
	return vm_set_entry(m->vm, registers, error);
}

const struct machine_randomisation *machine_randomisation(const struct machine *m)
{
	return &m->randomisation;
}

struct vm *machine_vm(struct machine *m)
{
	return m->vm;
}

void machine_destroy(struct machine *m)
{
	if (!m)
		return;
	if (m->initrd_fd >= 0)
		close(m->initrd_fd);
	if (m->kvm_fd >= 0)
		close(m->kvm_fd);
	machine_give_shuffle_memory(m);
	if (m->kernel_opened)
		kernel_close(&m->kernel);
	machine_devices_destroy(&m->devices); /* which may have something in flight into the guest's memory */
	vm_destroy(m->vm);
	pool_end(m->pool);    /* which the first vCPU's thread may have used until now */
	uffd_close(&m->uffd); /* after the memory, which nobody would provide any more */
	machine_snapshot_close(m);
	machine_console_close(m);
	machine_debug_close(&m->debug);
	if (m->dump_fd >= 0)
		close(m->dump_fd);
	irq_close(&m->irq_com1);
	irq_close(&m->irq_keyboard);
	irq_close(&m->irq_generation);
	if (m->loop.last_task)
		loop_destroy(&m->loop);
	bus_destroy(&m->bus);
	json_decref(m->description_owner);
	munmap(m, sizeof *m);
}
