/* SPDX-License-Identifier: Apache-2.0 */
/* Makes untrusted names and words safe to print: no byte of them reaches a terminal as a control character. */
#ifndef RIFFLE_HOST_SHOWN_H
#define RIFFLE_HOST_SHOWN_H

#include <stddef.h>

#define SHOWN_BYTES 4200 /* a path of PATH_MAX, and some more words */

/*
 * Copies at most bytes - 1 bytes of `text` (NULL: nothing) and a NUL, and returns `to`. Printable UTF-8 is unchanged;
 * ASCII and Latin-1 control characters, and bytes that are not UTF-8, become question marks.
 */
const char *show(char *to, size_t bytes, const char *text);

/* The same as an expression; valid until the enclosing block ends. */
#define SHOWN(text) show((char[SHOWN_BYTES]){0}, SHOWN_BYTES, text)

#endif
