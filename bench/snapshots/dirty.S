/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest with a few bytes in each page of 32 to 240 MiB. With BUSY it then writes to all pages of 64 to 80 MiB, over and
 * over; otherwise it waits for ever.
 */
	.globl _start
_start:	mov $0x2000000, %rdi
fill:	mov %rdi, (%rdi)
	add $0x1000, %rdi
	cmp $0xf000000, %rdi
	jb fill
#ifdef BUSY
again:	mov $0x4000000, %rdi
dirty:	incq (%rdi)
	add $0x1000, %rdi
	cmp $0x5000000, %rdi
	jb dirty
	pause
	jmp again
#else
	cli
wait:	hlt
	jmp wait
#endif
	.section .note.GNU-stack, "", @progbits
