/* SPDX-License-Identifier: Apache-2.0 */
/* The default random source, inside the library. */
#ifndef RIFFLE_LAYOUT_RANDOM_H
#define RIFFLE_LAYOUT_RANDOM_H

#include <riffle/layout.h>

#ifndef RIFFLE_FREESTANDING
extern const struct riffle_random riffle_random_system;
#endif

#endif
