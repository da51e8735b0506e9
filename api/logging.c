// SPDX-License-Identifier: Apache-2.0
/* Log and metrics as requests configure them. */
#include <stdlib.h>

#include "api/log.h"
#include "api/metrics.h"
#include "api/vmm.h"

bool vmm_put_logger(struct vmm *vmm, struct action *action, struct reply *reply)
{
	const struct body_logger *body = &action->u.logger;
	const struct log_settings settings = {
	    .path = body->log_path,
	    .level = body->has_level ? (enum log_level)body->level : LOG_INFO,
	    .show_level = body->has_show_level ? body->show_level : -1,
	    .show_origin = body->has_show_origin ? body->show_log_origin : -1,
	    .module = body->module,
	};
	struct riffle_error error;
	char words[160];

	(void)vmm;
	if (log_configure(&settings, &error))
		return reply_fault(reply, "Logger error: Failed to open target file: %s",
				   vmm_os_error(error.sys_errno, words, sizeof words));
	return reply_done(reply);
}

bool vmm_put_metrics(struct vmm *vmm, struct action *action, struct reply *reply)
{
	const struct body_metrics *body = &action->u.metrics;
	const struct schema_pair *pairs = body->properties.items;
	const unsigned count = (unsigned)body->properties.count;
	struct metrics_property *properties = calloc(count + 1, sizeof *properties);
	struct riffle_error error;
	char words[160];
	int status;

	if (!properties)
		return reply_fault(reply, "Metrics error: Out of memory.");
	for (unsigned i = 0; i < count; i++)
		properties[i] = (struct metrics_property){pairs[i].name, pairs[i].value};
	status =
	    metrics_configure(body->metrics_path, body->emit_id ? vmm->settings.id : NULL, properties, count, &error);
	free(properties);
	if (status && metrics_configured())
		return reply_fault(reply, "Metrics error: Reinitialization of metrics not allowed.");
	if (status)
		return reply_fault(reply,
				   "Metrics error: Cannot initialize the metrics system due to bad user input: %s",
				   vmm_os_error(error.sys_errno, words, sizeof words));
	return reply_done(reply);
}

bool vmm_flush_metrics(struct vmm *vmm, struct reply *reply)
{
	struct riffle_error error;
	char words[300];

	(void)vmm;
	if (!metrics_flush(&error))
		return reply_done(reply);
	riffle_error_format(&error, words, sizeof words);
	return reply_fault(reply, "Internal VMM error: %s", words);
}
