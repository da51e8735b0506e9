/* SPDX-License-Identifier: Apache-2.0 */
/* The smallest guest: a vmlinux that does nothing, for ever. */
	.globl _start
_start:	pause
	jmp _start
	.section .note.GNU-stack, "", @progbits
