/* SPDX-License-Identifier: Apache-2.0 */
/* How libriffle reports errors. */
#ifndef RIFFLE_ERROR_H
#define RIFFLE_ERROR_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define RIFFLE_PUBLIC __attribute__((visibility("default")))
#define RIFFLE_MUST_CHECK __attribute__((warn_unused_result)) /* the output is valid only after success */
#else
#define RIFFLE_PUBLIC
#define RIFFLE_MUST_CHECK
#endif

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Every library function that can fail returns one of these (0 is success) and, unless its last argument is NULL, fills
 * in the struct riffle_error given there. After a failure no output is valid, nothing is left allocated, and guest
 * memory may hold part of a kernel: do not run it.
 */
enum riffle_status {
	RIFFLE_OK = 0,
	RIFFLE_ERR_ARGUMENT,    /* an invalid argument: an error in the caller */
	RIFFLE_ERR_FORMAT,      /* the input's bytes contradict its format */
	RIFFLE_ERR_UNSUPPORTED, /* well formed, but not supported by this version */
	RIFFLE_ERR_SPACE,       /* does not fit into the guest's memory or its address window */
	RIFFLE_ERR_CHECKSUM,    /* bytes differ from those stored when the file was made */
	RIFFLE_ERR_TRUST,       /* the file's owner or mode lets somebody else change it */
	RIFFLE_ERR_CHANGED,     /* the file shrank or changed while it was read */
	RIFFLE_ERR_IO,          /* a system call failed: see sys_errno */
	RIFFLE_ERR_MEMORY,      /* out of host memory */
	RIFFLE_ERR_RANDOM,      /* the random source failed */
};

/*
 * One error, in parts. `field` and `problem` point to static strings (never to allocated memory, never NULL after a
 * failure); `found` and `expected` are valid only if has_found and has_expected say so. The library does not know file
 * names: a caller that has one prepends it to the output of riffle_error_format().
 */
struct riffle_error {
	enum riffle_status status;
	int sys_errno;       /* 0, or the errno of the system call that failed */
	const char *field;   /* what was checked, by its name in the format: "e_machine", "plan_bytes" */
	const char *problem; /* what is wrong with it: "reaches past the end of the file" */
	uint64_t found;
	uint64_t expected; /* the value or the limit that was expected */
	unsigned char has_found;
	unsigned char has_expected;
	unsigned char reserved_zero[6 + 16];
};

/* Values of has_found and has_expected if there is a value: how to print it. */
enum riffle_show {
	RIFFLE_SHOW_NUMBER = 1, /* small ones in decimal, others in hexadecimal */
	RIFFLE_SHOW_HEX,        /* magic numbers and bits */
	RIFFLE_SHOW_VERSION,    /* major in bits 8 and up, minor below: 0x20c is 2.12 */
};

/*
 * Writes one line without a line feed: `FIELD: PROBLEM (found F, expected E): SYSTEM ERROR`, omitting parts that do not
 * apply. Always terminates `text` with NUL if bytes > 0, truncating longer lines. Not in the freestanding build.
 */
RIFFLE_PUBLIC void riffle_error_format(const struct riffle_error *error, char *text, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
