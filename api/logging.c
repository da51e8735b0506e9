// SPDX-License-Identifier: Apache-2.0
/* Log and metrics as requests configure them. */
#include "api/log.h"
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
	(void)vmm;
	(void)action;
	return reply_done(reply);
}

bool vmm_flush_metrics(struct vmm *vmm, struct reply *reply)
{
	(void)vmm;
	return reply_done(reply);
}
