// SPDX-License-Identifier: Apache-2.0
/* The head of an HTTP response, and the check for UTF-8 that requests need. */
#include <stdio.h>

#include "api/http.h"

size_t http_response_head(const struct http_response *r, char *text, size_t room)
{
	bool bare = r->status == 204 || r->status == 100;
	int bytes;

	/* a status line ends in a blank and no reason */
	bytes = snprintf(text, room, "HTTP/1.%u %u \r\nServer: %s\r\nConnection: keep-alive\r\n%s", r->minor, r->status,
			 r->server, r->headers ? r->headers : "");
	if (bytes < 0)
		return 0;
	if (!bare)
		bytes += snprintf((size_t)bytes < room ? text + bytes : NULL,
				  (size_t)bytes < room ? room - (size_t)bytes : 0,
				  "Content-Type: %s\r\nContent-Length: %zu\r\n",
				  r->content_type ? r->content_type : "application/json", r->body_bytes);
	bytes += snprintf((size_t)bytes < room ? text + bytes : NULL, (size_t)bytes < room ? room - (size_t)bytes : 0,
			  "\r\n");
	if ((size_t)bytes >= room && room)
		*text = 0;
	return (size_t)bytes;
}

/* How many bytes follow a first byte, and the range that the second one must be in; 0: no first byte. */
static unsigned following(uint8_t first, uint8_t *low, uint8_t *high)
{
	*low = 0x80;
	*high = 0xbf;
	if (first >= 0xc2 && first <= 0xdf)
		return 1;
	if (first >= 0xe0 && first <= 0xef) {
		if (first == 0xe0)
			*low = 0xa0; /* not what two bytes can say */
		if (first == 0xed)
			*high = 0x9f; /* no surrogates */
		return 2;
	}
	if (first >= 0xf0 && first <= 0xf4) {
		if (first == 0xf0)
			*low = 0x90;
		if (first == 0xf4)
			*high = 0x8f; /* up to U+10FFFF */
		return 3;
	}
	return 0;
}

bool http_utf8(const uint8_t *bytes, size_t count, size_t *valid, unsigned *wrong)
{
	size_t i = 0;

	*wrong = 0;
	while (i < count) {
		uint8_t low, high;
		unsigned more;

		*valid = i;
		if (bytes[i] < 0x80) {
			i++;
			continue;
		}
		more = following(bytes[i], &low, &high);
		if (!more) {
			*wrong = 1;
			return false;
		}
		for (unsigned k = 1; k <= more; k++) {
			if (i + k == count)
				return false;
			if (bytes[i + k] < low || bytes[i + k] > high) {
				*wrong = k;
				return false;
			}
			low = 0x80;
			high = 0xbf;
		}
		i += more + 1;
	}
	*valid = i;
	return true;
}
