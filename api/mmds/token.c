/* SPDX-License-Identifier: Apache-2.0 */
/* Session tokens of MMDS version 2: when they expire, encrypted and authenticated by a key that nobody else has. */
#include "api/mmds/token.h"

#include <errno.h>
#include <nettle/base64.h>
#include <nettle/memops.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "common/bytes.h"
#include "common/fail.h"

/* a token, before base64: nonce, encrypted moment, tag */
enum { PAYLOAD = GCM_IV_SIZE, TAG = PAYLOAD + 8, TOKEN_BYTES = TAG + GCM_DIGEST_SIZE };

int mmds_tokens_init(struct mmds_tokens *tokens, const char *instance_id, struct riffle_error *error)
{
	uint8_t key[AES256_KEY_SIZE];

	if (getrandom(key, sizeof key, 0) != (ssize_t)sizeof key)
		return riffle_fail_full(error, RIFFLE_ERR_RANDOM, errno, "getrandom", "failed", 0, 0, 0, 0);
	gcm_aes256_set_key(&tokens->cipher, key);
	explicit_bzero(key, sizeof key);
	tokens->issued = 0;
	snprintf(tokens->bound_to, sizeof tokens->bound_to, "microvmid=%s", instance_id);
	return 0;
}

static void start(struct mmds_tokens *tokens, const uint8_t *nonce)
{
	gcm_aes256_set_iv(&tokens->cipher, GCM_IV_SIZE, nonce);
	gcm_aes256_update(&tokens->cipher, strlen(tokens->bound_to), (const uint8_t *)tokens->bound_to);
}

void mmds_token_make(struct mmds_tokens *tokens, uint64_t expires_ms, char token[MMDS_TOKEN_LENGTH + 1])
{
	uint8_t bytes[TOKEN_BYTES] = {0}, payload[8];

	riffle_put64(bytes, tokens->issued++);
	riffle_put64(payload, expires_ms);
	start(tokens, bytes);
	gcm_aes256_encrypt(&tokens->cipher, sizeof payload, bytes + PAYLOAD, payload);
	gcm_aes256_digest(&tokens->cipher, GCM_DIGEST_SIZE, bytes + TAG);
	base64_encode_raw(token, sizeof bytes, bytes);
	token[MMDS_TOKEN_LENGTH] = 0;
}

bool mmds_token_valid(struct mmds_tokens *tokens, const char *token, size_t length, uint64_t now_ms)
{
	struct base64_decode_ctx decoder;
	uint8_t bytes[BASE64_DECODE_LENGTH(MMDS_TOKEN_LENGTH)], payload[8], tag[GCM_DIGEST_SIZE];
	size_t decoded = 0;

	/* nettle passes over white space: what has some is too short then */
	base64_decode_init(&decoder);
	if (length != MMDS_TOKEN_LENGTH || !base64_decode_update(&decoder, &decoded, bytes, length, token) ||
	    !base64_decode_final(&decoder) || decoded != TOKEN_BYTES)
		return false;
	start(tokens, bytes);
	gcm_aes256_decrypt(&tokens->cipher, sizeof payload, payload, bytes + PAYLOAD);
	gcm_aes256_digest(&tokens->cipher, sizeof tag, tag);
	return memeql_sec(tag, bytes + TAG, sizeof tag) && riffle_get64(payload) > now_ms;
}
