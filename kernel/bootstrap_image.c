/* SPDX-License-Identifier: Apache-2.0 */
/* Packs a prepared kernel behind the loader stage, under a setup header as a bzImage has it or in an ELF. */
#include "kernel/bootstrap_image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <riffle/load.h>

#include "common/bytes.h"
#include "common/fail.h"
#include "common/setup_header.h"
#include "common/write_all.h"
#include "kernel/boot_elf.h"
#include "kernel/frame_reader.h"
#include "stage/stage.h"

#define SETUP_BYTES 1024u   /* boot sector and one sector of setup: the header lies across the two */
#define VERSION_TEXT 0x280u /* where the kernel's version stands as text, for file(1) and the like */
#define KERNEL_VERSION 0x20eu
#define PAYLOAD_OFFSET 0x248u
#define PAYLOAD_LENGTH 0x24cu
#define HANDOVER_OFFSET 0x264u
#define HEADER_END 0x268u
#define PROTOCOL 0x020du /* 2.13: what later ones add is not offered */
#define MIB UINT64_C(0x100000)
#define COPY_BYTES (UINT64_C(1) << 20)

/* What a loader enters that starts a kernel by its real-mode code: prints REFUSAL by the BIOS and stops. */
#define REFUSAL_OFFSET 0x40u /* in the boot sector, which nothing else uses */
#define REFUSAL_CODE HEADER_END
static const char refusal[] = "riffle stage: this kernel has no 16-bit entry: prepare --bootstrap --elf makes one for "
			      "qemu -kernel\r\n";
static const uint8_t refusal_code[] = {
    0xfc,                       /*    cld */
    0xbe, REFUSAL_OFFSET, 0x00, /*    mov si, REFUSAL_OFFSET */
    0xac,                       /* 1: lodsb */
    0x84, 0xc0,                 /*    test al, al */
    0x74, 0x08,                 /*    jz 2f */
    0xb4, 0x0e,                 /*    mov ah, 0x0e: teletype output */
    0x31, 0xdb,                 /*    xor bx, bx */
    0xcd, 0x10,                 /*    int 0x10 */
    0xeb, 0xf3,                 /*    jmp 1b */
    0xfb,                       /* 2: sti: a BIOS with a serial console sends from its timer */
    0xf4,                       /*    hlt */
    0xeb, 0xfc,                 /*    jmp 2b */
};
_Static_assert(REFUSAL_OFFSET + sizeof refusal <= RBOOT_HDR_START, "before the header");
_Static_assert(REFUSAL_CODE + sizeof refusal_code <= VERSION_TEXT, "between the header and the version");

static const uint8_t stage_bytes[] = {
#ifdef RIFFLE_HAVE_STAGE
#include "stage/stage_bytes.h"
#endif
    0};                                      /* an array cannot be empty */
#define STAGE_BYTES (sizeof stage_bytes - 1) /* 0: not in this build */

static int write_at(int fd, uint64_t offset, const void *bytes, uint64_t count, struct riffle_error *error)
{
	if (!riffle_write_at(fd, bytes, count, offset))
		return riffle_fail_system(error, errno, "output", "cannot be written");
	return RIFFLE_OK;
}

static void describe(struct stage_descriptor *d, const struct riffle_plan *plan,
		     const struct bootstrap_request *request)
{
	uint64_t order_bytes = ((uint64_t)plan->chunk_count * 2 + 63) & ~UINT64_C(63);
	uint64_t work_bytes = order_bytes + riffle_load_workspace(plan);

	memset(d, 0, sizeof *d);
	d->package_offset = stage_pages(STAGE_BYTES);
	if (request->elf) {
		d->zero_page_offset = d->package_offset;
		d->package_offset += STAGE_PAGE;
		if (work_bytes < STAGE_FIRST_TABLES_BYTES)
			work_bytes = STAGE_FIRST_TABLES_BYTES;
	}
	d->package_bytes = sizeof *plan->header + plan->header->plan_bytes;
	for (uint32_t i = 0; i < plan->extent_count; i++)
		d->package_bytes += plan->extents[i].bytes;
	d->work_offset = stage_pages(d->package_offset + d->package_bytes);
	d->work_bytes = stage_pages(STAGE_STACK_BYTES + work_bytes);
	d->tables_offset = d->work_offset + d->work_bytes;
	d->window_bytes = d->tables_offset + STAGE_TABLES_BYTES;
	d->randomize = STAGE_AUTO;
	if (!request->automatic)
		d->randomize = (uint64_t)request->mode | (request->slide ? STAGE_SLIDE : 0);
}

/* Refuses what the stage could not do, and collects why "automatic" is not more. */
static int check_mode(struct bootstrap_request *request, const struct riffle_plan *plan, struct riffle_error *error)
{
	const struct riffle_header *header = plan->header;
	enum riffle_mode most = plan->chunk_count ? RIFFLE_MODE_FGKASLR : RIFFLE_MODE_KASLR;

	if (!(header->flags & RIFFLE_KERNEL_RELOCATABLE))
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "relocations",
				   "are missing: the guest could not choose where its kernel lies");
	request->open_kallsyms = mode_kallsyms_stays_open(plan, request->automatic ? most : request->mode);
	if (request->automatic) {
		request->reason_count = mode_reasons(request->reasons, most, plan->block_count != 0, plan, NULL);
		return RIFFLE_OK;
	}
	return mode_check(request->words, request->mode, request->slide, plan, error);
}

/*
 * The kernel's own header where it has one, with what is different here: no 32-bit entry worth the name, a start at 1
 * MiB if that is free, since a kernel is not put below 16 MiB anyway, and any page will do.
 */
static int make_setup(uint8_t sectors[SETUP_BYTES], const struct riffle_plan *plan, const struct stage_descriptor *d,
		      struct riffle_error *error)
{
	const struct riffle_header *h = plan->header;
	struct riffle_boot_setup setup;
	int status = riffle_boot_setup_from_plan(&setup, plan, error);

	if (status)
		return status;
	memset(sectors, 0, SETUP_BYTES);
	memcpy(sectors + RBOOT_HDR_START, setup.bytes, HEADER_END - RBOOT_HDR_START);
	sectors[RBOOT_HDR_START] = SETUP_BYTES / 512 - 1;
	riffle_put32(sectors + RBOOT_SYSSIZE, (uint32_t)(d->work_offset / 16));
	sectors[RBOOT_JUMP] = 0xeb;
	sectors[RBOOT_JUMP + 1] = HEADER_END - RBOOT_MAGIC;
	riffle_put16(sectors + RBOOT_VERSION, PROTOCOL);
	riffle_put16(sectors + KERNEL_VERSION, h->kernel_version[0] ? VERSION_TEXT - RBOOT_JUMP : 0);
	memcpy(sectors + REFUSAL_OFFSET, refusal, sizeof refusal);
	memcpy(sectors + REFUSAL_CODE, refusal_code, sizeof refusal_code);
	memcpy(sectors + VERSION_TEXT, h->kernel_version, sizeof h->kernel_version);
	sectors[RBOOT_LOADFLAGS] = RBOOT_LOADED_HIGH;
	riffle_put32(sectors + RBOOT_CODE32_START, MIB);
	riffle_put32(sectors + RBOOT_KERNEL_ALIGNMENT, STAGE_PAGE);
	sectors[RBOOT_RELOCATABLE] = 1;
	sectors[RBOOT_MIN_ALIGNMENT] = 12; /* log2 of a page */
	riffle_put16(sectors + RBOOT_XLOADFLAGS, RBOOT_XLF_KERNEL_64);
	riffle_put32(sectors + PAYLOAD_OFFSET, (uint32_t)d->package_offset);
	riffle_put32(sectors + PAYLOAD_LENGTH, (uint32_t)d->package_bytes);
	riffle_put64(sectors + RBOOT_SETUP_DATA_PTR, 0);
	riffle_put64(sectors + RBOOT_PREF_ADDRESS, MIB);
	riffle_put32(sectors + RBOOT_INIT_SIZE, (uint32_t)d->window_bytes);
	riffle_put32(sectors + HANDOVER_OFFSET, 0);
	return RIFFLE_OK;
}

/* The ELF's headers and the page for its zero page. */
static int write_elf_headers(int fd, const struct stage_descriptor *d, const struct riffle_plan *plan,
			     struct riffle_error *error)
{
	const struct boot_elf_segment segment = {.file_offset = BOOT_ELF_HEADERS_BYTES,
						 .file_bytes = d->work_offset,
						 .address = STAGE_ELF_BASE,
						 .memory_bytes = d->window_bytes};
	uint8_t headers[BOOT_ELF_HEADERS_BYTES], page[STAGE_PAGE];
	int status = boot_elf_zero_page(page, plan, error);

	boot_elf_headers(headers, &segment, 1);
	if (!status)
		status = write_at(fd, 0, headers, sizeof headers, error);
	return status ? status : write_at(fd, BOOT_ELF_HEADERS_BYTES + d->zero_page_offset, page, sizeof page, error);
}

static int write_sectors(int fd, const struct stage_descriptor *d, const struct riffle_plan *plan,
			 struct riffle_error *error)
{
	uint8_t sectors[SETUP_BYTES];
	int status = make_setup(sectors, plan, d, error);

	return status ? status : write_at(fd, 0, sectors, sizeof sectors, error);
}

static int write_stage(int fd, uint64_t start, const struct stage_descriptor *d, struct riffle_error *error)
{
	int status = write_at(fd, start, stage_bytes, STAGE_BYTES, error);

	return status ? status : write_at(fd, start + STAGE_DESCRIPTOR, d, sizeof *d, error);
}

/* Header, plan and extents, without the holes between them. */
static int write_package(int fd, uint64_t start, const struct stage_descriptor *d, const struct riffle_plan *plan,
			 const struct riffle_source *source, struct riffle_error *error)
{
	uint64_t to = start + d->package_offset, plan_end = sizeof *plan->header + plan->header->plan_bytes;
	uint8_t *buffer = malloc(COPY_BYTES);
	int status = RIFFLE_OK;

	if (!buffer)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "buffer", "cannot be held");
	/* the plan's copy in memory is the one that was checked */
	status = write_at(fd, to, plan->header, plan_end, error);
	to += plan_end;
	for (uint32_t i = 0; i < plan->extent_count; i++) {
		const struct riffle_extent *e = &plan->extents[i];

		for (uint64_t done = 0; done < e->bytes && !status;) {
			uint64_t part = e->bytes - done < COPY_BYTES ? e->bytes - done : COPY_BYTES;

			status = source->read(source->opaque, e->file_offset + done, buffer, part, error);
			if (!status)
				status = write_at(fd, to, buffer, part, error);
			done += part;
			to += part;
		}
	}
	free(buffer);
	/* zero bytes up to what syssize or p_filesz says */
	if (!status && ftruncate(fd, (off_t)(start + d->work_offset)))
		status = riffle_fail_system(error, errno, "output", "cannot be written");
	return status;
}

int bootstrap_image_write(struct bootstrap_request *request, struct riffle_error *error)
{
	const uint64_t start = request->elf ? BOOT_ELF_HEADERS_BYTES : SETUP_BYTES;
	const int out = request->out_fd;
	struct frame_reader *frames = NULL;
	struct stage_descriptor d;
	struct riffle_source source;
	struct riffle_plan plan = RIFFLE_PLAN_INIT;
	int status;

	request->reason_count = 0;
	if (!STAGE_BYTES)
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "--bootstrap",
				   "is not in this build: sanitizers cannot run in a guest");
	if ((status = riffle_source_from_fd(&source, request->prepared_fd, error)) ||
	    (status = frame_reader_begin(&frames, &source, error)) ||
	    (status = riffle_plan_open(&plan, &source, error))) {
		frame_reader_end(frames);
		return status;
	}
	describe(&d, &plan, request);
	if (plan.frame_count)
		status = riffle_fail(
		    error, RIFFLE_ERR_UNSUPPORTED, "storage",
		    "is compressed, and the stage in the guest decompresses nothing: prepare the kernel raw");
	else if (d.window_bytes > INT32_MAX)
		status = riffle_fail_expected(error, RIFFLE_ERR_SPACE, "init_size",
					      "is more than a loader may be asked for", d.window_bytes, INT32_MAX);
	if (!status)
		status = check_mode(request, &plan, error);
	if (!status)
		status = request->elf ? write_elf_headers(out, &d, &plan, error) : write_sectors(out, &d, &plan, error);
	if (!status)
		status = write_stage(out, start, &d, error);
	if (!status)
		status = write_package(out, start, &d, &plan, &source, error);
	riffle_plan_close(&plan);
	frame_reader_end(frames);
	return status;
}
