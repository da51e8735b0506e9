/* SPDX-License-Identifier: Apache-2.0 */
/* The serial port as a driver accesses it, and its output ring with readers fast, slow and gone. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "monitor/core/thread.h"
#include "monitor/platform/output.h"
#include "monitor/platform/serial.h"
#include "platform_double.h"

enum { RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR };
#define OUTPUT_BYTES (16u << 10) /* a stream's ring */
#define THR RBR
#define FCR IIR

static struct double_machine machine;
static struct output output;
static struct serial serial;
static int reader; /* the console's far end */

static uint8_t get(unsigned reg)
{
	return in8(&machine, (uint16_t)(0x3f8 + reg));
}

static void put(unsigned reg, uint8_t value)
{
	out8(&machine, (uint16_t)(0x3f8 + reg), value);
}

static void room_again(void *opaque)
{
	(void)opaque;
	pthread_mutex_lock(&machine.bus.lock);
	serial_output_ready(&serial);
	pthread_mutex_unlock(&machine.bus.lock);
}

static _Atomic bool has_finished;

static void finished(void *opaque)
{
	(void)opaque;
	atomic_store(&has_finished, true);
}

/* Waits, at most that long, until all is written. */
static bool finish_within(unsigned ms)
{
	output_finish(&output);
	while (!atomic_load(&has_finished) && ms--)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	return atomic_load(&has_finished);
}

static unsigned receive(const char *text, unsigned count)
{
	pthread_mutex_lock(&machine.bus.lock);
	unsigned taken = serial_receive(&serial, (const uint8_t *)text, count);
	pthread_mutex_unlock(&machine.bus.lock);
	return taken;
}

/* The output's thread is not started: what the guest wrote stays in the ring. */
static int set_up(void **state)
{
	int fds[2];
	(void)state;
	assert_int_equal(pipe(fds), 0);
	assert_true(fcntl(fds[1], F_SETPIPE_SZ, 4096) >= 4096);
	reader = fds[0];
	double_init(&machine);
	struct riffle_error error;
	assert_int_equal(output_init(&output, OUTPUT_STREAM, fds[1], &error), 0);
	output.room_again = room_again;
	output.finished = finished;
	atomic_store(&has_finished, false);
	return serial_attach(&serial, &machine.bus, &machine.platform, &output, &error);
}

static int tear_down(void **state)
{
	(void)state;
	output_stop(&output); /* still there when the test failed */
	if (reader >= 0)
		close(reader);
	close(output.fd);
	output_destroy(&output);
	bus_destroy(&machine.bus);
	return 0;
}

static void passes_linux_autoconfig(void **state)
{
	(void)state;
	/* drivers/tty/serial/8250/8250_port.c, autoconfig() and autoconfig_16550a() */
	put(IER, 0x00);
	assert_int_equal(get(IER) & 0x0f, 0x00);
	put(IER, 0x0f);
	assert_int_equal(get(IER) & 0x0f, 0x0f);
	put(IER, 0x00);
	put(MCR, 0x1a); /* loop back RTS and OUT2: CTS and DCD */
	assert_int_equal(get(MSR) & 0xf0, 0x90);
	put(MCR, 0x15); /* DTR and OUT1: DSR and RI */
	assert_int_equal(get(MSR) & 0xf0, 0x60);
	put(MCR, 0x00);
	assert_int_equal(get(MSR) & 0xf0, 0xb0);
	put(FCR, 0x01);
	assert_int_equal(get(IIR) >> 6, 3); /* a 16550A */
	put(LCR, 0xbf);
	assert_int_not_equal(get(2), 0); /* no enhanced feature register */
	put(LCR, 0x80);
	put(FCR, 0x21);
	assert_int_equal(get(IIR) & 0x20, 0); /* no 64-byte FIFO */
	put(LCR, 0x00);
	put(IER, 0x40);
	assert_int_equal(get(IER), 0x00); /* no UUE bit */
	put(SCR, 0x5a);
	assert_int_equal(get(SCR), 0x5a);
}

static void divisor_latch(void **state)
{
	(void)state;
	put(LCR, 0x83);
	put(RBR, 0x0c);
	put(IER, 0x01);
	assert_int_equal(get(RBR), 0x0c);
	assert_int_equal(get(IER), 0x01);
	put(LCR, 0x03);
	assert_int_equal(get(IER), 0x00); /* the latch is not the interrupt enable */
	assert_int_equal(output.count, 0);
	assert_int_equal(get(LCR), 0x03);
}

static void transmits_in_order(void **state)
{
	(void)state;
	for (const char *c = "hello"; *c; c++) {
		assert_int_equal(get(LSR) & 0x60, 0x60);
		put(THR, (uint8_t)*c);
	}
	assert_int_equal(output.count, 5);
	assert_memory_equal(output.ring, "hello", 5);
}

static void transmit_interrupt(void **state)
{
	(void)state;
	put(IER, 0x02);
	assert_false(machine.irq[4]); /* OUT2 is off: the interrupt does not get through */
	put(MCR, 0x0b);
	assert_true(machine.irq[4]);
	assert_int_equal(get(IIR) & 0x0f, 0x02);
	assert_false(machine.irq[4]); /* reading it took it away */
	assert_int_equal(get(IIR) & 0x0f, 0x01);
	put(THR, 'x');
	assert_true(machine.irq[4]); /* and the next byte is out at once */
	get(IIR);
	/* serial8250_do_startup() and its THRE test: off and on raises it again */
	put(IER, 0x00);
	put(IER, 0x02);
	assert_true(machine.irq[4]);
	put(IER, 0x00);
	assert_false(machine.irq[4]);
}

static void receives_with_interrupt(void **state)
{
	(void)state;
	put(FCR, 0x07);
	put(MCR, 0x0b);
	assert_int_equal(receive("early", 5), 0); /* no listener yet */
	put(IER, 0x05);
	assert_int_equal(machine.input_wanted, 1);
	assert_int_equal(receive("0123456789abcdefgh", 18), SERIAL_FIFO);
	assert_true(machine.irq[4]);
	assert_int_equal(get(IIR) & 0x0f, 0x04);
	assert_int_equal(receive("g", 1), 0);
	for (unsigned i = 0; i < SERIAL_FIFO; i++) {
		assert_true(machine.irq[4]);
		assert_int_equal(get(LSR) & 0x03, 0x01);
		assert_int_equal(machine.input_wanted, 1);
		assert_int_equal(get(RBR), "0123456789abcdef"[i]);
	}
	assert_int_equal(machine.input_wanted, 2);
	assert_false(machine.irq[4]);
	assert_int_equal(get(LSR) & 0x03, 0x00);
	assert_int_equal(get(RBR), 0);
}

static void without_fifo_one_byte_at_a_time(void **state)
{
	(void)state;
	put(IER, 0x01);
	assert_int_equal(receive("ab", 2), 1);
	assert_int_equal(get(RBR), 'a');
	assert_int_equal(receive("b", 1), 1);
	put(FCR, 0x01); /* neither enabling nor clearing the FIFO loses console input */
	assert_int_equal(get(LSR) & 0x01, 0x01);
	put(FCR, 0x03);
	assert_int_equal(get(LSR) & 0x01, 0x01);
	assert_int_equal(get(RBR), 'b');
}

static void polling_guest_gets_input(void **state)
{
	(void)state;
	assert_int_equal(receive("p", 1), 0);
	for (unsigned i = 0; i < 100; i++)
		get(LSR);
	assert_int_equal(machine.input_wanted, 1);
	assert_int_equal(receive("p", 1), 1);
	assert_int_equal(get(LSR) & 0x01, 0x01);
	assert_int_equal(get(RBR), 'p');
}

/*
 * drivers/tty/serial/8250/8250_port.c: probing briefly enables all interrupts, opening and closing clear the FIFOs and
 * read the receiver once with interrupts off. Input that arrives at any of these points is kept.
 */
static void probing_and_opening_lose_nothing(void **state)
{
	(void)state;
	assert_int_equal(receive("abcdef", 6), 0);
	put(IER, 0x0f);
	assert_int_equal(receive("abcdef", 6), 1); /* no FIFO yet */
	put(IER, 0x00);
	assert_int_equal(get(LSR) & 0x01, 0);
	for (unsigned opened = 0; opened < 2; opened++) {
		put(FCR, 0x01);
		put(FCR, 0x07);
		put(FCR, 0x00);
		get(LSR);
		assert_int_equal(get(RBR), 0);
		get(IIR);
		get(MSR);
		put(MCR, 0x0b);
		put(FCR, 0x81);
	}
	put(IER, 0x05);
	assert_true(machine.irq[4]);
	assert_int_equal(receive("bcdef", 5), 5);
	for (const char *c = "abcdef"; *c; c++)
		assert_int_equal(get(RBR), *c);
	assert_int_equal(get(LSR) & 0x01, 0);
}

/*
 * A polling guest counts as a listener until it sets up the port again: after eight reads of the line status, not
 * seven.
 */
static void eight_polls_make_a_listener(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 7; i++)
		get(LSR);
	assert_int_equal(receive("p", 1), 0);
	get(LSR);
	assert_int_equal(receive("p", 1), 1);
	put(FCR, 0x01);
	assert_int_equal(get(LSR) & 0x01, 0);
	assert_int_equal(get(RBR), 0);
	for (unsigned i = 0; i < 8; i++)
		get(LSR);
	assert_int_equal(get(RBR), 'p');
}

static void loopback_stays_inside(void **state)
{
	(void)state;
	put(FCR, 0x01);
	put(IER, 0x05);
	put(MCR, 0x1b);
	assert_int_equal(receive("x", 1), 0);
	for (unsigned i = 0; i < SERIAL_FIFO; i++)
		put(THR, (uint8_t)i);
	assert_int_equal(get(LSR) & 0x63, 0x61);
	put(THR, 0xee); /* one too many */
	assert_int_equal(get(IIR) & 0x0f, 0x06);
	assert_int_equal(get(LSR) & 0x03, 0x03);
	assert_int_equal(get(LSR) & 0x03, 0x01); /* reading cleared the overrun */
	assert_false(machine.irq[4]);
	for (unsigned i = 0; i < SERIAL_FIFO; i++)
		assert_int_equal(get(RBR), i);
	assert_int_equal(output.count, 0);
	put(MCR, 0x0b);
	assert_true(machine.input_wanted > 0);
}

/* Every value of the registers that hold bits, and what follows from it. */
static void registers_by_every_value(void **state)
{
	(void)state;
	/* as firmware leaves it */
	assert_int_equal(get(LCR), 0x03);
	assert_int_equal(get(IER), 0);
	assert_int_equal(get(IIR), 0x01);
	assert_int_equal(get(MCR), 0);
	assert_int_equal(get(LSR), 0x60);
	assert_int_equal(get(MSR), 0xb0);
	put(LCR, 0x80);
	assert_int_equal(get(RBR), 1);
	assert_int_equal(get(IER), 0);
	put(LCR, 0x7f);
	put(LSR, 0xff); /* the status registers are read-only */
	put(MSR, 0xff);
	assert_int_equal(get(LSR), 0x60);
	assert_int_equal(get(MSR), 0xb0);
	for (unsigned value = 0; value < 256; value++) {
		put(IER, 0);
		put(MCR, (uint8_t)value);
		assert_int_equal(get(MCR), value & 0x1f);
		unsigned looped = (value & 2) << 3 | (value & 1) << 5 | (value & 4) << 4 | (value & 8) << 4;

		assert_int_equal(get(MSR), value & 0x10 ? looped : 0xb0);
		/* OUT2 lets the interrupt through, but not from the loop */
		put(IER, 0x02);
		assert_int_equal(machine.irq[4], (value & 0x18) == 0x08);
		assert_int_equal(get(IIR), 0x02);
		put(MCR, 0);
		put(IER, (uint8_t)value);
		assert_int_equal(get(IER), value & 0x0f);
		put(IER, 0);
		put(FCR, (uint8_t)value);
		assert_int_equal(get(IIR), value & 1 ? 0xc1 : 0x01);
		put(FCR, 0);
		put(SCR, (uint8_t)value);
		assert_int_equal(get(SCR), value);
	}
}

/* The line is set when it changes, and not else: each time is a system call. */
static void line_is_set_when_it_changes(void **state)
{
	(void)state;
	put(MCR, 0x0b);
	put(SCR, 1);
	assert_int_equal(machine.sets[4], 0);
	put(IER, 0x02);
	put(THR, 'a');
	put(THR, 'b');
	get(LSR);
	assert_int_equal(machine.sets[4], 1);
	get(IIR);
	get(IIR);
	assert_int_equal(machine.sets[4], 2);
}

/* Which of several causes is told: an overrun before input before an empty transmitter. */
static void interrupts_by_priority(void **state)
{
	static const uint8_t causes[8] = {0x01, 0x04, 0x02, 0x04, 0x06, 0x06, 0x06, 0x06};

	(void)state;
	put(MCR, 0x10);
	put(THR, 'a');
	put(THR, 'b'); /* without the FIFO there is room for one */
	for (uint8_t enabled = 0; enabled < 8; enabled++) {
		put(IER, 0);
		put(IER, enabled);
		assert_int_equal(get(IIR), causes[enabled]);
	}
	assert_int_equal(get(LSR), 0x63);
	put(IER, 0x07);
	assert_int_equal(get(IIR), 0x04);
	assert_int_equal(get(RBR), 'a');
	assert_int_equal(get(IIR), 0x02);
	assert_int_equal(get(IIR), 0x01);
	assert_int_equal(serial.counters.errors, 1);
}

/* What is in the loop goes when the loop is left or the FIFO cleared, and only then. */
static void loop_is_emptied(void **state)
{
	(void)state;
	put(FCR, 0x01);
	put(MCR, 0x10);
	put(THR, 'a');
	put(FCR, 0x01);
	put(MCR, 0x1f);
	assert_int_equal(get(LSR), 0x61);
	put(FCR, 0x03);
	assert_int_equal(get(LSR), 0x60);
	put(THR, 'b');
	put(MCR, 0x00);
	put(MCR, 0x10);
	assert_int_equal(get(LSR), 0x60);
	put(THR, 'c');
	assert_int_equal(get(RBR), 'c');
	assert_int_equal(get(RBR), 0);
	assert_int_equal(serial.counters.reads, 1);
	assert_int_equal(serial.counters.missed_reads, 1);
}

/* Any other access between them starts the count of polls again. */
static void polls_in_between_count_anew(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 40; i++) {
		for (unsigned j = 0; j < 7; j++)
			get(LSR);
		if (i % 2)
			get(SCR);
		else
			put(SCR, 1);
	}
	assert_int_equal(receive("p", 1), 0);
	assert_int_equal(machine.input_wanted, 0);
	for (unsigned i = 0; i < 100; i++)
		get(LSR);
	assert_int_equal(machine.input_wanted, 1);
	/* a listener until it sets up the port, by any of these */
	for (unsigned i = 0; i < 3; i++) {
		for (unsigned j = 0; j < 8; j++)
			get(LSR);
		assert_int_equal(receive("", 0), 0);
		put(i == 0 ? IER : i == 1 ? FCR : MCR, 0);
		assert_int_equal(receive("p", 1), 0);
	}
}

/* Input goes round the FIFO; it is asked for when the FIFO is empty and more was refused. */
static void fifo_goes_round(void **state)
{
	unsigned next = 0, read = 0;
	char text[SERIAL_FIFO];

	(void)state;
	put(FCR, 0x01);
	put(IER, 0x01);
	for (unsigned round = 0; round < 50; round++) {
		unsigned count = 1 + round % SERIAL_FIFO;

		for (unsigned i = 0; i < count; i++)
			text[i] = (char)('0' + (next + i) % 64);
		assert_int_equal(receive(text, count), count);
		next += count;
		for (; read < next; read++)
			assert_int_equal(get(RBR), '0' + read % 64);
	}
	assert_int_equal(machine.input_wanted, 0);
	assert_int_equal(receive("0123456789abcdefgh", 17), SERIAL_FIFO);
	for (unsigned i = 0; i < SERIAL_FIFO; i++)
		get(RBR);
	assert_int_equal(machine.input_wanted, 1);
	get(RBR);
	assert_int_equal(machine.input_wanted, 1);
}

/* Bytes sent and bytes lost to a full ring are counted apart; a loop needs no room in the ring. */
static void full_ring_and_loop(void **state)
{
	(void)state;
	while (get(LSR) & 0x20)
		for (unsigned i = 0; i < OUTPUT_BURST; i++)
			put(THR, 'x');
	assert_int_equal(serial.counters.writes, OUTPUT_BYTES);
	put(THR, 'y');
	assert_int_equal(serial.counters.writes, OUTPUT_BYTES);
	assert_int_equal(serial.counters.missed_writes, 1);
	put(IER, 0x02);
	assert_int_equal(get(IIR), 0x01);
	put(IER, 0x00);
	put(MCR, 0x10);
	assert_int_equal(get(LSR), 0x60);
	put(IER, 0x02);
	assert_int_equal(get(IIR), 0x02);
	put(THR, 'z');
	assert_int_equal(get(IIR), 0x02);
	assert_int_equal(get(RBR), 'z');
	assert_int_equal(output.count, OUTPUT_BYTES);
	/* room again: told by the interrupt */
	put(MCR, 0x08);
	assert_false(machine.irq[4]);
	serial_output_ready(&serial);
	assert_true(machine.irq[4]);
}

/* Blocks of bytes go round the ring; what does not fit is dropped, and what was kept can be looked at. */
static void ring_takes_what_fits(void **state)
{
	static uint8_t block[OUTPUT_BYTES + 1000], kept[OUTPUT_BYTES + 100];
	uint32_t next = 0;

	(void)state;
	for (uint32_t i = 0; i < sizeof block; i++)
		block[i] = (uint8_t)(i % 251);
	assert_int_equal(output_room(&output), OUTPUT_BYTES);
	assert_int_equal(output_kept(&output, kept, 10), 0);
	output_write(&output, block, 0);
	assert_int_equal(output.count, 0);
	output_write(&output, block, 1000);
	assert_int_equal(output_room(&output), OUTPUT_BYTES - 1000);
	assert_int_equal(output_kept(&output, kept, 10), 10);
	assert_memory_equal(kept, block + 990, 10);
	assert_int_equal(output_kept(&output, kept, 2000), 1000);
	assert_memory_equal(kept, block, 1000);
	assert_false(output.full_seen);
	/* as if 900 of them had been written */
	output.head = 900;
	output.count = 100;
	output_write(&output, block + 1000, OUTPUT_BYTES);
	assert_int_equal(output.count, OUTPUT_BYTES);
	assert_int_equal(output_room(&output), 0);
	assert_true(output.full_seen);
	assert_int_equal(output_kept(&output, kept, OUTPUT_BYTES), OUTPUT_BYTES);
	assert_memory_equal(kept, block + 900, 100);
	for (; next < OUTPUT_BYTES - 100; next++)
		assert_int_equal(kept[100 + next], (1000 + next) % 251);
	assert_false(output_put(&output, 'x'));
	/* where nobody will read there is room, and nothing is kept */
	assert_false(output_is_gone(&output));
	output.gone = true;
	output.count = 0;
	assert_true(output_is_gone(&output));
	assert_int_equal(output_room(&output), OUTPUT_BYTES);
	output_write(&output, block, 100);
	assert_true(output_put(&output, 'x'));
	assert_int_equal(output.count, 0);
	output.gone = false;
}

/* Without a reader yet the oldest bytes make room for the newest, one by one. */
static void oldest_bytes_go_first(void **state)
{
	struct output other;

	(void)state;
	assert_int_equal(output_init(&other, OUTPUT_READERS, -1, NULL), 0);
	for (uint32_t i = 0; i < other.size + 5; i++)
		assert_true(output_put(&other, (uint8_t)(i % 251)));
	assert_int_equal(other.count, other.size);
	assert_int_equal(other.ring[other.head], 5);
	assert_true(output_has_room(&other));
	assert_false(output_has_reader(&other));
	uint8_t last[3];

	assert_int_equal(output_kept(&other, last, 3), 3);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(last[i], (other.size + 2 + i) % 251);
	/* but not while they are being written */
	other.writing = true;
	assert_false(output_put(&other, 'x'));
	assert_false(output_has_room(&other));
	assert_true(other.full_seen);
	other.writing = false;
	output_destroy(&other);
}

static void full_ring_stops_the_transmitter(void **state)
{
	(void)state;
	put(MCR, 0x0b);
	put(IER, 0x02);
	unsigned sent = 0;
	while (get(LSR) & 0x20) {
		for (unsigned i = 0; i < OUTPUT_BURST; i++)
			put(THR, (uint8_t)sent++);
		assert_true(sent <= OUTPUT_BYTES);
	}
	assert_int_equal(sent, OUTPUT_BYTES);
	assert_int_equal(get(LSR) & 0x60, 0);
	assert_int_equal(get(IIR) & 0x0f, 0x01);
	assert_false(machine.irq[4]);
	put(THR, 0xaa); /* written despite the line status: only this byte is lost, as on a UART */
	assert_int_equal(output.count, OUTPUT_BYTES);
	for (unsigned i = 0; i < OUTPUT_BYTES; i++)
		assert_int_equal(output.ring[i], i & 0xff);
}

static struct signal_state signals;

static void start_output(void)
{
	sigset_t taken;
	struct riffle_error error;
	signals_take(&signals, &taken);
	assert_int_equal(output_start(&output, false, &error), 0);
}

static void read_and_check(unsigned *next, unsigned until)
{
	uint8_t buffer[777];
	while (*next < until) {
		ssize_t count = read(reader, buffer, sizeof buffer);
		assert_true(count > 0);
		for (ssize_t i = 0; i < count; i++) {
			assert_int_equal(buffer[i], (*next + *next / 251) & 0xff);
			++*next;
		}
	}
}

/* The output's thread may be changing it. */
static bool irq_now(void)
{
	pthread_mutex_lock(&machine.bus.lock);
	bool level = machine.irq[4];
	pthread_mutex_unlock(&machine.bus.lock);
	return level;
}

static void slow_reader_gets_everything_in_order(void **state)
{
	(void)state;
	start_output();
	put(MCR, 0x0b);
	put(IER, 0x02);
	unsigned sent = 0, next = 0;
	/* fill the pipe and the ring: the guest has to stop */
	for (unsigned stalls = 0; stalls < 200;) {
		if (!(get(LSR) & 0x20)) {
			stalls++;
			nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
			continue;
		}
		put(THR, (uint8_t)(sent + sent / 251));
		sent++;
	}
	assert_in_range(sent, OUTPUT_BYTES - OUTPUT_BURST, OUTPUT_BYTES + 3 * 4096);
	get(IIR);
	assert_false(irq_now());
	/* the reader continues: an interrupt follows, and nothing was lost */
	read_and_check(&next, sent);
	for (unsigned i = 0; i < 5000 && !irq_now(); i++)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	assert_true(irq_now());
	assert_int_equal(get(LSR) & 0x20, 0x20);
	put(THR, (uint8_t)(sent + sent / 251));
	sent++;
	assert_true(finish_within(60000));
	output_stop(&output);
	read_and_check(&next, sent);
	signals_restore(&signals);
}

static void fill(unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		put(THR, 'z');
}

static void stopped_reader_holds_up_nobody(void **state)
{
	(void)state;
	start_output();
	fill(3 * OUTPUT_BYTES); /* a guest that does not check is not held up either */
	assert_false(finish_within(300));
	uint64_t progress = output_progress(&output);
	assert_false(finish_within(50));
	assert_true(output_progress(&output) == progress);
	assert_true(output_has_reader(&output));
	output_stop(&output);
	signals_restore(&signals);
}

/* A full device is an error to report, unlike a reader that went away. */
static void full_device_is_an_error(void **state)
{
	(void)state;
	int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	assert_true(full >= 0);
	close(output.fd);
	output.fd = full;
	start_output();
	fill(100);
	assert_true(finish_within(60000));
	output_stop(&output);
	assert_int_equal(output_failed(&output), ENOSPC);
	signals_restore(&signals);
}

static _Atomic unsigned readers_left;

static void reader_left(void *opaque)
{
	(void)opaque;
	atomic_fetch_add(&readers_left, 1);
}

static void expect_from(int fd, const char *text)
{
	char got[64] = "";
	size_t done = 0;

	while (done < strlen(text)) {
		ssize_t count = read(fd, got + done, strlen(text) - done);
		assert_true(count > 0);
		done += (size_t)count;
	}
	assert_memory_equal(got, text, done);
}

static void send_text(const char *text)
{
	for (; *text; text++)
		put(THR, (uint8_t)*text);
}

/* One reader after another: unread output is kept for the next. */
static void readers_come_and_go(void **state)
{
	int pair[2];
	struct riffle_error error;

	(void)state;
	close(output.fd);
	output_destroy(&output);
	assert_int_equal(output_init(&output, OUTPUT_READERS, -1, &error), 0);
	output.reader_left = reader_left;
	atomic_store(&readers_left, 0);
	start_output();
	send_text("before any");
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		output_connect(&output, pair[1]);
		expect_from(pair[0], i ? "between" : "before any");
		send_text("during");
		expect_from(pair[0], "during");
		close(pair[0]);
		if (i == 1) { /* found broken by a write */
			send_text("between");
			for (unsigned ms = 0; ms < 10000 && !atomic_load(&readers_left); ms++)
				nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
			assert_int_equal(atomic_load(&readers_left), 1);
			assert_false(output_has_reader(&output));
			output_disconnect(&output);
		} else { /* or by its end, which somebody else sees */
			output_disconnect(&output);
			send_text("between");
		}
		/* closed, by the thread if that was writing to it just then */
		for (unsigned ms = 0; ms < 10000 && fcntl(pair[1], F_GETFD) >= 0; ms++)
			nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
		assert_int_equal(fcntl(pair[1], F_GETFD), -1);
	}
	/* without a reader the guest continues, and the newest output is kept */
	for (unsigned i = 0; i < (1u << 20) + 5000; i++) {
		if (i % 1000 == 0)
			assert_int_equal(get(LSR) & 0x20, 0x20);
		put(THR, (uint8_t)(i % 251));
	}
	assert_int_equal(output.count, 1u << 20);
	assert_int_equal(output.ring[output.head], 5000 % 251);
	output_stop(&output);
	signals_restore(&signals);
	output.fd = open("/dev/null", O_RDONLY | O_CLOEXEC); /* for tear_down */
	output.reader = OUTPUT_STREAM;
}

static void reader_that_went_away_is_no_matter(void **state)
{
	(void)state;
	start_output();
	close(reader);
	reader = -1;
	fill(OUTPUT_BYTES);
	for (unsigned i = 0; i < 5000 && !(get(LSR) & 0x20); i++)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	assert_int_equal(get(LSR) & 0x20, 0x20);
	fill(OUTPUT_BYTES);
	assert_true(finish_within(60000));
	output_stop(&output);
	assert_int_equal(output_failed(&output), 0);
	signals_restore(&signals);
	sigset_t pending;
	sigpending(&pending);
	assert_false(sigismember(&pending, SIGPIPE));
}

/* An output closes the reader that came to it, and not the descriptor that it was given. */
static void readers_are_its_own(void **state)
{
	struct riffle_error error;
	struct output other;

	(void)state;
	for (int of_readers = 0; of_readers < 2; of_readers++) {
		int fd = dup(reader);

		assert_int_equal(
		    output_init(&other, of_readers ? OUTPUT_READERS : OUTPUT_STREAM, of_readers ? -1 : fd, &error), 0);
		if (of_readers)
			other.fd = fd;
		output_destroy(&other);
		assert_int_equal(fcntl(fd, F_GETFD) >= 0, !of_readers);
		if (!of_readers)
			close(fd);
	}
	/* nobody has come, or everybody left */
	assert_int_equal(output_init(&other, OUTPUT_READERS, -1, &error), 0);
	output_destroy(&other);
	assert_null(other.ring);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    T(passes_linux_autoconfig),
	    T(divisor_latch),
	    T(transmits_in_order),
	    T(transmit_interrupt),
	    T(receives_with_interrupt),
	    T(without_fifo_one_byte_at_a_time),
	    T(polling_guest_gets_input),
	    T(probing_and_opening_lose_nothing),
	    T(eight_polls_make_a_listener),
	    T(loopback_stays_inside),
	    T(registers_by_every_value),
	    T(line_is_set_when_it_changes),
	    T(interrupts_by_priority),
	    T(loop_is_emptied),
	    T(polls_in_between_count_anew),
	    T(fifo_goes_round),
	    T(full_ring_and_loop),
	    T(ring_takes_what_fits),
	    T(oldest_bytes_go_first),
	    T(readers_are_its_own),
	    T(full_ring_stops_the_transmitter),
	    T(slow_reader_gets_everything_in_order),
	    T(stopped_reader_holds_up_nobody),
	    T(full_device_is_an_error),
	    T(readers_come_and_go),
	    T(reader_that_went_away_is_no_matter),
	};
	return cmocka_run_group_tests_name("monitor serial", tests, NULL, NULL);
}
