/* SPDX-License-Identifier: Apache-2.0 */
/* The directory of a stock: items that are ready, and how each of them goes to one taker. */
#include "machine/stock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fail.h"
#include "monitor/event/descriptors.h"

int stock_open(struct stock *stock, const char *directory, struct riffle_error *error)
{
	stock->directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return stock->directory_fd < 0 ? riffle_fail_system(error, errno, "stock", "cannot be opened") : 0;
}

void stock_close(struct stock *stock)
{
	if (stock->directory_fd >= 0)
		close(stock->directory_fd);
	stock->directory_fd = -1;
}

bool stock_read_key(const struct stock *stock, char key[STOCK_KEY_DIGITS + 1])
{
	int fd = openat(stock->directory_fd, "key", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t got = fd < 0 ? -1 : read(fd, key, STOCK_KEY_DIGITS);

	if (fd >= 0)
		close(fd);
	key[STOCK_KEY_DIGITS] = 0;
	return got == STOCK_KEY_DIGITS && strspn(key, "0123456789abcdef") == STOCK_KEY_DIGITS;
}

static DIR *open_list(const struct stock *stock, const char *name)
{
	int fd = openat(stock->directory_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *list = fd < 0 ? NULL : fdopendir(fd);

	if (!list && fd >= 0)
		close(fd);
	return list;
}

/* The next entry that is no dot. */
static const char *next_name(DIR *list)
{
	for (struct dirent *entry; (entry = readdir(list));)
		if (entry->d_name[0] != '.')
			return entry->d_name;
	return NULL;
}

static void remove_item(int list_fd, const char *name)
{
	char path[300];

	snprintf(path, sizeof path, "%s/state", name);
	unlinkat(list_fd, path, 0);
	snprintf(path, sizeof path, "%s/memory", name);
	unlinkat(list_fd, path, 0);
	unlinkat(list_fd, name, AT_REMOVEDIR);
}

/* Opened before the name goes, so that it is known to be usable; whose removal of the name succeeds has it alone. */
static bool take(int list_fd, const char *name, struct stock_item *item)
{
	char state[300], memory[300];

	snprintf(state, sizeof state, "%s/state", name);
	snprintf(memory, sizeof memory, "%s/memory", name);
	item->state_fd = openat(list_fd, state, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	item->memory_fd = openat(list_fd, memory, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (item->state_fd >= 0 && item->memory_fd >= 0 && unlinkat(list_fd, state, 0) == 0) {
		remove_item(list_fd, name);
		return true;
	}
	if (item->state_fd >= 0)
		close(item->state_fd);
	if (item->memory_fd >= 0)
		close(item->memory_fd);
	return false;
}

int stock_take(struct stock *stock, struct stock_item *item)
{
	char key[STOCK_KEY_DIGITS + 1];
	DIR *list = stock_read_key(stock, key) ? open_list(stock, "ready") : NULL;
	bool taken = false;

	for (const char *name; list && !taken && (name = next_name(list));)
		taken = !strncmp(name, key, STOCK_KEY_DIGITS) && take(dirfd(list), name, item);
	if (list)
		closedir(list);
	stock_count(stock, taken ? "taken" : "empty");
	return taken;
}

/* The state's name goes over by one rename, which succeeds once. */
static int move(int list_fd, const char *name, int to_fd, struct riffle_error *error)
{
	char state[300], memory[300];
	int problem = 0;

	snprintf(state, sizeof state, "%s/state", name);
	snprintf(memory, sizeof memory, "%s/memory", name);
	if (renameat(list_fd, state, to_fd, "state") < 0)
		return errno == ENOENT ? 0 : (riffle_fail_system(error, errno, "item", "cannot be moved there"), -1);
	if (renameat(list_fd, memory, to_fd, "memory") < 0) {
		problem = errno;
		unlinkat(to_fd, "state", 0);
	}
	remove_item(list_fd, name);
	return problem ? (riffle_fail_system(error, problem, "item", "its memory cannot be moved there"), -1) : 1;
}

int stock_move(struct stock *stock, int to_fd, struct riffle_error *error)
{
	char key[STOCK_KEY_DIGITS + 1];
	DIR *list = stock_read_key(stock, key) ? open_list(stock, "ready") : NULL;
	int taken = 0;

	for (const char *name; list && !taken && (name = next_name(list));)
		if (!strncmp(name, key, STOCK_KEY_DIGITS))
			taken = move(dirfd(list), name, to_fd, error);
	if (list)
		closedir(list);
	if (taken >= 0)
		stock_count(stock, taken ? "taken" : "empty");
	return taken;
}

int stock_ask(const char *socket_path, struct stock_item *item)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fds[2], result = -1;
	unsigned count = 0;
	char word;

	if (strlen(socket_path) >= sizeof address.sun_path)
		return errno = ENAMETOOLONG, -1;
	strcpy(address.sun_path, socket_path);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) == 0) {
		ssize_t got = descriptors_receive(fd, &word, 1, fds, 2, &count, 0);

		if (got == 0)
			errno = ECONNRESET; /* the daemon ended */
		result = got == 1 ? count == 2 : -1;
	}
	if (result == 1)
		*item = (struct stock_item){.state_fd = fds[0], .memory_fd = fds[1]};
	for (unsigned i = 0; result != 1 && i < count; i++)
		close(fds[i]);
	int problem = errno;

	if (fd >= 0)
		close(fd);
	errno = problem;
	return result;
}

/* Appending a byte is atomic, and needs no lock. */
void stock_count(const struct stock *stock, const char *counter)
{
	int fd = openat(stock->directory_fd, counter, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return;
	ssize_t ignored = write(fd, ".", 1);

	(void)ignored;
	close(fd);
}

uint64_t stock_counter(const struct stock *stock, const char *counter)
{
	struct stat st;

	return fstatat(stock->directory_fd, counter, &st, AT_SYMLINK_NOFOLLOW) == 0 ? (uint64_t)st.st_size : 0;
}

unsigned stock_ready(const struct stock *stock, uint64_t *bytes)
{
	char key[STOCK_KEY_DIGITS + 1], path[300];
	DIR *list = stock_read_key(stock, key) ? open_list(stock, "ready") : NULL;
	unsigned count = 0;
	struct stat st;

	*bytes = 0;
	for (const char *name; list && (name = next_name(list));) {
		snprintf(path, sizeof path, "%s/state", name);
		if (strncmp(name, key, STOCK_KEY_DIGITS) != 0 ||
		    fstatat(dirfd(list), path, &st, AT_SYMLINK_NOFOLLOW) != 0)
			continue;
		count++;
		*bytes += (uint64_t)st.st_blocks * 512;
		snprintf(path, sizeof path, "%s/memory", name);
		if (fstatat(dirfd(list), path, &st, AT_SYMLINK_NOFOLLOW) == 0)
			*bytes += (uint64_t)st.st_blocks * 512;
	}
	if (list)
		closedir(list);
	return count;
}

void stock_sweep(const struct stock *stock, const char *key)
{
	DIR *list = open_list(stock, "ready");
	char path[300];
	struct stat st;

	for (const char *name; list && (name = next_name(list));) {
		snprintf(path, sizeof path, "%s/state", name);
		if (!key || strncmp(name, key, STOCK_KEY_DIGITS) != 0 ||
		    fstatat(dirfd(list), path, &st, AT_SYMLINK_NOFOLLOW) != 0)
			remove_item(dirfd(list), name);
	}
	if (list)
		closedir(list);
	list = open_list(stock, "making");
	for (const char *name; list && (name = next_name(list));)
		remove_item(dirfd(list), name);
	if (list)
		closedir(list);
}
