/* SPDX-License-Identifier: Apache-2.0 */
/* riffle resume: makes a guest of a snapshot and runs it to its end. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "cli/commands.h"
#include "cli/commands/run_end.h"
#include "host/input.h"
#include "host/shown.h"
#include "host/suggest.h"
#include "machine/snapshot.h"
#include "machine/snapshot_files.h"

static const char help[] =
    "Usage: riffle resume [OPTIONS] DIR\n"
    "\n"
    "Resumes the guest that `riffle snapshot` saved in DIR. Its disks and sockets are\n"
    "opened where they were; memory is read on demand, so DIR/memory must not be changed\n"
    "while the guest runs. A second guest from one snapshot would have the same kernel layout,\n"
    "and is refused.\n"
    "\n"
    "      --share-layout       allow it anyway\n"
    "      --clock-realtime     advance the guest's clock by the time that has passed; without it\n"
    "                           the guest does not notice the pause\n"
    "      --net ID=TAP         connect the guest's network ID (from 0 on) to this host's TAP\n"
    "      --vsock PATH         put its vsock at PATH\n"
    "      --uffd PATH          the listener at the unix socket PATH provides the memory, by\n"
    "                           Firecracker's protocol, instead of DIR/memory\n"
    "      --console WHERE      as in riffle run [stdio]\n"
    "      --snapshot-socket PATH\n"
    "      --track-dirty\n"
    "      --accept-emulation\n"
    "      --boot-timer\n"
    "      --start-time NS      as in riffle run\n"
    "  -h, --help               this text\n"
    "\n"
    "Exit code: as in riffle run.\n";

#define NETS_MAX 8u

struct resume {
	struct machine_load load;
	struct run_options options; /* of the host: console, sockets */
	struct machine_net_override nets[NETS_MAX];
	struct phases phases;
	struct machine *machine;
	char state[4096], memory[4096];
};

static void notice(void *opaque, const char *text)
{
	(void)opaque;
	fprintf(stderr, "riffle: notice: %s\n", text);
}

static void before_run(void *opaque)
{
	struct resume *r = opaque;

	phases_end(&r->phases, "first guest instruction");
	phases_add(&r->phases, "CPU, all threads", phases_process_cpu());
	phases_total(&r->phases);
	if (r->options.machine.boot_timer)
		phases_print(&r->phases, stderr);
}

static int usage(const char *problem, const char *found)
{
	fprintf(stderr, "riffle resume: %s (found '%s'); riffle resume --help shows more\n", SHOWN(problem),
		SHOWN(found));
	return EXIT_USAGE;
}

static bool add_net(struct resume *r, char *text)
{
	char *tap = strchr(text, '=');

	if (!tap || tap == text || !tap[1] || r->load.net_count == NETS_MAX)
		return false;
	*tap = 0;
	r->nets[r->load.net_count++] = (struct machine_net_override){.id = text, .tap = tap + 1};
	return true;
}

static int run(struct resume *r)
{
	const struct machine_observer observer = {.notice = notice, .before_run = before_run, .opaque = r};
	struct run_end end = {.failed = true, .end = VM_END_ERROR};
	struct riffle_error error;
	const char *blame = NULL;
	int status = machine_snapshot_load(&r->machine, &r->load, &observer, &r->phases, NULL, &blame, &error);

	if (!status)
		status = machine_run(r->machine, &end.end, &error);
	end.failed = status || end.end == VM_END_ERROR;
	if (end.failed)
		report_error(blame, &error);
	if (status == RIFFLE_ERR_TRUST)
		fputs("riffle: --share-layout allows it all the same\n", stderr);
	if (!end.failed)
		end.signal = machine_end_signal(r->machine);
	int code = run_end_report(&end, &r->options, r->machine);

	machine_destroy(r->machine);
	return code;
}

/* -1: go on; otherwise the exit code. */
static int parse(struct resume *r, int argc, char **argv)
{
	enum { SHARE = 256, CLOCK, NET, VSOCK, UFFD, CONSOLE, SOCKET, TRACK, ACCEPT, TIMER, START };
	static const struct option options[] = {{"share-layout", no_argument, NULL, SHARE},
						{"clock-realtime", no_argument, NULL, CLOCK},
						{"net", required_argument, NULL, NET},
						{"vsock", required_argument, NULL, VSOCK},
						{"uffd", required_argument, NULL, UFFD},
						{"console", required_argument, NULL, CONSOLE},
						{"snapshot-socket", required_argument, NULL, SOCKET},
						{"track-dirty", no_argument, NULL, TRACK},
						{"accept-emulation", no_argument, NULL, ACCEPT},
						{"boot-timer", no_argument, NULL, TIMER},
						{"start-time", required_argument, NULL, START},
						{"help", no_argument, NULL, 'h'},
						{NULL, 0, NULL, 0}};
	struct machine_config *host = &r->options.machine;
	const char *problem;
	char *end;
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (option) {
		case SHARE:
			r->load.share_layout = true;
			break;
		case CLOCK:
			r->load.clock_realtime = true;
			break;
		case NET:
			if (!add_net(r, optarg))
				return usage("--net must be ID=TAP, at most 8 times", optarg);
			break;
		case VSOCK:
			r->load.vsock_path = optarg;
			break;
		case UFFD:
			r->load.uffd_path = optarg;
			break;
		case CONSOLE:
			if ((problem = run_options_console(optarg, host)))
				return usage(problem, optarg);
			break;
		case SOCKET:
			host->snapshot_socket = optarg;
			host->can_save = true;
			break;
		case TRACK:
			r->load.track_dirty = true;
			break;
		case ACCEPT:
			host->accept_emulation = true;
			break;
		case TIMER:
			host->boot_timer = true;
			break;
		case START:
			r->options.start_time = strtoull(optarg, &end, 10);
			if (*end || end == optarg || *optarg == '-')
				return usage("--start-time is not a number of nanoseconds", optarg);
			break;
		case 'h':
			fputs(help, stdout);
			return EXIT_SUCCESS;
		default:
			say_no_option("resume", argv[optind - 1], options);
			return EXIT_USAGE;
		}
	}
	if (optind + 1 != argc)
		return usage("DIR must be one directory", optind < argc ? argv[optind + 1] : "");
	if ((size_t)snprintf(r->state, sizeof r->state, "%s/state", argv[optind]) >= sizeof r->state ||
	    (size_t)snprintf(r->memory, sizeof r->memory, "%s/memory", argv[optind]) >= sizeof r->memory)
		return usage("DIR is too long", argv[optind]);
	return -1;
}

/* A snapshot names the disks, taps and sockets to open. On false a message was printed. */
static bool trust(const char *path)
{
	struct riffle_error error;
	struct stat st;

	/* a missing file is reported when it is loaded */
	if (stat(path, &st) < 0 || snapshot_file_trust(&st, &error) == 0)
		return true;
	report_error(path, &error);
	return false;
}

int command_resume(int argc, char **argv)
{
	static struct resume r;

	phases_start(&r.phases, 0);
	machine_config_init(&r.options.machine);
	int code = parse(&r, argc, argv);

	if (code >= 0)
		return code;
	snapshot_directory_recover(argv[optind]);
	if (!trust(argv[optind]) || !trust(r.state) || (!r.load.uffd_path && !trust(r.memory)))
		return EXIT_FAILURE;
	if (r.options.start_time)
		phases_start(&r.phases, r.options.start_time);
	r.load.state_path = r.state;
	r.load.memory_path = r.memory;
	r.load.nets = r.nets;
	r.load.host = &r.options.machine;
	/* neither a core file nor another process of this user may show where the guest's kernel lies */
	prctl(PR_SET_DUMPABLE, 0);
	return run(&r);
}
