/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory whose pages a handler provides: what it is told, how it is waited for, and calls that fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "monitor/snapshot/uffd.h"

#define BYTES (8u << 20)

/* The linker's --wrap leads the program's calls here: those of this name fail, after so many that do not. */
static const char *failing;
static unsigned after;
static int problem;

static bool fails(const char *call)
{
	if (!failing || strcmp(call, failing))
		return false;
	if (after) {
		after--;
		return false;
	}
	errno = problem;
	return true;
}

#define WRAPPED(type, name, parameters, arguments)                                                                     \
	type __real_##name parameters;                                                                                 \
	type __wrap_##name parameters;                                                                                 \
	type __wrap_##name parameters                                                                                  \
	{                                                                                                              \
		return fails(#name) ? (type)-1 : __real_##name arguments;                                              \
	}
WRAPPED(int, socket, (int domain, int type, int protocol), (domain, type, protocol))
WRAPPED(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t bytes),
	(fd, level, name, value, bytes))
WRAPPED(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
WRAPPED(int, ioctl, (int fd, unsigned long request, void *argument), (fd, request, argument))

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *opaque);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *opaque);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *opaque)
{
	return fails("pthread_create") ? problem : __real_pthread_create(thread, attributes, run, opaque);
}

/* Of userfaultfd() and the device that stands in for it. */
static bool no_call, no_device;

long __real_syscall(long number, long a, long b, long c, long d, long e, long f);
long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f);
long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f)
{
	if (number == SYS_userfaultfd && no_call)
		return errno = EPERM, -1;
	return __real_syscall(number, a, b, c, d, e, f);
}

int __real_open64(const char *path, int flags, mode_t mode);
int __wrap_open64(const char *path, int flags, mode_t mode);
int __wrap_open64(const char *path, int flags, mode_t mode)
{
	if (no_device && !strcmp(path, "/dev/userfaultfd"))
		return errno = ENOENT, -1;
	return __real_open64(path, flags, mode);
}

struct fixture {
	struct sockaddr_un address;
	int listener;
	struct uffd uffd;
	struct guest_memory memory; /* of two pieces, BYTES and one page */
	struct riffle_error error;
};

/* Whoever waits to be accepted is dropped, with the descriptors on their way. */
static void listen_anew(struct fixture *f)
{
	close(f->listener);
	unlink(f->address.sun_path);
	f->listener = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(f->listener, (struct sockaddr *)&f->address, sizeof f->address), 0);
	assert_int_equal(listen(f->listener, 1), 0);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);

	assert_non_null(f);
	f->address.sun_family = AF_UNIX;
	snprintf(f->address.sun_path, sizeof f->address.sun_path, "/tmp/riffle-uffd-%ld", (long)getpid());
	f->listener = -1;
	listen_anew(f);
	f->uffd = (struct uffd){.fd = -1, .socket = -1};
	f->memory.count = 2;
	for (size_t i = 0; i < 2; i++) {
		const size_t bytes = i ? GUEST_PAGE : BYTES;
		void *host = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		assert_ptr_not_equal(host, MAP_FAILED);
		f->memory.ram[i] = (struct riffle_ram){.host = host, .bytes = bytes};
	}
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	failing = NULL;
	after = 0;
	no_call = no_device = false;
	uffd_close(&f->uffd);
	for (size_t i = 0; i < 2; i++)
		munmap(f->memory.ram[i].host, f->memory.ram[i].bytes);
	close(f->listener);
	unlink(f->address.sun_path);
	free(f);
	return 0;
}

static int serve(struct fixture *f)
{
	return uffd_serve(&f->uffd, &f->memory, f->address.sun_path, &f->error);
}

/* A handler of Firecracker's protocol: one message, then each page as it is asked for. */
struct handler {
	int listener;
	char text[512];
	unsigned faults;
};

static void *handle(void *opaque)
{
	struct handler *h = opaque;
	static uint8_t page[4096] __attribute__((aligned(4096)));
	struct iovec part = {.iov_base = h->text, .iov_len = sizeof h->text - 1};
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr message = {
	    .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.bytes};
	int fd = accept(h->listener, NULL, NULL), uffd;

	if (recvmsg(fd, &message, 0) <= 0)
		return NULL;
	memcpy(&uffd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof uffd);
	for (;;) {
		struct pollfd ready[] = {{.fd = uffd, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
		struct uffd_msg event;

		poll(ready, 2, -1);
		if (ready[1].revents)
			break; /* the monitor ended */
		if (read(uffd, &event, sizeof event) != sizeof event || event.event != UFFD_EVENT_PAGEFAULT)
			continue;
		memset(page, (int)++h->faults, sizeof page);
		struct uffdio_copy copy = {
		    .dst = event.arg.pagefault.address & ~4095ull, .src = (uintptr_t)page, .len = sizeof page};

		ioctl(uffd, UFFDIO_COPY, &copy);
	}
	close(uffd);
	close(fd);
	return NULL;
}

static void test_pages(void **state)
{
	struct fixture *f = *state;
	struct handler handler = {.listener = f->listener};
	volatile uint8_t *first = f->memory.ram[0].host, *second = f->memory.ram[1].host;
	pthread_t thread;
	char words[400];
	int status;

	close(0); /* a descriptor as any other */
	status = serve(f);
	if (status == RIFFLE_ERR_UNSUPPORTED)
		skip();
	assert_int_equal(status, 0);
	assert_int_equal(f->uffd.fd, 0);
	pthread_create(&thread, NULL, handle, &handler);
	assert_int_equal(first[0x5000], 1);
	assert_int_equal(first[0x5fff], 1);
	assert_int_equal(first[BYTES - 1], 2);
	assert_int_equal(second[0], 3);
	uffd_close(&f->uffd);
	assert_true(f->uffd.fd == -1 && f->uffd.socket == -1);
	assert_int_equal(open("/dev/null", O_RDONLY), 0);
	pthread_join(thread, NULL);
	snprintf(
	    words, sizeof words,
	    "[{\"base_host_virt_addr\":%llu,\"size\":8388608,\"offset\":0,\"page_size\":4096,\"page_size_kib\":4096},"
	    "{\"base_host_virt_addr\":%llu,\"size\":4096,\"offset\":8388608,\"page_size\":4096,\"page_size_kib\":4096}"
	    "]",
	    (unsigned long long)(uintptr_t)first, (unsigned long long)(uintptr_t)second);
	assert_string_equal(handler.text, words);
}

/* Pages of 2 MiB are named as such. */
static void test_large_pages(void **state)
{
	struct fixture *f = *state;
	char text[512] = "";
	int status, fd;

	f->memory.hugetlb = true;
	f->memory.count = 1;
	status = serve(f);
	if (status == RIFFLE_ERR_UNSUPPORTED)
		skip();
	assert_int_equal(status, 0);
	fd = accept(f->listener, NULL, NULL);
	assert_true(read(fd, text, sizeof text - 1) > 0);
	assert_non_null(strstr(text, ",\"page_size\":2097152,\"page_size_kib\":2097152}]"));
	close(fd);
}

/* The call needs a privilege that the device does not; without either the user is told. */
static void test_ways_to_userfaultfd(void **state)
{
	struct fixture *f = *state;
	const bool device = access("/dev/userfaultfd", R_OK | W_OK) == 0;
	int next;

	no_call = true;
	if (device) {
		assert_int_equal(serve(f), 0);
		/* the device's descriptor is closed: two are taken, that of the faults and the socket */
		next = dup(0);
		close(next);
		assert_int_equal(next, f->listener + 3);
		assert_true(fcntl(f->uffd.fd, F_GETFL) & O_NONBLOCK);
		assert_true(fcntl(f->uffd.fd, F_GETFD) & FD_CLOEXEC);
		uffd_close(&f->uffd);
		listen_anew(f);
	}
	no_device = true;
	assert_int_equal(serve(f), RIFFLE_ERR_UNSUPPORTED);
	assert_int_equal(f->error.sys_errno, ENOENT);
	assert_string_equal(f->error.field, "userfaultfd");
	assert_int_equal(f->uffd.fd, -1);
	no_call = no_device = false;
	if (serve(f) == RIFFLE_ERR_UNSUPPORTED)
		skip();
	assert_true(fcntl(f->uffd.fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(f->uffd.fd, F_GETFD) & FD_CLOEXEC);
}

static void test_paths(void **state)
{
	struct fixture *f = *state;
	char path[110];

	memset(path, 'x', sizeof path);
	memcpy(path, "/tmp/", 5);
	path[108] = 0;
	assert_int_equal(uffd_serve(&f->uffd, &f->memory, path, &f->error), RIFFLE_ERR_ARGUMENT);
	assert_int_equal(f->error.found, 108);
	assert_int_equal(f->error.expected, 107);
	assert_int_equal(f->uffd.fd, -1);
	path[107] = 0;
	if (uffd_serve(&f->uffd, &f->memory, path, &f->error) == RIFFLE_ERR_UNSUPPORTED)
		skip();
	assert_string_equal(f->error.problem, "cannot be connected to");
	assert_int_equal(f->error.sys_errno, ENOENT);
}

static void test_calls_that_fail(void **state)
{
	static const struct {
		const char *call;
		unsigned after;
		const char *field, *told;
	} cases[] = {
	    {"ioctl", 0, "UFFDIO_API", "failed"},
	    {"ioctl", 1, "UFFDIO_REGISTER", "failed"},
	    {"ioctl", 2, "UFFDIO_REGISTER", "failed"},
	    {"socket", 0, "socket", "failed"},
	    {"setsockopt", 0, "socket", "failed"},
	    {"sendmsg", 0, "page fault handler", "cannot be told of the memory"},
	};
	struct fixture *f = *state;
	int status = serve(f);

	if (status == RIFFLE_ERR_UNSUPPORTED)
		skip();
	uffd_close(&f->uffd);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		failing = cases[i].call;
		after = cases[i].after;
		problem = ENOBUFS;
		status = serve(f);
		failing = NULL;
		assert_int_equal(status, RIFFLE_ERR_IO);
		assert_int_equal(f->error.sys_errno, ENOBUFS);
		assert_string_equal(f->error.field, cases[i].field);
		assert_string_equal(f->error.problem, cases[i].told);
		/* whoever closes it closes all that is open */
		uffd_close(&f->uffd);
		listen_anew(f);
	}
}

/* A silent handler: a thread waiting for a page continues eventually, with an error. */
static void test_silent_handler(void **state)
{
	struct fixture *f = *state;
	struct timespec now;
	int status = serve(f);

	if (status == RIFFLE_ERR_UNSUPPORTED)
		skip();
	assert_int_equal(status, 0);
	/* not without anything to wait for */
	clock_gettime(CLOCK_MONOTONIC, &now);
	assert_int_equal(uffd_watch_begin(&f->uffd, &f->memory, 1000, &f->error), 0);
	assert_in_range(f->uffd.until.tv_sec - now.tv_sec, 1000, 1900);
	assert_int_equal(uffd_watch_end(&f->uffd, &f->error), 0);
	assert_int_equal(uffd_watch_end(&f->uffd, &f->error), 0); /* nor again */
	failing = "pthread_create";
	problem = EAGAIN;
	assert_int_equal(uffd_watch_begin(&f->uffd, &f->memory, 1000, &f->error), RIFFLE_ERR_IO);
	assert_int_equal(f->error.sys_errno, EAGAIN);
	assert_int_equal(uffd_watch_end(&f->uffd, &f->error), 0);
	failing = NULL;
	assert_int_equal(uffd_watch_begin(&f->uffd, &f->memory, 0, &f->error), 0);
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(*(volatile uint8_t *)f->memory.ram[i].host, 0);
	assert_int_equal(uffd_watch_end(&f->uffd, &f->error), RIFFLE_ERR_IO);
	assert_string_equal(f->error.field, "page fault handler");
	uffd_close(&f->uffd);
	/* without a handler there is nothing to watch */
	assert_int_equal(uffd_watch_begin(&f->uffd, &f->memory, 0, &f->error), 0);
	assert_int_equal(uffd_watch_end(&f->uffd, &f->error), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(test_pages), TEST(test_large_pages),     TEST(test_ways_to_userfaultfd),
	    TEST(test_paths), TEST(test_calls_that_fail), TEST(test_silent_handler),
	};

	return cmocka_run_group_tests_name("uffd", tests, NULL, NULL);
}
