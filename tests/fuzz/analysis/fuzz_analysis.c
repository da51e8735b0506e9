/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the whole path of a kernel: analysed, written, opened, and loaded with its functions shuffled. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <riffle/load.h>

#include "prepare/analysis/prepared.h"
#include "tests/fuzz/accepted.h"
#include "tests/lib/kernels.h"

#define RAM (UINT64_C(64) << 20)
#define IMAGE_MAX (UINT64_C(16) << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void promise(int holds)
{
	if (!holds)
		abort();
}

/* Whatever the kernel claims, the prepared file must open and load. */
static void load(const struct riffle_source *source, const struct riffle_plan *plan, unsigned seed)
{
	static struct riffle_ram ram = {0, RAM, NULL};
	const struct riffle_memory memory = {&ram, 1, NULL, 0};
	uint16_t *order = malloc(((size_t)plan->chunk_count + 1) * sizeof *order);
	size_t bytes = (riffle_load_workspace(plan) + 63) & ~(size_t)63;
	void *workspace = aligned_alloc(64, bytes + 64);
	struct riffle_layout layout = RIFFLE_LAYOUT_INIT;
	struct riffle_seeded seeded;
	struct riffle_random random;
	struct riffle_loaded loaded;
	struct riffle_error error;

	if (!ram.host)
		ram.host = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	promise(order && workspace && ram.host != MAP_FAILED);
	layout.order = order;
	layout.order_count = plan->chunk_count;
	riffle_random_from_seed(&random, &seeded, (const uint8_t[32]){(uint8_t)seed});
	if (!riffle_layout_draw(&layout, plan, &memory, RIFFLE_MODE_FGKASLR, &random, &error)) {
		promise(!riffle_load_shuffled(&loaded, plan, source, &layout, &memory, RIFFLE_LOAD_CLEAR, NULL,
					      workspace, bytes, &error));
		fuzz_accepted++;
	}
	free(workspace);
	free(order);
}

static void write_and_load(const struct riffle_image *image, const struct shuffle *shuffle, unsigned seed)
{
	int out = memfd_create("prepared", MFD_CLOEXEC);
	struct riffle_source source;
	struct riffle_error error;
	struct riffle_plan plan = RIFFLE_PLAN_INIT;

	promise(out >= 0);
	if (!riffle_prepared_write(image, shuffle, NULL, RIFFLE_COMPRESSION_NONE, out, &error) &&
	    !riffle_source_from_fd(&source, out, &error) && !riffle_plan_open(&plan, &source, &error)) {
		promise(plan.chunk_count > 0);
		load(&source, &plan, seed);
		riffle_plan_close(&plan);
	}
	close(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = test_file(data, size);
	struct riffle_image *image;
	struct riffle_error error;
	struct shuffle *shuffle;

	if (!riffle_image_open(&image, fd, -1, &error)) {
		/* a larger image would only add memory without contents, and take time */
		if (image->image_bytes <= IMAGE_MAX && image->relocatable &&
		    !shuffle_analyse(&shuffle, image, NULL, &error)) {
			write_and_load(image, shuffle, (unsigned)size);
			shuffle_free(shuffle);
		}
		riffle_image_close(image);
	}
	close(fd);
	return 0;
}
