/* SPDX-License-Identifier: Apache-2.0 */
/* Which option is suggested for an unknown one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "host/suggest.h"

static const struct option options[] = {
    {"randomize", required_argument, NULL, 'r'},
    {"memory", required_argument, NULL, 'm'},
    {"rng", no_argument, NULL, 1},
    {"layout", required_argument, NULL, 2},
    {"layout-out", required_argument, NULL, 3},
    {"no-cache", no_argument, NULL, 4},
    {"cache", required_argument, NULL, 5},
    {NULL, 0, NULL, 0},
};

static void suggestions(void **state)
{
	static const struct {
		const char *word, *meant;
	} rows[] = {
	    {"--randomise", "randomize"},
	    {"--randomise=off", "randomize"},
	    {"--randomzie", "randomize"},
	    {"--rnadomise", "randomize"},
	    {"--memoyr", "memory"},
	    {"--memry=1G", "memory"},
	    {"--memroyy", "memory"},
	    {"--mmeroyy", NULL},
	    {"--rg", "rng"},
	    {"--rgn", "rng"},
	    {"--gnr", NULL},
	    {"--layout_out", "layout-out"},
	    {"--layouts", "layout"},
	    {"--nocache", "no-cache"},
	    {"--cach", "cache"},
	    /* there is one: it lacks its argument */
	    {"--memory", NULL},
	    {"--layout", NULL},
	    {"--", NULL},
	    {"--=x", NULL},
	    {"-x", NULL},
	    {"memory", NULL},
	    {"--something-else", NULL},
	    {"", NULL},
	    {"--randomizerandomizerandomizerandomizerandomize", NULL},
	};
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const char *got = suggest_option(rows[i].word, options);

		if (!rows[i].meant != !got || (got && strcmp(got, rows[i].meant)))
			fail_msg("%s: got %s, expected %s", rows[i].word, got ? got : "nothing",
				 rows[i].meant ? rows[i].meant : "nothing");
	}
}

/* At the longest word that is compared, and one letter more. */
static void long_words(void **state)
{
	char word[44] = "--", name[44];
	struct option one[] = {{name, no_argument, NULL, 1}, {NULL, 0, NULL, 0}};
	(void)state;
	memset(word + 2, 'a', 41);
	memset(name, 'a', 40);
	name[40] = 0;
	name[0] = 'b';
	word[42] = 0;
	assert_string_equal(suggest_option(word, one), name);
	word[42] = 'a';
	word[43] = 0;
	assert_null(suggest_option(word, one));
	word[42] = 0;
	name[40] = 'a';
	name[41] = 0;
	assert_null(suggest_option(word, one));
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(suggestions), cmocka_unit_test(long_words)};

	return cmocka_run_group_tests_name("suggested options", tests, NULL, NULL);
}
