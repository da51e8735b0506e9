/* SPDX-License-Identifier: Apache-2.0 */
/* riffle-vmm as its own worker: prepares kernels where riffle-prepare is missing, for example in a jail. */
#ifndef RIFFLE_API_OWN_WORKER_H
#define RIFFLE_API_OWN_WORKER_H

/*
 * Call first in main(): returns true if this process was started as a worker, with its exit code in *code. Otherwise it
 * opens its own program file, so that a worker can be started even if the file is removed.
 */
_Bool own_worker(int argc, char **argv, int *code);

#endif
