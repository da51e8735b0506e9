/* SPDX-License-Identifier: Apache-2.0 */
/* A riffle-vmm from its settings to its exit code: requests before the start, the start, requests while it runs. */
#include "api/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/channel.h"
#include "api/log.h"
#include "api/process.h"
#include "api/server.h"
#include "api/watch.h"

#define MODULE "vmm"

struct service {
	struct vmm vmm;
	struct channel channel;
	bool by_api; /* the start was asked for by a request */
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

/* The text of a fault, out of its JSON; what is escaped there stays so. */
static void say_fault(struct service *s, const char *before, const struct reply *reply)
{
	static const char head[] = "{\"fault_message\":\"";
	size_t length = reply->body ? strlen(reply->body) : 0;
	int words = length > sizeof head + 1 ? (int)(length - sizeof head - 1) : 0;

	snprintf(s->problem, s->room, "%s%.*s", before, words, words ? reply->body + sizeof head - 1 : "");
}

/* The answer to InstanceStart: the guest is about to run, or does not. */
static void started(void *opaque, struct reply *reply)
{
	struct service *s = opaque;

	/* a request that comes from now on is for the loop */
	channel_follow(&s->channel, s->vmm.machine);
	if (s->by_api)
		channel_answer(&s->channel, reply);
	else if (reply->status >= 300)
		say_fault(s, "Failed to build MicroVM from Json: Could not Start MicroVM from one single json: ", reply);
	else
		log_always(LOG_INFO, MODULE, "Successfully started microvm that was configured from one single json");
	reply_free(reply);
}

/* Requests until one of them started a guest that has ended since; false: the process is to end without one. */
static bool serve_requests(struct service *s, enum vm_end *end, struct riffle_error *error)
{
	for (;;) {
		struct action *action = channel_wait(&s->channel);

		if (action->kind != ACTION_START) {
			handle_one(s, action);
			if (s->vmm.fatal)
				return false;
			continue;
		}
		s->by_api = true;
		if (vmm_run(&s->vmm, end, error))
			return true;
	}
}

/* 0 for what the guest asked for, by the keyboard controller or ACPI; 1 for what went wrong. */
static enum firecracker_exit end_of_guest(struct service *s, enum vm_end end, const struct riffle_error *error)
{
	char words[300];

	if (end == VM_END_RESET || end == VM_END_POWEROFF || end == VM_END_PANIC || end == VM_END_ESCAPE ||
	    end == VM_END_HALTED)
		return FIRECRACKER_EXIT_OK;
	if (end == VM_END_ERROR)
		riffle_error_format(error, words, sizeof words);
	else
		snprintf(words, sizeof words, "%s", end == VM_END_TRIPLE_FAULT ? "Shutdown" : "end of the machine");
	log_always(LOG_ERROR, MODULE, "Unexpected exit reason on vcpu run: %s", words);
	snprintf(s->problem, s->room, "MicroVMStopped with an error: GenericError");
	return FIRECRACKER_EXIT_ERROR;
}

static bool run_file(struct service *s, const char *text, enum vm_end *end, struct riffle_error *error)
{
	struct reply reply = {0};

	if (!vmm_configure(&s->vmm, text, strlen(text), &reply)) {
		say_fault(s,
			  "Failed to build MicroVM from Json: Configuration for VMM from one single json failed: ", &reply);
		reply_free(&reply);
		return false;
	}
	reply_free(&reply);
	return vmm_run(&s->vmm, end, error);
}

static bool start_server(struct service *s, const struct serve_settings *settings)
{
	struct riffle_error error;

	if (!settings->server)
		return true;
	log_always(LOG_INFO, "api_server", "Listening on API socket (\"%s\").", settings->socket);
	if (!server_start(settings->server, &s->channel, settings->vmm.unconfined, &error))
		return true;
	snprintf(s->problem, s->room, "Failed to start the API thread: %s", strerror(error.sys_errno));
	return false;
}

enum firecracker_exit serve(const struct serve_settings *settings, char *problem, size_t room)
{
	struct service *s = calloc(1, sizeof *s);
	struct riffle_error error;
	enum firecracker_exit code = FIRECRACKER_EXIT_ERROR;
	enum vm_end end;
	bool ran;

	if (!s) {
		snprintf(problem, room, "Out of memory.");
		return FIRECRACKER_EXIT_ERROR;
	}
	s->problem = problem;
	s->room = room;
	vmm_init(&s->vmm, &settings->vmm);
	s->vmm.started = started;
	s->vmm.opaque = s;
	channel_init(&s->channel, asked_while_running, s);
	if (!start_server(s, settings))
		return FIRECRACKER_EXIT_ERROR;
	ran = settings->config ? run_file(s, settings->config, &end, &error) : serve_requests(s, &end, &error);
	if (ran)
		code = end_of_guest(s, end, &error);
	log_always(LOG_INFO, MODULE, "Vmm is stopping.");
	watch_end();
	return code;
}

bool serve_describe_snapshot(const char *path, char *text, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	char words[160];

	if (fd < 0) {
		snprintf(text, room, "Unable to open snapshot state file: %s",
			 vmm_os_error(errno, words, sizeof words));
		return false;
	}
	close(fd);
	snprintf(text, room, "Invalid data format version of snapshot file: it is no snapshot of riffle's");
	return false;
}
