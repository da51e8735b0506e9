/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes sequences of requests before the start, against a model of what is configured: each response has a known
 * status, a failed request changes nothing that GET shows, and GET shows accepted changes.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/vmm.h"
#include "tests/fuzz/accepted.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DRIVES 4

/* The expected configuration, as a client would track it. */
struct model {
	char order[DRIVES + 1]; /* ids of the drives, '0' to '3' */
	char root;              /* the root drive's id, 0: none */
	unsigned vcpus, memory, balloon;
	bool smt, has_balloon, has_kernel, has_vsock;
};

static struct vmm vmm;
static struct model model;

/* The status; *body is malloc()ed or NULL. */
static unsigned ask(enum http_method method, const char *path, const char *text, char **body)
{
	const struct http_request request = {.method = method,
					     .path = path,
					     .uri = path,
					     .body = (const uint8_t *)text,
					     .body_bytes = text ? (uint32_t)strlen(text) : 0};
	struct reply reply = {0};
	struct action action;
	unsigned status;

	if (router_parse(&request, &action, &reply)) {
		vmm_handle(&vmm, &action, &reply);
		arena_free(&action.arena);
	}
	status = reply.status;
	if (status != 200 && status != 204 && status != 400 && status != 413)
		abort();
	*body = reply_text(&reply);
	if ((status == 204) != !*body)
		abort();
	reply_free(&reply);
	return status;
}

static json_t *get(const char *path)
{
	json_error_t error;
	char *body;
	json_t *value;

	if (ask(HTTP_GET, path, NULL, &body) != 200)
		abort();
	value = json_loads(body, JSON_REJECT_DUPLICATES, &error);
	if (!value)
		abort();
	free(body);
	return value;
}

static void expect(bool condition)
{
	if (!condition)
		abort();
}

/* Checks what GET shows against the model. */
static void check(void)
{
	json_t *config = get("/vm/config"), *drives = json_object_get(config, "drives");
	json_t *machine = json_object_get(config, "machine-config"), *balloon = json_object_get(config, "balloon");
	size_t count = strlen(model.order);

	expect(json_array_size(drives) == count);
	for (size_t i = 0; i < count; i++) {
		json_t *drive = json_array_get(drives, i);

		expect(json_string_value(json_object_get(drive, "drive_id"))[0] == model.order[i]);
		expect(json_is_true(json_object_get(drive, "is_root_device")) == (model.order[i] == model.root));
	}
	expect(!model.root || model.order[0] == model.root);
	expect(json_integer_value(json_object_get(machine, "vcpu_count")) == model.vcpus);
	expect(json_integer_value(json_object_get(machine, "mem_size_mib")) == model.memory);
	expect(json_is_true(json_object_get(machine, "smt")) == model.smt);
	expect(json_is_null(balloon) == !model.has_balloon);
	expect(!model.has_balloon || json_integer_value(json_object_get(balloon, "amount_mib")) == model.balloon);
	expect(json_is_null(json_object_get(config, "vsock")) == !model.has_vsock);
	expect((json_string_length(json_object_get(json_object_get(config, "boot-source"), "kernel_image_path")) > 0) ==
	       model.has_kernel);
	json_decref(config);
}

static void put_drive(uint8_t bits)
{
	char id = (char)('0' + bits % DRIVES), path[32], body[160], *answer, *at = strchr(model.order, id);
	bool root = bits & 0x10, there = !(bits & 0x20);
	bool good = there && (!root || !model.root || model.order[0] == id);

	snprintf(path, sizeof path, "/drives/%c", id);
	snprintf(body, sizeof body, "{\"drive_id\":\"%c\",\"is_root_device\":%s,\"path_on_host\":\"%s\"}", id,
		 root ? "true" : "false", there ? "/dev/null" : "/none");
	expect(ask(HTTP_PUT, path, body, &answer) == (good ? 204u : 400u));
	free(answer);
	if (!good)
		return;
	if (!at && root) {
		memmove(model.order + 1, model.order, strlen(model.order) + 1);
		model.order[0] = id;
	} else if (!at) {
		model.order[strlen(model.order)] = id;
	} else if (root) {
		*at = model.order[0];
		model.order[0] = id;
	}
	if (root)
		model.root = id;
	else if (model.root == id)
		model.root = 0;
}

static void put_machine(uint8_t bits, uint8_t more, bool patch)
{
	unsigned vcpus = bits % 35, memory = more, old_smt = model.smt;
	bool smt = bits & 0x40, good;
	char body[120], *answer;

	if (patch) {
		snprintf(body, sizeof body, "{\"vcpu_count\":%u}", vcpus);
		memory = model.memory;
		smt = old_smt;
	} else {
		snprintf(body, sizeof body, "{\"vcpu_count\":%u,\"mem_size_mib\":%u,\"smt\":%s}", vcpus, memory,
			 smt ? "true" : "false");
	}
	good = vcpus >= 1 && vcpus <= 32 && memory && !(smt && vcpus > 1 && vcpus % 2) &&
	       (!model.has_balloon || memory >= model.balloon);
	expect(ask(patch ? HTTP_PATCH : HTTP_PUT, "/machine-config", body, &answer) == (good ? 204u : 400u));
	free(answer);
	if (!good)
		return;
	model.vcpus = vcpus;
	model.memory = memory;
	model.smt = smt;
}

static void put_balloon(uint8_t mib)
{
	bool good = mib <= model.memory;
	char body[80], *answer;

	snprintf(body, sizeof body, "{\"amount_mib\":%u,\"deflate_on_oom\":false}", mib);
	expect(ask(HTTP_PUT, "/balloon", body, &answer) == (good ? 204u : 400u));
	free(answer);
	if (good) {
		model.has_balloon = true;
		model.balloon = mib;
	}
}

static void put_vsock(uint8_t bits)
{
	char path[64], body[120], *answer;
	bool good = !(bits & 1);

	snprintf(path, sizeof path, "/tmp/riffle-fuzz-%d", (int)getpid());
	snprintf(body, sizeof body, "{\"guest_cid\":%u,\"uds_path\":\"%s\"}", bits, good ? path : "/dev/null");
	expect(ask(HTTP_PUT, "/vsock", body, &answer) == (good ? 204u : 400u));
	free(answer);
	model.has_vsock = good;
}

/* Requests that must be rejected in this phase, and bytes that are no request at all. */
static void ask_wrongly(uint8_t which, const uint8_t *data, size_t size)
{
	static const struct {
		enum http_method method;
		const char *path, *body;
	} wrong[] = {
	    {HTTP_PATCH, "/drives/0", "{\"drive_id\":\"0\",\"path_on_host\":\"/dev/null\"}"},
	    {HTTP_PATCH, "/vm", "{\"state\":\"Paused\"}"},
	    {HTTP_PATCH, "/balloon", "{\"amount_mib\":1}"},
	    {HTTP_PUT, "/actions", "{\"action_type\":\"FlushMetrics\"}"},
	    {HTTP_PUT, "/actions", "{\"action_type\":\"SendCtrlAltDel\"}"},
	    {HTTP_GET, "/balloon/statistics", NULL},
	    {HTTP_DELETE, "/drives/0", NULL},
	    {HTTP_PUT, "/boot-source", "{\"kernel_image_path\":\"/none\"}"},
	    {HTTP_PUT, "/snapshot/create", "{\"snapshot_path\":\"/none\",\"mem_file_path\":\"/none\"}"},
	};
	static const char *const paths[] = {"/machine-config", "/drives/0",    "/balloon",
					    "/entropy",        "/mmds/config", "/x"};
	char *answer, *text;

	if (which < 128) {
		const size_t i = which % (sizeof wrong / sizeof *wrong);

		expect(ask(wrong[i].method, wrong[i].path, wrong[i].body, &answer) == 400);
		free(answer);
		return;
	}
	text = malloc(size + 2);
	text[0] = '['; /* never what is expected */
	memcpy(text + 1, data, size);
	text[size + 1] = 0;
	expect(ask(which & 1 ? HTTP_PUT : HTTP_PATCH, paths[which / 2 % 6], text, &answer) == 400);
	free(answer);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct vmm_settings settings = {.id = "fuzz", .mmds_size_limit = 51200};
	char path[64], *answer;

	vmm_init(&vmm, &settings);
	model = (struct model){.vcpus = 1, .memory = 128};
	for (size_t i = 0; i + 2 < size && i < 300; i += 3) {
		uint8_t a = data[i + 1], b = data[i + 2];

		switch (data[i] % 7) {
		case 0:
			put_drive(a);
			break;
		case 1:
			put_machine(a, b, false);
			break;
		case 2:
			put_machine(a, b, true);
			break;
		case 3:
			put_balloon(a);
			break;
		case 4:
			put_vsock(a);
			break;
		case 5:
			expect(ask(HTTP_PUT, "/boot-source", "{\"kernel_image_path\":\"/dev/null\"}", &answer) == 204);
			model.has_kernel = true;
			break;
		default:
			ask_wrongly(a, data + i, size - i < 40 ? size - i : 40);
			break;
		}
		check();
		fuzz_accepted++;
	}
	vmm_destroy(&vmm);
	snprintf(path, sizeof path, "/tmp/riffle-fuzz-%d", (int)getpid());
	unlink(path);
	return 0;
}
