/* SPDX-License-Identifier: Apache-2.0 */
/* Says which way of storing a kernel wins at which read bandwidth: measured processor time, modelled reads. */
#include "bench/load/storage.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "bench/load/measure.h"

static const char *const method_names[METHOD_COUNT] = {"kaslr", "fgkaslr"};
static const char *const method_words[METHOD_COUNT] = {"KASLR", "FGKASLR"};
static const char *const storage_names[STORAGE_COUNT] = {"none", "lz4", "zstd", "bzimage"};
static const unsigned bandwidths[] = {50, 100, 200, 400, 800, 1600, 3200, 6400}; /* 10^6 bytes a second */
#define BANDWIDTHS (sizeof bandwidths / sizeof *bandwidths)

static double cpu_ms(const struct storage_figures *f, unsigned storage, unsigned method)
{
	return median(f->ms[storage][method], f->runs);
}

/* Reading, then the processor's work, not one beside the other. */
static double total_ms(const struct storage_figures *f, unsigned storage, unsigned method, double megabytes_a_second)
{
	return cpu_ms(f, storage, method) + (double)f->read_bytes[storage][method] / megabytes_a_second / 1e3;
}

/* Percent of a load's bytes that were decompressed more than once. */
static double again(const struct storage_figures *f, unsigned storage, unsigned method)
{
	if (!f->decompressed[storage][method])
		return 0;
	return 100 * ((double)f->decompressed[storage][method] / (double)f->extent_bytes - 1);
}

/* One way against another: `small` has fewer bytes to read. */
struct duel {
	unsigned small, large;
	double bandwidth; /* below it `small` wins; 0: never, negative: always */
};

static bool fight(struct duel *duel, const struct storage_figures *f, unsigned a, unsigned b, unsigned method)
{
	double bytes, ms;

	if (!f->ms[a][method] || !f->ms[b][method] || f->read_bytes[a][method] == f->read_bytes[b][method])
		return false;
	duel->small = f->read_bytes[a][method] < f->read_bytes[b][method] ? a : b;
	duel->large = duel->small == a ? b : a;
	bytes = (double)(f->read_bytes[duel->large][method] - f->read_bytes[duel->small][method]);
	ms = cpu_ms(f, duel->small, method) - cpu_ms(f, duel->large, method);
	duel->bandwidth = ms > 0 ? bytes / ms / 1e3 : -1;
	return true;
}

static void print_totals(const struct storage_figures *f, unsigned method)
{
	printf("\n%s, ms from file to loaded kernel at a read bandwidth of so many MB/s\n%-26s", method_words[method],
	       "");
	for (unsigned k = 0; k < BANDWIDTHS; k++)
		printf(" %8u", bandwidths[k]);
	putchar('\n');
	for (unsigned i = 0; i < STORAGE_COUNT; i++) {
		if (!f->ms[i][method])
			continue;
		printf("%-26s", storage_names[i]);
		for (unsigned k = 0; k < BANDWIDTHS; k++)
			printf(" %8.1f", total_ms(f, i, method, bandwidths[k]));
		putchar('\n');
	}
	printf("%-26s", "soonest");
	for (unsigned k = 0; k < BANDWIDTHS; k++) {
		unsigned best = STORAGE_NONE;

		for (unsigned i = 0; i < STORAGE_COUNT; i++)
			if (f->ms[i][method] &&
			    total_ms(f, i, method, bandwidths[k]) < total_ms(f, best, method, bandwidths[k]))
				best = i;
		printf(" %8s", storage_names[best]);
	}
	putchar('\n');
	for (unsigned i = 0; i < STORAGE_COUNT; i++)
		for (unsigned k = i + 1; k < STORAGE_COUNT; k++) {
			struct duel duel;

			if (!fight(&duel, f, i, k, method))
				continue;
			printf("%s beats %s ", storage_names[duel.small], storage_names[duel.large]);
			if (duel.bandwidth < 0)
				puts("at any bandwidth");
			else
				printf("below %.0f MB/s\n", duel.bandwidth);
		}
}

void bench_storage_text(const struct storage_figures *f)
{
	printf(
	    "%s\n%s: %.1f MB in a load; %u rounds, medians\n"
	    "ms: measured, from open file to loaded kernel in fresh memory, the file in the page cache; of a bzImage\n"
	    "    the least that it takes to read it into the guest, decompress, copy to fresh memory, relocate\n"
	    "reads: modelled, file bytes / bandwidth, before the processor's work and not beside it\n\n",
	    f->kernel, f->version, (double)f->extent_bytes / 1e6, f->runs);
	printf("%-26s %12s %10s %12s %10s %21s\n", "stored", "KASLR: MB", "ms", "FGKASLR: MB", "ms",
	       "decompressed again, %");
	for (unsigned i = 0; i < STORAGE_COUNT; i++) {
		char words[64];

		if (!f->ms[i][METHOD_KASLR])
			continue;
		snprintf(words, sizeof words, i == STORAGE_BZIMAGE ? "%s (%s), least" : "%s", storage_names[i],
			 f->bzimage_compression ? f->bzimage_compression : "");
		printf("%-26s %12.1f %10.3f", words, (double)f->read_bytes[i][METHOD_KASLR] / 1e6,
		       cpu_ms(f, i, METHOD_KASLR));
		if (f->ms[i][METHOD_FGKASLR])
			printf(" %12.1f %10.3f %10.2f %10.2f\n", (double)f->read_bytes[i][METHOD_FGKASLR] / 1e6,
			       cpu_ms(f, i, METHOD_FGKASLR), again(f, i, METHOD_KASLR), again(f, i, METHOD_FGKASLR));
		else
			printf(" %12s %10s %10.2f\n", "-", "-", again(f, i, METHOD_KASLR));
	}
	for (unsigned i = 0; i < METHOD_COUNT; i++)
		if (f->ms[STORAGE_NONE][i])
			print_totals(f, i);
}

/* A field of a CSV line; one with a comma or a quote in it is quoted. */
static void print_field(const char *text)
{
	if (!strpbrk(text, ",\"\n\r")) {
		fputs(text, stdout);
		return;
	}
	putchar('"');
	for (; *text; text++) {
		if (*text == '"')
			putchar('"');
		putchar(*text);
	}
	putchar('"');
}

static void print_row(const struct storage_figures *f, unsigned method, const char *condition, const char *metric,
		      const char *unit, unsigned run, double value)
{
	print_field(f->kernel);
	printf(",%s,%s,%s,%s,%u,%.6g\n", method_names[method], condition, metric, unit, run, value);
}

void bench_storage_csv(const struct storage_figures *f)
{
	puts("kernel,method,condition,metric,unit,run,value");
	for (unsigned m = 0; m < METHOD_COUNT; m++) {
		for (unsigned i = 0; i < STORAGE_COUNT; i++) {
			if (!f->ms[i][m])
				continue;
			for (unsigned k = 0; k < f->runs; k++)
				print_row(f, m, storage_names[i], "storage_cpu", "ms", k + 1, f->ms[i][m][k]);
			print_row(f, m, storage_names[i], "storage_read", "MB", 1, (double)f->read_bytes[i][m] / 1e6);
			print_row(f, m, storage_names[i], "storage_decompressed_again", "%", 1, again(f, i, m));
		}
		for (unsigned i = 0; i < STORAGE_COUNT; i++)
			for (unsigned k = i + 1; k < STORAGE_COUNT; k++) {
				char condition[64];
				struct duel duel;

				if (!fight(&duel, f, i, k, m))
					continue;
				snprintf(condition, sizeof condition, "%s before %s", storage_names[duel.small],
					 storage_names[duel.large]);
				/* no bandwidth is too high for it: said as infinity */
				if (duel.bandwidth < 0)
					duel.bandwidth = __builtin_inf();
				print_row(f, m, condition, "storage_break_even", "MB/s", 1, duel.bandwidth);
			}
	}
}

static json_t *json_method(const struct storage_figures *f, unsigned method)
{
	json_t *root = json_object(), *duels = json_array();

	for (unsigned i = 0; i < STORAGE_COUNT; i++) {
		json_t *all = json_array();

		for (unsigned k = 0; f->ms[i][method] && k < f->runs; k++)
			json_array_append_new(all, json_real(f->ms[i][method][k]));
		if (!f->ms[i][method]) {
			json_decref(all);
			continue;
		}
		json_object_set_new(root, storage_names[i],
				    json_pack("{s:I, s:f, s:f, s:o}", "read_bytes",
					      (json_int_t)f->read_bytes[i][method], "median_ms", cpu_ms(f, i, method),
					      "decompressed_again_percent", again(f, i, method), "ms", all));
	}
	for (unsigned i = 0; i < STORAGE_COUNT; i++)
		for (unsigned k = i + 1; k < STORAGE_COUNT; k++) {
			struct duel duel;

			/* null: at any bandwidth */
			if (fight(&duel, f, i, k, method))
				json_array_append_new(
				    duels, json_pack("{s:s, s:s, s:o}", "winner", storage_names[duel.small], "loser",
						     storage_names[duel.large], "below_mb_per_s",
						     duel.bandwidth < 0 ? json_null() : json_real(duel.bandwidth)));
		}
	json_object_set_new(root, "break_even", duels);
	return root;
}

void bench_storage_json(const struct storage_figures *f)
{
	json_t *root =
	    json_pack("{s:s, s:s, s:i, s:I, s:s}", "kernel", f->kernel, "version", f->version, "runs", (int)f->runs,
		      "extent_bytes", (json_int_t)f->extent_bytes, "reads", "modelled: read_bytes / bandwidth");

	for (unsigned i = 0; i < METHOD_COUNT; i++)
		if (f->ms[STORAGE_NONE][i])
			json_object_set_new(root, method_names[i], json_method(f, i));
	json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
	putchar('\n');
	json_decref(root);
}
