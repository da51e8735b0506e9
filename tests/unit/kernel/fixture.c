/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/kernel/fixture.h"

#include <dirent.h>
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096u
#define KERNEL_BYTES (3 * PAGE)

char test_directory[4096];

void write_kernel(const char *path, uint8_t fill)
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

int set_up(void **state)
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

int tear_down(void **state)
{
	struct fixture *f = *state;
	char command[128];

	snprintf(command, sizeof command, "rm -rf %s", f->base);
	assert_int_equal(system(command), 0);
	free(f);
	return 0;
}

void must_open(struct fixture *f, enum kernel_way way)
{
	int before = entries("/proc/self/fd", NULL, 0);
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
	assert_int_equal(entries("/proc/self/fd", NULL, 0), before);
}

void must_fail(struct fixture *f, enum riffle_status status, const char *field, const char *problem)
{
	int before = entries("/proc/self/fd", NULL, 0);

	assert_int_equal(kernel_open(&f->k, &f->request, &f->error), status);
	assert_string_equal(f->error.field, field);
	if (!strstr(f->error.problem, problem))
		fail_msg("%s (wanted: %s)", f->error.problem, problem);
	assert_int_equal(f->k.fd, -1);
	assert_int_equal(entries("/proc/self/fd", NULL, 0), before);
}

int entries(const char *directory, char *path, size_t bytes)
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

void fake_program(struct fixture *f, const char *script)
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
