/* SPDX-License-Identifier: Apache-2.0 */
/* To be included before everything else of guest/: a kernel that lacks what init can do without. */
#include <asm/unistd_64.h>

#undef __NR_ioperm
#define __NR_ioperm 100000
#undef __NR_signalfd4
#define __NR_signalfd4 100000
