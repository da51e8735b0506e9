/* SPDX-License-Identifier: Apache-2.0 */
/* The log of riffle-vmm: one line an event, in Firecracker's format, to stdout until it is sent elsewhere. */
#ifndef RIFFLE_API_LOG_H
#define RIFFLE_API_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <riffle/error.h>

enum log_level { LOG_OFF, LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_TRACE };

/*
 * What PUT /logger, --log-path and their like change. A member that is NULL or negative changes nothing, but the level:
 * it is set to LOG_INFO by whoever does not name one.
 */
struct log_settings {
	const char *path; /* a file, created if need be and overwritten from its start, or a FIFO; never waited for */
	enum log_level level;
	int show_level;
	int show_origin;
	const char *module; /* only lines of modules whose path, or the end of it, begins so; copied; "" for all */
};
#define LOG_SETTINGS_NONE ((struct log_settings){.level = LOG_INFO, .show_level = -1, .show_origin = -1})

/*
 * Sets up the process's one log, which lasts as long as the process; `id` is copied. Before any other thread, and
 * before the process is confined: it reads the time zone.
 */
void log_start(const char *id);

/*
 * Errors: IO, with the field "log_path"; nothing is changed then. Lines that other threads write at the same time go to
 * either file.
 */
int log_configure(const struct log_settings *settings, struct riffle_error *error);

/* The level of this word, any case, "Warning" too; -1: it is none. */
int log_level_parse(const char *word);

/* Lines that were lost because their reader was slow or their disk full; lines that were too many of a kind. */
uint64_t log_missed(void);
uint64_t log_suppressed(void);

/* One place in the source that writes lines: ten at once, and one more each half second. */
struct log_site {
	const char *file;
	int line;
	/* the log's own */
	uint64_t last_ns;
	unsigned spent, suppressed;
};

#define LOG_FORMAT __attribute__((format(printf, 4, 5)))

/*
 * log_write(LEVEL, MODULE, FORMAT, ...): for lines that a guest can bring about, so that it cannot fill the disk; what
 * was left out is told before the next line. Debug and Trace are not limited. log_always() is for lines that a user of
 * the host brings about. Any thread, also confined; never waits for the reader. A line feed is added.
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
