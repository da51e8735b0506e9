/* SPDX-License-Identifier: Apache-2.0 */
/* The stub of an emitted kernel, which its monitor has put into place: checks that it can stay there, and enters it. */
#include "common/bytes.h"
#include "stage/arrive.h"

uint64_t stage_main(uint8_t *image, uint8_t *zero_page, const struct stage_descriptor *descriptor, uint64_t start_info,
		    uint64_t pvh)
{
	const struct stage_entered entered = {image, zero_page, descriptor, start_info, pvh != 0};
	struct stage_stub_kernel kernel;
	struct stage_place place;
	struct riffle_error error;
	struct riffle_range range;

	memset(&place, 0, sizeof place);
	memcpy(&kernel, image + STAGE_STUB_KERNEL, sizeof kernel);
	memset(image + STAGE_STUB_KERNEL, 0, sizeof kernel);
	range = (struct riffle_range){kernel.address, kernel.bytes};
	if (stage_complete_zero_page(&entered, &error) || stage_see_memory(&place, &entered, &error) ||
	    stage_machine_check(&place.machine, zero_page, &range, &error))
		stage_give_up(&error);
	stage_set_loadflags(zero_page, kernel.loadflags);
	return kernel.entry;
}
