/* SPDX-License-Identifier: Apache-2.0 */
/* Reports every fault of a configuration file with its line and key, whereas normal reading stops at the first. */
#ifndef RIFFLE_API_CONFIG_CHECK_H
#define RIFFLE_API_CONFIG_CHECK_H

#include <stddef.h>

/* `key` is "drives[0].drive_id" and so on; "" is the file itself. */
typedef void config_fault(void *opaque, unsigned line, const char *key, const char *problem);

/*
 * Calls `fault` for each, in unspecified order, and returns how many there were. Kernel, initrd, disks and pmem files
 * are opened; nothing is created, and no interface or socket is touched.
 */
unsigned config_check(const char *text, size_t bytes, config_fault *fault, void *opaque);

#endif
