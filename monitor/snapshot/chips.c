/* SPDX-License-Identifier: Apache-2.0 */
/* The state of what KVM emulates beside the vCPUs: interrupt controllers, timer, clock. */
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

#include "common/fail.h"
#include "monitor/core/internal.h"
#include "monitor/snapshot/components.h"

static const uint32_t chip_ids[] = {KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC};
enum { CHIPS = sizeof chip_ids / sizeof *chip_ids };

int chips_save(struct vm *vm, struct state_writer *writer, struct riffle_error *error)
{
	struct kvm_irqchip chip;
	struct kvm_pit_state2 pit;
	struct kvm_clock_data clock;

	state_begin(writer, STATE_CHIPS, 0, 1);
	for (unsigned i = 0; i < CHIPS; i++) {
		memset(&chip, 0, sizeof chip);
		chip.chip_id = chip_ids[i];
		if (ioctl(vm->vm_fd, KVM_GET_IRQCHIP, &chip) < 0)
			return riffle_fail_system(error, errno, "KVM_GET_IRQCHIP", "failed");
		state_put_block(writer, &chip, sizeof chip);
	}
	memset(&pit, 0, sizeof pit);
	if (ioctl(vm->vm_fd, KVM_GET_PIT2, &pit) < 0)
		return riffle_fail_system(error, errno, "KVM_GET_PIT2", "failed");
	state_put_block(writer, &pit, sizeof pit);
	memset(&clock, 0, sizeof clock);
	if (ioctl(vm->vm_fd, KVM_GET_CLOCK, &clock) < 0)
		return riffle_fail_system(error, errno, "KVM_GET_CLOCK", "failed");
	state_put64(writer, clock.clock);
	state_put64(writer, clock.flags & KVM_CLOCK_REALTIME ? clock.realtime : 0);
	state_end(writer);
	return 0;
}

static void get_chip(struct state_reader *reader, struct kvm_irqchip *chip, uint32_t id)
{
	static const char *const names[CHIPS] = {"pic master", "pic slave", "ioapic"};
	size_t bytes = state_get_block(reader, names[id], chip, sizeof *chip);

	if (bytes != sizeof *chip || chip->chip_id != id)
		state_refuse(reader, names[id], "is not this chip's state", bytes);
}

static int set_clock(struct vm *vm, uint64_t clock, uint64_t realtime, bool advance, struct riffle_error *error)
{
	struct kvm_clock_data data = {.clock = clock};

	if (advance && realtime) {
		data.flags = KVM_CLOCK_REALTIME;
		data.realtime = realtime;
	} else if (advance) {
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "clock_realtime",
				   "the snapshot does not tell when it was taken: its host's KVM was too old");
	}
	if (ioctl(vm->vm_fd, KVM_SET_CLOCK, &data) >= 0)
		return 0;
	if (advance && errno == EINVAL)
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "clock_realtime",
				   "this host's KVM cannot advance the guest's clock (Linux 5.16 can)");
	return riffle_fail_system(error, errno, "KVM_SET_CLOCK", "failed");
}

int chips_restore(struct vm *vm, const struct state_file *file, bool advance_clock, struct riffle_error *error)
{
	struct kvm_irqchip chips[CHIPS];
	struct kvm_pit_state2 pit;
	struct state_reader reader;
	int status;

	if (!state_section(file, STATE_CHIPS, 0, &reader))
		return state_missing("chips", error);
	memset(chips, 0, sizeof chips);
	for (unsigned i = 0; i < CHIPS; i++)
		get_chip(&reader, &chips[i], chip_ids[i]);
	if (state_get_block(&reader, "pit", &pit, sizeof pit) != sizeof pit)
		state_refuse(&reader, "pit", "has another size than KVM's", 0);
	uint64_t clock = state_get64(&reader, "clock"), realtime = state_get64(&reader, "realtime");

	if ((status = state_close_section(&reader, error)))
		return status;
	for (unsigned i = 0; i < CHIPS; i++)
		if (ioctl(vm->vm_fd, KVM_SET_IRQCHIP, &chips[i]) < 0)
			return riffle_fail_system(error, errno, "KVM_SET_IRQCHIP", "failed");
	if (ioctl(vm->vm_fd, KVM_SET_PIT2, &pit) < 0)
		return riffle_fail_system(error, errno, "KVM_SET_PIT2", "failed");
	return set_clock(vm, clock, realtime, advance_clock, error);
}
