/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots by path: what they may replace, what a failure leaves behind, and the base for changes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "machine/internal.h"
#include "machine/snapshot.h"
#include "machine/snapshot_files.h"
#include "monitor/core/internal.h"

#define BYTES (4u << 20)

static struct machine *machine;
static char directory[] = "/tmp/riffle-files-XXXXXX";

static void put(uint64_t at, uint8_t value)
{
	assert_true(guest_memory_write(vm_memory(machine->vm), at, &value, 1));
}

static int create(const char *state, const char *memory, bool changed)
{
	const char *blame;
	struct riffle_error error = {0};
	bool untracked;

	return machine_snapshot_create(machine, state, memory, changed, &untracked, &blame, &error);
}

static void assert_file_is_memory(const char *path)
{
	int fd = open(path, O_RDONLY);
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, BYTES);
	assert_int_equal(st.st_mode & 0777, 0600);
	uint8_t *data = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, fd, 0);

	assert_true(data != MAP_FAILED);
	assert_int_equal(memcmp(data, guest_memory_start(vm_memory(machine->vm)), BYTES), 0);
	munmap(data, BYTES);
	close(fd);
}

static uint8_t byte_of(const char *path, uint64_t at)
{
	int fd = open(path, O_RDONLY);
	uint8_t byte = 0;

	assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
	close(fd);
	return byte;
}

static void id_of(const char *path, uint8_t id[MACHINE_ID_BYTES])
{
	struct machine_snapshot_info info;

	assert_int_equal(machine_snapshot_look(path, &info, NULL), 0);
	assert_true(info.has_save);
	memcpy(id, info.save_id, MACHINE_ID_BYTES);
}

static unsigned count_files(void)
{
	DIR *dir = opendir(".");
	unsigned count = 0;

	while (readdir(dir))
		count++;
	closedir(dir);
	return count - 2;
}

static int set_up(void **unused)
{
	static struct machine_config config;
	struct riffle_error error = {0};
	struct phases phases;

	(void)unused;
	if (access("/dev/kvm", R_OK | W_OK))
		skip();
	machine_config_init(&config);
	config.memory_bytes = BYTES;
	config.vcpus = 1;
	config.accept_emulation = config.can_save = config.track_dirty = true;
	config.console.kind = MACHINE_CONSOLE_NONE;
	phases_start(&phases, 0);
	strcpy(strrchr(directory, '-'), "-XXXXXX");
	assert_non_null(mkdtemp(directory));
	assert_int_equal(chdir(directory), 0);
	assert_int_equal(machine_build_empty(&machine, &config, NULL, &phases, &error), 0);
	return 0;
}

static int tear_down(void **unused)
{
	DIR *dir = opendir(".");

	(void)unused;
	for (struct dirent *entry; (entry = readdir(dir));)
		if (unlink(entry->d_name) < 0)
			rmdir(entry->d_name);
	closedir(dir);
	assert_int_equal(chdir("/"), 0);
	rmdir(directory);
	machine_destroy(machine);
	return 0;
}

static void test_ids(void **unused)
{
	uint8_t one[MACHINE_ID_BYTES], other[MACHINE_ID_BYTES];

	(void)unused;
	assert_false(machine->has_save);
	assert_int_equal(create("s", "m", false), 0);
	assert_file_is_memory("m");
	id_of("s", one);
	assert_memory_equal(one, machine->save_id, sizeof one);
	assert_int_equal(create("s", "m", false), 0);
	id_of("s", other);
	assert_memory_equal(other, machine->save_id, sizeof other);
	assert_true(memcmp(one, other, sizeof one) != 0);
	assert_int_equal(count_files(), 2);
}

/* Neither is touched, nor is what is beside it. */
static void test_what_is_no_file(void **unused)
{
	static const char *const kinds[] = {"fifo", "link", "dangling", "directory"};
	struct stat before, after;

	(void)unused;
	assert_int_equal(create("s", "m", false), 0);
	assert_int_equal(mkfifo("fifo", 0600), 0);
	assert_int_equal(symlink("m", "link"), 0);
	assert_int_equal(symlink("nowhere", "dangling"), 0);
	assert_int_equal(mkdir("directory", 0700), 0);
	unsigned files = count_files();

	for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++)
		for (unsigned how = 0; how < 4; how++) {
			bool as_state = how & 1, changed = how & 2;

			assert_int_equal(lstat(kinds[i], &before), 0);
			assert_int_equal(create(as_state ? kinds[i] : "s", as_state ? "m" : kinds[i], changed),
					 RIFFLE_ERR_ARGUMENT);
			assert_int_equal(lstat(kinds[i], &after), 0);
			assert_int_equal(before.st_ino, after.st_ino);
			assert_int_equal(before.st_mode, after.st_mode);
			assert_int_equal(count_files(), files);
			assert_file_is_memory("m");
		}
	uint8_t id[MACHINE_ID_BYTES];

	id_of("s", id);
	assert_memory_equal(id, machine->save_id, sizeof id);
}

static void test_one_file(void **unused)
{
	(void)unused;
	for (unsigned changed = 0; changed < 2; changed++) {
		char other[100];

		snprintf(other, sizeof other, "%s/new", directory);
		assert_int_equal(create("new", "new", changed), RIFFLE_ERR_ARGUMENT);
		assert_int_equal(create("new", "./new", changed), RIFFLE_ERR_ARGUMENT);
		assert_int_equal(create(other, "new", changed), RIFFLE_ERR_ARGUMENT);
		assert_int_equal(create("./new", other, changed), RIFFLE_ERR_ARGUMENT);
		assert_int_equal(count_files(), 0);
	}
	assert_int_equal(create("s", "m", false), 0);
	assert_int_equal(link("s", "also"), 0);
	assert_int_equal(create("s", "also", false), RIFFLE_ERR_ARGUMENT);
	assert_int_equal(create("also", "s", true), RIFFLE_ERR_ARGUMENT);
	assert_int_equal(count_files(), 3);
	/* the same name elsewhere is another file */
	assert_int_equal(mkdir("d", 0700), 0);
	assert_int_equal(create("n", "d/n", false), 0);
	assert_int_equal(unlink("d/n"), 0);
}

/* If the state cannot be written after the memory, the memory's dirty pages are kept for the next difference. */
static void test_late_failure(void **unused)
{
	struct machine_snapshot snapshot = {.changed = true};
	uint8_t id[MACHINE_ID_BYTES];

	(void)unused;
	assert_int_equal(create("s", "m", false), 0);
	memcpy(id, machine->save_id, sizeof id);
	put(0x200000, 1);
	snapshot.memory_fd = open("other", O_RDWR | O_CREAT, 0600);
	snapshot.state_fd = open("s", O_RDONLY);
	assert_int_equal(machine_snapshot_write(machine, &snapshot, NULL), RIFFLE_ERR_IO);
	close(snapshot.memory_fd);
	close(snapshot.state_fd);
	assert_int_equal(byte_of("other", 0x200000), 1); /* it had come that far */
	assert_memory_equal(machine->save_id, id, sizeof id);
	put(0x300000, 2);
	assert_int_equal(create("s", "m", true), 0);
	assert_file_is_memory("m");
	assert_true(memcmp(machine->save_id, id, sizeof id) != 0);
}

/* The process has a handler that would end it, as riffle-vmm's does. */
static void die(int number)
{
	(void)number;
	_exit(77);
}

static void test_file_too_large(void **unused)
{
	struct rlimit limit;
	uint8_t id[MACHINE_ID_BYTES];
	sigset_t pending;

	(void)unused;
	assert_int_equal(create("s", "m", false), 0);
	put(BYTES - 1, 7);
	signal(SIGXFSZ, die);
	getrlimit(RLIMIT_FSIZE, &limit);
	limit.rlim_cur = BYTES / 2;
	setrlimit(RLIMIT_FSIZE, &limit);
	int status = create("s", "m", false);

	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_FSIZE, &limit);
	assert_int_equal(status, RIFFLE_ERR_IO);
	sigpending(&pending);
	assert_false(sigismember(&pending, SIGXFSZ));
	signal(SIGXFSZ, SIG_DFL);
	/* the earlier one is still there, and still what changes count from */
	assert_int_equal(count_files(), 2);
	id_of("s", id);
	assert_memory_equal(id, machine->save_id, sizeof id);
	assert_int_equal(create("s", "m", true), 0);
	assert_file_is_memory("m");
}

/* If the second file cannot be renamed, the first one's previous file is restored. */
static void test_names(void **unused)
{
	struct snapshot_file memory, state;
	const char *blame;
	struct riffle_error error;

	(void)unused;
	for (unsigned kept = 0; kept < 2; kept++) {
		if (kept) {
			assert_int_equal(create("s", "m", false), 0);
			put(0x1000, 9);
		}
		assert_int_equal(snapshot_file_make(&memory, AT_FDCWD, "m", "t", &error), 0);
		assert_int_equal(snapshot_file_make(&state, AT_FDCWD, "s", "t", &error), 0);
		assert_int_equal(unlink("s.t.part"), 0); /* so that it cannot be named */
		assert_int_equal(snapshot_files_name(&memory, &state, &blame, &error), RIFFLE_ERR_IO);
		assert_string_equal(blame, "s");
		snapshot_file_drop(&memory);
		snapshot_file_drop(&state);
		assert_int_equal(count_files(), kept ? 2 : 0);
	}
	assert_int_equal(byte_of("m", 0x1000), 0);
	uint8_t id[MACHINE_ID_BYTES];

	id_of("s", id);
	assert_memory_equal(id, machine->save_id, sizeof id);
}

/* Files created beforehand by another process are not written to. */
static void test_made_beforehand(void **unused)
{
	struct snapshot_file file;
	struct riffle_error error;

	(void)unused;
	close(open("m.t.part", O_RDWR | O_CREAT, 0666));
	assert_int_equal(snapshot_file_make(&file, AT_FDCWD, "m", "t", &error), RIFFLE_ERR_IO);
	snapshot_file_drop(&file);
	assert_int_equal(access("m.t.part", F_OK), 0);
	unlink("m.t.part");
	assert_int_equal(symlink("elsewhere", "m.t.part"), 0);
	assert_int_equal(snapshot_file_make(&file, AT_FDCWD, "m", "t", &error), RIFFLE_ERR_IO);
	assert_int_equal(access("elsewhere", F_OK), -1);
}

static void test_changes(void **unused)
{
	struct stat st;

	(void)unused;
	assert_int_equal(create("s1", "m1", false), 0);
	put(0x200000, 1);
	assert_int_equal(create("s2", "m2", false), 0);
	put(0x300000, 2);
	/* the state there is not the last save's: all of it, and a new file */
	assert_int_equal(create("s1", "m1", true), 0);
	assert_file_is_memory("m1");
	/* the last save's: in place */
	assert_int_equal(stat("m1", &st), 0);
	ino_t inode = st.st_ino;

	put(0x3ff000, 3);
	assert_int_equal(create("s1", "m1", true), 0);
	assert_file_is_memory("m1");
	assert_int_equal(stat("m1", &st), 0);
	assert_int_equal(st.st_ino, inode);
	/* no state there: the caller's business, as with Firecracker */
	put(0x280000, 4);
	assert_int_equal(create("s3", "m1", true), 0);
	assert_file_is_memory("m1");
	/* no memory there: what changed alone */
	put(0x290000, 5);
	assert_int_equal(create("s4", "m4", true), 0);
	assert_int_equal(byte_of("m4", 0x290000), 5);
	assert_int_equal(byte_of("m4", 0x280000), 0);
	assert_int_equal(count_files(), 7);
}

static void test_trust(void **unused)
{
	static const mode_t modes[] = {0620, 0602, 0666};

	(void)unused;
	assert_int_equal(create("s", "m", false), 0);
	put(0x200000, 1);
	for (unsigned i = 0; i < sizeof modes / sizeof *modes; i++) {
		assert_int_equal(chmod("m", modes[i]), 0);
		assert_int_equal(create("s", "m", true), RIFFLE_ERR_TRUST);
		assert_int_equal(byte_of("m", 0x200000), 0);
		assert_int_equal(count_files(), 2);
	}
	if (geteuid() == 0) {
		assert_int_equal(chmod("m", 0600), 0);
		assert_int_equal(chown("m", 1234, 0), 0);
		assert_int_equal(create("s", "m", true), RIFFLE_ERR_TRUST);
		assert_int_equal(chown("m", 0, 0), 0);
	}
	assert_int_equal(chmod("m", 0600), 0);
	assert_int_equal(create("s", "m", true), 0);
	assert_file_is_memory("m");
}

/* ---- kills ---- */

/* The calls of the code under test that change a directory, each of which may be the last. */
static unsigned steps, last_step;

static void step(void)
{
	if (++steps == last_step)
		raise(SIGKILL);
}

int renameat(int from_directory, const char *from, int to_directory, const char *to)
{
	step();
	return (int)syscall(SYS_renameat2, from_directory, from, to_directory, to, 0);
}

int unlinkat(int in, const char *name, int flags)
{
	step();
	return (int)syscall(SYS_unlinkat, in, name, flags);
}

static void write_text(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void put_text(const char *name, const char *text)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	write_text(fd, text);
	close(fd);
}

static bool has_text(const char *name, const char *text)
{
	char found[8] = "";
	int fd = open(name, O_RDONLY);

	if (fd < 0)
		return false;
	ssize_t got = read(fd, found, sizeof found - 1);

	close(fd);
	return got >= 0 && !strcmp(found, text);
}

/* In a process that is killed at its nth step; true: it came to its end. */
static bool killed_at(unsigned n, void (*run)(void))
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		steps = 0;
		last_step = n;
		run();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) ? WEXITSTATUS(status) == 0 : WTERMSIG(status) == SIGKILL);
	return WIFEXITED(status);
}

static void replace(void)
{
	int here = open(".", O_RDONLY | O_DIRECTORY);
	struct snapshot_file memory, state;
	const char *blame;

	if (snapshot_file_make(&memory, here, "memory", "t", NULL) ||
	    snapshot_file_make(&state, here, "state", "t", NULL))
		_exit(1);
	write_text(memory.fd, "new");
	write_text(state.fd, "new");
	if (snapshot_files_name(&memory, &state, &blame, NULL))
		_exit(2);
	snapshot_file_drop(&memory);
	snapshot_file_drop(&state);
}

static void put_all_back(void)
{
	int here = open(".", O_RDONLY | O_DIRECTORY);

	if (snapshot_files_put_back(here, "memory", "state", "t", NULL))
		_exit(3);
	close(here);
}

/* There is one whole snapshot, the earlier one or the new one, wherever a save is killed, and then what repairs that.
 */
static void test_kills(void **unused)
{
	bool ended = false;
	unsigned olds = 0, news = 0;

	(void)unused;
	for (unsigned n = 1; !ended; n++) {
		bool repaired = false;

		for (unsigned again = 1; !repaired; again++) {
			put_text("state", "old");
			put_text("memory", "old");
			ended = killed_at(n, replace);
			repaired = killed_at(again, put_all_back);
			put_all_back();
			bool is_new = has_text("state", "new");

			assert_true(has_text("state", is_new ? "new" : "old"));
			assert_true(has_text("memory", is_new ? "new" : "old"));
			olds += !is_new;
			news += is_new;
			unlink("memory.t.part");
			unlink("state.t.part");
			assert_int_equal(count_files(), 2);
		}
	}
	assert_true(olds >= 5 && news >= 3);
}

/* ---- leftovers ---- */

static void lock_file(int fd)
{
	struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	assert_int_equal(fcntl(fd, F_OFD_SETLK, &whole), 0);
}

/* What killed saves left goes, and nothing else: not a name that only looks like it, nor what somebody is writing. */
static void test_leftovers(void **unused)
{
	static const char *const stay[] = {"s.0123456.part",   "s.012345678.part", "s.0123456g.part",
					   "s.01234567.parts", "t.01234567.part",  "s.01234567.old.part",
					   "S.01234567.part"};
	struct stat st;

	(void)unused;
	for (unsigned i = 0; i < sizeof stay / sizeof *stay; i++)
		put_text(stay[i], "x");
	put_text("m.89abcdef.part", "x");
	put_text("s.01234567.part", "x");
	put_text("s.01234567.old", "x");
	put_text("m.01234567.old", "x");
	assert_int_equal(symlink("s.0123456.part", "s.aaaaaaaa.part"), 0);
	assert_int_equal(mkfifo("s.bbbbbbbb.part", 0600), 0);
	put_text("s.cccccccc.part", "x");
	int writing = open("s.cccccccc.part", O_RDWR);

	lock_file(writing);
	if (geteuid() == 0) {
		put_text("s.dddddddd.part", "x");
		assert_int_equal(chown("s.dddddddd.part", 1234, -1), 0);
	}
	/* a save that fails takes no earlier snapshot away, whatever its names are */
	put_text("m", "x");
	assert_int_equal(unlink("m"), 0);
	assert_int_equal(mkdir("m", 0700), 0);
	assert_int_equal(create("s", "m", false), RIFFLE_ERR_ARGUMENT);
	assert_int_equal(rmdir("m"), 0);
	assert_int_equal(access("s.01234567.old", F_OK), 0);
	assert_int_equal(access("m.01234567.old", F_OK), 0);
	assert_int_equal(create("s", "m", false), 0);
	assert_int_equal(access("m.89abcdef.part", F_OK), -1);
	assert_int_equal(access("s.01234567.part", F_OK), -1);
	assert_int_equal(access("s.01234567.old", F_OK), -1);
	assert_int_equal(access("m.01234567.old", F_OK), -1);
	for (unsigned i = 0; i < sizeof stay / sizeof *stay; i++)
		assert_int_equal(access(stay[i], F_OK), 0);
	assert_int_equal(lstat("s.aaaaaaaa.part", &st), 0);
	assert_int_equal(access("s.bbbbbbbb.part", F_OK), 0);
	assert_int_equal(access("s.cccccccc.part", F_OK), 0);
	if (geteuid() == 0)
		assert_int_equal(access("s.dddddddd.part", F_OK), 0);
	close(writing);
	/* nobody is writing it any more */
	assert_int_equal(create("s", "m", false), 0);
	assert_int_equal(access("s.cccccccc.part", F_OK), -1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_ids),
	    TEST(test_what_is_no_file),
	    TEST(test_one_file),
	    TEST(test_late_failure),
	    TEST(test_file_too_large),
	    TEST(test_names),
	    TEST(test_made_beforehand),
	    TEST(test_changes),
	    TEST(test_trust),
	    TEST(test_kills),
	    TEST(test_leftovers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
