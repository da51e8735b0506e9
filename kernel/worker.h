/* SPDX-License-Identifier: Apache-2.0 */
/* The process that touches hostile bytes: `riffle-prepare --worker KERNEL RELOCS DEBUG OUT ERROR`, all descriptors. */
#ifndef RIFFLE_KERNEL_WORKER_H
#define RIFFLE_KERNEL_WORKER_H

/* argv[0] is the option itself; returns the exit code */
int worker_main(int argc, char **argv);

#endif
