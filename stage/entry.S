/* SPDX-License-Identifier: Apache-2.0 */
/* Where a loader enters the stage or the stub, by the 64-bit boot protocol or by PVH, and where they enter the kernel. */
#include "stage/stage.h"

/* An address while the image lies at STAGE_ELF_BASE: a number, so that nothing needs relocation. */
#define AT(symbol) (STAGE_ELF_BASE + (symbol) - stage_start)

#define CR0_PE_PG 0x80000001
#define CR4_PAE 0x20
#define MSR_EFER 0xc0000080
#define EFER_LME 0x100
#define TABLE 0x003		/* present, writable */
#define LEAF 0x083		/* the same, 2 MiB */
#define ZERO_PAGE_SCRATCH 0x1e4
#define COM1 0x3f8
#define COM1_EMPTY 0x20		/* its line status: a byte can be sent */
#define COM1_TRIES 100000
#define KEYBOARD 0x64
#define KEYBOARD_RESET 0xfe
#define KEYBOARD_WAIT 1000000
#define BOOT_CS 0x10		/* boot.rst: __BOOT_CS and __BOOT_DS */
#define BOOT_DS 0x18

	.section .head, "ax"
	.code32
	.globl stage_start
stage_start:
	/* the boot protocol's 32-bit entry, which is not offered: kexec -l takes it nevertheless */
	cli
	cld
	jmp	refuse

	.org	STAGE_DESCRIPTOR
descriptor:

	.org	STAGE_STUB_KERNEL

/*
 * PVH (Xen's public headers, arch-x86/hvm/start_info.h): 32-bit, flat segments, no paging, no stack, EBX: start info.
 * The identity map of 4 GiB that is built here lasts until C has seen how much memory there is.
 */
	.org	STAGE_ENTRY_PVH
	cli
	cld
	movl	AT(descriptor) + STAGE_WORK_OFFSET, %ebp
	addl	$(STAGE_ELF_BASE + STAGE_STACK_BYTES), %ebp
	movl	%ebp, %edi
	movl	$(STAGE_FIRST_TABLES_BYTES / 4), %ecx
	xorl	%eax, %eax
	rep stosl
	leal	(STAGE_PAGE + TABLE)(%ebp), %eax
	movl	%eax, (%ebp)
	leal	STAGE_PAGE(%ebp), %edi
	movl	$4, %ecx
1:	addl	$STAGE_PAGE, %eax
	movl	%eax, (%edi)
	addl	$8, %edi
	loop	1b
	leal	(2 * STAGE_PAGE)(%ebp), %edi
	movl	$LEAF, %eax
	movl	$(4 * 512), %ecx
1:	movl	%eax, (%edi)
	addl	$0x200000, %eax
	addl	$8, %edi
	loop	1b
	lgdt	AT(gdt_register)
	movl	%cr4, %eax
	orl	$CR4_PAE, %eax
	movl	%eax, %cr4
	movl	%ebp, %cr3
	movl	$MSR_EFER, %ecx
	rdmsr
	orl	$EFER_LME, %eax
	wrmsr
	movl	%cr0, %eax
	orl	$CR0_PE_PG, %eax
	movl	%eax, %cr0
	ljmp	$BOOT_CS, $AT(long_mode)

	.org	STAGE_ENTRY_64
	.code64
	cli
	cld
	xorl	%ecx, %ecx
	xorl	%r8d, %r8d
	leaq	descriptor(%rip), %rdx
entered:
	/* zero page in RSI, descriptor in RDX, PVH's start info in RCX, whether it was PVH in R8 */
	leaq	stage_start(%rip), %rdi
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

long_mode:
	movl	$BOOT_DS, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	xorl	%eax, %eax
	movl	%eax, %fs
	movl	%eax, %gs
	leaq	descriptor(%rip), %rdx
	leaq	stage_start(%rip), %rsi
	addq	STAGE_ZERO_PAGE_OFFSET(%rdx), %rsi
	movl	%ebx, %ecx
	movl	$1, %r8d
	jmp	entered

	.code32
refuse:
	/* the zero page's scratch field is the stack, as for the same purpose in Linux: where does this lie? */
	leal	(ZERO_PAGE_SCRATCH + 4)(%esi), %esp
	call	1f
1:	popl	%esi
	leal	(refusal - 1b)(%esi), %esi
1:	lodsb
	testb	%al, %al
	jz	3f
	movb	%al, %bl
	movw	$(COM1 + 5), %dx
	movl	$COM1_TRIES, %ecx
2:	inb	%dx, %al
	testb	$COM1_EMPTY, %al
	loopz	2b
	movw	$COM1, %dx
	movb	%bl, %al
	outb	%al, %dx
	jmp	1b
	/* as stage_give_up() does */
3:	movb	$KEYBOARD_RESET, %al
	outb	%al, $KEYBOARD
	movl	$KEYBOARD_WAIT, %ecx
4:	pause
	loop	4b
	pushl	$0
	pushl	$0
	lidt	(%esp)
	ud2
refusal:
	.asciz	"riffle stage: entry: this kernel has no 32-bit entry: the loader must use the 64-bit one\r\n"

	.balign	8
gdt:
	.quad	0, 0
	.quad	0x00af9a000000ffff	/* BOOT_CS: 64-bit code */
	.quad	0x00cf92000000ffff	/* BOOT_DS: flat data */
gdt_register:
	.word	gdt_register - gdt - 1
	.long	AT(gdt)

	.section .note.GNU-stack, "", @progbits
