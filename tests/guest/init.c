/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The init of a test guest: it tells the monitor that user space is reached, prints what the guest knows of its
 * kernel's layout and state, one "guest: KEY=VALUE" a line, and then does what riffle.do= on the kernel's command line
 * says:
 *
 *   poweroff  reboot  panic  hang  shell   (poweroff when nothing is said, or when all is done)
 *   sysfs       prints every file that could give the layout away
 *   kallsyms    prints the number and a checksum of the order of the kernel's symbols
 *   exec:PATH   runs a program of the initramfs and prints its exit status
 *
 * several of them separated by commas, in order. Freestanding, since a start of libc is half of what such an init
 * costs.
 */
#include "sys.h"

enum { BOOT_TIMER_VALUE = 123, BOOT_TIMER_PORT = 0xf4 }; /* port: the artefact of the in-monitor KASLR paper */
static const uint64_t boot_timer_address = 0xc0000000;   /* Firecracker's --boot-timer device */

static char text[512 * 1024];

static void mount(const char *type, const char *at)
{
	SYS(NR_mkdir, at, 0755, 0);
	sys6(NR_mount, (long)type, (long)at, (long)type, 0, 0, 0);
}

/* Notifies the monitor by whichever way this kernel permits, and returns its name. Mounts /dev only after notifying. */
static const char *boot_timer(void)
{
	char value = BOOT_TIMER_VALUE;
	bool told = SYS(NR_iopl, 3, 0, 0) == 0;
	if (told)
		__asm__ volatile("outb %%al, %%dx" : : "a"(BOOT_TIMER_VALUE), "d"(BOOT_TIMER_PORT));
	mount("devtmpfs", "/dev");
	if (told)
		return "iopl";
	long fd = SYS(NR_open, "/dev/port", O_RDWR, 0);
	if (fd >= 0) {
		long n = SYS(NR_lseek, fd, BOOT_TIMER_PORT, 0) < 0 ? -1 : SYS(NR_write, fd, &value, 1);
		SYS(NR_close, fd, 0, 0);
		if (n == 1)
			return "/dev/port";
	}
	fd = SYS(NR_open, "/dev/mem", O_RDWR | O_SYNC, 0);
	if (fd >= 0) {
		long at = sys6(NR_mmap, 0, 4096, 3 /* read, write */, 1 /* shared */, fd, (long)boot_timer_address);
		SYS(NR_close, fd, 0, 0);
		if (at > 0 || at < -4095) {
			*(volatile char *)at = value;
			return "/dev/mem";
		}
	}
	return "none";
}

static void write_file(const char *path, const char *what)
{
	long fd = SYS(NR_open, path, O_WRONLY, 0);
	if (fd >= 0) {
		SYS(NR_write, fd, what, length(what));
		SYS(NR_close, fd, 0, 0);
	}
}

/* ---- what the guest knows ---- */

static void put_first_line(const char *s)
{
	while (*s && *s != '\n')
		put_char(*s++);
}

static void say_uname(void)
{
	static char names[6][65];
	if (SYS(NR_uname, names, 0, 0) == 0) {
		begin("uname: ");
		put(names[0]);
		put(" ");
		put(names[2]);
		put(" ");
		put(names[3]);
		end();
	}
}

/* Calls `each` with every line of a file of any size, until it returns false. */
static void each_line(const char *path, bool (*each)(char *line))
{
	static char buffer[16384];
	long fd = SYS(NR_open, path, O_RDONLY, 0), n;
	size_t have = 0;
	if (fd < 0)
		return;
	while ((n = SYS(NR_read, fd, buffer + have, sizeof buffer - 1 - have)) > 0) {
		have += (size_t)n;
		size_t start = 0;
		for (size_t i = start; i < have; i++) {
			if (buffer[i] != '\n')
				continue;
			buffer[i] = '\0';
			if (!each(buffer + start)) {
				SYS(NR_close, fd, 0, 0);
				return;
			}
			start = i + 1;
		}
		for (size_t i = start; i < have; i++)
			buffer[i - start] = buffer[i];
		have -= start;
		if (have == sizeof buffer - 1)
			have = 0;
	}
	SYS(NR_close, fd, 0, 0);
}

static bool find_text_symbol(char *line)
{
	const char *name = find(line, " ");
	if (!name || !equal(name + 3, "_text"))
		return true;
	begin("_text=0x");
	line[16] = '\0';
	put(line);
	end();
	return false;
}

static void say_iomem(void)
{
	static const char *const names[][2] = {{"Kernel code", "kernel_code="},
					       {"Kernel rodata", "kernel_rodata="},
					       {"Kernel data", "kernel_data="},
					       {"Kernel bss", "kernel_bss="}};
	read_file("/proc/iomem", text, sizeof text);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		const char *s = find(text, names[i][0]);
		if (!s)
			continue;
		while (s > text && s[-1] != '\n')
			s--;
		while (*s == ' ')
			s++;
		begin(names[i][1]);
		for (; *s && *s != ' '; s++)
			put_char(*s);
		end();
	}
}

static void say_base(const char *key, uint64_t base)
{
	begin(key);
	put_hex(base, 16);
	end();
}

/*
 * Prints the bases of the direct map and vmalloc, from the program headers of /proc/kcore (fs/proc/kcore.c): those of
 * RAM have a physical address, that of vmalloc's 32 TiB has none.
 */
static void say_memory_bases(void)
{
	int found = 0;
	struct {
		uint32_t type, flags;
		uint64_t offset, vaddr, paddr, filesz, memsz, align;
	} p;
	long n = read_file("/proc/kcore", text, 64 + 64 * sizeof p);
	for (size_t at = 64; at + sizeof p <= (size_t)(n < 0 ? 0 : n); at += sizeof p) {
		memcpy(&p, text + at, sizeof p);
		if (p.type != 1 || p.vaddr < 0xffff800000000000 || p.vaddr >= 0xfffff00000000000)
			continue;
		if (p.paddr < 1ull << 52 && !(found & 1)) {
			say_base("page_offset_base=0x", p.vaddr - p.paddr);
			found |= 1;
		} else if (p.paddr == ~0ull && p.memsz >= 1ull << 44 && !(found & 2)) {
			say_base("vmalloc_base=0x", p.vaddr);
			found |= 2;
		}
	}
}

static void say_file(const char *key, const char *path)
{
	if (read_file(path, text, sizeof text) > 0) {
		begin(key);
		put_first_line(text);
		end();
	}
}

static void say_number(const char *key, uint64_t value)
{
	begin(key);
	put_dec(value);
	end();
}

static void say_memory(void)
{
	uint64_t kib = 0;
	read_file("/proc/meminfo", text, sizeof text);
	const char *s = find(text, "MemTotal:");
	for (s = s ? s + 9 : ""; *s == ' ' || (*s >= '0' && *s <= '9'); s++)
		if (*s != ' ')
			kib = kib * 10 + (uint64_t)(*s - '0');
	say_number("memtotal_kib=", kib);
}

static void say_cpus(void)
{
	static uint8_t mask[1024];
	unsigned cpus = 0;
	long n = SYS(NR_sched_getaffinity, 0, sizeof mask, mask);
	for (long i = 0; i < n; i++)
		for (unsigned m = mask[i]; m; m &= m - 1)
			cpus++;
	say_number("cpus=", cpus);
}

/* The hash tables of the file system, which are taken from memory before MemTotal is counted, by their lines in the
 * log. */
static uint64_t early_hash_bytes(const char *line)
{
	const char *s = find(line, "Dentry cache hash table entries:");
	uint64_t bytes = 0;

	if (!s)
		s = find(line, "Inode-cache hash table entries:");
	s = s ? find(s, "(order: ") : NULL;
	s = s ? find(s, ", ") : NULL;
	for (s = s ? s + 2 : ""; *s >= '0' && *s <= '9'; s++)
		bytes = bytes * 10 + (uint64_t)(*s - '0');
	return bytes;
}

/* Prints the first few warnings in the kernel's log, and their number; and the size of the tables above. */
static void say_log(void)
{
	static const char *const signs[] = {"WARNING:", "BUG:", "Call Trace", "Oops:", "general protection", "UBSAN:"};
	unsigned warnings = 0;
	uint64_t tables = 0;
	long n = SYS(NR_syslog, 3 /* READ_ALL */, text, sizeof text - 1);
	text[n < 0 ? 0 : n] = '\0';
	for (char *s = text, *next; *s; s = next) {
		for (next = s; *next && *next != '\n'; next++)
			;
		if (*next)
			*next++ = '\0';
		tables += early_hash_bytes(s);
		for (size_t i = 0; i < sizeof signs / sizeof *signs; i++) {
			if (!find(s, signs[i]) || find(s, "hw-vuln")) /* those concern the processor */
				continue;
			if (warnings++ < 8) {
				begin("log: ");
				put(s);
				end();
			}
			break;
		}
	}
	begin("warnings=");
	if (n < 0)
		put("unknown");
	else
		put_dec(warnings);
	end();
	say_number("early_hash_kib=", tables >> 10);
}

/* ---- modules and programs of the initramfs ---- */

static void load_modules(void)
{
	char path[] = "/modules/00.ko";
	for (unsigned i = 0; i < 100; i++) {
		path[9] = (char)('0' + i / 10);
		path[10] = (char)('0' + i % 10);
		long fd = SYS(NR_open, path, O_RDONLY, 0);
		if (fd < 0)
			return;
		long r = SYS(NR_finit_module, fd, "", 0);
		SYS(NR_close, fd, 0, 0);
		if (r < 0) {
			begin("module ");
			put(path);
			put(" errno=");
			put_dec((uint64_t)-r);
			end();
		}
	}
}

static const char *const environment[] = {"PATH=/bin", "HOME=/", "TERM=linux", NULL};

static void run(const char *path, const char *argument)
{
	const char *argv[] = {path, argument, NULL};
	int status = 0;
	long pid = SYS(NR_fork, 0, 0, 0);
	if (pid == 0) {
		SYS(NR_setsid, 0, 0, 0);
		SYS(NR_execve, path, argv, environment);
		SYS(NR_exit, 127, 0, 0);
	}
	while (pid > 0 && sys6(NR_wait4, pid, (long)&status, 0, 0, 0, 0) == -4 /* EINTR */)
		;
	begin("exec ");
	put(path);
	put(" exit=");
	put_dec(status & 127 ? 128u + (status & 127) : (unsigned)status >> 8 & 255);
	end();
}

/* ---- what could give the layout away ---- */

static uint32_t crc32(uint32_t crc, const char *data, size_t n)
{
	crc = ~crc;
	while (n--) {
		crc ^= (uint8_t)*data++;
		for (int i = 0; i < 8; i++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
	}
	return ~crc;
}

/* FILE PATH mode=OCTAL size=N crc32=HEX [HEX OF THE CONTENT, below 8 KiB] */
static void dump_file(const char *path)
{
	static uint32_t stat[36]; /* struct stat: st_mode is its seventh word */
	enum { HEX_MAX = 8192 };
	long fd = SYS(NR_open, path, O_RDONLY, 0), n;
	if (fd < 0)
		return;
	SYS(NR_fstat, fd, stat, 0);
	uint32_t crc = 0;
	uint64_t size = 0;
	while (size < sizeof text && (n = SYS(NR_read, fd, text + size, sizeof text - size)) > 0)
		size += (uint64_t)n;
	SYS(NR_close, fd, 0, 0);
	crc = crc32(0, text, size);
	begin("FILE ");
	put(path);
	put(" mode=0");
	for (int shift = 6; shift >= 0; shift -= 3)
		put_char((char)('0' + (stat[6] >> shift & 7)));
	put(" size=");
	put_dec(size);
	put(" crc32=");
	put_hex(crc, 8);
	put_char(' ');
	for (uint64_t i = 0; size < HEX_MAX && i < size; i++)
		put_hex((uint8_t)text[i], 2);
	end();
}

static void dump_tree(char *path, size_t room, int depth)
{
	char entries[4096];
	size_t base = length(path);
	long fd = SYS(NR_open, path, O_RDONLY | O_DIRECTORY, 0), n;
	if (fd < 0) {
		dump_file(path);
		return;
	}
	while (depth < 8 && (n = SYS(NR_getdents64, fd, entries, sizeof entries)) > 0) {
		for (long at = 0; at < n; at += *(uint16_t *)(entries + at + 16)) {
			char type = entries[at + 18], *name = entries + at + 19;
			if (equal(name, ".") || equal(name, "..") || type == 10 /* symlink */ ||
			    base + length(name) + 2 > room)
				continue;
			path[base] = '/';
			memcpy(path + base + 1, name, length(name) + 1);
			dump_tree(path, room, depth + 1);
			path[base] = '\0';
		}
	}
	SYS(NR_close, fd, 0, 0);
}

static void dump_leaks(void)
{
	static const char *const places[] = {
	    "/proc/cmdline",          "/proc/iomem",          "/sys/kernel/boot_params",   "/sys/kernel/notes",
	    "/sys/kernel/vmcoreinfo", "/sys/firmware/memmap", "/sys/firmware/acpi/tables", "/sys/firmware/dmi/tables",
	    "/sys/firmware/fdt"};
	char path[512];
	for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
		memcpy(path, places[i], length(places[i]) + 1);
		dump_tree(path, sizeof path, 0);
	}
}

/*
 * What a user gets who opens /proc/kallsyms: 0, or an error's number. The same user as root of a user namespace, where
 * the kernel has those: whatever that changes is the result.
 */
static void open_as_user(void)
{
	static const char path[] = "/proc/kallsyms";
	long fd, again;

	SYS(NR_setgid, 65534, 0, 0);
	SYS(NR_setuid, 65534, 0, 0);
	fd = SYS(NR_open, path, O_RDONLY, 0);
	again = SYS(NR_unshare, 0x10000000 /* CLONE_NEWUSER */, 0, 0) ? fd : SYS(NR_open, path, O_RDONLY, 0);
	SYS(NR_exit, again < 0 && fd < 0 ? -again : 0, 0, 0);
}

static void say_kallsyms(void)
{
	static uint32_t stat[36]; /* struct stat: st_mode is its seventh word */
	long fd = SYS(NR_open, "/proc/kallsyms", O_RDONLY, 0), pid;
	int status = 0;

	if (fd < 0)
		return;
	SYS(NR_fstat, fd, stat, 0);
	SYS(NR_close, fd, 0, 0);
	begin("kallsyms_mode=0");
	for (int shift = 6; shift >= 0; shift -= 3)
		put_char((char)('0' + (stat[6] >> shift & 7)));
	end();
	pid = SYS(NR_fork, 0, 0, 0);
	if (pid == 0)
		open_as_user();
	while (pid > 0 && sys6(NR_wait4, pid, (long)&status, 0, 0, 0, 0) == -4 /* EINTR */)
		;
	say_number("kallsyms_user=", (unsigned)status >> 8 & 255);
}

/* /proc/kallsyms is sorted by address, so that the checksum of its names in order changes with any shuffle. */
static uint32_t order;
static uint64_t symbols;

static bool count_symbol(char *line)
{
	if (length(line) > 19 && !find(line, "\t[")) {
		order = crc32(order, line + 19, length(line + 19));
		symbols++;
	}
	return true;
}

static void say_symbols(void)
{
	each_line("/proc/kallsyms", count_symbol);
	begin("kallsyms symbols=");
	put_dec(symbols);
	put(" order=");
	put_hex(order, 8);
	end();
}

/* ---- the end ---- */

static _Noreturn void hang(void)
{
	for (;;)
		SYS(NR_pause, 0, 0, 0);
}

static void reboot(uint32_t how)
{
	SYS(NR_sync, 0, 0, 0);
	SYS(NR_reboot, 0xfee1dead, 0x28121969, how);
}

/* Waits until the console has sent everything: with several CPUs, kernel messages could get mixed in. */
static void drain(void)
{
	SYS(NR_ioctl, 1, 0x5409 /* TCSBRK */, 1);
}

static void act(const char *what)
{
	drain();
	if (equal(what, "poweroff")) {
		reboot(0x4321fedc);
	} else if (equal(what, "reboot")) {
		reboot(0x01234567);
	} else if (equal(what, "panic")) {
		write_file("/proc/sysrq-trigger", "c");
		SYS(NR_exit, 1, 0, 0); /* without sysrq: init's exit also causes a panic */
	} else if (equal(what, "hang")) {
		say("hang");
		hang();
	} else if (equal(what, "shell")) {
		run("/bin/sh", NULL);
	} else if (equal(what, "sysfs")) {
		dump_leaks();
	} else if (equal(what, "kallsyms")) {
		say_symbols();
	} else if (begins(what, "exec:")) {
		run(what + 5, NULL);
	} else {
		begin("unknown action ");
		put(what);
		end();
	}
}

static void open_console(void)
{
	long fd = SYS(NR_open, "/dev/console", O_RDWR, 0);
	for (int i = 0; fd >= 0 && i < 3; i++)
		SYS(NR_dup2, fd, i, 0);
	if (fd > 2)
		SYS(NR_close, fd, 0, 0);
}

__attribute__((used)) _Noreturn static void guest_main(void)
{
	static char commands[4096];
	uint64_t at[2];
	const char *way = boot_timer();
	SYS(NR_clock_gettime, 7 /* BOOTTIME */, at, 0);
	open_console();
	say("INIT REACHED");
	mount("proc", "/proc");
	mount("sysfs", "/sys");
	begin("boot_timer=");
	put(way);
	end();
	say_number("uptime_us=", at[0] * 1000000 + at[1] / 1000);
	load_modules();
	write_file("/proc/sys/kernel/kptr_restrict", "0");
	say_uname();
	each_line("/proc/kallsyms", find_text_symbol);
	say_kallsyms();
	say_iomem();
	say_memory_bases();
	say_cpus();
	say_memory();
	say_file("clocksource=", "/sys/devices/system/clocksource/clocksource0/current_clocksource");
	say_file("cmdline=", "/proc/cmdline");
	say_log();

	read_file("/proc/cmdline", commands, sizeof commands);
	char *todo = (char *)find(commands, "riffle.do=");
	for (todo = todo ? todo + 10 : commands + length(commands); *todo && *todo != ' ' && *todo != '\n';) {
		char *end_of = todo;
		while (*end_of && *end_of != ',' && *end_of != ' ' && *end_of != '\n')
			end_of++;
		char stop = *end_of;
		*end_of = '\0';
		act(todo);
		todo = end_of + (stop == ',');
		if (stop != ',')
			break;
	}
	reboot(0x4321fedc);
	hang();
}

__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tand $-16, %rsp\n\tcall guest_main\n\thlt\n");
