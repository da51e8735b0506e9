/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the bytes of a prepared kernel in its packed form, where extents follow each other without holes. */
#include "stage/package.h"

#include "common/bytes.h"
#include "common/fail.h"

int stage_package_open(struct stage_package *package, struct riffle_plan *plan, const void *bytes, uint64_t count,
		       bool shuffle, struct riffle_error *error)
{
	const struct riffle_header *h = bytes;
	uint64_t end;
	int status;

	if (count < sizeof *h)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "package", "is too short", count, sizeof *h);
	if (h->plan_bytes > RIFFLE_PLAN_MAX || !riffle_inside(sizeof *h, h->plan_bytes, count))
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "plan_bytes", "reaches past the package's end",
					    h->plan_bytes, count);
	if (h->base_bytes > h->plan_bytes)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "base_bytes", "is more than the plan",
					    h->base_bytes, h->plan_bytes);
	end = sizeof *h + h->plan_bytes;
	status = riffle_plan_check(plan, h, (const uint8_t *)bytes + sizeof *h,
				   (size_t)(shuffle ? h->plan_bytes : h->base_bytes), h->file_bytes, error);
	if (status)
		return status;
	for (uint32_t i = 0; i < plan->extent_count; i++)
		end += plan->extents[i].bytes;
	if (end != count)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "package",
					    "is not as long as header, plan and extents", count, end);
	*package = (struct stage_package){.bytes = bytes, .count = count, .plan = plan};
	return RIFFLE_OK;
}

/* Extents ascend and are as many as fit the count (both checked); what lies between them is zero. */
static int read_packed(void *opaque, uint64_t offset, void *buffer, size_t bytes, struct riffle_error *error)
{
	const struct stage_package *p = opaque;
	const struct riffle_plan *plan = p->plan;
	uint64_t packed = sizeof *plan->header + plan->header->plan_bytes;
	uint8_t *to = buffer;

	if (offset < plan->header->payload_offset || !riffle_inside(offset, bytes, plan->header->file_bytes))
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "payload", "is read outside its bounds", offset,
					    plan->header->file_bytes);
	for (uint32_t i = 0; i < plan->extent_count && bytes; i++) {
		const struct riffle_extent *e = &plan->extents[i];
		uint64_t part;

		if (e->file_offset + e->bytes > offset) {
			if (e->file_offset > offset) {
				part = e->file_offset - offset < bytes ? e->file_offset - offset : bytes;
				memset(to, 0, part);
				to += part, offset += part, bytes -= part;
			}
			part = e->file_offset + e->bytes - offset;
			part = part < bytes ? part : bytes;
			if (part) {
				memcpy(to, p->bytes + packed + (offset - e->file_offset), part);
				to += part, offset += part, bytes -= part;
			}
		}
		packed += e->bytes;
	}
	memset(to, 0, bytes);
	return RIFFLE_OK;
}

struct riffle_source stage_package_source(struct stage_package *package)
{
	return (struct riffle_source){
	    .read = read_packed, .opaque = package, .bytes = package->plan->header->file_bytes};
}
