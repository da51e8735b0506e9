/* SPDX-License-Identifier: Apache-2.0 */
/* The version of these headers, and of the library that a program runs with. */
#ifndef RIFFLE_VERSION_H
#define RIFFLE_VERSION_H

#include <riffle/error.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RIFFLE_VERSION_MAJOR 0u
#define RIFFLE_VERSION_MINOR 1u
#define RIFFLE_VERSION_PATCH 0u
#define RIFFLE_VERSION_STRING "0.1.0"
/* a single comparable number: 1.2.3 is 10203 */
#define RIFFLE_VERSION (RIFFLE_VERSION_MAJOR * 10000u + RIFFLE_VERSION_MINOR * 100u + RIFFLE_VERSION_PATCH)

/* RIFFLE_VERSION of the linked library, which may be later than the headers that a program was built with. */
RIFFLE_PUBLIC unsigned riffle_version(void);
/* The same as text. */
RIFFLE_PUBLIC const char *riffle_version_string(void);
/* The version of the file format (riffle/format.h) that the linked library reads. */
RIFFLE_PUBLIC unsigned riffle_format_version(void);

#ifdef __cplusplus
}
#endif
#endif
