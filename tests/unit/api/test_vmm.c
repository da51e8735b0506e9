// SPDX-License-Identifier: Apache-2.0
/* Requests before the start, what they keep and replace, and the configuration file; no guest is started. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/config_file.h"

static struct vmm vmm;
static char directory[] = "/var/tmp/riffle-vmm-XXXXXX";

static int set_up(void **state)
{
	static const struct vmm_settings settings = {.id = "id", .mmds_size_limit = 51200};

	(void)state;
	vmm_init(&vmm, &settings);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	vmm_destroy(&vmm);
	return 0;
}

static int make_files(void **state)
{
	(void)state;
	return !mkdtemp(directory) || chdir(directory) || close(open("a", O_CREAT | O_RDWR, 0600)) ||
	       close(open("b", O_CREAT | O_RDWR, 0600)) || truncate("a", 4096);
}

static int remove_files(void **state)
{
	(void)state;
	unlink("a");
	unlink("b");
	unlink("v");
	return chdir("/") || rmdir(directory);
}

/* The status, with the body in `answer`. */
static char answer[8192];
static unsigned ask(enum http_method method, const char *path, const char *body)
{
	const struct http_request request = {.method = method,
					     .minor = 1,
					     .uri = path,
					     .path = path,
					     .body = (const uint8_t *)body,
					     .body_bytes = body ? (uint32_t)strlen(body) : 0};
	struct reply reply = {0};
	struct action action;
	unsigned status;

	if (router_parse(&request, &action, &reply)) {
		vmm_handle(&vmm, &action, &reply);
		arena_free(&action.arena);
	}
	snprintf(answer, sizeof answer, "%s", reply.body ? reply.body : "");
	status = reply.status;
	reply_free(&reply);
	return status;
}

#define PUT(path, body) assert_int_equal(ask(HTTP_PUT, path, body), 204)
#define REFUSED(path, body, words)                                                                                     \
	do {                                                                                                           \
		assert_int_equal(ask(HTTP_PUT, path, body), 400);                                                      \
		assert_string_equal(answer, words);                                                                    \
	} while (0)

static void put_drive(const char *id, bool root)
{
	char path[64], body[200];

	snprintf(path, sizeof path, "/drives/%s", id);
	snprintf(body, sizeof body, "{\"drive_id\":\"%s\",\"is_root_device\":%s,\"path_on_host\":\"a\"}", id,
		 root ? "true" : "false");
	PUT(path, body);
}

/* The ids of the drives in order, one letter each. */
static const char *drives(void)
{
	static char ids[VMM_DEVICES_MAX + 1];
	const char *at = answer;
	size_t count = 0;

	assert_int_equal(ask(HTTP_GET, "/vm/config", NULL), 200);
	while ((at = strstr(at, "\"drive_id\":\"")))
		ids[count++] = *(at += strlen("\"drive_id\":\""));
	ids[count] = 0;
	return ids;
}

static void test_order_of_drives(void **state)
{
	(void)state;
	put_drive("a", false);
	put_drive("b", false);
	assert_string_equal(drives(), "ab");
	put_drive("r", true); /* to the front */
	assert_string_equal(drives(), "rab");
	put_drive("b", false); /* in its place */
	assert_string_equal(drives(), "rab");
	REFUSED("/drives/b", "{\"drive_id\":\"b\",\"is_root_device\":true,\"path_on_host\":\"a\"}",
		"Drive config error: A root block device already exists!");
	put_drive("r", false);
	put_drive("b", true); /* changes places with the first */
	assert_string_equal(drives(), "bar");
	put_drive("b", true);
	assert_string_equal(drives(), "bar");
}

/* A failed request changes nothing. */
static void test_failed_repeats(void **state)
{
	char before[sizeof answer];

	(void)state;
	put_drive("a", true);
	PUT("/boot-source", "{\"kernel_image_path\":\"a\",\"boot_args\":\"x\"}");
	PUT("/machine-config", "{\"vcpu_count\":2,\"mem_size_mib\":64,\"smt\":true}");
	PUT("/balloon", "{\"amount_mib\":64,\"deflate_on_oom\":true}");
	ask(HTTP_GET, "/vm/config", NULL);
	strcpy(before, answer);
	REFUSED(
	    "/drives/a", "{\"drive_id\":\"a\",\"is_root_device\":true,\"path_on_host\":\"none\"}",
	    "Drive config error: Unable to create the virtio block device: Virtio backend error: Error manipulating "
	    "the backing file: No such file or directory (os error 2) none");
	REFUSED(
	    "/boot-source", "{\"kernel_image_path\":\"a\",\"initrd_path\":\"none\"}",
	    "Boot source error: The initrd file cannot be opened due to invalid path or invalid permissions. No such "
	    "file or directory (os error 2)");
	REFUSED("/boot-source", "{\"kernel_image_path\":\"a\",\"boot_args\":\"a\\tb\"}",
		"Boot source error: The kernel command line is invalid: string contains non-printable ASCII character");
	REFUSED(
	    "/machine-config", "{\"vcpu_count\":3,\"mem_size_mib\":64,\"smt\":true}",
	    "Machine config error: The number of vCPUs must be greater than 0, less than 32 and must be 1 or an even "
	    "number if SMT is enabled.");
	REFUSED("/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":63}",
		"Machine config error: The memory size (MiB) is smaller than the previously set balloon device target "
		"size.");
	REFUSED("/balloon", "{\"amount_mib\":65,\"deflate_on_oom\":true}",
		"Balloon config error: Amount of pages requested is too large.");
	REFUSED(
	    "/pmem/p", "{\"id\":\"p\",\"path_on_host\":\"a\",\"root_device\":true}",
	    "Pmem config error: Attempt to add pmem as a root device while the root device defined as a block device");
	REFUSED("/pmem/p", "{\"id\":\"p\",\"path_on_host\":\"b\"}",
		"Pmem config error: Unable to create the virtio-pmem device: Error backing file size is 0");
	ask(HTTP_GET, "/vm/config", NULL);
	assert_string_equal(answer, before);
}

static void test_machine(void **state)
{
	(void)state;
	PUT("/machine-config",
	    "{\"vcpu_count\":32,\"mem_size_mib\":1,\"track_dirty_pages\":true,\"cpu_template\":\"T2\"}");
	assert_int_equal(ask(HTTP_PATCH, "/machine-config", "{\"smt\":true}"), 204);
	ask(HTTP_GET, "/machine-config", NULL);
	assert_string_equal(answer, "{\"vcpu_count\":32,\"mem_size_mib\":1,\"smt\":true,\"cpu_template\":\"T2\","
				    "\"track_dirty_pages\":true,\"huge_pages\":\"None\"}");
	/* absent members are reset, except the template */
	PUT("/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":2}");
	ask(HTTP_GET, "/machine-config", NULL);
	assert_string_equal(answer, "{\"vcpu_count\":1,\"mem_size_mib\":2,\"smt\":false,\"cpu_template\":\"T2\","
				    "\"track_dirty_pages\":false,\"huge_pages\":\"None\"}");
	PUT("/cpu-config", "{}"); /* the last one wins */
	ask(HTTP_GET, "/machine-config", NULL);
	assert_null(strstr(answer, "cpu_template"));
	REFUSED(
	    "/machine-config", "{\"vcpu_count\":33,\"mem_size_mib\":2}",
	    "Machine config error: The number of vCPUs must be greater than 0, less than 32 and must be 1 or an even "
	    "number if SMT is enabled.");
	assert_int_equal(ask(HTTP_PATCH, "/machine-config", "{\"huge_pages\":\"2M\",\"mem_size_mib\":3}"), 400);
	assert_int_equal(ask(HTTP_PATCH, "/machine-config", "{}"), 400);
	assert_string_equal(answer, "Empty PATCH request.");
}

/* The old vsock and its socket are removed even if the new one fails. */
static void test_vsock(void **state)
{
	struct stat st;

	(void)state;
	PUT("/vsock", "{\"guest_cid\":3,\"uds_path\":\"v\"}");
	assert_int_equal(stat("v", &st), 0);
	PUT("/vsock", "{\"guest_cid\":4,\"uds_path\":\"v\"}");
	assert_int_equal(ask(HTTP_PUT, "/vsock", "{\"guest_cid\":4,\"uds_path\":\"a\"}"), 400);
	assert_non_null(strstr(answer, "Address already in use (os error 98)"));
	assert_int_equal(stat("v", &st), -1);
	ask(HTTP_GET, "/vm/config", NULL);
	assert_non_null(strstr(answer, "\"vsock\":null"));
}

/* The old socket's path may meanwhile be another file, or another process's socket. */
static void test_vsock_is_not_ours(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "v"};
	struct stat st;
	int other = socket(AF_UNIX, SOCK_STREAM, 0);

	(void)state;
	REFUSED("/vsock", "{\"guest_cid\":3,\"uds_path\":\"\"}",
		"Vsock config error: Cannot create backend for vsock device: Error binding to the host-side Unix "
		"socket: path must not be empty");
	PUT("/vsock", "{\"guest_cid\":3,\"uds_path\":\"v\"}");
	assert_int_equal(unlink("v"), 0);
	assert_int_equal(close(open("v", O_CREAT | O_RDWR, 0600)), 0);
	PUT("/vsock", "{\"guest_cid\":3,\"uds_path\":\"w\"}");
	assert_int_equal(stat("v", &st), 0);
	assert_int_equal(rename("v", "w"), 0); /* over ours */
	PUT("/vsock", "{\"guest_cid\":3,\"uds_path\":\"v\"}");
	assert_int_equal(stat("w", &st), 0);
	assert_int_equal(unlink("w"), 0);
	assert_int_equal(link("v", "w"), 0); /* which keeps the inode's number */
	assert_int_equal(unlink("v"), 0);
	assert_int_equal(bind(other, (struct sockaddr *)&address, sizeof address), 0);
	PUT("/vsock", "{\"guest_cid\":3,\"uds_path\":\"x\"}");
	assert_int_equal(stat("v", &st), 0);
	assert_int_equal(unlink("v") || unlink("w"), 0);
	PUT("/vsock", "{\"guest_cid\":3,\"uds_path\":\"v\"}");
	assert_int_equal(stat("x", &st), -1);
	close(other);
}

/* The guest's memory for each size: a multiple of 2 MiB, never 0. */
static void test_memory(void **state)
{
	static const uint64_t sizes[][2] = {{1, 2}, {2, 2}, {3, 2}, {4, 4}, {127, 126}};
	static struct machine_config config;
	struct reply reply = {0};

	(void)state;
	PUT("/boot-source", "{\"kernel_image_path\":\"a\"}");
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		char body[80];

		snprintf(body, sizeof body, "{\"vcpu_count\":1,\"mem_size_mib\":%u}", (unsigned)sizes[i][0]);
		PUT("/machine-config", body);
		assert_true(vmm_describe(&vmm, &config, &reply));
		assert_int_equal(config.memory_bytes, sizes[i][1] << 20);
	}
	reply_free(&reply);
}

static void test_snapshot_after_configuration(void **state)
{
	static const char load[] = "{\"snapshot_path\":\"none\",\"mem_file_path\":\"none\"}";

	(void)state;
	assert_int_equal(ask(HTTP_PUT, "/balloon", "{\"amount_mib\":1000,\"deflate_on_oom\":true}"), 400);
	/* the attempt is enough */
	REFUSED(
	    "/snapshot/load", load,
	    "Load snapshot error: Loading a microVM snapshot not allowed after configuring boot-specific resources.");
}

static void test_file(void **state)
{
	char problem[400] = "";

	(void)state;
	assert_true(
	    config_file_apply(&vmm,
			      "{\"boot-source\":{\"kernel_image_path\":\"a\"},\"drives\":[{\"drive_id\":\"d-1\","
			      "\"is_root_device\":true,\"path_on_host\":\"a\"}],\"unknown\":1,\"vsock\":null,"
			      "\"machine-config\":{\"vcpu_count\":2,\"mem_size_mib\":64},\"entropy\":{},"
			      "\"balloon\":{\"amount_mib\":64,\"deflate_on_oom\":false}}",
			      NULL, NULL, problem, sizeof problem));
	ask(HTTP_GET, "/vm/config", NULL);
	assert_non_null(strstr(answer, "\"drive_id\":\"d-1\""));
	assert_non_null(strstr(answer, "\"mem_size_mib\":64"));
	assert_non_null(strstr(answer, "\"entropy\":{\"rate_limiter\":null}"));
	assert_false(config_file_apply(&vmm, "{\"boot-source\":{\"kernel_image_path\":\"none\"},\"drives\":[]}", NULL,
				       NULL, problem, sizeof problem));
	assert_string_equal(problem,
			    "Boot source error: The kernel file cannot be opened: No such file or directory (os "
			    "error 2)");
	assert_false(config_file_check("{\"boot-source\":{\"kernel_image_path\":\"a\"}}", problem, sizeof problem));
	assert_string_equal(problem, "Invalid JSON: missing field `drives` at line 1 column 41");
	assert_true(config_file_check("{\"boot-source\":{\"kernel_image_path\":\"none\"},\"drives\":[]}", problem,
				      sizeof problem));
}

/* What a snapshot says that the client had configured has to be of the machine that it holds. */
static void test_view_of_a_snapshot(void **state)
{
	static const char view[] =
	    "{\"balloon\":null,\"drives\":[{\"drive_id\":\"d\",\"is_root_device\":true,\"path_on_host\":\"/d\"}],"
	    "\"boot-source\":{\"kernel_image_path\":\"/k\",\"initrd_path\":\"/i\",\"boot_args\":\"a\"},"
	    "\"machine-config\":{\"vcpu_count\":2,\"mem_size_mib\":129,\"cpu_template\":\"T2\"},"
	    "\"network-interfaces\":[],\"vsock\":null,\"entropy\":null,\"pmem\":[],"
	    "\"memory-hotplug\":{\"total_size_mib\":256}}";
	static const char *const changes[][2] = {
	    {"\"vcpu_count\":2", "\"vcpu_count\":4"},
	    {"\"vcpu_count\":2", "\"vcpu_count\":256"},
	    {"\"drive_id\":\"d\"", "\"drive_id\":\"e\""},
	    {"\"path_on_host\":\"/d\"", "\"path_on_host\":null"},
	    {"\"vsock\":null", "\"vsock\":{\"guest_cid\":3,\"uds_path\":\"v\"}"},
	    {"\"entropy\":null", "\"entropy\":{}"},
	    {"\"balloon\":null", "\"balloon\":{\"amount_mib\":1,\"deflate_on_oom\":true}"},
	    {"\"network-interfaces\":[]", "\"network-interfaces\":[{\"iface_id\":\"n\",\"host_dev_name\":\"t\"}]"},
	    {"\"pmem\":[]", "\"pmem\":[{\"id\":\"p\",\"path_on_host\":\"/p\"}]"},
	    {"\"machine-config\":{", "\"other\":{"},
	    {"\"total_size_mib\":256", "\"total_size_mib\":-1"},
	    {"{\"balloon\"", "[\"balloon\""},
	};
	static struct machine_config config;
	struct riffle_error error;
	char changed[2048];

	(void)state;
	machine_config_init(&config);
	config.vcpus = 2;
	config.devices.disk_count = 1;
	config.devices.disks[0] = (struct machine_disk){.id = "d", .path = "/d", .root = true};
	for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
		const char *at = strstr(view, changes[i][0]);

		assert_non_null(at);
		snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - view), view, changes[i][1],
			 at + strlen(changes[i][0]));
		config.front_end = changed;
		assert_int_equal(vmm_adopt(&vmm, &config, &error), RIFFLE_ERR_FORMAT);
		assert_string_equal(error.field, "front_end");
		tear_down(NULL);
		set_up(NULL);
	}
	config.front_end = view;
	config.track_dirty = true;
	config.huge_pages = false;
	assert_int_equal(vmm_adopt(&vmm, &config, &error), 0);
	assert_int_equal(ask(HTTP_GET, "/vm/config", NULL), 200);
	assert_non_null(strstr(answer, "\"kernel_image_path\":\"/k\",\"initrd_path\":\"/i\",\"boot_args\":\"a\"}"));
	assert_non_null(strstr(answer, "\"mem_size_mib\":129,\"smt\":false,\"cpu_template\":\"T2\","
				       "\"track_dirty_pages\":true,\"huge_pages\":\"None\"}"));
	assert_non_null(strstr(answer, "\"total_size_mib\":256,\"block_size_mib\":2,\"slot_size_mib\":128}"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(test_order_of_drives),
	    TEST(test_failed_repeats),
	    TEST(test_machine),
	    TEST(test_vsock),
	    TEST(test_vsock_is_not_ours),
	    TEST(test_memory),
	    TEST(test_snapshot_after_configuration),
	    TEST(test_file),
	    TEST(test_view_of_a_snapshot),
	};

	return cmocka_run_group_tests(tests, make_files, remove_files);
}
