/* SPDX-License-Identifier: Apache-2.0 */
/* Session tokens of MMDS version 2: their expiry time, encrypted and authenticated with a secret key. */
#ifndef RIFFLE_API_MMDS_TOKEN_H
#define RIFFLE_API_MMDS_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <nettle/gcm.h>
#include <riffle/error.h>

#define MMDS_TOKEN_LENGTH 48u /* in base64, without a terminating zero */
#define MMDS_TOKEN_TTL_MIN 1u /* seconds */
#define MMDS_TOKEN_TTL_MAX 21600u

struct mmds_tokens {
	struct gcm_aes256_ctx cipher;
	uint64_t issued;   /* the nonce, unique for each token of a key */
	char bound_to[96]; /* what the tokens are restricted to */
};

/* Tokens are valid only in this instance. Errors: RANDOM. */
int mmds_tokens_init(struct mmds_tokens *tokens, const char *instance_id, struct riffle_error *error);

/* A token that is valid until the given time, in milliseconds of any monotonic clock. */
void mmds_token_make(struct mmds_tokens *tokens, uint64_t expires_ms, char token[MMDS_TOKEN_LENGTH + 1]);
bool mmds_token_valid(struct mmds_tokens *tokens, const char *token, size_t length, uint64_t now_ms);

#endif
