/* SPDX-License-Identifier: Apache-2.0 */
/* A parsed request and its reply. */
#ifndef RIFFLE_API_ACTION_H
#define RIFFLE_API_ACTION_H

#include "api/bodies.h"
#include "api/http.h"

enum action_kind {
	ACTION_GET_INFO,
	ACTION_GET_VERSION,
	ACTION_GET_CONFIG,
	ACTION_GET_MACHINE,
	ACTION_GET_MMDS,
	ACTION_GET_BALLOON,
	ACTION_GET_BALLOON_STATS,
	ACTION_GET_HINTING,
	ACTION_GET_HOTPLUG,
	ACTION_PUT_BOOT_SOURCE,
	ACTION_PUT_MACHINE, /* PATCH too: missing members keep their values */
	ACTION_PUT_CPU,
	ACTION_PUT_DRIVE,
	ACTION_PUT_NET,
	ACTION_PUT_PMEM,
	ACTION_PUT_VSOCK,
	ACTION_PUT_ENTROPY,
	ACTION_PUT_SERIAL,
	ACTION_PUT_LOGGER,
	ACTION_PUT_METRICS,
	ACTION_PUT_MMDS_CONFIG,
	ACTION_PUT_MMDS,
	ACTION_PATCH_MMDS,
	ACTION_PUT_BALLOON,
	ACTION_PUT_HOTPLUG,
	ACTION_PATCH_DRIVE,
	ACTION_PATCH_NET,
	ACTION_PATCH_PMEM,
	ACTION_PATCH_BALLOON,
	ACTION_PATCH_BALLOON_STATS,
	ACTION_HINTING_START,
	ACTION_HINTING_STOP,
	ACTION_PATCH_HOTPLUG,
	ACTION_DELETE_DRIVE,
	ACTION_DELETE_NET,
	ACTION_DELETE_PMEM,
	ACTION_START,
	ACTION_FLUSH_METRICS,
	ACTION_CTRL_ALT_DEL,
	ACTION_PAUSE,
	ACTION_RESUME,
	ACTION_SNAPSHOT_CREATE,
	ACTION_SNAPSHOT_LOAD,
};

struct action {
	enum action_kind kind;
	struct arena
	    arena; /* holds what the body points to; code that keeps the body takes it and leaves an empty one */
	const char *deprecated; /* logged as a deprecation; NULL: none */
	const char *id;         /* of what is to be deleted */
	struct schema_raw json; /* of MMDS; part of the request */
	union {
		struct body_boot_source boot_source;
		struct body_machine machine;
		struct body_cpu cpu;
		struct body_drive drive;
		struct body_drive_patch drive_patch; /* of pmem too */
		struct body_net net;
		struct body_net_patch net_patch;
		struct body_pmem pmem;
		struct body_vsock vsock;
		struct body_entropy entropy;
		struct body_serial serial;
		struct body_logger logger;
		struct body_metrics metrics;
		struct body_mmds mmds;
		struct body_balloon balloon;
		struct body_balloon_amount balloon_amount;
		struct body_balloon_stats balloon_stats;
		struct body_hinting hinting;
		struct body_hotplug hotplug;
		struct body_hotplug_patch hotplug_patch;
		struct body_snapshot_create snapshot_create;
		struct body_snapshot_load snapshot_load;
	} u;
};

struct reply {
	unsigned status;
	char *body; /* malloc()ed: JSON, or from status 400 on the error's text; NULL: none */
	bool deprecated;
};

/* 204; 400 with an error text; 200 with a body that the reply takes over. False for an error. */
bool reply_done(struct reply *reply);
__attribute__((format(printf, 2, 3))) bool reply_fault(struct reply *reply, const char *format, ...);
bool reply_body(struct reply *reply, char *body);
/* The body to send, malloc()ed; NULL: none. */
char *reply_text(const struct reply *reply);
void reply_free(struct reply *reply);

/*
 * Parses a request: true with *action, which the caller releases with arena_free(&action->arena); false with an error
 * in *reply. *action points into *request.
 */
bool router_parse(const struct http_request *request, struct action *action, struct reply *reply);

#endif
