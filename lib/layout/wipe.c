/* SPDX-License-Identifier: Apache-2.0 */
/* Overwrites secrets in a way that the compiler cannot remove. */
#include <string.h>

#include <riffle/layout.h>

void riffle_wipe(void *memory, size_t bytes)
{
	if (bytes)
		memset(memory, 0, bytes);
	__asm__ volatile("" : : "r"(memory) : "memory");
}

void riffle_layout_wipe(struct riffle_layout *layout)
{
	uint16_t *order = layout->order;
	uint32_t order_count = layout->order_count, slide_count = layout->slide_count;

	if (order)
		riffle_wipe(order, order_count * sizeof *order);
	riffle_wipe(layout, sizeof *layout);
	layout->order = order;
	layout->order_count = order_count;
	layout->slide_count = slide_count;
}
