/* SPDX-License-Identifier: Apache-2.0 */
/* The findings of `riffle doctor` about a host, and their report. */
#ifndef RIFFLE_CLI_COMMANDS_DOCTOR_REPORT_H
#define RIFFLE_CLI_COMMANDS_DOCTOR_REPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "monitor/core/vm.h"

/* The modes of transparent huge pages (/sys/kernel/mm/transparent_hugepage/enabled). */
enum thp_mode { THP_UNKNOWN, THP_ALWAYS, THP_MADVISE, THP_NEVER };

struct doctor_facts {
	enum kvm_kind kvm;
	const char *kvm_problem; /* one line, if kvm is not KVM_HARDWARE */
	bool kvm_device;         /* there is a /dev/kvm */
	bool cpu_virtualises;    /* CPUID shows VMX or SVM */
	bool in_kvmbox;          /* this is tools/kvmbox's machine */
	const char *kvm_group;   /* group of /dev/kvm, NULL when unknown */
	const char *user;        /* who runs this, NULL when unknown */
	enum thp_mode thp;
	uint64_t memory_bytes;       /* of the host; 0 when unknown */
	uint64_t available_bytes;    /* available to programs now */
	const char *prepare_program; /* path of riffle-prepare, NULL when there is none */
	const char *cache_directory; /* where prepared kernels are kept, NULL if HOME is not set */
	const char *cache_problem;   /* why it cannot be used, NULL if it can */
};

/* The word in brackets of "always [madvise] never". */
enum thp_mode doctor_parse_thp(const char *text);
/* A line such as "MemTotal:  16309844 kB" of /proc/meminfo, in bytes; 0 when there is none. */
uint64_t doctor_parse_meminfo(const char *text, const char *field);

/*
 * Writes one line for each matter, with advice where something is wrong. Returns the exit code: 0 if Linux guests can
 * run at hardware speed, otherwise 1.
 */
int doctor_report(FILE *to, const struct doctor_facts *facts);
/*
 * The same as JSON: {"linux_guests": bool, "matters": [{"matter", "state", "text", "advice": [...]}]}, with the state
 * in the words of the lines (ok, no, slow, low, ?).
 */
int doctor_report_json(FILE *to, const struct doctor_facts *facts);

#endif
