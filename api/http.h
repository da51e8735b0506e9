/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.x for a small server: parses bytes into requests, one at a time, and writes the head of a response. */
#ifndef RIFFLE_API_HTTP_H
#define RIFFLE_API_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The grammar is that of Firecracker's HTTP server: lines end in CR LF, a body has a Content-Length, no chunks. Headers
 * that the server does not use are ignored. All input is hostile.
 */

enum http_method { HTTP_GET, HTTP_PUT, HTTP_PATCH, HTTP_DELETE };

#define HTTP_KEPT_MAX 4u

struct http_limits {
	uint32_t line_bytes;     /* the request line and each header line, with CR LF */
	uint64_t body_bytes;     /* more than this is refused at the end of the headers, before the body arrives */
	const char *const *keep; /* lower-case names of headers whose values are kept, ending with NULL; at most
				    HTTP_KEPT_MAX; may be NULL */
};

/* Valid until the next call of http_next(). */
struct http_request {
	enum http_method method;
	unsigned minor;  /* of the version: 0 or 1 */
	const char *uri; /* as sent, valid UTF-8 */
	/* the path: what follows the host in http://host/path; "" if the URI does not begin with a slash */
	const char *path;
	bool accepts_json; /* by its last Accept header with a known type */
	const char
	    *kept[HTTP_KEPT_MAX]; /* trimmed values of limits.keep's headers; NULL: not sent; the last one wins */
	const uint8_t *body;      /* NUL follows it */
	uint32_t body_bytes;      /* 0: no body */
};

enum http_event {
	HTTP_NOTHING,  /* all input is consumed */
	HTTP_REQUEST,  /* http_parser_request() is complete */
	HTTP_CONTINUE, /* the client waits for "100 Continue" before it sends the body */
	HTTP_BAD,      /* refused: http_parser_error() says why, in Firecracker's words; what follows is parsed */
	HTTP_FAILED,   /* no memory: close the connection */
};

struct http_parser;

/* NULL: no memory. *limits is copied; limits->keep is not. */
struct http_parser *http_parser_new(const struct http_limits *limits);
void http_parser_destroy(struct http_parser *parser);

/*
 * Feeds the bytes of one read; they must stay there until http_next() returns HTTP_NOTHING. The end of a read is used
 * to find the next request after a refused one: a client that got its reply sends no more of it.
 */
void http_feed(struct http_parser *parser, const void *bytes, size_t count);
enum http_event http_next(struct http_parser *parser);
const struct http_request *http_parser_request(const struct http_parser *parser);
const char *http_parser_error(const struct http_parser *parser);

struct http_response {
	unsigned status;
	unsigned minor;           /* of the version */
	const char *server;       /* "Firecracker API" */
	const char *headers;      /* further lines, each with CR LF, after Connection; NULL: none */
	const char *content_type; /* NULL: application/json. Not sent with 204 and 100, nor is a length */
	size_t body_bytes;
};

/*
 * Writes everything but the body; returns how long it is, and writes nothing if that is not less than `room`.
 */
size_t http_response_head(const struct http_response *response, char *text, size_t room);

/* Whether the bytes are UTF-8; *valid is the number of valid bytes at the start, *wrong the length of the first fault
 * (0: truncated).
 */
bool http_utf8(const uint8_t *bytes, size_t count, size_t *valid, unsigned *wrong);

#endif
