/* SPDX-License-Identifier: Apache-2.0 */
/* Where a loader enters the stage in 64-bit mode, with the zero page in RSI; and where the stage leaves to the kernel. */
#include "stage/stage.h"

	.section .head, "ax"
	.code32
	.globl stage_start
stage_start:
	/* the 32-bit entry, which is not offered */
	cli
1:	hlt
	jmp	1b

	.org	STAGE_DESCRIPTOR
descriptor:
	.fill	48, 1, 0

	.org	STAGE_ENTRY_64
	.code64
	cli
	cld
	leaq	stage_start(%rip), %rdi
	leaq	descriptor(%rip), %rdx
	movq	STAGE_WORK_OFFSET(%rdx), %rbx
	addq	%rdi, %rbx
	leaq	STAGE_STACK_BYTES(%rbx), %rsp
	movq	STAGE_WORK_BYTES(%rdx), %rbp
	movq	%rsi, %r12
	call	stage_main
	/* the kernel's entry is in RAX; what else knew the layout goes: work area, with this stack, and registers */
	movq	%rax, %rdx
	movq	%rbx, %rdi
	movq	%rbp, %rcx
	shrq	$3, %rcx
	xorl	%eax, %eax
	rep stosq
	movq	%r12, %rsi
	xorl	%ebx, %ebx
	xorl	%edi, %edi
	xorl	%ebp, %ebp
	xorl	%r8d, %r8d
	xorl	%r9d, %r9d
	xorl	%r10d, %r10d
	xorl	%r11d, %r11d
	xorl	%r12d, %r12d
	xorl	%r13d, %r13d
	xorl	%r14d, %r14d
	xorl	%r15d, %r15d
	jmp	*%rdx

	.section .note.GNU-stack, "", @progbits
