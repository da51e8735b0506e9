/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prints size and hash of each file and directory below /proc and /sys that a user of a guest can read, in the order of
 * their names; and before, as root, of /proc/kallsyms, which depends on the layout.
 */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NOBODY = 65534, DEPTH = 12, PATIENCE = 2 };

static uint64_t hash(uint64_t before, const void *bytes, size_t count)
{
	const uint8_t *next = bytes;

	while (count--)
		before = (before ^ *next++) * UINT64_C(1099511628211);
	return before;
}

static void interrupted(int signal)
{
	(void)signal;
}

/* Some files wait for events. */
static void read_file(const char *path)
{
	static char bytes[1 << 16];
	uint64_t sum = 0, size = 0;
	ssize_t n;
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return;
	alarm(PATIENCE);
	while (size < 16 << 20 && (n = read(fd, bytes, sizeof bytes)) > 0) {
		sum = hash(sum, bytes, (size_t)n);
		size += (uint64_t)n;
	}
	alarm(0);
	close(fd);
	printf("READ %s %" PRIu64 " %016" PRIx64 "\n", path, size, sum);
}

static int not_dots(const struct dirent *entry)
{
	return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

/* Processes but for this one are different ones in each boot. */
static int is_process(const char *path, const char *name)
{
	return !strcmp(path, "/proc") && name[0] >= '0' && name[0] <= '9';
}

static void walk(const char *path, int depth)
{
	struct dirent **unsorted, **sorted;
	char below[4096];
	uint64_t order = 0;
	struct stat st;
	int count;

	if (lstat(path, &st) || (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) || depth > DEPTH)
		return;
	if (S_ISREG(st.st_mode)) {
		read_file(path);
		return;
	}
	count = scandir(path, &unsorted, not_dots, NULL);
	if (count < 0)
		return;
	for (int i = 0; i < count; i++)
		if (!is_process(path, unsorted[i]->d_name))
			order = hash(order, unsorted[i]->d_name, strlen(unsorted[i]->d_name) + 1);
	printf("READ %s/ %d %016" PRIx64 "\n", path, strcmp(path, "/proc") ? count : 0, order);
	for (int i = 0; i < count; i++)
		free(unsorted[i]);
	free(unsorted);
	count = scandir(path, &sorted, not_dots, alphasort);
	for (int i = 0; i < count; i++) {
		if (!is_process(path, sorted[i]->d_name) &&
		    snprintf(below, sizeof below, "%s/%s", path, sorted[i]->d_name) < (int)sizeof below)
			walk(below, depth + 1);
		free(sorted[i]);
	}
	if (count >= 0)
		free(sorted);
}

int main(void)
{
	static const struct sigaction action = {.sa_handler = interrupted};

	sigaction(SIGALRM, &action, NULL);
	printf("as root: ");
	read_file("/proc/kallsyms");
	/* as if it had been started by that user, it may read what there is of itself */
	if (setgid(NOBODY) || setuid(NOBODY) || prctl(PR_SET_DUMPABLE, 1))
		return EXIT_FAILURE;
	walk("/proc", 0);
	/* links to a process of its own number in each boot */
	walk("/proc/self/", 0);
	walk("/sys", 0);
	return fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}
