// SPDX-License-Identifier: Apache-2.0
/* The metadata service as requests fill it, and as the machine's networks reach it. */
#include "api/mmds/mmds.h"

#include "api/vmm.h"

static bool no_memory(struct reply *reply)
{
	return reply_fault(reply, "MMDS error: %s", mmds_status_text(MMDS_NO_MEMORY));
}

/* Made when it is first needed: a microVM without metadata needs no keys. */
static bool ensure(struct vmm *vmm, struct reply *reply)
{
	struct riffle_error error;
	char words[200];

	if (vmm->mmds || !mmds_new(&vmm->mmds, vmm->settings.mmds_size_limit, vmm->settings.id, &error))
		return true;
	riffle_error_format(&error, words, sizeof words);
	return reply_fault(reply, "MMDS error: %s", words);
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

bool vmm_describe_mmds(struct vmm *vmm, struct machine_devices_config *devices, struct reply *reply)
{
	const struct vmm_resources *r = &vmm->resources;
	const struct mmds_config config = {
	    .version = r->mmds.version == BODY_MMDS_V2 ? MMDS_V2 : MMDS_V1,
	    .address = r->mmds.address,
	    .imds_compat = r->mmds.imds_compat,
	};

	if (!is_reachable(r))
		return true;
	if (!ensure(vmm, reply))
		return false;
	mmds_forget_hooks(vmm->mmds); /* those of a start that failed */
	mmds_configure(vmm->mmds, &config);
	for (unsigned i = 0; i < r->net_count; i++) {
		if (!r->nets[i].mmds)
			continue;
		devices->nets[i].hook = mmds_hook(vmm->mmds);
		if (!devices->nets[i].hook)
			return no_memory(reply);
	}
	return true;
}

void vmm_destroy_mmds(struct vmm *vmm)
{
	mmds_destroy(vmm->mmds);
	vmm->mmds = NULL;
}
