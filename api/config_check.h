/* SPDX-License-Identifier: Apache-2.0 */
/* Every fault of a configuration file, each with its line and key, where reading it for use stops at the first. */
#ifndef RIFFLE_API_CONFIG_CHECK_H
#define RIFFLE_API_CONFIG_CHECK_H

#include <stddef.h>

/* `key` is "drives[0].drive_id" and so on; "" is the file itself. */
typedef void config_fault(void *opaque, unsigned line, const char *key, const char *problem);

/*
 * Calls `fault` for each, in no promised order, and returns how many there were. Kernel, initrd, disks and files of
 * pmem are opened; nothing is made, and no interface or socket is touched.
 */
unsigned config_check(const char *text, size_t bytes, config_fault *fault, void *opaque);

#endif
