/* SPDX-License-Identifier: Apache-2.0 */
/* The bus and the small devices, by the accesses a guest would make. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#include "monitor/platform/boot_timer.h"
#include "monitor/platform/cmos.h"
#include "monitor/platform/generation.h"
#include "monitor/platform/i8042.h"
#include "monitor/platform/output.h"
#include "monitor/platform/power.h"
#include "monitor/platform/serial.h"
#include "platform_double.h"

struct machine {
	struct double_machine base;
	struct output output;
	struct serial serial;
	struct i8042 i8042;
	struct cmos cmos;
	struct power power;
	struct boot_timer timer;
};

static int64_t pretended_time;

static int64_t pretended_now(void)
{
	return pretended_time;
}

static struct machine machine;

static int set_up(void **state)
{
	(void)state;
	double_init(&machine.base);
	struct bus *bus = &machine.base.bus;
	const struct platform *platform = &machine.base.platform;
	struct riffle_error error;

	return output_init(&machine.output, OUTPUT_NOBODY, -1, &error) ||
	       serial_attach(&machine.serial, bus, platform, &machine.output, &error) ||
	       i8042_attach(&machine.i8042, bus, platform, &error) ||
	       cmos_attach(&machine.cmos, bus, pretended_now, &error) ||
	       power_attach(&machine.power, bus, platform, &error) || boot_timer_attach(&machine.timer, bus, &error);
}

static int tear_down(void **state)
{
	(void)state;
	output_destroy(&machine.output);
	bus_destroy(&machine.base.bus);
	return 0;
}

static bool known_port(uint32_t port)
{
	return (port >= 0x3f8 && port < 0x400) || port == 0x60 || port == 0x64 || port == 0x70 || port == 0x71 ||
	       port == 0xf4 || port == 0xcf9;
}

/* ACPI's registers take any width that stays inside them */
static bool inside_pm(uint32_t port, unsigned bytes)
{
	return port >= 0x600 && port + bytes <= 0x606;
}

static void every_port_and_width_is_safe(void **state)
{
	(void)state;
	for (uint32_t port = 0; port < 0x10000; port++) {
		for (unsigned bytes = 1; bytes <= 4; bytes *= 2) {
			uint8_t data[8] = {0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88};
			bus_port(&machine.base.bus, (uint16_t)port, bytes, false, data);
			for (unsigned i = 0; i < 8; i++)
				if (i >= bytes)
					assert_int_equal(data[i], (i + 1) * 0x11); /* not touched */
				else if (!inside_pm(port, bytes) && (!known_port(port) || bytes > 1))
					assert_int_equal(data[i], 0xff);
			if (!inside_pm(port, bytes) && (!known_port(port) || bytes > 1))
				bus_port(&machine.base.bus, (uint16_t)port, bytes, true, data);
		}
	}
	assert_int_equal(machine.base.end, -1);
	assert_int_equal(machine.timer.marked_ns, 0);
}

static void wide_write_to_the_pci_address_port_resets_nothing(void **state)
{
	uint32_t value = 0xffffffff;
	(void)state;
	bus_port(&machine.base.bus, 0xcf8, 4, true, &value);
	assert_int_equal(machine.base.end, -1);
}

static void every_mmio_width_is_safe(void **state)
{
	static const uint64_t addresses[] = {0xbfffffff, 0xc0000000, 0xc0000001, 0xfee00000, UINT64_MAX, 1ull << 52};
	(void)state;
	for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++)
		for (unsigned bytes = 1; bytes <= 8; bytes++) {
			uint8_t data[9];
			memset(data, 123, sizeof data);
			if (addresses[i] != 0xc0000000 || bytes != 1)
				bus_mmio(&machine.base.bus, addresses[i], bytes, true, data);
			bus_mmio(&machine.base.bus, addresses[i], bytes, false, data);
			for (unsigned j = 0; j < bytes; j++)
				assert_int_equal(data[j], 0xff);
			assert_int_equal(data[bytes], 123);
		}
	assert_int_equal(machine.timer.marked_ns, 0);
}

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void boot_timer_takes_the_first_mark(void **state)
{
	uint8_t other = 122, mark = 123;
	(void)state;
	uint64_t start = now_ns();
	bus_mmio(&machine.base.bus, 0xc0000000, 1, true, &other);
	out8(&machine.base, 0xf4, 1);
	assert_int_equal(machine.timer.marked_ns, 0);
	/* other marks are kept in order, up to the limit */
	for (unsigned i = 0; i < 100; i++)
		out8(&machine.base, 0xf4, 5);
	assert_int_equal(machine.timer.marks, BOOT_TIMER_MARKS_MAX);
	assert_int_equal(machine.timer.mark[0].value, 122);
	assert_int_equal(machine.timer.mark[1].value, 1);
	assert_int_equal(machine.timer.mark[BOOT_TIMER_MARKS_MAX - 1].value, 5);
	for (unsigned i = 0; i < BOOT_TIMER_MARKS_MAX; i++) {
		assert_in_range(machine.timer.mark[i].ns, start, now_ns());
		start = machine.timer.mark[i].ns;
	}
	uint64_t before = now_ns();
	bus_mmio(&machine.base.bus, 0xc0000000, 1, true, &mark);
	uint64_t first = machine.timer.marked_ns;
	assert_in_range(first, before, now_ns());
	out8(&machine.base, 0xf4, 123);
	assert_true(machine.timer.marked_ns == first);
	machine.timer.marked_ns = 0;
	out8(&machine.base, 0xf4, 123);
	assert_in_range(machine.timer.marked_ns, first, now_ns());
}

static uint16_t in16(uint16_t port)
{
	uint16_t value;

	bus_port(&machine.base.bus, port, 2, false, &value);
	return value;
}

static void out16(uint16_t port, uint16_t value)
{
	bus_port(&machine.base.bus, port, 2, true, &value);
}

/* only SLP_EN with the right SLP_TYP in PM1 control */
static void power_off_only_by_s5(void **state)
{
	(void)state;
	for (uint32_t value = 0; value < 0x10000; value++) {
		machine.base.end = -1;
		out16(0x604, (uint16_t)value);
		assert_int_equal(machine.base.end, (value & 0x3c00) == 0x3400 ? VM_END_POWEROFF : -1);
		machine.base.end = -1;
		out16(0x600, (uint16_t)value);
		out16(0x602, (uint16_t)value);
		assert_int_equal(machine.base.end, -1);
	}
	/* by bytes too; the lower byte alone does nothing */
	out8(&machine.base, 0x604, 0x34);
	assert_int_equal(machine.base.end, -1);
	out8(&machine.base, 0x605, 0x34);
	assert_int_equal(machine.base.end, VM_END_POWEROFF);
}

/* As Linux's ACPICA finds them: no event ever, enable reads back, SCI_EN is set, SLP_EN reads 0. */
static void pm_registers_read_back(void **state)
{
	(void)state;
	assert_int_equal(in16(0x604), 0x0001);
	out16(0x600, 0xffff);
	assert_int_equal(in16(0x600), 0);
	out16(0x602, 0x0120);
	assert_int_equal(in16(0x602), 0x0120);
	out16(0x604, 0x1c02); /* another sleep type, not enabled */
	assert_int_equal(in16(0x604), 0x0003);
	assert_int_equal(machine.base.end, -1);
}

static void reset_register(void **state)
{
	(void)state;
	/* Linux: keep what is there, choose the kind, then reset (arch/x86/kernel/reboot.c, BOOT_CF9_FORCE) */
	uint8_t kind = in8(&machine.base, 0xcf9) & (uint8_t)~0x06;
	out8(&machine.base, 0xcf9, kind | 0x02);
	assert_int_equal(machine.base.end, -1);
	assert_int_equal(in8(&machine.base, 0xcf9), 0x02);
	out8(&machine.base, 0xcf9, kind | 0x06);
	assert_int_equal(machine.base.end, VM_END_RESET);
}

static uint8_t cmos_register(uint8_t index)
{
	out8(&machine.base, 0x70, index);
	return in8(&machine.base, 0x71);
}

static void expect_clock(int64_t time, const uint8_t expected[8])
{
	static const uint8_t registers[8] = {0x32, 0x09, 0x08, 0x07, 0x06, 0x04, 0x02, 0x00};
	pretended_time = time;
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(cmos_register(registers[i]), expected[i]);
}

static void cmos_tells_the_time(void **state)
{
	(void)state;
	/* century, year, month, day, weekday (1 is Sunday), hour, minute, second, in BCD */
	expect_clock(0, (uint8_t[8]){0x19, 0x70, 0x01, 0x01, 0x05, 0x00, 0x00, 0x00});
	expect_clock(951782399, (uint8_t[8]){0x20, 0x00, 0x02, 0x28, 0x02, 0x23, 0x59, 0x59});
	expect_clock(951782400, (uint8_t[8]){0x20, 0x00, 0x02, 0x29, 0x03, 0x00, 0x00, 0x00});
	expect_clock(4107542399, (uint8_t[8]){0x21, 0x00, 0x02, 0x28, 0x01, 0x23, 0x59, 0x59});
	expect_clock(4107542400, (uint8_t[8]){0x21, 0x00, 0x03, 0x01, 0x02, 0x00, 0x00, 0x00}); /* no leap year */
	expect_clock(-1, (uint8_t[8]){0x19, 0x69, 0x12, 0x31, 0x04, 0x23, 0x59, 0x59});
	/* and against libc for times all over, in binary mode */
	out8(&machine.base, 0x70, 0x0b);
	out8(&machine.base, 0x71, 0x06);
	for (int64_t t = 1; t < 8000000000; t += 77777777) {
		struct tm tm;
		time_t as_time_t = t;
		assert_non_null(gmtime_r(&as_time_t, &tm));
		int year = tm.tm_year + 1900;
		expect_clock(t, (uint8_t[8]){(uint8_t)(year / 100), (uint8_t)(year % 100), (uint8_t)(tm.tm_mon + 1),
					     (uint8_t)tm.tm_mday, (uint8_t)(tm.tm_wday + 1), (uint8_t)tm.tm_hour,
					     (uint8_t)tm.tm_min, (uint8_t)tm.tm_sec});
	}
}

static void cmos_registers_are_sane(void **state)
{
	(void)state;
	assert_int_equal(cmos_register(0x0a) & 0x80, 0); /* no update in progress, even when the guest sets it */
	out8(&machine.base, 0x71, 0xa6);
	assert_int_equal(cmos_register(0x0a), 0x26);
	assert_int_equal(cmos_register(0x0b), 0x02);
	out8(&machine.base, 0x71, 0x40);
	assert_int_equal(cmos_register(0x0b), 0x42); /* 24 hours whatever the guest wants */
	assert_int_equal(cmos_register(0x0c), 0x00);
	assert_int_equal(cmos_register(0x0d), 0x80);
	out8(&machine.base, 0x71, 0x00);
	assert_int_equal(cmos_register(0x0d), 0x80);
	assert_int_equal(cmos_register(0x8d), 0x80); /* the NMI mask is no part of the index */
	assert_int_equal(cmos_register(0x40), 0x00);
	out8(&machine.base, 0x71, 0x77);
	assert_int_equal(cmos_register(0x40), 0x77);
	assert_int_equal(in8(&machine.base, 0x70), 0xff);
}

#define KBD_STATUS 0x64
#define KBD_DATA 0x60

static void command(uint8_t value)
{
	out8(&machine.base, KBD_STATUS, value);
}

static void expect_answer(uint8_t expected)
{
	assert_int_equal(in8(&machine.base, KBD_STATUS) & 0x01, 0x01);
	assert_int_equal(in8(&machine.base, KBD_DATA), expected);
}

static void expect_no_answer(void)
{
	assert_int_equal(in8(&machine.base, KBD_STATUS) & 0x01, 0);
}

static void i8042_probe_as_linux_does(void **state)
{
	(void)state;
	expect_no_answer(); /* i8042_flush */
	command(0x20);      /* i8042_controller_init: read the command byte */
	uint8_t control = in8(&machine.base, KBD_DATA);
	assert_int_equal(control & 0x20, 0x20); /* mouse off */
	command(0x60);
	out8(&machine.base, KBD_DATA, (control | 0x10) & (uint8_t)~0x01);
	command(0x20);
	expect_answer((control | 0x10) & (uint8_t)~0x01);
	command(0xaa);
	expect_answer(0x55);
	command(0xab);
	expect_answer(0x00);
	/* i8042_check_aux: the loop's byte does not come back as a mouse's, the test of the port fails */
	command(0xd3);
	out8(&machine.base, KBD_DATA, 0x5a);
	assert_int_equal(in8(&machine.base, KBD_STATUS) & 0x21, 0x01);
	assert_int_equal(in8(&machine.base, KBD_DATA), 0x5a);
	command(0xa9);
	expect_answer(0x01);
	expect_no_answer();
	/* writes to the mouse are answered as after a timeout: resend */
	command(0xd4);
	out8(&machine.base, KBD_DATA, 0xf2);
	expect_answer(0xfe);
	expect_no_answer();
	assert_int_equal(machine.base.end, -1);
}

static void keyboard_answers_and_interrupts(void **state)
{
	static const struct {
		uint8_t bytes[2], answers[3];
		unsigned byte_count, answer_count;
	} talk[] = {
	    {{0xf2}, {0xfa, 0xab, 0x41}, 1, 3},
	    {{0xff}, {0xfa, 0xaa}, 1, 2},
	    {{0xed, 0x07}, {0xfa, 0xfa}, 2, 2},
	    {{0xf3, 0x00}, {0xfa, 0xfa}, 2, 2},
	    {{0xf0, 0x00}, {0xfa, 0xfa, 2}, 2, 3},
	    {{0xf4}, {0xfa}, 1, 1},
	    {{0xee}, {0xee}, 1, 1},
	};
	(void)state;
	command(0x60);
	out8(&machine.base, KBD_DATA, 0x45); /* interrupt on, translation on */
	for (size_t i = 0; i < sizeof talk / sizeof *talk; i++) {
		unsigned rises = machine.base.rises[1];
		for (unsigned j = 0; j < talk[i].byte_count; j++)
			out8(&machine.base, KBD_DATA, talk[i].bytes[j]);
		for (unsigned j = 0; j < talk[i].answer_count; j++) {
			assert_true(machine.base.irq[1]);
			expect_answer(talk[i].answers[j]);
		}
		assert_false(machine.base.irq[1]);
		assert_int_equal(machine.base.rises[1] - rises, talk[i].answer_count);
		expect_no_answer();
	}
}

/* The rest of what the controller and the keyboard understand, with the whole status byte at each step. */
static void i8042_commands_and_status(void **state)
{
	static const uint8_t taking_a_byte[] = {0xd1, 0xd2, 0xd3, 0xd4, 0x60};
	static const uint8_t acknowledged[] = {0x00, 0xec, 0xef, 0xf1, 0xf4, 0xf5, 0xf6, 0xf7, 0xfe};

	(void)state;
	/* as after the firmware: self test passed, keyboard not locked */
	assert_int_equal(in8(&machine.base, KBD_STATUS), 0x14);
	command(0x20);
	assert_int_equal(in8(&machine.base, KBD_STATUS), 0x15);
	expect_answer(0x64);
	assert_int_equal(in8(&machine.base, KBD_STATUS), 0x14);
	for (unsigned i = 0; i < sizeof taking_a_byte; i++) {
		command(taking_a_byte[i]);
		assert_int_equal(in8(&machine.base, KBD_STATUS), 0x1c);
		out8(&machine.base, KBD_DATA, 0x03);
		assert_int_equal(in8(&machine.base, KBD_STATUS) & 0x18, 0x10);
		while (in8(&machine.base, KBD_STATUS) & 1)
			in8(&machine.base, KBD_DATA);
	}
	/* one that is not completed is forgotten */
	command(0xd2);
	command(0x20);
	expect_answer(0x03);
	out8(&machine.base, KBD_DATA, 0xee);
	expect_answer(0xee);
	/* the self test sets a bit of the command byte that the status shows; switches set others */
	assert_int_equal(in8(&machine.base, KBD_STATUS), 0x10);
	command(0xaa);
	assert_int_equal(in8(&machine.base, KBD_STATUS), 0x15);
	expect_answer(0x55);
	command(0xa7);
	command(0xad);
	command(0x20);
	expect_answer(0x03 | 0x04 | 0x20 | 0x10);
	command(0xae);
	command(0x20);
	expect_answer(0x03 | 0x04 | 0x20);
	command(0xd0);
	expect_answer(0x03);
	command(0xd1);
	out8(&machine.base, KBD_DATA, 0xdf);
	command(0xd0);
	expect_answer(0xdf);
	/* bytes for the mouse's queue and the keyboard's come back */
	for (uint8_t c = 0xd2; c <= 0xd3; c++) {
		command(c);
		out8(&machine.base, KBD_DATA, 0xa5);
		expect_answer(0xa5);
	}
	/* not translated: another identity */
	out8(&machine.base, KBD_DATA, 0xf2);
	expect_answer(0xfa);
	expect_answer(0xab);
	expect_answer(0x83);
	for (unsigned i = 0; i < sizeof acknowledged; i++) {
		out8(&machine.base, KBD_DATA, acknowledged[i]);
		expect_answer(0xfa);
		expect_no_answer();
	}
	/* the set of scan codes is told when 0 asks for it, and only then; 0 means nothing for LEDs and rates */
	out8(&machine.base, KBD_DATA, 0xf0);
	expect_answer(0xfa);
	out8(&machine.base, KBD_DATA, 0x02);
	expect_answer(0xfa);
	expect_no_answer();
	out8(&machine.base, KBD_DATA, 0xed);
	expect_answer(0xfa);
	out8(&machine.base, KBD_DATA, 0x00);
	expect_answer(0xfa);
	expect_no_answer();
	/* nothing more: the last byte again */
	assert_int_equal(in8(&machine.base, KBD_DATA), 0xfa);
	assert_int_equal(machine.base.end, -1);
}

static void i8042_counts(void **state)
{
	(void)state;
	out8(&machine.base, KBD_DATA, 0xee);
	command(0x20);
	in8(&machine.base, KBD_STATUS);
	in8(&machine.base, KBD_DATA);
	in8(&machine.base, KBD_DATA);
	in8(&machine.base, KBD_DATA);
	assert_int_equal(machine.i8042.counters.writes, 2);
	assert_int_equal(machine.i8042.counters.reads, 3);
	assert_int_equal(machine.i8042.counters.missed_reads, 1);
	for (unsigned i = 0; i < I8042_QUEUE + 3; i++)
		out8(&machine.base, KBD_DATA, 0xee);
	assert_int_equal(machine.i8042.counters.errors, 3);
}

static void keyboard_queue_is_bounded(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 1000; i++)
		out8(&machine.base, KBD_DATA, 0xf2);
	unsigned count = 0;
	while (in8(&machine.base, KBD_STATUS) & 1) {
		in8(&machine.base, KBD_DATA);
		assert_true(++count <= I8042_QUEUE);
	}
	assert_int_equal(count, I8042_QUEUE);
	assert_false(machine.base.irq[1]);
}

static void i8042_resets(void **state)
{
	(void)state;
	for (unsigned value = 0; value < 256; value++) {
		tear_down(NULL);
		set_up(NULL);
		command((uint8_t)value);
		bool pulses_reset = value >= 0xf0 && !(value & 1);
		assert_int_equal(machine.base.end, pulses_reset ? VM_END_RESET : -1);
	}
	tear_down(NULL);
	set_up(NULL);
	command(0xd1);
	out8(&machine.base, KBD_DATA, 0x03);
	assert_int_equal(machine.base.end, -1);
	command(0xd1);
	out8(&machine.base, KBD_DATA, 0x02);
	assert_int_equal(machine.base.end, VM_END_RESET);
	assert_int_equal(machine.i8042.counters.resets, 1);
	assert_int_equal(machine.i8042.counters.writes, 4);
}

static void expect_answers(const uint8_t *expected, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		expect_answer(expected[i]);
}

/* One edge per byte; the keys are released after they were read, if the driver has enabled interrupts. */
static void chord_of_three_keys(void **state)
{
	static const uint8_t pressed[2][4] = {{0x14, 0x11, 0xe0, 0x71}, {0x1d, 0x38, 0xe0, 0x53}};
	static const uint8_t released[2][7] = {{0xe0, 0xf0, 0x71, 0xf0, 0x11, 0xf0, 0x14}, {0xe0, 0xd3, 0xb8, 0x9d}};

	(void)state;
	for (unsigned translated = 0; translated < 2; translated++) {
		command(0x60);
		out8(&machine.base, KBD_DATA, (uint8_t)(0x05 | translated << 6));
		machine.base.rises[1] = 0;
		assert_true(i8042_ctrl_alt_del(&machine.i8042));
		expect_answers(pressed[translated], 4);
		expect_answers(released[translated], translated ? 4 : 7);
		expect_no_answer();
		assert_int_equal(machine.base.rises[1], translated ? 8 : 11);
	}
	/* without a listener 16 bytes are kept, and no release follows */
	command(0x60);
	out8(&machine.base, KBD_DATA, 0x04);
	for (unsigned i = 0; i < 4; i++)
		assert_true(i8042_ctrl_alt_del(&machine.i8042));
	assert_false(i8042_ctrl_alt_del(&machine.i8042));
	for (unsigned i = 0; i < 3; i++)
		expect_answer(pressed[0][i]);
	assert_false(i8042_ctrl_alt_del(&machine.i8042));
	expect_answer(pressed[0][3]);
	assert_true(i8042_ctrl_alt_del(&machine.i8042));
	for (unsigned i = 0; i < 4; i++)
		expect_answers(pressed[0], 4);
	expect_no_answer();
}

/* A restored guest finds the page and the id changed. */
static void generation_is_renewed(void **state)
{
	struct guest_memory memory;
	uint8_t first[16], second[16];

	(void)state;
	assert_int_equal(guest_memory_map(&memory, 2 << 20, false, NULL), 0);
	assert_int_equal(generation_begin(&memory, NULL), 0);
	const uint8_t *clock = guest_memory_at(&memory, GENERATION_VMCLOCK, 4096);

	assert_memory_equal(clock, "VCLK\0\x10\0\0\1\0\xff\0\0\0\0", 16);
	for (unsigned i = 16; i < 112; i++)
		assert_int_equal(clock[i], i == 25 ? 3 : 0);
	assert_true(guest_memory_read(&memory, GENERATION_VMGENID, first, sizeof first));
	for (unsigned round = 1; round < 3; round++) {
		assert_int_equal(generation_renew(&memory, NULL), 0);
		assert_true(guest_memory_read(&memory, GENERATION_VMGENID, second, sizeof second));
		assert_memory_not_equal(first, second, sizeof first);
		memcpy(first, second, sizeof first);
		assert_int_equal(clock[12], 2 * round); /* seq_count: even */
		assert_int_equal(clock[16], round);     /* disruption_marker */
		assert_int_equal(clock[104], round);    /* vm_generation_counter */
	}
	guest_memory_unmap(&memory);
}

/* Bytes beyond the bucket are lost, and counted. */
static void serial_is_limited(void **state)
{
	(void)state;
	serial_limit(&machine.serial, &(struct limiter_bucket_config){.size = 10, .refill_ms = 3600000});
	for (unsigned i = 0; i < 15; i++)
		out8(&machine.base, 0x3f8, 'x');
	assert_int_equal(machine.serial.counters.limited_bytes, 5);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    T(every_port_and_width_is_safe),
	    T(wide_write_to_the_pci_address_port_resets_nothing),
	    T(every_mmio_width_is_safe),
	    T(boot_timer_takes_the_first_mark),
	    T(power_off_only_by_s5),
	    T(pm_registers_read_back),
	    T(pm_registers_read_back),
	    T(reset_register),
	    T(cmos_tells_the_time),
	    T(cmos_registers_are_sane),
	    T(i8042_probe_as_linux_does),
	    T(keyboard_answers_and_interrupts),
	    T(keyboard_queue_is_bounded),
	    T(i8042_commands_and_status),
	    T(i8042_counts),
	    T(i8042_resets),
	    T(chord_of_three_keys),
	    T(generation_is_renewed),
	    T(serial_is_limited),
	};
	return cmocka_run_group_tests_name("monitor devices", tests, NULL, NULL);
}
