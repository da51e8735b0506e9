/* SPDX-License-Identifier: Apache-2.0 */
/* Include before all other headers of guest/: simulates a kernel without the optional features that init uses. */
#include <asm/unistd_64.h>

#undef __NR_ioperm
#define __NR_ioperm 100000
#undef __NR_signalfd4
#define __NR_signalfd4 100000
