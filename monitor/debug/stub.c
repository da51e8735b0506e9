/* SPDX-License-Identifier: Apache-2.0 */
/* The GDB remote serial protocol: commands of a debugger, carried out on whatever a table of functions stands for. */
#include "monitor/debug/stub.h"

#include <string.h>

#define SIGNAL_INTERRUPT 2u
#define SIGNAL_TRAP 5u
/* Of one m or M: its hexadecimal digits must fit a packet. */
#define MEMORY_BYTES_MAX (PACKET_BYTES_MAX / 2 - 16)

static void send_answer(struct stub *stub, const struct packet_writer *writer)
{
	stub->last_bytes = packet_frame(writer, stub->last, sizeof stub->last);
	stub->send(stub->opaque, stub->last, stub->last_bytes);
}

static void send_text(struct stub *stub, const char *text)
{
	struct packet_writer writer = {0};

	packet_text(&writer, text);
	send_answer(stub, &writer);
}

static void send_ok(struct stub *stub, bool ok)
{
	send_text(stub, ok ? "OK" : "E01");
}

static void add_thread(struct packet_writer *writer, unsigned thread)
{
	packet_number(writer, thread + 1);
}

static void send_stop(struct stub *stub)
{
	static const char *const words[] = {"", "", "swbreak:;", "hwbreak:;", "watch:", "rwatch:", "awatch:"};
	struct packet_writer writer = {0};

	packet_text(&writer, stub->stop == STUB_STOP_INTERRUPT ? "T02thread:" : "T05thread:");
	add_thread(&writer, stub->stop_thread);
	packet_text(&writer, ";");
	packet_text(&writer, words[stub->stop]);
	if (stub->stop >= STUB_STOP_WRITE) {
		packet_number(&writer, stub->stop_address);
		packet_text(&writer, ";");
	}
	send_answer(stub, &writer);
}

static void read_all_registers(struct stub *stub)
{
	struct packet_writer writer = {0};
	struct register_file file;

	if (!stub->target->read_registers(stub->target->opaque, stub->thread, &file)) {
		send_ok(stub, false);
		return;
	}
	packet_hex(&writer, file.bytes, sizeof file.bytes);
	send_answer(stub, &writer);
}

static void write_all_registers(struct stub *stub, const char *text)
{
	struct register_file file;

	send_ok(stub, packet_parse_hex(&text, file.bytes, sizeof file.bytes) && !*text &&
			  stub->target->write_registers(stub->target->opaque, stub->thread, &file));
}

static void access_register(struct stub *stub, const char *text, bool write)
{
	struct packet_writer writer = {0};
	struct register_file file;
	size_t offset, bytes;
	uint64_t number;

	if (!packet_parse_number(&text, &number) || number > 255 ||
	    !registers_find((unsigned)number, &offset, &bytes) ||
	    !stub->target->read_registers(stub->target->opaque, stub->thread, &file)) {
		send_ok(stub, false);
		return;
	}
	if (write) {
		send_ok(stub, *text++ == '=' && packet_parse_hex(&text, file.bytes + offset, bytes) && !*text &&
				  stub->target->write_registers(stub->target->opaque, stub->thread, &file));
		return;
	}
	packet_hex(&writer, file.bytes + offset, bytes);
	send_answer(stub, &writer);
}

/* "ADDRESS,LENGTH", whatever follows. */
static bool parse_range(const char **text, uint64_t *address, uint64_t *bytes)
{
	if (!packet_parse_number(text, address) || **text != ',')
		return false;
	++*text;
	return packet_parse_number(text, bytes);
}

static void read_memory(struct stub *stub, const char *text)
{
	struct packet_writer writer = {0};
	uint8_t data[MEMORY_BYTES_MAX];
	uint64_t address, bytes;
	size_t read = 0;

	if (parse_range(&text, &address, &bytes) && !*text) {
		bytes = bytes < sizeof data ? bytes : sizeof data;
		read = stub->target->read_memory(stub->target->opaque, stub->thread, address, data, bytes);
		if (!read && bytes) {
			send_ok(stub, false);
			return;
		}
		packet_hex(&writer, data, read);
		send_answer(stub, &writer);
		return;
	}
	send_ok(stub, false);
}

/* M has hexadecimal digits after the colon, X the bytes themselves, which end with the packet. */
static void write_memory(struct stub *stub, const char *text, const char *end, bool binary)
{
	uint8_t data[PACKET_BYTES_MAX];
	uint64_t address, bytes;
	bool well = parse_range(&text, &address, &bytes) && *text++ == ':' && bytes <= sizeof data;

	if (well && binary) {
		well = (size_t)(end - text) == bytes;
		if (well)
			memcpy(data, text, bytes);
	} else if (well) {
		well = packet_parse_hex(&text, data, bytes) && !*text;
	}
	send_ok(stub,
		well && stub->target->write_memory(stub->target->opaque, stub->thread, address, data, bytes) == bytes);
}

/* A thread's number; 0 and -1 mean any and all. Returns false for one that does not exist. */
static bool parse_thread(struct stub *stub, const char **text, int *thread)
{
	uint64_t number;

	if (!strncmp(*text, "-1", 2)) {
		*text += 2;
		*thread = -1;
		return true;
	}
	if (!packet_parse_number(text, &number) || number > stub->target->threads)
		return false;
	*thread = number ? (int)number - 1 : -1;
	return true;
}

static void choose_thread(struct stub *stub, const char *text)
{
	char operation = *text ? *text++ : 0;
	int thread;

	if (!operation || !parse_thread(stub, &text, &thread)) {
		send_ok(stub, false);
		return;
	}
	if (operation == 'g')
		stub->thread = thread < 0 ? stub->stop_thread : (unsigned)thread;
	send_ok(stub, true);
}

static void thread_alive(struct stub *stub, const char *text)
{
	int thread;

	send_ok(stub, parse_thread(stub, &text, &thread) && thread >= 0);
}

static void go(struct stub *stub, const enum stub_go how[STUB_THREADS_MAX])
{
	stub->stopped = false;
	stub->target->resume(stub->target->opaque, how);
}

/* c, C, s, S: one thread is stepped and the others stay, or all continue. */
static void go_simply(struct stub *stub, char how)
{
	enum stub_go all[STUB_THREADS_MAX];
	bool step = how == 's' || how == 'S';

	for (unsigned i = 0; i < STUB_THREADS_MAX; i++)
		all[i] = step ? STUB_STAY : STUB_CONTINUE;
	if (step)
		all[stub->thread] = STUB_STEP;
	go(stub, all);
}

/* One action of vCont: a letter, a signal that guests have no use for, the thread. */
static bool parse_action(struct stub *stub, const char **text, enum stub_go *action, int *thread)
{
	uint64_t signal;
	char letter = *(*text)++;

	*thread = -1;
	*action = letter == 's' || letter == 'S' ? STUB_STEP : STUB_CONTINUE;
	if (letter != 'c' && letter != 'C' && letter != 's' && letter != 'S')
		return false;
	if ((letter == 'C' || letter == 'S') && !packet_parse_number(text, &signal))
		return false;
	if (**text == ':') {
		++*text;
		return parse_thread(stub, text, thread);
	}
	return true;
}

static void go_each(struct stub *stub, const char *text)
{
	enum stub_go how[STUB_THREADS_MAX] = {STUB_STAY};
	bool decided[STUB_THREADS_MAX] = {false}, any = false;

	while (*text == ';') {
		enum stub_go action;
		int thread;

		text++;
		if (!parse_action(stub, &text, &action, &thread)) {
			send_ok(stub, false);
			return;
		}
		/* of several that fit a thread the first holds */
		for (unsigned i = 0; i < stub->target->threads; i++)
			if ((thread < 0 || (unsigned)thread == i) && !decided[i]) {
				how[i] = action;
				decided[i] = any = true;
			}
	}
	if (*text || !any)
		send_ok(stub, false);
	else
		go(stub, how);
}

static void change_point(struct stub *stub, const char *text, bool insert)
{
	const struct stub_target *target = stub->target;
	uint64_t kind, address, bytes;

	if (!packet_parse_number(&text, &kind) || *text++ != ',' || !parse_range(&text, &address, &bytes)) {
		send_ok(stub, false);
		return;
	}
	if (kind >= STUB_POINTS)
		send_text(stub, "");
	else
		send_ok(stub, insert
				  ? target->insert(target->opaque, stub->thread, (enum stub_point)kind, address, bytes)
				  : target->remove(target->opaque, (enum stub_point)kind, address, bytes));
}

static void list_threads(struct stub *stub)
{
	struct packet_writer writer = {0};
	unsigned left = 16; /* a packet */

	if (stub->next_listed == stub->target->threads) {
		send_text(stub, "l");
		return;
	}
	for (packet_text(&writer, "m"); left && stub->next_listed < stub->target->threads; left--) {
		add_thread(&writer, stub->next_listed++);
		if (left > 1 && stub->next_listed < stub->target->threads)
			packet_text(&writer, ",");
	}
	send_answer(stub, &writer);
}

/* qXfer:features:read:target.xml:OFFSET,LENGTH: a piece of the description, and whether it is the last. */
static void send_description(struct stub *stub, const char *text)
{
	const char *description = registers_description();
	struct packet_writer writer = {0};
	uint64_t offset, bytes, size = strlen(description);

	if (!parse_range(&text, &offset, &bytes) || *text || offset > size) {
		send_ok(stub, false);
		return;
	}
	bytes = bytes < PACKET_BYTES_MAX / 2 ? bytes : PACKET_BYTES_MAX / 2;
	bytes = bytes < size - offset ? bytes : size - offset;
	packet_text(&writer, offset + bytes == size ? "l" : "m");
	packet_binary(&writer, description + offset, bytes);
	send_answer(stub, &writer);
}

static bool begins(const char **text, const char *prefix)
{
	size_t length = strlen(prefix);

	if (strncmp(*text, prefix, length))
		return false;
	*text += length;
	return true;
}

static void name_thread(struct stub *stub, const char *text)
{
	struct packet_writer writer = {0};
	int thread;
	char name[8] = "vCPU ";

	if (!parse_thread(stub, &text, &thread) || thread < 0) {
		send_ok(stub, false);
		return;
	}
	name[5] = (char)(thread < 10 ? '0' + thread : '0' + thread / 10);
	if (thread >= 10)
		name[6] = (char)('0' + thread % 10);
	packet_hex(&writer, name, strlen(name));
	send_answer(stub, &writer);
}

static void query(struct stub *stub, const char *text)
{
	struct packet_writer writer = {0};

	if (begins(&text, "Supported")) {
		packet_text(&writer, "PacketSize=");
		packet_number(&writer, PACKET_BYTES_MAX);
		packet_text(&writer, ";qXfer:features:read+;QStartNoAckMode+;vContSupported+;swbreak+;hwbreak+");
		send_answer(stub, &writer);
	} else if (begins(&text, "Xfer:features:read:target.xml:")) {
		send_description(stub, text);
	} else if (!strcmp(text, "fThreadInfo")) {
		stub->next_listed = 0;
		list_threads(stub);
	} else if (!strcmp(text, "sThreadInfo")) {
		list_threads(stub);
	} else if (begins(&text, "ThreadExtraInfo,")) {
		name_thread(stub, text);
	} else if (!strcmp(text, "C")) {
		packet_text(&writer, "QC");
		add_thread(&writer, stub->thread);
		send_answer(stub, &writer);
	} else if (!strcmp(text, "Attached")) {
		send_text(stub, "1");
	} else {
		send_text(stub, "");
	}
}

static void verbose(struct stub *stub, const char *text)
{
	if (!strcmp(text, "Cont?"))
		send_text(stub, "vCont;c;C;s;S");
	else if (begins(&text, "Cont"))
		go_each(stub, text);
	else if (begins(&text, "Kill")) {
		send_ok(stub, true);
		stub->target->kill(stub->target->opaque);
		stub->ended = true;
	} else {
		send_text(stub, "");
	}
}

/* While the threads run nothing but an interrupt is heard; gdb sends nothing else. */
static void carry_out(struct stub *stub, const char *text, size_t bytes)
{
	const char *end = text + bytes, *rest = text + (bytes > 0);

	if (!stub->stopped) {
		send_text(stub, "");
		return;
	}
	switch (bytes ? *text : 0) {
	case '?':
		send_stop(stub);
		break;
	case 'g':
		read_all_registers(stub);
		break;
	case 'G':
		write_all_registers(stub, rest);
		break;
	case 'p':
	case 'P':
		access_register(stub, rest, *text == 'P');
		break;
	case 'm':
		read_memory(stub, rest);
		break;
	case 'M':
	case 'X':
		write_memory(stub, rest, end, *text == 'X');
		break;
	case 'H':
		choose_thread(stub, rest);
		break;
	case 'T':
		thread_alive(stub, rest);
		break;
	case 'c':
	case 'C':
	case 's':
	case 'S':
		go_simply(stub, *text);
		break;
	case 'Z':
	case 'z':
		change_point(stub, rest, *text == 'Z');
		break;
	case 'q':
		query(stub, rest);
		break;
	case 'Q':
		stub->no_acks |= !strcmp(rest, "StartNoAckMode");
		send_text(stub, strcmp(rest, "StartNoAckMode") ? "" : "OK");
		break;
	case 'v':
		verbose(stub, rest);
		break;
	case 'D':
		send_ok(stub, true);
		stub->target->detach(stub->target->opaque);
		stub->ended = true;
		break;
	case 'k':
		stub->target->kill(stub->target->opaque);
		stub->ended = true;
		break;
	default:
		send_text(stub, "");
		break;
	}
}

void stub_begin(struct stub *stub, const struct stub_target *target,
		void (*send)(void *opaque, const char *bytes, size_t count), void *opaque)
{
	memset(stub, 0, sizeof *stub);
	stub->target = target;
	stub->send = send;
	stub->opaque = opaque;
	stub->stopped = true;
	stub->stop = STUB_STOP_STEP;
}

bool stub_take(struct stub *stub, const uint8_t *bytes, size_t count)
{
	for (size_t i = 0; i < count && !stub->ended; i++) {
		bool acks = !stub->no_acks;

		switch (packet_take(&stub->reader, bytes[i])) {
		case PACKET_NOTHING:
			break;
		case PACKET_WHOLE:
			if (acks)
				stub->send(stub->opaque, "+", 1);
			carry_out(stub, (const char *)stub->reader.content, stub->reader.bytes);
			break;
		case PACKET_DAMAGED:
			if (acks)
				stub->send(stub->opaque, "-", 1);
			break;
		case PACKET_INTERRUPT:
			if (!stub->stopped)
				stub->target->interrupt(stub->target->opaque);
			break;
		case PACKET_REFUSED:
			if (acks && stub->last_bytes)
				stub->send(stub->opaque, stub->last, stub->last_bytes);
			break;
		}
	}
	return !stub->ended;
}

void stub_stopped(struct stub *stub, unsigned thread, enum stub_stop why, uint64_t address)
{
	if (stub->stopped)
		return;
	stub->stopped = true;
	stub->thread = stub->stop_thread = thread;
	stub->stop = why;
	stub->stop_address = address;
	send_stop(stub);
}

void stub_exited(struct stub *stub)
{
	if (!stub->stopped)
		send_text(stub, "W00");
}
