/* SPDX-License-Identifier: Apache-2.0 */
/* The doctor's report and exit code for all kinds of hosts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "cli/commands/doctor_report.h"

static char *text;

static struct doctor_facts healthy(void)
{
	return (struct doctor_facts){
	    .kvm = KVM_HARDWARE,
	    .kvm_device = true,
	    .cpu_virtualises = true,
	    .kvm_group = "kvm",
	    .user = "ada",
	    .thp = THP_MADVISE,
	    .memory_bytes = UINT64_C(8) << 30,
	    .available_bytes = UINT64_C(4) << 30,
	    .prepare_program = "/usr/libexec/riffle-prepare",
	    .cache_directory = "/home/ada/.cache/riffle",
	};
}

static int report(const struct doctor_facts *facts)
{
	size_t bytes;
	FILE *to;
	int code;

	free(text);
	to = open_memstream(&text, &bytes);
	assert_non_null(to);
	code = doctor_report(to, facts);
	fclose(to);
	return code;
}

#define SAYS(words) assert_non_null(strstr(text, words))
#define SAYS_NOT(words) assert_null(strstr(text, words))

static void test_healthy(void **state)
{
	struct doctor_facts facts = healthy();

	(void)state;
	assert_int_equal(report(&facts), 0);
	SAYS("virtualises in hardware");
	SAYS("madvise");
	SAYS("4096 MiB available of 8192 MiB");
	SAYS("Linux guests run here.");
	SAYS_NOT("->"); /* nothing to do */
	facts.thp = THP_ALWAYS;
	assert_int_equal(report(&facts), 0);
	SAYS_NOT("->");
	facts.in_kvmbox = true;
	assert_int_equal(report(&facts), 0);
	SAYS("QEMU emulates");
	SAYS_NOT("in hardware");
}

static void test_kvm(void **state)
{
	struct doctor_facts facts = healthy();

	(void)state;
	facts.kvm = KVM_EMULATING;
	assert_int_equal(report(&facts), 1);
	SAYS("emulates guests instruction by instruction");
	SAYS("tools/kvmbox");
	SAYS("do not run");

	facts.kvm = KVM_NO_PERMISSION;
	assert_int_equal(report(&facts), 1);
	SAYS("usermod -aG kvm ada");
	facts.user = NULL;
	assert_int_equal(report(&facts), 1);
	SAYS("usermod -aG kvm $USER");
	facts.kvm_group = "root";
	assert_int_equal(report(&facts), 1);
	SAYS("chgrp kvm /dev/kvm");

	facts.kvm = KVM_NONE;
	facts.kvm_problem = "/dev/kvm: cannot be opened: No such file or directory";
	facts.kvm_device = false;
	assert_int_equal(report(&facts), 1);
	SAYS("No such file");
	SAYS("modprobe");
	SAYS("tools/kvmbox");
	facts.cpu_virtualises = false;
	assert_int_equal(report(&facts), 1);
	SAYS_NOT("modprobe");
	SAYS("neither VMX nor SVM");
}

/* problems that make guests slower or fail later are reported without changing the exit code */
static void test_the_rest(void **state)
{
	struct doctor_facts facts = healthy();

	(void)state;
	facts.thp = THP_NEVER;
	facts.available_bytes = UINT64_C(100) << 20;
	facts.prepare_program = NULL;
	facts.cache_problem = "Permission denied";
	assert_int_equal(report(&facts), 0);
	SAYS("transparent_hugepage/enabled");
	SAYS("low");
	SAYS("100 MiB available");
	SAYS("not found");
	SAYS("/home/ada/.cache/riffle: Permission denied");
	facts.thp = THP_UNKNOWN;
	facts.memory_bytes = 0;
	facts.cache_directory = NULL;
	assert_int_equal(report(&facts), 0);
	SAYS("no transparent huge pages");
	SAYS("/proc/meminfo");
	SAYS("HOME");
}

static void test_json(void **state)
{
	struct doctor_facts facts = healthy();
	size_t bytes;
	FILE *to;

	(void)state;
	free(text);
	to = open_memstream(&text, &bytes);
	assert_int_equal(doctor_report_json(to, &facts), 0);
	fclose(to);
	SAYS("\"linux_guests\": true");
	SAYS("\"advice\": []");
	facts.kvm = KVM_EMULATING;
	free(text);
	to = open_memstream(&text, &bytes);
	assert_int_equal(doctor_report_json(to, &facts), 1);
	fclose(to);
	json_t *all = json_loads(text, 0, NULL), *kvm = json_array_get(json_object_get(all, "matters"), 0);

	assert_true(json_is_false(json_object_get(all, "linux_guests")));
	assert_string_equal(json_string_value(json_object_get(kvm, "matter")), "KVM");
	assert_string_equal(json_string_value(json_object_get(kvm, "state")), "no");
	assert_int_equal(json_array_size(json_object_get(kvm, "advice")), 2);
	assert_int_equal(json_array_size(json_object_get(all, "matters")), 5);
	json_decref(all);
}

static void test_parsing(void **state)
{
	static const char meminfo[] =
	    "MemTotal:       16309844 kB\nMemFree:          204800 kB\nMemAvailable:    1048576 kB\n";

	(void)state;
	assert_int_equal(doctor_parse_thp("always [madvise] never\n"), THP_MADVISE);
	assert_int_equal(doctor_parse_thp("[always] madvise never\n"), THP_ALWAYS);
	assert_int_equal(doctor_parse_thp("always madvise [never]\n"), THP_NEVER);
	assert_int_equal(doctor_parse_thp(""), THP_UNKNOWN);
	assert_int_equal(doctor_parse_meminfo(meminfo, "MemTotal"), UINT64_C(16309844) * 1024);
	assert_int_equal(doctor_parse_meminfo(meminfo, "MemAvailable"), UINT64_C(1) << 30);
	assert_int_equal(doctor_parse_meminfo(meminfo, "Mem"), 0);
	assert_int_equal(doctor_parse_meminfo("", "MemTotal"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_healthy), cmocka_unit_test(test_kvm),     cmocka_unit_test(test_the_rest),
	    cmocka_unit_test(test_json),    cmocka_unit_test(test_parsing),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	free(text);
	return failed;
}
