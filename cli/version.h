/* SPDX-License-Identifier: Apache-2.0 */
/* What `--version` prints. */
#ifndef RIFFLE_CLI_VERSION_H
#define RIFFLE_CLI_VERSION_H

/* The program's version; the commit it was built from, where that is known; the format of prepared kernels. */
void print_version(const char *program);

#endif
