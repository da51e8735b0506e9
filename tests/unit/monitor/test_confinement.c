/* SPDX-License-Identifier: Apache-2.0 */
/* What a confined process may still do, and what kills it; where a host without virtualisation is refused. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

#include "monitor/vm.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

static void open_file(void)
{
	(void)!open("/etc/passwd", O_RDONLY);
}

static void make_socket(void)
{
	socket(AF_INET, SOCK_STREAM, 0);
}

static void start_program(void)
{
	char *arguments[] = {(char *)(uintptr_t) "true", NULL};
	execv("/bin/true", arguments);
}

static void fork_process(void)
{
	if (fork() == 0)
		_exit(0);
}

static void *thread_of_nothing(void *argument)
{
	return argument;
}

static void start_thread(void)
{
	pthread_t thread;
	pthread_create(&thread, NULL, thread_of_nothing, NULL);
}

static void map_executable(void)
{
	mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void make_executable(void)
{
	mprotect((void *)((uintptr_t)&make_executable & ~(uintptr_t)4095), 4096, PROT_READ | PROT_EXEC);
}

static void type_into_terminal(void)
{
	ioctl(0, TIOCSTI, "x");
}

/* the same request with high bits set, which the kernel ignores */
static void type_into_terminal_in_disguise(void)
{
	ioctl(0, 0xabcdef0000000000ul | TIOCSTI, "x");
}

static void become_dumpable(void)
{
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

static void send_to_others(void)
{
	kill(getppid(), SIGCONT);
}

static void signal_others_by_thread(void)
{
	syscall(SYS_tgkill, getppid(), getppid(), SIGCONT);
}

static void ordinary_life(void)
{
	char *memory = malloc(1 << 20);
	memset(memory, 1, 1 << 20);
	free(memory);
	memory = malloc(100);
	free(memory);
	FILE *null = stdout;
	fprintf(null, "a confined process may still speak\n");
	fflush(null);
	raise(SIGCONT);
	close(0);
}

static int run_confined(void (*act)(void))
{
	int status;
	fflush(NULL);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		struct riffle_error error;
		setrlimit(RLIMIT_CORE, &(struct rlimit){0});
		signal(SIGSYS, SIG_DFL);
		if (vm_lock_down(&error))
			_exit(90);
		act();
		exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

static void forbidden_calls_kill(void **state)
{
	void (*const forbidden[])(void) = {open_file,          make_socket,
					   start_program,      fork_process,
					   start_thread,       map_executable,
					   make_executable,    type_into_terminal,
					   become_dumpable,    type_into_terminal_in_disguise,
					   send_to_others,     signal_others_by_thread};
	(void)state;
#ifdef SANITIZED
	print_message("skipped: a build with sanitizers is not confined\n");
	skip();
#endif
	for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++) {
		int status = run_confined(forbidden[i]);
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
			fail_msg("forbidden call %zu was let through: status 0x%x", i, (unsigned)status);
	}
}

static void ordinary_life_goes_on(void **state)
{
	(void)state;
	assert_int_equal(run_confined(ordinary_life), 0);
}

static int other_thread_pipe[2];

/* Waits until the process is confined, then breaks the rules. */
static void *other_thread(void *argument)
{
	char c;
	(void)!read(other_thread_pipe[0], &c, 1);
	open_file();
	return argument;
}

static void every_thread_is_confined(void **state)
{
	int status;
	(void)state;
#ifdef SANITIZED
	print_message("skipped: a build with sanitizers is not confined\n");
	skip();
#endif
	assert_int_equal(pipe(other_thread_pipe), 0);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		struct riffle_error error;
		pthread_t thread;
		setrlimit(RLIMIT_CORE, &(struct rlimit){0});
		signal(SIGSYS, SIG_DFL);
		pthread_create(&thread, NULL, other_thread, NULL);
		if (vm_lock_down(&error))
			_exit(90);
		(void)!write(other_thread_pipe[1], "x", 1);
		pthread_join(thread, NULL);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSYS);
}

static void wrong_configurations_are_refused(void **state)
{
	static const struct vm_config wrong[] = {
		{.vcpus = 0, .memory_bytes = 2 << 20},  {.vcpus = 33, .memory_bytes = 2 << 20},
		{.vcpus = 1, .memory_bytes = 0},        {.vcpus = 1, .memory_bytes = 4096},
		{.vcpus = 1, .memory_bytes = 3 << 20},  {.vcpus = 1, .memory_bytes = UINT64_MAX},
		{.vcpus = 1, .memory_bytes = 1ull << 43},
	};
	(void)state;
	if (access("/dev/kvm", R_OK | W_OK)) {
		print_message("skipped: /dev/kvm: %s\n", strerror(errno));
		skip();
	}
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		struct vm_config config = wrong[i];
		struct riffle_error error = {0};
		struct vm *vm = (struct vm *)&error;
		config.console_in = config.console_out = -1;
		config.accept_emulation = true;
		assert_int_equal(vm_create(&vm, &config, &error), RIFFLE_ERR_ARGUMENT);
		assert_null(vm);
		assert_int_equal(error.status, RIFFLE_ERR_ARGUMENT);
		assert_non_null(error.field);
	}
}

/* Whatever this host is, doctor's answer and a run's must be the same one. */
static void probe_and_refusal_agree(void **state)
{
	struct riffle_error error = {0};
	struct vm_config config = {.vcpus = 1, .memory_bytes = 2 << 20, .console_in = -1, .console_out = -1};
	struct vm *vm;
	char text[512];
	(void)state;
	enum kvm_kind kind = vm_probe_kvm(&error);
	if (kind != KVM_HARDWARE) {
		riffle_error_format(&error, text, sizeof text);
		print_message("[ message  ] %s\n", text);
	}
	int status = vm_create(&vm, &config, &error);
	switch (kind) {
	case KVM_HARDWARE:
		assert_int_equal(status, 0);
		break;
	case KVM_EMULATING:
		assert_int_equal(status, RIFFLE_ERR_UNSUPPORTED);
		assert_non_null(strstr(text, "tools/kvmbox"));
		config.accept_emulation = true;
		assert_int_equal(vm_create(&vm, &config, &error), 0);
		break;
	default:
		assert_int_not_equal(status, 0);
		return;
	}
	vm_destroy(vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(forbidden_calls_kill),
		cmocka_unit_test(ordinary_life_goes_on),
		cmocka_unit_test(every_thread_is_confined),
		cmocka_unit_test(wrong_configurations_are_refused),
		cmocka_unit_test(probe_and_refusal_agree),
	};
	return cmocka_run_group_tests_name("monitor confinement", tests, NULL, NULL);
}
