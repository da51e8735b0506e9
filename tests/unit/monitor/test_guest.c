/* SPDX-License-Identifier: Apache-2.0 */
/* Tiny guests on any /dev/kvm: entry, devices, interrupts, vCPUs, and every way a microVM can end. */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest.h"
#include "guest_code.h"

/* Checks its entry state: 64-bit code, RSI and flags as specified. */
GUEST_ASM(hello, "lea message(%rip), %rsi\n"
		 "mov $message_end - message, %ecx\n"
		 "mov $0x3f8, %edx\n"
		 "rep outsb\n" POWER_OFF "message: .ascii \"hello from 64-bit mode\\n\"\n"
		 "message_end:")

static void hello(void **state)
{
	(void)state;
	const struct guest_result *result =
	    guest_expect(&(struct guest){GUEST(hello), .unconfined = true}, "hello from 64-bit mode\n");
	assert_int_equal(result->end, VM_END_POWEROFF);
	assert_true(result->before_run > 0);
	assert_int_equal(result->boot_timer, 0);
}

static void hello_confined(void **state)
{
	(void)state;
	const struct guest_result *result = guest_expect(&(struct guest){GUEST(hello)}, "hello from 64-bit mode\n");
	assert_int_equal(result->end, VM_END_POWEROFF);
}

GUEST_ASM(boot_timer, "mov $0xc0000000, %ebx\nmovb $123, (%rbx)\n" POWER_OFF)
GUEST_ASM(boot_timer_port, "mov $123, %al\nout %al, $0xf4\n" POWER_OFF)

static void boot_timer(void **state)
{
	(void)state;
	const struct guest_result *result = guest_expect(&(struct guest){GUEST(boot_timer)}, "");
	assert_int_equal(result->end, VM_END_POWEROFF);
	assert_true(result->boot_timer > result->before_run);
	assert_true(result->boot_timer < result->before_run + UINT64_C(60000000000));
	result = guest_expect(&(struct guest){GUEST(boot_timer_port)}, "");
	assert_true(result->boot_timer > result->before_run);
}

GUEST_ASM(reset_i8042, "mov $0xfe, %al\nout %al, $0x64\n1: jmp 1b")
GUEST_ASM(reset_cf9, "mov $0xcf9, %dx\nmov $6, %al\nout %al, (%dx)\n1: jmp 1b")
GUEST_ASM(triple_fault, "ud2")

static void resets_and_triple_fault(void **state)
{
	(void)state;
	assert_int_equal(guest_expect(&(struct guest){GUEST(reset_i8042)}, "")->end, VM_END_RESET);
	assert_int_equal(guest_expect(&(struct guest){GUEST(reset_cf9)}, "")->end, VM_END_RESET);
	assert_int_equal(guest_expect(&(struct guest){GUEST(triple_fault)}, "")->end, VM_END_TRIPLE_FAULT);
}

/* Jumps to where there is no memory, which KVM cannot emulate. */
GUEST_ASM(nowhere, "mov $0xd0000000, %eax\njmp *%rax")

static void kvm_error_keeps_the_address_to_itself(void **state)
{
	(void)state;
	const struct guest_result *result = guest_expect(&(struct guest){GUEST(nowhere)}, "");
	assert_int_equal(result->end, VM_END_ERROR);
	assert_int_equal(result->fault_rip, 0xd0000000);
	assert_non_null(strstr(result->message, "KVM_EXIT_INTERNAL_ERROR"));
	assert_null(strstr(result->message, "d0000000"));
}

/* Unsupported widths and directions, through KVM: reads return ones, and nothing ends the machine. */
GUEST_ASM(odd_accesses, "mov $0x3f8, %dx\n"
			"in (%dx), %eax\ncmp $-1, %eax\njne bad\n"
			"in (%dx), %ax\ncmp $-1, %ax\njne bad\n"
			"mov $0xcf8, %dx\nmov $0x80000600, %eax\nout %eax, (%dx)\n"
			"in (%dx), %eax\ncmp $-1, %eax\njne bad\n"
			"mov $0xfffd, %dx\nin (%dx), %eax\ncmp $-1, %eax\njne bad\n"
			"in $0x64, %al\ntest $0x21, %al\njnz bad\n"
			"mov $0xc0000000, %ebx\n"
			"mov (%rbx), %rax\ncmp $-1, %rax\njne bad\n"
			"mov 1(%rbx), %eax\ncmp $-1, %eax\njne bad\n"
			"movl $123, (%rbx)\nmovq $123, (%rbx)\nmovw $123, 3(%rbx)\n"
			"mov $0x5100, %edi\nmov $0x9999, %dx\nmov $16, %ecx\nrep insb\n"
			"mov $0x5100, %esi\nlodsq\ncmp $-1, %rax\njne bad\nlodsq\ncmp $-1, %rax\njne bad\n" PUT("k")
			    POWER_OFF "bad: " PUT("!") POWER_OFF)

static void odd_accesses_do_nothing(void **state)
{
	(void)state;
	const struct guest_result *result = guest_expect(&(struct guest){GUEST(odd_accesses)}, "k");
	assert_int_equal(result->end, VM_END_POWEROFF);
	assert_int_equal(result->boot_timer, 0);
}

/* PICs at vectors 0x20 and 0x28 with COM1's line open, the receiver's interrupt on, then HLT; echoes until '!'. */
GUEST_ASM(echo, "mov $0x5ff0, %eax\nlidt (%rax)\n"
		"mov $0x11, %al\nout %al, $0x20\nmov $0x20, %al\nout %al, $0x21\nmov $4, %al\nout %al, $0x21\n"
		"mov $1, %al\nout %al, $0x21\nmov $0xef, %al\nout %al, $0x21\n"
		"mov $0x3fa, %dx\nmov $1, %al\nout %al, (%dx)\n"
		"mov $0x3fc, %dx\nmov $0x0b, %al\nout %al, (%dx)\n"
		"mov $0x3f9, %dx\nmov $1, %al\nout %al, (%dx)\n" PUT(
		    ">") "2: sti\nhlt\njmp 2b\n"
			 ".org echo_code + 0x100\n" /* the handler */
			 "3: mov $0x3fd, %dx\nin (%dx), %al\ntest $1, %al\njz 4f\n"
			 "mov $0x3f8, %dx\nin (%dx), %al\ncmp $'!', %al\nje 5f\nout %al, (%dx)\njmp 3b\n"
			 "4: mov $0x20, %al\nout %al, $0x20\niretq\n"
			 "5: " POWER_OFF)

static const struct guest echo_guest = {GUEST(echo), .handler_offset = 0x100};

static void halted_guest_wakes_for_input(void **state)
{
	char text[128];
	(void)state;
	struct guest_child child = guest_start(&echo_guest);
	assert_int_equal(guest_read(&child, text, 1), 1);
	assert_int_equal(text[0], '>');
	/* twice more than the FIFO holds: the rest must follow by itself */
	const char *line = "The quick brown fox jumps over the lazy dog, and back.";
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(write(child.input, line, strlen(line)), strlen(line));
		assert_int_equal(guest_read(&child, text, strlen(line)), strlen(line));
		assert_memory_equal(text, line, strlen(line));
	}
	assert_int_equal(write(child.input, "!", 1), 1);
	assert_int_equal(guest_wait(&child)->end, VM_END_POWEROFF);
}

/* Input and end of input before the guest listens are handled. */
static void early_input_waits_for_the_guest(void **state)
{
	char text[32];
	(void)state;
	struct guest_child child = guest_start(&echo_guest);
	assert_int_equal(write(child.input, "early!", 6), 6);
	close(child.input);
	child.input = -1;
	assert_int_equal(guest_read(&child, text, sizeof text), 6);
	assert_memory_equal(text, ">early", 6);
	assert_int_equal(guest_wait(&child)->end, VM_END_POWEROFF);
}

/* INIT and SIPI to APIC id 1; its trampoline increments the note, for which this vCPU waits. */
GUEST_ASM(two_vcpus, "mov $0xfee00000, %ebx\n"
		     "movl $0x1ff, 0xf0(%rbx)\n"
		     "movl $0x01000000, 0x310(%rbx)\nmovl $0x4500, 0x300(%rbx)\n"
		     "movl $0x01000000, 0x310(%rbx)\nmovl $0x4608, 0x300(%rbx)\n"
		     "2: cmpl $0, 0x5000\nje 2b\n" PUT("B") POWER_OFF)
GUEST_ASM(second_vcpu, ".code16\n"
		       "mov $0x3f8, %dx\nmov $'A', %al\nout %al, %dx\n"
		       "xor %ax, %ax\nmov %ax, %ds\nmovl $0x600d, 0x5000\n"
		       "cli\n1: hlt\njmp 1b\n"
		       ".code64")

static void second_vcpu_starts(void **state)
{
	(void)state;
	const struct guest_result *result =
	    guest_expect(&(struct guest){GUEST(two_vcpus), .ap_code = second_vcpu_code,
					 .ap_code_end = second_vcpu_code_end, .vcpus = 2},
			 "AB");
	assert_int_equal(result->end, VM_END_POWEROFF);
	assert_int_equal(result->note, 0x600d);
}

GUEST_ASM(spin, PUT("s") "1: jmp 1b")
GUEST_ASM(halt, PUT("h") "cli\n1: hlt\njmp 1b")

static void signals_end_running_and_halted_guests(void **state)
{
	static const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};
	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		struct guest guest = {GUEST(spin), .vcpus = 3, .unconfined = i >= 4};
		char c;
		if (i & 1) {
			guest.code = halt_code;
			guest.code_end = halt_code_end;
		}
		struct guest_child child = guest_start(&guest);
		assert_int_equal(guest_read(&child, &c, 1), 1);
		/* twice, as impatient users do: the second must not kill */
		kill(child.pid, numbers[i % 4]);
		kill(child.pid, numbers[i % 4]);
		const struct guest_result *result = guest_wait(&child);
		assert_int_equal(result->end, VM_END_SIGNAL);
		assert_int_equal(result->signal, numbers[i % 4]);
	}
}

/* Transmits forever without checking for room. */
GUEST_ASM(flood, "2: " PUT("f") "jmp 2b")

static void stopped_reader_does_not_hold_up_the_end(void **state)
{
	char text[65536];
	(void)state;
	struct guest_child child = guest_start(&(struct guest){GUEST(flood)});
	assert_int_equal(guest_read(&child, text, sizeof text), sizeof text);
	nanosleep(&(struct timespec){.tv_sec = 1}, NULL); /* pipe and ring run full */
	kill(child.pid, SIGTERM);
	assert_int_equal(guest_wait(&child)->end, VM_END_SIGNAL);
}

static void reader_that_went_away_does_not_kill(void **state)
{
	char c;
	(void)state;
	struct guest_child child = guest_start(&(struct guest){GUEST(flood)});
	assert_int_equal(guest_read(&child, &c, 1), 1);
	close(child.output);
	child.output = -1;
	nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
	kill(child.pid, SIGTERM);
	assert_int_equal(guest_wait(&child)->end, VM_END_SIGNAL);
}

static int open_terminal(int *slave)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(master >= 0);
	assert_int_equal(grantpt(master) | unlockpt(master), 0);
	*slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(*slave >= 0);
	return master;
}

static bool is_raw(int terminal)
{
	struct termios now;
	assert_int_equal(tcgetattr(terminal, &now), 0);
	return !(now.c_lflag & (ICANON | ECHO | ISIG));
}

static void wait_raw(int terminal, bool raw)
{
	for (unsigned ms = 0; is_raw(terminal) != raw; ms++) {
		assert_true(ms < 30000);
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
}

static void read_terminal(int master, const char *expected)
{
	char text[64] = "";
	size_t done = 0;
	while (done < strlen(expected)) {
		ssize_t count = read(master, text + done, sizeof text - 1 - done);
		assert_true(count > 0);
		done += (size_t)count;
	}
	assert_string_equal(text, expected);
}

static void escape_ends_and_restores_the_terminal(void **state)
{
	int slave, master = open_terminal(&slave);
	(void)state;
	struct guest guest = echo_guest;
	guest.terminal = slave;
	struct guest_child child = guest_start(&guest);
	read_terminal(master, ">");
	assert_true(is_raw(slave));
	assert_int_equal(write(master, "a\3\1\1b", 5), 5); /* Ctrl-C is the guest's, and one Ctrl-A */
	read_terminal(master, "a\3\1b");
	assert_int_equal(write(master, "\1x", 2), 2);
	assert_int_equal(guest_wait(&child)->end, VM_END_ESCAPE);
	assert_false(is_raw(slave));
	close(slave);
	close(master);
}

/* A guest that does not listen gets more input than all buffers hold. */
static void escape_works_on_a_deaf_guest(void **state)
{
	int slave, master = open_terminal(&slave);
	(void)state;
	struct guest_child child = guest_start(&(struct guest){GUEST(halt), .terminal = slave});
	read_terminal(master, "h");
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(write(master, "0123456789012345678901234567890123456789", 40), 40);
	assert_int_equal(write(master, "\1x", 2), 2);
	assert_int_equal(guest_wait(&child)->end, VM_END_ESCAPE);
	assert_false(is_raw(slave));
	close(slave);
	close(master);
}

static void job_control_puts_the_terminal_right(void **state)
{
	int slave, status, master = open_terminal(&slave);
	(void)state;
	struct guest guest = echo_guest;
	guest.terminal = slave;
	guest.controlling = true;
	struct guest_child child = guest_start(&guest);
	read_terminal(master, ">");
	assert_true(is_raw(slave));
	for (unsigned i = 0; i < 2; i++) {
		kill(child.pid, SIGTSTP);
		assert_int_equal(waitpid(child.pid, &status, WUNTRACED), child.pid);
		assert_true(WIFSTOPPED(status));
		assert_false(is_raw(slave));
		kill(child.pid, SIGCONT);
		wait_raw(slave, true);
		assert_int_equal(write(master, "c", 1), 1);
		read_terminal(master, "c");
	}
	kill(child.pid, SIGTERM);
	assert_int_equal(guest_wait(&child)->end, VM_END_SIGNAL);
	assert_false(is_raw(slave));
	close(slave);
	close(master);
}

/* RAM on both sides of the hole, and none in it. */
GUEST_ASM(high_memory, "mov $0xbffffff8, %ebx\nmovq $0x1234, (%rbx)\ncmpq $0x1234, (%rbx)\njne bad_high\n"
		       "mov $0xc8000000, %ebx\nmov (%rbx), %rax\ncmp $-1, %rax\njne bad_high\n"
		       /* a page directory's first entry now leads to 4 GiB */
		       "mov $0x81000, %edi\nmov $0x100000083, %rax\nmov %rax, (%rdi)\nmov %cr3, %rax\nmov %rax, %cr3\n"
		       "xor %esi, %esi\nmovq $0x1111, (%rsi)\n"
		       "mov $0x40000000, %ebx\nmovq $0x5678, (%rbx)\ncmpq $0x5678, (%rbx)\njne bad_high\n"
		       "cmpq $0x1111, (%rsi)\njne bad_high\n" /* not the same memory twice */
	  PUT("m") POWER_OFF "bad_high: " PUT("!") POWER_OFF)

static void memory_on_both_sides_of_the_hole(void **state)
{
	(void)state;
	assert_int_equal(
	    guest_expect(&(struct guest){GUEST(high_memory), .memory_bytes = (3ull << 30) + (2 << 20)}, "m")->end,
	    VM_END_POWEROFF);
}

/* ---- pause and resume ---- */

#define BUSY_VCPUS 8u

/* Every vCPU counts in a word of its own, 0x5010 + 4 * APIC id, and makes port accesses on the way. */
GUEST_ASM(busy, "mov $0xfee00000, %ebx\n"
		"movl $0x1ff, 0xf0(%rbx)\n"
		"movl $0xc4500, 0x300(%rbx)\nmovl $0xc4608, 0x300(%rbx)\n" /* INIT and SIPI to all others */
		"1: incl 0x5010\nmov $0x9999, %dx\nin (%dx), %al\n"
		"cmpl $0, 0x5008\nje 1b\n" POWER_OFF)
GUEST_ASM(busy_others, ".code16\n"
		       "xor %ax, %ax\nmov %ax, %ds\n"
		       "mov $1, %bx\nlock xaddl %ebx, 0x500c\n" /* who am I: the next one */
		       "and $7, %bx\nshl $2, %bx\n"
		       "1: incl 0x5014(%bx)\nmov $0x9999, %dx\nin %dx, %al\njmp 1b\n"
		       ".code64")

static unsigned pause_rounds;

static void *pause_often(void *opaque)
{
	struct machine *machine = opaque;
	struct vm *vm = machine_vm(machine);
	struct riffle_error error;
	const uint8_t *ram = guest_memory_at(vm_memory(vm), 0, 0x6000);
	unsigned vcpus = vm_vcpus(vm), moved = 0;

	while (vm_state(vm) != VM_RUNNING)
		usleep(1000);
	for (unsigned round = 0; round < pause_rounds; round++) {
		uint8_t before[4 * BUSY_VCPUS + 4], after[sizeof before];

		machine_control(machine, MACHINE_PAUSE, &error);
		if (vm_state(vm) != VM_PAUSED)
			_exit(91);
		memcpy(before, ram + 0x5010, sizeof before);
		for (unsigned i = 0; i < 50; i++)
			sched_yield();
		memcpy(after, ram + 0x5010, sizeof after);
		if (memcmp(before, after, sizeof before))
			_exit(92);                               /* somebody ran on */
		machine_control(machine, MACHINE_PAUSE, &error); /* a second time has no effect */
		machine_control(machine, MACHINE_RESUME, &error);
		if (vm_state(vm) != VM_RUNNING)
			_exit(93);
		/* all continue, which is sometimes waited for */
		for (unsigned ms = 0; round % 16 == 0; ms++) {
			unsigned going = 0;

			for (unsigned i = 0; i < vcpus; i++)
				going += memcmp(before + 4 * i, ram + 0x5010 + 4 * i, 4) != 0;
			if (going == vcpus && ++moved)
				break;
			if (ms > 60000)
				_exit(94);
			usleep(1000);
		}
	}
	*(volatile uint32_t *)(uintptr_t)(ram + 0x5008) = 1;
	return NULL;
}

static void pause_beside(struct machine *machine)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, pause_often, machine))
		_exit(95);
	pthread_detach(thread);
}

static void pauses_busy_vcpus(void **state)
{
	const char *rounds = getenv("RIFFLE_PAUSE_ROUNDS");

	(void)state;
	pause_rounds = rounds ? (unsigned)strtoul(rounds, NULL, 10) : 200;
	guest_patience_ms = 60000 + 100 * (int)pause_rounds;
	for (unsigned vcpus = 1; vcpus <= BUSY_VCPUS; vcpus += BUSY_VCPUS - 1) {
		const struct guest guest = {GUEST(busy), .ap_code = busy_others_code,
					    .ap_code_end = busy_others_code_end, .vcpus = vcpus,
					    .beside = pause_beside};

		assert_int_equal(guest_expect(&guest, "")->end, VM_END_POWEROFF);
	}
}

/* ---- ends ---- */

static void halted_for_good(void **state)
{
	const struct guest_result *result;

	(void)state;
	/* one vCPU, or two of which one was never started */
	for (unsigned vcpus = 1; vcpus <= 2; vcpus++) {
		result = guest_expect(&(struct guest){GUEST(halt), .vcpus = vcpus}, "h");
		assert_int_equal(result->end, VM_END_HALTED);
	}
}

/* Sleeps with interrupts on for longer than the detection of halted guests takes. */
static void sleeping_guest_is_left_alone(void **state)
{
	char c;

	(void)state;
	struct guest_child child = guest_start(&echo_guest);
	assert_int_equal(guest_read(&child, &c, 1), 1);
	sleep(4);
	assert_int_equal(write(child.input, "a!", 2), 2);
	assert_int_equal(guest_read(&child, &c, 1), 1);
	assert_int_equal(c, 'a');
	assert_int_equal(guest_wait(&child)->end, VM_END_POWEROFF);
}

/* After any signal that ends the process, the terminal is restored. */
static void every_ending_signal_restores_the_terminal(void **state)
{
	const int numbers[] = {SIGUSR1, SIGUSR2, SIGALRM,   SIGVTALRM,    SIGPROF,
			       SIGIO,   SIGPWR,  SIGSTKFLT, SIGRTMIN + 1, SIGRTMAX};
	(void)state;
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
		int slave, master = open_terminal(&slave);
		struct guest_child child = guest_start(&(struct guest){GUEST(halt), .terminal = slave});
		read_terminal(master, "h");
		assert_true(is_raw(slave));
		kill(child.pid, numbers[i]);
		const struct guest_result *result = guest_wait(&child);
		assert_int_equal(result->end, VM_END_SIGNAL);
		assert_int_equal(result->signal, numbers[i]);
		assert_false(is_raw(slave));
		close(slave);
		close(master);
	}
}

static void ignore_hangups(struct machine *machine)
{
	(void)machine;
	signal(SIGHUP, SIG_IGN);
}

/* As under nohup. */
static void ignored_signals_stay_ignored(void **state)
{
	char c;

	(void)state;
	struct guest_child child = guest_start(&(struct guest){GUEST(spin), .beside = ignore_hangups});
	assert_int_equal(guest_read(&child, &c, 1), 1);
	for (unsigned i = 0; i < 3; i++) {
		kill(child.pid, SIGHUP);
		usleep(10000);
	}
	kill(child.pid, SIGTERM);
	const struct guest_result *result = guest_wait(&child);
	assert_int_equal(result->end, VM_END_SIGNAL);
	assert_int_equal(result->signal, SIGTERM);
}

/* ---- consoles ---- */

static void console_to_a_file(void **state)
{
	char name[] = "/tmp/riffle-console-XXXXXX", text[64] = "";
	int fd = mkstemp(name);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "what was there before, and more of it", 37), 37);
	guest_expect(&(struct guest){GUEST(hello), .console = MACHINE_CONSOLE_FILE, .console_path = name}, "");
	assert_int_equal(pread(fd, text, sizeof text - 1, 0), 23);
	assert_string_equal(text, "hello from 64-bit mode\n");
	close(fd);
	unlink(name);
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	strcpy(address.sun_path, path);
	for (unsigned ms = 0; connect(fd, (struct sockaddr *)&address, sizeof address) < 0; ms++) {
		assert_true(ms < 30000);
		usleep(1000);
	}
	return fd;
}

static void expect_socket(int fd, const char *expected)
{
	char text[64] = "";
	size_t done = 0;

	while (done < strlen(expected)) {
		ssize_t count = read(fd, text + done, strlen(expected) - done);

		assert_true(count > 0);
		done += (size_t)count;
	}
	assert_string_equal(text, expected);
}

/* Three readers in sequence; output without a reader is kept for the next. */
static void console_on_a_socket(void **state)
{
	char directory[] = "/tmp/riffle-console-XXXXXX", path[64];
	struct guest guest = echo_guest;

	(void)state;
	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof path, "%s/console", directory);
	guest.console = MACHINE_CONSOLE_UNIX;
	guest.console_path = path;
	struct guest_child child = guest_start(&guest);
	for (unsigned i = 0; i < 3; i++) {
		int fd = connect_to(path);

		expect_socket(fd, i == 0 ? ">" : "left");
		assert_int_equal(write(fd, "ab", 2), 2);
		expect_socket(fd, "ab");
		assert_int_equal(write(fd, i == 2 ? "!" : "left", i == 2 ? 1 : 4), i == 2 ? 1 : 4);
		shutdown(fd, SHUT_WR); /* no more input, still reading output */
		close(fd);
	}
	assert_int_equal(guest_wait(&child)->end, VM_END_POWEROFF);
	/* the socket's name remains, and the next guest replaces it; but not a name that is not a socket */
	child = guest_start(&guest);
	int fd = connect_to(path);
	expect_socket(fd, ">");
	assert_int_equal(write(fd, "!", 1), 1);
	guest_wait(&child);
	close(fd);
	unlink(path);
	rmdir(directory);
}

static void no_console(void **state)
{
	(void)state;
	guest_expect(&(struct guest){GUEST(hello), .console = MACHINE_CONSOLE_NONE}, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(hello),
	    cmocka_unit_test(hello_confined),
	    cmocka_unit_test(boot_timer),
	    cmocka_unit_test(resets_and_triple_fault),
	    cmocka_unit_test(kvm_error_keeps_the_address_to_itself),
	    cmocka_unit_test(odd_accesses_do_nothing),
	    cmocka_unit_test(halted_guest_wakes_for_input),
	    cmocka_unit_test(early_input_waits_for_the_guest),
	    cmocka_unit_test(second_vcpu_starts),
	    cmocka_unit_test(signals_end_running_and_halted_guests),
	    cmocka_unit_test(stopped_reader_does_not_hold_up_the_end),
	    cmocka_unit_test(reader_that_went_away_does_not_kill),
	    cmocka_unit_test(escape_ends_and_restores_the_terminal),
	    cmocka_unit_test(escape_works_on_a_deaf_guest),
	    cmocka_unit_test(job_control_puts_the_terminal_right),
	    cmocka_unit_test(memory_on_both_sides_of_the_hole),
	    cmocka_unit_test(pauses_busy_vcpus),
	    cmocka_unit_test(halted_for_good),
	    cmocka_unit_test(sleeping_guest_is_left_alone),
	    cmocka_unit_test(every_ending_signal_restores_the_terminal),
	    cmocka_unit_test(ignored_signals_stay_ignored),
	    cmocka_unit_test(console_to_a_file),
	    cmocka_unit_test(console_on_a_socket),
	    cmocka_unit_test(no_console),
	};
	if (getenv("RIFFLE_TEST"))
		cmocka_set_test_filter(getenv("RIFFLE_TEST"));
	return cmocka_run_group_tests_name("monitor guests", tests, NULL, NULL);
}
