/* SPDX-License-Identifier: Apache-2.0 */
/* The log of riffle-vmm: one line per event, in Firecracker's format, on stdout unless redirected. */
#ifndef RIFFLE_API_LOG_H
#define RIFFLE_API_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <riffle/error.h>

enum log_level { LOG_OFF, LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_TRACE };

/*
 * Settings changed by PUT /logger, --log-path and similar options. A member that is NULL or negative changes nothing,
 * except the level: callers without one set LOG_INFO.
 */
struct log_settings {
	const char *path; /* a file, created if necessary and overwritten from its start, or a FIFO; never blocks */
	enum log_level level;
	int show_level;
	int show_origin;
	const char *module; /* only lines of modules whose path, or a trailing part of it, starts with this; copied; ""
			       for all */
};
#define LOG_SETTINGS_NONE ((struct log_settings){.level = LOG_INFO, .show_level = -1, .show_origin = -1})

/*
 * Sets up the process's one log, which lasts as long as the process; `id` is copied. Before any other thread, and
 * before the process is confined: it reads the time zone.
 */
void log_start(const char *id);

/*
 * Errors: IO, with the field "log_path"; nothing is changed then. Lines written concurrently by other threads go to
 * either file.
 */
int log_configure(const struct log_settings *settings, struct riffle_error *error);

/* Parses a level in any case, also "Warning"; -1: not a level. */
int log_level_parse(const char *word);

/* The number of lines lost to a slow reader or a full disk, and of lines dropped by the rate limit. */
uint64_t log_missed(void);
uint64_t log_suppressed(void);

/* The rate limit of one place in the source that logs: ten lines at once, and one more each half second. */
struct log_site {
	const char *file;
	int line;
	/* the log's own */
	uint64_t last_ns;
	unsigned spent, suppressed;
};

#define LOG_FORMAT __attribute__((format(printf, 4, 5)))

/*
 * log_write(LEVEL, MODULE, FORMAT, ...): for lines that a guest can cause, limited so that it cannot fill the disk; the
 * number of dropped lines is logged before the next one. Debug and Trace are not limited. log_always() is for lines
 * caused by a user of the host. Any thread, also confined; never waits for the reader. A line feed is added.
 */
#define log_write(level, module, ...) log_at(level, module, true, __VA_ARGS__)
#define log_always(level, module, ...) log_at(level, module, false, __VA_ARGS__)

#define log_at(level, module, limited, ...)                                                                            \
	do {                                                                                                           \
		static struct log_site log_site_ = {.file = __FILE__, .line = __LINE__};                               \
		if (log_wants(level, module))                                                                          \
			log_line(&log_site_, level, limited, __VA_ARGS__);                                             \
	} while (0)

bool log_wants(enum log_level level, const char *module);
void log_line(struct log_site *site, enum log_level level, bool limited, const char *format, ...) LOG_FORMAT;

/* For a handler of a fatal signal: no locks, no formats, no limits. */
void log_from_signal(enum log_level level, const char *text);

#endif
