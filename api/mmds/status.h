/* SPDX-License-Identifier: Apache-2.0 */
/* Results of operations on the metadata store. */
#ifndef RIFFLE_API_MMDS_STATUS_H
#define RIFFLE_API_MMDS_STATUS_H

enum mmds_status {
	MMDS_OK,
	MMDS_TOO_LARGE,  /* longer than the limit as compact JSON; the store is unchanged */
	MMDS_NOT_SET,    /* nothing has been stored yet that could be changed */
	MMDS_NOT_FOUND,  /* no value is at this path */
	MMDS_WRONG_TYPE, /* the value has no IMDS text: neither an object nor a string */
	MMDS_BAD_JSON,
	MMDS_NO_MEMORY,
};

#endif
