/* SPDX-License-Identifier: Apache-2.0 */
/* machine/control.h on a running machine with any /dev/kvm, from its confined event loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest.h"
#include "guest_code.h"
#include "machine/control.h"
#include "machine/internal.h"

#define MIB (UINT64_C(1) << 20)

GUEST_ASM(spin, "1: inc %rax\n"
		"jmp 1b\n")

static char paths[2][40];
static int first_fd;
static struct machine *machine;
static struct loop_task task;
static const struct cpu_cpuid_modifier brand = {0x80000002, 0, CPU_EAX, 0xffffffff, 0x66666972};
static const struct cpu_msr_modifier fast_string = {0x1a0, 1, 0};

/* The child's exit status names the line. */
#define MUST(condition)                                                                                                \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                                        \
			_exit(99);                                                                                     \
		}                                                                                                      \
	} while (0)

static void configure(struct machine_config *config)
{
	config->controlled = true;
	config->vcpu_name = "fc_vcpu";
	config->devices.disk_count = 1;
	config->devices.disks[0] = (struct machine_disk){.id = "a", .path = "a", .has_fd = true, .fd = first_fd};
	config->devices.balloon.wanted = true;
	config->devices.balloon.balloon.stats_s = 1;
	config->cpu = (struct cpu_config){.cpuid = &brand, .cpuid_count = 1, .msrs = &fast_string, .msr_count = 1};
}

static bool is_argument(int status, const struct riffle_error *error, const char *field)
{
	return status == RIFFLE_ERR_ARGUMENT && !strcmp(error->field, field);
}

static void control_disk(void)
{
	const struct limiter_update limits = {.has_ops = true, .ops = {100, 1000, 0}};
	struct block *disk = machine->devices.disks[0];
	static const char sector[512];
	struct riffle_error error;

	MUST(block_bytes(disk) == 4096);
	MUST(machine_disk_set_file(machine, "a", paths[1], &error) == 0);
	MUST(block_bytes(disk) == 8192);
	/* the same file, which has grown */
	int fd = open(paths[1], O_RDWR | O_APPEND);

	MUST(fd >= 0 && write(fd, sector, sizeof sector) == sizeof sector);
	close(fd);
	MUST(machine_disk_set_file(machine, "a", paths[1], &error) == 0);
	MUST(block_bytes(disk) == 8192 + 512);
	MUST(machine_disk_set_file(machine, "a", "/no/such/file", &error) == RIFFLE_ERR_IO);
	MUST(machine_disk_set_file(machine, "a", "/dev/null", &error) == RIFFLE_ERR_ARGUMENT);
	MUST(block_bytes(disk) == 8192 + 512);
	MUST(is_argument(machine_disk_set_file(machine, "b", paths[0], &error), &error, "id"));
	MUST(is_argument(machine_disk_set_limits(machine, "b", &limits, &error), &error, "id"));
	MUST(is_argument(machine_net_set_limits(machine, "a", &limits, &limits, &error), &error, "id"));
	MUST(is_argument(machine_pmem_set_limits(machine, "a", &limits, &error), &error, "id"));
	MUST(machine_disk_set_limits(machine, "a", &limits, &error) == 0);
	MUST(machine_disks_sync(machine, &error) == 0);
	/* the first one is free again, for any other */
	MUST(machine_disk_set_file(machine, "a", paths[0], &error) == 0);
	MUST(block_bytes(disk) == 4096);
}

static void control_balloon(void)
{
	struct balloon_state state;
	struct riffle_error error;

	MUST(machine_balloon_set_target(machine, MIB, &error) == 0);
	MUST(machine_balloon_set_target(machine, 4 * MIB, &error) == 0);
	MUST(is_argument(machine_balloon_set_target(machine, 4 * MIB + 4096, &error), &error, "balloon"));
	MUST(machine_balloon_state(machine, &state, &error) == 0 && state.target_bytes == 4 * MIB);
	MUST(machine_balloon_set_interval(machine, 7, &error) == 0);
	MUST(machine_balloon_set_interval(machine, 0, &error) == RIFFLE_ERR_ARGUMENT);
	MUST(is_argument(machine_balloon_hint_start(machine, true, &error), &error, "hinting"));
	MUST(is_argument(machine_balloon_hint_stop(machine, &error), &error, "hinting"));
}

static void control(void *opaque)
{
	struct riffle_error error;

	(void)opaque;
	control_disk();
	control_balloon();
	for (unsigned i = 0; i < 4; i++)
		MUST(machine_ctrl_alt_del(machine, &error) == 0);
	MUST(is_argument(machine_ctrl_alt_del(machine, &error), &error, "keyboard"));
	for (unsigned i = 0; i < 2; i++)
		MUST(machine_control(machine, MACHINE_PAUSE, &error) == 0 && vm_state(machine->vm) == VM_PAUSED);
	MUST(machine_renew_generation(machine, &error) == 0);
	for (unsigned i = 0; i < 2; i++)
		MUST(machine_control(machine, MACHINE_RESUME, &error) == 0 && vm_state(machine->vm) == VM_RUNNING);
	MUST(machine_control(machine, MACHINE_END, &error) == 0);
	MUST(machine_control(machine, MACHINE_PAUSE, &error) == RIFFLE_ERR_ARGUMENT);
}

static bool has_thread(const char *wanted)
{
	DIR *tasks = opendir("/proc/self/task");
	bool found = false;

	for (struct dirent *entry; tasks && (entry = readdir(tasks));) {
		char path[300], name[32] = "";

		snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
		int fd = open(path, O_RDONLY);

		if (fd >= 0 && read(fd, name, sizeof name - 1) > 0)
			found |= !strcmp(name, wanted);
		if (fd >= 0)
			close(fd);
	}
	if (tasks)
		closedir(tasks);
	return found;
}

static void *client(void *opaque)
{
	(void)opaque;
	while (vm_state(machine->vm) != VM_RUNNING || !has_thread("fc_vcpu 0\n"))
		usleep(1000);
	machine_post(machine, &task);
	return NULL;
}

static void beside(struct machine *made)
{
	pthread_t thread;
	sigset_t all, before;

	machine = made;
	task = (struct loop_task){.run = control};
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	MUST(pthread_create(&thread, NULL, client, NULL) == 0);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_detach(thread);
}

static void everything_at_once(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		strcpy(paths[i], "/var/tmp/riffle-control-XXXXXX");
		int fd = mkstemp(paths[i]);

		assert_int_equal(ftruncate(fd, 4096 * (i + 1)), 0);
		if (i)
			close(fd);
		else
			first_fd = fd;
	}
	struct guest_child child = guest_start(&(struct guest){GUEST(spin), .configure = configure, .beside = beside});

	assert_int_equal(guest_wait(&child)->end, VM_END_POWEROFF);
	close(first_fd);
	unlink(paths[0]);
	unlink(paths[1]);
}

/* 40,000 characters, as a driver that polls sends them. */
GUEST_ASM(talk, "mov $40000, %ecx\n"
		"1: mov $0x3fd, %edx\n"
		"2: in %dx, %al\n"
		"test $0x20, %al\n"
		"jz 2b\n"
		"mov $0x3f8, %edx\n"
		"mov $0x78, %al\n"
		"out %al, %dx\n"
		"dec %ecx\n"
		"jnz 1b\n" POWER_OFF)

static int unread[2];

static void console_nobody_reads(struct machine_config *config)
{
	config->console.fd = unread[1];
	config->console.lossy = true;
}

/* A pipe holds 4 KiB and the ring of an output that waits for its reader 16: the guest must still end. */
static void a_guest_waits_for_no_reader(void **state)
{
	char text[5000];

	(void)state;
	assert_int_equal(pipe(unread), 0);
	assert_int_equal(fcntl(unread[1], F_SETPIPE_SZ, 4096), 4096);
	struct guest_child child =
	    guest_start(&(struct guest){GUEST(talk), .console = MACHINE_CONSOLE_FD, .configure = console_nobody_reads});

	assert_int_equal(guest_wait(&child)->end, VM_END_POWEROFF);
	close(unread[1]);
	assert_in_range(read(unread[0], text, sizeof text), 1, 4096);
	close(unread[0]);
}

static void template_of_arm(struct machine_config *config)
{
	config->cpu.template = CPU_TEMPLATE_V1N1;
}

static void unknown_leaf(struct machine_config *config)
{
	static const struct cpu_cpuid_modifier modifier = {0x12345678, 0, CPU_EAX, 1, 1};

	config->cpu.cpuid = &modifier;
	config->cpu.cpuid_count = 1;
}

static void unknown_msr(struct machine_config *config)
{
	static const struct cpu_msr_modifier modifier = {0x12345678, 1, 1};

	config->cpu.msrs = &modifier;
	config->cpu.msr_count = 1;
}

static void unknown_capability(struct machine_config *config)
{
	static const struct cpu_capability capability = {.id = 99999};

	config->cpu.capabilities = &capability;
	config->cpu.capability_count = 1;
}

static int try(void (*configure_machine)(struct machine_config *), const char **field)
{
	static struct riffle_error error;
	struct machine_config config;
	struct machine *made;
	struct phases phases;

	machine_config_init(&config);
	config.accept_emulation = true;
	config.memory_bytes = 4 * MIB;
	config.console.kind = MACHINE_CONSOLE_NONE;
	configure_machine(&config);
	phases_start(&phases, 0);
	int status = machine_build_empty(&made, &config, NULL, &phases, &error);

	*field = error.field;
	machine_destroy(made);
	return status;
}

/* Features that this host lacks are refused when the machine is built. */
static void cpu_configurations_that_do_not_fit(void **state)
{
	static const struct {
		void (*configure)(struct machine_config *);
		const char *field;
	} cases[] = {{template_of_arm, "cpu_template"},
		     {unknown_leaf, "cpuid_modifiers"},
		     {unknown_msr, "msr_modifiers"},
		     {unknown_capability, "kvm_capabilities"}};
	const char *field;

	(void)state;
	if (access("/dev/kvm", R_OK | W_OK))
		skip();
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		assert_int_equal(try(cases[i].configure, &field), RIFFLE_ERR_UNSUPPORTED);
		assert_string_equal(field, cases[i].field);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(everything_at_once),
					   cmocka_unit_test(a_guest_waits_for_no_reader),
					   cmocka_unit_test(cpu_configurations_that_do_not_fit)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
