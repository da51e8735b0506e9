/* SPDX-License-Identifier: Apache-2.0 */
/* The microVM metadata service: what the host stores for its guest, and the guest reads by HTTP from its network. */
#ifndef RIFFLE_API_MMDS_MMDS_H
#define RIFFLE_API_MMDS_MMDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <riffle/error.h>

#include "api/mmds/status.h"
#include "api/mmds/text.h"
#include "monitor/virtio/net.h"

#define MMDS_ADDRESS_DEFAULT 0xa9fea9feu /* 169.254.169.254 */
#define MMDS_SIZE_LIMIT 51200u           /* the usual limit of the store */

enum mmds_version {
	MMDS_V1, /* anybody may read */
	MMDS_V2, /* with a token */
};

struct mmds_config {
	enum mmds_version version;
	uint32_t address; /* IPv4, host byte order */
	bool imds_compat; /* never answers in JSON */
};

/* Named as Firecracker's metrics. They only grow. */
struct mmds_counters {
	uint64_t rx_accepted;         /* frames for the service */
	uint64_t rx_accepted_err;     /* of these: broken, or not for its port */
	uint64_t rx_accepted_unusual; /* of these: not TCP, or not what the connection expects */
	uint64_t rx_bad_eth;
	uint64_t rx_invalid_token, rx_no_token;
	uint64_t rx_count;            /* TCP segments */
	uint64_t tx_bytes, tx_frames; /* accepted by the guest's device */
	uint64_t tx_count, tx_errors;
	uint64_t connections_created, connections_destroyed;
};

struct mmds;

/*
 * All functions must be called in one thread, the event loop's once the guest runs. The store may grow to `size_limit`
 * bytes of compact JSON; tokens are bound to the instance. Version 1 at the default address. Errors: MEMORY, RANDOM.
 */
int mmds_new(struct mmds **mmds, size_t size_limit, const char *instance_id, struct riffle_error *error);
/* Call after the machine whose devices use its hooks is gone. */
void mmds_destroy(struct mmds *mmds);

/* Before the guest runs. */
void mmds_configure(struct mmds *mmds, const struct mmds_config *config);
const struct mmds_config *mmds_config(const struct mmds *mmds);

/* Whether the service may have this address: 169.254.1.0 to 169.254.254.255. */
bool mmds_address_allowed(uint32_t address);

/*
 * Replaces the store, changes it by a JSON Merge Patch (RFC 7396), or returns it as text; an empty object while nothing
 * is set.
 */
enum mmds_status mmds_put(struct mmds *mmds, const char *json, size_t bytes);
enum mmds_status mmds_patch(struct mmds *mmds, const char *json, size_t bytes);
enum mmds_status mmds_text(const struct mmds *mmds, struct text *text);
/* Firecracker's message for the status. */
const char *mmds_status_text(enum mmds_status status);

const struct mmds_counters *mmds_counters(const struct mmds *mmds);
/* `changed` is called when counters have changed; may be NULL. */
void mmds_watch_counters(struct mmds *mmds, void (*changed)(void *opaque, const struct mmds_counters *counters),
			 void *opaque);

/*
 * The hook through which a network device's guest reaches the service, valid until mmds_destroy() or
 * mmds_forget_hooks(). Each device needs its own. NULL: no memory.
 */
const struct net_hook *mmds_hook(struct mmds *mmds);
/* Call after the machine that used them is gone, or was never built. */
void mmds_forget_hooks(struct mmds *mmds);

#endif
