// SPDX-License-Identifier: Apache-2.0
/* Answers: nothing, a body, or a fault. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/action.h"

bool reply_done(struct reply *reply)
{
	reply->status = 204;
	return true;
}

bool reply_body(struct reply *reply, char *body)
{
	reply->status = 200;
	reply->body = body;
	return true;
}

bool reply_fault(struct reply *reply, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	free(reply->body);
	if (vasprintf(&reply->body, format, args) < 0)
		reply->body = NULL;
	va_end(args);
	reply->status = 400;
	return false;
}

char *reply_text(const struct reply *reply)
{
	static const char before[] = "{\"fault_message\":\"", after[] = "\"}";
	const char *text = reply->body ? reply->body : "Out of memory.";
	char *json, *to;

	if (reply->status < 400)
		return reply->body ? strdup(reply->body) : NULL;
	json = to = malloc(sizeof before + sizeof after + 6 * strlen(text));
	if (!to)
		return NULL;
	to = stpcpy(to, before);
	for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
		static const char from[] = "\"\\\n\r\t\b\f", into[] = "\"\\nrtbf";
		const char *found = strchr(from, *c);

		if (found) {
			*to++ = '\\';
			*to++ = into[found - from];
		} else if (*c < ' ') {
			to += sprintf(to, "\\u%04x", *c);
		} else {
			*to++ = (char)*c;
		}
	}
	strcpy(to, after);
	return json;
}

void reply_free(struct reply *reply)
{
	free(reply->body);
	memset(reply, 0, sizeof *reply);
}
