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

/* {"fault_message":"..."}, with what JSON wants escaped. */
bool reply_fault(struct reply *reply, const char *format, ...)
{
	static const char before[] = "{\"fault_message\":\"", after[] = "\"}";
	char *text = NULL, *to;
	va_list args;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	reply->status = 400;
	free(reply->body);
	reply->body = to = malloc(sizeof before + sizeof after + 6 * (text ? strlen(text) : 0));
	if (!to) {
		free(text);
		return false;
	}
	to = stpcpy(to, before);
	for (const unsigned char *c = (unsigned char *)text; c && *c; c++) {
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
	free(text);
	return false;
}

void reply_free(struct reply *reply)
{
	free(reply->body);
	memset(reply, 0, sizeof *reply);
}
