/* SPDX-License-Identifier: Apache-2.0 */
/* The log of riffle-vmm: one line an event, in Firecracker's format, to stdout until it is sent elsewhere. */
#include "api/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "api/hidden.h"
#include "common/fail.h"
#include "monitor/core/thread.h"

#define BURST 10u
#define REFILL_NS UINT64_C(500000000) /* for one more line: ten in five seconds */
#define LINE_BYTES 1024u              /* without an allocation */
#define ID_BYTES 65u
#define MODULE_BYTES 128u

static struct {
	char id[ID_BYTES];
	atomic_int fd;
	bool own_fd; /* opened here, not the process's stdout */
	atomic_int level;
	atomic_bool show_level, show_origin, has_module;
	char module[MODULE_BYTES]; /* under the lock, as are all sites */
	pthread_mutex_t lock;
	_Atomic long utc_offset; /* seconds, for those who may not ask the C library */
	_Atomic uint64_t missed, suppressed;
} state = {.id = "anonymous-instance", .fd = STDOUT_FILENO, .level = LOG_INFO, .lock = PTHREAD_MUTEX_INITIALIZER};

static const char *const level_words[] = {"OFF", "ERROR", "WARN", "INFO", "DEBUG", "TRACE"};

int log_level_parse(const char *word)
{
	for (int level = LOG_OFF; level <= LOG_TRACE; level++)
		if (!strcasecmp(word, level_words[level]))
			return level;
	return strcasecmp(word, "warning") ? -1 : LOG_WARN;
}

/*
 * A pipe or terminal that is our stdout may be somebody else's too, to whom it must go on blocking: an open file
 * description of our own, where /proc has one.
 */
static int own_stdout(void)
{
	struct stat st;
	int fd;

	if (fstat(STDOUT_FILENO, &st) < 0 || S_ISREG(st.st_mode))
		return STDOUT_FILENO;
	fd = S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)
		 ? open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)
		 : -1;
	if (fd >= 0) {
		state.own_fd = true;
		return fd;
	}
	int flags = fcntl(STDOUT_FILENO, F_GETFL);

	if (flags >= 0)
		fcntl(STDOUT_FILENO, F_SETFL, flags | O_NONBLOCK);
	return STDOUT_FILENO;
}

void log_start(const char *id)
{
	snprintf(state.id, sizeof state.id, "%s", id);
	tzset();
	if (!state.own_fd)
		state.fd = own_stdout();
}

static int open_log(const char *path, struct riffle_error *error)
{
	/* for reading too: a FIFO opens without a reader then */
	int fd = open(path, O_RDWR | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0666);

	if (fd < 0)
		riffle_fail_system(error, errno, "log_path", "cannot be opened");
	return fd;
}

int log_configure(const struct log_settings *settings, struct riffle_error *error)
{
	int fd = settings->path ? open_log(settings->path, error) : -1;

	if (settings->path && fd < 0)
		return error ? (int)error->status : (int)RIFFLE_ERR_IO;
	pthread_mutex_lock(&state.lock);
	if (fd >= 0 && state.own_fd) {
		/* under the number that other threads may be about to write to */
		dup3(fd, state.fd, O_CLOEXEC);
		close(fd);
	} else if (fd >= 0) {
		state.fd = fd;
		state.own_fd = true;
	}
	state.level = (int)settings->level;
	if (settings->show_level >= 0)
		state.show_level = settings->show_level != 0;
	if (settings->show_origin >= 0)
		state.show_origin = settings->show_origin != 0;
	if (settings->module) {
		snprintf(state.module, sizeof state.module, "%s", settings->module);
		state.has_module = state.module[0] != 0;
	}
	pthread_mutex_unlock(&state.lock);
	return 0;
}

uint64_t log_missed(void)
{
	return state.missed;
}

uint64_t log_suppressed(void)
{
	return state.suppressed;
}

/* Whether a module's path, or what is left of it after some of its parts, begins so: "a::b::c" does with "b::c". */
static bool begins(const char *module, const char *wanted)
{
	while (module) {
		if (!strncmp(module, wanted, strlen(wanted)))
			return true;
		module = strstr(module, "::");
		module = module ? module + 2 : NULL;
	}
	return false;
}

bool log_wants(enum log_level level, const char *module)
{
	if ((int)level > state.level || level == LOG_OFF)
		return false;
	if (!state.has_module)
		return true;
	pthread_mutex_lock(&state.lock);
	bool wanted = begins(module, state.module);

	pthread_mutex_unlock(&state.lock);
	return wanted;
}

/* ---- a line ---- */

struct line {
	char *at, *end;
};

static void add_text(struct line *line, const char *text)
{
	while (*text && line->at < line->end)
		*line->at++ = *text++;
}

static void add_number(struct line *line, uint64_t value, unsigned digits)
{
	char text[21];
	unsigned at = sizeof text - 1;

	text[at] = 0;
	do
		text[--at] = (char)('0' + value % 10);
	while ((value /= 10) || sizeof text - 1 - at < digits);
	add_text(line, text + at);
}

/* Days since 1970-01-01 as year, month and day of the Gregorian calendar; years begin in March while it counts. */
static void add_date(struct line *line, int64_t days)
{
	int64_t since = days + 719468, era = since / 146097;
	int64_t of_era = since % 146097;
	int64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int64_t month = (5 * of_year + 2) / 153;

	add_number(line, (uint64_t)(year_of_era + era * 400 + (month >= 10)), 4);
	add_text(line, "-");
	add_number(line, (uint64_t)(month < 10 ? month + 3 : month - 9), 2);
	add_text(line, "-");
	add_number(line, (uint64_t)(of_year - (153 * month + 2) / 5 + 1), 2);
}

static void add_time(struct line *line)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	int64_t local = now.tv_sec + state.utc_offset;
	int64_t of_day = local % 86400;

	add_date(line, local / 86400);
	add_text(line, "T");
	add_number(line, (uint64_t)(of_day / 3600), 2);
	add_text(line, ":");
	add_number(line, (uint64_t)(of_day / 60 % 60), 2);
	add_text(line, ":");
	add_number(line, (uint64_t)(of_day % 60), 2);
	add_text(line, ".");
	add_number(line, (uint64_t)now.tv_nsec, 9);
}

/* The part of a compiler's file name that is in the source tree: "../api/log.c" is "api/log.c". */
static const char *in_tree(const char *file)
{
	while (!strncmp(file, "../", 3))
		file += 3;
	return file;
}

static void add_prefix(struct line *line, enum log_level level, const char *file, int number)
{
	add_time(line);
	add_text(line, " [");
	add_text(line, state.id);
	add_text(line, ":");
	add_text(line, thread_name());
	if (state.show_level) {
		add_text(line, ":");
		add_text(line, level_words[level]);
	}
	if (state.show_origin) {
		add_text(line, ":");
		add_text(line, in_tree(file));
		add_text(line, ":");
		add_number(line, (uint64_t)number, 1);
	}
	add_text(line, "] ");
}

/* All at once, so that lines of several threads do not mix; what is not taken at once is lost. */
static void write_line(const char *text, size_t bytes)
{
	int saved = errno;
	ssize_t done;

	do
		done = write(state.fd, text, bytes);
	while (done < 0 && errno == EINTR);
	if (done != (ssize_t)bytes)
		state.missed++;
	errno = saved;
}

static void read_utc_offset(void)
{
	time_t now = time(NULL);
	struct tm local;

	if (localtime_r(&now, &local))
		state.utc_offset = local.tm_gmtoff;
}

/* The control character that begins at `text`: of *length bytes, its number in *number; false: there is none. */
static bool is_control(const char *text, size_t bytes, size_t *length, unsigned *number)
{
	*length = 1;
	*number = hidden_character((const unsigned char *)text, bytes, length);
	if (*number)
		return true;
	*length = 1;
	*number = (unsigned char)*text;
	return *number < ' ' || *number == 0x7f;
}

/*
 * Makes one line of `bytes` bytes of text, whatever of a client, a file's name or a guest is in it: control characters
 * are shown as Rust shows them. *text may become another one, which is the caller's to free.
 */
static size_t make_printable(char **text, size_t bytes, bool *allocated)
{
	size_t controls = 0, at = 0, length;
	unsigned number;
	char *shown;

	for (size_t i = 0; i < bytes; i++)
		controls += is_control(*text + i, bytes - i, &length, &number);
	if (!controls)
		return bytes;
	shown = malloc(bytes + controls * sizeof "\\u{ffff}" + 1);
	for (size_t i = 0; i < bytes; i += length) {
		const char *from = *text + i;

		if (!is_control(from, bytes - i, &length, &number)) {
			length = 1;
			if (shown)
				shown[at++] = *from;
		} else if (!shown) {
			memset(*text + i, '?', length);
		} else if (number == '\n' || number == '\r' || number == '\t') {
			at += (size_t)sprintf(shown + at, "\\%c", number == '\n' ? 'n' : number == '\r' ? 'r' : 't');
		} else {
			at += (size_t)sprintf(shown + at, "\\u{%x}", number);
		}
	}
	if (!shown)
		return bytes;
	if (*allocated)
		free(*text);
	*allocated = true;
	*text = shown;
	return at;
}

__attribute__((format(printf, 3, 0))) static void format_line(const struct log_site *site, enum log_level level,
							      const char *format, va_list arguments)
{
	char small[LINE_BYTES], *text = small;
	bool allocated = false;
	size_t room = sizeof small;
	va_list again;

	read_utc_offset();
	struct line line = {small, small + sizeof small - 1};

	add_prefix(&line, level, site->file, site->line);
	size_t prefix = (size_t)(line.at - small);

	va_copy(again, arguments);
	int length = vsnprintf(small + prefix, room - prefix, format, again);

	va_end(again);
	if (length < 0)
		return;
	size_t bytes = prefix + (size_t)length;

	if (bytes + 1 > room) {
		text = malloc(bytes + 2);
		if (!text) { /* the beginning, then */
			text = small;
			bytes = room - 1;
		} else {
			allocated = true;
			memcpy(text, small, prefix);
			vsnprintf(text + prefix, bytes + 1 - prefix, format, arguments);
		}
	}
	bytes = make_printable(&text, bytes, &allocated);
	text[bytes] = '\n';
	write_line(text, bytes + 1);
	if (allocated)
		free(text);
}

static void format_plain(const struct log_site *site, enum log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void format_plain(const struct log_site *site, enum log_level level, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	format_line(site, level, format, arguments);
	va_end(arguments);
}

static uint64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Whether the site may write one more line; *suppressed: how many it was refused before. */
static bool admit(struct log_site *site, unsigned *suppressed)
{
	uint64_t now = monotonic_ns();

	pthread_mutex_lock(&state.lock);
	uint64_t refilled = site->spent ? (now - site->last_ns) / REFILL_NS : 0;

	if (!site->spent || refilled >= site->spent) {
		site->spent = 0;
		site->last_ns = now;
	} else {
		site->spent -= (unsigned)refilled;
		site->last_ns += refilled * REFILL_NS;
	}
	bool admitted = site->spent < BURST;

	if (admitted) {
		site->spent++;
		*suppressed = site->suppressed;
		site->suppressed = 0;
	} else {
		site->suppressed++;
		state.suppressed++;
	}
	pthread_mutex_unlock(&state.lock);
	return admitted;
}

void log_line(struct log_site *site, enum log_level level, bool limited, const char *format, ...)
{
	unsigned suppressed = 0;
	va_list arguments;

	if (limited && level <= LOG_INFO && !admit(site, &suppressed))
		return;
	if (suppressed && state.level >= LOG_WARN)
		format_plain(site, LOG_WARN, "%u messages were suppressed due to rate limiting", suppressed);
	va_start(arguments, format);
	format_line(site, level, format, arguments);
	va_end(arguments);
}

void log_from_signal(enum log_level level, const char *text)
{
	char small[LINE_BYTES];
	struct line line = {small, small + sizeof small - 1};

	if ((int)level > state.level)
		return;
	add_prefix(&line, level, __FILE__, __LINE__);
	add_text(&line, text);
	*line.at++ = '\n';
	write_line(small, (size_t)(line.at - small));
}
