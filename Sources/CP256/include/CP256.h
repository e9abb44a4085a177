/// Deterministic P-256 signing (RFC 6979 with HMAC-SHA256, low-S) over libcrypto, and memory for secrets.
///
/// This is the only code that hands a private P-256 scalar to a library. Every function may be called from
/// several threads at once, with the same key too: a key never changes after `cp256_key_create`.
#pragma once
#include <stddef.h>
#include <stdint.h>

typedef struct cp256_key cp256_key;

/// A key from 32 big-endian bytes; the caller still wipes its own copy.
/// NULL with `*out_of_range` = 1 when the scalar is not in 1…n−1, and 0 when memory ran out.
cp256_key *cp256_key_create(const uint8_t scalar[32], int *out_of_range);

/// Wipes and frees. NULL is allowed.
void cp256_key_destroy(cp256_key *key);

/// The 32 bytes that the key was made from; valid as long as the key is.
const uint8_t *cp256_key_scalar(const cp256_key *key);

/// The public point, compressed (SEC 1, 33 bytes); valid as long as the key is.
const uint8_t *cp256_key_point(const cp256_key *key);

/// Signs a SHA-256 digest: r ‖ s, 32 bytes each, s ≤ n/2. The same key and digest give the same bytes.
/// 1 when `signature` was written whole; 0 when memory ran out, and nothing was written.
int cp256_sign(const cp256_key *key, const uint8_t digest[32], uint8_t signature[64]);

/// Memory for secrets, zeroed; locked and kept out of core dumps where the system allows it and there is room. NULL when
/// there is no memory at all.
uint8_t *cp256_secret_allocate(size_t count);

/// Wipes `count` bytes and frees them. NULL is allowed.
void cp256_secret_free(uint8_t *secret, size_t count);

/// Overwrites memory in a way that no compiler leaves out.
void cp256_wipe(void *memory, size_t count);
