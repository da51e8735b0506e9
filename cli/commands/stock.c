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

#include <jansson.h>

#include <riffle/version.h>

#include "cli/commands.h"
#include "common/checksum.h"
#include "common/fail.h"
#include "host/input.h"
#include "host/memory_size.h"
#include "host/shown.h"
#include "host/suggest.h"
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

struct daemon {
	const char *directory, *socket_path, *stage, *machine, *take;
	char **arguments;
	unsigned keep;
	uint64_t max_bytes, min_free;
	bool once, status, json;
	struct stock stock;
	int signal_fd, listen_fd;
	char key[STOCK_KEY_DIGITS + 1];
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

/* ---- what the items are of ---- */

/* A word, and if it names a file which file that is now. */
static void add_to_key(XXH64_state_t *hash, const char *word)
{
	struct stat st;

	XXH64_update(hash, word, strlen(word) + 1);
	if (stat(word, &st) < 0 || !S_ISREG(st.st_mode))
		return;
	const uint64_t identity[] = {st.st_dev, st.st_ino, (uint64_t)st.st_size, (uint64_t)st.st_mtim.tv_sec,
				     (uint64_t)st.st_mtim.tv_nsec};

	XXH64_update(hash, identity, sizeof identity);
}

/* The kernel and initrd that a machine's file names. */
static void add_machine_to_key(XXH64_state_t *hash, const char *path)
{
	static const char *const members[] = {"kernel_image_path", "initrd_path"};
	json_t *json = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
	const json_t *source = json_object_get(json, "boot-source");

	add_to_key(hash, path);
	for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
		const char *name = json_string_value(json_object_get(source, members[i]));

		if (name)
			add_to_key(hash, name);
	}
	json_decref(json);
}

static void make_key(const struct daemon *d, char key[STOCK_KEY_DIGITS + 1])
{
	XXH64_state_t hash;

	XXH64_reset(&hash, 0);
	XXH64_update(&hash, RIFFLE_VERSION_STRING, sizeof RIFFLE_VERSION_STRING);
	XXH64_update(&hash, d->stage, strlen(d->stage) + 1);
	if (d->machine)
		add_machine_to_key(&hash, d->machine);
	for (char **word = d->arguments; *word; word++) {
		if (!strcmp(*word, "--config") && word[1])
			add_machine_to_key(&hash, word[1]);
		add_to_key(&hash, *word);
	}
	snprintf(key, STOCK_KEY_DIGITS + 1, "%016llx", (unsigned long long)XXH64_digest(&hash));
}

static int write_key(const struct daemon *d, struct riffle_error *error)
{
	int fd = openat(d->stock.directory_fd, "key.part", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	bool good = fd >= 0 && write(fd, d->key, STOCK_KEY_DIGITS) == STOCK_KEY_DIGITS;

	if (fd >= 0)
		close(fd);
	if (!good || renameat(d->stock.directory_fd, "key.part", d->stock.directory_fd, "key") < 0)
		return riffle_fail_system(error, errno, "key", "cannot be written");
	return 0;
}

/* A kernel or an option that changed: items of the old one are nobody's. */
static int follow_changes(struct daemon *d, struct riffle_error *error)
{
	char key[STOCK_KEY_DIGITS + 1];
	int status;

	make_key(d, key);
	if (!strcmp(key, d->key))
		return 0;
	memcpy(d->key, key, sizeof key);
	if ((status = write_key(d, error)))
		return status;
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
	const char *words[ARGUMENTS_MAX + 16] = {
	    "riffle",    "run", "--save-to", directory, "--save-at", !strcmp(d->stage, "booted") ? "mark" : "start",
	    "--console", "none"};
	size_t count = 8;
	sigset_t none;

	if (d->machine) {
		words[count++] = "--config";
		words[count++] = d->machine;
	}
	for (char **word = d->arguments; *word; word++)
		words[count++] = *word;
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(127);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (!d->once) /* whom somebody waits for */
		be_idle();
	int log = openat(d->stock.directory_fd, "log", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (log >= 0) {
		dup2(log, STDOUT_FILENO);
		dup2(log, STDERR_FILENO);
	}
	execv("/proc/self/exe", (char **)words);
	_exit(127);
}

static bool has_room(const struct daemon *d)
{
	struct statvfs fs;
	uint64_t bytes;
	unsigned ready = stock_ready(&d->stock, &bytes);

	if (ready >= d->keep || (d->max_bytes && ready && bytes + bytes / ready > d->max_bytes))
		return false;
	return fstatvfs(d->stock.directory_fd, &fs) < 0 || (uint64_t)fs.f_bavail * fs.f_frsize >= d->min_free;
}

static void begin_item(struct daemon *d)
{
	char path[4096];
	uint64_t id;

	if (getrandom(&id, sizeof id, 0) != sizeof id)
		return;
	snprintf(d->making, sizeof d->making, "%s-%016llx", d->key, (unsigned long long)id);
	snprintf(path, sizeof path, "%s/making/%s", d->directory, d->making);
	if (mkdir(path, 0700) < 0)
		return;
	pid_t parent = getpid(), child = fork();

	if (child == 0)
		run_maker(d, parent, path);
	if (child < 0) {
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
	int fd = openat(d->stock.directory_fd, "log", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
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
	} else {
		unsigned wait = 1u << (d->failures < 6 ? d->failures : 6);

		d->failures++;
		d->retry_at = now() + (wait < FAILURE_WAIT_MAX_S ? wait : FAILURE_WAIT_MAX_S);
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
	struct stock_item item = {.state_fd = -1, .memory_fd = -1};

	if (peer < 0)
		return;
	bool taken = stock_take(&d->stock, &item);
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
	int lock = openat(d->stock.directory_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

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

static int set_up(struct daemon *d, struct riffle_error *error)
{
	sigset_t ends;
	int status;

	if (mkdir(d->directory, 0700) < 0 && errno != EEXIST)
		return riffle_fail_system(error, errno, "directory", "cannot be made");
	if ((status = stock_open(&d->stock, d->directory, error)))
		return status;
	if ((status = take_lock(d, error)))
		return status;
	if ((mkdirat(d->stock.directory_fd, "making", 0700) < 0 && errno != EEXIST) ||
	    (mkdirat(d->stock.directory_fd, "ready", 0700) < 0 && errno != EEXIST))
		return riffle_fail_system(error, errno, "directory", "cannot be made");
	make_key(d, d->key);
	if ((status = write_key(d, error)))
		return status;
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

static int serve(struct daemon *d, struct riffle_error *error)
{
	struct pollfd fds[2] = {{.fd = d->signal_fd, .events = POLLIN}, {.fd = d->listen_fd, .events = POLLIN}};
	uint64_t bytes;
	int status;

	for (;;) {
		look_after_child(d);
		if ((status = follow_changes(d, error)))
			return status;
		if (!d->child && now() >= d->retry_at && has_room(d))
			begin_item(d);
		if (d->once && !d->child && (stock_ready(&d->stock, &bytes) >= d->keep || d->failures))
			return d->failures
				   ? riffle_fail_expected(error, RIFFLE_ERR_IO, "items", "too few could be made",
							  stock_ready(&d->stock, &bytes), d->keep)
				   : 0;
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
	int lock = openat(d->stock.directory_fd, "lock", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
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

/* An item's files under names of the caller's. */
static int take_item(struct daemon *d)
{
	struct riffle_error error;
	int to = -1, taken = 0;
	bool made = mkdir(d->take, 0700) == 0;
	const char *blame = d->take;

	if (!made)
		riffle_fail_system(&error, errno, "--take", "cannot be made");
	else if ((to = open(d->take, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		riffle_fail_system(&error, errno, "--take", "cannot be opened");
	else if (stock_open(&d->stock, d->directory, &error))
		blame = d->directory;
	else if ((taken = stock_move(&d->stock, to, &error)) == 0) {
		blame = d->directory;
		riffle_fail(&error, RIFFLE_ERR_IO, "stock", "is empty");
	}
	stock_close(&d->stock);
	if (to >= 0)
		close(to);
	if (taken > 0)
		return EXIT_SUCCESS;
	if (made)
		rmdir(d->take);
	report_error(blame, &error);
	return EXIT_FAILURE;
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
	return -1;
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
		report_error(d.directory, &error);
	return status ? EXIT_FAILURE : EXIT_SUCCESS;
}
