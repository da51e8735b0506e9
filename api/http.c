// SPDX-License-Identifier: Apache-2.0
/* The request parser: a line at a time into a bounded buffer, then the body into one that grows with what arrives. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/http.h"

#define ERROR_BYTES 4096u

enum state {
	REQUEST_LINE,
	HEADERS,
	BODY,
	READY,
	/* of a request that was refused: */
	SKIP_HEADERS,
	SKIP_BODY,
	SKIP_CHUNKS,
};

struct http_parser {
	struct http_limits limits;
	enum state state;
	const uint8_t *at, *end;
	bool read_begins; /* at is the first byte of a read */

	char *line; /* limits.line_bytes */
	uint32_t line_used;
	bool line_too_long; /* it was refused, its end has not been seen */

	struct http_request request;
	char *uri, *kept[HTTP_KEPT_MAX];
	uint32_t content_length;
	bool expects, chunked;
	uint8_t *body;
	size_t body_room;
	uint64_t skipped; /* of the body of a refused request */
	char error[ERROR_BYTES];
};

struct http_parser *http_parser_new(const struct http_limits *limits)
{
	struct http_parser *p = calloc(1, sizeof *p);

	if (!p)
		return NULL;
	p->limits = *limits;
	p->line = malloc((size_t)limits->line_bytes + 1);
	if (!p->line) {
		free(p);
		return NULL;
	}
	return p;
}

static void forget_request(struct http_parser *p)
{
	free(p->uri);
	p->uri = NULL;
	for (unsigned i = 0; i < HTTP_KEPT_MAX; i++) {
		free(p->kept[i]);
		p->kept[i] = NULL;
	}
	free(p->body);
	p->body = NULL;
	p->body_room = 0;
	memset(&p->request, 0, sizeof p->request);
	p->content_length = 0;
	p->expects = p->chunked = false;
	p->skipped = 0;
}

void http_parser_destroy(struct http_parser *p)
{
	if (!p)
		return;
	forget_request(p);
	free(p->line);
	free(p);
}

void http_feed(struct http_parser *p, const void *bytes, size_t count)
{
	p->at = bytes;
	p->end = p->at + count;
	p->read_begins = count > 0;
}

const struct http_request *http_parser_request(const struct http_parser *p)
{
	return &p->request;
}

const char *http_parser_error(const struct http_parser *p)
{
	return p->error;
}

static bool is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The text without blanks around it. */
static const char *trimmed(const char *text, size_t bytes, size_t *left)
{
	while (bytes && is_blank(*text)) {
		text++;
		bytes--;
	}
	while (bytes && is_blank(text[bytes - 1]))
		bytes--;
	*left = bytes;
	return text;
}

static bool is(const char *text, size_t bytes, const char *word)
{
	return bytes == strlen(word) && !memcmp(text, word, bytes);
}

static bool is_any_case(const char *text, size_t bytes, const char *word)
{
	return bytes == strlen(word) && !strncasecmp(text, word, bytes);
}

__attribute__((format(printf, 2, 3))) static bool refuse(struct http_parser *p, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(p->error, sizeof p->error, format, args);
	va_end(args);
	return false;
}

/* The method, or -1. */
static int method_of(const char *word, size_t bytes)
{
	static const char *const names[] = {
	    [HTTP_GET] = "GET", [HTTP_PUT] = "PUT", [HTTP_PATCH] = "PATCH", [HTTP_DELETE] = "DELETE"};

	for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
		if (is(word, bytes, names[i]))
			return (int)i;
	return -1;
}

/* Whether a request begins here: no header line and no JSON text does so. */
static bool begins_request(const char *text, size_t bytes)
{
	const char *blank = memchr(text, ' ', bytes < 8 ? bytes : 8);

	return blank && method_of(text, (size_t)(blank - text)) >= 0;
}

static const char *path_of(const char *uri)
{
	static const char scheme[] = "http://";

	if (!strncmp(uri, scheme, sizeof scheme - 1)) {
		const char *slash = strchr(uri + sizeof scheme - 1, '/');

		return slash ? slash : "";
	}
	return *uri == '/' ? uri : "";
}

static bool request_line(struct http_parser *p, const char *line, size_t bytes)
{
	const char *end = line + bytes, *uri = memchr(line, ' ', bytes), *version;
	size_t valid, uri_bytes;
	unsigned wrong;
	int method;

	version = uri ? memchr(uri + 1, ' ', (size_t)(end - uri - 1)) : NULL;
	if (!version)
		return refuse(p, "Invalid request.");
	method = method_of(line, (size_t)(uri - line));
	if (method < 0)
		return refuse(p, "Invalid HTTP Method: Unsupported HTTP method.");
	uri++;
	uri_bytes = (size_t)(version++ - uri);
	if (!uri_bytes)
		return refuse(p, "Invalid URI: Empty URI not allowed.");
	if (!http_utf8((const uint8_t *)uri, uri_bytes, &valid, &wrong) || memchr(uri, 0, uri_bytes))
		return refuse(p, "Invalid URI: Cannot parse URI as UTF-8.");
	if (!is(version, (size_t)(end - version), "HTTP/1.1") && !is(version, (size_t)(end - version), "HTTP/1.0"))
		return refuse(p, "Invalid HTTP Version: Unsupported HTTP version.");
	p->request.method = (enum http_method)method;
	p->request.minor = end[-1] == '1';
	p->uri = strndup(uri, uri_bytes);
	if (p->uri) {
		p->request.uri = p->uri;
		p->request.path = path_of(p->uri);
	}
	return true;
}

/* A number of 32 bits as Rust parses it. */
static bool number(const char *text, size_t bytes, uint32_t *value)
{
	uint64_t sum = 0;

	if (bytes > 1 && *text == '+') {
		text++;
		bytes--;
	}
	if (!bytes)
		return false;
	for (size_t i = 0; i < bytes; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		sum = sum * 10 + (unsigned)(text[i] - '0');
		if (sum > UINT32_MAX)
			return false;
	}
	*value = (uint32_t)sum;
	return true;
}

/* Whether the answer may be sent as it is, which is all that we can do. */
static bool accept_encoding(struct http_parser *p, const char *value, size_t bytes)
{
	const char *all = value, *end = value + bytes;
	bool names_identity = memmem(all, bytes, "identity", 8);

	if (!bytes)
		return refuse(p, "Invalid request.");
	for (const char *comma; value <= end; value = comma + 1) {
		size_t left;
		const char *coding;

		comma = memchr(value, ',', (size_t)(end - value));
		if (!comma)
			comma = end;
		coding = trimmed(value, (size_t)(comma - value), &left);
		if (is(coding, left, "identity;q=0") || (is(coding, left, "*;q=0") && !names_identity))
			return refuse(p, "Invalid header. Reason: Invalid value. Key:Accept-Encoding; Value:%.*s",
				      (int)(comma - value), value);
	}
	return true;
}

static bool keep_header(struct http_parser *p, const char *name, size_t name_bytes, const char *value, size_t bytes)
{
	for (unsigned i = 0; p->limits.keep && i < HTTP_KEPT_MAX && p->limits.keep[i]; i++)
		if (is_any_case(name, name_bytes, p->limits.keep[i])) {
			free(p->kept[i]);
			p->kept[i] = strndup(value, bytes);
			p->request.kept[i] = p->kept[i];
			return p->kept[i] || refuse(p, "Invalid request.");
		}
	return true;
}

static bool invalid_utf8(struct http_parser *p, size_t valid, unsigned wrong)
{
	static const char start[] = "Invalid header. Reason: Header contains invalid characters. Key: ";

	if (wrong)
		return refuse(p, "%sinvalid utf-8 sequence of %u bytes from index %zu", start, wrong, valid);
	return refuse(p, "%sincomplete utf-8 byte sequence from index %zu", start, valid);
}

static bool header_line(struct http_parser *p, const char *line, size_t bytes)
{
	const char *colon = memchr(line, ':', bytes), *name, *value;
	size_t name_bytes, value_bytes, valid;
	unsigned wrong;

	if (!http_utf8((const uint8_t *)line, bytes, &valid, &wrong))
		return invalid_utf8(p, valid, wrong);
	if (!colon)
		return refuse(p, "Invalid header. Reason: Header is incorrectly formatted. Key: %.*s", (int)bytes,
			      line);
	name = trimmed(line, (size_t)(colon - line), &name_bytes);
	value = trimmed(colon + 1, (size_t)(line + bytes - colon - 1), &value_bytes);
	if (is_any_case(name, name_bytes, "content-length")) {
		if (!number(value, value_bytes, &p->content_length))
			return refuse(p, "Invalid header. Reason: Invalid value. Key:%.*s; Value:%.*s",
				      (int)(colon - line), line, (int)(line + bytes - colon - 1), colon + 1);
	} else if (is_any_case(name, name_bytes, "accept")) {
		if (is(value, value_bytes, "application/json"))
			p->request.accepts_json = true;
		else if (is(value, value_bytes, "text/plain"))
			p->request.accepts_json = false;
	} else if (is_any_case(name, name_bytes, "expect")) {
		p->expects |= is(value, value_bytes, "100-continue");
	} else if (is_any_case(name, name_bytes, "transfer-encoding")) {
		p->chunked |= is_any_case(value, value_bytes, "chunked");
	} else if (is_any_case(name, name_bytes, "accept-encoding")) {
		return accept_encoding(p, value, value_bytes);
	}
	return keep_header(p, name, name_bytes, value, value_bytes);
}

/*
 * Moves bytes into the line up to its CR LF: true when that was found, with the line's length in *bytes. Without it,
 * and with a full buffer, *overflow.
 */
static bool take_line(struct http_parser *p, size_t *bytes, bool *overflow)
{
	*overflow = false;
	while (p->at < p->end) {
		char c = (char)*p->at++;

		if (p->line_used == p->limits.line_bytes) {
			/* of a line that was refused only the end matters */
			p->line[0] = p->line[p->line_used - 1];
			p->line_used = 1;
		}
		p->line[p->line_used++] = c;
		if (c == '\n' && p->line_used >= 2 && p->line[p->line_used - 2] == '\r') {
			*bytes = p->line_used - 2;
			p->line_used = 0;
			return true;
		}
		if (p->line_used == p->limits.line_bytes && !p->line_too_long) {
			p->line_too_long = true;
			*overflow = true;
			return false;
		}
	}
	return false;
}

static enum http_event headers_end(struct http_parser *p)
{
	if (p->chunked) {
		refuse(p, "Invalid request.");
		p->state = SKIP_CHUNKS;
		return HTTP_BAD;
	}
	if (p->content_length > p->limits.body_bytes) {
		refuse(p,
		       "Request payload with size %" PRIu32 " is larger than the limit of %" PRIu64
		       " allowed by server.",
		       p->content_length, p->limits.body_bytes);
		p->state = SKIP_BODY;
		return HTTP_BAD;
	}
	p->state = p->content_length ? BODY : READY;
	return p->content_length && p->expects ? HTTP_CONTINUE : HTTP_NOTHING;
}

/* A line that is no part of a request any more, of one that was refused. */
static void skipped_line(struct http_parser *p, size_t bytes)
{
	static const char length[] = "content-length:";

	if (p->state == SKIP_CHUNKS) {
		if (!bytes)
			p->state = REQUEST_LINE;
	} else if (!bytes) {
		p->state = p->content_length ? SKIP_BODY : REQUEST_LINE;
	} else if (bytes > sizeof length - 1 && !strncasecmp(p->line, length, sizeof length - 1)) {
		size_t left;
		const char *value = trimmed(p->line + sizeof length - 1, bytes - (sizeof length - 1), &left);

		if (!number(value, left, &p->content_length))
			p->content_length = 0;
	}
}

static enum http_event too_long(struct http_parser *p)
{
	enum state state = p->state;
	size_t valid = 0;
	unsigned wrong;

	if (state == SKIP_HEADERS || state == SKIP_CHUNKS)
		return HTTP_NOTHING;
	p->state = SKIP_HEADERS;
	if (state == REQUEST_LINE) {
		refuse(p, "Invalid request.");
	} else {
		http_utf8((const uint8_t *)p->line, p->line_used, &valid, &wrong);
		refuse(p, "Invalid header. Reason: Invalid content length. Header: %.*s", (int)valid, p->line);
	}
	return HTTP_BAD;
}

static enum http_event line_complete(struct http_parser *p, size_t bytes)
{
	bool good;

	if (p->line_too_long) {
		/* its end, which says nothing */
		p->line_too_long = false;
		return HTTP_NOTHING;
	}
	if (p->state == SKIP_HEADERS && begins_request(p->line, bytes)) {
		forget_request(p);
		p->state = REQUEST_LINE;
	}
	if (p->state == SKIP_HEADERS || p->state == SKIP_CHUNKS) {
		skipped_line(p, bytes);
		return HTTP_NOTHING;
	}
	if (p->state == HEADERS && !bytes)
		return headers_end(p);
	if (p->state == REQUEST_LINE) {
		forget_request(p);
		good = request_line(p, p->line, bytes);
		if (good && !p->uri)
			return HTTP_FAILED;
		/* an empty line instead of a request is all of it */
		p->state = good ? HEADERS : bytes ? SKIP_HEADERS : REQUEST_LINE;
	} else {
		good = header_line(p, p->line, bytes);
		if (!good)
			p->state = SKIP_HEADERS;
	}
	return good ? HTTP_NOTHING : HTTP_BAD;
}

static enum http_event some_line(struct http_parser *p)
{
	size_t bytes = 0;
	bool overflow;

	if (take_line(p, &bytes, &overflow))
		return line_complete(p, bytes);
	return overflow ? too_long(p) : HTTP_NOTHING;
}

static enum http_event some_body(struct http_parser *p)
{
	size_t have = p->request.body_bytes, more = (size_t)(p->end - p->at);

	if (more > p->content_length - have)
		more = p->content_length - have;
	/* what was announced is not believed before it arrives */
	if (have + more + 1 > p->body_room) {
		size_t room = have + more + 1 > 2 * p->body_room ? have + more + 1 : 2 * p->body_room;
		uint8_t *body = realloc(p->body, room);

		if (!body)
			return HTTP_FAILED;
		p->body = body;
		p->body_room = room;
	}
	memcpy(p->body + have, p->at, more);
	p->at += more;
	p->request.body_bytes += (uint32_t)more;
	p->body[p->request.body_bytes] = 0;
	p->request.body = p->body;
	if (p->request.body_bytes == p->content_length)
		p->state = READY;
	return HTTP_NOTHING;
}

static void skip_body(struct http_parser *p)
{
	uint64_t left = p->content_length - p->skipped, more = (uint64_t)(p->end - p->at);

	if (more > left)
		more = left;
	p->at += more;
	p->skipped += more;
	if (p->skipped == p->content_length)
		p->state = REQUEST_LINE;
}

/* A client that was refused before it sent its body, or the rest of its headers, may leave them out. */
static void look_for_request(struct http_parser *p)
{
	bool at_once = p->state == SKIP_CHUNKS || (p->state == SKIP_BODY && !p->skipped) ||
		       (p->state == SKIP_HEADERS && (!p->line_used || p->line_too_long));

	if (p->read_begins && at_once && begins_request((const char *)p->at, (size_t)(p->end - p->at))) {
		p->state = REQUEST_LINE;
		p->line_used = 0;
		p->line_too_long = false;
	}
	p->read_begins = false;
}

enum http_event http_next(struct http_parser *p)
{
	enum http_event event = HTTP_NOTHING;

	if (p->state == READY) {
		forget_request(p);
		p->state = REQUEST_LINE;
	}
	look_for_request(p);
	while (event == HTTP_NOTHING && p->at < p->end && p->state != READY) {
		if (p->state == BODY)
			event = some_body(p);
		else if (p->state == SKIP_BODY)
			skip_body(p);
		else
			event = some_line(p);
	}
	if (event == HTTP_NOTHING && p->state == READY)
		event = HTTP_REQUEST;
	return event;
}
