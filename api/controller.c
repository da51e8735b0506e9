// SPDX-License-Identifier: Apache-2.0
/* What may be done in which phase, and who does it. */
#include <stdlib.h>
#include <string.h>

#include "api/log.h"
#include "api/vmm.h"

void vmm_init(struct vmm *vmm, const struct vmm_settings *settings)
{
	memset(vmm, 0, sizeof *vmm);
	vmm->settings = *settings;
	vmm_resources_init(&vmm->resources);
}

void vmm_destroy(struct vmm *vmm)
{
	machine_destroy(vmm->machine);
	vmm->machine = NULL;
	vmm_destroy_mmds(vmm);
	free(vmm->cpuid);
	vmm->cpuid = NULL;
	vmm_resources_free(&vmm->resources);
	arena_free(&vmm->load_arena);
}

static bool body_or_fault(struct reply *reply, char *body)
{
	return body ? reply_body(reply, body) : reply_fault(reply, "Out of memory.");
}

/* Whether an action configures what a snapshot brings along. */
static bool is_for_boot(enum action_kind kind)
{
	switch (kind) {
	case ACTION_PUT_BOOT_SOURCE:
	case ACTION_PUT_MACHINE:
	case ACTION_PUT_DRIVE:
	case ACTION_PUT_NET:
	case ACTION_PUT_PMEM:
	case ACTION_PUT_VSOCK:
	case ACTION_PUT_ENTROPY:
	case ACTION_PUT_MMDS_CONFIG:
	case ACTION_PUT_BALLOON:
	case ACTION_PUT_HOTPLUG:
		return true;
	default:
		return false;
	}
}

static void handle_before(struct vmm *vmm, struct action *action, struct reply *reply)
{
	if (is_for_boot(action->kind))
		vmm->resources.for_boot = true;
	switch (action->kind) {
	case ACTION_GET_BALLOON:
		if (!vmm->resources.has_balloon)
			reply_fault(reply, "Balloon config error: No balloon device found.");
		else
			body_or_fault(reply, vmm_view_balloon(vmm));
		break;
	case ACTION_PUT_BOOT_SOURCE:
		vmm_put_boot_source(vmm, action, reply);
		break;
	case ACTION_PUT_MACHINE:
		vmm_put_machine(vmm, action, reply);
		break;
	case ACTION_PUT_CPU:
		vmm_put_cpu(vmm, action, reply);
		break;
	case ACTION_PUT_DRIVE:
		vmm_put_drive(vmm, action, reply);
		break;
	case ACTION_PUT_NET:
		vmm_put_net(vmm, action, reply);
		break;
	case ACTION_PUT_PMEM:
		vmm_put_pmem(vmm, action, reply);
		break;
	case ACTION_PUT_VSOCK:
		vmm_put_vsock(vmm, action, reply);
		break;
	case ACTION_PUT_ENTROPY:
		vmm_put_entropy(vmm, action, reply);
		break;
	case ACTION_PUT_SERIAL:
		vmm_put_serial(vmm, action, reply);
		break;
	case ACTION_PUT_LOGGER:
		vmm_put_logger(vmm, action, reply);
		break;
	case ACTION_PUT_METRICS:
		vmm_put_metrics(vmm, action, reply);
		break;
	case ACTION_PUT_MMDS_CONFIG:
		vmm_put_mmds_config(vmm, action, reply);
		break;
	case ACTION_PUT_BALLOON:
		vmm_put_balloon(vmm, action, reply);
		break;
	case ACTION_PUT_HOTPLUG:
		vmm_put_hotplug(vmm, action, reply);
		break;
	case ACTION_SNAPSHOT_LOAD:
		vmm_may_load(vmm, reply); /* one that may is vmm_run_snapshot()'s */
		break;
	default:
		reply_fault(reply, "The requested operation is not supported before starting the microVM.");
		break;
	}
}

void vmm_handle(struct vmm *vmm, struct action *action, struct reply *reply)
{
	switch (action->kind) {
	case ACTION_GET_INFO:
		body_or_fault(reply, vmm_view_info(vmm));
		break;
	case ACTION_GET_VERSION:
		body_or_fault(reply, vmm_view_version());
		break;
	case ACTION_GET_CONFIG:
		body_or_fault(reply, vmm_view_config(vmm));
		break;
	case ACTION_GET_MACHINE:
		body_or_fault(reply, vmm_view_machine(vmm));
		break;
	case ACTION_GET_MMDS:
	case ACTION_PUT_MMDS:
	case ACTION_PATCH_MMDS:
		vmm_handle_mmds(vmm, action, reply);
		break;
	default:
		if (vmm->state == VMM_NOT_STARTED)
			handle_before(vmm, action, reply);
		else
			vmm_handle_running(vmm, action, reply);
		break;
	}
	if (action->deprecated) {
		log_always(LOG_WARN, "firecracker::api_server", "%s", action->deprecated);
		reply->deprecated = true;
	}
}
