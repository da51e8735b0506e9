/* SPDX-License-Identifier: Apache-2.0 */
/* riffle-vmm: from Firecracker's command line to a VMM that runs, and from its end to Firecracker's exit code. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "api/arguments.h"
#include "api/log.h"
#include "api/metrics.h"
#include "api/own_worker.h"
#include "api/process.h"
#include "api/serve.h"
#include "api/watch.h"
#include "host/input.h"

#define MODULE "firecracker"
#define BACKLOG 128 /* clients that connect while others are served */
#define FILE_MAX (64u << 20)

/* Why the process ends, when it is no machine's end. */
struct failure {
	enum firecracker_exit code;
	char text[2048];
};

__attribute__((format(printf, 3, 4))) static bool fail(struct failure *failure, enum firecracker_exit code,
						       const char *format, ...)
{
	va_list arguments;

	failure->code = code;
	va_start(arguments, format);
	vsnprintf(failure->text, sizeof failure->text, format, arguments);
	va_end(arguments);
	return false;
}

/* "No such file or directory (os error 2)", as Firecracker's users know it. */
static const char *os_error(int number)
{
	static char text[128];

	snprintf(text, sizeof text, "%s (os error %d)", strerror(number), number);
	return text;
}

/* A whole file, ended by NUL; the process ends when it cannot be read. */
static char *read_file(const char *path, const char *what)
{
	int fd = input_open_text(path);
	size_t room = 4096, bytes = 0;
	char *text = fd < 0 ? NULL : malloc(room);
	ssize_t got;

	if (fd < 0)
		process_panic("Unable to open or read from the %s: %s (os error %d)", what, input_open_problem(errno),
			      errno);
	while (text && (got = read(fd, text + bytes, room - bytes - 1)) != 0) {
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			process_panic("Unable to open or read from the %s: %s", what, os_error(errno));
		bytes += (size_t)got;
		if (bytes > FILE_MAX)
			process_panic("Unable to open or read from the %s: it is larger than %u bytes", what, FILE_MAX);
		if (bytes + 1 < room)
			continue;
		char *larger = realloc(text, room *= 2);

		if (!larger)
			free(text);
		text = larger;
	}
	close(fd);
	if (!text)
		process_panic("Unable to open or read from the %s: out of memory", what);
	text[bytes] = 0;
	if (strlen(text) != bytes)
		process_panic("Unable to open or read from the %s: it has zero bytes", what);
	return text;
}

static uint64_t number(const char *text, uint64_t initial, const char *option)
{
	uint64_t value = initial;

	if (text && !arguments_number(text, SIZE_MAX / 2, &value))
		process_panic("'%s' parameter expected to be of 'usize' type.", option);
	return value;
}

static bool start_log(const struct arguments *a, struct failure *failure)
{
	struct log_settings settings = LOG_SETTINGS_NONE;
	struct riffle_error error;

	settings.path = a->log_path;
	settings.module = a->module;
	if (a->level) {
		int level = log_level_parse(a->level);

		if (level < 0)
			return fail(
			    failure, FIRECRACKER_EXIT_BAD_LEVEL,
			    "Invalid value for logger level: %s. Possible values: [Off, Error, Warning, Info, Debug, "
			    "Trace]",
			    a->level);
		settings.level = (enum log_level)level;
	}
	if (a->show_level)
		settings.show_level = 1;
	if (a->show_log_origin)
		settings.show_origin = 1;
	if (log_configure(&settings, &error))
		return fail(failure, FIRECRACKER_EXIT_ERROR,
			    "Could not initialize logger: Failed to open target file: %s", os_error(error.sys_errno));
	return true;
}

/* The descriptor table at its largest size: growing it while the guest runs takes an RCU grace period. */
static void resize_descriptor_table(void)
{
	long most = sysconf(_SC_OPEN_MAX);
	int fd = most > 3 && most <= 1 << 20 ? dup2(STDIN_FILENO, (int)most - 1) : -1;

	if (fd >= 0)
		close(fd);
}

static bool refuse(const struct arguments *a, struct failure *failure)
{
	if (a->enable_pci)
		return fail(failure, FIRECRACKER_EXIT_ERROR,
			    "--enable-pci: there is no PCI in riffle's machines: devices are virtio-mmio");
	if (a->seccomp_filter)
		return fail(
		    failure, FIRECRACKER_EXIT_ERROR,
		    "Seccomp error: --seccomp-filter: filters are compiled into riffle-vmm, one for each kind of "
		    "thread, and cannot be replaced; leave the option out");
	return true;
}

static int listen_at(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd;

	if (!*path || strlen(path) >= sizeof address.sun_path) {
		errno = *path ? ENAMETOOLONG : EINVAL;
		return -1;
	}
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && (bind(fd, (const struct sockaddr *)&address, sizeof address) < 0 || listen(fd, BACKLOG) < 0)) {
		int saved = errno;

		close(fd);
		errno = saved;
		return -1;
	}
	return fd;
}

/* A file that nobody listens at is what a process leaves that was killed: the next one cannot know whose it is. */
static void say_why_not(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct stat st;
	int fd;

	if (strlen(path) >= sizeof address.sun_path || lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) < 0 && errno == ECONNREFUSED)
		log_always(LOG_ERROR, MODULE,
			   "Nobody listens at %s: a process that ended left it behind. Remove it, and start again.",
			   path);
	if (fd >= 0)
		close(fd);
}

static bool open_socket(const struct arguments *a, struct serve_options *options, struct failure *failure)
{
	const char *wrong;

	options->socket_path = a->api_sock ? a->api_sock : FIRECRACKER_DEFAULT_SOCKET;
	if (!watch_startup(a->start_time_us, a->start_time_cpu_us, a->parent_cpu_time_us, &wrong))
		process_panic("'%s' parameter expected to be of 'u64' type.", wrong);
	options->listener = listen_at(options->socket_path);
	if (options->listener >= 0)
		return true;
	if (errno != EADDRINUSE)
		return fail(failure, FIRECRACKER_EXIT_ERROR,
			    "RunWithApiError error: Failed to bind and run the HTTP server: IO error: %s",
			    os_error(errno));
	say_why_not(options->socket_path);
	return fail(failure, FIRECRACKER_EXIT_ERROR,
		    "RunWithApiError error: Failed to open the API socket at: %s. Check that it is not already used.",
		    options->socket_path);
}

static bool run(const struct arguments *a, struct failure *failure)
{
	struct serve_options options = {.id = a->id ? a->id : FIRECRACKER_DEFAULT_ID,
					.listener = -1,
					.boot_timer = a->boot_timer,
					.unconfined = a->no_seccomp,
					.one_time_snapshots = a->one_time_snapshots,
					.accept_emulation = a->accept_emulation || getenv("RIFFLE_ACCEPT_EMULATION")};
	struct riffle_error error;
	char problem[1600] = "";

	if (!arguments_id_is_valid(options.id))
		process_panic("Invalid instance ID: %s", options.id);
	log_start(options.id);
	if (!start_log(a, failure))
		return false;
	log_always(LOG_INFO, MODULE, "Running Firecracker v" FIRECRACKER_VERSION);
	if (process_handle_signals(&error))
		return fail(failure, FIRECRACKER_EXIT_ERROR, "Failed to register signal handlers: %s",
			    os_error(error.sys_errno));
	resize_descriptor_table();
	/* neither a core file nor another process of this user may show where the guest's kernel lies */
	prctl(PR_SET_DUMPABLE, 0);
	if (a->metrics_path && metrics_configure(a->metrics_path, NULL, NULL, 0, &error))
		return fail(
		    failure, FIRECRACKER_EXIT_ERROR,
		    "Could not initialize metrics: Cannot initialize the metrics system due to bad user input: %s",
		    os_error(error.sys_errno));
	if (!refuse(a, failure))
		return false;
	options.config = a->config_file ? read_file(a->config_file, "configuration file") : NULL;
	options.metadata = a->metadata ? read_file(a->metadata, "mmds content file") : NULL;
	options.payload_max = (size_t)number(a->payload_size, FIRECRACKER_PAYLOAD_MAX, "http-api-max-payload-size");
	options.mmds_max = (size_t)number(a->mmds_size, options.payload_max, "mmds-size-limit");
	if (!a->no_api && !open_socket(a, &options, failure))
		return false;
	failure->code = serve_run(&options, problem, sizeof problem);
	metrics_flush(NULL);
	if (!failure->code)
		return true;
	return fail(failure, failure->code, "%s error: %s", a->no_api ? "RunWithoutApiError" : "RunWithApiError",
		    problem[0] ? problem : "MicroVMStopped with an error: GenericError");
}

static bool serve(int argc, char **argv, struct failure *failure)
{
	struct arguments a;
	char problem[1024];

	if (!arguments_parse(&a, argc, argv, problem, sizeof problem))
		return fail(failure, FIRECRACKER_EXIT_ARGUMENTS,
			    "Arguments parsing error: %s\n\nFor more information try --help.", problem);
	if (a.help || a.version)
		puts("Firecracker v" FIRECRACKER_VERSION "\n");
	if (a.help)
		arguments_print_help();
	else if (!a.version && a.snapshot_version)
		puts("v" FIRECRACKER_SNAPSHOT_VERSION);
	if (a.help || a.version || a.snapshot_version)
		return true;
	if (a.describe_snapshot) {
		if (!serve_describe_snapshot(a.describe_snapshot, problem, sizeof problem))
			return fail(failure, FIRECRACKER_EXIT_ERROR, "When printing Snapshot Data format: %s", problem);
		puts(problem);
		return true;
	}
	return run(&a, failure);
}

int main(int argc, char **argv)
{
	struct failure failure = {.code = FIRECRACKER_EXIT_OK};
	bool served;
	int code;

	if (own_worker(argc, argv, &code))
		return code;
	open_standard_descriptors();
	log_start(FIRECRACKER_DEFAULT_ID);
	served = serve(argc, argv, &failure);
	fflush(stdout);
	if (served) {
		log_always(LOG_INFO, MODULE, "Firecracker exiting successfully. exit_code=0");
		return FIRECRACKER_EXIT_OK;
	}
	log_always(LOG_ERROR, MODULE, "%s", failure.text);
	fprintf(stderr, "Error: %s\n", failure.text);
	log_always(LOG_ERROR, MODULE, "Firecracker exiting with error. exit_code=%d", (int)failure.code);
	return (int)failure.code;
}
