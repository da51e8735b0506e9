/* SPDX-License-Identifier: Apache-2.0 */
/* A whole machine described as plain data, whatever it was read from: command line, JSON file, API, snapshot. */
#ifndef RIFFLE_MACHINE_CONFIG_H
#define RIFFLE_MACHINE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <riffle/boot.h>
#include <riffle/layout.h>

#include "machine/device_config.h"
#include "machine/origin.h"
#include "monitor/core/cpu_config.h"

/*
 * The default command line. riffle-run(1) explains each word and its cost.
 */
#define MACHINE_COMMAND_LINE                                                                                           \
	"console=ttyS0 reboot=panic_warm,k panic=-1 pci=off i8042.noaux i8042.nomux i8042.dumbkbd cryptomgr.notests "  \
	"initcall_blacklist=trace_eval_init"

enum machine_boot {
	MACHINE_BOOT_DIRECT,    /* the monitor loads and randomises the kernel, and enters it */
	MACHINE_BOOT_BOOTSTRAP, /* a bzImage that unpacks and randomises itself */
};

enum machine_console_kind {
	MACHINE_CONSOLE_STDIO, /* stdin and stdout */
	MACHINE_CONSOLE_FILE,  /* output to a file, created or emptied; no input */
	MACHINE_CONSOLE_UNIX,  /* a unix socket that listens at a path; one connection at a time */
	MACHINE_CONSOLE_PTY,   /* a pseudo-terminal, whose name is printed */
	MACHINE_CONSOLE_NONE,
	MACHINE_CONSOLE_KEPT, /* the last part is kept, for machine_console_tail() */
	MACHINE_CONSOLE_FD,   /* output to an open descriptor; no input */
};

/* How the kernel's layout is chosen. */
struct machine_layout {
	bool automatic;        /* the strongest mode that the kernel allows, never below kaslr */
	bool optional;         /* with `automatic`: boot a kernel that cannot be randomised anyway, with a notice */
	enum riffle_mode mode; /* otherwise */
	bool slide;            /* with kaslr or fgkaslr: sections slide apart too */
	bool lazy_tables;      /* with fgkaslr: leave kallsyms and ORC stale */
	bool has_seed;         /* derive the layout from this seed: debugging only */
	uint8_t seed[32];
	const char *replay; /* replay the layout in this file: debugging only; NULL: none */
	const char *out;    /* write the layout to this new file; NULL: nowhere */
};

/* Where a debugger connects; the guest waits for it before its first instruction. Neither: no debugger. */
struct machine_gdb {
	const char *path; /* of a unix socket */
	uint16_t port;    /* TCP, on 127.0.0.1 */
};

/* An initial RAM disk that is generated while it is loaded. */
struct machine_initrd {
	uint64_t bytes;
	/* Writes exactly `bytes` bytes to `memory`; returns 0, or a status with *error filled. */
	int (*fill)(void *opaque, void *memory, uint64_t bytes, struct riffle_error *error);
	void *opaque;
};

/* Strings are owned by whoever fills in the struct and must stay valid until machine_destroy(). */
struct machine_config {
	unsigned vcpus;        /* 1 to 32 */
	uint64_t memory_bytes; /* a multiple of 2 MiB */
	bool smt;              /* requested by an API client: reported back, without effect */
	bool huge_pages;       /* ask for transparent huge pages */
	bool huge_2m;       /* memory of pages of 2 MiB from the host's pool (hugetlbfs); not with a snapshot's file */
	const char *kernel; /* a path, or fd:N */
	const char *relocs; /* vmlinux.relocs of a stripped vmlinux, path or fd:N; NULL: none */
	const char *initrd_path;             /* or fd:N; NULL: none */
	const struct machine_initrd *initrd; /* instead of a path; NULL: none */
	char command_line[RIFFLE_BOOT_CMDLINE_MAX];
	bool command_line_given; /* replaces the default; the one of a unified kernel image is then not added */
	enum machine_boot boot;
	struct machine_layout layout;
	struct {
		enum machine_console_kind kind;
		const char *path; /* of the file or socket */
		int fd;           /* with MACHINE_CONSOLE_FD: owned by the caller */
		bool lossy; /* stdio, file and fd: output that the reader does not accept is lost, oldest first, and the
			       guest never waits. Makes the descriptor non-blocking. */
		struct limiter_bucket_config limit; /* of bytes: the excess is lost; size 0: none */
	} console;
	bool command; /* connect the process's standard streams to the guest's command through the command channel
			 (guest/channel.h); the console is then not on stdio */
	struct machine_devices_config devices;
	struct cpu_config cpu;       /* how the guest's CPUs differ from the host's; all zero: they do not */
	const char *cache_directory; /* of prepared kernels; NULL: the default */
	bool no_cache;
	struct machine_gdb gdb;
	bool boot_timer;       /* the guest may report when its init runs */
	bool accept_emulation; /* run on a /dev/kvm that only emulates */
	bool unconfined;       /* without system call filters: for tests, and under a debugger */
	bool keep_halted;      /* keep a guest that has halted for good, until its controller ends it */
	bool own_signals;      /* the process handles its signals itself: machine_run() takes none but the kick */
	bool timed;            /* counters of machine/counters.h also record durations */
	bool controlled;       /* machine/control.h is used: the event loop may open files while the guest runs */
	bool can_save;         /* machine/snapshot.h is used */
	bool track_dirty;      /* so that snapshots of changes need not search for them */
	bool save_at_mark;     /* save the guest into the files and end it at its boot timer's mark */
	int save_state_fd, save_memory_fd; /* empty, owned by the caller */
	const char *dump_path;             /* a new file for the console's key; NULL: none. With can_save */
	const char *snapshot_socket;       /* where `riffle snapshot` finds it; NULL: nowhere. With can_save */
	const char *vcpu_name;             /* of the vCPUs' threads, before their number; NULL: "vcpu" */
	bool identify;                     /* note in `origin` of which files the machine is made: for a stock */
	struct machine_origin origin;      /* of a machine from a snapshot: what that knows of it */
	const char *front_end; /* UTF-8: what the front end will want to know of a machine made of a snapshot; NULL:
				  nothing */
};

/* The defaults: 1 vCPU, 256 MiB, stdio, automatic layout, MACHINE_COMMAND_LINE; no kernel. */
void machine_config_init(struct machine_config *config);

struct stat;
/*
 * Which of the files that the machine reads (or uses as a disk) this one is, compared by device and inode, as words for
 * a message; NULL: none. To be called before writing to a file that the user named.
 */
const char *machine_config_uses(const struct machine_config *config, const struct stat *file);

/*
 * Sets the command line, or with `append` adds to it after a space, before the part for init (after "--"). Errors:
 * ARGUMENT, with the actual and the maximal length, but not the text.
 */
int machine_config_command_line(struct machine_config *config, const char *text, bool append,
				struct riffle_error *error);

/*
 * The same for kernel words: they go before `--`, which starts init's part, or to the end. Errors: ARGUMENT.
 */
int machine_config_kernel_words(struct machine_config *config, const char *text, struct riffle_error *error);

/*
 * Checks everything that can be checked without opening a file. Errors: ARGUMENT; its field is the member's name as
 * every front end shows it ("memory", "vcpus", "kernel", "layout", "console", "boot", "root", "balloon", "devices").
 */
int machine_config_check(const struct machine_config *config, struct riffle_error *error);

/*
 * Of a config that passed: whether its command line has room for what machine_build() adds of the devices, which is in
 * it afterwards. Errors: ARGUMENT, as machine_config_kernel_words().
 */
int machine_config_check_line(struct machine_config *config, struct riffle_error *error);

#endif
