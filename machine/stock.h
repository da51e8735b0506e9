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
 * An item appears by a rename, when both files are on stable storage, and belongs to whoever unlinks its state: that
 * succeeds once, whoever races or dies. The remains of an item without a state are removed later.
 */
#define STOCK_KEY_DIGITS 16

struct stock {
	int directory_fd;
};

struct stock_item {
	int state_fd, memory_fd; /* already unlinked; owned by the taker */
};

/* Errors: IO. */
int stock_open(struct stock *stock, const char *directory, struct riffle_error *error);
void stock_close(struct stock *stock);

/* 1: the caller alone owns *item. 0: there is none, which is counted. */
int stock_take(struct stock *stock, struct stock_item *item);
/*
 * The same under the names "state" and "memory" of an empty directory of the same file system. 1, 0, or -1 with an
 * error (IO), when the item is gone nevertheless.
 */
int stock_move(struct stock *stock, int to_fd, struct riffle_error *error);
/* As stock_take(), through the daemon's socket, for callers that may not open files. -1: it does not answer. */
int stock_ask(const char *socket_path, struct stock_item *item);

/* Adds one to a counter: "taken", "empty", "bad", "made". */
void stock_count(const struct stock *stock, const char *counter);
uint64_t stock_counter(const struct stock *stock, const char *counter);

/* The number of ready items with the daemon's key, and the bytes that they occupy on disk. */
unsigned stock_ready(const struct stock *stock, uint64_t *bytes);
/* Removes what nobody will take: items whose key differs from `key` (NULL: none) and remains. */
void stock_sweep(const struct stock *stock, const char *key);

bool stock_read_key(const struct stock *stock, char key[STOCK_KEY_DIGITS + 1]);

#endif
