/* SPDX-License-Identifier: Apache-2.0 */
/* The metadata service's store, tokens and responses, without a network. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/mmds/internal.h"
#include "api/mmds/json_out.h"

#define MS UINT64_C(1000000)
#define HEAD(version, code, type)                                                                                      \
	"HTTP/" version " " code " \r\nServer: Firecracker API\r\nConnection: keep-alive\r\nContent-Type: " type       \
	"\r\nContent-Length: "

static uint64_t fake_now = 1000 * MS;

static uint64_t now(void)
{
	return fake_now;
}

static json_t *parse(const char *text)
{
	json_error_t error;
	json_t *value = json_loads(text, JSON_DECODE_ANY, &error);

	assert_non_null(value);
	return value;
}

static struct mmds *open_mmds(const char *text, enum mmds_version version)
{
	struct mmds *mmds;
	struct mmds_config config = {.version = version, .address = MMDS_ADDRESS_DEFAULT};

	assert_int_equal(mmds_new(&mmds, MMDS_SIZE_LIMIT, "vm-1", NULL), 0);
	mmds->now = now;
	mmds_configure(mmds, &config);
	if (text) {
		assert_int_equal(mmds_put(mmds, text, strlen(text)), MMDS_OK);
	}
	return mmds;
}

static enum mmds_status put(struct mmds *mmds, const char *text)
{
	return mmds_put(mmds, text, strlen(text));
}

static enum mmds_status patch(struct mmds *mmds, const char *text)
{
	return mmds_patch(mmds, text, strlen(text));
}

static void expect_text(struct text *text, const char *wanted)
{
	assert_false(text->failed);
	text_add(text, "", 1);
	assert_string_equal(text->bytes, wanted);
	text_clear(text);
}

static void expect_store(const struct mmds *mmds, const char *wanted)
{
	struct text text = {0};

	assert_int_equal(mmds_text(mmds, &text), MMDS_OK);
	expect_text(&text, wanted);
}

/* ---- JSON ---- */

static void test_json_text(void **state)
{
	(void)state;
	static const char *const rows[][2] = {
	    {"{\"b\":1,\"a\":{\"d\":[],\"c\":{}}}", "{\"a\":{\"c\":{},\"d\":[]},\"b\":1}"},
	    {"[true,false,null,\"\"]", "[true,false,null,\"\"]"},
	    {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\\u007f\\u00e9\"",
	     "\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\xc3\xa9\""},
	    {"-9223372036854775808", "-9223372036854775808"},
	    {"12.12", "12.12"},
	    {"0.1", "0.1"},
	    {"1.0", "1.0"},
	    {"-0.0", "-0.0"},
	    {"100.0", "100.0"},
	    {"123456789012345.6", "123456789012345.6"},
	    {"1e15", "1000000000000000.0"},
	    {"1e16", "1e16"},
	    {"1.5e16", "1.5e16"},
	    {"1.5e300", "1.5e300"},
	    {"0.00001", "0.00001"},
	    {"0.000001", "1e-6"},
	    {"0.0000012", "1.2e-6"},
	    {"5e-324", "5e-324"},
	    {"1.7976931348623157e308", "1.7976931348623157e308"},
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct text text = {0};
		json_t *value = parse(rows[i][0]);

		json_out_add(&text, value);
		expect_text(&text, rows[i][1]);
		json_decref(value);
	}
}

/* The examples of RFC 7396, appendix A. */
static void test_merge_patch(void **state)
{
	(void)state;
	static const char *const rows[][3] = {
	    {"{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
	    {"{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}"},
	    {"{\"a\":\"b\"}", "{\"a\":null}", "{}"},
	    {"{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}"},
	    {"{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
	    {"{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}"},
	    {"{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}", "{\"a\":{\"b\":\"d\"}}"},
	    {"{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}"},
	    {"[\"a\",\"b\"]", "[\"c\",\"d\"]", "[\"c\",\"d\"]"},
	    {"{\"a\":\"b\"}", "[\"c\"]", "[\"c\"]"},
	    {"{\"a\":\"foo\"}", "\"bar\"", "\"bar\""},
	    {"{\"e\":null}", "{\"a\":1}", "{\"a\":1,\"e\":null}"},
	    {"[1,2]", "{\"a\":\"b\",\"c\":null}", "{\"a\":\"b\"}"},
	    {"{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}"},
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct mmds *mmds = open_mmds(rows[i][0], MMDS_V1);

		assert_int_equal(patch(mmds, rows[i][1]), MMDS_OK);
		expect_store(mmds, rows[i][2]);
		mmds_destroy(mmds);
	}
}

static void test_store(void **state)
{
	(void)state;
	struct mmds *mmds = open_mmds(NULL, MMDS_V1);

	expect_store(mmds, "{}");
	assert_int_equal(patch(mmds, "{\"a\":1}"), MMDS_NOT_SET);
	expect_store(mmds, "{}");
	assert_int_equal(put(mmds, "null"), MMDS_OK);
	expect_store(mmds, "{}");
	assert_int_equal(patch(mmds, "{\"a\":1}"), MMDS_OK);
	expect_store(mmds, "{\"a\":1}");
	assert_int_equal(put(mmds, "7"), MMDS_OK);
	expect_store(mmds, "7");
	mmds_destroy(mmds);
}

/* From text, including numbers that jansson does not represent exactly. */
static void test_text(void **state)
{
	(void)state;
	static const char *const rows[][2] = {
	    {" { \"b\" : [ 9223372036854775807 , -9223372036854775808 ] } ",
	     "{\"b\":[9223372036854775807,-9223372036854775808]}"},
	    {"[1e3,9223372036854775807,9223372036854775808,-100000000000000000000]",
	     "[1000.0,9223372036854775807,9.223372036854776e18,-1e20]"},
	    {"{\"12345678901234567890\":\"\\\"98765432109876543210\",\"a\":12345678901234567890123}",
	     "{\"12345678901234567890\":\"\\\"98765432109876543210\",\"a\":1.2345678901234568e22}"},
	    {"123456789012345678901234567890.5", "1.2345678901234568e29"},
	    {"\"a\\u0000b\"", "\"a\\u0000b\""},
	    {"", NULL},
	    {"{", NULL},
	    {"[1,]", NULL},
	    {"1e999", NULL},
	    {"[12345678901234567890,", NULL},
	    {"\"\xff\"", NULL},
	};
	struct mmds *mmds = open_mmds("0", MMDS_V1);

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		enum mmds_status wanted = rows[i][1] ? MMDS_OK : MMDS_BAD_JSON;

		assert_int_equal(mmds_put(mmds, rows[i][0], strlen(rows[i][0])), wanted);
		if (rows[i][1])
			expect_store(mmds, rows[i][1]);
	}
	assert_int_equal(mmds_put(mmds, "{}", 2), MMDS_OK);
	assert_int_equal(mmds_patch(mmds, "{\"a\":1}x", 7), MMDS_OK);
	assert_int_equal(mmds_patch(mmds, "{\"b\":1}x", 8), MMDS_BAD_JSON);
	expect_store(mmds, "{\"a\":1}");
	mmds_destroy(mmds);
}

/* The exact limit is accepted, by put and by patch; what does not fit changes nothing. */
static void test_limit(void **state)
{
	(void)state;
	struct mmds *mmds = open_mmds("{\"k\":\"v\"}", MMDS_V1);
	char text[64];

	mmds->store.limit = 20;
	snprintf(text, sizeof text, "{\"k\":  \"%.*s\"}", 13, "xxxxxxxxxxxxxxxxxxx");
	assert_int_equal(put(mmds, text), MMDS_TOO_LARGE);
	expect_store(mmds, "{\"k\":\"v\"}");
	snprintf(text, sizeof text, "{\"k\":  \"%.*s\"}", 12, "xxxxxxxxxxxxxxxxxxx");
	assert_int_equal(put(mmds, text), MMDS_OK);
	assert_int_equal(patch(mmds, "{\"l\":1}"), MMDS_TOO_LARGE);
	expect_store(mmds, "{\"k\":\"xxxxxxxxxxxx\"}");
	assert_int_equal(patch(mmds, "{\"k\":\"yyyyyyyyyyyyy\"}"), MMDS_TOO_LARGE);
	assert_int_equal(patch(mmds, "{\"k\":\"yyyyyyyyyyyy\"}"), MMDS_OK);
	assert_int_equal(patch(mmds, "{\"k\":null,\"l\":12345678901234}"), MMDS_OK);
	expect_store(mmds, "{\"l\":12345678901234}");
	mmds_destroy(mmds);
}

/* ---- answers ---- */

static void ask(struct mmds *mmds, const char *request, struct text *answer)
{
	uint32_t body;

	mmds_answer(mmds, request, strlen(request), answer, &body);
}

static void expect_answer(struct mmds *mmds, const char *request, const char *wanted)
{
	struct text answer = {0};

	ask(mmds, request, &answer);
	expect_text(&answer, wanted);
}

static const char store[] =
    "{\"age\":43,\"name\":{\"second\":\"Doe\",\"first\":\"John\"},\"list\":[\"one\",{\"two\":2}],"
    "\"phones\":{\"home\":{\"UK\":\"+44\"},\"mobile\":\"+441\"},\"empty\":\"\",\"none\":null,"
    "\"a/b\":{\"m~n\":\"tilde\"},\"real\":12.12,\"yes\":true,\"nothing\":{}}";

static const struct {
	const char *path, *imds, *json; /* NULL: not found; imds "501": has no such text */
} paths[] = {
    {"/name/first", "John", "\"John\""},
    {"/name/first/", "John", "\"John\""},
    {"//name///first//", "John", "\"John\""},
    {"/name", "first\nsecond", "{\"first\":\"John\",\"second\":\"Doe\"}"},
    {"/name/", "first\nsecond", "{\"first\":\"John\",\"second\":\"Doe\"}"},
    {"/phones", "home/\nmobile", "{\"home\":{\"UK\":\"+44\"},\"mobile\":\"+441\"}"},
    {"http://169.254.169.254/phones/home", "UK", "{\"UK\":\"+44\"}"},
    {"/list/0", "one", "\"one\""},
    {"/list/1", "two", "{\"two\":2}"},
    {"/list", "501", "[\"one\",{\"two\":2}]"},
    {"/list/1/two", "501", "2"},
    {"/age", "501", "43"},
    {"/real", "501", "12.12"},
    {"/yes", "501", "true"},
    {"/none", "501", "null"},
    {"/empty", "", "\"\""},
    {"/nothing", "", "{}"},
    {"/a~1b", "m~n", "{\"m~n\":\"tilde\"}"},
    {"/a~1b/m~0n", "tilde", "\"tilde\""},
    {"/", "a/b/\nage\nempty\nlist\nname/\nnone\nnothing/\nphones/\nreal\nyes",
     "{\"a/"
     "b\":{\"m~n\":\"tilde\"},\"age\":43,\"empty\":\"\",\"list\":[\"one\",{\"two\":2}],\"name\":{\"first\":\"John\","
     "\"second\":\"Doe\"},\"none\":null,\"nothing\":{},\"phones\":{\"home\":{\"UK\":\"+44\"},\"mobile\":\"+441\"},"
     "\"real\":12.12,\"yes\":true}"},
    {"/list/2", NULL, NULL},
    {"/list/00", NULL, NULL},
    {"/list/01", NULL, NULL},
    {"/list/-1", NULL, NULL},
    {"/list/18446744073709551616", NULL, NULL},
    {"/name/third", NULL, NULL},
    {"/name/first/more", NULL, NULL},
    {"/age?x", NULL, NULL},
    {"/a/b", NULL, NULL},
};

/* Each path in both formats; with imds_compat there is no JSON. */
static void test_paths(void **state)
{
	(void)state;
	struct mmds *mmds = open_mmds(store, MMDS_V1);

	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
		for (int way = 0; way < 3; way++) {
			const char *accept = way ? "Accept: application/json\r\n" : "Accept: */*\r\n";
			bool json = way == 1;
			const char *wanted = json ? paths[i].json : paths[i].imds, *code = "200", *path = paths[i].path;
			char request[256], body[512], answer[1024];

			mmds->config.imds_compat = way == 2;
			if (!strncmp(path, "http://", 7))
				path = strchr(path + 7, '/');
			snprintf(body, sizeof body, "Resource not found: %s.", path);
			if (!wanted) {
				wanted = body;
				code = "404";
				json = false;
			} else if (!strcmp(wanted, "501")) {
				wanted = "Cannot retrieve value. The value has an unsupported type.";
				code = "501";
			}
			snprintf(request, sizeof request, "GET %s HTTP/1.1\r\n%s\r\n", paths[i].path, accept);
			snprintf(answer, sizeof answer, HEAD("1.1", "%s", "%s") "%zu\r\n\r\n%s", code,
				 json ? "application/json" : "text/plain", strlen(wanted), wanted);
			expect_answer(mmds, request, answer);
		}
	mmds_destroy(mmds);
}

/* Nothing was stored yet: the whole is null. */
static void test_empty(void **state)
{
	(void)state;
	struct mmds *mmds = open_mmds(NULL, MMDS_V1);

	expect_answer(mmds, "GET / HTTP/1.0\r\nAccept: application/json\r\n\r\n",
		      HEAD("1.0", "200", "application/json") "4\r\n\r\nnull");
	expect_answer(
	    mmds, "GET / HTTP/1.0\r\n\r\n",
	    HEAD("1.0", "501", "text/plain") "57\r\n\r\nCannot retrieve value. The value has an unsupported type.");
	expect_answer(mmds, "GET /x HTTP/1.0\r\n\r\n",
		      HEAD("1.0", "404", "text/plain") "23\r\n\r\nResource not found: /x.");
	mmds_destroy(mmds);
}

static void test_refused(void **state)
{
	(void)state;
	static const struct {
		const char *request, *code, *type, *words;
		uint32_t body;
	} rows[] = {
	    {"GET http:// HTTP/1.1\r\n\r\n", "400", "text/plain", "Invalid URI.", 0},
	    {"GET x HTTP/1.1\r\n\r\n", "400", "text/plain", "Invalid URI.", 0},
	    {"POST / HTTP/1.1\r\n\r\n", "501", "application/json", "Unsupported HTTP method.", 0},
	    {"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n", "501", "application/json", "Unsupported HTTP method.", 9},
	    {"GET / HTTP/2.0\r\n\r\n", "501", "application/json", "Unsupported HTTP version.", 0},
	    {"GET  HTTP/1.1\r\n\r\n", "400", "application/json", "Empty URI not allowed.", 0},
	    {"GET / HTTP/1.1\r\nX\r\n\r\n", "400", "application/json", "Header is incorrectly formatted. Key: X", 0},
	    {"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", "400", "application/json",
	     "Invalid value. Key:Content-Length; Value: x", 0},
	    {"GET / HTTP/1.1\r\nContent-Length: 100\r\n\r\n", "400", "application/json", "Invalid request.", 100},
	    {"PUT /latest/api/token HTTP/1.1\r\nContent-Length: 4294967295\r\n\r\n", "400", "application/json",
	     "Invalid request.", UINT32_MAX},
	    {"GET / HTTP/1.1\n\n", "400", "application/json", "Invalid request.", 0},
	    {"\r\n\r\n", "400", "application/json", "Invalid request.", 0},
	};
	struct mmds *mmds = open_mmds(store, MMDS_V1);

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct text answer = {0};
		char wanted[512];
		uint32_t body;

		snprintf(wanted, sizeof wanted, HEAD("1.1", "%s", "%s") "%zu\r\n\r\n%s", rows[i].code, rows[i].type,
			 strlen(rows[i].words), rows[i].words);
		mmds_answer(mmds, rows[i].request, strlen(rows[i].request), &answer, &body);
		expect_text(&answer, wanted);
		assert_int_equal(body, rows[i].body);
	}
	for (int i = 0; i < 2; i++)
		expect_answer(
		    mmds, i ? "PATCH / HTTP/1.0\r\n\r\n" : "DELETE / HTTP/1.0\r\n\r\n",
		    "HTTP/1.0 405 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\nAllow: GET, PUT\r\n"
		    "Content-Type: text/plain\r\nContent-Length: 24\r\n\r\nNot allowed HTTP method.");
	mmds_destroy(mmds);
}

/* ---- tokens ---- */

/* Asks for a token; *token is what came. */
static void get_token(struct mmds *mmds, const char *header, const char *path, char token[MMDS_TOKEN_LENGTH + 1])
{
	struct text answer = {0};
	char request[256], head[256];

	snprintf(request, sizeof request, "PUT %s HTTP/1.1\r\n%s\r\n\r\n", path, header);
	snprintf(
	    head, sizeof head,
	    "HTTP/1.1 200 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n%s\r\nContent-Type: text/plain\r\n"
	    "Content-Length: 48\r\n\r\n",
	    header);
	ask(mmds, request, &answer);
	assert_int_equal(answer.length, strlen(head) + MMDS_TOKEN_LENGTH);
	assert_memory_equal(answer.bytes, head, strlen(head));
	memcpy(token, answer.bytes + strlen(head), MMDS_TOKEN_LENGTH);
	token[MMDS_TOKEN_LENGTH] = 0;
	text_clear(&answer);
}

static bool reads(struct mmds *mmds, const char *header, const char *token)
{
	struct text answer = {0};
	char request[256];

	snprintf(request, sizeof request, "GET /name/first HTTP/1.1\r\n%s: %s\r\n\r\n", header, token);
	ask(mmds, request, &answer);
	bool good = !memcmp(answer.bytes, "HTTP/1.1 200", 12);

	if (!good)
		expect_text(&answer, HEAD("1.1", "401", "text/plain") "21\r\n\r\nMMDS token not valid.");
	text_clear(&answer);
	return good;
}

static void test_tokens(void **state)
{
	(void)state;
	static const char *const names[][2] = {{"X-metadata-token", "X-metadata-token-ttl-seconds"},
					       {"x-AWS-ec2-metadata-token", "X-aws-ec2-metadata-TOKEN-ttl-seconds"}};
	struct mmds *mmds = open_mmds(store, MMDS_V2), *other = open_mmds(store, MMDS_V2);
	char token[2][MMDS_TOKEN_LENGTH + 1], header[80];

	for (int i = 0; i < 2; i++) {
		snprintf(header, sizeof header, "%s: 21600", names[i][1]);
		get_token(mmds, header, i ? "//latest/api//token" : "/latest/api/token", token[i]);
	}
	assert_string_not_equal(token[0], token[1]);
	for (int i = 0; i < 4; i++)
		assert_true(reads(mmds, names[i / 2][0], token[i % 2]));
	/* of another key; and with any bit of it changed */
	assert_false(reads(other, names[0][0], token[0]));
	for (size_t i = 0; i < MMDS_TOKEN_LENGTH; i++) {
		char c = token[0][i];

		token[0][i] = c == 'A' ? 'B' : 'A';
		assert_false(reads(mmds, names[0][0], token[0]));
		token[0][i] = c;
	}
	for (size_t i = 1; i < MMDS_TOKEN_LENGTH; i++) {
		char cut[MMDS_TOKEN_LENGTH + 1] = {0};

		memcpy(cut, token[0], i);
		assert_false(reads(mmds, names[0][0], cut));
	}
	snprintf(header, sizeof header, "%sA", token[0]);
	assert_false(reads(mmds, names[0][0], header));
	memset(header, '=', MMDS_TOKEN_LENGTH);
	assert_false(reads(mmds, names[0][0], header));
	assert_true(reads(mmds, names[0][0], token[0]));
	expect_answer(
	    mmds, "GET / HTTP/1.1\r\n\r\n",
	    HEAD("1.1", "401", "text/plain") "113\r\n\r\nNo MMDS token provided. Use `X-metadata-token` or "
					     "`X-aws-ec2-metadata-token` header to specify the session token.");
	mmds_destroy(mmds);
	mmds_destroy(other);
}

/* A token expires to the millisecond, and is bound to the instance. */
static void test_token_expiry(void **state)
{
	(void)state;
	struct mmds *mmds = open_mmds(store, MMDS_V2);
	char token[MMDS_TOKEN_LENGTH + 1];

	get_token(mmds, "X-metadata-token-ttl-seconds: 1", "/latest/api/token", token);
	fake_now += 999 * MS;
	assert_true(reads(mmds, "X-metadata-token", token));
	snprintf(mmds->tokens.bound_to, sizeof mmds->tokens.bound_to, "microvmid=%s", "vm-2");
	assert_false(reads(mmds, "X-metadata-token", token));
	snprintf(mmds->tokens.bound_to, sizeof mmds->tokens.bound_to, "microvmid=%s", "vm-1");
	assert_true(reads(mmds, "X-metadata-token", token));
	fake_now += 1 * MS;
	assert_false(reads(mmds, "X-metadata-token", token));
	mmds_destroy(mmds);
}

/* Version 1 issues tokens, and only counts invalid ones. */
static void test_version_1(void **state)
{
	(void)state;
	struct mmds *mmds = open_mmds(store, MMDS_V1);
	char token[MMDS_TOKEN_LENGTH + 1];

	get_token(mmds, "X-metadata-token-ttl-seconds: 60", "/latest/api/token", token);
	assert_true(reads(mmds, "X-metadata-token", token));
	assert_int_equal(mmds->counters.rx_invalid_token, 0);
	assert_int_equal(mmds->counters.rx_no_token, 0);
	assert_true(reads(mmds, "X-metadata-token", "foo"));
	assert_int_equal(mmds->counters.rx_invalid_token, 1);
	assert_true(reads(mmds, "X-other", "foo"));
	assert_int_equal(mmds->counters.rx_no_token, 1);
	assert_int_equal(mmds->counters.rx_invalid_token, 1);
	mmds_destroy(mmds);
}

static void test_token_requests(void **state)
{
	(void)state;
	static const char ttl[] = "X-metadata-token-ttl-seconds";
	static const struct {
		const char *path, *header, *value, *code, *words;
	} rows[] = {
	    {"/latest/api/token", "X-Forwarded-For", "foo", "400",
	     "Invalid header. Reason: Unsupported header name. Key: X-Forwarded-For"},
	    {"/", "x-forwarded-for", "foo", "400",
	     "Invalid header. Reason: Unsupported header name. Key: x-forwarded-for"},
	    {"/latest/api/toke", ttl, "60", "404", "Resource not found: /latest/api/toke."},
	    {"/latest/api/tokens", ttl, "60", "404", "Resource not found: /latest/api/tokens."},
	    {"/latest/api/token/", ttl, "60", "404", "Resource not found: /latest/api/token/."},
	    {"/latest/api/token", "X-metadata-token", "60", "400",
	     "Token time to live value not found. Use `X-metadata-token-ttl-seconds` or "
	     "`X-aws-ec2-metadata-token-ttl-seconds` header to specify the token's lifetime."},
	    {"/latest/api/token", ttl, "0", "400",
	     "Invalid time to live value provided for token: 0. Please provide a value between 1 and 21600."},
	    {"/latest/api/token", ttl, "21601", "400",
	     "Invalid time to live value provided for token: 21601. Please provide a value between 1 and 21600."},
	    {"/latest/api/token", ttl, "4294967296", "400",
	     "Invalid header. Reason: Invalid value. Key:X-metadata-token-ttl-seconds; Value:4294967296"},
	    {"/latest/api/token", ttl, "-1", "400",
	     "Invalid header. Reason: Invalid value. Key:X-metadata-token-ttl-seconds; Value:-1"},
	    {"/latest/api/token", ttl, "", "400",
	     "Invalid header. Reason: Invalid value. Key:X-metadata-token-ttl-seconds; Value:"},
	};

	for (int version = MMDS_V1; version <= MMDS_V2; version++) {
		struct mmds *mmds = open_mmds(store, (enum mmds_version)version);

		for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
			char request[256], wanted[512];

			snprintf(request, sizeof request, "PUT %s HTTP/1.1\r\nHost: x\r\n%s:  %s \r\n\r\n",
				 rows[i].path, rows[i].header, rows[i].value);
			snprintf(wanted, sizeof wanted, HEAD("1.1", "%s", "text/plain") "%zu\r\n\r\n%s", rows[i].code,
				 strlen(rows[i].words), rows[i].words);
			expect_answer(mmds, request, wanted);
		}
		mmds_destroy(mmds);
	}
}

static void test_address(void **state)
{
	(void)state;
	assert_false(mmds_address_allowed(0xa9fe00ff)); /* 169.254.0.255 */
	assert_true(mmds_address_allowed(0xa9fe0100));
	assert_true(mmds_address_allowed(MMDS_ADDRESS_DEFAULT));
	assert_true(mmds_address_allowed(0xa9fefeff));
	assert_false(mmds_address_allowed(0xa9feff00));
	assert_false(mmds_address_allowed(0x01010101));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_json_text), cmocka_unit_test(test_merge_patch),
	    cmocka_unit_test(test_store),     cmocka_unit_test(test_text),
	    cmocka_unit_test(test_limit),     cmocka_unit_test(test_paths),
	    cmocka_unit_test(test_empty),     cmocka_unit_test(test_refused),
	    cmocka_unit_test(test_tokens),    cmocka_unit_test(test_token_expiry),
	    cmocka_unit_test(test_version_1), cmocka_unit_test(test_token_requests),
	    cmocka_unit_test(test_address),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
