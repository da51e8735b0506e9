/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command channel: 32 I/O ports by which the init in a guest and the monitor pass the standard streams of the
 * guest's command and its status. Unlike a UART it is binary, carries the end of input, and keeps output and errors
 * apart.
 *
 * Registers are 32 bits wide. Read byte by byte, a register's first byte fixes the other three; written byte by byte,
 * the last one makes the value count. The data ports take and give 1, 2 or 4 bytes of the stream at each access,
 * whatever its offset in the register. Do not read them with string instructions: KVM reads ahead for INS, and loses
 * that data if storing it faults.
 */
#ifndef RIFFLE_GUEST_CHANNEL_H
#define RIFFLE_GUEST_CHANNEL_H

#define CHANNEL_PORT 0x620u
#define CHANNEL_PORTS 32u

#define CHANNEL_MAGIC 0x00    /* read: CHANNEL_MAGIC_VALUE */
#define CHANNEL_STATE 0x04    /* read: flags below; asks for a ring at the next event */
#define CHANNEL_IN_COUNT 0x08 /* read: bytes of input that IN_DATA has now */
#define CHANNEL_IN_DATA 0x0c  /* read: input; zeros beyond IN_COUNT */
#define CHANNEL_OUT 0x10      /* read: bytes that may be written now; written: standard output */
#define CHANNEL_ERR 0x14      /* the same for standard error */
#define CHANNEL_STATUS 0x18   /* written: CHANNEL_STATUS_*; ends the machine */
#define CHANNEL_WINDOW 0x1c   /* read: rows << 16 | columns of the terminal, 0: unknown; written: asks for a ring now */

#define CHANNEL_MAGIC_VALUE 0x314e4843u /* "CHN1" */

#define CHANNEL_IN_END 1u   /* input has ended, and all of it was read */
#define CHANNEL_OUT_GONE 2u /* standard output has no reader any more: writes are dropped */
#define CHANNEL_ERR_GONE 4u

/*
 * A ring is one byte, of any value, that COM1 receives when input, room, window or a flag has changed since STATE was
 * read. COM1 has no other input while a command runs.
 */

/* CHANNEL_STATUS: kind << 16 | value. Any other kind is ignored. */
#define CHANNEL_STATUS_EXITED 1u       /* value: 0 to 255 */
#define CHANNEL_STATUS_SIGNALED 2u     /* value: the guest's signal number, 1 to 64 */
#define CHANNEL_STATUS_NOT_FOUND 3u    /* value: errno of the last attempt to run the command */
#define CHANNEL_STATUS_CANNOT_RUN 4u   /* value: errno */
#define CHANNEL_STATUS_NO_DIRECTORY 5u /* value: errno of entering the working directory */
#define CHANNEL_STATUS_INIT_FAILED 6u  /* value: errno; init printed details on the console */

#endif
