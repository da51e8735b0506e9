/* SPDX-License-Identifier: Apache-2.0 */
/* The debugger's protocol: packets, commands against a fake target, registers, and address translation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "monitor/debug/packet.h"
#include "monitor/debug/paging.h"
#include "monitor/debug/registers.h"
#include "monitor/debug/stub.h"

#define MEMORY_AT 0x1000u

static struct fake {
	struct stub_target target;
	struct stub stub;
	struct register_file registers[3];
	uint8_t memory[3000];
	unsigned interrupts, detaches, kills, resumes;
	enum stub_go go[STUB_THREADS_MAX];
	struct {
		bool insert;
		enum stub_point kind;
		uint64_t address, bytes;
	} point;
	char sent[3 * PACKET_BYTES_MAX];
	size_t sent_bytes;
	bool no_registers;
} fake;

static bool fake_read_registers(void *opaque, unsigned thread, struct register_file *file)
{
	assert_ptr_equal(opaque, &fake);
	if (fake.no_registers)
		return false;
	*file = fake.registers[thread];
	return true;
}

static bool fake_write_registers(void *opaque, unsigned thread, const struct register_file *file)
{
	(void)opaque;
	if (fake.no_registers)
		return false;
	fake.registers[thread] = *file;
	return true;
}

static size_t fake_room(uint64_t address, size_t bytes)
{
	uint64_t offset = address - MEMORY_AT;

	if (offset >= sizeof fake.memory)
		return 0;
	return bytes < sizeof fake.memory - offset ? bytes : sizeof fake.memory - (size_t)offset;
}

static size_t fake_read(void *opaque, unsigned thread, uint64_t address, void *data, size_t bytes)
{
	(void)opaque;
	(void)thread;
	bytes = fake_room(address, bytes);
	if (bytes)
		memcpy(data, fake.memory + (address - MEMORY_AT), bytes);
	return bytes;
}

static size_t fake_write(void *opaque, unsigned thread, uint64_t address, const void *data, size_t bytes)
{
	(void)opaque;
	(void)thread;
	bytes = fake_room(address, bytes);
	if (bytes)
		memcpy(fake.memory + (address - MEMORY_AT), data, bytes);
	return bytes;
}

static bool fake_insert(void *opaque, unsigned thread, enum stub_point kind, uint64_t address, uint64_t bytes)
{
	(void)opaque;
	(void)thread;
	fake.point.insert = true;
	fake.point.kind = kind;
	fake.point.address = address;
	fake.point.bytes = bytes;
	return address != 0;
}

static bool fake_remove(void *opaque, enum stub_point kind, uint64_t address, uint64_t bytes)
{
	fake_insert(opaque, 0, kind, address, bytes);
	fake.point.insert = false;
	return address != 0;
}

static void fake_resume(void *opaque, const enum stub_go go[STUB_THREADS_MAX])
{
	(void)opaque;
	fake.resumes++;
	memcpy(fake.go, go, sizeof fake.go);
}

static void fake_interrupt(void *opaque)
{
	(void)opaque;
	fake.interrupts++;
}

static void fake_detach(void *opaque)
{
	(void)opaque;
	fake.detaches++;
}

static void fake_kill(void *opaque)
{
	(void)opaque;
	fake.kills++;
}

static void fake_send(void *opaque, const char *bytes, size_t count)
{
	(void)opaque;
	assert_true(count <= sizeof fake.sent - fake.sent_bytes);
	memcpy(fake.sent + fake.sent_bytes, bytes, count);
	fake.sent_bytes += count;
}

static int set_up(void **state)
{
	(void)state;
	memset(&fake, 0, sizeof fake);
	fake.target = (struct stub_target){.threads = 3,
					   .read_registers = fake_read_registers,
					   .write_registers = fake_write_registers,
					   .read_memory = fake_read,
					   .write_memory = fake_write,
					   .insert = fake_insert,
					   .remove = fake_remove,
					   .resume = fake_resume,
					   .interrupt = fake_interrupt,
					   .detach = fake_detach,
					   .kill = fake_kill,
					   .opaque = &fake};
	stub_begin(&fake.stub, &fake.target, fake_send, &fake);
	return 0;
}

/* Sends a packet, which may contain zeros, and returns the reply without acknowledgement and framing. */
static const char *ask_bytes(const void *content, size_t bytes)
{
	static char answer[2 * PACKET_BYTES_MAX];
	struct packet_writer writer = {.bytes = bytes};
	char framed[PACKET_BYTES_MAX + 4];
	const char *at = fake.sent;
	bool acks = !fake.stub.no_acks;

	memcpy(writer.content, content, bytes);
	fake.sent_bytes = 0;
	stub_take(&fake.stub, (const uint8_t *)framed, packet_frame(&writer, framed, sizeof framed));
	fake.sent[fake.sent_bytes] = 0;
	if (acks && *at == '+')
		at++;
	if (*at == '$') {
		assert_null(strchr(at + 1, '$')); /* one answer */
		snprintf(answer, sizeof answer, "%.*s", (int)(fake.sent + fake.sent_bytes - at - 4), at + 1);
		return answer;
	}
	return at;
}

static const char *ask(const char *content)
{
	return ask_bytes(content, strlen(content));
}

static void packets(void **state)
{
	struct packet_reader reader = {0};
	const char *stream = "+noise$m1000,4#8e";
	enum packet_event event = PACKET_NOTHING;

	(void)state;
	for (; *stream; stream++)
		event = packet_take(&reader, (uint8_t)*stream);
	assert_int_equal(event, PACKET_WHOLE);
	assert_string_equal((char *)reader.content, "m1000,4");
	/* a wrong checksum, its own digits among them */
	for (stream = "$m1000,4#8f"; *stream; stream++)
		event = packet_take(&reader, (uint8_t)*stream);
	assert_int_equal(event, PACKET_DAMAGED);
	for (stream = "$m1000,4#8g"; *stream; stream++)
		event = packet_take(&reader, (uint8_t)*stream);
	assert_int_equal(event, PACKET_DAMAGED);
	/* an escape, and a packet that begins in another */
	for (stream = "$abc$X}\x03#d8"; *stream; stream++)
		event = packet_take(&reader, (uint8_t)*stream);
	assert_int_equal(event, PACKET_WHOLE);
	assert_string_equal((char *)reader.content, "X#");
	assert_int_equal(packet_take(&reader, 3), PACKET_INTERRUPT);
	assert_int_equal(packet_take(&reader, '-'), PACKET_REFUSED);
}

static void longest_packet(void **state)
{
	struct packet_reader reader = {0};

	(void)state;
	for (unsigned extra = 0; extra < 2; extra++) {
		uint8_t sum = 0;
		char check[3];

		packet_take(&reader, '$');
		for (unsigned i = 0; i < PACKET_BYTES_MAX + extra; i++) {
			packet_take(&reader, 'a');
			sum = (uint8_t)(sum + 'a');
		}
		snprintf(check, sizeof check, "%02x", sum);
		packet_take(&reader, '#');
		packet_take(&reader, (uint8_t)check[0]);
		assert_int_equal(packet_take(&reader, (uint8_t)check[1]), extra ? PACKET_DAMAGED : PACKET_WHOLE);
		assert_true(reader.bytes <= PACKET_BYTES_MAX);
	}
}

static void numbers(void **state)
{
	const char *text = "ffffffffffffffff,";
	uint64_t number;

	(void)state;
	assert_true(packet_parse_number(&text, &number));
	assert_true(number == UINT64_MAX && *text == ',');
	text = "10000000000000000";
	assert_false(packet_parse_number(&text, &number));
	text = ",";
	assert_false(packet_parse_number(&text, &number));

	struct packet_writer writer = {0};

	packet_number(&writer, 0);
	packet_text(&writer, " ");
	packet_number(&writer, UINT64_C(0x10));
	packet_text(&writer, " ");
	packet_number(&writer, UINT64_MAX);
	assert_int_equal(writer.bytes, strlen("0 10 ffffffffffffffff"));
	assert_memory_equal(writer.content, "0 10 ffffffffffffffff", writer.bytes);
}

static void acknowledgements(void **state)
{
	(void)state;
	ask("?");
	assert_int_equal(fake.sent[0], '+');
	fake.sent_bytes = 0;
	stub_take(&fake.stub, (const uint8_t *)"$?#00", 5);
	assert_memory_equal(fake.sent, "-", 1);
	/* the last answer again */
	fake.sent_bytes = 0;
	stub_take(&fake.stub, (const uint8_t *)"-", 1);
	assert_memory_equal(fake.sent, "$T05thread:1;#", 14);
	assert_string_equal(ask("QStartNoAckMode"), "OK");
	ask("?");
	assert_int_equal(fake.sent[0], '$');
}

static void memory(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof fake.memory; i++)
		fake.memory[i] = (uint8_t)i;
	assert_string_equal(ask("m1001,3"), "010203");
	/* as far as there is memory, and nothing without */
	assert_string_equal(ask("m1bb6,4"), "b6b7");
	assert_string_equal(ask("m1bb8,1"), "E01");
	assert_string_equal(ask("mfff,1"), "E01");
	assert_string_equal(ask("m1000"), "E01");
	/* more than a packet holds is truncated */
	assert_true(strlen(ask("m1000,ffffffffffffffff")) <= PACKET_BYTES_MAX);
	assert_string_equal(ask("M1000,2:abCD"), "OK");
	assert_memory_equal(fake.memory, "\xab\xcd\x02", 3);
	assert_string_equal(ask("M1000,2:abc"), "E01");
	assert_string_equal(ask("M1000,2:abcdef"), "E01");
	assert_string_equal(ask("M1bb7,2:abcd"), "E01");
	/* `}` and a zero among the bytes */
	static const char binary[] = "X1000,3:}\x5d\0z";

	assert_string_equal(ask_bytes(binary, sizeof binary - 1), "OK");
	assert_memory_equal(fake.memory, "}\0z", 3);
	assert_string_equal(ask("X1000,0:"), "OK");
}

static void registers(void **state)
{
	char all[2 * REGISTER_FILE_BYTES + 2], *command = all;
	size_t offset, bytes, end = 0;
	unsigned count = 0;

	(void)state;
	for (; registers_find(count, &offset, &bytes); count++) {
		assert_int_equal(offset, end);
		end += bytes;
	}
	assert_int_equal(end, REGISTER_FILE_BYTES);
	for (unsigned i = 0; i < REGISTER_FILE_BYTES; i++)
		fake.registers[1].bytes[i] = (uint8_t)(i * 7);
	assert_string_equal(ask("Hg2"), "OK");
	const char *file = ask("g");

	assert_int_equal(strlen(file), 2 * REGISTER_FILE_BYTES);
	assert_memory_equal(file, "00070e15", 8);
	*command++ = 'G';
	for (unsigned i = 0; i < REGISTER_FILE_BYTES; i++, command += 2)
		memcpy(command, "5a", 3);
	assert_string_equal(ask(all), "OK");
	assert_int_equal(fake.registers[1].bytes[REGISTER_FILE_BYTES - 1], 0x5a);
	assert_int_equal(fake.registers[0].bytes[0], 0);
	command[-1] = 0;
	assert_string_equal(ask(all), "E01");
	/* rip is number 16 */
	assert_string_equal(ask("P10=8877665544332211"), "OK");
	assert_string_equal(ask("p10"), "8877665544332211");
	assert_int_equal(fake.registers[1].bytes[16 * 8], 0x88);
	assert_string_equal(ask("P10=88776655443322"), "E01");
	char last[16];

	snprintf(last, sizeof last, "p%x", count);
	assert_string_equal(ask(last), "E01");
	snprintf(last, sizeof last, "p%x", count - 1);
	assert_int_equal(strlen(ask(last)), 16);
}

/* Converting to KVM's structures and back loses nothing that a debugger may change. */
static void registers_of_kvm(void **state)
{
	struct register_sources one, two;
	struct register_file file, again;

	(void)state;
	srand(1);
	for (size_t i = 0; i < sizeof one; i++)
		((uint8_t *)&one)[i] = (uint8_t)rand();
	one.regs.rflags &= UINT32_MAX;
	memset(&two, 0, sizeof two);
	registers_collect(&file, &one);
	registers_spread(&file, &two);
	assert_memory_equal(&two.regs, &one.regs, sizeof one.regs);
	assert_int_equal(two.fpu.ftwx, one.fpu.ftwx);
	assert_int_equal(two.fpu.fcw, one.fpu.fcw);
	assert_int_equal(two.fpu.mxcsr, one.fpu.mxcsr);
	assert_memory_equal(two.fpu.xmm, one.fpu.xmm, sizeof one.fpu.xmm);
	two.sregs = one.sregs;
	two.kernel_gs_base = one.kernel_gs_base;
	two.fpu.last_ip = one.fpu.last_ip;
	two.fpu.last_dp = one.fpu.last_dp;
	two.fpu.last_opcode = one.fpu.last_opcode;
	registers_collect(&again, &two);
	assert_memory_equal(&again, &file, sizeof file);
	/* in the order of the description */
	assert_memory_equal(file.bytes, &one.regs.rax, 8);
	assert_memory_equal(file.bytes + 8, &one.regs.rbx, 8);
	assert_memory_equal(file.bytes + 7 * 8, &one.regs.rsp, 8);
	assert_memory_equal(file.bytes + 16 * 8, &one.regs.rip, 8);
	assert_memory_equal(file.bytes + REGISTER_FILE_BYTES - 8, &one.sregs.efer, 8);
}

static void description(void **state)
{
	size_t bytes = strlen(registers_description()), got = 0;
	char question[80], *whole = calloc(1, bytes + 1);
	const char *answer;

	(void)state;
	assert_non_null(strstr(ask("qSupported:swbreak+"), "qXfer:features:read+"));
	do {
		snprintf(question, sizeof question, "qXfer:features:read:target.xml:%zx,100", got);
		answer = ask(question);
		assert_true(strlen(answer) <= 0x101);
		strcpy(whole + got, answer + 1);
		got += strlen(answer + 1);
	} while (*answer == 'm');
	assert_int_equal(*answer, 'l');
	assert_string_equal(whole, registers_description());
	snprintf(question, sizeof question, "qXfer:features:read:target.xml:%zx,1", bytes + 1);
	assert_string_equal(ask(question), "E01");
	/* as many registers as the file has */
	size_t offset, register_bytes;
	unsigned described = 0, count = 0;

	for (const char *at = whole; (at = strstr(at, "<reg ")); at++)
		described++;
	while (registers_find(count, &offset, &register_bytes))
		count++;
	assert_int_equal(described, count);
	free(whole);
}

static void threads(void **state)
{
	(void)state;
	assert_string_equal(ask("qfThreadInfo"), "m1,2,3");
	assert_string_equal(ask("qsThreadInfo"), "l");
	fake.target.threads = 20;
	assert_string_equal(ask("qfThreadInfo"), "m1,2,3,4,5,6,7,8,9,a,b,c,d,e,f,10");
	assert_string_equal(ask("qsThreadInfo"), "m11,12,13,14");
	assert_string_equal(ask("qsThreadInfo"), "l");
	fake.target.threads = 3;
	assert_string_equal(ask("T3"), "OK");
	assert_string_equal(ask("T4"), "E01");
	assert_string_equal(ask("Hg4"), "E01");
	assert_string_equal(ask("Hg"), "E01");
	assert_string_equal(ask("Hc-1"), "OK");
	assert_string_equal(ask("qThreadExtraInfo,2"), "764350552031"); /* vCPU 1 */
}

/* Any thread, and all of them, are the one that stopped. */
static void any_thread(void **state)
{
	static const char *const any[] = {"Hg0", "Hg-1"};
	char of_second[PACKET_BYTES_MAX];

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		memset(&fake.registers[i], (int)(0x11 * (i + 1)), sizeof fake.registers[i]);
	assert_string_equal(ask("vCont;c"), "");
	stub_stopped(&fake.stub, 1, STUB_STOP_WRITE, 0xabc);
	assert_string_equal(ask("Hg2"), "OK");
	snprintf(of_second, sizeof of_second, "%s", ask("g"));
	for (unsigned i = 0; i < 2; i++) {
		assert_string_equal(ask("Hg1"), "OK");
		assert_string_not_equal(ask("g"), of_second);
		assert_string_equal(ask(any[i]), "OK");
		assert_string_equal(ask("g"), of_second);
	}
	/* no thread in particular is alive */
	assert_string_equal(ask("T0"), "E01");
	assert_string_equal(ask("T-1"), "E01");
}

static void going_on(void **state)
{
	(void)state;
	assert_string_equal(ask("vCont;s:2;c"), "");
	assert_int_equal(fake.resumes, 1);
	assert_int_equal(fake.go[0], STUB_CONTINUE);
	assert_int_equal(fake.go[1], STUB_STEP);
	assert_int_equal(fake.go[2], STUB_CONTINUE);
	/* only an interrupt is accepted now */
	assert_int_equal(fake.interrupts, 0);
	stub_take(&fake.stub, (const uint8_t *)"\x03", 1);
	assert_int_equal(fake.interrupts, 1);
	fake.sent_bytes = 0;
	stub_stopped(&fake.stub, 1, STUB_STOP_WRITE, 0xabc);
	assert_memory_equal(fake.sent, "$T05thread:2;watch:abc;#", 24);
	/* already stopped: neither another stop nor an interrupt is reported */
	fake.sent_bytes = 0;
	stub_stopped(&fake.stub, 2, STUB_STOP_STEP, 0);
	stub_take(&fake.stub, (const uint8_t *)"\x03", 1);
	assert_int_equal(fake.sent_bytes, 0);
	assert_int_equal(fake.interrupts, 1);
	assert_string_equal(ask("qC"), "QC2");
	/* the first matching action applies to a thread; a thread without one stays stopped */
	ask("vCont;c:1;s");
	assert_int_equal(fake.go[0], STUB_CONTINUE);
	assert_int_equal(fake.go[2], STUB_STEP);
	stub_stopped(&fake.stub, 0, STUB_STOP_INTERRUPT, 0);
	ask("vCont;s:3");
	assert_int_equal(fake.go[0], STUB_STAY);
	assert_int_equal(fake.go[2], STUB_STEP);
	stub_stopped(&fake.stub, 2, STUB_STOP_STEP, 0);
	assert_string_equal(ask("vCont;x"), "E01");
	assert_string_equal(ask("vCont;c:9"), "E01");
	assert_string_equal(ask("vCont"), "E01");
	assert_int_equal(fake.resumes, 3);
	ask("s");
	assert_int_equal(fake.go[2], STUB_STEP);
	assert_int_equal(fake.go[0], STUB_STAY);
}

static void points(void **state)
{
	(void)state;
	assert_string_equal(ask("Z0,ffffffff81000000,1"), "OK");
	assert_true(fake.point.insert && fake.point.kind == STUB_BREAK_SOFT &&
		    fake.point.address == UINT64_C(0xffffffff81000000) && fake.point.bytes == 1);
	assert_string_equal(ask("z4,10,8"), "OK");
	assert_true(!fake.point.insert && fake.point.kind == STUB_WATCH_ACCESS && fake.point.bytes == 8);
	assert_string_equal(ask("Z1,0,1"), "E01");
	assert_string_equal(ask("Z5,10,1"), "");
	assert_string_equal(ask("Z0,10"), "E01");
}

/* Why a thread stopped, as gdb reads it; asked for again it is the same. */
static void reasons_of_stops(void **state)
{
	static const struct {
		enum stub_stop why;
		const char *told;
	} rows[] = {
	    {STUB_STOP_INTERRUPT, "T02thread:3;"},          {STUB_STOP_STEP, "T05thread:3;"},
	    {STUB_STOP_SOFT, "T05thread:3;swbreak:;"},      {STUB_STOP_HARD, "T05thread:3;hwbreak:;"},
	    {STUB_STOP_WRITE, "T05thread:3;watch:1a2b;"},   {STUB_STOP_READ, "T05thread:3;rwatch:1a2b;"},
	    {STUB_STOP_ACCESS, "T05thread:3;awatch:1a2b;"},
	};

	(void)state;
	assert_string_equal(ask("?"), "T05thread:1;");
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		ask("c");
		fake.sent_bytes = 0;
		stub_stopped(&fake.stub, 2, rows[i].why, 0x1a2b);
		assert_memory_equal(fake.sent + 1, rows[i].told, strlen(rows[i].told));
		assert_int_equal(fake.sent_bytes, strlen(rows[i].told) + 4);
		assert_string_equal(ask("?"), rows[i].told);
	}
}

/* Packets and their answers, the malformed and the unknown ones among them. */
static void answers_to_packets(void **state)
{
	static const struct {
		const char *packet, *answer;
	} rows[] = {
	    {"", ""},
	    {"!", ""},
	    {"Hg-1", "OK"},
	    {"H", "E01"},
	    {"Hg3", "OK"},
	    {"qC", "QC3"},
	    {"Hc1", "OK"}, /* no matter to anything but g */
	    {"qC", "QC3"},
	    {"Hg0", "OK"},
	    {"qC", "QC1"},
	    {"Hgx", "E01"},
	    {"T1", "OK"},
	    {"T", "E01"},
	    {"m", "E01"},
	    {"m1000", "E01"},
	    {"m1000;1", "E01"},
	    {"m1000,", "E01"},
	    {"m1000,1x", "E01"},
	    {"m1000,0", ""},
	    {"m1000,1", "00"},
	    {"M1000,1", "E01"},
	    {"M1000,1;aa", "E01"},
	    {"M1000,2:aa", "E01"},
	    {"M1000,0:", "OK"},
	    {"M1000,1001:", "E01"},
	    {"X1000,1:", "E01"},
	    {"X1000,1:ab", "E01"},
	    {"X1000,2:ab", "OK"},
	    {"X1000,2;ab", "E01"},
	    {"m1000,2", "6162"},
	    {"p", "E01"},
	    {"pff", "E01"},
	    {"p100", "E01"},
	    {"p10000000000", "E01"},
	    {"P10", "E01"},
	    {"P10:8877665544332211", "E01"},
	    {"P10=88776655443322110", "E01"},
	    {"G", "E01"},
	    {"Z", "E01"},
	    {"Z0", "E01"},
	    {"Z0;10,1", "E01"},
	    {"Z0,10;1", "E01"},
	    {"z4,10,1", "OK"},
	    {"z5,10,1", ""},
	    {"vCont?", "vCont;c;C;s;S"},
	    {"vMustReplyEmpty", ""},
	    {"vCont;", "E01"},
	    {"vCont;C", "E01"},
	    {"vCont;Sx", "E01"},
	    {"vCont;c:x", "E01"},
	    {"vCont;cx", "E01"},
	    {"vCont;c:4", "E01"},
	    {"qAttached", "1"},
	    {"qAttachedX", ""},
	    {"qSymbol::", ""},
	    {"qfThreadInfo", "m1,2,3"},
	    {"qThreadExtraInfo,0", "E01"},
	    {"qThreadExtraInfo,4", "E01"},
	    {"qThreadExtraInfo,3", "764350552032"},
	    {"qXfer:features:read:target.xml:0", "E01"},
	    {"qXfer:features:read:target.xml:0,1x", "E01"},
	    {"qXfer:features:read:target.xml:fffff,1", "E01"},
	    {"qXfer:features:read:other.xml:0,1", ""},
	    {"QStartNoAckMod", ""},
	    {"QStartNoAckModes", ""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const char *answer = ask(rows[i].packet);

		if (strcmp(answer, rows[i].answer))
			fail_msg("%s: %s", rows[i].packet, answer);
		assert_int_equal(fake.sent[0], '+');
	}
	assert_int_equal(fake.resumes, 0);
	assert_string_equal(ask("qSupported:xmlRegisters=i386"),
			    "PacketSize=1000;qXfer:features:read+;QStartNoAckMode+;vContSupported+;swbreak+;hwbreak+");
}

/* A vCPU whose registers cannot be had: nothing is made up. */
static void registers_that_cannot_be_had(void **state)
{
	char all[2 * REGISTER_FILE_BYTES + 2] = "G";

	(void)state;
	memset(all + 1, '5', 2 * REGISTER_FILE_BYTES);
	assert_string_equal(ask(all), "OK");
	fake.no_registers = true;
	assert_string_equal(ask("g"), "E01");
	assert_string_equal(ask("p10"), "E01");
	assert_string_equal(ask("P10=8877665544332211"), "E01");
	assert_string_equal(ask(all), "E01");
	fake.no_registers = false;
	assert_string_equal(ask("p10"), "5555555555555555");
	char longer[sizeof all + 2];

	snprintf(longer, sizeof longer, "%s55", all);
	assert_string_equal(ask(longer), "E01");
}

/* Each way of going on, for each number of threads. */
static void ways_of_going_on(void **state)
{
	static const struct {
		const char *packet;
		enum stub_go go[3]; /* of the three threads, of which the second is chosen */
	} rows[] = {
	    {"c", {STUB_CONTINUE, STUB_CONTINUE, STUB_CONTINUE}},
	    {"C05", {STUB_CONTINUE, STUB_CONTINUE, STUB_CONTINUE}},
	    {"s", {STUB_STAY, STUB_STEP, STUB_STAY}},
	    {"S05", {STUB_STAY, STUB_STEP, STUB_STAY}},
	    {"vCont;c", {STUB_CONTINUE, STUB_CONTINUE, STUB_CONTINUE}},
	    {"vCont;C05", {STUB_CONTINUE, STUB_CONTINUE, STUB_CONTINUE}},
	    {"vCont;s", {STUB_STEP, STUB_STEP, STUB_STEP}},
	    {"vCont;S05:1", {STUB_STEP, STUB_STAY, STUB_STAY}},
	    {"vCont;c:3;s:1", {STUB_STEP, STUB_STAY, STUB_CONTINUE}},
	    {"vCont;s:-1;c", {STUB_STEP, STUB_STEP, STUB_STEP}},
	    {"vCont;s:2;c:0", {STUB_CONTINUE, STUB_STEP, STUB_CONTINUE}},
	    {"vCont;s:2;s:2;c:1", {STUB_CONTINUE, STUB_STEP, STUB_STAY}},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		assert_string_equal(ask("Hg2"), "OK");
		memset(fake.go, 0x7f, sizeof fake.go);
		assert_string_equal(ask(rows[i].packet), "");
		assert_int_equal(fake.resumes, i + 1);
		for (unsigned j = 0; j < 3; j++)
			if (fake.go[j] != rows[i].go[j])
				fail_msg("%s: thread %u: %d", rows[i].packet, j + 1, fake.go[j]);
		for (unsigned j = 3; j < STUB_THREADS_MAX; j++)
			assert_true(fake.go[j] == STUB_STAY || fake.go[j] == STUB_CONTINUE);
		assert_string_equal(ask("g"), ""); /* not while it runs */
		stub_stopped(&fake.stub, 0, STUB_STOP_STEP, 0);
	}
}

/* Lists end at packets of sixteen; names have the number of the vCPU. */
static void lists_and_names_of_threads(void **state)
{
	(void)state;
	for (unsigned threads = 1; threads <= STUB_THREADS_MAX; threads++) {
		unsigned listed = 0;

		fake.target.threads = threads;
		for (const char *list = ask("qfThreadInfo"); *list == 'm'; list = ask("qsThreadInfo")) {
			char copy[200], *at = copy;
			unsigned here = 0;

			snprintf(copy, sizeof copy, "%s", list + 1);
			for (char *word; (word = strsep(&at, ",")); here++)
				assert_int_equal(strtoul(word, NULL, 16), ++listed);
			assert_in_range(here, 1, 16);
			assert_true(here == 16 || listed == threads);
		}
		assert_int_equal(listed, threads);
	}
	for (unsigned thread = 1; thread <= STUB_THREADS_MAX; thread++) {
		char question[40], name[8], hex[20] = "";

		snprintf(question, sizeof question, "qThreadExtraInfo,%x", thread);
		snprintf(name, sizeof name, "vCPU %u", thread - 1);
		for (unsigned i = 0; name[i]; i++)
			snprintf(hex + 2 * i, 3, "%02x", (uint8_t)name[i]);
		assert_string_equal(ask(question), hex);
	}
}

/* The description in pieces of any size is the whole of it, and only the last piece says so. */
static void description_in_pieces(void **state)
{
	const char *whole = registers_description();
	size_t size = strlen(whole);

	(void)state;
	for (size_t piece = 1; piece < 3 * size; piece = piece * 3 + 1) {
		for (size_t at = 0; at < size;) {
			char question[80];

			snprintf(question, sizeof question, "qXfer:features:read:target.xml:%zx,%zx", at, piece);
			const char *answer = ask(question);
			size_t got = 0;

			for (const char *c = answer + 1; *c; c++, got++) {
				char byte = *c;

				if (byte == '}')
					byte = (char)(*++c ^ 0x20);
				assert_int_equal(byte, whole[at + got]);
			}
			assert_true(got && got <= piece && got <= PACKET_BYTES_MAX / 2);
			at += got;
			assert_int_equal(answer[0], at == size ? 'l' : 'm');
		}
	}
	char question[80];

	snprintf(question, sizeof question, "qXfer:features:read:target.xml:%zx,10", size);
	assert_string_equal(ask(question), "l");
	snprintf(question, sizeof question, "qXfer:features:read:target.xml:%zx,10", size + 1);
	assert_string_equal(ask(question), "E01");
}

/* As many bytes as fit into a packet, and no more. */
static void most_memory_at_once(void **state)
{
	(void)state;
	assert_int_equal(strlen(ask("m1000,7ef")), 2 * 0x7ef);
	assert_int_equal(strlen(ask("m1000,7f0")), 2 * 0x7f0);
	assert_int_equal(strlen(ask("m1000,7f1")), 2 * 0x7f0);
	static char packet[PACKET_BYTES_MAX];
	int header = snprintf(packet, sizeof packet, "X1000,b00:");

	memset(packet + header, 'a', 0xb00);
	assert_string_equal(ask_bytes(packet, (size_t)header + 0xb00), "OK");
	assert_string_equal(ask_bytes(packet, (size_t)header + 0xaff), "E01");
	assert_int_equal(fake.memory[0xaff], 'a');
	assert_int_equal(fake.memory[0xb00], 0);
}

static void good_byes(void **state)
{
	(void)state;
	assert_string_equal(ask("D"), "OK");
	assert_int_equal(fake.detaches, 1);
	assert_int_equal(fake.kills, 0);
	assert_false(stub_take(&fake.stub, (const uint8_t *)"$?#3f", 5));
	set_up(NULL);
	assert_string_equal(ask("k"), "");
	assert_int_equal(fake.kills, 1);
	assert_int_equal(fake.detaches, 0);
	assert_false(stub_take(&fake.stub, (const uint8_t *)"$?#3f", 5));
	set_up(NULL);
	assert_string_equal(ask("vKill;1"), "OK");
	assert_int_equal(fake.kills, 1);
	assert_false(stub_take(&fake.stub, (const uint8_t *)"$?#3f", 5));
	set_up(NULL);
	fake.sent_bytes = 0;
	stub_exited(&fake.stub); /* nobody waits for it */
	assert_int_equal(fake.sent_bytes, 0);
	/* nothing has been said that could be said again */
	stub_take(&fake.stub, (const uint8_t *)"-", 1);
	assert_int_equal(fake.sent_bytes, 0);
	ask("c");
	fake.sent_bytes = 0;
	stub_exited(&fake.stub);
	assert_memory_equal(fake.sent, "$W00#b7", 7);
}

#define PAGE UINT64_C(4096)

static void set(uint8_t *ram, uint64_t at, uint64_t value)
{
	memcpy(ram + at, &value, sizeof value);
}

static void translation(void **state)
{
	uint8_t *ram = calloc(16, PAGE);
	const struct guest_memory memory = {.count = 1, .ram[0] = {.bytes = 16 * PAGE, .host = ram}};
	struct kvm_sregs sregs = {0};
	uint64_t physical, bytes;

	(void)state;
	/* no paging */
	assert_true(paging_translate(&memory, &sregs, 0x1234, &physical, &bytes));
	assert_true(physical == 0x1234 && bytes == PAGE - 0x234);
	sregs.cr0 = UINT64_C(1) << 31;
	assert_false(paging_translate(&memory, &sregs, 0x1234, &physical, &bytes)); /* tables of the older kinds */
	sregs.efer = UINT64_C(1) << 10;
	sregs.cr3 = PAGE | 0xfff;
	/* the last page of the kernel's half in 4 KiB, with bits beside the address in each entry; then 2 MiB and 1 GiB
	 */
	set(ram, PAGE + 511 * 8, 2 * PAGE | 0x63);
	set(ram, 2 * PAGE + 511 * 8, 3 * PAGE | 0x63);
	set(ram, 3 * PAGE + 511 * 8, 4 * PAGE | 0x63);
	set(ram, 4 * PAGE + 511 * 8, UINT64_C(0x8000000000007000) | 0x63);
	set(ram, 3 * PAGE + 510 * 8, UINT64_C(0x40000000) | 0xe3);
	set(ram, 2 * PAGE + 510 * 8, UINT64_C(0x80000000) | 0xe3);
	assert_true(paging_translate(&memory, &sregs, UINT64_C(0xfffffffffffffffe), &physical, &bytes));
	assert_true(physical == 0x7ffe && bytes == 2);
	assert_true(paging_translate(&memory, &sregs, UINT64_C(0xffffffffffc12345), &physical, &bytes));
	assert_true(physical == 0x40012345 && bytes == (2 << 20) - 0x12345);
	assert_true(paging_translate(&memory, &sregs, UINT64_C(0xffffffff80000001), &physical, &bytes));
	assert_true(physical == 0x80000001 && bytes == (1 << 30) - 1);
	/* nothing there, and no sign extension */
	assert_false(paging_translate(&memory, &sregs, UINT64_C(0xffffffffff000000), &physical, &bytes));
	assert_false(paging_translate(&memory, &sregs, UINT64_C(0x0000ffffffffffff), &physical, &bytes));
	/* a table that is not in memory */
	set(ram, 4 * PAGE + 510 * 8, 0);
	set(ram, PAGE, UINT64_C(0x10000000) | 0x63);
	assert_false(paging_translate(&memory, &sregs, 0, &physical, &bytes));
	/* the user-mode tables, one page after the kernel's, do not map it */
	sregs.cr3 = 9 * PAGE;
	set(ram, 8 * PAGE + 511 * 8, 2 * PAGE | 0x63);
	assert_true(paging_translate(&memory, &sregs, UINT64_C(0xffffffffffc12345), &physical, &bytes));
	/* five levels */
	sregs.cr3 = 10 * PAGE;
	sregs.cr4 = UINT64_C(1) << 12;
	set(ram, 10 * PAGE + 511 * 8, PAGE | 0x63);
	assert_true(paging_translate(&memory, &sregs, UINT64_C(0xffffffffffc12345), &physical, &bytes));
	assert_true(physical == 0x40012345);
	free(ram);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(reasons_of_stops, set_up),
	    cmocka_unit_test_setup(answers_to_packets, set_up),
	    cmocka_unit_test_setup(registers_that_cannot_be_had, set_up),
	    cmocka_unit_test_setup(ways_of_going_on, set_up),
	    cmocka_unit_test_setup(lists_and_names_of_threads, set_up),
	    cmocka_unit_test_setup(description_in_pieces, set_up),
	    cmocka_unit_test_setup(most_memory_at_once, set_up),
	    cmocka_unit_test(packets),
	    cmocka_unit_test(longest_packet),
	    cmocka_unit_test(numbers),
	    cmocka_unit_test_setup(acknowledgements, set_up),
	    cmocka_unit_test_setup(memory, set_up),
	    cmocka_unit_test_setup(registers, set_up),
	    cmocka_unit_test(registers_of_kvm),
	    cmocka_unit_test_setup(description, set_up),
	    cmocka_unit_test_setup(threads, set_up),
	    cmocka_unit_test_setup(any_thread, set_up),
	    cmocka_unit_test_setup(going_on, set_up),
	    cmocka_unit_test_setup(points, set_up),
	    cmocka_unit_test_setup(good_byes, set_up),
	    cmocka_unit_test(translation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
