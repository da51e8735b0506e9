/* SPDX-License-Identifier: Apache-2.0 */
/* Values as serde's messages print them. */
#ifndef RIFFLE_API_JSON_WORDS_H
#define RIFFLE_API_JSON_WORDS_H

#include <stddef.h>

/* In quotation marks, as Rust's {:?} prints it; malloc()ed, NULL: no memory. */
char *json_quoted(const char *string, size_t bytes);

/* A finite number with the fewest digits that read back as the same: 1.0, 0.1, 1e20. */
void json_float_words(double value, char *text, size_t room);

#endif
