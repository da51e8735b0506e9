/* SPDX-License-Identifier: Apache-2.0 */
/* Of which files a machine was made: told by what a file system knows of them, or by their contents. */
#include "machine/origin.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/checksum.h"
#include "common/fail.h"
#include "host/input.h"
#include "machine/config.h"

#define BLOCK_BYTES (256u << 10)

static void fold(uint64_t *sum, uint64_t value)
{
	const uint64_t pair[2] = {*sum, value};

	*sum = riffle_checksum(pair, sizeof pair);
}

/* Block by block, as whoever owns the file may cut it meanwhile. */
static int checksum_file(struct machine_file *file, int fd, struct riffle_error *error)
{
	void *block = malloc(BLOCK_BYTES);
	ssize_t got = 0;

	if (!block)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "file", "out of memory");
	for (uint64_t at = 0; at < file->bytes; at += (uint64_t)got) {
		do
			got = pread(fd, block, BLOCK_BYTES, (off_t)at);
		while (got < 0 && errno == EINTR);
		if (got <= 0)
			break;
		fold(&file->checksum, riffle_checksum(block, (size_t)got));
	}
	free(block);
	return got < 0 ? riffle_fail_system(error, errno, "read", "failed") : 0;
}

static void note(struct machine_file *file, const struct stat *st)
{
	*file = (struct machine_file){.given = true,
				      .device = st->st_dev,
				      .inode = st->st_ino,
				      .bytes = (uint64_t)st->st_size,
				      .seconds = (uint64_t)st->st_mtim.tv_sec,
				      .nanoseconds = (uint64_t)st->st_mtim.tv_nsec};
}

static int identify(struct machine_file *file, const char *name, const char **blame, struct riffle_error *error)
{
	struct stat st;
	int fd, status;

	*file = (struct machine_file){0};
	if (!name)
		return 0;
	*blame = name;
	if ((status = input_open(&fd, &st, name, error)))
		return status;
	note(file, &st);
	status = checksum_file(file, fd, error);
	close(fd);
	if (!status)
		*blame = NULL;
	return status;
}

int machine_file_compare(bool *same, const struct machine_file *known, const char *name, struct riffle_error *error)
{
	struct machine_file now;
	struct stat st;
	int fd, status;

	*same = !name && !known->given;
	if (!name || !known->given || known->made)
		return 0;
	if ((status = input_open(&fd, &st, name, error)))
		return status;
	note(&now, &st);
	*same = now.device == known->device && now.inode == known->inode && now.bytes == known->bytes &&
		now.seconds == known->seconds && now.nanoseconds == known->nanoseconds;
	if (!*same && now.bytes == known->bytes) {
		status = checksum_file(&now, fd, error);
		*same = !status && now.checksum == known->checksum;
	}
	close(fd);
	return status;
}

uint64_t machine_origin_cpu(const struct machine_config *config)
{
	const struct cpu_config *cpu = &config->cpu;
	uint64_t sum = 0;

	fold(&sum, cpu->template);
	for (size_t i = 0; i < cpu->cpuid_count; i++) {
		const struct cpu_cpuid_modifier *c = &cpu->cpuid[i];

		fold(&sum, (uint64_t)c->leaf << 32 | c->subleaf);
		fold(&sum, c->reg);
		fold(&sum, (uint64_t)c->filter << 32 | c->value);
	}
	fold(&sum, cpu->cpuid_count);
	for (size_t i = 0; i < cpu->msr_count; i++) {
		fold(&sum, cpu->msrs[i].index);
		fold(&sum, cpu->msrs[i].filter);
		fold(&sum, cpu->msrs[i].value);
	}
	fold(&sum, cpu->msr_count);
	for (size_t i = 0; i < cpu->capability_count; i++)
		fold(&sum, (uint64_t)cpu->capabilities[i].id << 1 | cpu->capabilities[i].waived);
	fold(&sum, cpu->capability_count);
	return sum;
}

int machine_origin_identify(struct machine_origin *origin, const struct machine_config *config, const char **blame,
			    struct riffle_error *error)
{
	int status;

	if ((status = identify(&origin->kernel, config->kernel, blame, error)) ||
	    (status = identify(&origin->initrd, config->initrd_path, blame, error)))
		return status;
	if (config->initrd)
		origin->initrd = (struct machine_file){.given = true, .made = true};
	origin->cpu = machine_origin_cpu(config);
	origin->identified = true;
	return 0;
}

void machine_file_print(char word[MACHINE_FILE_WORD], const struct machine_file *file)
{
	if (!file->given || file->made)
		snprintf(word, MACHINE_FILE_WORD, "%s", file->given ? "made" : "none");
	else
		snprintf(word, MACHINE_FILE_WORD,
			 "%" PRIx64 "-%" PRIx64 "-%" PRIx64 "-%" PRIx64 "-%" PRIx64 "-%" PRIx64, file->device,
			 file->inode, file->bytes, file->seconds, file->nanoseconds, file->checksum);
}

bool machine_file_parse(struct machine_file *file, const char *word)
{
	char again[MACHINE_FILE_WORD];

	*file = (struct machine_file){.given = strcmp(word, "none") != 0, .made = !strcmp(word, "made")};
	if (!file->given || file->made)
		return true;
	if (sscanf(word, "%" SCNx64 "-%" SCNx64 "-%" SCNx64 "-%" SCNx64 "-%" SCNx64 "-%" SCNx64, &file->device,
		   &file->inode, &file->bytes, &file->seconds, &file->nanoseconds, &file->checksum) != 6)
		return false;
	machine_file_print(again, file);
	return !strcmp(word, again);
}

const char *machine_origin_mode(const char *word)
{
	static const char *const modes[] = {"off",         "physical",      "kaslr",    "fgkaslr",
					    "kaslr+slide", "fgkaslr+slide", "bootstrap"};

	for (unsigned i = 0; i < sizeof modes / sizeof *modes; i++)
		if (!strcmp(word, modes[i]))
			return modes[i];
	return NULL;
}
