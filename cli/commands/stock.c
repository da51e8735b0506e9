/* SPDX-License-Identifier: Apache-2.0 */
/* riffle stock: keeps microVMs ready, each with a layout of its own and for one start. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/commands/run_options.h"
#include "cli/commands/stock_key.h"
#include "common/fail.h"
#include "host/input.h"
#include "host/memory_size.h"
#include "host/shown.h"
#include "host/suggest.h"
#include "machine/snapshot_files.h"
#include "machine/stock.h"
#include "machine/unix_socket.h"
#include "monitor/event/descriptors.h"

static const char help[] =
    "Usage: riffle stock --dir DIR --keep N [OPTIONS] -- OPTIONS-OF-RIFFLE-RUN KERNEL\n"
    "       riffle stock --dir DIR --keep N [OPTIONS] --machine CONFIG [-- OPTIONS-OF-RIFFLE-RUN]\n"
    "       riffle stock --dir DIR --take TO\n"
    "       riffle stock --dir DIR --status [--json]\n"
    "\n"
    "Keeps N microVMs ready in DIR, each with its own kernel layout and for one\n"
    "`riffle run --from-stock DIR`. DIR is best on a tmpfs. Runs until terminated; ready\n"
    "items are kept.\n"
    "\n"
    "      --dir DIR            where the stock is\n"
    "      --keep N             how many to keep ready\n"
    "      --machine CONFIG     of the machine in this file, as of riffle run --config\n"
    "      --stage laid|booted  laid: the kernel is loaded and shuffled, and the start enters it;\n"
    "                           booted: the guest ran up to its mark at the boot timer (a write\n"
    "                           of 123 to port 0xf4 or address 0xc0000000), and continues [laid]\n"
    "      --socket PATH        also give items to clients that connect to PATH\n"
    "      --max-bytes SIZE     use at most this much for items\n"
    "      --min-free SIZE      make none while the file system has less than this free [64M]\n"
    "      --once               fill the stock and exit, at normal priority\n"
    "      --take TO            take an item: its files become TO/state and TO/memory, for\n"
    "                           `riffle resume TO` or a PUT /snapshot/load, once. TO is a new\n"
    "                           directory on DIR's file system\n"
    "      --status             print how many there are, and were\n"
    "      --json               as JSON\n"
    "  -h, --help               this text\n";

#define ARGUMENTS_MAX 500
#define TICK_MS 200
#define LOCK_TRIES 10u
#define PATIENCE_S 600 /* with a guest that does not come to its mark */
#define FAILURE_WAIT_MAX_S 60
#define RECOUNT_S 10     /* seconds: ready items may get damaged */
#define LOOKING_SHARE 20 /* at most 1/20 of the time is spent on looking for changes */

struct daemon {
	const char *directory, *socket_path, *stage, *machine, *take;
	char **arguments;
	unsigned keep;
	uint64_t max_bytes, min_free;
	bool once, status, json;
	struct stock stock;
	int signal_fd, listen_fd;
	char key[STOCK_KEY_DIGITS + 1]; /* "": none yet */
	struct stock_key of;
	bool lacking; /* a file of the machine is missing: no items are made, ready ones are kept */
	uint64_t look_at;
	const char *blame; /* the file that the final error is about; NULL: the directory */
	struct {
		unsigned ready;
		uint64_t bytes;
		struct timespec changed; /* mtime of ready/ when they were counted */
		time_t at;
	} counted;
	char making[64]; /* the item's name */
	pid_t child;     /* who makes it; 0: nobody */
	time_t since, retry_at;
	unsigned failures;
};

static int usage(const char *problem, const char *found)
{
	fprintf(stderr, "riffle stock: %s (found '%s'); riffle stock --help shows more\n", problem, SHOWN(found));
	return EXIT_USAGE;
}

static time_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

/* The files in DIR, besides making/ and ready/. */
static const char *const own_files[] = {"key", "key.part", "log", "lock", "made", "taken", "empty", "bad"};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

/* ---- what the items are of ---- */

#define MAKER_WORDS (ARGUMENTS_MAX + 16)
#define MAKER_DIRECTORY 3 /* index of the word that names the item's directory */

static void list_words(const struct daemon *d, const char *words[MAKER_WORDS])
{
	size_t count = 0;

	words[count++] = "riffle";
	words[count++] = "run";
	words[count++] = "--save-to";
	words[count++] = "";
	words[count++] = "--save-at";
	words[count++] = !strcmp(d->stage, "booted") ? "mark" : "start";
	words[count++] = "--console";
	words[count++] = "none";
	if (d->machine) {
		words[count++] = "--config";
		words[count++] = d->machine;
	}
	for (char **word = d->arguments; *word; word++)
		words[count++] = *word;
	words[count] = NULL;
}

/* -1: go on; otherwise the exit code, and a message was printed. */
static int describe(struct daemon *d)
{
	static const char *words[MAKER_WORDS];
	static char *permuted[MAKER_WORDS];
	static struct run_options options;
	int count = 0;

	list_words(d, words);
	for (; words[count]; count++)
		permuted[count] = (char *)words[count];
	d->of = (struct stock_key){.stage = d->stage, .words = words, .options = &options};
	switch (run_options_parse_words(&options, count - 1, permuted + 1)) {
	case RUN_HELPED:
		return EXIT_SUCCESS;
	case RUN_WRONG:
		return EXIT_USAGE;
	case RUN_GO:
		break;
	}
	if (options.command)
		return usage("a guest that runs a command cannot be saved, so there is no stock of it", "--");
	return -1;
}

static int write_key(const struct daemon *d, struct riffle_error *error)
{
	/* possibly left by a killed daemon */
	unlinkat(d->stock.directory_fd, "key.part", 0);
	int fd = stock_open_file(&d->stock, "key.part", O_WRONLY | O_CREAT | O_EXCL);
	bool good = fd >= 0 && write(fd, d->key, STOCK_KEY_DIGITS) == STOCK_KEY_DIGITS;

	if (fd >= 0)
		close(fd);
	if (!good || renameat(d->stock.directory_fd, "key.part", d->stock.directory_fd, "key") < 0)
		return riffle_fail_system(error, errno, "key", "cannot be written");
	return 0;
}

static void tell_lack(struct daemon *d, const char *blame, const struct riffle_error *error)
{
	if (!d->lacking) {
		report_error(blame, error);
		fprintf(stderr, "riffle: %s: items are kept, and none are made until that is there\n",
			SHOWN(d->directory));
	}
	d->lacking = true;
}

/*
 * If a kernel or an option has changed, older items are useless. A missing file makes them no older: it may be about to
 * be replaced, or was moved by mistake.
 */
static int follow_changes(struct daemon *d, struct riffle_error *error)
{
	char key[STOCK_KEY_DIGITS + 1];
	uint64_t begun = now_ns();
	const char *blame;
	int status;

	if (begun < d->look_at)
		return 0;
	status = stock_key_make(key, &d->of, &blame, error);
	d->look_at = now_ns() + LOOKING_SHARE * (now_ns() - begun);
	if (status && d->once) {
		d->blame = blame;
		return status;
	}
	if (status) {
		tell_lack(d, blame, error);
		return 0;
	}
	d->lacking = false;
	if (!strcmp(key, d->key))
		return 0;
	memcpy(d->key, key, sizeof key);
	if ((status = write_key(d, error)))
		return status;
	d->counted.at = 0;
	if (!d->child)
		stock_sweep(&d->stock, d->key);
	return 0;
}

/* ---- making items ---- */

static void be_idle(void)
{
	const struct sched_param parameter = {0};
	enum { IOPRIO_WHO_PROCESS = 1, IOPRIO_IDLE = 3 << 13 };

	sched_setscheduler(0, SCHED_IDLE, &parameter);
	setpriority(PRIO_PROCESS, 0, 19);
	syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_IDLE);
}

static void run_maker(const struct daemon *d, pid_t parent, const char *directory)
{
	const char *words[MAKER_WORDS];
	sigset_t none;

	list_words(d, words);
	words[MAKER_DIRECTORY] = directory;
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(127);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (!d->once) /* whom somebody waits for */
		be_idle();
	int log = stock_open_file(&d->stock, "log", O_WRONLY | O_CREAT | O_TRUNC);

	if (log >= 0) {
		dup2(log, STDOUT_FILENO);
		dup2(log, STDERR_FILENO);
	}
	execv("/proc/self/exe", (char **)words);
	_exit(127);
}

/* Adding or removing an item changes the mtime of ready/, but two changes within a clock tick may leave one mtime. */
static unsigned count_ready(struct daemon *d, uint64_t *bytes)
{
	struct timespec clock;
	struct stat st;

	clock_gettime(CLOCK_REALTIME, &clock);
	if (fstatat(d->stock.directory_fd, "ready", &st, AT_SYMLINK_NOFOLLOW) < 0)
		memset(&st, 0, sizeof st);
	if (!d->counted.at || now() - d->counted.at >= RECOUNT_S || clock.tv_sec - st.st_mtim.tv_sec <= 1 ||
	    memcmp(&st.st_mtim, &d->counted.changed, sizeof st.st_mtim) != 0) {
		d->counted.changed = st.st_mtim;
		d->counted.at = now();
		d->counted.ready = stock_ready(&d->stock, &d->counted.bytes);
	}
	*bytes = d->counted.bytes;
	return d->counted.ready;
}

/* NULL, or why there is no room for another item. */
static const char *lacks_room(struct daemon *d)
{
	struct statvfs fs;
	uint64_t bytes;
	unsigned ready = count_ready(d, &bytes);

	if (d->max_bytes && ready && bytes + bytes / ready > d->max_bytes)
		return "another would exceed --max-bytes";
	if (fstatvfs(d->stock.directory_fd, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize < d->min_free)
		return "the file system has less than --min-free left for another";
	return NULL;
}

static void put_off(struct daemon *d)
{
	unsigned wait = 1u << (d->failures < 6 ? d->failures : 6);

	d->failures++;
	d->retry_at = now() + (wait < FAILURE_WAIT_MAX_S ? wait : FAILURE_WAIT_MAX_S);
}

static void tell_no_begin(struct daemon *d, const char *problem)
{
	fprintf(stderr, "riffle: %s: item: %s: %s\n", SHOWN(d->directory), problem, strerror(errno));
	put_off(d);
}

static void begin_item(struct daemon *d)
{
	char path[4096];
	uint64_t id;

	if (getrandom(&id, sizeof id, 0) != sizeof id) {
		tell_no_begin(d, "there are no random numbers for its name");
		return;
	}
	snprintf(d->making, sizeof d->making, "%s-%016llx", d->key, (unsigned long long)id);
	if ((size_t)snprintf(path, sizeof path, "%s/making/%s", d->directory, d->making) >= sizeof path)
		errno = ENAMETOOLONG;
	else if (mkdir(path, 0700) == 0)
		errno = 0;
	if (errno) {
		tell_no_begin(d, "its directory cannot be made");
		return;
	}
	pid_t parent = getpid(), child = fork();

	if (child == 0)
		run_maker(d, parent, path);
	if (child < 0) {
		tell_no_begin(d, "its process cannot be started");
		rmdir(path);
		return;
	}
	d->child = child;
	d->since = now();
}

static bool is_complete(const struct daemon *d)
{
	char path[128];
	struct stat st;

	snprintf(path, sizeof path, "making/%s/state", d->making);
	return fstatat(d->stock.directory_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_size > 0;
}

/* The last line that who made the item has written: why it failed. */
static void read_reason(const struct daemon *d, char *text, size_t room)
{
	int fd = stock_open_file(&d->stock, "log", O_RDONLY);
	off_t end = fd < 0 ? 0 : lseek(fd, 0, SEEK_END), from = end > (off_t)room - 1 ? end - (off_t)room + 1 : 0;
	ssize_t got = fd < 0 ? 0 : pread(fd, text, room - 1, from);

	if (fd >= 0)
		close(fd);
	text[got > 0 ? got : 0] = 0;
	while (got > 0 && text[got - 1] == '\n')
		text[--got] = 0;
	char *line = strrchr(text, '\n');

	if (line)
		memmove(text, line + 1, strlen(line + 1) + 1);
}

static void tell_failure(const struct daemon *d, int status)
{
	char reason[300];

	if (!WIFEXITED(status) || (WEXITSTATUS(status) == 0 && !is_complete(d)))
		snprintf(reason, sizeof reason, "%s %d",
			 WIFEXITED(status) ? "the guest ended before its mark, status" : "ended by signal",
			 WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
	else
		read_reason(d, reason, sizeof reason);
	fprintf(stderr, "riffle: %s/log: item: could not be made: %s\n", SHOWN(d->directory), SHOWN(reason));
}

static void end_item(struct daemon *d, int status)
{
	char from[128], to[128];
	bool good = WIFEXITED(status) && WEXITSTATUS(status) == 0 && is_complete(d);

	snprintf(from, sizeof from, "making/%s", d->making);
	snprintf(to, sizeof to, "ready/%s", d->making);
	good = good && renameat(d->stock.directory_fd, from, d->stock.directory_fd, to) == 0;
	d->child = 0;
	if (good) {
		d->failures = 0;
		stock_count(&d->stock, "made");
		d->counted.at = 0;
	} else {
		put_off(d);
		tell_failure(d, status);
	}
	stock_sweep(&d->stock, d->key); /* also what was left in `making` */
}

static void look_after_child(struct daemon *d)
{
	int status;

	if (!d->child)
		return;
	if (waitpid(d->child, &status, WNOHANG) == d->child)
		end_item(d, status);
	else if (now() - d->since > PATIENCE_S)
		kill(d->child, SIGKILL);
}

/* ---- giving items ---- */

static void give(struct daemon *d)
{
	int peer = accept4(d->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	struct riffle_error error;
	struct stock_item item;

	if (peer < 0)
		return;
	bool taken = stock_take(&d->stock, &item, NULL, NULL, &error) > 0;
	const int fds[] = {item.state_fd, item.memory_fd};
	/* who is gone meanwhile had the item: it is not given twice */
	ssize_t ignored = descriptors_send(peer, "1", 1, fds, taken ? 2 : 0, MSG_DONTWAIT);

	(void)ignored;
	if (taken) {
		close(item.state_fd);
		close(item.memory_fd);
	}
	close(peer);
}

/* ---- the daemon ---- */

/* One that `--status` has for a moment, or the child of a daemon that was killed until it runs riffle, is waited for.
 */
static int take_lock(const struct daemon *d, struct riffle_error *error)
{
	int lock = stock_open_file(&d->stock, "lock", O_RDWR | O_CREAT);

	if (lock < 0)
		return riffle_fail_system(error, errno, "lock", "cannot be made");
	for (unsigned i = 0; flock(lock, LOCK_EX | LOCK_NB) < 0; i++) {
		if (errno != EWOULDBLOCK)
			return riffle_fail_system(error, errno, "lock", "cannot be taken");
		if (i == LOCK_TRIES)
			return riffle_fail(error, RIFFLE_ERR_IO, "lock",
					   "is held: another riffle stock keeps this directory");
		poll(NULL, 0, TICK_MS);
	}
	return 0;
}

/* Refuses links, FIFOs, and directories that others may change. */
static int check_names(const struct daemon *d, struct riffle_error *error)
{
	static const char *const directories[] = {"making", "ready"};
	int status = 0;
	struct stat st;

	for (size_t i = 0; i < sizeof own_files / sizeof *own_files; i++)
		if (fstatat(d->stock.directory_fd, own_files[i], &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(st.st_mode))
			return riffle_fail(error, RIFFLE_ERR_IO, own_files[i], "is not a regular file");
	for (size_t i = 0; !status && i < sizeof directories / sizeof *directories; i++) {
		if ((mkdirat(d->stock.directory_fd, directories[i], 0700) < 0 && errno != EEXIST) ||
		    fstatat(d->stock.directory_fd, directories[i], &st, AT_SYMLINK_NOFOLLOW) < 0)
			return riffle_fail_system(error, errno, directories[i], "cannot be made");
		status = S_ISDIR(st.st_mode) ? snapshot_file_trust(&st, error)
					     : riffle_fail(error, RIFFLE_ERR_IO, "", "is not a directory");
		if (status)
			error->field = directories[i];
	}
	return status;
}

static int set_up(struct daemon *d, struct riffle_error *error)
{
	sigset_t ends;
	int status;

	if (mkdir(d->directory, 0700) < 0 && errno != EEXIST)
		return riffle_fail_system(error, errno, "directory", "cannot be made");
	if ((status = stock_open(&d->stock, d->directory, error)) || (status = check_names(d, error)) ||
	    (status = take_lock(d, error)))
		return status;
	/* of an earlier daemon, in case the new key cannot be computed yet */
	if (!stock_read_key(&d->stock, d->key))
		d->key[0] = 0;
	if ((status = follow_changes(d, error)))
		return status;
	if (d->key[0])
		stock_sweep(&d->stock, d->key);
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	sigaddset(&ends, SIGHUP);
	sigprocmask(SIG_BLOCK, &ends, NULL);
	d->signal_fd = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
	if (d->signal_fd < 0)
		return riffle_fail_system(error, errno, "signalfd", "failed");
	return d->socket_path ? unix_socket_listen(&d->listen_fd, SOCK_SEQPACKET, d->socket_path, "socket", 128, error)
			      : 0;
}

#define GO_ON (-1)

/* With --once, ends when there are enough items or no more can be made. */
static int make_more(struct daemon *d, struct riffle_error *error)
{
	uint64_t bytes;
	unsigned ready = count_ready(d, &bytes);
	bool enough = ready >= d->keep;
	const char *problem = enough ? NULL : d->failures ? "too few could be made" : lacks_room(d);

	if (d->once && (enough || problem))
		return problem ? riffle_fail_expected(error, RIFFLE_ERR_IO, "items", problem, ready, d->keep) : 0;
	if (!enough && !d->lacking && now() >= d->retry_at && !lacks_room(d))
		begin_item(d);
	return GO_ON;
}

static int serve(struct daemon *d, struct riffle_error *error)
{
	struct pollfd fds[2] = {{.fd = d->signal_fd, .events = POLLIN}, {.fd = d->listen_fd, .events = POLLIN}};
	int status;

	for (;;) {
		look_after_child(d);
		if ((status = follow_changes(d, error)))
			return status;
		if (!d->child && (status = make_more(d, error)) != GO_ON)
			return status;
		if (poll(fds, 2, TICK_MS) <= 0)
			continue;
		if (fds[0].revents)
			return 0;
		if (fds[1].revents)
			give(d);
	}
}

static void stop(struct daemon *d)
{
	if (d->child) {
		kill(d->child, SIGKILL);
		waitpid(d->child, NULL, 0);
	}
	if (d->stock.directory_fd >= 0 && d->key[0] && d->signal_fd >= 0)
		stock_sweep(&d->stock, d->key);
	stock_close(&d->stock);
}

static int show_status(struct daemon *d)
{
	static const char *const counters[] = {"made", "taken", "empty", "bad"};
	struct riffle_error error;
	uint64_t bytes;

	if (stock_open(&d->stock, d->directory, &error)) {
		report_error(d->directory, &error);
		return EXIT_FAILURE;
	}
	unsigned ready = stock_ready(&d->stock, &bytes);
	int lock = stock_open_file(&d->stock, "lock", O_RDWR);
	bool runs = lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) < 0;

	if (lock >= 0)
		close(lock);
	printf(d->json ? "{\"ready\": %u, \"bytes\": %llu, \"daemon\": %s" : "ready %u, bytes %llu, daemon %s", ready,
	       (unsigned long long)bytes, runs ? "true" : "false");
	for (size_t i = 0; i < sizeof counters / sizeof *counters; i++)
		printf(d->json ? ", \"%s\": %llu" : ", %s %llu", counters[i],
		       (unsigned long long)stock_counter(&d->stock, counters[i]));
	puts(d->json ? "}" : "");
	stock_close(&d->stock);
	return EXIT_SUCCESS;
}

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* The name need not exist. */
static bool has_name(const struct daemon *d, const char *name, const struct stat *of)
{
	struct stat st;

	return fstatat(d->stock.directory_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && is_same(&st, of);
}

/* Whether a directory has a name that the stock uses, or lies below making/ or ready/. */
static bool is_of_stock(const struct daemon *d, int directory)
{
	struct stat at, above;
	int fd = fcntl(directory, F_DUPFD_CLOEXEC, 3);
	bool found = fd < 0 || fstat(fd, &at) < 0;

	for (size_t i = 0; !found && i < sizeof own_files / sizeof *own_files; i++)
		found = has_name(d, own_files[i], &at);
	for (bool top = false; !found && !top; at = above) {
		int up = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);

		close(fd);
		fd = up;
		found = has_name(d, "ready", &at) || has_name(d, "making", &at) || fd < 0 || fstat(fd, &above) < 0;
		top = !found && is_same(&at, &above);
	}
	if (fd >= 0)
		close(fd);
	return found;
}

/* On failure the new directory is removed again. */
static int take_into(struct daemon *d, const char **blame, struct riffle_error *error)
{
	int to, taken = -1;

	*blame = d->take;
	if (mkdir(d->take, 0700) < 0)
		return riffle_fail_system(error, errno, "--take", "cannot be made");
	if ((to = open(d->take, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		riffle_fail_system(error, errno, "--take", "cannot be opened");
	else if (is_of_stock(d, to))
		riffle_fail(error, RIFFLE_ERR_ARGUMENT, "--take", "is a place of the stock's own");
	else
		taken = stock_move(&d->stock, to, error);
	if (to >= 0)
		close(to);
	if (taken > 0)
		return 0;
	rmdir(d->take);
	if (taken == 0) {
		*blame = d->directory;
		riffle_fail(error, RIFFLE_ERR_IO, "stock", "is empty");
	}
	return (int)error->status;
}

/* Moves an item's files to the caller's directory. */
static int take_item(struct daemon *d)
{
	struct riffle_error error;
	const char *blame = d->directory;
	int status = stock_open(&d->stock, d->directory, &error);

	if (!status)
		status = take_into(d, &blame, &error);
	stock_close(&d->stock);
	if (status)
		report_error(blame, &error);
	return status ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* -1: go on. */
static int parse(struct daemon *d, int argc, char **argv)
{
	enum { DIR_ = 256, KEEP, STAGE, SOCKET, MAX, FREE, ONCE, STATUS, JSON, MACHINE, TAKE };
	static const struct option options[] = {{"dir", required_argument, NULL, DIR_},
						{"keep", required_argument, NULL, KEEP},
						{"stage", required_argument, NULL, STAGE},
						{"socket", required_argument, NULL, SOCKET},
						{"max-bytes", required_argument, NULL, MAX},
						{"min-free", required_argument, NULL, FREE},
						{"machine", required_argument, NULL, MACHINE},
						{"take", required_argument, NULL, TAKE},
						{"once", no_argument, NULL, ONCE},
						{"status", no_argument, NULL, STATUS},
						{"json", no_argument, NULL, JSON},
						{"help", no_argument, NULL, 'h'},
						{NULL, 0, NULL, 0}};
	char *end;
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, "+h", options, NULL)) != -1) {
		unsigned long number;

		switch (option) {
		case DIR_:
			d->directory = optarg;
			break;
		case KEEP:
			number = strtoul(optarg, &end, 10);
			if (*end || end == optarg || *optarg == '-' || number < 1 || number > 100000)
				return usage("--keep must be 1 to 100000", optarg);
			d->keep = (unsigned)number;
			break;
		case STAGE:
			if (strcmp(optarg, "laid") != 0 && strcmp(optarg, "booted") != 0)
				return usage("--stage must be laid or booted", optarg);
			d->stage = optarg;
			break;
		case SOCKET:
			d->socket_path = optarg;
			break;
		case MAX:
		case FREE:
			if (option == FREE && !strcmp(optarg, "0"))
				d->min_free = 0;
			else if (memory_size_parse(optarg, option == MAX ? &d->max_bytes : &d->min_free))
				return usage(option == MAX ? "--max-bytes must be a size, as 512M"
							   : "--min-free must be a size, as 64M",
					     optarg);
			break;
		case MACHINE:
			d->machine = optarg;
			break;
		case TAKE:
			d->take = optarg;
			break;
		case ONCE:
			d->once = true;
			break;
		case STATUS:
			d->status = true;
			break;
		case JSON:
			d->json = true;
			break;
		case 'h':
			fputs(help, stdout);
			return EXIT_SUCCESS;
		default:
			say_no_option("stock", argv[optind - 1], options);
			return EXIT_USAGE;
		}
	}
	d->arguments = argv + optind;
	if (!d->directory)
		return usage("--dir is missing", "");
	if (d->status)
		return show_status(d);
	if (d->take)
		return take_item(d);
	if (!d->keep)
		return usage("--keep is missing", "");
	if (optind == argc && !d->machine)
		return usage("what to run is missing after --", "");
	if (argc - optind > ARGUMENTS_MAX)
		return usage("too many words after --", argv[optind + ARGUMENTS_MAX]);
	return describe(d);
}

int command_stock(int argc, char **argv)
{
	struct daemon d = {
	    .stage = "laid", .min_free = 64 << 20, .stock.directory_fd = -1, .signal_fd = -1, .listen_fd = -1};
	struct riffle_error error;
	int code = parse(&d, argc, argv);

	if (code >= 0)
		return code;
	int status = set_up(&d, &error);

	if (!status)
		status = serve(&d, &error);
	stop(&d);
	if (status)
		report_error(d.blame ? d.blame : d.directory, &error);
	return status ? EXIT_FAILURE : EXIT_SUCCESS;
}
