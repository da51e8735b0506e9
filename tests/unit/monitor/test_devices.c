/* SPDX-License-Identifier: Apache-2.0 */
/* The bus and the small devices, by the accesses a guest would make. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

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

/* A write reaches exactly the bytes it is for. */
static void pm_writes_single_bytes(void **state)
{
	const uint8_t bytes[2] = {0x21, 0x43};

	(void)state;
	for (uint16_t port = 0x600; port < 0x606; port++) {
		out16(0x602, 0);
		out16(0x604, 0);
		bus_port(&machine.base.bus, port, 1, true, (void *)(uintptr_t)bytes);
		for (uint16_t other = 0x600; other < 0x606; other++) {
			uint8_t expected = other == port && port >= 0x602 ? port == 0x605 ? 0x01 : 0x21 : 0;

			assert_int_equal(in8(&machine.base, other), expected | (other == 0x604));
		}
	}
	assert_int_equal(machine.base.end, -1);
}

static void reset_register_by_every_value(void **state)
{
	(void)state;
	for (unsigned value = 0; value < 256; value++) {
		machine.base.end = -1;
		out8(&machine.base, 0xcf9, (uint8_t)value);
		assert_int_equal(machine.base.end, value & 0x04 ? VM_END_RESET : -1);
		assert_int_equal(in8(&machine.base, 0xcf9), value & 0x0a);
	}
}

/* Each port of a device once: whoever comes second is told. */
static void ports_that_are_taken(void **state)
{
	static const struct {
		uint16_t port;
		unsigned device;
	} rows[] = {{0x3f8, 0}, {0x3ff, 0}, {0x60, 1},  {0x64, 1},  {0x70, 2},
		    {0x71, 2},  {0x600, 3}, {0x605, 3}, {0xcf9, 3}, {0xf4, 4}};
	static struct machine second;

	(void)state;
	for (size_t i = 0; i <= sizeof rows / sizeof *rows; i++) {
		const struct platform *platform = &second.base.platform;
		struct bus *bus = &second.base.bus;
		const bool by_mmio = i == sizeof rows / sizeof *rows;
		struct bus_range taken = {
		    .base = by_mmio ? 0xc0000000 : rows[i].port, .bytes = 1, .ops = &bus_byte_ops};

		double_init(&second.base);
		assert_int_equal(bus_add(by_mmio ? &bus->mmio : &bus->ports, &taken, NULL), 0);
		int status[] = {
		    serial_attach(&second.serial, bus, platform, &machine.output, NULL),
		    i8042_attach(&second.i8042, bus, platform, NULL), cmos_attach(&second.cmos, bus, NULL, NULL),
		    power_attach(&second.power, bus, platform, NULL), boot_timer_attach(&second.timer, bus, NULL)};

		for (unsigned device = 0; device < 5; device++)
			assert_int_equal(status[device],
					 device == (by_mmio ? 4 : rows[i].device) ? RIFFLE_ERR_ARGUMENT : 0);
		bus_destroy(bus);
	}
}

static uint64_t told_ns;

static void on_mark(void *opaque, uint64_t ns)
{
	*(unsigned *)opaque += 1;
	told_ns = ns;
}

static void boot_timer_tells_of_the_first_mark(void **state)
{
	unsigned told = 0;

	(void)state;
	machine.timer.marked = on_mark;
	machine.timer.opaque = &told;
	out8(&machine.base, 0xf5, 123); /* another port */
	out8(&machine.base, 0xf4, 122);
	assert_int_equal(told, 0);
	assert_int_equal(machine.timer.marked_ns, 0);
	for (unsigned i = 0; i < 3; i++)
		out8(&machine.base, 0xf4, 123);
	assert_int_equal(told, 1);
	assert_true(told_ns == machine.timer.marked_ns);
	machine.timer.marked = NULL;
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
	/* the turn of each hour, and of each day around the ends of centuries that are leap years and that are not */
	for (int64_t hour = 0; hour < 24; hour++) {
		uint8_t bcd = (uint8_t)(hour / 10 << 4 | hour % 10),
			before = (uint8_t)((hour - 1) / 10 << 4 | (hour - 1) % 10);

		expect_clock(hour * 3600, (uint8_t[8]){0x19, 0x70, 0x01, 0x01, 0x05, bcd, 0x00, 0x00});
		if (hour)
			expect_clock(hour * 3600 - 1, (uint8_t[8]){0x19, 0x70, 0x01, 0x01, 0x05, before, 0x59, 0x59});
	}
	/* BCD, unless bit 2 of register B says binary */
	for (unsigned b = 0; b < 256; b++) {
		pretended_time = 31;
		out8(&machine.base, 0x70, 0x0b);
		out8(&machine.base, 0x71, (uint8_t)b);
		assert_int_equal(cmos_register(0x00), b & 0x04 ? 31 : 0x31);
		assert_int_equal(cmos_register(0x0b), b | 0x02);
	}
	/* and against libc for times all over, in binary mode */
	out8(&machine.base, 0x70, 0x0b);
	out8(&machine.base, 0x71, 0x06);
	for (int64_t t = 1; t < 16000000000; t += t < 8000000000 ? 77777777 : 86400 * 61) {
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
	assert_int_equal(cmos_register(0x0a), 0x26); /* no update in progress, even when the guest sets it */
	out8(&machine.base, 0x71, 0xff);
	assert_int_equal(cmos_register(0x0a), 0x7f);
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

static void cmos_has_the_hosts_time(void **state)
{
	static const uint8_t registers[] = {0x32, 0x09, 0x08, 0x07, 0x04, 0x02};
	struct machine own;
	struct tm before, after;
	uint8_t got[6];

	(void)state;
	double_init(&own.base);
	assert_int_equal(cmos_attach(&own.cmos, &own.base.bus, NULL, NULL), 0);
	out8(&own.base, 0x70, 0x0b);
	out8(&own.base, 0x71, 0x06);
	do { /* all of it within a minute */
		time_t now = time(NULL);

		gmtime_r(&now, &before);
		for (unsigned i = 0; i < 6; i++) {
			out8(&own.base, 0x70, registers[i]);
			got[i] = in8(&own.base, 0x71);
		}
		now = time(NULL);
		gmtime_r(&now, &after);
	} while (before.tm_min != after.tm_min);
	assert_int_equal(got[0] * 100 + got[1], after.tm_year + 1900);
	assert_int_equal(got[2], after.tm_mon + 1);
	assert_int_equal(got[3], after.tm_mday);
	assert_int_equal(got[4], after.tm_hour);
	assert_int_equal(got[5], after.tm_min);
	bus_destroy(&own.base.bus);
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

/* As the firmware leaves it; and what each command does to the command byte and the output port, from all states. */
static void i8042_commands_change_nothing_else(void **state)
{
	(void)state;
	command(0xd0);
	expect_answer(0x03);
	command(0x20);
	expect_answer(0x64);
	for (unsigned control = 0; control < 256; control++) {
		static const struct {
			uint8_t command, sets, clears, answers;
		} rows[] = {{0xa7, 0x20, 0, 0}, {0xaa, 0x04, 0, 1}, {0xad, 0x10, 0, 0},
			    {0xae, 0, 0x10, 0}, {0xab, 0, 0, 1},    {0xa9, 0, 0, 1},
			    {0xd0, 0, 0, 1},    {0x00, 0, 0, 0},    {0xff, 0, 0, 0}};

		for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
			command(0x60);
			out8(&machine.base, KBD_DATA, (uint8_t)control);
			command(rows[i].command);
			for (unsigned j = 0; j < rows[i].answers; j++)
				in8(&machine.base, KBD_DATA);
			expect_no_answer();
			command(0x20);
			expect_answer((uint8_t)((control | rows[i].sets) & ~rows[i].clears));
		}
	}
	assert_int_equal(machine.base.end, -1);
}

/* The interrupt line is set when it changes, and not else. */
static void keyboard_line_is_set_when_it_changes(void **state)
{
	(void)state;
	command(0x60);
	out8(&machine.base, KBD_DATA, 0x04);
	out8(&machine.base, KBD_DATA, 0xee);
	in8(&machine.base, KBD_DATA);
	assert_int_equal(machine.base.sets[1], 0);
	command(0x60);
	out8(&machine.base, KBD_DATA, 0x05);
	out8(&machine.base, KBD_DATA, 0xee);
	in8(&machine.base, KBD_STATUS);
	out8(&machine.base, KBD_DATA, 0xee);
	assert_int_equal(machine.base.sets[1], 1);
	in8(&machine.base, KBD_DATA);
	assert_int_equal(machine.base.sets[1], 3);
	in8(&machine.base, KBD_DATA);
	assert_int_equal(machine.base.sets[1], 4);
	in8(&machine.base, KBD_DATA);
	assert_int_equal(machine.base.sets[1], 4);
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

static const uint8_t generation[] = "sixteen bytes ID";

/* A restored guest finds the page and the id changed. */
static void generation_is_renewed(void **state)
{
	struct guest_memory memory;
	uint8_t first[16], second[16];

	(void)state;
	assert_int_equal(guest_memory_map(&memory, 2 << 20, false, NULL), 0);
	assert_int_equal(generation_begin(&memory, generation, NULL), 0);
	const uint8_t *clock = guest_memory_at(&memory, GENERATION_VMCLOCK, 4096);

	assert_memory_equal(clock, "VCLK\0\x10\0\0\1\0\xff\0\0\0\0", 16);
	for (unsigned i = 16; i < 112; i++)
		assert_int_equal(clock[i], i == 25 ? 3 : 0);
	assert_true(guest_memory_read(&memory, GENERATION_VMGENID, first, sizeof first));
	assert_memory_equal(first, generation, sizeof first);
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

static bool no_random;

/* In place of the C library's. */
ssize_t getrandom(void *data, size_t bytes, unsigned flags)
{
	if (no_random) {
		errno = ENOSYS;
		return -1;
	}
	return syscall(SYS_getrandom, data, bytes, flags);
}

/* The counters carry over into their next byte, and a page that was being changed is left changed. */
static void generation_counts_beyond_a_byte(void **state)
{
	struct guest_memory memory;

	(void)state;
	assert_int_equal(guest_memory_map(&memory, 2 << 20, false, NULL), 0);
	assert_int_equal(generation_begin(&memory, generation, NULL), 0);
	uint8_t *clock = guest_memory_at(&memory, GENERATION_VMCLOCK, 4096);

	clock[16] = clock[104] = 0xff;
	clock[12] = 0x05; /* odd */
	assert_int_equal(generation_renew(&memory, NULL), 0);
	assert_int_equal(clock[12], 6);
	assert_memory_equal(clock + 16, "\0\1\0", 3);
	assert_memory_equal(clock + 104, "\0\1\0", 3);
	guest_memory_unmap(&memory);
}

/* Without memory for either page, and without random numbers. */
static void generation_that_cannot_be(void **state)
{
	static _Alignas(4096) uint8_t page[2 * 4096];
	static const struct riffle_ram parts[] = {{GENERATION_VMCLOCK, 4096, page},
						  {GENERATION_VMGENID & ~0xfffu, 4096, page}};
	struct riffle_error error;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		const struct guest_memory memory = {.ram = {parts[i]}, .count = 1, .fd = -1};

		assert_int_equal(generation_begin(&memory, generation, &error), RIFFLE_ERR_ARGUMENT);
		assert_int_equal(generation_renew(&memory, &error), RIFFLE_ERR_ARGUMENT);
		assert_string_equal(error.field, "memory");
	}
	const struct guest_memory both = {.ram = {{GENERATION_VMCLOCK, 8192, page}}, .count = 1, .fd = -1};

	assert_int_equal(generation_begin(&both, generation, NULL), 0);
	no_random = true;
	assert_int_equal(generation_renew(&both, &error), RIFFLE_ERR_RANDOM);
	assert_int_equal(error.sys_errno, ENOSYS);
	no_random = false;
	assert_int_equal(generation_renew(&both, &error), 0);
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
	    T(pm_writes_single_bytes),
	    T(reset_register_by_every_value),
	    T(ports_that_are_taken),
	    T(boot_timer_tells_of_the_first_mark),
	    T(cmos_has_the_hosts_time),
	    T(i8042_commands_change_nothing_else),
	    T(keyboard_line_is_set_when_it_changes),
	    T(generation_counts_beyond_a_byte),
	    T(generation_that_cannot_be),
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
