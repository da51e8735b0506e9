// SPDX-License-Identifier: Apache-2.0
/* A riffle-vmm from its settings to its exit code. */
#include "api/serve.h"

#include <stdlib.h>

#include "api/channel.h"
#include "api/log.h"
#include "api/server.h"

struct service {
	struct vmm vmm;
	struct channel channel;
	bool by_api; /* the start was asked for by a request */
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

/* The answer to InstanceStart: the guest is about to run, or does not. */
static void started(void *opaque, struct reply *reply)
{
	struct service *s = opaque;

	/* a request that comes from now on is for the loop */
	channel_follow(&s->channel, s->vmm.machine);
	if (s->by_api)
		channel_answer(&s->channel, reply);
	reply_free(reply);
}

/* Requests until one of them started a guest that has ended since. */
static void serve_requests(struct service *s, enum vm_end *end, struct riffle_error *error)
{
	for (;;) {
		struct action *action = channel_wait(&s->channel);

		if (action->kind != ACTION_START) {
			handle_one(s, action);
			continue;
		}
		s->by_api = true;
		if (vmm_run(&s->vmm, end, error))
			return;
	}
}

/* 0 for what the guest asked for, by the keyboard controller or ACPI; 1 for what went wrong. */
static int exit_code(enum vm_end end)
{
	return end == VM_END_RESET || end == VM_END_POWEROFF || end == VM_END_PANIC ? 0 : 1;
}

int serve(const struct serve_settings *settings)
{
	struct service *s = calloc(1, sizeof *s);
	struct server *server = NULL;
	struct riffle_error error;
	enum vm_end end;
	int code;

	if (!s)
		return EXIT_FAILURE;
	vmm_init(&s->vmm, &settings->vmm);
	s->vmm.started = started;
	s->vmm.opaque = s;
	channel_init(&s->channel, asked_while_running, s);
	log_always(LOG_INFO, "main", "Running Firecracker v" FIRECRACKER_VERSION);
	if (settings->socket && server_open(&server, settings->socket,
					    settings->body_bytes ? settings->body_bytes : SERVER_BODY_BYTES, &error)) {
		log_always(LOG_ERROR, "main",
			   "Failed to open the API socket at: %s. Check that it is not already used.",
			   settings->socket);
		return EXIT_FAILURE;
	}
	if (server) {
		log_always(LOG_INFO, "main", "Listening on API socket (\"%s\").", settings->socket);
		if (server_start(server, &s->channel, settings->vmm.unconfined, &error))
			return EXIT_FAILURE;
	}
	serve_requests(s, &end, &error);
	code = exit_code(end);
	log_always(LOG_INFO, "main", "Vmm is stopping.");
	log_always(code ? LOG_ERROR : LOG_INFO, "main", "Firecracker exiting %s. exit_code=%d",
		   code ? "with error" : "successfully", code);
	return code;
}
