/* SPDX-License-Identifier: Apache-2.0 */
/* What the metadata service answers to a guest's HTTP request. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/http.h"
#include "api/mmds/internal.h"

#define HEAD_MAX 512u
#define NANOSECONDS_PER_MS 1000000u

/* A header as it was sent, in the bytes of the request. */
struct header {
	const char *name, *value;
	int name_bytes, value_bytes; /* without blanks around; 0: there is none */
};

struct exchange {
	struct mmds *mmds;
	const struct http_request *request;
	const char *head; /* its lines have been found well-formed */
	size_t bytes;
	struct text *text;
};

static const char *const token_headers[] = {"x-metadata-token", "x-aws-ec2-metadata-token", NULL};
static const char *const ttl_headers[] = {"x-metadata-token-ttl-seconds", "x-aws-ec2-metadata-token-ttl-seconds", NULL};
static const char *const forwarded_headers[] = {"x-forwarded-for", NULL};

static void respond(struct text *text, unsigned minor, unsigned status, const char *type, const char *headers,
		    const char *body, size_t bytes)
{
	char head[HEAD_MAX];
	const struct http_response response = {
	    .status = status,
	    .minor = minor,
	    .server = "Firecracker API",
	    .headers = headers,
	    .content_type = type,
	    .body_bytes = bytes,
	};

	text_add(text, head, http_response_head(&response, head, sizeof head));
	text_add(text, body, bytes);
}

static void say(const struct exchange *e, unsigned status, const char *words)
{
	respond(e->text, e->request->minor, status, "text/plain", NULL, words, strlen(words));
}

static void say_text(const struct exchange *e, unsigned status, struct text *words)
{
	e->text->failed |= words->failed;
	respond(e->text, e->request->minor, status, "text/plain", NULL, words->bytes, words->length);
	text_clear(words);
}

static void say_not_found(const struct exchange *e)
{
	struct text words = {0};

	text_add_string(&words, "Resource not found: ");
	text_add_string(&words, e->request->path);
	text_add_string(&words, ".");
	say_text(e, 404, &words);
}

/* ---- headers ---- */

static bool is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static void trim(const char **text, int *bytes)
{
	while (*bytes && is_blank(**text)) {
		(*text)++;
		(*bytes)--;
	}
	while (*bytes && is_blank((*text)[*bytes - 1]))
		(*bytes)--;
}

static bool is_one_of(const struct header *header, const char *const *names)
{
	for (; *names; names++)
		if ((size_t)header->name_bytes == strlen(*names) &&
		    !strncasecmp(header->name, *names, (size_t)header->name_bytes))
			return true;
	return false;
}

/* The last header that has one of these names. */
static bool find_header(const struct exchange *e, const char *const *names, struct header *found)
{
	const char *end = e->head + e->bytes, *line = memmem(e->head, e->bytes, "\r\n", 2), *line_end;
	bool any = false;

	for (; line && line + 2 < end; line = line_end) {
		line += 2;
		line_end = memmem(line, (size_t)(end - line), "\r\n", 2);
		const char *colon = line_end ? memchr(line, ':', (size_t)(line_end - line)) : NULL;

		if (!colon)
			continue;
		struct header header = {line, colon + 1, (int)(colon - line), (int)(line_end - colon - 1)};

		trim(&header.name, &header.name_bytes);
		trim(&header.value, &header.value_bytes);
		if (is_one_of(&header, names)) {
			*found = header;
			any = true;
		}
	}
	return any;
}

/* A number of 32 bits as Rust parses it. */
static bool number(const char *digits, int count, uint32_t *value)
{
	uint64_t sum = 0;

	if (count > 1 && *digits == '+') {
		digits++;
		count--;
	}
	if (!count)
		return false;
	for (; count; count--, digits++) {
		if (*digits < '0' || *digits > '9')
			return false;
		sum = sum * 10 + (unsigned)(*digits - '0');
		if (sum > UINT32_MAX)
			return false;
	}
	*value = (uint32_t)sum;
	return true;
}

/* ---- requests ---- */

/* Whether the token allows to read; version 1 only counts. */
static bool admitted(const struct exchange *e)
{
	struct mmds *mmds = e->mmds;
	bool must = mmds->config.version == MMDS_V2;
	struct header token;

	if (!find_header(e, token_headers, &token)) {
		mmds->counters.rx_no_token++;
		if (must)
			say(e, 401,
			    "No MMDS token provided. Use `X-metadata-token` or `X-aws-ec2-metadata-token` header to "
			    "specify the session token.");
		return !must;
	}
	if (mmds_token_valid(&mmds->tokens, token.value, (size_t)token.value_bytes, mmds->now() / NANOSECONDS_PER_MS))
		return true;
	mmds->counters.rx_invalid_token++;
	if (must)
		say(e, 401, "MMDS token not valid.");
	return !must;
}

static void get(const struct exchange *e)
{
	const char *path = e->request->path;
	bool as_json = e->request->accepts_json && !e->mmds->config.imds_compat;
	struct text body = {0};

	if (!admitted(e))
		return;
	enum mmds_status status = mmds_store_get(&e->mmds->store, path, strlen(path), as_json, &body);

	if (status == MMDS_OK)
		respond(e->text, e->request->minor, 200, as_json ? "application/json" : "text/plain", NULL, body.bytes,
			body.length);
	else if (status == MMDS_NOT_FOUND)
		say_not_found(e);
	else if (status == MMDS_WRONG_TYPE)
		say(e, 501, mmds_status_text(status));
	else
		e->text->failed = true;
	text_clear(&body);
}

static void give_token(const struct exchange *e, const struct header *header, uint32_t seconds)
{
	struct mmds *mmds = e->mmds;
	char token[MMDS_TOKEN_LENGTH + 1], echo[80];

	mmds_token_make(&mmds->tokens, mmds->now() / NANOSECONDS_PER_MS + seconds * UINT64_C(1000), token);
	snprintf(echo, sizeof echo, "%.*s: %u\r\n", header->name_bytes, header->name, seconds);
	respond(e->text, e->request->minor, 200, "text/plain", echo, token, MMDS_TOKEN_LENGTH);
}

/* Slashes may be doubled, but not be at the end. */
static bool is_token_path(const char *path)
{
	const char *wanted = "/latest/api/token";

	for (; *path; path++) {
		if (*path == '/' && path[1] == '/')
			continue;
		if (*path != *wanted)
			return false;
		wanted++;
	}
	return !*wanted;
}

static void put(const struct exchange *e)
{
	struct text words = {0};
	struct header header;
	uint32_t seconds;

	/* a proxy that passes requests on is not the guest */
	if (find_header(e, forwarded_headers, &header)) {
		text_print(&words, "Invalid header. Reason: Unsupported header name. Key: %.*s", header.name_bytes,
			   header.name);
		say_text(e, 400, &words);
	} else if (!is_token_path(e->request->path)) {
		say_not_found(e);
	} else if (!find_header(e, ttl_headers, &header)) {
		say(e, 400,
		    "Token time to live value not found. Use `X-metadata-token-ttl-seconds` or "
		    "`X-aws-ec2-metadata-token-ttl-seconds` header to specify the token's lifetime.");
	} else if (!number(header.value, header.value_bytes, &seconds)) {
		text_print(&words, "Invalid header. Reason: Invalid value. Key:%.*s; Value:", header.name_bytes,
			   header.name);
		text_add(&words, header.value, (size_t)header.value_bytes);
		say_text(e, 400, &words);
	} else if (seconds < MMDS_TOKEN_TTL_MIN || seconds > MMDS_TOKEN_TTL_MAX) {
		text_print(&words,
			   "Invalid time to live value provided for token: %u. Please provide a value between %u and "
			   "%u.",
			   seconds, MMDS_TOKEN_TTL_MIN, MMDS_TOKEN_TTL_MAX);
		say_text(e, 400, &words);
	} else {
		give_token(e, &header, seconds);
	}
}

static void answer_request(const struct exchange *e)
{
	const char *words = "Not allowed HTTP method.";

	if (!*e->request->path)
		say(e, 400, "Invalid URI.");
	else if (e->request->method == HTTP_GET)
		get(e);
	else if (e->request->method == HTTP_PUT)
		put(e);
	else
		respond(e->text, e->request->minor, 405, "text/plain", "Allow: GET, PUT\r\n", words, strlen(words));
}

/* What the parser refused: its words without their kind, which decides the status. */
static void answer_refused(struct text *text, const char *why)
{
	static const struct {
		const char *prefix;
		unsigned status;
	} kinds[] = {
	    {"Invalid HTTP Method: ", 501},
	    {"Invalid HTTP Version: ", 501},
	    {"Invalid URI: ", 400},
	    {"Invalid header. Reason: ", 400},
	};
	unsigned status = 400;

	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		size_t length = strlen(kinds[i].prefix);

		if (strncmp(why, kinds[i].prefix, length))
			continue;
		why += length;
		status = kinds[i].status;
		break;
	}
	respond(text, 1, status, "application/json", NULL, why, strlen(why));
}

void mmds_answer(struct mmds *mmds, const char *head, size_t bytes, struct text *text, uint32_t *body_bytes)
{
	static const char *const length_headers[] = {"content-length", NULL};
	const struct http_limits limits = {.line_bytes = (uint32_t)bytes + 1, .body_bytes = UINT64_MAX};
	struct http_parser *parser = http_parser_new(&limits);
	struct exchange e = {.mmds = mmds, .head = head, .bytes = bytes, .text = text};
	struct header length;

	*body_bytes = 0;
	if (!parser) {
		text->failed = true;
		return;
	}
	http_feed(parser, head, bytes);
	enum http_event event = http_next(parser);

	if (event == HTTP_REQUEST) {
		e.request = http_parser_request(parser);
		answer_request(&e);
	} else if (event == HTTP_FAILED) {
		text->failed = true;
	} else {
		/* beside what the parser refuses: lines that end otherwise, and a body */
		answer_refused(text, event == HTTP_BAD ? http_parser_error(parser) : "Invalid request.");
		if (find_header(&e, length_headers, &length))
			number(length.value, length.value_bytes, body_bytes);
	}
	http_parser_destroy(parser);
}
