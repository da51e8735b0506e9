/* SPDX-License-Identifier: Apache-2.0 */
/* The microVM metadata service: its parts put together. */
#include "api/mmds/mmds.h"

#include <stdlib.h>

#include "api/mmds/internal.h"
#include "api/mmds/json_in.h"
#include "api/mmds/stack.h"
#include "common/fail.h"
#include "monitor/event/loop.h"

int mmds_new(struct mmds **mmds, size_t size_limit, const char *instance_id, struct riffle_error *error)
{
	struct mmds *m = calloc(1, sizeof *m);

	if (!m)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "mmds", "cannot be allocated");
	int status = mmds_tokens_init(&m->tokens, instance_id, error);

	if (status) {
		free(m);
		return status;
	}
	m->store.limit = size_limit;
	m->config = (struct mmds_config){.version = MMDS_V1, .address = MMDS_ADDRESS_DEFAULT};
	m->now = loop_now;
	*mmds = m;
	return 0;
}

void mmds_destroy(struct mmds *mmds)
{
	if (!mmds)
		return;
	mmds_forget_hooks(mmds);
	mmds_store_clear(&mmds->store);
	explicit_bzero(&mmds->tokens, sizeof mmds->tokens);
	free(mmds);
}

void mmds_configure(struct mmds *mmds, const struct mmds_config *config)
{
	mmds->config = *config;
}

const struct mmds_config *mmds_config(const struct mmds *mmds)
{
	return &mmds->config;
}

bool mmds_address_allowed(uint32_t address)
{
	return address >= 0xa9fe0100u && address <= 0xa9fefeffu;
}

enum mmds_status mmds_put(struct mmds *mmds, const char *json, size_t bytes)
{
	json_t *value = json_in_parse(json, bytes);
	enum mmds_status status = value ? mmds_store_put(&mmds->store, value) : MMDS_BAD_JSON;

	json_decref(value);
	return status;
}

enum mmds_status mmds_patch(struct mmds *mmds, const char *json, size_t bytes)
{
	json_t *value = json_in_parse(json, bytes);
	enum mmds_status status = value ? mmds_store_patch(&mmds->store, value) : MMDS_BAD_JSON;

	json_decref(value);
	return status;
}

enum mmds_status mmds_text(const struct mmds *mmds, struct text *text)
{
	return mmds_store_text(&mmds->store, text);
}

const char *mmds_status_text(enum mmds_status status)
{
	switch (status) {
	case MMDS_TOO_LARGE:
		return "The MMDS patch request doesn't fit.";
	case MMDS_NOT_SET:
		return "The MMDS data store is not initialized.";
	case MMDS_NOT_FOUND:
		return "The MMDS resource does not exist.";
	case MMDS_WRONG_TYPE:
		return "Cannot retrieve value. The value has an unsupported type.";
	case MMDS_BAD_JSON:
		return "The metadata is not valid JSON.";
	case MMDS_NO_MEMORY:
		return "There is no memory left.";
	default:
		return "";
	}
}

const struct mmds_counters *mmds_counters(const struct mmds *mmds)
{
	return &mmds->counters;
}

void mmds_watch_counters(struct mmds *mmds, void (*changed)(void *opaque, const struct mmds_counters *counters),
			 void *opaque)
{
	mmds->changed = changed;
	mmds->opaque = opaque;
}

const struct net_hook *mmds_hook(struct mmds *mmds)
{
	struct mmds_stack *stack = mmds_stack_new(mmds);

	if (!stack)
		return NULL;
	stack->next = mmds->stacks;
	mmds->stacks = stack;
	return &stack->hook;
}

void mmds_forget_hooks(struct mmds *mmds)
{
	while (mmds->stacks) {
		struct mmds_stack *stack = mmds->stacks;

		mmds->stacks = stack->next;
		mmds_stack_destroy(stack);
	}
}
