/* SPDX-License-Identifier: Apache-2.0 */
/* riffle doctor: looks at what this host offers a microVM, and says what to do about what is missing. */
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/commands/doctor_report.h"
#include "host/input.h"
#include "host/shown.h"
#include "kernel/cache.h"
#include "kernel/spawn.h"

#define LEAF1_ECX_VMX (1u << 5)
#define EXT1_ECX_SVM (1u << 2)

static const char help[] =
    "Usage: riffle doctor [--json]\n"
    "\n"
    "Reports what this host offers: a KVM that virtualises in hardware, one that only emulates, or none;\n"
    "huge pages, memory, permissions; with advice for each problem.\n"
    "\n"
    "      --json   as JSON\n"
    "  -h, --help   this text\n"
    "\n"
    "Exit code: 0 Linux guests can run at hardware speed, 1 they cannot, 2 wrong usage.\n";

/* Reads a small file of /proc or /sys; empty when it cannot be read. */
static void read_text(char *text, size_t room, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t used = 0;
	ssize_t n;

	while (fd >= 0 && used < room - 1 && (n = read(fd, text + used, room - 1 - used)) > 0)
		used += (size_t)n;
	text[used] = 0;
	if (fd >= 0)
		close(fd);
}

static bool cpu_virtualises(void)
{
	unsigned eax, ebx, ecx, edx;

	if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) && ecx & LEAF1_ECX_VMX)
		return true;
	return __get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) && ecx & EXT1_ECX_SVM;
}

static void look_at_kvm(struct doctor_facts *facts, char *problem, size_t room)
{
	struct riffle_error error;
	const struct passwd *user;
	const struct group *group;
	struct stat st;

	facts->kvm = vm_probe_kvm(&error);
	if (facts->kvm != KVM_HARDWARE) {
		riffle_error_format(&error, problem, room);
		facts->kvm_problem = problem;
	}
	facts->cpu_virtualises = cpu_virtualises();
	facts->in_kvmbox = getenv("KVMBOX") != NULL;
	if (!stat("/dev/kvm", &st)) {
		facts->kvm_device = true;
		group = getgrgid(st.st_gid);
		facts->kvm_group = group ? group->gr_name : NULL;
	}
	user = getpwuid(geteuid());
	facts->user = user ? user->pw_name : NULL;
}

/* The cache is made when it is needed: the nearest directory above it that is there has to allow that. */
static void look_at_cache(struct doctor_facts *facts, char *directory, size_t room)
{
	char above[4096];
	char *slash;

	if (!cache_directory(directory, room, NULL))
		return;
	facts->cache_directory = directory;
	snprintf(above, sizeof above, "%s", directory);
	while (access(above, F_OK) && errno == ENOENT && (slash = strrchr(above, '/')) && slash != above)
		*slash = 0;
	if (access(above, W_OK | X_OK))
		facts->cache_problem = strerror(errno);
}

int command_doctor(int argc, char **argv)
{
	char problem[512], thp[128], meminfo[8192], program[4096], cache[2048];
	struct doctor_facts facts = {0};
	bool json = false;
	int code;

	if (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		fputs(help, stdout);
		return EXIT_SUCCESS;
	}
	if (argc == 2 && !strcmp(argv[1], "--json")) {
		json = true;
	} else if (argc > 1) {
		fprintf(stderr, "riffle doctor: '%s' is not understood; riffle doctor --help shows more\n",
			SHOWN(argv[1]));
		return EXIT_USAGE;
	}
	look_at_kvm(&facts, problem, sizeof problem);
	read_text(thp, sizeof thp, "/sys/kernel/mm/transparent_hugepage/enabled");
	facts.thp = doctor_parse_thp(thp);
	read_text(meminfo, sizeof meminfo, "/proc/meminfo");
	facts.memory_bytes = doctor_parse_meminfo(meminfo, "MemTotal");
	facts.available_bytes = doctor_parse_meminfo(meminfo, "MemAvailable");
	if (find_prepare_program(program, sizeof program))
		facts.prepare_program = program;
	look_at_cache(&facts, cache, sizeof cache);
	/* what a failure is told by is the report: lost, it says so even where the answer is a failure */
	code = json ? doctor_report_json(stdout, &facts) : doctor_report(stdout, &facts);
	return with_output(EXIT_SUCCESS) ? EXIT_FAILURE : code;
}
