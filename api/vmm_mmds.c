// SPDX-License-Identifier: Apache-2.0
/* The metadata service as requests fill it, and as the machine's networks reach it. */
#include "api/mmds/mmds.h"

#include <stdio.h>
#include <string.h>

#include "api/json_text.h"
#include "api/log.h"
#include "api/metrics.h"
#include "api/process.h"
#include "api/vmm.h"
#include "common/fail.h"

static bool no_memory(struct reply *reply)
{
	return reply_fault(reply, "MMDS error: %s", mmds_status_text(MMDS_NO_MEMORY));
}

/* The metrics are the process's, and so is what they were told already. */
static struct mmds_counters told;

static void count(void *opaque, const struct mmds_counters *now)
{
#define COUNT(name) metrics_add(METRIC(mmds, name), now->name - told.name)
	(void)opaque;
	COUNT(rx_accepted);
	COUNT(rx_accepted_err);
	COUNT(rx_accepted_unusual);
	COUNT(rx_bad_eth);
	COUNT(rx_invalid_token);
	COUNT(rx_no_token);
	COUNT(rx_count);
	COUNT(tx_bytes);
	COUNT(tx_count);
	COUNT(tx_errors);
	COUNT(tx_frames);
	COUNT(connections_created);
	COUNT(connections_destroyed);
#undef COUNT
	told = *now;
}

/* Made when it is first needed: a microVM without metadata needs no keys. */
static bool ensure(struct vmm *vmm, struct reply *reply)
{
	struct riffle_error error;
	char words[200];

	if (vmm->mmds)
		return true;
	if (!mmds_new(&vmm->mmds, vmm->settings.mmds_size_limit, vmm->settings.id, &error)) {
		told = (struct mmds_counters){0};
		mmds_watch_counters(vmm->mmds, count, NULL);
		return true;
	}
	riffle_error_format(&error, words, sizeof words);
	return reply_fault(reply, "MMDS error: %s", words);
}

/* With the reason, as Rust shows serde's. */
static _Noreturn void bad_metadata(const char *json)
{
	struct json_text t;
	const char *place = NULL;
	unsigned line = 1, column = 0;

	scan_begin(&t, json, strlen(json));
	if (!scan_skip(&t) || !scan_end(&t))
		scan_place(&t);
	for (const char *p = t.failed ? t.error : ""; (p = strstr(p, " at line ")); p++)
		place = p;
	if (!place || sscanf(place, " at line %u column %u", &line, &column) != 2)
		process_panic("MMDS error: metadata provided not valid json");
	process_panic("MMDS error: metadata provided not valid json: Error(\"%.*s\", line: %u, column: %u)",
		      (int)(place - t.error), t.error, line, column);
}

bool vmm_set_metadata(struct vmm *vmm, const char *json, char *problem, size_t room)
{
	struct reply reply = {0};

	if (!ensure(vmm, &reply)) {
		reply_free(&reply);
		snprintf(problem, room, "Populating MMDS from file failed: the metadata service cannot be made");
		return false;
	}
	enum mmds_status status = mmds_put(vmm->mmds, json, strlen(json));

	if (status == MMDS_BAD_JSON)
		bad_metadata(json);
	if (status) {
		snprintf(problem, room, "Populating MMDS from file failed: %s", mmds_status_text(status));
		return false;
	}
	log_always(LOG_INFO, "mmds", "Successfully added metadata to mmds from file");
	return true;
}

static bool is_reachable(const struct vmm_resources *r)
{
	for (unsigned i = 0; i < r->net_count; i++)
		if (r->nets[i].mmds)
			return true;
	return false;
}

static void get(struct vmm *vmm, struct reply *reply)
{
	struct text text = {0};
	enum mmds_status status = mmds_text(vmm->mmds, &text);

	text_add(&text, "", 1);
	if (status || text.failed) {
		text_clear(&text);
		no_memory(reply);
	} else {
		reply_body(reply, text.bytes);
	}
}

static void change(struct vmm *vmm, const struct action *action, struct reply *reply)
{
	const struct schema_raw *json = &action->json;
	enum mmds_status status = action->kind == ACTION_PUT_MMDS ? mmds_put(vmm->mmds, json->text, json->bytes)
								  : mmds_patch(vmm->mmds, json->text, json->bytes);

	if (status == MMDS_OK) {
		reply_done(reply);
	} else if (status == MMDS_TOO_LARGE) {
		reply_fault(reply, "MMDS limit exceeded error: %s", mmds_status_text(status));
		reply->status = 413;
	} else {
		reply_fault(reply, "MMDS error: %s", mmds_status_text(status));
	}
}

void vmm_handle_mmds(struct vmm *vmm, struct action *action, struct reply *reply)
{
	if (vmm->state != VMM_NOT_STARTED && !is_reachable(&vmm->resources)) {
		reply_fault(reply, "MMDS error: %s", mmds_status_text(MMDS_NOT_SET));
		return;
	}
	if (!ensure(vmm, reply))
		return;
	if (action->kind == ACTION_GET_MMDS)
		get(vmm, reply);
	else
		change(vmm, action, reply);
}

/* What the machine's networks reach; false: no memory. */
static bool attach(struct vmm *vmm, struct machine_devices_config *devices)
{
	const struct machine_metadata *m = &devices->metadata;
	const struct mmds_config config = {
	    .version = m->version == 2 ? MMDS_V2 : MMDS_V1, .address = m->address, .imds_compat = m->imds_compat};

	mmds_forget_hooks(vmm->mmds); /* those of a start that failed */
	mmds_configure(vmm->mmds, &config);
	for (unsigned i = 0; i < devices->net_count; i++) {
		if (!devices->nets[i].metadata)
			continue;
		devices->nets[i].hook = mmds_hook(vmm->mmds);
		if (!devices->nets[i].hook)
			return false;
	}
	return true;
}

bool vmm_describe_mmds(struct vmm *vmm, struct machine_devices_config *devices, struct reply *reply)
{
	const struct vmm_resources *r = &vmm->resources;

	if (!is_reachable(r))
		return true;
	if (!ensure(vmm, reply))
		return false;
	devices->metadata = (struct machine_metadata){.wanted = true,
						      .version = r->mmds.version == BODY_MMDS_V2 ? 2 : 1,
						      .address = r->mmds.address,
						      .imds_compat = r->mmds.imds_compat};
	for (unsigned i = 0; i < r->net_count; i++)
		devices->nets[i].metadata = r->nets[i].mmds;
	return attach(vmm, devices) || no_memory(reply);
}

int vmm_adopt_mmds(struct vmm *vmm, struct machine_devices_config *devices, struct riffle_error *error)
{
	const struct machine_metadata *m = &devices->metadata;
	struct vmm_resources *r = &vmm->resources;
	struct reply reply = {0};

	if (!m->wanted)
		return 0;
	if (!mmds_address_allowed(m->address))
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "metadata", "an address that the service cannot have");
	if (!ensure(vmm, &reply) || !attach(vmm, devices)) {
		reply_free(&reply);
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "metadata", "the service cannot be made");
	}
	r->mmds.set = true;
	r->mmds.version = m->version == 2 ? BODY_MMDS_V2 : BODY_MMDS_V1;
	r->mmds.address = m->address;
	r->mmds.imds_compat = m->imds_compat;
	return 0;
}

void vmm_destroy_mmds(struct vmm *vmm)
{
	mmds_destroy(vmm->mmds);
	vmm->mmds = NULL;
}
