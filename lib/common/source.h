/* SPDX-License-Identifier: Apache-2.0 */
/* A source of bytes from a file that its user has examined already. */
#ifndef RIFFLE_COMMON_SOURCE_H
#define RIFFLE_COMMON_SOURCE_H

#include <riffle/plan.h>

/* As riffle_source_from_fd(), for what is known to be a regular file of that size. */
void riffle_source_of_file(struct riffle_source *source, int fd, uint64_t bytes);

#endif
