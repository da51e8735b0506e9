/* SPDX-License-Identifier: Apache-2.0 */
/* riffle-vmm as its own worker: prepares kernels where there is no riffle-prepare, as in a jail. */
#ifndef RIFFLE_API_OWN_WORKER_H
#define RIFFLE_API_OWN_WORKER_H

/*
 * First thing in main(): true when this process was started as a worker, and *code is its exit code. Otherwise it opens
 * its own program, so that a worker can be started from it whatever becomes of the file.
 */
_Bool own_worker(int argc, char **argv, int *code);

#endif
