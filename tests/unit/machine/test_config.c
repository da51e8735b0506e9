/* SPDX-License-Identifier: Apache-2.0 */
/* A machine's description: valid defaults, and each limit plus and minus one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "machine/config.h"

static struct machine_config config;

static int set_up(void **state)
{
	(void)state;
	machine_config_init(&config);
	config.kernel = "vmlinuz";
	return 0;
}

static void fine(void)
{
	struct riffle_error error = {0};

	if (machine_config_check(&config, &error))
		fail_msg("%s: %s", error.field, error.problem);
}

static void wrong(const char *field)
{
	struct riffle_error error = {0};

	assert_int_equal(machine_config_check(&config, &error), RIFFLE_ERR_ARGUMENT);
	assert_string_equal(error.field, field);
}

static void defaults(void **state)
{
	(void)state;
	fine();
	assert_int_equal(config.vcpus, 1);
	assert_int_equal(config.memory_bytes, 256 << 20);
	assert_true(config.layout.automatic);
	config.kernel = NULL;
	wrong("kernel");
}

static void bounds(void **state)
{
	(void)state;
	config.vcpus = 0;
	wrong("vcpus");
	config.vcpus = 33;
	wrong("vcpus");
	config.vcpus = 32;
	fine();
	config.memory_bytes = 0;
	wrong("memory");
	config.memory_bytes = (2 << 20) - 1;
	wrong("memory");
	config.memory_bytes = 3 << 20;
	wrong("memory");
	config.memory_bytes = 2 << 20;
	fine();
	config.memory_bytes = (4ull << 40) + (2 << 20);
	wrong("memory");
	config.memory_bytes = 4ull << 40;
	fine();
}

static void combinations(void **state)
{
	const struct machine_initrd initrd = {0};

	(void)state;
	config.initrd_path = "a";
	fine();
	config.initrd = &initrd;
	wrong("initrd");
	config.initrd_path = NULL;
	fine();
	config.console.kind = MACHINE_CONSOLE_UNIX;
	wrong("console");
	config.console.path = "";
	wrong("console");
	config.console.path = "p";
	fine();
	config.layout.replay = "l";
	fine();
	config.layout.has_seed = true;
	wrong("layout");
	config.layout.replay = NULL;
	fine();
	config.boot = MACHINE_BOOT_BOOTSTRAP;
	wrong("boot");
	config.layout.has_seed = false;
	fine();
	config.layout.automatic = false;
	config.layout.mode = RIFFLE_MODE_KASLR;
	wrong("boot");
	config.layout.mode = RIFFLE_MODE_OFF;
	fine();
}

static void command_lines(void **state)
{
	char longest[4096];
	struct riffle_error error = {0};

	(void)state;
	assert_int_equal(machine_config_command_line(&config, "one", false, &error), 0);
	assert_int_equal(machine_config_command_line(&config, "two", true, &error), 0);
	assert_int_equal(machine_config_command_line(&config, "three", true, &error), 0);
	assert_string_equal(config.command_line, "one two three");
	memset(longest, 'x', sizeof longest);
	longest[4095] = 0;
	assert_int_equal(machine_config_command_line(&config, longest, false, &error), 0);
	assert_int_equal(strlen(config.command_line), 4095);
	assert_int_equal(machine_config_command_line(&config, "", true, &error), RIFFLE_ERR_ARGUMENT); /* a blank */
	/* 13 bytes, a blank, and 4081 more are all there is room for */
	assert_int_equal(machine_config_command_line(&config, "one two three", false, &error), 0);
	longest[4082] = 0;
	assert_int_equal(machine_config_command_line(&config, longest, true, &error), RIFFLE_ERR_ARGUMENT);
	assert_int_equal(error.found, 4096);
	assert_int_equal(error.expected, 4095);
	assert_string_equal(config.command_line, "one two three");
	longest[4081] = 0;
	assert_int_equal(machine_config_command_line(&config, longest, true, &error), 0);
	assert_int_equal(strlen(config.command_line), 4095);
	assert_int_equal(machine_config_command_line(&config, "", false, &error), 0);
	assert_int_equal(machine_config_command_line(&config, "first", true, &error), 0);
	assert_string_equal(config.command_line, "first");
}

/* Words for the kernel go before those for init. */
static void words_of_the_kernel(void **state)
{
	static const char *const cases[][2] = {
	    {"", "k=1"},
	    {"a", "a k=1"},
	    {"a -- b", "a k=1 -- b"},
	    {"a --", "a k=1 --"},
	    {"-- b", "k=1 -- b"},
	    {"--", "k=1 --"},
	    {"a -- b -- c", "a k=1 -- b -- c"},
	    {"a --b c-- d", "a --b c-- d k=1"},
	};
	struct riffle_error error;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		assert_int_equal(machine_config_command_line(&config, cases[i][0], false, &error), 0);
		assert_int_equal(machine_config_kernel_words(&config, "k=1", &error), 0);
		assert_string_equal(config.command_line, cases[i][1]);
	}
	/* 6 bytes are there: 4088 more and a blank fit */
	char longest[RIFFLE_BOOT_CMDLINE_MAX];

	memset(longest, 'x', sizeof longest);
	longest[4089] = 0;
	assert_int_equal(machine_config_command_line(&config, "a -- b", false, &error), 0);
	assert_int_equal(machine_config_kernel_words(&config, longest, &error), RIFFLE_ERR_ARGUMENT);
	assert_string_equal(config.command_line, "a -- b");
	longest[4088] = 0;
	assert_int_equal(machine_config_kernel_words(&config, longest, &error), 0);
	assert_int_equal(strlen(config.command_line), 4095);
	assert_string_equal(config.command_line + 4090, " -- b");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup(name, set_up)
	const struct CMUnitTest tests[] = {T(defaults), T(bounds), T(combinations), T(command_lines),
					   T(words_of_the_kernel)};

	return cmocka_run_group_tests_name("machine configuration", tests, NULL, NULL);
}
