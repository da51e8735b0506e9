/* SPDX-License-Identifier: Apache-2.0 */
/* One item of a stock, and those who want it at the same time: it goes to one of them, whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "machine/internal.h"
#include "machine/snapshot.h"
#include "machine/stock.h"

#define BYTES (4u << 20)
#define KEY "0123456789abcdef"
#define ITEM KEY "-fedcba9876543210"

static struct machine *machine;
static char directory[] = "/tmp/riffle-stock-XXXXXX";
static struct stock stock = {.directory_fd = -1};
static int to;

/* What happens between the two files of an item that is moved. */
static void (*between)(void);
static unsigned renames;

int renameat(int from_directory, const char *from, int to_directory, const char *name)
{
	int result = (int)syscall(SYS_renameat2, from_directory, from, to_directory, name, 0);

	if (++renames == 1 && between)
		between();
	return result;
}

static void put_item(void)
{
	struct machine_snapshot snapshot = {.fresh = true};
	int ready = openat(stock.directory_fd, "ready", O_RDONLY | O_DIRECTORY);

	assert_int_equal(mkdirat(ready, ITEM, 0700), 0);
	snapshot.state_fd = openat(ready, ITEM "/state", O_RDWR | O_CREAT | O_EXCL, 0600);
	snapshot.memory_fd = openat(ready, ITEM "/memory", O_RDWR | O_CREAT | O_EXCL, 0600);
	assert_int_equal(machine_snapshot_write(machine, &snapshot, NULL), 0);
	close(snapshot.state_fd);
	close(snapshot.memory_fd);
	close(ready);
}

static int set_up(void **unused)
{
	static struct machine_config config;
	struct riffle_error error = {0};
	struct phases phases;
	int key;

	(void)unused;
	if (access("/dev/kvm", R_OK | W_OK))
		skip();
	machine_config_init(&config);
	config.memory_bytes = BYTES;
	config.vcpus = 1;
	config.accept_emulation = config.can_save = true;
	config.console.kind = MACHINE_CONSOLE_NONE;
	phases_start(&phases, 0);
	assert_int_equal(machine_build_empty(&machine, &config, NULL, &phases, &error), 0);
	strcpy(strrchr(directory, '-'), "-XXXXXX");
	assert_non_null(mkdtemp(directory));
	assert_int_equal(stock_open(&stock, directory, &error), 0);
	assert_int_equal(mkdirat(stock.directory_fd, "ready", 0700), 0);
	assert_int_equal(mkdirat(stock.directory_fd, "making", 0700), 0);
	assert_int_equal(mkdirat(stock.directory_fd, "to", 0700), 0);
	to = openat(stock.directory_fd, "to", O_RDONLY | O_DIRECTORY);
	key = openat(stock.directory_fd, "key", O_WRONLY | O_CREAT, 0600);
	assert_int_equal(write(key, KEY, STOCK_KEY_DIGITS), STOCK_KEY_DIGITS);
	close(key);
	put_item();
	between = NULL;
	renames = 0;
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
	(void)st;
	(void)kind;
	(void)where;
	return remove(path);
}

static int tear_down(void **unused)
{
	(void)unused;
	close(to);
	stock_close(&stock);
	nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	machine_destroy(machine);
	return 0;
}

static bool there(const char *name)
{
	return faccessat(stock.directory_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void sweep(void)
{
	stock_sweep(&stock, KEY);
}

static void test_moved_while_swept(void **unused)
{
	struct machine_snapshot_info info;
	struct riffle_error error;
	char path[100];

	(void)unused;
	between = sweep;
	assert_int_equal(stock_move(&stock, to, &error), 1);
	assert_true(there("to/state") && there("to/memory"));
	assert_false(there("ready/" ITEM));
	snprintf(path, sizeof path, "%s/to/state", directory);
	assert_int_equal(machine_snapshot_look(path, &info, &error), 0);
}

static void take_too(void)
{
	struct riffle_error error;
	struct stock_item item;
	int other = openat(stock.directory_fd, "making", O_RDONLY | O_DIRECTORY);

	assert_int_equal(stock_take(&stock, &item, NULL, NULL, &error), 0);
	assert_int_equal(stock_move(&stock, other, &error), 0);
	close(other);
}

static void test_moved_while_taken(void **unused)
{
	struct riffle_error error;

	(void)unused;
	between = take_too;
	assert_int_equal(stock_move(&stock, to, &error), 1);
	assert_true(there("to/state") && there("to/memory"));
}

/* Its files were open already. */
static void remove_state(void)
{
	assert_int_equal(unlinkat(stock.directory_fd, "ready/" ITEM "/state", 0), 0);
}

static void test_taken_while_moved(void **unused)
{
	struct riffle_error error;

	(void)unused;
	between = remove_state;
	assert_int_equal(stock_move(&stock, to, &error), 0);
	assert_false(there("to/state") || there("to/memory"));
	sweep();
	assert_false(there("ready/" ITEM));
}

static int move_first(void *opaque, const struct stock_item *item, struct riffle_error *error)
{
	(void)opaque;
	assert_true(item->state_fd >= 0 && item->memory_fd >= 0);
	assert_int_equal(stock_move(&stock, to, error), 1);
	return 0;
}

static void test_moved_while_looked_at(void **unused)
{
	struct riffle_error error;
	struct stock_item item;

	(void)unused;
	assert_int_equal(stock_take(&stock, &item, move_first, NULL, &error), 0);
	assert_int_equal(item.state_fd, -1);
	assert_true(there("to/state") && there("to/memory"));
}

static int refuse(void *opaque, const struct stock_item *item, struct riffle_error *error)
{
	(void)opaque;
	(void)item;
	error->status = RIFFLE_ERR_ARGUMENT;
	return RIFFLE_ERR_ARGUMENT;
}

static void test_left_alone(void **unused)
{
	struct riffle_error error;
	struct stock_item item;
	uint64_t bytes;

	(void)unused;
	assert_int_equal(stock_take(&stock, &item, refuse, NULL, &error), -1);
	assert_int_equal(error.status, RIFFLE_ERR_ARGUMENT);
	assert_int_equal(stock_ready(&stock, &bytes), 1);
	assert_true(bytes > 0);
	sweep();
	assert_int_equal(stock_take(&stock, &item, NULL, NULL, &error), 1);
	close(item.state_fd);
	close(item.memory_fd);
	assert_false(there("ready/" ITEM));
	assert_int_equal(stock_ready(&stock, &bytes), 0);
	assert_int_equal(stock_counter(&stock, "taken"), 1);
}

/* Another file system: it stays. */
static void test_moved_too_far(void **unused)
{
	struct riffle_error error;
	uint64_t bytes;
	int far = open("/dev", O_RDONLY | O_DIRECTORY);

	(void)unused;
	assert_int_equal(stock_move(&stock, far, &error), -1);
	assert_int_equal(error.sys_errno, EXDEV);
	assert_int_equal(stock_ready(&stock, &bytes), 1);
	close(far);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_moved_while_swept),     TEST(test_moved_while_taken), TEST(test_taken_while_moved),
	    TEST(test_moved_while_looked_at), TEST(test_left_alone),        TEST(test_moved_too_far),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
