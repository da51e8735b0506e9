// SPDX-License-Identifier: Apache-2.0
/* The HTTP parser: what it accepts, its error messages, and where the next request begins afterwards. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/http.h"

static const char *const keep[] = {"x-metadata-token", "x-forwarded-for", NULL};
static const struct http_limits limits = {.line_bytes = 1024, .body_bytes = 51200, .keep = keep};

/* The parser's events as text: "GET /path body|" for a request, "100|", "!error|". */
static char transcript[8192];

static void take(struct http_parser *p, const void *bytes, size_t count)
{
	void *copy = malloc(count ? count : 1);
	enum http_event event;

	memcpy(copy, bytes, count);
	http_feed(p, copy, count);
	while ((event = http_next(p)) != HTTP_NOTHING) {
		static const char *const methods[] = {"GET", "PUT", "PATCH", "DELETE"};
		const struct http_request *r = http_parser_request(p);
		char *to = transcript + strlen(transcript);
		size_t room = sizeof transcript - strlen(transcript);

		assert_int_not_equal(event, HTTP_FAILED);
		if (event == HTTP_BAD)
			snprintf(to, room, "!%s|", http_parser_error(p));
		else if (event == HTTP_CONTINUE)
			snprintf(to, room, "100|");
		else if (r->body_bytes)
			snprintf(to, room, "%s %s %.*s|", methods[r->method], r->path, (int)r->body_bytes,
				 (const char *)r->body);
		else
			snprintf(to, room, "%s %s|", methods[r->method], r->path);
	}
	free(copy);
}

/* The transcript of several reads. */
static const char *read_all(const char *const *reads)
{
	struct http_parser *p = http_parser_new(&limits);

	*transcript = 0;
	for (; *reads; reads++)
		take(p, *reads, strlen(*reads));
	http_parser_destroy(p);
	return transcript;
}
#define READS(...) read_all((const char *const[]){__VA_ARGS__, NULL})

static void test_requests(void **state)
{
	(void)state;
	assert_string_equal(READS("GET / HTTP/1.1\r\n\r\n"), "GET /|");
	assert_string_equal(READS("GET / HTTP/1.0\r\n\r\n"), "GET /|");
	assert_string_equal(READS("DELETE /drives/a HTTP/1.1\r\nHost: x\r\n\r\n"), "DELETE /drives/a|");
	assert_string_equal(READS("PUT /a HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"), "PUT /a {}|");
	assert_string_equal(READS("PATCH /a HTTP/1.1\r\ncontent-LENGTH:  +2 \r\n\r\n", "{}"), "PATCH /a {}|");
	assert_string_equal(READS("PUT /a HTTP/1.1\r\nContent-Length: 0\r\n\r\n"), "PUT /a|");
	assert_string_equal(READS("GET http://localhost:80/version HTTP/1.1\r\n\r\n"), "GET /version|");
	assert_string_equal(READS("GET http://localhost HTTP/1.1\r\n\r\n"), "GET |");
	assert_string_equal(READS("GET version HTTP/1.1\r\n\r\n"), "GET |");
	assert_string_equal(READS("GET /a?b=c HTTP/1.1\r\n\r\n"), "GET /a?b=c|");
	/* of two lengths the last one applies */
	assert_string_equal(READS("PUT / HTTP/1.1\r\nContent-Length: 9\r\nContent-Length: 2\r\n\r\n{}"), "PUT / {}|");
	/* pipelined */
	assert_string_equal(READS("PUT /a HTTP/1.1\r\nContent-Length: 1\r\n\r\n1GET /b HTTP/1.1\r\n\r\n"),
			    "PUT /a 1|GET /b|");
}

static void test_any_split(void **state)
{
	static const char text[] = "PUT /a HTTP/1.1\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n\r\n{}"
				   "GET /b HTTP/1.1\r\nX: y\r\n\r\n";

	(void)state;
	for (size_t split = 0; split <= sizeof text - 1; split++) {
		struct http_parser *p = http_parser_new(&limits);

		*transcript = 0;
		take(p, text, split);
		take(p, text + split, sizeof text - 1 - split);
		http_parser_destroy(p);
		assert_string_equal(transcript, "100|PUT /a \r\n{}|GET /b|");
	}
}

static void test_refused(void **state)
{
	static const struct {
		const char *text, *error;
	} cases[] = {
	    {"POST / HTTP/1.1\r\n\r\n", "Invalid HTTP Method: Unsupported HTTP method."},
	    {"get / HTTP/1.1\r\n\r\n", "Invalid HTTP Method: Unsupported HTTP method."},
	    {"GET / HTTP/2.0\r\n\r\n", "Invalid HTTP Version: Unsupported HTTP version."},
	    {"GET / HTTP/1.1 \r\n\r\n", "Invalid HTTP Version: Unsupported HTTP version."},
	    {"GET /\r\n\r\n", "Invalid request."},
	    {"\r\n", "Invalid request."},
	    {"GET  HTTP/1.1\r\n\r\n", "Invalid URI: Empty URI not allowed."},
	    {"GET /\xff HTTP/1.1\r\n\r\n", "Invalid URI: Cannot parse URI as UTF-8."},
	    {"GET / HTTP/1.1\r\nNoColon\r\n\r\n",
	     "Invalid header. Reason: Header is incorrectly formatted. Key: NoColon"},
	    {"GET / HTTP/1.1\r\na\xff: b\r\n\r\n",
	     "Invalid header. Reason: Header contains invalid characters. Key: invalid utf-8 sequence of 1 bytes "
	     "from index 1"},
	    {"GET / HTTP/1.1\r\na: \xe2\x82\r\n\r\n",
	     "Invalid header. Reason: Header contains invalid characters. Key: incomplete utf-8 byte sequence from "
	     "index 3"},
	    {"PUT / HTTP/1.1\r\nContent-Length: alpha\r\n\r\n",
	     "Invalid header. Reason: Invalid value. Key:Content-Length; Value: alpha"},
	    {"PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
	     "Invalid header. Reason: Invalid value. Key:Content-Length; Value: -1"},
	    {"PUT / HTTP/1.1\r\nContent-Length: 4294967296\r\n\r\n",
	     "Invalid header. Reason: Invalid value. Key:Content-Length; Value: 4294967296"},
	    {"GET / HTTP/1.1\r\nAccept-Encoding: gzip, identity;q=0\r\n\r\n",
	     "Invalid header. Reason: Invalid value. Key:Accept-Encoding; Value: identity;q=0"},
	    {"GET / HTTP/1.1\r\nAccept-Encoding: *;q=0\r\n\r\n",
	     "Invalid header. Reason: Invalid value. Key:Accept-Encoding; Value:*;q=0"},
	    {"PUT / HTTP/1.1\r\nContent-Length: 51201\r\nExpect: 100-continue\r\n\r\n",
	     "Request payload with size 51201 is larger than the limit of 51200 allowed by server."},
	    {"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", "Invalid request."},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char expected[600];

		/* the connection is usable afterwards */
		snprintf(expected, sizeof expected, "!%s|GET /next|", cases[i].error);
		assert_string_equal(READS(cases[i].text, "GET /next HTTP/1.1\r\n\r\n"), expected);
	}
}

/* Requests before and after a rejected one are not lost, however the reads are split. */
static void test_neighbours(void **state)
{
	(void)state;
	assert_string_equal(READS("GET /a HTTP/1.1\r\n\r\nBAD / HTTP/1.1\r\nX: y\r\n\r\nGET /b HTTP/1.1\r\n\r\n"),
			    "GET /a|!Invalid HTTP Method: Unsupported HTTP method.|GET /b|");
	assert_string_equal(READS("BAD\r\nGET /b HTTP/1.1\r\n\r\n"), "!Invalid request.|GET /b|");
	/* the rejected request's body, in the same read and in a separate one */
	assert_string_equal(READS("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}GET /b HTTP/1.1\r\n\r\n"),
			    "!Invalid HTTP Method: Unsupported HTTP method.|GET /b|");
	assert_string_equal(READS("PUT / HTTP/1.1\r\nx\r\nContent-Length: 2\r\n\r\n", "{}", "GET /b HTTP/1.1\r\n\r\n"),
			    "!Invalid header. Reason: Header is incorrectly formatted. Key: x|GET /b|");
	/* the rest of a rejected body is skipped, whatever it contains */
	assert_string_equal(READS("PUT / HTTP/1.1\r\nContent-Length: 51219\r\n\r\n", "x", "GET /not HTTP/1.1\r\n\r\n"),
			    "!Request payload with size 51219 is larger than the limit of 51200 allowed by server.|");
}

static void test_body_limit(void **state)
{
	static char body[51201];
	struct http_parser *p = http_parser_new(&limits);
	static const char head[] = "PUT / HTTP/1.1\r\nContent-Length: 51200\r\n\r\n";
	static const char too_long[] = "PUT / HTTP/1.1\r\nContent-Length: 51201\r\n\r\n";

	(void)state;
	memset(body, 'x', sizeof body);
	http_feed(p, head, sizeof head - 1);
	assert_int_equal(http_next(p), HTTP_NOTHING);
	http_feed(p, body, 51199);
	assert_int_equal(http_next(p), HTTP_NOTHING);
	http_feed(p, body, 1);
	assert_int_equal(http_next(p), HTTP_REQUEST);
	assert_int_equal(http_parser_request(p)->body_bytes, 51200);
	assert_int_equal(http_next(p), HTTP_NOTHING);
	http_feed(p, too_long, sizeof too_long - 1);
	assert_int_equal(http_next(p), HTTP_BAD);
	assert_int_equal(http_next(p), HTTP_NOTHING);
	http_feed(p, body, 51201);
	assert_int_equal(http_next(p), HTTP_NOTHING);
	*transcript = 0;
	take(p, "GET /c HTTP/1.1\r\n\r\n", 19);
	assert_string_equal(transcript, "GET /c|");
	http_parser_destroy(p);
}

/* A line of `bytes` bytes with its CR LF. */
static bool line_taken(bool first, size_t bytes)
{
	struct http_parser *p = http_parser_new(&limits);
	char text[2100];
	size_t used;
	bool taken;

	if (first) {
		size_t path = bytes - strlen("GET  HTTP/1.1\r\n");

		used = (size_t)sprintf(text, "GET /");
		memset(text + used, 'a', path - 1);
		used += path - 1;
		used += (size_t)sprintf(text + used, " HTTP/1.1\r\n\r\n");
	} else {
		used = (size_t)sprintf(text, "GET / HTTP/1.1\r\nX: ");
		memset(text + used, 'a', bytes - 5);
		used += bytes - 5;
		used += (size_t)sprintf(text + used, "\r\n\r\n");
	}
	*transcript = 0;
	take(p, text, used);
	taken = !strncmp(transcript, "GET", 3);
	take(p, "GET /next HTTP/1.1\r\n\r\n", 22);
	assert_non_null(strstr(transcript, "|GET /next|"));
	assert_null(strstr(strstr(transcript, "|") + 1, "!"));
	http_parser_destroy(p);
	return taken;
}

static void test_line_limit(void **state)
{
	(void)state;
	for (int first = 0; first < 2; first++) {
		assert_true(line_taken(first, 1024));
		assert_false(line_taken(first, 1025));
		assert_false(line_taken(first, 1026));
		assert_false(line_taken(first, 2050));
	}
}

static void test_kept(void **state)
{
	static const char text[] = "GET / HTTP/1.0\r\nX-Metadata-Token:  abc=\r\nAccept: application/json\r\n"
				   "Accept: */*\r\n\r\n";
	struct http_parser *p = http_parser_new(&limits);

	(void)state;
	http_feed(p, text, sizeof text - 1);
	assert_int_equal(http_next(p), HTTP_REQUEST);
	assert_string_equal(http_parser_request(p)->kept[0], "abc=");
	assert_null(http_parser_request(p)->kept[1]);
	assert_true(http_parser_request(p)->accepts_json);
	assert_int_equal(http_parser_request(p)->minor, 0);
	assert_int_equal(http_next(p), HTTP_NOTHING);
	http_feed(p, "GET / HTTP/1.1\r\n\r\n", 18);
	assert_int_equal(http_next(p), HTTP_REQUEST);
	assert_null(http_parser_request(p)->kept[0]);
	assert_false(http_parser_request(p)->accepts_json);
	http_parser_destroy(p);
}

static void test_response(void **state)
{
	struct http_response r = {.status = 204, .minor = 1, .server = "Firecracker API", .body_bytes = 7};
	char text[300];
	size_t bytes;

	(void)state;
	bytes = http_response_head(&r, text, sizeof text);
	assert_string_equal(text, "HTTP/1.1 204 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n");
	assert_int_equal(bytes, strlen(text));
	r.status = 400;
	r.headers = "Deprecation: true\r\n";
	bytes = http_response_head(&r, text, sizeof text);
	assert_string_equal(text, "HTTP/1.1 400 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n"
				  "Deprecation: true\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n");
	assert_int_equal(bytes, strlen(text));
	for (size_t room = 0; room <= bytes; room++)
		assert_int_equal(http_response_head(&r, text, room), bytes);
}

static void test_utf8(void **state)
{
	static const struct {
		const char *text;
		size_t valid;
		int wrong; /* -1: none */
	} cases[] = {
	    {"abc", 3, -1},
	    {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9, -1},
	    {"a\x80", 1, 1},
	    {"\xc0\xaf", 0, 1},
	    {"\xe0\x9f\xbf", 0, 1},
	    {"\xed\xa0\x80", 0, 1},
	    {"\xed\x9f\xbf", 3, -1},
	    {"\xf4\x90\x80\x80", 0, 1},
	    {"\xf4\x8f\xbf\xbf", 4, -1},
	    {"\xf5\x80\x80\x80", 0, 1},
	    {"ab\xf0\x9f\x98x", 2, 3},
	    {"ab\xf0\x9f\x98", 2, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		size_t valid;
		unsigned wrong;
		bool good = http_utf8((const uint8_t *)cases[i].text, strlen(cases[i].text), &valid, &wrong);

		assert_int_equal(good, cases[i].wrong < 0);
		assert_int_equal(valid, cases[i].valid);
		if (!good)
			assert_int_equal(wrong, cases[i].wrong);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_requests),   cmocka_unit_test(test_any_split),  cmocka_unit_test(test_refused),
	    cmocka_unit_test(test_neighbours), cmocka_unit_test(test_body_limit), cmocka_unit_test(test_line_limit),
	    cmocka_unit_test(test_kept),       cmocka_unit_test(test_response),   cmocka_unit_test(test_utf8),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
