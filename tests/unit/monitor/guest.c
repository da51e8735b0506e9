/* SPDX-License-Identifier: Apache-2.0 */
/* Tiny guests: machine code in separate microVMs, each in an expendable child process. */
#include "guest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/bytes.h"
#include "common/fail.h"

#define GDT 0x500u
#define PML4 0x1000u
#define PDPT 0x2000u
#define DIRECTORIES 0x80000u /* 4 pages */
#define STACK_TOP 0xfff0u
#define NOTE 0x5000u

int guest_patience_ms = 60000;

/* 2 MiB pages: not every processor has 1 GiB ones */
static void write_page_tables(uint8_t *ram)
{
	riffle_put64(ram + PML4, PDPT | 3);
	for (unsigned i = 0; i < 4; i++) {
		riffle_put64(ram + PDPT + 8 * i, (DIRECTORIES + 4096 * i) | 3);
		for (unsigned j = 0; j < 512; j++)
			riffle_put64(ram + DIRECTORIES + 4096 * i + 8 * j, (uint64_t)i << 30 | j << 21 | 0x83);
	}
}

static void write_idt(uint8_t *ram, uint64_t handler)
{
	for (unsigned i = 0; i < 256; i++) {
		uint8_t *gate = ram + GUEST_IDT + 16 * i;
		riffle_put16(gate, (uint16_t)handler);
		riffle_put16(gate + 2, 0x10);
		riffle_put16(gate + 4, 0x8e00); /* present interrupt gate */
		riffle_put16(gate + 6, (uint16_t)(handler >> 16));
		riffle_put64(gate + 8, 0);
	}
	riffle_put16(ram + GUEST_IDTR, 256 * 16 - 1);
	riffle_put64(ram + GUEST_IDTR + 2, GUEST_IDT);
}

static struct riffle_boot_registers load(uint8_t *ram, const struct guest *guest)
{
	write_page_tables(ram);
	riffle_put64(ram + GDT + 16, UINT64_C(0x00af9b000000ffff));
	riffle_put64(ram + GDT + 24, UINT64_C(0x00cf93000000ffff));
	if (guest->handler_offset)
		write_idt(ram, GUEST_CODE + guest->handler_offset);
	memcpy(ram + GUEST_CODE, guest->code, (size_t)(guest->code_end - guest->code));
	if (guest->ap_code)
		memcpy(ram + GUEST_AP_CODE, guest->ap_code, (size_t)(guest->ap_code_end - guest->ap_code));
	return (struct riffle_boot_registers){
	    .rip = GUEST_CODE,
	    .rsp = STACK_TOP,
	    .rflags = 2,
	    .cr0 = 0x80000011,
	    .cr3 = PML4,
	    .cr4 = 0x20,
	    .efer = 0x500,
	    .gdt_address = GDT,
	    .gdt_bytes = 32,
	    .cs = 0x10,
	    .ds = 0x18,
	};
}

/* Counts the monitor's threads by name: KVM in newer kernels adds its own thread to the process. */
static unsigned count_monitor_threads(void)
{
	unsigned count = 0;
	DIR *tasks = opendir("/proc/self/task");
	for (struct dirent *entry; tasks && (entry = readdir(tasks));) {
		char path[300], name[32] = "";
		snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0 && read(fd, name, sizeof name - 1) > 0)
			count += !strncmp(name, "console-", 8) || !strncmp(name, "vcpu ", 5);
		if (fd >= 0)
			close(fd);
	}
	closedir(tasks);
	return count;
}

/* A joined thread may still be exiting in the kernel. */
static unsigned monitor_threads(void)
{
	unsigned count = count_monitor_threads();
	for (unsigned ms = 0; count && ms < 2000; ms++) {
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
		count = count_monitor_threads();
	}
	return count;
}

static bool same_signals(const sigset_t *a)
{
	sigset_t b;
	sigprocmask(SIG_BLOCK, NULL, &b);
	for (int i = 1; i < 64; i++)
		if (sigismember(a, i) != sigismember(&b, i))
			return false;
	return true;
}

static void before_run(void *opaque)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	((struct guest_result *)opaque)->before_run = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int run(const struct guest *guest, int in, int out, struct guest_result *result, struct riffle_error *error)
{
	const struct machine_observer observer = {.before_run = before_run, .opaque = result};
	struct machine_config config;
	struct machine *machine;
	struct phases phases;
	enum vm_end end = VM_END_ERROR;
	sigset_t before;

	machine_config_init(&config);
	config.vcpus = guest->vcpus ? guest->vcpus : 1;
	config.memory_bytes = guest->memory_bytes ? guest->memory_bytes : 4 << 20;
	config.accept_emulation = config.boot_timer = true;
	config.unconfined = guest->unconfined;
	if (guest->devices)
		config.devices = *guest->devices;
	config.console.kind = guest->console;
	config.console.path = guest->console_path;
	if (guest->configure)
		guest->configure(&config);
	/* the console is stdin and stdout */
	if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0)
		return riffle_fail_system(error, errno, "dup2", "failed");
	phases_start(&phases, 0);
	int status = machine_build_empty(&machine, &config, &observer, &phases, error);
	if (status)
		return status;
	uint8_t *ram = guest_memory_at(vm_memory(machine_vm(machine)), 0, 4 << 20);
	const struct riffle_boot_registers registers = load(ram, guest);
	sigprocmask(SIG_BLOCK, NULL, &before);
	status = machine_enter_at(machine, &registers, error);
	if (!status && guest->beside)
		guest->beside(machine);
	if (!status)
		status = machine_run(machine, &end, error);
	if (!status) {
		result->end = (int)end;
		result->signal = machine_end_signal(machine);
		result->boot_timer = machine_boot_timer(machine)->marked_ns;
		result->fault_rip = vm_fault_rip(machine_vm(machine));
		result->note = riffle_get32(ram + NOTE);
		result->signals_as_before = same_signals(&before);
		if (guest->unconfined)
			result->threads_left = monitor_threads();
		if (end == VM_END_ERROR)
			riffle_error_format(error, result->message, sizeof result->message);
	}
	machine_destroy(machine);
	return status;
}

static void nothing(int number)
{
	(void)number;
}

static void child_main(const struct guest *guest, int in, int out, struct guest_result *result)
{
	struct riffle_error error = {0};
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* in case a failing test leaves its guest running */
	/* the caller may ignore some, as a shell does for background jobs */
	for (int number = 1; number <= SIGRTMAX; number++)
		signal(number, SIG_DFL);
	/* a test sends it twice; the second may arrive after the run, when it does not matter */
	signal(SIGTERM, nothing);
	signal(SIGINT, nothing);
	signal(SIGHUP, nothing);
	signal(SIGQUIT, nothing);
	if (guest->controlling && (setsid() < 0 || ioctl(guest->terminal, TIOCSCTTY, 0) < 0))
		_exit(90);
	result->status = run(guest, in, out, result, &error);
	if (result->status)
		riffle_error_format(&error, result->message, sizeof result->message);
	_exit(0); /* not exit(): the handlers of cmocka and the sanitizers are for the parent */
}

struct guest_child guest_start(const struct guest *guest)
{
	struct guest_child child = {.input = -1, .output = -1};
	int in[2], out[2];
	if (access("/dev/kvm", R_OK | W_OK)) {
		print_message("skipped: /dev/kvm: %s\n", strerror(errno));
		skip();
	}
	child.result = mmap(NULL, sizeof *child.result, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(child.result, MAP_FAILED);
	child.result->end = -1;
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	child.pid = fork();
	assert_true(child.pid >= 0);
	if (child.pid == 0) {
		close(in[1]);
		close(out[0]);
		child_main(guest, guest->terminal ? guest->terminal : in[0], guest->terminal ? guest->terminal : out[1],
			   child.result);
	}
	close(in[0]);
	close(out[1]);
	child.input = in[1];
	child.output = out[0];
	return child;
}

size_t guest_read(struct guest_child *child, char *text, size_t bytes)
{
	size_t done = 0;
	while (done < bytes) {
		struct pollfd fd = {.fd = child->output, .events = POLLIN};
		assert_int_equal(poll(&fd, 1, guest_patience_ms), 1);
		ssize_t count = read(child->output, text + done, bytes - done);
		assert_true(count >= 0);
		if (!count)
			break;
		done += (size_t)count;
	}
	return done;
}

const struct guest_result *guest_wait(struct guest_child *child)
{
	int status = -1;
	for (int ms = 0;; ms += 5) {
		pid_t ended = waitpid(child->pid, &status, WNOHANG);
		assert_true(ended >= 0);
		if (ended)
			break;
		if (ms > guest_patience_ms) {
			kill(child->pid, SIGKILL);
			waitpid(child->pid, &status, 0);
			fail_msg("the guest's process did not end");
		}
		nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
	}
	close(child->input);
	close(child->output);
	if (WIFSIGNALED(status))
		fail_msg("the guest's process died of signal %d", WTERMSIG(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	if (child->result->message[0])
		print_message("[ message  ] %s\n", child->result->message);
	assert_int_equal(child->result->status, 0);
	assert_true(child->result->signals_as_before);
	assert_int_equal(child->result->threads_left, 0);
	return child->result;
}

const struct guest_result *guest_expect(const struct guest *guest, const char *console)
{
	char text[256] = "";
	struct guest_child child = guest_start(guest);
	size_t bytes = guest_read(&child, text, sizeof text - 1);
	assert_string_equal(text, console);
	assert_int_equal(bytes, strlen(console));
	return guest_wait(&child);
}
