/* SPDX-License-Identifier: Apache-2.0 */
/* A machine's internals, only for the files of machine/. */
#ifndef RIFFLE_MACHINE_INTERNAL_H
#define RIFFLE_MACHINE_INTERNAL_H

#include <stdatomic.h>

#include "host/entropy.h"
#include "host/mode.h"
#include "kernel/kernel.h"
#include "machine/debug.h"
#include "machine/devices.h"
#include "machine/machine.h"
#include "machine/snapshot.h"
#include "monitor/bus/bus.h"
#include "monitor/bus/irq.h"
#include "monitor/core/thread.h"
#include "monitor/event/loop.h"
#include "monitor/platform/cmos.h"
#include "monitor/platform/command.h"
#include "monitor/platform/console.h"
#include "monitor/platform/generation.h"
#include "monitor/platform/i8042.h"
#include "monitor/platform/output.h"
#include "monitor/platform/power.h"
#include "monitor/platform/serial.h"
#include "monitor/snapshot/uffd.h"

#define CONSOLE_INPUT_BYTES 1024u
#define RESERVED_MAX 40u
#define SNAPSHOT_CLIENTS_MAX 8u

/* The console as the event loop serves it: input to the guest, and the reader or connection on the host. */
struct machine_console {
	struct console terminal; /* for the input; most kinds of console have no terminal */
	int in_fd, out_fd;       /* -1: none; the process's own with stdio */
	int listen_fd, held_fd;  /* a listening socket; the end of a pty that is kept open for its readers */
	char pty_name[64];
	bool owns_fds;
	bool closed; /* end of input was reached */
	struct loop_source input, listener;
	struct loop_task feed, reader_left, output_finished;
	uint8_t bytes[CONSOLE_INPUT_BYTES + 1]; /* read but not yet taken by the guest */
	unsigned count;
};

/* The host's end of the command channel: the process's own standard streams. */
struct machine_command {
	struct command device;
	struct command_host host;
	struct console terminal; /* of stdin, when stdout is one too */
	struct output streams[COMMAND_STREAMS];
	struct loop_source input;
	struct loop_task feed;
	bool input_closed, input_added;
	bool ring_refused;  /* COM1 has not accepted the byte yet */
	unsigned at, count; /* input read and not yet taken */
	uint8_t bytes[4096 + 1];
	uint32_t status; /* 0: none yet */
};

struct machine {
	struct machine_config config;
	struct machine_observer observer;
	struct phases *phases;
	const char *blame;
	char words[MODE_REASON_BYTES]; /* an error's problem text, if not constant */

	struct vm *vm;
	int kvm_fd; /* until the VM takes it */
	struct loop loop;
	struct bus bus;
	struct platform platform;
	struct irq irq_com1, irq_keyboard, irq_generation;
	struct serial serial;
	struct i8042 i8042;
	struct cmos cmos;
	struct power power;
	struct boot_timer boot_timer;
	struct output output;
	struct pool *pool; /* of the load, which is the first vCPU's thread's */
	struct machine_devices devices;
	struct machine_console console;
	struct machine_command command;
	struct machine_debug debug;
	int dump_fd; /* -1: none, or used */

	uint8_t layout_id[16]; /* drawn with the layout, and inherited by every guest made from its snapshots */
	uint8_t save_id[MACHINE_ID_BYTES]; /* of the save that changes are relative to: the last one, or the one that
					      was loaded */
	bool has_save;
	int pagemap_fd; /* with config.can_save; -1: not accessible on this host */
	struct {
		int listen_fd;
		struct loop_source listener;
		struct snapshot_client {
			struct machine *machine; /* NULL: this slot is free */
			int fd;
			uint64_t heard_at; /* when it connected or sent something */
			struct loop_source source;
			struct loop_timer patience; /* expires if it sends nothing */
		} clients[SNAPSHOT_CLIENTS_MAX];
	} snapshot;
	struct loop_task save_at_mark;
	struct riffle_error save_error; /* why that failed */
	/* for a machine restored from a snapshot */
	bool restored, start_paused;
	const struct guest_memory_file *memory_file; /* until the VM has it */
	void *description_owner;                     /* json_t: strings of config */
	struct uffd uffd;

	/* while it is built */
	struct opened_kernel kernel;
	bool kernel_opened;
	struct riffle_machine description;
	struct entropy entropy;
	uint8_t rng_seed[32];
	struct riffle_range reserved[RESERVED_MAX];
	struct riffle_memory memory;
	int initrd_fd;
	uint64_t initrd_offset; /* in that file: of a unified kernel image's */
	struct riffle_layout layout;
	struct riffle_loaded loaded;
	struct machine_randomisation randomisation;
	struct riffle_boot_registers registers;
	uint16_t
	    *order; /* layout.order, followed by the workspace of a shuffled load; released before the guest runs */
	void *workspace;
	size_t workspace_bytes, shuffle_bytes;
	bool shuffle_mapped; /* these have their own mapping, not part of the plan's */

	/* while it runs */
	struct signal_state signals;
	sigset_t taken_signals;
	int signal_fd;
	struct loop_source signal_source;
	struct loop_task ended;
	struct loop_timer halt_timer, drain_timer, running_timer;
	uint64_t halt_cpu_ns, halt_checked_ns;
	uint64_t drain_progress, drain_since;
	int end_signal;
	bool give_up; /* the user asked to quit: do not wait for a stopped reader */
	bool draining;
};

/* The process's terminal, raw while the guest runs. */
static inline struct console *machine_terminal(struct machine *m)
{
	return m->config.command ? &m->command.terminal : &m->console.terminal;
}

void machine_notice(const struct machine *m, const char *text);
static inline bool machine_is_off(const struct machine *m)
{
	return m->config.layout.mode == RIFFLE_MODE_OFF;
}

/* the steps of build.c; all return a status, fill in *error, and set m->blame to the file concerned */
int machine_open_kernel(struct machine *m, struct riffle_error *error);
int machine_choose_mode(struct machine *m, struct riffle_error *error);
int machine_choose_layout(struct machine *m, struct riffle_error *error);
void machine_announce(struct machine *m);
/* What happens in the loop when the VM has ended, which a vCPU may tell before the machine runs. */
void machine_prepare_end(struct machine *m);
int machine_write_layout(struct machine *m, struct riffle_error *error);
int machine_load_kernel(struct machine *m, struct riffle_error *error);
void machine_give_shuffle_memory(struct machine *m);
int machine_place_initrd(struct machine *m, const struct riffle_plan *plan, struct riffle_error *error);
int machine_load_initrd(struct machine *m, struct riffle_error *error);
int machine_load_bootstrap(struct machine *m, struct riffle_error *error);

/* Opens /dev/kvm and checks whether it can run such a machine. *kvm_fd may be open after an error too. */
int machine_check_kvm(int *kvm_fd, const struct machine_config *config, struct riffle_error *error);
/* The same, once, for the machine. */
int machine_ask_kvm(struct machine *m, struct riffle_error *error);
int machine_open_vm(struct machine *m, struct riffle_error *error);

int machine_console_open(struct machine *m, struct riffle_error *error);
int machine_console_start(struct machine *m, struct riffle_error *error);
void machine_console_watch(struct machine *m);
void machine_console_close(struct machine *m);
int machine_dump_open(struct machine *m, struct riffle_error *error);
/* The dump key was pressed on the console. */
void machine_dump_by_key(struct machine *m);

/* None of these does anything for a machine that runs no command. */
int machine_command_open(struct machine *m, struct riffle_error *error);
int machine_command_start(struct machine *m, struct riffle_error *error);
void machine_command_watch(struct machine *m);
void machine_command_resize(struct machine *m);
void machine_command_finish(struct machine *m);
bool machine_command_finished(struct machine *m);
uint64_t machine_command_progress(struct machine *m);
int machine_command_stop(struct machine *m);
void machine_command_close(struct machine *m);
/* COM1 can take a byte again: retries a ring that it refused. */
void machine_command_ring_again(struct machine *m);

#endif
