/* SPDX-License-Identifier: Apache-2.0 */
/* A tiny guest is saved at its mark, with its process confined as it is, and goes on in another machine, once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/bytes.h"
#include "machine/snapshot.h"

#define CODE 0x10000u
#define PML4 0x1000u
#define PDPT 0x2000u
#define DIRECTORY 0x3000u
#define GDT 0x500u
#define NOTE 0x5000u

/* Keeps a number in a register and in memory, says its mark, and powers off with the sum of both in memory. */
static const uint8_t code[] = {
    0xbb, 0x34, 0x12, 0x00, 0x00,                            /* mov $0x1234, %ebx */
    0xc7, 0x04, 0x25, 0x00, 0x50, 0x00, 0x00, 0x11, 0, 0, 0, /* movl $0x11, NOTE */
    0xb0, 0x7b, 0xe6, 0xf4,                                  /* mov $123, %al; out %al, $0xf4 */
    0x01, 0x1c, 0x25, 0x00, 0x50, 0x00, 0x00,                /* add %ebx, NOTE */
    0x66, 0xba, 0x05, 0x06, 0xb0, 0x34, 0xee,                /* mov $0x605, %dx; mov $0x34, %al; out %al, (%dx) */
    0xeb, 0xfe,                                              /* jmp . */
};

static void describe(struct machine_config *config)
{
	machine_config_init(config);
	config->memory_bytes = 4 << 20;
	config->vcpus = 2;
	config->accept_emulation = true;
	config->console.kind = MACHINE_CONSOLE_NONE;
	config->can_save = true;
}

static void load_code(struct machine *machine)
{
	uint8_t *ram = guest_memory_at(vm_memory(machine_vm(machine)), 0, 4 << 20);
	const struct riffle_boot_registers registers = {.rip = CODE,
							.rsp = 0xfff0,
							.rflags = 2,
							.cr0 = 0x80000011,
							.cr3 = PML4,
							.cr4 = 0x20,
							.efer = 0x500,
							.gdt_address = GDT,
							.gdt_bytes = 32,
							.cs = 0x10,
							.ds = 0x18};

	riffle_put64(ram + PML4, PDPT | 3);
	riffle_put64(ram + PDPT, DIRECTORY | 3);
	riffle_put64(ram + DIRECTORY, 0x83);
	riffle_put64(ram + DIRECTORY + 8, (2 << 20) | 0x83);
	riffle_put64(ram + GDT + 16, UINT64_C(0x00af9b000000ffff));
	riffle_put64(ram + GDT + 24, UINT64_C(0x00cf93000000ffff));
	memcpy(ram + CODE, code, sizeof code);
	if (machine_enter_at(machine, &registers, NULL))
		_exit(11);
}

/* In a child, since a machine's process is confined for good. */
static int save(int state, int memory)
{
	static struct machine_config config;
	struct machine *machine;
	struct riffle_error error = {0};
	struct phases phases;
	enum vm_end end = VM_END_ERROR;

	describe(&config);
	config.save_at_mark = true;
	config.save_state_fd = state;
	config.save_memory_fd = memory;
	phases_start(&phases, 0);
	if (machine_build_empty(&machine, &config, NULL, &phases, &error))
		_exit(10);
	load_code(machine);
	int status = machine_run(machine, &end, &error);

	if (status || end != VM_END_POWEROFF) {
		char text[200] = "";

		riffle_error_format(&error, text, sizeof text);
		fprintf(stderr, "saving ended with %d, %d: %s\n", status, end, text);
		return 12;
	}
	return 0;
}

static int go_on(int state, int memory)
{
	static struct machine_config config;
	char state_name[20], memory_name[20];
	struct machine_load load = {
	    .state_path = state_name, .memory_path = memory_name, .consume = true, .host = &config};
	struct machine *machine;
	struct riffle_error error = {0};
	struct phases phases;
	const char *blame;
	enum vm_end end = VM_END_ERROR;

	describe(&config);
	snprintf(state_name, sizeof state_name, "fd:%d", state);
	snprintf(memory_name, sizeof memory_name, "fd:%d", memory);
	phases_start(&phases, 0);
	int status = machine_snapshot_load(&machine, &load, NULL, &phases, NULL, &blame, &error);

	if (status == RIFFLE_ERR_TRUST)
		return 20;
	if (!status)
		status = machine_run(machine, &end, &error);
	if (status || end != VM_END_POWEROFF) {
		char text[200] = "";

		riffle_error_format(&error, text, sizeof text);
		fprintf(stderr, "going on ended with %d, %d: %s\n", status, end, text);
		return 21;
	}
	return 0;
}

static int in_child(int (*what)(int state, int memory), int state, int memory)
{
	pid_t child = fork();
	int status;

	if (child == 0)
		_exit(what(state, memory));
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void test_mark(void **unused)
{
	int state = memfd_create("state", MFD_CLOEXEC), memory = memfd_create("memory", MFD_CLOEXEC);
	uint32_t note;
	struct stat st;

	(void)unused;
	if (access("/dev/kvm", R_OK | W_OK))
		skip();
	assert_int_equal(in_child(save, state, memory), 0);
	assert_int_equal(fstat(state, &st), 0);
	assert_true(st.st_size > 0);
	assert_int_equal(pread(memory, &note, sizeof note, NOTE), sizeof note);
	assert_int_equal(note, 0x11); /* not a step further */
	assert_int_equal(in_child(go_on, state, memory), 0);
	assert_int_equal(pread(memory, &note, sizeof note, NOTE), sizeof note);
	assert_int_equal(note, 0x1245);
	assert_int_equal(in_child(go_on, state, memory), 20);
	close(state);
	close(memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_mark)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
