/* SPDX-License-Identifier: Apache-2.0 */
/* From an image to a prepared kernel: extents found, relocations judged, everything written to a file. */
#ifndef RIFFLE_PREPARE_PREPARED_H
#define RIFFLE_PREPARE_PREPARED_H

#include "prepare/image/image.h"
#include "prepare/shuffle/shuffle.h"
#include <riffle/plan.h>

/*
 * Checks the image's relocations against its contents, finds the non-zero extents, and writes a prepared kernel to
 * `out_fd` (an empty regular file open for writing). The header is written last, so that an unfinished file is never
 * taken for a prepared kernel. On failure the file's contents are undefined; the caller removes it.
 * `shuffle` is what the analysis found, or NULL; then `no_shuffle` (may be NULL) says in words why there is none, for
 * whoever asks for FGKASLR. `storage` says how the payload is stored: RIFFLE_COMPRESSION_NONE, _LZ4 or _ZSTD.
 */
int riffle_prepared_write(const struct riffle_image *image, const struct shuffle *shuffle, const char *no_shuffle,
			  enum riffle_compression storage, int out_fd, struct riffle_error *error);

/*
 * Compares a prepared kernel's contents with the digest stored in it. `source` reads from `fd`; with its read_frame
 * what is compressed is decompressed too, once. Errors: CHECKSUM, and those of opening a plan and reading the source.
 */
int riffle_prepared_check_digest(int fd, const struct riffle_source *source, struct riffle_error *error);

#endif
