/* SPDX-License-Identifier: Apache-2.0 */
/* A running machine's memory and registers as an ELF core file. */
#include "machine/dump.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/fail.h"
#include "host/mode.h"
#include "machine/internal.h"

static int read_registers(const struct machine *m, struct core_vcpu *vcpus, struct riffle_error *error)
{
	for (unsigned i = 0; i < vm_vcpus(m->vm); i++) {
		int fd = vm_vcpu_descriptor(m->vm, i);

		if (ioctl(fd, KVM_GET_REGS, &vcpus[i].regs) < 0 || ioctl(fd, KVM_GET_SREGS, &vcpus[i].sregs) < 0)
			return riffle_fail_system(error, errno, "registers", "cannot be read");
	}
	return 0;
}

static int write_core(struct machine *m, int fd, struct core_result *result, struct riffle_error *error)
{
	struct core_source source = {.memory = *vm_memory(m->vm), .vcpu_count = vm_vcpus(m->vm)};
	struct core_vcpu *vcpus = calloc(source.vcpu_count, sizeof *vcpus);
	int status;

	if (!vcpus)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "registers", "need more memory than there is");
	source.vcpus = vcpus;
	status = read_registers(m, vcpus, error);
	if (!status)
		status = core_file_write(fd, &source, result, error);
	free(vcpus);
	return status;
}

int machine_dump(struct machine *m, int fd, struct core_result *result, struct riffle_error *error)
{
	bool was_running = vm_state(m->vm) == VM_RUNNING;
	enum riffle_mode mode;
	int status;

	*result = (struct core_result){0};
	if (!m->config.can_save)
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "dump", "this machine was not made to be saved");
	if ((status = machine_control(m, MACHINE_PAUSE, error)))
		return status;
	status = write_core(m, fd, result, error);
	if (m->randomisation.mode)
		mode_parse(m->randomisation.mode, &mode, &result->slid);
	if (was_running)
		machine_control(m, MACHINE_RESUME, NULL);
	return status;
}

/* Before the machine is confined, so that it can write there when it is. */
int machine_dump_open(struct machine *m, struct riffle_error *error)
{
	if (!m->config.dump_path)
		return 0;
	m->dump_fd = open(m->config.dump_path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (m->dump_fd >= 0)
		return 0;
	m->blame = m->config.dump_path;
	return riffle_fail_system(error, errno, "dump", "cannot be created");
}

/* The console's key: once, into the file that was opened for it. */
void machine_dump_by_key(struct machine *m)
{
	struct core_result result;
	struct riffle_error error;
	char text[300], words[200];

	if (m->dump_fd < 0) {
		machine_notice(m, "no dump: riffle run --dump-out names a file for it, for one dump");
		return;
	}
	if (machine_dump(m, m->dump_fd, &result, &error)) {
		riffle_error_format(&error, words, sizeof words);
		snprintf(text, sizeof text, "the dump failed: %s", words);
	} else {
		snprintf(text, sizeof text, "memory dumped%s%s",
			 result.vmcoreinfo ? "" : ", without VMCOREINFO: the kernel has none yet",
			 result.slid ? "; its sections slid apart, so crash and drgn find no data" : "");
	}
	machine_notice(m, text);
	close(m->dump_fd);
	m->dump_fd = -1;
}
