/* SPDX-License-Identifier: Apache-2.0 */
/* Puts a host's facts into lines that a person can act upon. */
#include "cli/commands/doctor_report.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#define MIB (UINT64_C(1) << 20)
#define GUEST_BYTES (256 * MIB) /* what riffle run takes when nothing is said */

enum thp_mode doctor_parse_thp(const char *text)
{
	if (strstr(text, "[always]"))
		return THP_ALWAYS;
	if (strstr(text, "[madvise]"))
		return THP_MADVISE;
	return strstr(text, "[never]") ? THP_NEVER : THP_UNKNOWN;
}

uint64_t doctor_parse_meminfo(const char *text, const char *field)
{
	size_t bytes = strlen(field);

	while (text && *text) {
		if (!strncmp(text, field, bytes) && text[bytes] == ':')
			return strtoull(text + bytes + 1, NULL, 10) * 1024;
		text = strchr(text, '\n');
		if (text)
			text++;
	}
	return 0;
}

/* Where lines go: to a text, or as objects into an array. */
struct report {
	FILE *to;
	json_t *matters; /* NULL: text */
};

static void line(const struct report *to, const char *matter, const char *state, const char *words)
{
	if (!to->matters)
		fprintf(to->to, "%-14s %-5s %s\n", matter, state, words);
	else
		json_array_append_new(to->matters, json_pack("{s:s, s:s, s:s, s:[]}", "matter", matter, "state", state,
							     "text", words, "advice"));
}

/* Of the matter that the last line was about. */
static void advice(const struct report *to, const char *words)
{
	if (!to->matters)
		fprintf(to->to, "%-20s -> %s\n", "", words);
	else
		json_array_append_new(
		    json_object_get(json_array_get(to->matters, json_array_size(to->matters) - 1), "advice"),
		    json_string(words));
}

static void report_permission(const struct report *to, const struct doctor_facts *facts)
{
	char words[256];

	line(to, "KVM", "no", "/dev/kvm is there, but this user may not open it");
	if (facts->kvm_group && strcmp(facts->kvm_group, "root")) {
		snprintf(words, sizeof words, "join its group: sudo usermod -aG %s %s, then log in anew",
			 facts->kvm_group, facts->user ? facts->user : "$USER");
		advice(to, words);
	} else {
		advice(to,
		       "let a group have it: sudo groupadd -f kvm; sudo chgrp kvm /dev/kvm; sudo chmod 660 /dev/kvm;");
		advice(to, "join that group: sudo usermod -aG kvm $USER, then log in anew");
	}
}

static void report_kvm(const struct report *to, const struct doctor_facts *facts)
{
	switch (facts->kvm) {
	case KVM_HARDWARE:
		line(to, "KVM", "ok",
		     facts->in_kvmbox ? "/dev/kvm virtualises, in tools/kvmbox: QEMU emulates this machine"
				      : "/dev/kvm virtualises in hardware");
		return;
	case KVM_EMULATING:
		line(to, "KVM", "no",
		     "/dev/kvm emulates guests instruction by instruction: tiny guests run, Linux does not");
		advice(to, "run Linux guests in a software-emulated machine: tools/kvmbox riffle run ...");
		advice(
		    to,
		    "or take a host with VMX or SVM, or switch nested virtualisation on where this machine is hosted");
		return;
	case KVM_NO_PERMISSION:
		report_permission(to, facts);
		return;
	default:
		line(to, "KVM", "no", facts->kvm_problem ? facts->kvm_problem : "/dev/kvm cannot be used");
	}
	if (facts->cpu_virtualises && !facts->kvm_device)
		advice(to, "the processor has VMX or SVM: sudo modprobe kvm_intel or kvm_amd; in a container, hand it "
			   "/dev/kvm");
	else if (!facts->cpu_virtualises)
		advice(to, "the processor shows neither VMX nor SVM: switch it on in the firmware, or nested "
			   "virtualisation where this machine is hosted");
	advice(to, "without either: tools/kvmbox riffle run ... runs Linux guests in a software-emulated machine");
}

static void report_huge_pages(const struct report *to, enum thp_mode mode)
{
	switch (mode) {
	case THP_ALWAYS:
		line(to, "huge pages", "ok", "transparent huge pages: always");
		return;
	case THP_MADVISE:
		line(to, "huge pages", "ok", "transparent huge pages: madvise, which riffle asks for");
		return;
	case THP_NEVER:
		line(to, "huge pages", "slow",
		     "transparent huge pages are off: a guest with a stock kernel starts up to three times slower");
		advice(to, "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled");
		return;
	default:
		line(to, "huge pages", "slow", "this kernel has no transparent huge pages");
		advice(to, "a host kernel with CONFIG_TRANSPARENT_HUGEPAGE starts guests up to three times faster");
	}
}

static void report_memory(const struct report *to, const struct doctor_facts *facts)
{
	char words[128];

	if (!facts->memory_bytes) {
		line(to, "memory", "?", "/proc/meminfo cannot be read");
		return;
	}
	snprintf(words, sizeof words, "%llu MiB available of %llu MiB",
		 (unsigned long long)(facts->available_bytes / MIB), (unsigned long long)(facts->memory_bytes / MIB));
	line(to, "memory", facts->available_bytes < GUEST_BYTES ? "low" : "ok", words);
	if (facts->available_bytes < GUEST_BYTES)
		advice(to, "a guest gets 256 MiB unless told otherwise: free some, or give --memory");
}

static void report_files(const struct report *to, const struct doctor_facts *facts)
{
	if (facts->prepare_program) {
		line(to, "riffle-prepare", "ok", facts->prepare_program);
	} else {
		line(to, "riffle-prepare", "no", "not found beside riffle or where it was installed");
		advice(to, "without it only prepared kernels run: install it, or build the whole tree");
	}
	if (!facts->cache_directory) {
		line(to, "cache", "slow", "neither XDG_CACHE_HOME nor HOME is set: each run prepares its kernel anew");
		advice(to, "set XDG_CACHE_HOME, or prepare kernels once with riffle prepare");
	} else if (facts->cache_problem) {
		char words[512];

		snprintf(words, sizeof words, "%s: %s", facts->cache_directory, facts->cache_problem);
		line(to, "cache", "slow", words);
		advice(to, "make it a directory of your own, or prepare kernels once with riffle prepare");
	} else {
		line(to, "cache", "ok", facts->cache_directory);
	}
}

static void report_all(const struct report *to, const struct doctor_facts *facts)
{
	report_kvm(to, facts);
	report_huge_pages(to, facts->thp);
	report_memory(to, facts);
	report_files(to, facts);
}

int doctor_report(FILE *to, const struct doctor_facts *facts)
{
	bool well = facts->kvm == KVM_HARDWARE;

	report_all(&(struct report){.to = to}, facts);
	fputs(well ? "\nLinux guests run here.\n" : "\nLinux guests do not run here as it is.\n", to);
	return well ? 0 : 1;
}

int doctor_report_json(FILE *to, const struct doctor_facts *facts)
{
	bool well = facts->kvm == KVM_HARDWARE;
	json_t *matters = json_array();

	if (!matters)
		return 1;
	report_all(&(struct report){.matters = matters}, facts);
	json_t *all = json_pack("{s:b, s:o}", "linux_guests", well, "matters", matters);

	if (all)
		json_dumpf(all, to, JSON_INDENT(2));
	fputc('\n', to);
	json_decref(all);
	return well ? 0 : 1;
}
