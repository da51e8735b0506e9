/* SPDX-License-Identifier: Apache-2.0 */
/* Writes an image as a prepared kernel: finds extents, checks relocations, writes the file. */
#ifndef RIFFLE_PREPARE_PREPARED_H
#define RIFFLE_PREPARE_PREPARED_H

#include "prepare/image/image.h"
#include "prepare/shuffle/shuffle.h"
#include <riffle/plan.h>

/*
 * Checks the image's relocations against its contents, finds the non-zero extents, and writes a prepared kernel to
 * `out_fd` (an empty regular file open for writing). The header is written last, so that an unfinished file is never
 * taken for a prepared kernel. On failure the file's contents are undefined; the caller removes it.
 * `shuffle` is the result of the analysis, or NULL; then `no_shuffle` (may be NULL) gives the reason, for users who
 * request FGKASLR. `storage` selects how the payload is stored: RIFFLE_COMPRESSION_NONE, _LZ4 or _ZSTD.
 */
int riffle_prepared_write(const struct riffle_image *image, const struct shuffle *shuffle, const char *no_shuffle,
			  enum riffle_compression storage, int out_fd, struct riffle_error *error);

/*
 * Compares a prepared kernel's contents with the digest stored in it. `source` reads from `fd`; if it has read_frame,
 * compressed data is also decompressed, once. Errors: CHECKSUM, and those of opening a plan and reading the source.
 */
int riffle_prepared_check_digest(int fd, const struct riffle_source *source, struct riffle_error *error);

#endif
