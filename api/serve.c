// SPDX-License-Identifier: Apache-2.0
/* A VMM from its options to its end: requests before the start, the start, requests while the guest runs. */
#include "api/serve.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/channel.h"
#include "api/config_file.h"
#include "api/firecracker.h"
#include "api/log.h"
#include "api/server.h"
#include "api/vmm.h"
#include "api/watch.h"
#include "machine/snapshot.h"
#include "monitor/snapshot/state.h"

#define MODULE "vmm"

struct service {
	struct vmm vmm;
	struct channel channel;
	bool by_api; /* the start was asked for by a request */
	const char *metadata;
	char *problem;
	size_t room;
};

static void handle_one(struct service *s, struct action *action)
{
	struct reply reply = {0};

	vmm_handle(&s->vmm, action, &reply);
	channel_answer(&s->channel, &reply);
}

/* In the machine's event loop. */
static void asked_while_running(void *opaque)
{
	struct service *s = opaque;
	struct action *action = channel_asked(&s->channel);

	if (action)
		handle_one(s, action);
}

/* The answer to the start: the guest is about to run, or does not. */
static void started(void *opaque, struct reply *reply)
{
	struct service *s = opaque;

	if (s->by_api)
		channel_answer(&s->channel, reply);
	else if (reply->status >= 400)
		snprintf(s->problem, s->room, "Failed to build MicroVM from Json: %s", reply->body ? reply->body : "");
	else
		log_always(LOG_INFO, MODULE, "Successfully started microvm that was configured from one single json");
	/* a request that comes from now on is for the loop, if there is one */
	channel_follow(&s->channel, s->vmm.machine);
	reply_free(reply);
}

/* Requests until one of them started a guest that has ended since; false: the process is to end. */
static bool serve_requests(struct service *s, enum vm_end *end, struct riffle_error *error)
{
	while (!s->vmm.fatal) {
		struct action *action = channel_wait(&s->channel);

		if (action->kind == ACTION_SNAPSHOT_LOAD && !s->vmm.resources.for_boot) {
			s->by_api = true;
			if (vmm_run_snapshot(&s->vmm, action, end, error))
				return true;
			continue;
		}
		if (action->kind != ACTION_START) {
			handle_one(s, action);
			continue;
		}
		s->by_api = true;
		if (vmm_run(&s->vmm, end, error))
			return true;
	}
	return false;
}

static bool set_metadata(void *opaque)
{
	struct service *s = opaque;

	return !s->metadata || vmm_set_metadata(&s->vmm, s->metadata, s->problem, s->room);
}

static bool run_file(struct service *s, const char *text, enum vm_end *end, struct riffle_error *error)
{
	static const char before[] = "Failed to build MicroVM from Json: Configuration for VMM from one single json "
				     "failed: ";
	size_t used = sizeof before - 1;

	if (s->room <= used)
		return false;
	strcpy(s->problem, before);
	if (!config_file_apply(&s->vmm, text, set_metadata, s, s->problem + used, s->room - used))
		return false;
	*s->problem = 0;
	return vmm_run(&s->vmm, end, error);
}

/* What the guest asked for, by the keyboard controller or ACPI, is no fault. */
static enum firecracker_exit exit_code(struct service *s, enum vm_end end, const struct riffle_error *error)
{
	char words[300];

	if (end == VM_END_RESET || end == VM_END_POWEROFF || end == VM_END_PANIC)
		return FIRECRACKER_EXIT_OK;
	if (end == VM_END_ERROR) {
		riffle_error_format(error, words, sizeof words);
		log_always(LOG_ERROR, MODULE, "%s", words);
	}
	(void)s;
	return FIRECRACKER_EXIT_ERROR;
}

enum firecracker_exit serve_run(const struct serve_options *options, char *problem, size_t room)
{
	const struct vmm_settings settings = {.id = options->id,
					      .mmds_size_limit = options->mmds_max,
					      .boot_timer = options->boot_timer,
					      .accept_emulation = options->accept_emulation,
					      .one_time_snapshots = options->one_time_snapshots,
					      .unconfined = options->unconfined};
	struct service *s = calloc(1, sizeof *s);
	struct riffle_error error = {0};
	enum vm_end end = VM_END_ERROR;
	bool ran;

	if (!s) {
		snprintf(problem, room, "Out of memory");
		return FIRECRACKER_EXIT_ERROR;
	}
	s->metadata = options->metadata;
	s->problem = problem;
	s->room = room;
	/* an arena of a thread's own is given back after a look into /proc, which confined threads cannot have */
	mallopt(M_ARENA_MAX, 1);
	vmm_init(&s->vmm, &settings);
	s->vmm.started = started;
	s->vmm.opaque = s;
	channel_init(&s->channel, asked_while_running, s);
	if (!options->config && !set_metadata(s))
		return FIRECRACKER_EXIT_ERROR;
	if (options->listener >= 0) {
		log_always(LOG_INFO, MODULE, "Listening on API socket (\"%s\").", options->socket_path);
		if (server_start(options->listener, options->payload_max, &s->channel, options->unconfined, &error)) {
			riffle_error_format(&error, problem, room);
			return FIRECRACKER_EXIT_ERROR;
		}
	}
	ran = options->config ? run_file(s, options->config, &end, &error) : serve_requests(s, &end, &error);
	/* the answer to what ended the guest, or could not start one, goes out first */
	channel_wait_sent(&s->channel, 2000);
	if (!ran)
		return FIRECRACKER_EXIT_ERROR;
	log_always(LOG_INFO, MODULE, "Vmm is stopping.");
	return exit_code(s, end, &error);
}

bool serve_describe_snapshot(const char *path, char *text, size_t room)
{
	struct machine_snapshot_info info;
	struct riffle_error error;

	if (machine_snapshot_look(path, &info, &error)) {
		riffle_error_format(&error, text, room);
		return false;
	}
	/* the one version of ours that there is goes by the number that --snapshot-version prints */
	_Static_assert(STATE_VERSION == 1, "a version of its own for each");
	snprintf(text, room, "v%s", FIRECRACKER_SNAPSHOT_VERSION);
	return true;
}
