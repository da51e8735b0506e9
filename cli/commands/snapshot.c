/* SPDX-License-Identifier: Apache-2.0 */
/* riffle snapshot: has a running guest saved into a directory, or says what a snapshot is. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/commands.h"
#include "common/fail.h"
#include "common/hex.h"
#include "host/input.h"
#include "host/shown.h"
#include "host/suggest.h"
#include "machine/snapshot.h"
#include "machine/snapshot_files.h"
#include "machine/snapshot_socket.h"
#include "machine/unix_socket.h"

static const char help[] =
    "Usage: riffle snapshot [OPTIONS] DIR\n"
    "\n"
    "Saves the guest of a `riffle run --snapshot-socket PATH` into DIR, which is created if\n"
    "necessary: the files `memory` and `state`. The guest continues. `riffle resume DIR` resumes\n"
    "it, once.\n"
    "\n"
    "  -s, --socket PATH   the guest's snapshot socket\n"
    "      --changed       DIR has this guest's last snapshot: write what changed since\n"
    "      --end           end the guest once it is saved\n"
    "      --show          show what is in DIR instead\n"
    "  -h, --help          this text\n";

struct snapshot {
	const char *socket, *directory;
	bool changed, end, show;
	bool made; /* the directory */
	int directory_fd;
	struct snapshot_file state, memory; /* new ones */
	int changed_fd;                     /* the memory file that is changed in place */
	char id[SNAPSHOT_ID_DIGITS + 1];    /* of the save that it has; "" */
	char words[SNAPSHOT_MESSAGE_MAX];
	char state_path[4096];
};

#define TAG SNAPSHOT_DIRECTORY_TAG

static int usage(const char *problem, const char *found)
{
	fprintf(stderr, "riffle snapshot: %s (found '%s'); riffle snapshot --help shows more\n", problem, SHOWN(found));
	return EXIT_USAGE;
}

/* One at a time, which is the only one to make files there. */
static int open_directory(struct snapshot *s, struct riffle_error *error)
{
	struct stat st;
	int status;

	s->made = mkdir(s->directory, 0700) == 0;
	if (!s->made && errno != EEXIST)
		return riffle_fail_system(error, errno, "directory", "cannot be made");
	s->directory_fd = open(s->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->directory_fd < 0 || fstat(s->directory_fd, &st) < 0)
		return riffle_fail_system(error, errno, "directory", "cannot be opened");
	if ((status = snapshot_file_trust(&st, error)))
		return status;
	if (flock(s->directory_fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	s->made = false; /* whoever has locked it is about to make files there */
	return errno == EWOULDBLOCK
		   ? riffle_fail(error, RIFFLE_ERR_IO, "directory", "another snapshot is being written there")
		   : riffle_fail_system(error, errno, "directory", "cannot be locked");
}

/* Removes an unfinished file of a killed process. */
static int make_file(const struct snapshot *s, struct snapshot_file *file, const char *name, struct riffle_error *error)
{
	char stale[64];

	snprintf(stale, sizeof stale, "%s." TAG ".part", name);
	unlinkat(s->directory_fd, stale, 0);
	return snapshot_file_make(file, s->directory_fd, name, TAG, error);
}

static int open_changed(struct snapshot *s, struct riffle_error *error)
{
	struct stat st;

	s->changed_fd = openat(s->directory_fd, "memory", O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (s->changed_fd < 0 || fstat(s->changed_fd, &st) < 0)
		return riffle_fail_system(error, errno, "memory", "of the earlier snapshot cannot be opened");
	if (st.st_nlink > 1)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "memory",
				   "has another name (a hard link), under which it would change as well");
	return snapshot_file_trust(&st, error);
}

static int check_name(const struct snapshot *s, const char *name, struct riffle_error *error)
{
	struct stat st;
	int status = snapshot_file_check(s->directory_fd, name, &st, error);

	if (status)
		error->field = name;
	return status;
}

static int open_files(struct snapshot *s, struct riffle_error *error)
{
	int status;

	if ((status = open_directory(s, error)) ||
	    (status = snapshot_files_put_back(s->directory_fd, "memory", "state", TAG, error)) ||
	    (status = check_name(s, "state", error)) || (status = check_name(s, "memory", error)) ||
	    (status = make_file(s, &s->state, "state", error)))
		return status;
	return s->changed ? open_changed(s, error) : make_file(s, &s->memory, "memory", error);
}

/* The memory is changed in place: without a state there is no snapshot, from here on until the new one is there. */
static int forget_state(const struct snapshot *s, struct riffle_error *error)
{
	if (unlinkat(s->directory_fd, "state", 0) < 0 && errno != ENOENT)
		return riffle_fail_system(error, errno, "state", "the earlier one cannot be removed");
	fsync(s->directory_fd);
	return 0;
}

/* What DIR holds must be what the guest's changes count from. */
static int compare_saves(const struct snapshot *s, struct riffle_error *error)
{
	char expected[SNAPSHOT_MESSAGE_MAX];

	snprintf(expected, sizeof expected, SNAPSHOT_LAST " %s", s->id);
	if (!strcmp(s->words, expected))
		return 0;
	return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "--changed",
			   "DIR does not hold this guest's last snapshot, which its changes count from; write all of "
			   "it, without --changed");
}

static int read_id(struct snapshot *s, const char **blame, struct riffle_error *error)
{
	struct machine_snapshot_info info;
	int status;

	if (!s->changed)
		return 0;
	if ((size_t)snprintf(s->state_path, sizeof s->state_path, "%s/state", s->directory) >= sizeof s->state_path)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "DIR", "is too long");
	if ((status = machine_snapshot_look(s->state_path, &info, error))) {
		*blame = s->state_path;
		return status;
	}
	if (!info.has_save)
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "--changed",
				   "DIR has a snapshot of an earlier riffle, which does not tell which save it is");
	snapshot_print_id(s->id, info.save_id);
	return 0;
}

static int ask(struct snapshot *s, int fd, struct riffle_error *error)
{
	const int files[2] = {s->state.fd, s->changed ? s->changed_fd : s->memory.fd};
	char request[SNAPSHOT_MESSAGE_MAX];

	snprintf(request, sizeof request, "%s%s%s%s", s->changed ? SNAPSHOT_CHANGED : SNAPSHOT_ALL,
		 s->changed ? " " : "", s->id, s->end ? SNAPSHOT_AND_END : "");
	return snapshot_ask(fd, request, files, 2, s->words, error);
}

static int talk(struct snapshot *s, struct riffle_error *error)
{
	int fd, status = snapshot_connect(&fd, s->socket, s->words, error);

	if (status)
		return status;
	/* the files are trusted when they are resumed, so whoever writes them must be; the guest may not be savable */
	if (!(status = unix_socket_trust_peer(fd, "socket", error)) &&
	    !strncmp(s->words, SNAPSHOT_LAST, strlen(SNAPSHOT_LAST)) &&
	    (!s->changed || (!(status = compare_saves(s, error)) && !(status = forget_state(s, error)))))
		status = ask(s, fd, error);
	close(fd);
	return status;
}

/* Of a failure nothing stays. */
static void drop_files(struct snapshot *s)
{
	snapshot_file_drop(&s->state);
	snapshot_file_drop(&s->memory);
	if (s->made)
		rmdir(s->directory); /* unless there is a snapshot in it */
}

static int save(struct snapshot *s)
{
	unsigned long long bytes, ns;
	struct riffle_error error;
	const char *blame = s->directory;
	int status = open_files(s, &error);

	if (!status)
		status = read_id(s, &blame, &error);
	if (!status) {
		blame = s->socket;
		status = talk(s, &error);
	}
	if (!status && sscanf(s->words, "saved %llu %llu", &bytes, &ns) != 2) {
		fprintf(stderr, "riffle: %s: the guest was not saved: %s\n", SHOWN(s->socket), SHOWN(s->words));
		drop_files(s);
		return EXIT_FAILURE;
	}
	if (!status) {
		const char *name; /* errors tell it by their field */

		blame = s->directory;
		status = snapshot_files_name(&s->memory, &s->state, &name, &error);
	}
	if (status) {
		report_error(blame, &error);
		drop_files(s);
		return EXIT_FAILURE;
	}
	drop_files(s);
	if (strstr(s->words, SNAPSHOT_UNTRACKED))
		fputs("riffle: notice: --changed: nothing tells what this guest changed, so all of its memory was "
		      "written; riffle run --track-dirty makes KVM track it\n",
		      stderr);
	printf("memory written: %llu KiB; the guest stood still for %.1f ms\n", bytes >> 10, (double)ns / 1e6);
	return EXIT_SUCCESS;
}

static int show_info(const struct snapshot *s)
{
	static const char *const modes[] = {"off", "physical", "kaslr", "fgkaslr"};
	struct machine_snapshot_info info;
	struct riffle_error error;
	char path[4096], id[2 * sizeof info.layout_id + 1];

	if ((size_t)snprintf(path, sizeof path, "%s/state", s->directory) >= sizeof path)
		return usage("DIR is too long", s->directory);
	snapshot_directory_recover(s->directory);
	if (machine_snapshot_look(path, &info, &error)) {
		report_error(path, &error);
		return EXIT_FAILURE;
	}
	riffle_hex(id, info.layout_id, sizeof info.layout_id);
	printf("{\"riffle\": \"%s\", \"created\": %llu.%09llu, \"layout\": \"%s\", \"layout_id\": \"%s\", "
	       "\"uses\": %llu, \"vcpus\": %u, \"memory\": %llu}\n",
	       SHOWN(info.riffle_version), (unsigned long long)(info.created_ns / 1000000000u),
	       (unsigned long long)(info.created_ns % 1000000000u), info.mode ? info.mode : modes[info.layout_mode], id,
	       (unsigned long long)info.uses, info.vcpus, (unsigned long long)info.memory_bytes);
	return EXIT_SUCCESS;
}

int command_snapshot(int argc, char **argv)
{
	enum { CHANGED = 256, END, SHOW };
	static const struct option options[] = {
	    {"socket", required_argument, NULL, 's'}, {"changed", no_argument, NULL, CHANGED},
	    {"end", no_argument, NULL, END},          {"show", no_argument, NULL, SHOW},
	    {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0}};
	struct snapshot s = {.directory_fd = -1, .changed_fd = -1, .state.fd = -1, .memory.fd = -1};
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, "s:h", options, NULL)) != -1) {
		switch (option) {
		case 's':
			s.socket = optarg;
			break;
		case CHANGED:
			s.changed = true;
			break;
		case END:
			s.end = true;
			break;
		case SHOW:
			s.show = true;
			break;
		case 'h':
			fputs(help, stdout);
			return EXIT_SUCCESS;
		default:
			say_no_option("snapshot", argv[optind - 1], options);
			return EXIT_USAGE;
		}
	}
	if (optind + 1 != argc)
		return usage("DIR must be one directory", optind < argc ? argv[optind + 1] : "");
	s.directory = argv[optind];
	if (s.show)
		return s.socket || s.changed || s.end ? usage("--show takes DIR alone", s.directory) : show_info(&s);
	if (!s.socket)
		return usage("--socket is missing", "");
	return save(&s);
}
