/* SPDX-License-Identifier: Apache-2.0 */
/* The console's terminal, on a pseudo-terminal: raw mode, restored by every way out, and the escape. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "monitor/platform/console.h"

static int master, slave;

static int set_up(void **state)
{
	struct termios termios;
	(void)state;
	master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (master < 0 || grantpt(master) || unlockpt(master))
		return -1;
	slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0 || tcgetattr(slave, &termios))
		return -1;
	termios.c_cc[VINTR] = 0x07; /* a custom setting that must be restored */
	return tcsetattr(slave, TCSANOW, &termios);
}

static int tear_down(void **state)
{
	(void)state;
	close(slave);
	close(master);
	return 0;
}

static void assert_cooked(void)
{
	struct termios now;
	assert_int_equal(tcgetattr(slave, &now), 0);
	assert_int_equal(now.c_lflag & (ICANON | ECHO | ISIG), ICANON | ECHO | ISIG);
	assert_int_equal(now.c_iflag & ICRNL, ICRNL);
	assert_int_equal(now.c_cc[VINTR], 0x07);
	assert_int_equal(now.c_cc[VMIN], 1);
}

static void assert_raw(void)
{
	struct termios now;
	assert_int_equal(tcgetattr(slave, &now), 0);
	assert_int_equal(now.c_lflag & (ICANON | ECHO | ISIG | IEXTEN), 0);
	assert_int_equal(now.c_iflag & (ICRNL | IXON), 0);
	assert_int_equal(now.c_oflag & OPOST, OPOST);
}

static void raw_and_back(void **state)
{
	struct console console;
	(void)state;
	console_init(&console, slave);
	assert_true(console.terminal);
	assert_false(console_readable(&console));
	console_enter(&console);
	assert_raw();
	assert_true(console_readable(&console));
	console_enter(&console); /* a second time does not forget the original settings */
	console_leave(&console);
	assert_cooked();
	console_leave(&console);
	assert_cooked();
	console_enter(&console);
	assert_raw();
	console_leave(&console);
	assert_cooked();
}

static void what_is_no_terminal_is_left_alone(void **state)
{
	struct console console;
	uint8_t out[8];
	bool escape;
	int fds[2];
	(void)state;
	assert_int_equal(pipe(fds), 0);
	console_init(&console, fds[0]);
	assert_false(console.terminal);
	console_enter(&console);
	assert_true(console_readable(&console));
	assert_int_equal(console_filter(&console, (const uint8_t *)"\1xy", 3, out, &escape), 3);
	assert_memory_equal(out, "\1xy", 3);
	assert_false(escape);
	console_leave(&console);
	close(fds[0]);
	close(fds[1]);
	console_init(&console, -1);
	assert_false(console_readable(&console));
	console_enter(&console);
	console_leave(&console);
}

static void crash_puts_the_terminal_right(void **state)
{
	static const int crashes[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS};
	(void)state;
	for (size_t i = 0; i < sizeof crashes / sizeof *crashes; i++) {
		pid_t child = fork();
		assert_true(child >= 0);
		if (child == 0) {
			struct console console;
			setrlimit(RLIMIT_CORE, &(struct rlimit){0});
			/* remove the handlers of the test program and of sanitizers */
			signal(crashes[i], SIG_DFL);
			console_init(&console, slave);
			console_enter(&console);
			if (!console.raw)
				_exit(99);
			if (crashes[i] == SIGABRT)
				abort();
			raise(crashes[i]);
			_exit(98);
		}
		int status;
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), crashes[i]);
		assert_cooked();
	}
}

/* A background process must not change the terminal, which belongs to the shell. */
static void background_leaves_the_terminal_alone(void **state)
{
	(void)state;
	pid_t session = fork();
	assert_true(session >= 0);
	if (session == 0) {
		setsid();
		if (ioctl(slave, TIOCSCTTY, 0))
			_exit(97);
		pid_t background = fork();
		if (background == 0) {
			struct console console;
			setpgid(0, 0);
			console_init(&console, slave);
			console_enter(&console);
			_exit(console.raw || console_readable(&console));
		}
		int status;
		waitpid(background, &status, 0);
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 96);
	}
	int status;
	assert_int_equal(waitpid(session, &status, 0), session);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_cooked();
}

static void expect_filtered(const char *in, const char *expected, bool expect_escape)
{
	/* whole, and byte by byte as it comes from a keyboard */
	for (size_t step = 1; step <= strlen(in); step += strlen(in) > 1 ? strlen(in) - 1 : 1) {
		struct console console = {.fd = 0, .terminal = true};
		uint8_t out[32];
		size_t kept = 0;
		bool escape = false;
		for (size_t i = 0; i < strlen(in) && !escape; i += step) {
			size_t count = strlen(in) - i < step ? strlen(in) - i : step;
			kept += console_filter(&console, (const uint8_t *)in + i, count, out + kept, &escape);
		}
		assert_int_equal(kept, strlen(expected));
		assert_memory_equal(out, expected, kept);
		assert_int_equal(escape, expect_escape);
	}
}

static void escape_sequences(void **state)
{
	(void)state;
	expect_filtered("plain x", "plain x", false);
	expect_filtered("ab\1x", "ab", true);
	expect_filtered("ab\1Xcd", "ab", true);
	expect_filtered("\1\1", "\1", false);
	expect_filtered("\1\1x", "\1x", false);
	expect_filtered("\1\1\1x", "\1", true);
	expect_filtered("\1e", "\1e", false);
	expect_filtered("a\1", "a", false);
}

/* Ctrl-A and a key that means something; Ctrl-A twice is one for the guest, and any other key leaves both to it. */
static void keys_after_the_escape(void **state)
{
	static const struct {
		const char *in, *out;
		bool escape, dump, begun;
	} rows[] = {
	    {"abc", "abc", false, false, false},
	    {"\001x", "", true, false, false},
	    {"\001X", "", true, false, false},
	    {"a\001xb", "a", true, false, false},
	    {"\001d", "", false, true, false},
	    {"\001Db", "b", false, true, false},
	    {"\001", "", false, false, true},
	    {"\001\001", "\001", false, false, false},
	    {"\001\001x", "\001x", false, false, false},
	    {"\001c", "\001c", false, false, false},
	    {"xXdD", "xXdD", false, false, false},
	    {"\001c\001x", "\001c", true, false, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		for (unsigned apart = 0; apart < 2; apart++) {
			struct console console = {.fd = -1, .terminal = true};
			uint8_t out[32];
			bool escape = false;
			size_t count = strlen(rows[i].in), kept = 0;

			if (apart)
				for (size_t j = 0; j < count && !escape; j++)
					kept += console_filter(&console, (const uint8_t *)rows[i].in + j, 1, out + kept,
							       &escape);
			else
				kept = console_filter(&console, (const uint8_t *)rows[i].in, count, out, &escape);
			assert_int_equal(kept, strlen(rows[i].out));
			assert_memory_equal(out, rows[i].out, kept);
			assert_int_equal(escape, rows[i].escape);
			assert_int_equal(console.dump_asked, rows[i].dump);
			if (!escape)
				assert_int_equal(console.escape_begun, rows[i].begun);
		}
	}
	/* what is no terminal has no escape */
	struct console pipe = {.fd = -1};
	uint8_t out[8];
	bool escape = true;

	assert_int_equal(console_filter(&pipe, (const uint8_t *)"\001xd", 3, out, &escape), 3);
	assert_memory_equal(out, "\001xd", 3);
	assert_false(escape);
	assert_false(console_readable(&pipe));
	pipe.fd = 0;
	assert_true(console_readable(&pipe));
	pipe.terminal = true;
	assert_false(console_readable(&pipe));
	pipe.raw = true;
	assert_true(console_readable(&pipe));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(keys_after_the_escape), T(raw_and_back),
	    T(what_is_no_terminal_is_left_alone),    T(crash_puts_the_terminal_right),
	    T(background_leaves_the_terminal_alone), T(escape_sequences),
	};
	return cmocka_run_group_tests_name("monitor console", tests, NULL, NULL);
}
