/* SPDX-License-Identifier: Apache-2.0 */
/* The signals of a running microVM: which are blocked and read, which are left alone, and what is put back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include <cmocka.h>

#include "common/sanitized.h"
#include "monitor/core/thread.h"

static const int left_alone[] = {SIGSEGV, SIGBUS,  SIGILL,  SIGFPE,  SIGABRT, SIGSYS,
				 SIGTRAP, SIGKILL, SIGSTOP, SIGCHLD, SIGURG,  SIGWINCH};
/* blocked, since the call that raises one fails as well, but not read */
static const int of_calls[] = {SIGPIPE, SIGXFSZ, SIGTTOU, SIGTTIN};

static bool among(int number, const int *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (list[i] == number)
			return true;
	return false;
}
#define AMONG(number, list) among(number, list, sizeof(list) / sizeof *(list))

static void check(void)
{
	struct signal_state state;
	sigset_t taken, blocked;

	signals_take(&state, &taken);
	pthread_sigmask(SIG_SETMASK, NULL, &blocked);
	for (int number = 1; number <= SIGRTMAX; number++) {
		bool reserved = number >= __SIGRTMIN && number < SIGRTMIN; /* the C library's own */
		bool free = !AMONG(number, left_alone);

		if (reserved)
			continue;
		if (sigismember(&blocked, number) != free)
			fail_msg("signal %d is%s blocked", number, free ? " not" : "");
		if (sigismember(&taken, number) != (free && !AMONG(number, of_calls) && number != KICK_SIGNAL))
			fail_msg("signal %d is wrongly taken or not", number);
	}
	signals_restore(&state);
	pthread_sigmask(SIG_SETMASK, NULL, &blocked);
	for (int number = 1; number <= SIGRTMAX; number++)
		assert_int_not_equal(sigismember(&blocked, number), 1);
}

static void test_signals(void **state)
{
	(void)state;
	check();
	/* the first and the last of all, ignored by who started us; and the kick, which is needed */
	for (int i = 0; i < 3; i++) {
		const int number[] = {SIGHUP, SIGRTMAX, KICK_SIGNAL};
		void (*before)(int) = signal(number[i], SIG_IGN);

		check();
		assert_true(signals_ignored(number[i]));
		assert_ptr_equal(signal(number[i], before), SIG_IGN);
		assert_false(signals_ignored(number[i]));
	}
}

static volatile sig_atomic_t seen;

static void see(int number)
{
	seen = number;
}

/* A kick or a signal of a failed call that is still pending is no business of who comes after. */
static void test_what_is_pending(void **state)
{
	const int dropped[] = {KICK_SIGNAL, SIGPIPE, SIGXFSZ};

	(void)state;
	for (size_t i = 0; i < sizeof dropped / sizeof *dropped; i++) {
		void (*before)(int) = signal(dropped[i], see);
		struct signal_state signals;
		sigset_t taken;

		seen = 0;
		signals_take(&signals, &taken);
		raise(dropped[i]);
		signals_restore(&signals);
		assert_int_equal(seen, 0);
		raise(dropped[i]); /* again the caller's own */
		assert_int_equal(seen, dropped[i]);
		signal(dropped[i], before);
	}
}

static void test_kick_alone(void **state)
{
	struct signal_state signals;
	sigset_t blocked;

	(void)state;
	signals_take_kick(&signals);
	pthread_sigmask(SIG_SETMASK, NULL, &blocked);
	for (int number = 1; number <= SIGRTMAX; number++)
		assert_int_equal(sigismember(&blocked, number) == 1, number == KICK_SIGNAL);
	signals_restore(&signals);
	pthread_sigmask(SIG_SETMASK, NULL, &blocked);
	assert_int_equal(sigismember(&blocked, KICK_SIGNAL), 0);
}

static char name[16];
static sigset_t of_thread;

static void *body(void *argument)
{
	thread_begin("vcpu", 3);
	prctl(PR_GET_NAME, name);
	pthread_sigmask(SIG_SETMASK, NULL, &of_thread);
	return argument;
}

static void test_threads(void **state)
{
	struct signal_state signals;
	sigset_t taken;
	pthread_t thread;
	void *result;

	(void)state;
	assert_string_equal(thread_name(), "main");
	signals_take(&signals, &taken);
	assert_int_equal(thread_start(&thread, body, &thread, NULL), 0);
	assert_int_equal(pthread_join(thread, &result), 0);
	signals_restore(&signals);
	assert_ptr_equal(result, &thread);
	assert_string_equal(name, "vcpu 3");
	assert_int_equal(sigismember(&of_thread, KICK_SIGNAL), 0);
	assert_int_equal(sigismember(&of_thread, SIGTERM), 1);
}

static void *early_body(void *argument)
{
	thread_begin_early("vcpu", 4);
	prctl(PR_GET_NAME, name);
	pthread_sigmask(SIG_SETMASK, NULL, &of_thread);
	return argument;
}

/* Before the signals are taken: none but faults and the kick, or all that this thread takes, and always the kick. */
static void test_early_threads(void **state)
{
	sigset_t kick;

	(void)state;
	sigemptyset(&kick);
	sigaddset(&kick, KICK_SIGNAL);
	pthread_sigmask(SIG_BLOCK, &kick, NULL);
	for (unsigned taken = 0; taken < 2; taken++) {
		pthread_t thread;

		assert_int_equal(thread_start_early(&thread, taken, early_body, NULL, NULL), 0);
		assert_int_equal(pthread_join(thread, NULL), 0);
		assert_string_equal(name, "vcpu 4");
		for (int number = 1; number <= SIGRTMAX; number++)
			if (number < __SIGRTMIN || number >= SIGRTMIN)
				assert_int_equal(sigismember(&of_thread, number),
						 taken && number != KICK_SIGNAL &&
						     (!AMONG(number, left_alone) || number == SIGCHLD ||
						      number == SIGURG || number == SIGWINCH));
	}
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
}

/* The mask that is asked for, also after the signals are taken; faults are in none. */
static void test_masked_thread(void **state)
{
	struct signal_state signals;
	sigset_t mask, taken;
	pthread_t thread;

	(void)state;
	for (unsigned taking = 0; taking < 2; taking++) {
		if (taking)
			signals_take(&signals, &taken);
		signals_but_faults(&mask);
		assert_int_equal(sigismember(&mask, SIGSEGV), 0);
		assert_int_equal(sigismember(&mask, SIGCHLD), 1);
		sigdelset(&mask, SIGPIPE);
		assert_int_equal(thread_start_masked(&thread, &mask, early_body, NULL, NULL), 0);
		assert_int_equal(pthread_join(thread, NULL), 0);
		if (taking)
			signals_restore(&signals);
		for (int number = 1; number <= SIGRTMAX; number++)
			if ((number < __SIGRTMIN || number >= SIGRTMIN) && number != SIGKILL && number != SIGSTOP)
				assert_int_equal(sigismember(&of_thread, number), sigismember(&mask, number));
	}
}

static __attribute__((noinline)) void leave_secret(volatile uintptr_t *where)
{
	unsigned char secret[64];

	memset(secret, 0x5a, sizeof secret);
	*where = (uintptr_t)secret;
	__asm__ volatile("" : : "r"(secret) : "memory");
}

static void test_stack_is_wiped(void **state)
{
	volatile uintptr_t where;
	unsigned left = 0;

	(void)state;
	if (SANITIZED)
		skip();
	leave_secret(&where);
	thread_wipe_stack();
	for (unsigned i = 0; i < 64; i++)
		left += ((const volatile unsigned char *)where)[i] == 0x5a;
	assert_int_equal(left, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_signals),        cmocka_unit_test(test_what_is_pending),
	    cmocka_unit_test(test_kick_alone),     cmocka_unit_test(test_threads),
	    cmocka_unit_test(test_early_threads),  cmocka_unit_test(test_masked_thread),
	    cmocka_unit_test(test_stack_is_wiped),
	};

	/* whatever started this may ignore some, like nohup */
	for (int number = 1; number <= SIGRTMAX; number++)
		if (number < __SIGRTMIN || number >= SIGRTMIN)
			signal(number, SIG_DFL);
	return cmocka_run_group_tests_name("thread", tests, NULL, NULL);
}
