/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest of a few instructions: announces itself and its command line on COM1, tells the boot timer, and then waits for the keyboard. Ctrl-Alt-Del
 * makes it reset the machine by the keyboard controller, as Linux does; it echoes COM1's input, and resets the same way
 * for a "!", halts for good for a "#" and dies of a triple fault for a "^".
 */
	.code64
	.globl _start
_start:
	cli
	lea stack_top(%rip), %rsp
	mov %rsi, %r15				/* the zero page */
	/* the page tables that the monitor made map the first GiB; add 0xc0000000-0xffffffff */
	mov %cr3, %rax
	and $~0xfff, %rax
	mov (%rax), %rbx
	and $~0xfff, %rbx
	lea directory(%rip), %rcx
	mov %rcx, %rdx
	or $3, %rdx
	mov %rdx, 24(%rbx)
	mov $0xc0000083, %eax
	mov %rax, (%rcx)			/* boot timer, virtio */
	mov $0xfee00083, %eax
	mov %rax, (0xfee00000 - 0xc0000000) / 0x200000 * 8(%rcx)
	mov %cr3, %rax
	mov %rax, %cr3

	/* every vector leads to an iretq */
	lea idt(%rip), %rdi
	lea handler(%rip), %rax
	mov $256, %ecx
1:	mov %ax, (%rdi)
	mov %cs, 2(%rdi)
	movw $0x8e00, 4(%rdi)
	mov %rax, %rdx
	shr $16, %rdx
	mov %dx, 6(%rdi)
	movq $0, 8(%rdi)
	add $16, %rdi
	dec %ecx
	jnz 1b
	lea idt(%rip), %rax
	mov %rax, idtr + 2(%rip)
	lidt idtr(%rip)

	/* the PICs: vectors from 0x20, IRQs 1 and 4 only, by the local APIC's LINT0 */
	mov $0x11, %al
	out %al, $0x20
	out %al, $0xa0
	mov $0x20, %al
	out %al, $0x21
	mov $0x28, %al
	out %al, $0xa1
	mov $4, %al
	out %al, $0x21
	mov $2, %al
	out %al, $0xa1
	mov $1, %al
	out %al, $0x21
	out %al, $0xa1
	mov $0xed, %al
	out %al, $0x21
	mov $0xff, %al
	out %al, $0xa1
	mov $0xfee000f0, %eax
	movl $0x1ff, (%rax)
	mov $0xfee00350, %eax
	movl $0x700, (%rax)

	/* the keyboard interrupts, and its scan codes come as they are */
	mov $0x60, %al
	out %al, $0x64
	mov $1, %al
	out %al, $0x60

	/* COM1 interrupts when there is input; OUT2 lets them through */
	mov $0x3fc, %edx
	mov $0x0b, %al
	out %al, %dx
	mov $0x3f9, %edx
	mov $1, %al
	out %al, %dx

	mov $0xc0000000, %eax
	movb $123, (%rax)

	lea command_line(%rip), %rsi
	call print
	mov 0x228(%r15), %esi
	call print
	lea text(%rip), %rsi
	call print
3:	sti
	hlt
	jmp 3b

print:	mov $0x3f8, %edx
2:	lodsb
	test %al, %al
	jz 1f
	out %al, %dx
	jmp 2b
1:	ret

handler:
	push %rax
	push %rdx
4:	mov $0x3fd, %edx
	in %dx, %al
	test $1, %al
	jz 5f
	mov $0x3f8, %edx
	in %dx, %al
	out %al, %dx
	cmp $'!', %al
	je reset
	cmp $'#', %al
	je halted
	cmp $'^', %al
	je fault
	jmp 4b
5:	in $0x64, %al
	test $1, %al
	jz 6f
	in $0x60, %al
	cmp $0x71, %al			/* the Delete key of scan code set 2 */
	je reset
	jmp 5b
6:	mov $0x20, %al
	out %al, $0x20
	pop %rdx
	pop %rax
	iretq

fault:						/* without a way to tell of it */
	lidt nothing(%rip)
	ud2

reset:
	mov $0xfe, %al
	out %al, $0x64
halted:
	cli
	hlt
	jmp halted

command_line:
	.asciz "cmdline="
text:	.asciz "\ntiny guest\n"
	.balign 8
nothing:
	.word 0
	.quad 0
	.balign 8
idtr:	.word 4095
	.quad 0
	.balign 4096
directory:
	.skip 4096
idt:	.skip 4096
	.skip 4096
stack_top:
