/* SPDX-License-Identifier: Apache-2.0 */
/* What is said of an option that there is not, and which one may have been meant. */
#ifndef RIFFLE_CLI_SUGGEST_H
#define RIFFLE_CLI_SUGGEST_H

#include <getopt.h>

/*
 * The long option, without its hyphens, that differs least from `word` ("--randomise=off"): by no more than a third of
 * its letters, of which each put in, left out, changed, or swapped with the next counts once. NULL: none, or `word` is
 * one.
 */
const char *suggest_option(const char *word, const struct option *options);

/* The line on stderr for a word that getopt_long() refused. `command` is "run" of `riffle run`. */
void say_no_option(const char *command, const char *word, const struct option *options);

#endif
