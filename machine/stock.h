/* SPDX-License-Identifier: Apache-2.0 */
/* The directory of a stock: items that are ready, each of which is taken once. */
#ifndef RIFFLE_MACHINE_STOCK_H
#define RIFFLE_MACHINE_STOCK_H

#include <stdbool.h>
#include <stdint.h>

#include <riffle/error.h>

/*
 *	DIR/lock        held by the daemon
 *	DIR/key         identifies the machine that the daemon makes now: a word of hexadecimal digits
 *	DIR/making/     items that are not ready
 *	DIR/ready/KEY-ID/{state,memory}
 *	DIR/taken, DIR/empty, DIR/bad, DIR/made     a byte for each
 *
 * An item appears by a rename, when both files are on stable storage, and belongs to whoever unlinks or renames its
 * state: only one process can succeed, even if others race or die. Remains of an item are removed later, unless the
 * process that is moving it holds a lock (flock) on its directory.
 *
 * DIR, its directories and the items must belong to the caller or root, and nobody else may write to them. Symbolic
 * links below DIR are not followed, and only the files of items are removed: their names are KEY-ID, each 16
 * hexadecimal digits.
 */
#define STOCK_KEY_DIGITS 16

struct stock {
	int directory_fd;
};

struct stock_item {
	int state_fd, memory_fd; /* owned by the taker; already unlinked, except for stock_look */
};

/* Errors: IO, TRUST. */
int stock_open(struct stock *stock, const char *directory, struct riffle_error *error);
void stock_close(struct stock *stock);

/* Opens a regular file in DIR, never blocking. -1: errno is set, to EINVAL for any other kind of file. */
int stock_open_file(const struct stock *stock, const char *name, int flags);

/* Examines an item before it is taken; on an error the item stays in the stock. */
typedef int stock_look(void *opaque, const struct stock_item *item, struct riffle_error *error);

/*
 * 1: the caller alone owns *item. 0: there is none, which is counted. -1: an error of *look, or IO, TRUST. `look` may
 * be NULL.
 */
int stock_take(struct stock *stock, struct stock_item *item, stock_look *look, void *opaque,
	       struct riffle_error *error);
/*
 * The same under the names "state" and "memory" of an empty directory of the same file system. 1, 0, or -1 with an
 * error (IO, TRUST).
 */
int stock_move(struct stock *stock, int to_fd, struct riffle_error *error);
/*
 * As stock_take(), through the daemon's socket, for callers that may not open files; root or the
 * caller's user must be running it. Errors: IO, also if it does not answer for STOCK_WAIT_S seconds; TRUST.
 */
#define STOCK_WAIT_S 5u
int stock_ask(const char *socket_path, struct stock_item *item, struct riffle_error *error);

/* Adds one to a counter: "taken", "empty", "bad", "made". */
void stock_count(const struct stock *stock, const char *name);
uint64_t stock_counter(const struct stock *stock, const char *name);

/*
 * The number of ready items with the daemon's key, and the bytes that they occupy on disk. Damaged ones, as far as
 * their state files and the size of their memory show, are not counted.
 */
unsigned stock_ready(const struct stock *stock, uint64_t *bytes);
/* Removes what nobody will take: damaged items, remains, and items whose key differs from `key`. */
void stock_sweep(const struct stock *stock, const char *key);

/* False: there is none. */
bool stock_read_key(const struct stock *stock, char key[STOCK_KEY_DIGITS + 1]);

#endif
