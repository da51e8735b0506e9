/* SPDX-License-Identifier: Apache-2.0 */
/* riffle snapshot: has a running guest saved into a directory, or says what a snapshot is. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/input.h"
#include "cli/shown.h"
#include "cli/suggest.h"
#include "common/fail.h"
#include "machine/snapshot.h"
#include "machine/snapshot_socket.h"

static const char help[] = "Usage: riffle snapshot [OPTIONS] DIR\n"
			   "\n"
			   "Saves the guest of a `riffle run --snapshot-socket PATH` into DIR, which is made if need\n"
			   "be: the files `memory` and `state`. The guest goes on. `riffle resume DIR` makes a guest\n"
			   "of it, once.\n"
			   "\n"
			   "  -s, --socket PATH   the guest's snapshot socket\n"
			   "      --changed       DIR has an earlier snapshot of this guest: write what changed since\n"
			   "      --end           end the guest once it is saved\n"
			   "      --show          say what is in DIR instead\n"
			   "  -h, --help          this text\n";

struct snapshot {
	const char *socket, *directory;
	bool changed, end, show;
	int directory_fd, state_fd, memory_fd;
	char words[SNAPSHOT_MESSAGE_MAX];
};

#define STATE_PART ".state.part"
#define MEMORY_PART ".memory.part"

static int usage(const char *problem, const char *found)
{
	fprintf(stderr, "riffle snapshot: %s (found '%s'); riffle snapshot --help tells more\n", problem, SHOWN(found));
	return EXIT_USAGE;
}

static int open_files(struct snapshot *s, struct riffle_error *error)
{
	const int fresh = O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW;

	if (mkdir(s->directory, 0700) < 0 && errno != EEXIST)
		return riffle_fail_system(error, errno, "directory", "cannot be made");
	s->directory_fd = open(s->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->directory_fd < 0)
		return riffle_fail_system(error, errno, "directory", "cannot be opened");
	s->state_fd = openat(s->directory_fd, STATE_PART, fresh, 0600);
	if (s->state_fd < 0)
		return riffle_fail_system(error, errno, "state", "cannot be made");
	s->memory_fd = s->changed ? openat(s->directory_fd, "memory", O_RDWR | O_CLOEXEC | O_NOFOLLOW)
				  : openat(s->directory_fd, MEMORY_PART, fresh, 0600);
	if (s->memory_fd < 0)
		return riffle_fail_system(error, errno, "memory",
					  s->changed ? "of the earlier snapshot cannot be opened" : "cannot be made");
	return 0;
}

/* Without a state there is no snapshot: from here on until the new one is there. */
static int forget_state(const struct snapshot *s, struct riffle_error *error)
{
	if (unlinkat(s->directory_fd, "state", 0) < 0 && errno != ENOENT)
		return riffle_fail_system(error, errno, "state", "the earlier one cannot be removed");
	fsync(s->directory_fd);
	return 0;
}

static int ask(struct snapshot *s, int fd, struct riffle_error *error)
{
	const int files[2] = {s->state_fd, s->memory_fd};
	char text[SNAPSHOT_MESSAGE_MAX];
	struct iovec part = {.iov_base = text};
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof files)];
	} control = {0};
	struct msghdr message = {
	    .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.bytes};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	part.iov_len = (size_t)snprintf(text, sizeof text, "%s%s", s->changed ? SNAPSHOT_CHANGED : SNAPSHOT_ALL,
					s->end ? SNAPSHOT_AND_END : "");
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof files);
	memcpy(CMSG_DATA(header), files, sizeof files);
	if (sendmsg(fd, &message, MSG_NOSIGNAL) < 0)
		return riffle_fail_system(error, errno, "socket", "cannot be written");
	ssize_t got = recv(fd, s->words, sizeof s->words - 1, 0);

	if (got < 0)
		return riffle_fail_system(error, errno, "socket", "cannot be read");
	s->words[got] = 0;
	if (!got)
		return riffle_fail(error, RIFFLE_ERR_IO, "guest", "ended before it was saved");
	return 0;
}

static int talk(struct snapshot *s, struct riffle_error *error)
{
	struct sockaddr_un address;
	int status = snapshot_address(&address, s->socket, error);
	int fd = status ? -1 : socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (status)
		return status;
	if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) < 0)
		status = riffle_fail_system(error, errno, "socket", "cannot be connected to");
	else if (!s->changed || !(status = forget_state(s, error)))
		status = ask(s, fd, error);
	if (fd >= 0)
		close(fd);
	return status;
}

static int name_files(const struct snapshot *s, struct riffle_error *error)
{
	int status = s->changed ? 0 : forget_state(s, error);

	if (status)
		return status;
	if ((!s->changed && renameat(s->directory_fd, MEMORY_PART, s->directory_fd, "memory") < 0) ||
	    renameat(s->directory_fd, STATE_PART, s->directory_fd, "state") < 0 || fsync(s->directory_fd) < 0)
		return riffle_fail_system(error, errno, "rename", "failed");
	return 0;
}

static void drop_files(const struct snapshot *s)
{
	if (s->directory_fd < 0)
		return;
	unlinkat(s->directory_fd, STATE_PART, 0);
	unlinkat(s->directory_fd, MEMORY_PART, 0);
}

static int save(struct snapshot *s)
{
	unsigned long long bytes, ns;
	struct riffle_error error;
	const char *blame = s->directory;
	int status = open_files(s, &error);

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
		blame = s->directory;
		status = name_files(s, &error);
	}
	if (status) {
		report_error(blame, &error);
		drop_files(s);
		return EXIT_FAILURE;
	}
	printf("memory written: %llu KiB; the guest stood still for %.1f ms\n", bytes >> 10, (double)ns / 1e6);
	return EXIT_SUCCESS;
}

static int show_info(const struct snapshot *s)
{
	static const char *const modes[] = {"off", "physical", "kaslr", "fgkaslr"};
	struct machine_snapshot_info info;
	struct riffle_error error;
	char path[4096];

	if ((size_t)snprintf(path, sizeof path, "%s/state", s->directory) >= sizeof path)
		return usage("DIR is too long", s->directory);
	if (machine_snapshot_look(path, &info, &error)) {
		report_error(path, &error);
		return EXIT_FAILURE;
	}
	printf("{\"riffle\": \"%s\", \"created\": %llu.%09llu, \"layout\": \"%s\", \"layout_id\": \"",
	       SHOWN(info.riffle_version), (unsigned long long)(info.created_ns / 1000000000u),
	       (unsigned long long)(info.created_ns % 1000000000u), modes[info.layout_mode]);
	for (size_t i = 0; i < sizeof info.layout_id; i++)
		printf("%02x", info.layout_id[i]);
	printf("\", \"uses\": %llu, \"vcpus\": %u, \"memory\": %llu}\n", (unsigned long long)info.uses, info.vcpus,
	       (unsigned long long)info.memory_bytes);
	return EXIT_SUCCESS;
}

int command_snapshot(int argc, char **argv)
{
	enum { CHANGED = 256, END, SHOW };
	static const struct option options[] = {
	    {"socket", required_argument, NULL, 's'}, {"changed", no_argument, NULL, CHANGED},
	    {"end", no_argument, NULL, END},          {"show", no_argument, NULL, SHOW},
	    {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0}};
	struct snapshot s = {.directory_fd = -1, .state_fd = -1, .memory_fd = -1};
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
