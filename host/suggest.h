/* SPDX-License-Identifier: Apache-2.0 */
/* The error for an unknown option, with a suggestion of the one that was meant. */
#ifndef RIFFLE_HOST_SUGGEST_H
#define RIFFLE_HOST_SUGGEST_H

#include <getopt.h>

/*
 * The long option, without its hyphens, closest to `word` ("--randomise=off"), within an edit distance (insertion,
 * deletion, change, swap) of a third of its letters. NULL: none, or `word` is an option.
 */
const char *suggest_option(const char *word, const struct option *options);

/* Prints the error for a word that getopt_long() refused. `command` is "run" for `riffle run`. */
void say_no_option(const char *command, const char *word, const struct option *options);

#endif
