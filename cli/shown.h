/* SPDX-License-Identifier: Apache-2.0 */
/* The one way to show a person a name or word that anybody may have chosen: no byte of it reaches a terminal as
 * control. */
#ifndef RIFFLE_CLI_SHOWN_H
#define RIFFLE_CLI_SHOWN_H

#include <stddef.h>

#define SHOWN_BYTES 4200 /* a path of PATH_MAX, and some more words */

/*
 * Copies at most bytes - 1 bytes of `text` (NULL: nothing) and a NUL, and returns `to`. Printable UTF-8 stays as it is;
 * control characters, of ASCII and of Latin-1, and bytes that are no UTF-8 become question marks.
 */
const char *show(char *to, size_t bytes, const char *text);

/* The same in an expression; valid until the enclosing block ends. */
#define SHOWN(text) show((char[SHOWN_BYTES]){0}, SHOWN_BYTES, text)

#endif
