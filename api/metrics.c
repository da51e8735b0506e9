/* SPDX-License-Identifier: Apache-2.0 */
/* The metrics of riffle-vmm: one JSON object a line, with Firecracker's groups and names. */
#include "api/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "api/log.h"
#include "api/metrics_groups.h"
#include "api/metrics_line.h"
#include "common/fail.h"
#include "monitor/event/loop.h"

#define LINE_BYTES (96u << 10) /* of the largest machine about 60 KiB; pages that no line reaches are never touched */
#define SOURCES_MAX 128u
#define PERIOD_NS UINT64_C(60000000000)
#define NAME_LENGTH_MAX 159u
#define NAME_BYTES (NAME_LENGTH_MAX + 5)

/* One struct of counters; what the line being made shows of it, and what earlier ones told. */
struct source {
	int kind;
	const char *id;
	const counter *counters;
	unsigned slots;
	uint64_t *told, *seen;
};

static counter own[METRIC_OWN_COUNT];
static uint64_t own_told[METRIC_OWN_COUNT], own_seen[METRIC_OWN_COUNT];

static char line_made[LINE_BYTES];
static char rest[LINE_BYTES]; /* what the reader did not take of a line, before which no other may be written */

static struct {
	int fd;       /* -1: nowhere */
	char *header; /* members that each line begins with */
	pthread_mutex_t lock;
	_Atomic bool writing; /* somebody is between making a line and having told it */
	size_t rest_bytes;
	struct source sources[SOURCES_MAX];
	unsigned source_count;
	struct metrics_layout layout;
	enum metrics_origin origin;
	uint64_t uses, bad_items;
	bool has_layout;
	void (*update)(void *opaque);
	void *update_opaque;
	struct loop *loop;
	struct loop_timer timer;
	bool frozen;
} state = {.fd = -1, .lock = PTHREAD_MUTEX_INITIALIZER};

void metrics_add(enum metric metric, uint64_t more)
{
	atomic_fetch_add_explicit(&own[metric], more, memory_order_relaxed);
}

void metrics_store(enum metric metric, uint64_t value)
{
	atomic_store_explicit(&own[metric], value, memory_order_relaxed);
}

uint64_t metrics_get(enum metric metric)
{
	return counter_get(&own[metric]);
}

/* ---- where lines go ---- */

static char *make_header(const char *id, const struct metrics_property *properties, unsigned count)
{
	size_t room = 64 + (id ? 6 * strlen(id) : 0);

	for (unsigned i = 0; i < count; i++)
		room += 8 + 6 * (strlen(properties[i].name) + strlen(properties[i].value));
	char *text = malloc(room + 1);
	struct metrics_line line = {.text = text, .room = room};

	if (!text)
		return NULL;
	if (id) {
		metrics_line_text(&line, ",\"id\":");
		metrics_line_string(&line, id);
	}
	if (count) {
		metrics_line_text(&line, ",\"properties\":{");
		for (unsigned i = 0; i < count; i++) {
			metrics_line_member(&line, properties[i].name);
			metrics_line_string(&line, properties[i].value);
		}
		metrics_line_text(&line, "}");
	}
	text[line.bytes] = 0;
	return text;
}

int metrics_configure(const char *path, const char *id, const struct metrics_property *properties, unsigned count,
		      struct riffle_error *error)
{
	if (state.fd >= 0)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "metrics_path", "was given before");
	char *header = make_header(id, properties, count);

	if (!header)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "metrics", "out of memory");
	int fd = open(path, O_RDWR | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0666);

	if (fd < 0) {
		free(header);
		return riffle_fail_system(error, errno, "metrics_path", "cannot be opened");
	}
	state.header = header;
	state.fd = fd;
	return 0;
}

bool metrics_configured(void)
{
	return state.fd >= 0;
}

/* ---- what is counted ---- */

static unsigned slots_of(const struct metrics_group *group)
{
	unsigned slots = 0;

	for (const char *const *field = group->fields; *field; field++)
		slots += **field == '*' ? 3 : 1;
	return slots;
}

static const struct metrics_group *group_of(int kind)
{
	for (unsigned i = 0; i < metrics_group_count; i++)
		if (metrics_groups[i].kind == kind)
			return &metrics_groups[i];
	return NULL;
}

struct watching {
	int status;
};

static void watch(void *opaque, enum machine_counters kind, const char *id, const counter *counters)
{
	struct watching *watching = opaque;
	unsigned slots = slots_of(group_of((int)kind));

	if (state.source_count == SOURCES_MAX)
		return;
	uint64_t *told = calloc(2 * (size_t)slots, sizeof *told);

	if (!told) {
		watching->status = RIFFLE_ERR_MEMORY;
		return;
	}
	state.sources[state.source_count] = (struct source){
	    .kind = (int)kind, .id = id, .counters = counters, .slots = slots, .told = told, .seen = told + slots};
	state.source_count++;
}

int metrics_watch_machine(struct machine *machine, struct riffle_error *error)
{
	struct watching watching = {0};

	pthread_mutex_lock(&state.lock);
	machine_each_counters(machine, watch, &watching);
	pthread_mutex_unlock(&state.lock);
	return watching.status ? riffle_fail(error, RIFFLE_ERR_MEMORY, "metrics", "out of memory") : 0;
}

void metrics_forget_machine(void)
{
	pthread_mutex_lock(&state.lock);
	while (state.source_count)
		free(state.sources[--state.source_count].told);
	pthread_mutex_unlock(&state.lock);
}

void metrics_before_line(void (*update)(void *opaque), void *opaque)
{
	pthread_mutex_lock(&state.lock);
	state.update = update;
	state.update_opaque = opaque;
	pthread_mutex_unlock(&state.lock);
}

void metrics_set_origin(enum metrics_origin origin, uint64_t uses)
{
	pthread_mutex_lock(&state.lock);
	state.origin = origin;
	state.uses = uses;
	pthread_mutex_unlock(&state.lock);
}

void metrics_count_bad_item(void)
{
	pthread_mutex_lock(&state.lock);
	state.bad_items++;
	pthread_mutex_unlock(&state.lock);
}

void metrics_set_layout(const struct metrics_layout *layout)
{
	pthread_mutex_lock(&state.lock);
	state.layout = *layout;
	state.has_layout = true;
	pthread_mutex_unlock(&state.lock);
}

/* ---- a line ---- */

/* What a group shows: increments where that is what they are. */
static void take_slots(const char *const *fields, const uint64_t *seen, const uint64_t *told, uint64_t *values)
{
	for (; *fields; fields++) {
		if (**fields == '*') {
			*values++ = *seen++;
			*values++ = *seen++;
			told += 2;
		}
		*values++ = *seen++ - (**fields == '=' ? 0 : *told);
		told++;
	}
}

/* Adds up what several devices show. The extremes of all of them are those of no device, and are left out, as in
 * Firecracker; but vCPUs are one group, which has them. */
static void merge(const char *const *fields, const uint64_t *values, uint64_t *sum, bool extremes)
{
	for (; *fields; fields++) {
		if (**fields == '*') {
			if (extremes && *values && (!*sum || *values < *sum))
				*sum = *values;
			sum++, values++;
			if (extremes && *values > *sum)
				*sum = *values;
			sum++, values++;
		}
		*sum++ += *values++;
	}
}

static void add_latency(struct metrics_line *line, const uint64_t *values)
{
	static const char *const names[] = {"min_us", "max_us", "sum_us"};

	metrics_line_text(line, "{");
	for (unsigned i = 0; i < 3; i++) {
		metrics_line_member(line, names[i]);
		metrics_line_number(line, values[i]);
	}
	metrics_line_text(line, "}");
}

static void add_group(struct metrics_line *line, const char *name, const char *const *fields, const uint64_t *values)
{
	metrics_line_member(line, name);
	metrics_line_text(line, "{");
	for (; *fields; fields++) {
		bool latency = **fields == '*';

		metrics_line_member(line, *fields + (latency || **fields == '='));
		if (latency)
			add_latency(line, values);
		else
			metrics_line_number(line, *values);
		values += latency ? 3 : 1;
	}
	metrics_line_text(line, "}");
}

/*
 * "block_ID". One that is longer than NAME_LENGTH_MAX ends before the character that goes beyond that, and then with
 * the source's number, so that no two are the same: such a name is always longer than any that was not cut, since at
 * most three bytes of a character are missing of the length and the number has four.
 */
static void name_of(char *name, const char *group, const char *id, unsigned number)
{
	size_t at = 0;

	for (const char *part = group; *part && at < NAME_LENGTH_MAX - 1; part++)
		name[at++] = *part;
	name[at++] = '_';
	while (*id && at < NAME_LENGTH_MAX)
		name[at++] = *id++;
	if (*id) {
		for (; ((unsigned char)*id & 0xc0) == 0x80 && at; id--)
			at--;
		name[at++] = '~';
		for (unsigned unit = 100; unit; unit /= 10)
			name[at++] = (char)('0' + number / unit % 10);
	}
	name[at] = 0;
}

/* The sum of the group's devices, then each that has a name. */
static void add_devices(struct metrics_line *line, const struct metrics_group *group)
{
	uint64_t sum[METRICS_SLOTS_MAX] = {0}, values[METRICS_SLOTS_MAX];
	bool named = group->kind == MACHINE_COUNTERS_BLOCK || group->kind == MACHINE_COUNTERS_NET ||
		     group->kind == MACHINE_COUNTERS_PMEM;
	char name[NAME_BYTES];

	for (unsigned i = 0; i < state.source_count; i++) {
		const struct source *source = &state.sources[i];

		if (source->kind != group->kind)
			continue;
		take_slots(group->fields, source->seen, source->told, values);
		merge(group->fields, values, sum, !named);
	}
	add_group(line, group->name, group->fields, sum);
	for (unsigned i = 0; named && i < state.source_count; i++) {
		const struct source *source = &state.sources[i];

		if (source->kind != group->kind || !source->id)
			continue;
		take_slots(group->fields, source->seen, source->told, values);
		name_of(name, group->name, source->id, i);
		add_group(line, name, group->fields, values);
	}
}

static void add_decimals(struct metrics_line *line, double value)
{
	uint64_t hundredths = value > 0 && value < 1e6 ? (uint64_t)(value * 100 + 0.5) : 0;

	metrics_line_number(line, hundredths / 100);
	metrics_line_text(line, ".");
	metrics_line_number(line, hundredths / 10 % 10);
	metrics_line_number(line, hundredths % 10);
}

static void add_layout(struct metrics_line *line)
{
	static const char *const origins[] = {[METRICS_FRESH] = "fresh",
					      [METRICS_FROM_SNAPSHOT] = "snapshot",
					      [METRICS_FROM_STOCK] = "stock",
					      [METRICS_STOCK_EMPTY] = "fresh"};

	metrics_line_member(line, "riffle");
	metrics_line_text(line, "{");
	metrics_line_member(line, "mode");
	metrics_line_string(line, state.layout.mode);
	metrics_line_member(line, "virtual_bits");
	add_decimals(line, state.layout.virtual_bits);
	metrics_line_member(line, "physical_bits");
	add_decimals(line, state.layout.physical_bits);
	metrics_line_member(line, "chunks");
	metrics_line_number(line, state.layout.chunks);
	metrics_line_member(line, "load_us");
	metrics_line_number(line, state.layout.load_us);
	metrics_line_member(line, "start_us");
	metrics_line_number(line, state.layout.start_us);
	metrics_line_member(line, "origin");
	metrics_line_string(line, origins[state.origin]);
	metrics_line_member(line, "shared_layout_restores");
	metrics_line_number(line, state.uses != 0);
	metrics_line_member(line, "stock_empty");
	metrics_line_number(line, state.origin == METRICS_STOCK_EMPTY);
	metrics_line_member(line, "stock_bad_items");
	metrics_line_number(line, state.bad_items);
	metrics_line_text(line, "}");
}

/* Everything at one moment, so that what is counted meanwhile is the next line's. */
static void look(void)
{
	if (state.update)
		state.update(state.update_opaque);
	metrics_store(METRIC(logger, missed_log_count), log_missed());
	metrics_store(METRIC(logger, rate_limited_log_count), log_suppressed());
	for (unsigned i = 0; i < METRIC_OWN_COUNT; i++)
		own_seen[i] = counter_get(&own[i]);
	for (unsigned i = 0; i < state.source_count; i++)
		for (unsigned slot = 0; slot < state.sources[i].slots; slot++)
			state.sources[i].seen[slot] = counter_get(&state.sources[i].counters[slot]);
}

/* The line got through. */
static void told(void)
{
	memcpy(own_told, own_seen, sizeof own_told);
	for (unsigned i = 0; i < state.source_count; i++)
		memcpy(state.sources[i].told, state.sources[i].seen, state.sources[i].slots * sizeof(uint64_t));
	state.has_layout = false;
}

static void make_line(struct metrics_line *line)
{
	uint64_t values[METRICS_SLOTS_MAX];
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	metrics_line_text(line, "{");
	metrics_line_member(line, "utc_timestamp_ms");
	metrics_line_number(line, (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000);
	metrics_line_text(line, state.header);
	for (unsigned i = 0; i < metrics_group_count; i++) {
		const struct metrics_group *group = &metrics_groups[i];

		if (group->kind != METRICS_OWN) {
			add_devices(line, group);
			continue;
		}
		take_slots(group->fields, own_seen + group->first, own_told + group->first, values);
		add_group(line, group->name, group->fields, values);
	}
	if (state.has_layout)
		add_layout(line);
	metrics_line_text(line, "}\n");
}

/* False: it takes nothing now; *bytes is what it took. */
static bool write_some(const char *text, size_t room, size_t *bytes)
{
	ssize_t done;

	do
		done = write(state.fd, text, room);
	while (done < 0 && errno == EINTR);
	*bytes = done < 0 ? 0 : (size_t)done;
	return done > 0;
}

/* The rest of an earlier line, without which the next one would be torn. */
static bool write_rest(void)
{
	size_t done;

	while (state.rest_bytes) {
		if (!write_some(rest, state.rest_bytes, &done))
			return false;
		state.rest_bytes -= done;
		memmove(rest, rest + done, state.rest_bytes);
	}
	return true;
}

/* 0, or why the line was lost: an errno value. */
static int write_line(void)
{
	struct metrics_line line = {.text = line_made, .room = sizeof line_made};
	size_t done;

	if (!write_rest())
		return errno;
	look();
	make_line(&line);
	if (line.cut)
		return EMSGSIZE;
	if (!write_some(line.text, line.bytes, &done))
		return errno;
	state.rest_bytes = line.bytes - done;
	memcpy(rest, line.text + done, state.rest_bytes);
	if (state.rest_bytes)
		write_rest();
	told();
	return 0;
}

static int write_counted(void)
{
	int failed = write_line();

	if (failed)
		metrics_count(failed == EMSGSIZE ? METRIC(logger, metrics_fails)
						 : METRIC(logger, missed_metrics_count));
	return failed;
}

int metrics_flush(struct riffle_error *error)
{
	int failed;

	if (state.fd < 0)
		return 0;
	pthread_mutex_lock(&state.lock);
	state.writing = true;
	failed = write_counted();
	state.writing = false;
	pthread_mutex_unlock(&state.lock);
	return failed ? riffle_fail_system(error, failed, "metrics", "were not written") : 0;
}

void metrics_flush_from_signal(void)
{
	/* whoever is in the middle of a line, perhaps this thread, has the buffers */
	if (state.fd >= 0 && !atomic_exchange(&state.writing, true))
		write_counted();
}

/* ---- each minute ---- */

static void minute(void *opaque)
{
	(void)opaque;
	if (!state.frozen)
		metrics_flush(NULL);
	loop_timer_set(state.loop, &state.timer, loop_now() + PERIOD_NS);
}

void metrics_begin(struct loop *loop)
{
	if (state.fd < 0)
		return;
	state.loop = loop;
	state.timer = (struct loop_timer){.expired = minute};
	minute(NULL);
}

void metrics_end(void)
{
	if (state.loop)
		loop_timer_cancel(state.loop, &state.timer);
	state.loop = NULL;
}

void metrics_freeze(bool frozen)
{
	state.frozen = frozen;
}
