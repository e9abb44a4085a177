// Deterministic P-256 signing: RFC 6979 chooses the nonce, libcrypto does the arithmetic.
//
// Invariants:
//   1. Whatever depends on the private scalar or the nonce is computed in constant time: nonce·G by libcrypto's
//      nistz256 (a table read whole at each step), the inverse by Fermat's little theorem with the constant-time
//      power, and s by ECDSA_do_sign_ex, whose products have a fixed length. Branches and comparisons look only at
//      r, s and the digest, which anybody may know, and at candidate nonces that are thrown away.
//   2. Every copy of the scalar and of nonce material is wiped on every way out, failures included. Nonces lie in the
//      secure heap and on this stack; scalars too, except of keys for which the secure heap has no more room.
//   3. A key is read-only after cp256_key_create, and so is `p256`: no locks are needed.
//
// ECDSA_do_sign_ex takes a nonce of ours, which the EVP interface of OpenSSL 3.0 does not; it is deprecated there
// but present until 4.0. From 3.2 on, OSSL_SIGNATURE_PARAM_NONCE_TYPE can take over, behind the same header.

#define OPENSSL_SUPPRESS_DEPRECATED 1
#include "CP256.h"

#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/obj_mac.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <string.h>

enum {
    scalar_bytes = 32,
    point_bytes = 33,
    secure_heap_bytes = 1 << 20,     // some 10,000 keys; within the memory that a service may usually lock
    secure_heap_reserve = 64 << 10,  // for signatures in progress, 1 or 2 KiB each
    secure_heap_unit = 32,
    nonce_attempts_max = 16,         // one attempt fails once in 2^32
};

// The curve's constants, made once and kept for the life of the process.
static struct {
    EC_GROUP *group;
    const BIGNUM *order;  // belongs to group
    BIGNUM *half_order;
    BIGNUM *order_minus_2;
    BN_MONT_CTX *modulo_order;
    int ready;
} p256;

static pthread_once_t prepared = PTHREAD_ONCE_INIT;

static void prepare(void) {
    // Where memory cannot be locked, or another part of the process chose the heap first, libcrypto still wipes
    // what it frees; so a refusal here is not an error.
    (void)CRYPTO_secure_malloc_init(secure_heap_bytes, secure_heap_unit);

    BN_CTX *work = BN_CTX_new();
    p256.group = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
    if (!work || !p256.group) goto end;
    p256.order = EC_GROUP_get0_order(p256.group);
    p256.half_order = BN_new();
    p256.order_minus_2 = BN_dup(p256.order);
    p256.modulo_order = BN_MONT_CTX_new();
    if (!p256.half_order || !BN_rshift1(p256.half_order, p256.order)) goto end;
    if (!p256.order_minus_2 || !BN_sub_word(p256.order_minus_2, 2)) goto end;
    if (!p256.modulo_order || !BN_MONT_CTX_set(p256.modulo_order, p256.order, work)) goto end;
    p256.ready = 1;
end:
    BN_CTX_free(work);
}

static int is_ready(void) {
    return pthread_once(&prepared, prepare) == 0 && p256.ready;
}

// Whether a key may still take from the secure heap. When keys have filled it but for the reserve, further ones live
// in ordinary memory: better than a service that can sign no more.
static int has_secure_room(void) {
    return CRYPTO_secure_used() + secure_heap_reserve < secure_heap_bytes;
}

uint8_t *cp256_secret_allocate(size_t count) {
    (void)is_ready();
    uint8_t *secret = has_secure_room() ? OPENSSL_secure_zalloc(count) : NULL;
    return secret ? secret : OPENSSL_zalloc(count);
}

void cp256_secret_free(uint8_t *secret, size_t count) {
    OPENSSL_secure_clear_free(secret, count);  // knows which memory it was
}

void cp256_wipe(void *memory, size_t count) {
    OPENSSL_cleanse(memory, count);
}

struct cp256_key {
    EC_KEY *signer;   // holds the scalar for ECDSA_do_sign_ex
    uint8_t *scalar;  // the same number as bytes, for RFC 6979
    uint8_t point[point_bytes];
};

// Fills in a key that has its scalar's bytes. 0 on failure; the caller destroys the key.
static int complete_key(cp256_key *key, int *out_of_range) {
    int done = 0;
    BN_CTX *work = BN_CTX_secure_new();
    BIGNUM *number = has_secure_room() ? BN_secure_new() : BN_new();
    EC_POINT *point = EC_POINT_new(p256.group);
    if (!work || !number || !point || !BN_bin2bn(key->scalar, scalar_bytes, number)) goto end;
    BN_set_flags(number, BN_FLG_CONSTTIME);
    if (BN_is_zero(number) || BN_cmp(number, p256.order) >= 0) {
        *out_of_range = 1;
        goto end;
    }
    if (!EC_POINT_mul(p256.group, point, number, NULL, NULL, work)) goto end;
    if (EC_POINT_point2oct(p256.group, point, POINT_CONVERSION_COMPRESSED, key->point, point_bytes, work) != point_bytes) goto end;
    key->signer = EC_KEY_new();
    if (!key->signer || !EC_KEY_set_group(key->signer, p256.group)) goto end;
    // The copy lies where `number` does, and is wiped when it is freed.
    done = EC_KEY_set_private_key(key->signer, number);
end:
    EC_POINT_clear_free(point);
    BN_clear_free(number);
    BN_CTX_free(work);
    return done;
}

cp256_key *cp256_key_create(const uint8_t scalar[32], int *out_of_range) {
    *out_of_range = 0;
    if (!is_ready()) return NULL;
    cp256_key *key = OPENSSL_zalloc(sizeof *key);
    if (!key) return NULL;
    key->scalar = cp256_secret_allocate(scalar_bytes);
    if (!key->scalar) goto failed;
    memcpy(key->scalar, scalar, scalar_bytes);
    if (!complete_key(key, out_of_range)) goto failed;
    return key;
failed:
    cp256_key_destroy(key);
    return NULL;
}

void cp256_key_destroy(cp256_key *key) {
    if (!key) return;
    EC_KEY_free(key->signer);  // wipes its scalar
    cp256_secret_free(key->scalar, scalar_bytes);
    OPENSSL_clear_free(key, sizeof *key);
}

const uint8_t *cp256_key_scalar(const cp256_key *key) { return key->scalar; }

const uint8_t *cp256_key_point(const cp256_key *key) { return key->point; }

// The generator of nonces: RFC 6979, section 3.2, steps b to h, with HMAC-SHA256.
struct nonces {
    uint8_t key[SHA256_DIGEST_LENGTH];
    uint8_t value[SHA256_DIGEST_LENGTH];
};

static void hash_padded(uint8_t pad_byte, const uint8_t key[32], const uint8_t *first, size_t first_count,
                        const uint8_t *second, size_t second_count, uint8_t out[32]) {
    uint8_t pad[SHA256_CBLOCK];
    SHA256_CTX hash;
    memset(pad, pad_byte, sizeof pad);
    for (size_t i = 0; i < SHA256_DIGEST_LENGTH; i++) pad[i] ^= key[i];
    SHA256_Init(&hash);
    SHA256_Update(&hash, pad, sizeof pad);
    SHA256_Update(&hash, first, first_count);
    if (second_count) SHA256_Update(&hash, second, second_count);
    SHA256_Final(out, &hash);
    OPENSSL_cleanse(pad, sizeof pad);
    OPENSSL_cleanse(&hash, sizeof hash);
}

// out = HMAC-SHA256(state.key, state.value ‖ tail); `out` may be a part of `state`.
static void authenticate(const struct nonces *state, const uint8_t *tail, size_t tail_count, uint8_t out[32]) {
    uint8_t inner[SHA256_DIGEST_LENGTH];
    hash_padded(0x36, state->key, state->value, sizeof state->value, tail, tail_count, inner);
    hash_padded(0x5c, state->key, inner, sizeof inner, NULL, 0, out);
    OPENSSL_cleanse(inner, sizeof inner);
}

static void stir(struct nonces *state, const uint8_t *tail, size_t tail_count) {
    authenticate(state, tail, tail_count, state->key);
    authenticate(state, NULL, 0, state->value);
}

// Steps b to g; `reduced` is the digest modulo the order (bits2octets).
static void begin_nonces(struct nonces *state, const uint8_t scalar[32], const uint8_t reduced[32]) {
    uint8_t seed[1 + 2 * scalar_bytes];
    memset(state->value, 0x01, sizeof state->value);
    memset(state->key, 0x00, sizeof state->key);
    memcpy(seed + 1, scalar, scalar_bytes);
    memcpy(seed + 1 + scalar_bytes, reduced, scalar_bytes);
    seed[0] = 0x00;
    stir(state, seed, sizeof seed);
    seed[0] = 0x01;
    stir(state, seed, sizeof seed);
    OPENSSL_cleanse(seed, sizeof seed);
}

// The numbers of one signature; all but the point belong to the work space, which wipes them.
struct numbers {
    BIGNUM *nonce, *inverse, *r, *s;
    EC_POINT *point;
};

// Step h: the next nonce in 1…n−1 with r ≠ 0, and r. 0 on failure.
static int choose_nonce(struct nonces *state, struct numbers *n, BN_CTX *work) {
    static const uint8_t zero = 0x00;
    for (int attempt = 0; attempt < nonce_attempts_max; attempt++) {
        authenticate(state, NULL, 0, state->value);
        if (!BN_bin2bn(state->value, sizeof state->value, n->nonce)) return 0;
        BN_set_flags(n->nonce, BN_FLG_CONSTTIME);
        if (!BN_is_zero(n->nonce) && BN_cmp(n->nonce, p256.order) < 0) {
            if (!EC_POINT_mul(p256.group, n->point, n->nonce, NULL, NULL, work)) return 0;
            if (!EC_POINT_get_affine_coordinates(p256.group, n->point, n->r, NULL, work)) return 0;
            // The field is larger than the order by less than the order.
            if (BN_cmp(n->r, p256.order) >= 0 && !BN_sub(n->r, n->r, p256.order)) return 0;
            if (!BN_is_zero(n->r)) return 1;
        }
        stir(state, &zero, 1);
    }
    return 0;
}

// digest modulo the order, as 32 bytes: a digest is less than twice the order.
static int reduce_digest(const uint8_t digest[32], BIGNUM *scratch, uint8_t reduced[32]) {
    if (!BN_bin2bn(digest, SHA256_DIGEST_LENGTH, scratch)) return 0;
    if (BN_cmp(scratch, p256.order) >= 0 && !BN_sub(scratch, scratch, p256.order)) return 0;
    return BN_bn2binpad(scratch, reduced, scalar_bytes) == scalar_bytes;
}

// r ‖ min(s, n−s): both are signatures of the same digest, and only the smaller may be used.
static int write_low_s(const ECDSA_SIG *pair, BIGNUM *scratch, uint8_t signature[64]) {
    uint8_t written[2 * scalar_bytes];
    const BIGNUM *s = ECDSA_SIG_get0_s(pair);
    if (BN_cmp(s, p256.half_order) > 0) {
        if (!BN_sub(scratch, p256.order, s)) return 0;
        s = scratch;
    }
    if (BN_bn2binpad(ECDSA_SIG_get0_r(pair), written, scalar_bytes) != scalar_bytes) return 0;
    if (BN_bn2binpad(s, written + scalar_bytes, scalar_bytes) != scalar_bytes) return 0;
    memcpy(signature, written, sizeof written);
    return 1;
}

int cp256_sign(const cp256_key *key, const uint8_t digest[32], uint8_t signature[64]) {
    int done = 0;
    struct nonces state;
    struct numbers n = {0};
    uint8_t reduced[scalar_bytes];
    ECDSA_SIG *pair = NULL;
    BN_CTX *work = BN_CTX_secure_new();
    if (!work) return 0;
    BN_CTX_start(work);
    n.nonce = BN_CTX_get(work);
    n.inverse = BN_CTX_get(work);
    n.r = BN_CTX_get(work);
    n.s = BN_CTX_get(work);  // NULL if any before it is
    n.point = EC_POINT_new(p256.group);
    if (!n.s || !n.point || !reduce_digest(digest, n.s, reduced)) goto end;

    begin_nonces(&state, key->scalar, reduced);
    if (!choose_nonce(&state, &n, work)) goto end;
    if (!BN_mod_exp_mont_consttime(n.inverse, n.nonce, p256.order_minus_2, p256.order, work, p256.modulo_order)) goto end;
    BN_set_flags(n.inverse, BN_FLG_CONSTTIME);
    // Fails too where s = 0 (once in 2^256), for which RFC 6979 would take the next nonce.
    pair = ECDSA_do_sign_ex(digest, SHA256_DIGEST_LENGTH, n.inverse, n.r, key->signer);
    if (!pair) goto end;
    done = write_low_s(pair, n.s, signature);
end:
    ECDSA_SIG_free(pair);
    EC_POINT_clear_free(n.point);
    if (n.nonce) BN_clear(n.nonce);
    if (n.inverse) BN_clear(n.inverse);
    OPENSSL_cleanse(&state, sizeof state);
    BN_CTX_end(work);
    BN_CTX_free(work);
    return done;
}
