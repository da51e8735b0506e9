/* SPDX-License-Identifier: Apache-2.0 */
/* From a kernel's name to a plan: what it trusts and caches, and failures of the child or the disk. */
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/input.h"
#include "kernel/cache.h"
#include "kernel/kernel.h"
#include "tests/unit/kernel/test_directory.h"

#define PAGE 4096u
#define KERNEL_BYTES (3 * PAGE)

char test_directory[4096];

struct fixture {
	char base[64], kernel[96], cache[96];
	struct kernel_request request;
	struct opened_kernel k;
	struct riffle_error error;
};

/* the smallest kernel there is: one segment, no relocations */
static void write_kernel(const char *path, uint8_t fill)
{
	static uint8_t file[KERNEL_BYTES];
	Elf64_Ehdr *header = (void *)file;
	Elf64_Phdr *segment = (void *)(file + sizeof *header);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	memset(file, 0, sizeof file);
	memcpy(header->e_ident,
	       "\x7f"
	       "ELF\2\1\1",
	       7);
	header->e_type = ET_EXEC;
	header->e_machine = EM_X86_64;
	header->e_version = 1;
	header->e_entry = 0x1000000;
	header->e_phoff = header->e_ehsize = sizeof *header;
	header->e_phentsize = sizeof *segment;
	header->e_phnum = 1;
	*segment = (Elf64_Phdr){.p_type = PT_LOAD,
				.p_flags = PF_R | PF_X,
				.p_offset = PAGE,
				.p_vaddr = 0xffffffff81000000,
				.p_paddr = 0x1000000,
				.p_filesz = 2 * PAGE,
				.p_memsz = 4 * PAGE,
				.p_align = 0x200000};
	memset(file + PAGE, fill, 2 * PAGE);
	assert_int_equal(write(fd, file, sizeof file), sizeof file);
	close(fd);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);

	assert_non_null(f);
	strcpy(f->base, "/tmp/riffle-test-XXXXXX");
	assert_non_null(mkdtemp(f->base));
	snprintf(f->kernel, sizeof f->kernel, "%s/kernel", f->base);
	snprintf(f->cache, sizeof f->cache, "%s/cache", f->base);
	write_kernel(f->kernel, 0xf4);
	f->request = (struct kernel_request){.kernel = f->kernel, .cache_directory = f->cache};
	snprintf(test_directory, sizeof test_directory, "%s",
		 getenv("RIFFLE_PROGRAMS") ? getenv("RIFFLE_PROGRAMS") : "");
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	char command[128];

	snprintf(command, sizeof command, "rm -rf %s", f->base);
	assert_int_equal(system(command), 0);
	free(f);
	return 0;
}

static void must_open(struct fixture *f, enum kernel_way way)
{
	uint8_t first;

	if (kernel_open(&f->k, &f->request, &f->error)) {
		char line[256];

		riffle_error_format(&f->error, line, sizeof line);
		fail_msg("%s: %s", f->k.blame, line);
	}
	assert_int_equal(f->k.way, way);
	assert_int_equal(f->k.plan.segment_count, 1);
	assert_int_equal(f->k.source.read(f->k.source.opaque, f->k.plan.extents[0].file_offset, &first, 1, &f->error),
			 0);
	assert_true(first == 0xf4 || first == 0x90);
	kernel_close(&f->k);
}

static void must_fail(struct fixture *f, enum riffle_status status, const char *field, const char *problem)
{
	assert_int_equal(kernel_open(&f->k, &f->request, &f->error), status);
	assert_string_equal(f->error.field, field);
	if (!strstr(f->error.problem, problem))
		fail_msg("%s (wanted: %s)", f->error.problem, problem);
	assert_int_equal(f->k.fd, -1);
}

/* Counts the directory's files; the path of the last one is put into `path`. */
static int entries(const char *directory, char *path, size_t bytes)
{
	DIR *stream = opendir(directory);
	struct dirent *d;
	int count = 0;

	if (!stream)
		return 0;
	while ((d = readdir(stream))) {
		if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, ".."))
			continue;
		count++;
		if (path)
			snprintf(path, bytes, "%s/%s", directory, d->d_name);
	}
	closedir(stream);
	return count;
}

static void test_miss_then_hit(void **state)
{
	struct fixture *f = *state;
	char path[512];
	struct stat st;

	must_open(f, KERNEL_CACHE_MISS);
	assert_string_equal(f->k.notice, "");
	must_open(f, KERNEL_CACHE_HIT);
	assert_int_equal(stat(f->cache, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_int_equal(entries(f->cache, path, sizeof path), 1);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void test_no_cache(void **state)
{
	struct fixture *f = *state;

	f->request.no_cache = true;
	must_open(f, KERNEL_CACHE_MISS);
	must_open(f, KERNEL_CACHE_MISS);
	assert_int_equal(access(f->cache, F_OK), -1);
}

/* New content under the same name is another kernel, even with its times reset. */
static void test_kernel_changed_in_place(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	must_open(f, KERNEL_CACHE_MISS);
	assert_int_equal(stat(f->kernel, &st), 0);
	write_kernel(f->kernel, 0x90);
	must_open(f, KERNEL_CACHE_MISS);
	must_open(f, KERNEL_CACHE_HIT);
	write_kernel(f->kernel, 0xf4);
	utimensat(AT_FDCWD, f->kernel, (struct timespec[2]){st.st_atim, st.st_mtim}, 0);
	must_open(f, KERNEL_CACHE_MISS);
	assert_int_equal(entries(f->cache, NULL, 0), 3);
}

/* Each of the five alone changes the name; a program that resets mtime cannot reset ctime. */
static void test_name_has_all_of_an_identity(void **state)
{
	const struct stat plain = {.st_dev = 3, .st_ino = 5, .st_size = 7, .st_mtim = {11, 13}, .st_ctim = {17, 19}};
	struct stat other[7];
	char name[CACHE_NAME_BYTES], names[15][CACHE_NAME_BYTES];

	(void)state;
	for (unsigned i = 0; i < 7; i++)
		other[i] = plain;
	other[0].st_dev++;
	other[1].st_ino++;
	other[2].st_size++;
	other[3].st_mtim.tv_sec++;
	other[4].st_mtim.tv_nsec++;
	other[5].st_ctim.tv_sec++;
	other[6].st_ctim.tv_nsec++;
	cache_entry_name(names[0], &plain, &plain);
	for (unsigned i = 0; i < 7; i++) {
		cache_entry_name(names[1 + i], &other[i], &plain);
		cache_entry_name(names[8 + i], &plain, &other[i]);
	}
	for (unsigned i = 0; i < 15; i++) {
		for (unsigned j = 0; j < i; j++)
			assert_string_not_equal(names[i], names[j]);
		assert_null(strchr(names[i], '/'));
	}
	cache_entry_name(name, &plain, &plain);
	assert_string_equal(name, names[0]);
	cache_entry_name(name, &plain, NULL);
	assert_string_not_equal(name, names[0]);
}

/* A bad entry of any kind is prepared again, and valid afterwards. */
static void test_bad_entries_are_replaced(void **state)
{
	struct fixture *f = *state;
	char path[512], aside[128], command[2048];

	must_open(f, KERNEL_CACHE_MISS);
	assert_int_equal(entries(f->cache, path, sizeof path), 1);
	snprintf(aside, sizeof aside, "%.64s/aside", f->base);
	for (int i = 0; i < 9; i++) {
		struct stat st;
		uint8_t byte = 0x55;
		int fd = open(path, O_RDWR | O_CLOEXEC);

		assert_true(fd >= 0);
		assert_int_equal(fstat(fd, &st), 0);
		switch (i) {
		case 0:
			assert_int_equal(ftruncate(fd, 0), 0);
			break;
		case 1:
			assert_int_equal(ftruncate(fd, 5000), 0);
			break;
		case 2:
			assert_int_equal(ftruncate(fd, st.st_size - 1), 0);
			break;
		case 3: /* a flag that header_checksum covers */
			assert_int_equal(pwrite(fd, &byte, 1, 200), 1);
			break;
		case 4: /* the plan */
			assert_int_equal(pwrite(fd, &byte, 1, 4096 + 3), 1);
			break;
		case 5:
			assert_int_equal(fchmod(fd, 0660), 0);
			break;
		case 6:
			if (geteuid() == 0)
				assert_int_equal(fchown(fd, 12345, 12345), 0);
			else
				assert_int_equal(ftruncate(fd, 1), 0);
			break;
		case 7: /* a link to a good one */
			snprintf(command, sizeof command, "mv %s %s && ln -s %s %s", path, aside, aside, path);
			assert_int_equal(system(command), 0);
			break;
		case 8: /* something else under its name */
			snprintf(command, sizeof command, "cp /bin/sh %s", path);
			assert_int_equal(system(command), 0);
			break;
		}
		close(fd);
		must_open(f, KERNEL_CACHE_MISS);
		assert_string_equal(f->k.notice, "");
		must_open(f, KERNEL_CACHE_HIT);
		assert_int_equal(entries(f->cache, NULL, 0), 1);
	}
}

static void test_cache_that_others_can_write(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(mkdir(f->cache, 0700), 0);
	assert_int_equal(chmod(f->cache, 0777), 0);
	must_open(f, KERNEL_CACHE_MISS);
	assert_non_null(strstr(f->k.notice, "lets its group or others change"));
	assert_int_equal(entries(f->cache, NULL, 0), 0);
	must_open(f, KERNEL_CACHE_MISS);

	f->request.cache_directory = f->kernel;
	must_open(f, KERNEL_CACHE_MISS);
	assert_non_null(strstr(f->k.notice, f->kernel));
	f->request.cache_directory = "/proc/nowhere/riffle";
	must_open(f, KERNEL_CACHE_MISS);
	assert_non_null(strstr(f->k.notice, "cannot be made"));
}

static void test_default_directory(void **state)
{
	struct fixture *f = *state;
	char expected[160], path[160];

	setenv("XDG_CACHE_HOME", "relative", 1);
	setenv("HOME", f->base, 1);
	assert_true(cache_directory(path, sizeof path, NULL));
	snprintf(expected, sizeof expected, "%s/.cache/riffle", f->base);
	assert_string_equal(path, expected);
	f->request.cache_directory = NULL;
	must_open(f, KERNEL_CACHE_MISS); /* makes .cache too */
	must_open(f, KERNEL_CACHE_HIT);
	setenv("XDG_CACHE_HOME", "/x", 1);
	assert_true(cache_directory(path, sizeof path, NULL));
	assert_string_equal(path, "/x/riffle");
	unsetenv("XDG_CACHE_HOME");
	unsetenv("HOME");
	must_open(f, KERNEL_CACHE_MISS);
	assert_non_null(strstr(f->k.notice, "neither XDG_CACHE_HOME nor HOME"));
}

static void test_two_runs_at_once(void **state)
{
	struct fixture *f = *state;
	int good = 0;

	for (int i = 0; i < 8; i++) {
		pid_t child = fork();

		assert_true(child >= 0);
		if (!child) {
			int status = kernel_open(&f->k, &f->request, &f->error);

			_exit(status || f->k.plan.segment_count != 1 || f->k.notice[0]);
		}
	}
	for (int i = 0; i < 8; i++) {
		int ended;

		assert_true(wait(&ended) > 0);
		good += WIFEXITED(ended) && WEXITSTATUS(ended) == 0;
	}
	assert_int_equal(good, 8);
	assert_int_equal(entries(f->cache, NULL, 0), 1);
	must_open(f, KERNEL_CACHE_HIT);
}

static void test_trust_of_prepared(void **state)
{
	struct fixture *f = *state;
	char path[512], name[32];
	uint8_t *bytes;
	struct stat st;
	int fd, memfd;

	must_open(f, KERNEL_CACHE_MISS);
	assert_int_equal(entries(f->cache, path, sizeof path), 1);
	f->request.kernel = path;
	must_open(f, KERNEL_IS_PREPARED);
	assert_int_equal(chmod(path, 0620), 0);
	must_fail(f, RIFFLE_ERR_TRUST, "mode", "others change it");
	assert_int_equal(chmod(path, 0602), 0);
	must_fail(f, RIFFLE_ERR_TRUST, "mode", "others change it");
	assert_int_equal(chmod(path, 0444), 0);
	must_open(f, KERNEL_IS_PREPARED);

	/* a memfd's mode allows anyone to write; only a seal prevents it */
	assert_int_equal(stat(path, &st), 0);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	assert_true(bytes != MAP_FAILED);
	memfd = memfd_create("kernel", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	assert_int_equal(write(memfd, bytes, (size_t)st.st_size), st.st_size);
	snprintf(name, sizeof name, "fd:%d", memfd);
	f->request.kernel = name;
	must_fail(f, RIFFLE_ERR_TRUST, "mode", "others change it");
	assert_int_equal(fcntl(memfd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW), 0);
	must_open(f, KERNEL_IS_PREPARED);
	munmap(bytes, (size_t)st.st_size);
	close(memfd);
	close(fd);

	if (geteuid() != 0)
		return;
	f->request.kernel = path;
	assert_int_equal(chown(path, 12345, 12345), 0);
	must_fail(f, RIFFLE_ERR_TRUST, "owner", "neither root nor the user");
}

static void test_names(void **state)
{
	struct fixture *f = *state;
	char name[96];
	int fd = open(f->kernel, O_RDONLY | O_CLOEXEC);

	snprintf(name, sizeof name, "fd:%d", fd);
	f->request.kernel = name;
	must_open(f, KERNEL_CACHE_MISS);
	snprintf(name, sizeof name, "/dev/fd/%d", fd);
	must_open(f, KERNEL_CACHE_HIT);
	close(fd);
	f->request.kernel = "fd:999";
	must_fail(f, RIFFLE_ERR_IO, "file", "no open descriptor");
	f->request.kernel = "fd:-1";
	must_fail(f, RIFFLE_ERR_ARGUMENT, "fd:N", "no descriptor's number");
	f->request.kernel = "fd:4294967299";
	must_fail(f, RIFFLE_ERR_ARGUMENT, "fd:N", "no descriptor's number");
	f->request.kernel = f->base;
	must_fail(f, RIFFLE_ERR_FORMAT, "file", "directory");
	f->request.kernel = "/dev/zero";
	must_fail(f, RIFFLE_ERR_FORMAT, "file", "regular");
	f->request.kernel = f->kernel;
	f->request.relocs = "/nowhere";
	must_fail(f, RIFFLE_ERR_IO, "file", "cannot be opened");
	assert_string_equal(f->k.blame, "/nowhere");
	snprintf(name, sizeof name, "%.64s/fifo", f->base);
	assert_int_equal(mkfifo(name, 0600), 0);
	f->request.relocs = NULL;
	f->request.kernel = name;
	must_fail(f, RIFFLE_ERR_FORMAT, "file", "regular");
}

/* Puts a shell script in the place of riffle-prepare. */
static void fake_program(struct fixture *f, const char *script)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof path, "%s/riffle-prepare", f->base);
	file = fopen(path, "w");
	assert_non_null(file);
	fprintf(file, "#!/bin/sh\n%s\n", script);
	assert_int_equal(fchmod(fileno(file), 0755), 0);
	fclose(file);
	strcpy(test_directory, f->base);
}

static void test_file_changes_meanwhile(void **state)
{
	struct fixture *f = *state;
	char script[256];

	snprintf(script, sizeof script, "printf x | dd of=%s bs=1 seek=5000 conv=notrunc 2>/dev/null; exit 1",
		 f->kernel);
	fake_program(f, script);
	must_fail(f, RIFFLE_ERR_CHANGED, "file", "was changed while");
	assert_string_equal(f->k.blame, f->kernel);
	assert_int_equal(entries(f->cache, NULL, 0), 0);
}

static void test_child_that_fails(void **state)
{
	struct fixture *f = *state;
	static const struct {
		const char *script;
		enum riffle_status status;
		const char *field, *problem;
	} cases[] = {
	    {"kill -9 $$", RIFFLE_ERR_IO, "riffle-prepare", "ended by a signal"},
	    {"kill -XCPU $$", RIFFLE_ERR_UNSUPPORTED, "riffle-prepare", "more CPU time"},
	    {"exit 7", RIFFLE_ERR_IO, "riffle-prepare", "without saying why"},
	    {"exit 0", RIFFLE_ERR_FORMAT, "file", "too short"},
	    {"echo nonsense >&5; exit 1", RIFFLE_ERR_IO, "riffle-prepare", "without saying why"},
	    {"head -c 100000 /dev/zero | tr '\\0' x >&5; exit 1", RIFFLE_ERR_IO, "riffle-prepare", "without"},
	    {"printf '2 0 1 7 1 8\\te_machine\\tis wrong\\n' >&5; exit 1", RIFFLE_ERR_FORMAT, "e_machine", "is wrong"},
	    /* success and an error at once is an error */
	    {"printf '2 0 1 7 1 8\\te_machine\\tis wrong\\n' >&5", RIFFLE_ERR_FORMAT, "e_machine", "is wrong"},
	    {"printf '0 0 1 7 1 8\\te_machine\\tis wrong\\n' >&5; exit 1", RIFFLE_ERR_IO, "riffle-prepare", "without"},
	    {"printf '2 0 1 7 1 8\\te\\tis \\033[31mred\\n' >&5; exit 1", RIFFLE_ERR_IO, "riffle-prepare", "without"},
	    {"printf '2 0 1 7 1 8\\te\\tcut sho' >&5; exit 1", RIFFLE_ERR_IO, "riffle-prepare", "without"},
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		fake_program(f, cases[i].script);
		must_fail(f, cases[i].status, cases[i].field, cases[i].problem);
		assert_int_equal(entries(f->cache, NULL, 0), 0);
	}
	strcpy(test_directory, "/nowhere");
	must_fail(f, RIFFLE_ERR_IO, "riffle-prepare", "neither next to this program nor installed");
}

/* An analysis that crashes or hangs only loses the shuffle, not the kernel. */
static void test_child_that_crashes(void **state)
{
	static const struct {
		const char *signal, *why;
	} cases[] = {
	    {"SEGV", "riffle-prepare: was ended by a signal (found 11)"},
	    {"SYS", "riffle-prepare: was ended by a signal (found 31)"},
	    {"XCPU", "riffle-prepare: took more CPU time than any kernel needs"},
	};
	struct fixture *f = *state;
	char script[4400], programs[sizeof test_directory];

	snprintf(programs, sizeof programs, "%s", test_directory);
	f->request.no_cache = true;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		/* the reason is the eighth argument of the second try */
		snprintf(script, sizeof script,
			 "echo rubbish >&4; [ $# -eq 7 ] && kill -%s $$; exec %s/riffle-prepare \"$@\"",
			 cases[i].signal, programs);
		fake_program(f, script);
		assert_int_equal(kernel_open(&f->k, &f->request, &f->error), 0);
		assert_int_equal(f->k.plan.chunk_count, 0);
		assert_string_equal(f->k.plan.header->no_shuffle, cases[i].why);
		kernel_close(&f->k);
	}
	/* a lack of memory that killed the analysis may be temporary */
	snprintf(script, sizeof script, "[ $# -eq 7 ] && kill -KILL $$; exec %s/riffle-prepare \"$@\"", programs);
	fake_program(f, script);
	must_fail(f, RIFFLE_ERR_IO, "riffle-prepare", "ended by a signal");
}

/* The child gets its files' descriptors without gaps and their numbers, the standard ones, and no environment. */
static void test_child_has_nothing(void **state)
{
	struct fixture *f = *state;
	struct spawn_words words;
	char text[1024] = "";
	int kernel = open(f->kernel, O_RDONLY); /* on purpose without O_CLOEXEC, like the others */
	int relocs = open(f->kernel, O_RDONLY);
	int debug = open(f->kernel, O_RDONLY);
	int extra = open("/dev/zero", O_RDONLY);
	int out = memfd_create("out", 0);

	const struct {
		struct spawn_files files;
		const char *numbers, *arguments;
	} cases[] = {
	    {{kernel, relocs, debug, out}, "0 1 2 3 4 5 6 7", "--worker 3 6 7 4 5 0"},
	    {{kernel, relocs, -1, out, RIFFLE_COMPRESSION_LZ4}, "0 1 2 3 4 5 6", "--worker 3 6 -1 4 5 6"},
	    {{kernel, -1, debug, out, RIFFLE_COMPRESSION_ZSTD}, "0 1 2 3 4 5 6", "--worker 3 -1 6 4 5 7"},
	    {{kernel, -1, -1, out}, "0 1 2 3 4 5", "--worker 3 -1 -1 4 5 0"},
	};

	setenv("SECRET", "1", 1);
	fake_program(f, "tr '\\0' '\\n' </proc/$$/environ >&4; for n in 0 1 2 3 4 5 6 7 8 9; do [ -e /proc/$$/fd/$n ] "
			"&& printf '%s ' $n >&4; done; printf '%s ' \"$@\" >&4; readlink /proc/$$/fd/0 >&4");
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char expected[200];

		assert_int_equal(spawn_worker(&words, &cases[i].files, &f->error), 0);
		memset(text, 0, sizeof text);
		assert_true(pread(out, text, sizeof text - 1, 0) > 0);
		snprintf(expected, sizeof expected, "%s %s /dev/null\n", cases[i].numbers, cases[i].arguments);
		assert_string_equal(text, expected);
		assert_int_equal(ftruncate(out, 0), 0);
		assert_int_equal(lseek(out, 0, SEEK_SET), 0); /* the child wrote through the same open file */
	}
	close(extra);
	close(debug);
	close(relocs);
	close(kernel);
	close(out);
}

/* riffle may be started with SIGCHLD ignored, where children leave no status. */
static void test_ignored_sigchld(void **state)
{
	struct fixture *f = *state;

	signal(SIGCHLD, SIG_IGN);
	must_open(f, KERNEL_CACHE_MISS);
	fake_program(f, "exit 7");
	f->request.no_cache = true;
	must_fail(f, RIFFLE_ERR_IO, "riffle-prepare", "without saying why");
	assert_true(signal(SIGCHLD, SIG_DFL) == SIG_IGN);
}

static void test_error_line(void **state)
{
	struct fixture *f = *state;
	const struct riffle_error sent = {RIFFLE_ERR_SPACE, 0, "a field", "a problem", UINT64_MAX, 0, 1, 0};
	struct spawn_words words;
	char line[512];

	spawn_format_error(&sent, line, sizeof line);
	assert_true(spawn_parse_error(line, &words, &f->error));
	assert_int_equal(f->error.status, sent.status);
	assert_string_equal(f->error.field, sent.field);
	assert_string_equal(f->error.problem, sent.problem);
	assert_true(f->error.found == sent.found && f->error.has_found && !f->error.has_expected);
	assert_true(spawn_parse_error("2 0 3 519 3 524\tboot protocol\tis too old\n", &words, &f->error));
	assert_int_equal(f->error.has_found, RIFFLE_SHOW_VERSION);
	assert_true(spawn_parse_error("2 0 9 519 -1 524\tboot protocol\tis too old\n", &words, &f->error));
	assert_int_equal(f->error.has_found, RIFFLE_SHOW_NUMBER);
	strcat(line, "more\n");
	assert_false(spawn_parse_error(line, &words, &f->error));
	snprintf(line, sizeof line, "2 0 1 7 1 8\t%s\tx\n",
		 "0123456789012345678901234567890123456789012345678901234567890123");
	assert_false(spawn_parse_error(line, &words, &f->error));
	assert_false(spawn_parse_error("2 0 1 7 1 8\t\tx\n", &words, &f->error));
	assert_false(spawn_parse_error("", &words, &f->error));
}

static void make_entry(const char *directory, const char *name, time_t used, size_t bytes)
{
	char path[256];
	static char filler[65536];
	int fd;

	snprintf(path, sizeof path, "%s/%s", directory, name);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	memset(filler, 1, sizeof filler);
	assert_int_equal(write(fd, filler, bytes), bytes);
	assert_int_equal(futimens(fd, (struct timespec[2]){{.tv_sec = used}, {.tv_sec = used}}), 0);
	close(fd);
}

static void test_trim(void **state)
{
	struct fixture *f = *state;
	struct cache_file file;
	char path[256];

	assert_int_equal(mkdir(f->cache, 0700), 0);
	make_entry(f->cache, "v1-new.riffle", 3000, 65536);
	make_entry(f->cache, "v1-old.riffle", 1000, 65536);
	make_entry(f->cache, "v1-oldest-but-kept.riffle", 500, 65536);
	make_entry(f->cache, "v1-middle.riffle", 2000, 65536);
	make_entry(f->cache, "somebody's notes", 100, 65536);
	make_entry(f->cache, ".new-1-2", 100, 65536);
	make_entry(f->cache, ".new-3-4", time(NULL), 65536);
	assert_int_equal(cache_create(&file, f->cache, &f->error), 0);
	cache_trim(&file, "v1-oldest-but-kept.riffle", 1 << 20);
	assert_int_equal(entries(f->cache, NULL, 0), 6); /* enough room: only the old temporary file went */
	cache_trim(&file, "v1-oldest-but-kept.riffle", 150000);
	cache_close(&file);
	assert_int_equal(entries(f->cache, NULL, 0), 4);
	snprintf(path, sizeof path, "%s/v1-new.riffle", f->cache);
	assert_int_equal(access(path, F_OK), 0);
	snprintf(path, sizeof path, "%s/v1-oldest-but-kept.riffle", f->cache);
	assert_int_equal(access(path, F_OK), 0);
}

/* Using an entry updates its time, but not at every boot. */
static void test_use_is_noted(void **state)
{
	struct fixture *f = *state;
	char path[512];
	struct stat st;

	must_open(f, KERNEL_CACHE_MISS);
	assert_int_equal(entries(f->cache, path, sizeof path), 1);
	utimensat(AT_FDCWD, path, (struct timespec[2]){{.tv_sec = 1000}, {.tv_sec = 1000}}, 0);
	must_open(f, KERNEL_CACHE_HIT);
	assert_int_equal(stat(path, &st), 0);
	assert_true(time(NULL) - st.st_mtim.tv_sec < 600);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(test_miss_then_hit),
	    TEST(test_no_cache),
	    TEST(test_name_has_all_of_an_identity),
	    TEST(test_kernel_changed_in_place),
	    TEST(test_bad_entries_are_replaced),
	    TEST(test_cache_that_others_can_write),
	    TEST(test_default_directory),
	    TEST(test_two_runs_at_once),
	    TEST(test_trust_of_prepared),
	    TEST(test_names),
	    TEST(test_file_changes_meanwhile),
	    TEST(test_child_that_fails),
	    TEST(test_child_that_crashes),
	    TEST(test_child_has_nothing),
	    TEST(test_ignored_sigchld),
	    TEST(test_error_line),
	    TEST(test_trim),
	    TEST(test_use_is_noted),
	};

	umask(022);
	return cmocka_run_group_tests_name("kernel", tests, NULL, NULL);
}
