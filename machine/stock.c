/* SPDX-License-Identifier: Apache-2.0 */
/* The directory of a stock: items that are ready, and how each of them goes to one taker. */
#include "machine/stock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fail.h"
#include "machine/snapshot.h"
#include "machine/snapshot_files.h"
#include "machine/unix_socket.h"
#include "monitor/event/descriptors.h"

#define DIGITS "0123456789abcdef"

/* Opens a directory that nobody else may write to. -1: *error. */
static int open_trusted(int at, const char *name, int flags, const char *field, struct riffle_error *error)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | flags);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0) {
		riffle_fail_system(error, errno, field, "cannot be opened");
	} else if (snapshot_file_trust(&st, error) == 0) {
		return fd;
	}
	if (fd >= 0)
		close(fd);
	return -1;
}

int stock_open(struct stock *stock, const char *directory, struct riffle_error *error)
{
	stock->directory_fd = open_trusted(AT_FDCWD, directory, 0, "stock", error);
	return stock->directory_fd < 0 ? (int)error->status : 0;
}

void stock_close(struct stock *stock)
{
	if (stock->directory_fd >= 0)
		close(stock->directory_fd);
	stock->directory_fd = -1;
}

int stock_open_file(const struct stock *stock, const char *name, int flags)
{
	int fd = openat(stock->directory_fd, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	struct stat st;

	if (fd < 0)
		return errno = errno == ENXIO ? EINVAL : errno, -1;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		return fd;
	close(fd);
	return errno = EINVAL, -1;
}

/* 1: a key, 0: none, -1: an error. */
static int read_key(const struct stock *stock, char key[STOCK_KEY_DIGITS + 1], struct riffle_error *error)
{
	int fd = stock_open_file(stock, "key", O_RDONLY);

	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0 && errno == EINVAL)
		return riffle_fail(error, RIFFLE_ERR_IO, "key", "is not a regular file"), -1;
	if (fd < 0)
		return riffle_fail_system(error, errno, "key", "cannot be opened"), -1;
	ssize_t got = read(fd, key, STOCK_KEY_DIGITS);

	close(fd);
	key[STOCK_KEY_DIGITS] = 0;
	return got == STOCK_KEY_DIGITS && strspn(key, DIGITS) == STOCK_KEY_DIGITS;
}

bool stock_read_key(const struct stock *stock, char key[STOCK_KEY_DIGITS + 1])
{
	struct riffle_error ignored;

	return read_key(stock, key, &ignored) > 0;
}

/* If it does not exist, *list is NULL. */
static int open_list(const struct stock *stock, const char *name, DIR **list, struct riffle_error *error)
{
	int fd = open_trusted(stock->directory_fd, name, O_NOFOLLOW, name, error);

	*list = NULL;
	if (fd < 0 && error->status == RIFFLE_ERR_IO && error->sys_errno == ENOENT)
		return 0;
	if (fd < 0) {
		error->field = name;
		return (int)error->status;
	}
	*list = fdopendir(fd);
	if (!*list) {
		close(fd);
		return riffle_fail(error, RIFFLE_ERR_MEMORY, name, "out of memory");
	}
	return 0;
}

/* The next item's name. Other names are not the stock's, and are left alone. */
static const char *next_name(DIR *list)
{
	for (struct dirent *entry; (entry = readdir(list));) {
		const char *name = entry->d_name;

		if (strspn(name, DIGITS) == STOCK_KEY_DIGITS && name[STOCK_KEY_DIGITS] == '-' &&
		    strspn(name + STOCK_KEY_DIGITS + 1, DIGITS) == STOCK_KEY_DIGITS && !name[2 * STOCK_KEY_DIGITS + 1])
			return name;
	}
	return NULL;
}

static bool has_key(const char *name, const char *key)
{
	return key && !strncmp(name, key, STOCK_KEY_DIGITS);
}

/* ---- one item ---- */

static bool is_usable(int fd, struct stat *st)
{
	struct riffle_error ignored;

	return fd >= 0 && fstat(fd, st) == 0 && S_ISREG(st->st_mode) && snapshot_file_trust(st, &ignored) == 0;
}

static void close_item(struct stock_item *item)
{
	if (item->state_fd >= 0)
		close(item->state_fd);
	if (item->memory_fd >= 0)
		close(item->memory_fd);
	*item = (struct stock_item){-1, -1};
}

/* Opens both files if they are trusted. *open_failed: it failed for a reason that has nothing to do with the item. */
static bool open_item(int item_fd, struct stock_item *item, bool *open_failed)
{
	const int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
	struct stat st;

	*item = (struct stock_item){-1, -1};
	item->state_fd = openat(item_fd, "state", flags);
	int problem = item->state_fd < 0 ? errno : 0;

	item->memory_fd = problem ? -1 : openat(item_fd, "memory", flags);
	problem = !problem && item->memory_fd < 0 ? errno : problem;
	*open_failed = problem == EMFILE || problem == ENFILE || problem == ENOMEM || problem == EINTR;
	if (is_usable(item->state_fd, &st) && is_usable(item->memory_fd, &st))
		return true;
	close_item(item);
	return false;
}

static int open_item_directory(int list_fd, const char *name)
{
	struct riffle_error ignored;

	return open_trusted(list_fd, name, O_NOFOLLOW, "item", &ignored);
}

enum condition { WHOLE, BROKEN, UNKNOWN };

/* Checks everything except the contents of the memory. */
static enum condition examine(int item_fd, uint64_t *bytes)
{
	struct machine_snapshot_info info;
	struct riffle_error error;
	struct stock_item item;
	struct stat state, memory;
	char path[24];
	bool open_failed;

	if (!open_item(item_fd, &item, &open_failed))
		return open_failed ? UNKNOWN : BROKEN;
	snprintf(path, sizeof path, "fd:%d", item.state_fd);
	int status = machine_snapshot_look(path, &info, &error);
	bool sized = !status && fstat(item.state_fd, &state) == 0 && fstat(item.memory_fd, &memory) == 0;

	close_item(&item);
	if (!sized)
		return status == RIFFLE_ERR_FORMAT || status == RIFFLE_ERR_CHECKSUM || status == RIFFLE_ERR_UNSUPPORTED
			   ? BROKEN
			   : UNKNOWN;
	*bytes = (uint64_t)(state.st_blocks + memory.st_blocks) * 512;
	return !info.uses && (uint64_t)memory.st_size == info.memory_bytes ? WHOLE : BROKEN;
}

/* Removes an item's files, and its directory if that is empty then. */
static void empty_item(int list_fd, const char *name, int item_fd)
{
	unlinkat(item_fd, "state", 0);
	unlinkat(item_fd, "memory", 0);
	unlinkat(list_fd, name, AT_REMOVEDIR);
}

/* Not while somebody is moving it. */
static void remove_item(int list_fd, const char *name)
{
	int item_fd = openat(list_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (item_fd < 0)
		return;
	if (flock(item_fd, LOCK_EX | LOCK_NB) == 0)
		empty_item(list_fd, name, item_fd);
	close(item_fd);
}

/* ---- taking ---- */

/* Both files are opened first, so that they are known to be usable; then the unlink of the state decides who gets them.
 */
static int take(int list_fd, const char *name, struct stock_item *item, stock_look *look, void *opaque,
		struct riffle_error *error)
{
	int item_fd = open_item_directory(list_fd, name), taken = 0;
	bool open_failed;

	if (item_fd < 0)
		return 0;
	if (open_item(item_fd, item, &open_failed)) {
		if (look && look(opaque, item, error)) {
			taken = -1;
		} else if (unlinkat(item_fd, "state", 0) == 0) {
			empty_item(list_fd, name, item_fd);
			taken = 1;
		}
		if (taken != 1)
			close_item(item);
	}
	close(item_fd);
	return taken;
}

/* Opens the list of ready items and reads the key of those that may be taken. *list is NULL if there are none. */
static int open_ready(const struct stock *stock, DIR **list, char key[STOCK_KEY_DIGITS + 1], struct riffle_error *error)
{
	int has = read_key(stock, key, error);

	*list = NULL;
	return has < 0 ? (int)error->status : has ? open_list(stock, "ready", list, error) : 0;
}

int stock_take(struct stock *stock, struct stock_item *item, stock_look *look, void *opaque, struct riffle_error *error)
{
	char key[STOCK_KEY_DIGITS + 1];
	int taken = 0;
	DIR *list;

	*item = (struct stock_item){-1, -1};
	if (open_ready(stock, &list, key, error))
		return -1;
	for (const char *name; list && !taken && (name = next_name(list));)
		taken = has_key(name, key) ? take(dirfd(list), name, item, look, opaque, error) : 0;
	if (list)
		closedir(list);
	if (taken >= 0)
		stock_count(stock, taken ? "taken" : "empty");
	return taken;
}

/* The rename of the state comes last, and decides who gets the item. */
static int move_files(int item_fd, int to_fd, struct riffle_error *error)
{
	if (renameat(item_fd, "memory", to_fd, "memory") < 0)
		return errno == ENOENT ? 0 : (riffle_fail_system(error, errno, "item", "cannot be moved there"), -1);
	if (renameat(item_fd, "state", to_fd, "state") == 0)
		return 1;
	if (errno == ENOENT) { /* another taker got it, and has the memory open */
		unlinkat(to_fd, "memory", 0);
		return 0;
	}
	riffle_fail_system(error, errno, "item", "cannot be moved there");
	renameat(to_fd, "memory", item_fd, "memory");
	return -1;
}

static int move(int list_fd, const char *name, int to_fd, struct riffle_error *error)
{
	int item_fd = open_item_directory(list_fd, name), taken = 0;
	uint64_t bytes;

	if (item_fd < 0)
		return 0;
	/* the lock keeps stock_sweep() from removing it when only one file is left */
	if (flock(item_fd, LOCK_EX | LOCK_NB) == 0 && examine(item_fd, &bytes) == WHOLE)
		taken = move_files(item_fd, to_fd, error);
	if (taken > 0)
		unlinkat(list_fd, name, AT_REMOVEDIR);
	close(item_fd);
	return taken;
}

int stock_move(struct stock *stock, int to_fd, struct riffle_error *error)
{
	char key[STOCK_KEY_DIGITS + 1];
	int taken = 0;
	DIR *list;

	if (open_ready(stock, &list, key, error))
		return -1;
	for (const char *name; list && !taken && (name = next_name(list));)
		taken = has_key(name, key) ? move(dirfd(list), name, to_fd, error) : 0;
	if (list)
		closedir(list);
	if (taken >= 0)
		stock_count(stock, taken ? "taken" : "empty");
	return taken;
}

/* ---- through the daemon ---- */

/* SO_SNDTIMEO also limits connect(). */
static int connect_daemon(int fd, const char *path, struct riffle_error *error)
{
	const struct timeval limit = {.tv_sec = STOCK_WAIT_S};
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (strlen(path) >= sizeof address.sun_path)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "stock", "its socket's path is too long",
					    strlen(path), sizeof address.sun_path - 1);
	strcpy(address.sun_path, path);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) < 0 ||
	    connect(fd, (const struct sockaddr *)&address, sizeof address) < 0)
		return riffle_fail_system(error, errno == EAGAIN ? ETIMEDOUT : errno, "stock",
					  "its daemon does not answer");
	return unix_socket_trust_peer(fd, "stock", error);
}

static int receive(int fd, struct stock_item *item, struct riffle_error *error)
{
	struct stat st;
	unsigned count = 0;
	int fds[2];
	char word;
	ssize_t got = descriptors_receive(fd, &word, 1, fds, 2, &count, 0);

	if (got == 1 && count == 2 && is_usable(fds[0], &st) && is_usable(fds[1], &st)) {
		*item = (struct stock_item){.state_fd = fds[0], .memory_fd = fds[1]};
		return 1;
	}
	for (unsigned i = 0; i < count; i++)
		close(fds[i]);
	if (got == 1 && !count)
		return 0;
	if (got == 1)
		riffle_fail(error, RIFFLE_ERR_TRUST, "stock",
			    "its daemon gave something else than two files of its user");
	else /* 0: the daemon closed the connection */
		riffle_fail_system(error,
				   !got              ? ECONNRESET
				   : errno == EAGAIN ? ETIMEDOUT
						     : errno,
				   "stock", "its daemon does not answer");
	return -1;
}

int stock_ask(const char *socket_path, struct stock_item *item, struct riffle_error *error)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	int taken = connect_daemon(fd, socket_path, error) ? -1 : receive(fd, item, error);

	if (fd >= 0)
		close(fd);
	return taken;
}

/* ---- numbers ---- */

/* Appending a byte is atomic, and needs no lock. */
void stock_count(const struct stock *stock, const char *name)
{
	int fd = stock_open_file(stock, name, O_WRONLY | O_APPEND | O_CREAT);

	if (fd < 0)
		return;
	ssize_t ignored = write(fd, ".", 1);

	(void)ignored;
	close(fd);
}

uint64_t stock_counter(const struct stock *stock, const char *name)
{
	struct stat st;

	return fstatat(stock->directory_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode)
		   ? (uint64_t)st.st_size
		   : 0;
}

unsigned stock_ready(const struct stock *stock, uint64_t *bytes)
{
	char key[STOCK_KEY_DIGITS + 1];
	struct riffle_error ignored;
	unsigned count = 0;
	DIR *list;

	*bytes = 0;
	if (open_ready(stock, &list, key, &ignored) || !list)
		return 0;
	for (const char *name; (name = next_name(list));) {
		int item_fd = has_key(name, key) ? open_item_directory(dirfd(list), name) : -1;
		uint64_t of_item;

		if (item_fd < 0)
			continue;
		if (examine(item_fd, &of_item) == WHOLE) {
			count++;
			*bytes += of_item;
		}
		close(item_fd);
	}
	closedir(list);
	return count;
}

/* Whether an item has the key and is whole, or cannot be examined now. */
static bool is_wanted(int list_fd, const char *name, const char *key)
{
	int item_fd = has_key(name, key) ? openat(list_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
	struct riffle_error ignored;
	uint64_t bytes;
	struct stat st;

	if (item_fd < 0)
		return has_key(name, key) && errno != ENOENT; /* such as a link, which is left alone */
	bool wanted =
	    fstat(item_fd, &st) == 0 && snapshot_file_trust(&st, &ignored) == 0 && examine(item_fd, &bytes) != BROKEN;

	close(item_fd);
	return wanted;
}

void stock_sweep(const struct stock *stock, const char *key)
{
	struct riffle_error ignored;
	DIR *list;

	open_list(stock, "ready", &list, &ignored);
	for (const char *name; list && (name = next_name(list));)
		if (!is_wanted(dirfd(list), name, key))
			remove_item(dirfd(list), name);
	if (list)
		closedir(list);
	open_list(stock, "making", &list, &ignored);
	for (const char *name; list && (name = next_name(list));)
		remove_item(dirfd(list), name);
	if (list)
		closedir(list);
}
