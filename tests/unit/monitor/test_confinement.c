/* SPDX-License-Identifier: Apache-2.0 */
/* What a confined process may still do, and what kills it; and refusing a host without virtualisation. */
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
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

#include "monitor/confine/confine.h"
#include "monitor/core/kvm.h"
#include "monitor/core/probe.h"
#include "monitor/core/vm.h"

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

static void stat_a_path(void)
{
	struct stat st;

	/* the errno does not matter, only whether the call succeeds */
	if (syscall(SYS_newfstatat, AT_FDCWD, "/etc/passwd", &st, 0) < 0)
		raise(SIGSYS);
}

static void connect_somewhere(void)
{
	connect(0, NULL, 0);
}

static void run_a_vcpu(void)
{
	ioctl(0, 0xae80 /* KVM_RUN */, 0);
}

static void wait_for_events(void)
{
	struct epoll_event event;

	epoll_wait(-1, &event, 1, 0);
}

static void lock_and_look(void)
{
	pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	struct timespec now;

	pthread_mutex_lock(&mutex);
	pthread_mutex_unlock(&mutex);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	(void)!write(-1, "", 1);
	raise(SIGCONT);
}

/* Runs it in a separate process, confined as this kind of thread; returns how that process ended. */
static int run_confined(enum confine_kind kind, void (*act)(void))
{
	int status;
	fflush(NULL);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		struct riffle_error error;
		setrlimit(RLIMIT_CORE, &(struct rlimit){0});
		signal(SIGSYS, SIG_DFL);
		if (confine_thread(kind, &error))
			_exit(90);
		act();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

static bool lets_through(enum confine_kind kind, void (*act)(void))
{
	int status = run_confined(kind, act);

	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return true;
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSYS);
	return false;
}

static void need_confinement(void)
{
	if (confine_works())
		return;
	print_message("skipped: a build with sanitizers is not confined\n");
	skip();
}

static void *confined_thread(void *opaque)
{
	struct riffle_error error;

	(void)opaque;
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1 || confine_thread(CONFINE_WRITER, &error))
		_exit(91);
	lock_and_look(); /* a signal to itself among others */
	return NULL;
}

/* What is done once is done for all threads, and a child of the process is a process of its own. */
static void begun_once(void **state)
{
	(void)state;
	need_confinement();
	for (unsigned forks = 0; forks < 2; forks++) {
		pid_t child = fork();
		int status;

		if (child == 0) {
			pthread_t thread;

			setrlimit(RLIMIT_CORE, &(struct rlimit){0});
			signal(SIGSYS, SIG_DFL);
			if (confine_begin(NULL) || confine_begin(NULL))
				_exit(90);
			if (forks) {
				child = fork();
				if (child) {
					waitpid(child, &status, 0);
					_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 92);
				}
			}
			if (pthread_create(&thread, NULL, confined_thread, NULL) || pthread_join(thread, NULL))
				_exit(93);
			_exit(0);
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
	}
}

static pthread_barrier_t begun;

static void *thread_from_before(void *argument)
{
	struct riffle_error error;

	pthread_barrier_wait(&begun);
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) || confine_thread(CONFINE_WRITER, &error))
		_exit(91);
	return argument;
}

/* A thread from before that has not given up its privileges yet; without them a process may have no filter. */
static void early_threads_are_confined(void **state)
{
	pid_t child;
	int status;

	(void)state;
	need_confinement();
	child = fork();
	if (child == 0) {
		pthread_t thread;

		setrlimit(RLIMIT_CORE, &(struct rlimit){0});
		signal(SIGSYS, SIG_DFL);
		if ((geteuid() == 0 && setresuid(65534, 65534, 65534)) || pthread_barrier_init(&begun, NULL, 2) ||
		    pthread_create(&thread, NULL, thread_from_before, NULL) || confine_begin(NULL))
			_exit(90);
		pthread_barrier_wait(&begun);
		if (pthread_join(thread, NULL))
			_exit(93);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void forbidden_calls_kill(void **state)
{
	void (*const forbidden[])(void) = {open_file,       make_socket,
					   start_program,   fork_process,
					   start_thread,    map_executable,
					   make_executable, type_into_terminal,
					   become_dumpable, type_into_terminal_in_disguise,
					   send_to_others,  signal_others_by_thread,
					   stat_a_path};
	(void)state;
	need_confinement();
	for (unsigned kind = 0; kind < CONFINE_KINDS; kind++)
		for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++)
			/* a controlled machine's loop may open and examine files, but nothing else */
			if (lets_through(kind, forbidden[i]) !=
			    (kind == CONFINE_LOOP_OPENS && (forbidden[i] == open_file || forbidden[i] == stat_a_path)))
				fail_msg("call %zu in a thread of kind %u: let through, or not, against its kind", i,
					 kind);
}

/* Each kind can do its own work, but not that of the others. */
static void kinds_are_told_apart(void **state)
{
	(void)state;
	need_confinement();
	for (unsigned kind = 0; kind < CONFINE_KINDS; kind++) {
		assert_true(lets_through(kind, lock_and_look));
		assert_int_equal(lets_through(kind, run_a_vcpu), kind == CONFINE_VCPU);
		assert_int_equal(lets_through(kind, wait_for_events),
				 kind < CONFINE_VCPU || kind == CONFINE_API); /* every kind of loop */
		assert_int_equal(lets_through(kind, connect_somewhere),
				 kind == CONFINE_LOOP_CONNECTS || kind == CONFINE_LOOP_OPENS ||
				     kind == CONFINE_LOOP_DEBUGS || kind == CONFINE_LOOP_SAVES_CONNECTS);
	}
}

static void ordinary_life_goes_on(void **state)
{
	(void)state;
	assert_int_equal(run_confined(CONFINE_LOOP, ordinary_life), 0);
}

static void wrong_configurations_are_refused(void **state)
{
	static const struct vm_config wrong[] = {
	    {.vcpus = 0, .memory_bytes = 2 << 20},    {.vcpus = 33, .memory_bytes = 2 << 20},
	    {.vcpus = 1, .memory_bytes = 0},          {.vcpus = 1, .memory_bytes = 4096},
	    {.vcpus = 1, .memory_bytes = 3 << 20},    {.vcpus = 1, .memory_bytes = UINT64_MAX},
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
		assert_int_equal(vm_new(&vm, &config, &(struct vm_handlers){0}, &error), RIFFLE_ERR_ARGUMENT);
		assert_null(vm);
		assert_int_equal(error.status, RIFFLE_ERR_ARGUMENT);
		assert_non_null(error.field);
	}
}

static int create(struct vm **vm, const struct vm_config *config, bool accept_emulation, struct riffle_error *error)
{
	int status = vm_new(vm, config, &(struct vm_handlers){0}, error);

	if (!status) {
		int fd = kvm_open(error);

		status = fd < 0 ? (int)error->status : kvm_check(fd, config->vcpus, &config->cpu, error);
		if (!status && !accept_emulation)
			status = probe_refuse_emulation(fd, error);
		status = status ? status : vm_open(*vm, fd, error);
	}
	if (status)
		vm_destroy(*vm);
	return status;
}

/* On any host, doctor and a run must agree. */
static void probe_and_refusal_agree(void **state)
{
	struct riffle_error error = {0};
	struct vm_config config = {.vcpus = 1, .memory_bytes = 2 << 20};
	struct vm *vm;
	char text[512];
	(void)state;
	enum kvm_kind kind = vm_probe_kvm(&error);
	if (kind != KVM_HARDWARE) {
		riffle_error_format(&error, text, sizeof text);
		print_message("[ message  ] %s\n", text);
	}
	int status = create(&vm, &config, false, &error);
	switch (kind) {
	case KVM_HARDWARE:
		assert_int_equal(status, 0);
		break;
	case KVM_EMULATING:
		assert_int_equal(status, RIFFLE_ERR_UNSUPPORTED);
		assert_non_null(strstr(text, "tools/kvmbox"));
		assert_int_equal(create(&vm, &config, true, &error), 0);
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
	    cmocka_unit_test(begun_once),
	    cmocka_unit_test(early_threads_are_confined),
	    cmocka_unit_test(forbidden_calls_kill),
	    cmocka_unit_test(ordinary_life_goes_on),
	    cmocka_unit_test(kinds_are_told_apart),
	    cmocka_unit_test(wrong_configurations_are_refused),
	    cmocka_unit_test(probe_and_refusal_agree),
	};
	return cmocka_run_group_tests_name("monitor confinement", tests, NULL, NULL);
}
