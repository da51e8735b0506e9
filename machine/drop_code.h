/* SPDX-License-Identifier: Apache-2.0 */
/* The program's own code, once the guest runs. */
#ifndef RIFFLE_MACHINE_DROP_CODE_H
#define RIFFLE_MACHINE_DROP_CODE_H

/*
 * Unmaps the pages of the program's own code and constants, most of which only the start needed. The part that running
 * a guest needs comes back from the page cache page by page; the rest no longer counts as this process's memory.
 */
void machine_drop_code(void);

#endif
