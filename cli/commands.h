/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of both programs, and the exit codes they share. */
#ifndef RIFFLE_CLI_COMMANDS_H
#define RIFFLE_CLI_COMMANDS_H

/* Exit codes of `riffle run` for how a guest ended; an error is 1, a signal 128 + its number. */
enum run_exit {
	RUN_EXIT_POWEROFF = 0,
	RUN_EXIT_RESET = 3,
	RUN_EXIT_TRIPLE_FAULT = 4,
	RUN_EXIT_ESCAPE = 5,
	RUN_EXIT_HALTED = 6,
	RUN_EXIT_PANIC = 7,
};

/* These replace all of the above if a command was given and did not report a status; documented in riffle-run(1). */
enum command_exit {
	COMMAND_EXIT_PANIC = 123,      /* the guest's kernel panicked */
	COMMAND_EXIT_LOST = 124,       /* the guest ended in another way without a status */
	COMMAND_EXIT_ERROR = 125,      /* riffle, or the guest's init, failed */
	COMMAND_EXIT_CANNOT_RUN = 126, /* the guest could not run the command */
	COMMAND_EXIT_NOT_FOUND = 127,
};

/* in riffle: argv[0] is the command's name */
int command_run(int argc, char **argv);
int command_dump(int argc, char **argv);
int command_snapshot(int argc, char **argv);
int command_resume(int argc, char **argv);
int command_stock(int argc, char **argv);
int command_emit(int argc, char **argv);
int command_config(int argc, char **argv);

/* in riffle-prepare */
int command_prepare(int argc, char **argv);
int command_initramfs(int argc, char **argv);
int command_inspect(int argc, char **argv);
int command_symbolize(int argc, char **argv);
int command_gdb_script(int argc, char **argv);
int command_bench(int argc, char **argv);
int command_verify(int argc, char **argv);
int command_doctor(int argc, char **argv);

#endif
