/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stamp CMD...: runs a monitor and prints the time until its guest's init printed on the console, and the processor
 * time of CMD and of what it waited for until then.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORDS "INIT REACHED"

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/*
 * Forwards the console and takes the time once init's words are complete; then kills the monitor, since the guest may
 * not be able to end it.
 */
static void watch(int from, double start, pid_t child)
{
	char buffer[4096 + sizeof WORDS];
	size_t kept = 0;
	ssize_t got;

	while ((got = read(from, buffer + kept, 4096)) > 0 || (got < 0 && errno == EINTR)) {
		size_t have;

		if (got < 0)
			continue;
		have = kept + (size_t)got;
		if (memmem(buffer, have, WORDS, sizeof WORDS - 1)) {
			fprintf(stderr, "riffle: boot-timer: %-33s %9.3f ms\n", "start to guest's init",
				now_ms() - start);
			puts(WORDS);
			fflush(stdout);
			kill(child, SIGKILL);
			return;
		}
		kept = have < sizeof WORDS - 1 ? have : sizeof WORDS - 2;
		memmove(buffer, buffer + have - kept, kept);
	}
}

static double milliseconds(struct timeval t)
{
	return (double)t.tv_sec * 1e3 + (double)t.tv_usec / 1e3;
}

int main(int argc, char **argv)
{
	double start = now_ms();
	int out[2], status;
	struct rusage used;
	pid_t child;

	if (argc < 2) {
		fputs("usage: stamp CMD [ARGUMENT...]\n", stderr);
		return 2;
	}
	if (pipe(out) < 0 || (child = fork()) < 0) {
		perror("stamp");
		return 1;
	}
	if (!child) {
		dup2(out[1], 1);
		close(out[0]);
		close(out[1]);
		execvp(argv[1], argv + 1);
		perror(argv[1]);
		_exit(127);
	}
	close(out[1]);
	watch(out[0], start, child);
	while (wait4(child, &status, 0, &used) < 0)
		if (errno != EINTR) {
			perror("stamp: wait4");
			return 1;
		}
	fprintf(stderr, "riffle: boot-timer: %-33s %9.3f ms\n", "CPU to guest's init",
		milliseconds(used.ru_utime) + milliseconds(used.ru_stime));
	return 0;
}
