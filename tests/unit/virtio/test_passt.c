/* SPDX-License-Identifier: Apache-2.0 */
/* Starting passt: its arguments, and each way in which it can fail to start. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "monitor/virtio/passt.h"

static char directory[] = "/tmp/passt-XXXXXX", *usual_path;

/* Replaces passt by a script, the only program in PATH. */
static void be_passt(const char *script)
{
	char path[64], text[600];
	FILE *file;

	snprintf(path, sizeof path, "%s/passt", directory);
	file = fopen(path, "w");
	assert_non_null(file);
	snprintf(text, sizeof text, "#!/bin/sh\nPATH=/bin:/usr/bin\ncd %s\n%s\n", directory, script);
	fputs(text, file);
	fclose(file);
	chmod(path, 0700);
	setenv("PATH", directory, 1);
}

static int set_up(void **state)
{
	(void)state;
	usual_path = strdup(getenv("PATH"));
	return mkdtemp(directory) ? 0 : 1;
}

static int tear_down(void **state)
{
	char command[64];

	(void)state;
	setenv("PATH", usual_path, 1);
	free(usual_path);
	snprintf(command, sizeof command, "rm -r %s", directory);
	return system(command);
}

static void read_file(const char *name, char *text, size_t bytes)
{
	char path[64];

	snprintf(path, sizeof path, "%s/%s", directory, name);
	FILE *file = fopen(path, "r");

	assert_non_null(file);
	text[fread(text, 1, bytes - 1, file)] = 0;
	fclose(file);
}

static void expect_arguments(const struct passt_config *config, const char *expected)
{
	struct passt passt;
	struct riffle_error error;
	char said[100], text[500];

	assert_int_equal(passt_start(&passt, config, &error), 0);
	assert_int_equal(passt_ready(&passt, said, sizeof said, &error), 0);
	assert_true(passt.fd >= 0);
	passt_close(&passt);
	read_file("arguments", text, sizeof text);
	assert_string_equal(text, expected);
}

/* A port that was free a moment ago. */
static uint16_t free_port(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t bytes = sizeof address;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
	getsockname(fd, (struct sockaddr *)&address, &bytes);
	close(fd);
	return ntohs(address.sin_port);
}

static void test_arguments(void **state)
{
	struct passt_config config = {0};
	uint16_t first = free_port(), second = free_port();
	char expected[300];

	(void)state;
	be_passt("echo \"$@\" >arguments");
	expect_arguments(&config, "--quiet --fd 3 --no-map-gw -t none -u none\n");
	config.host_loopback = true;
	config.forwards = 3;
	config.forward[0] = (struct passt_forward){.host_port = first, .guest_port = 80};
	config.forward[1] =
	    (struct passt_forward){.udp = true, .address = "127.0.0.1", .host_port = first, .guest_port = 53};
	config.forward[2] = (struct passt_forward){.address = "127.0.0.1", .host_port = second, .guest_port = 65535};
	snprintf(expected, sizeof expected, "--quiet --fd 3 -t %u:80 -u 127.0.0.1/%u:53 -t 127.0.0.1/%u:65535\n", first,
		 first, second);
	expect_arguments(&config, expected);
	config.forwards = 1; /* a TCP forward does not imply UDP */
	snprintf(expected, sizeof expected, "--quiet --fd 3 -t %u:80 -u none\n", first);
	expect_arguments(&config, expected);
}

/* It inherits only the socket, with no signals blocked. */
static void test_inheritance(void **state)
{
	struct passt_config config = {0};
	struct passt passt;
	char said[100], text[200];
	sigset_t all, old;
	int leak = fcntl(0, F_DUPFD, 50);

	(void)state;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &old);
	be_passt("ls /proc/$$/fd >descriptors; grep SigBlk /proc/self/status >blocked; printf frame >&3");
	assert_int_equal(passt_start(&passt, &config, NULL), 0);
	assert_int_equal(passt_ready(&passt, said, sizeof said, NULL), 0);
	sigprocmask(SIG_SETMASK, &old, NULL);
	assert_int_equal(read(passt.fd, text, sizeof text), 5);
	assert_memory_equal(text, "frame", 5);
	assert_int_equal(read(passt.fd, text, sizeof text), 0); /* it exited, which is detected */
	passt_close(&passt);
	read_file("descriptors", text, sizeof text);
	assert_non_null(strstr(text, "\n3\n"));
	assert_null(strstr(text, "50"));
	read_file("blocked", text, sizeof text);
	assert_string_equal(text, "SigBlk:\t0000000000000000\n");
	close(leak);
}

static void test_fails(void **state)
{
	struct passt_config config = {0};
	struct riffle_error error;
	struct passt passt;
	char said[30];

	(void)state;
	be_passt("echo 'no route' >&2; printf '\\033[1mto host' >&2; exit 3");
	assert_int_equal(passt_start(&passt, &config, &error), 0);
	assert_int_equal(passt_ready(&passt, said, sizeof said, &error), RIFFLE_ERR_IO);
	assert_int_equal(error.found, 3);
	assert_string_equal(said, "no route;?[1mto host");
	passt_close(&passt);
	be_passt("kill -KILL $$");
	assert_int_equal(passt_start(&passt, &config, &error), 0);
	assert_int_equal(passt_ready(&passt, said, sizeof said, &error), RIFFLE_ERR_IO);
	assert_int_equal(error.found, SIGKILL);
	assert_string_equal(said, "");
	passt_close(&passt);
	/* more than there is room for */
	be_passt("printf '%0100d' 7 >&2; exit 1");
	assert_int_equal(passt_start(&passt, &config, &error), 0);
	assert_int_equal(passt_ready(&passt, said, sizeof said, &error), RIFFLE_ERR_IO);
	assert_int_equal(strlen(said), sizeof said - 1);
	passt_close(&passt);
	/* not waited for */
	be_passt("sleep 1000");
	assert_int_equal(passt_start(&passt, &config, &error), 0);
	passt_close(&passt);
}

static void test_not_installed(void **state)
{
	struct passt_config config = {0};
	struct riffle_error error;
	struct passt passt;

	(void)state;
	setenv("PATH", "/nonexistent", 1);
	assert_int_equal(passt_start(&passt, &config, &error), RIFFLE_ERR_UNSUPPORTED);
	assert_string_equal(error.field, "passt");
	assert_int_equal(passt.fd, -1);
	passt_close(&passt);
}

static void test_port_taken(void **state)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t bytes = sizeof address;
	struct passt_config config = {.forwards = 1};
	struct riffle_error error;
	struct passt passt;

	(void)state;
	be_passt("exit 0");
	for (int udp = 0; udp < 2; udp++) {
		int fd = socket(AF_INET, udp ? SOCK_DGRAM : SOCK_STREAM, 0);

		address.sin_port = 0;
		assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
		getsockname(fd, (struct sockaddr *)&address, &bytes);
		if (!udp)
			assert_int_equal(listen(fd, 1), 0);
		config.forward[0] =
		    (struct passt_forward){.udp = udp, .host_port = ntohs(address.sin_port), .guest_port = 1};
		assert_int_equal(passt_start(&passt, &config, &error), RIFFLE_ERR_ARGUMENT);
		assert_int_equal(error.sys_errno, EADDRINUSE);
		assert_int_equal(error.found, ntohs(address.sin_port));
		/* the same port of another protocol is another port */
		config.forward[0].udp = !udp;
		assert_int_equal(passt_start(&passt, &config, &error), 0);
		passt_close(&passt);
		close(fd);
	}
	strcpy(config.forward[0].address, "300.1.1.1");
	assert_int_equal(passt_start(&passt, &config, &error), RIFFLE_ERR_ARGUMENT);
	config.forwards = PASST_FORWARDS_MAX + 1;
	assert_int_equal(passt_start(&passt, &config, &error), RIFFLE_ERR_ARGUMENT);
}

static void test_forwards(void **state)
{
	static const struct {
		const char *text;
		bool udp;
		const char *address;
		uint16_t host, guest;
	} good[] = {
	    {"tcp:8080:80", false, "", 8080, 80},
	    {"udp:1:65535", true, "", 1, 65535},
	    {"tcp:127.0.0.1:8080:80", false, "127.0.0.1", 8080, 80},
	    {"udp:[::1]:53:54", true, "::1", 53, 54},
	};
	static const char *const bad[] = {
	    "",
	    "tcp",
	    "tcp:",
	    "tcp:80",
	    "tcp:80:",
	    "tcp::80",
	    "tcp:0:80",
	    "tcp:80:0",
	    "tcp:65536:80",
	    "tcp:80:65536",
	    "tcp:080000:80",
	    "tcp:a:80",
	    "sctp:80:80",
	    "TCP:80:80",
	    "tcp:localhost:80:80",
	    "tcp:::1:80:80",
	    "tcp:[127.0.0.1]:80:80",
	    "tcp:[]:80:80",
	    "tcp::80:80",
	    "tcp:-1:80",
	    "tcp: 80:80",
	    "tcp:80:80 ",
	    "tcp:1.2.3.4.5:80:80",
	};
	struct passt_forward forward;

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		assert_true(passt_parse_forward(good[i].text, &forward));
		assert_int_equal(forward.udp, good[i].udp);
		assert_string_equal(forward.address, good[i].address);
		assert_int_equal(forward.host_port, good[i].host);
		assert_int_equal(forward.guest_port, good[i].guest);
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (passt_parse_forward(bad[i], &forward))
			fail_msg("accepted: '%s'", bad[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_arguments),     cmocka_unit_test(test_inheritance), cmocka_unit_test(test_fails),
	    cmocka_unit_test(test_not_installed), cmocka_unit_test(test_port_taken),  cmocka_unit_test(test_forwards),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
