#include "sha256.h"

#include <stdbool.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

/* The rest of the program is built for size. */
#if defined(__clang__)
#define FASTER
#else
#define FASTER __attribute__((optimize("O2")))
#endif

static const uint32_t constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
    0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
    0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
    0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static inline uint32_t rotate(uint32_t x, int n) {
  return x >> n | x << (32 - n);
}

FASTER static void mix_portable(uint32_t state[8], const uint8_t *p, size_t blocks) {
  for (; blocks > 0; blocks--, p += SHA256_BLOCK) {
    uint32_t w[64], a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (int i = 0; i < 64; i++) {
      if (i < 16) {
        w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 | (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
      } else {
        uint32_t x = w[i - 15], y = w[i - 2];
        w[i] = w[i - 16] + (rotate(x, 7) ^ rotate(x, 18) ^ x >> 3) + w[i - 7] + (rotate(y, 17) ^ rotate(y, 19) ^ y >> 10);
      }
      uint32_t t = h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) + constants[i] + w[i];
      uint32_t u = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + t, d = c, c = b, b = a, a = t + u;
    }
    const uint32_t sums[8] = {a, b, c, d, e, f, g, h};
    for (int i = 0; i < 8; i++) {
      state[i] += sums[i];
    }
  }
}

#if defined(__x86_64__)
static bool has_instructions(void) {
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_SSSE3) || !(c & bit_SSE4_1)) {
    return false;
  }
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & 1u << 29);
}

/* The instructions keep the state as ABEF and CDGH and do two rounds each; w[] holds the last sixteen words. */
FASTER __attribute__((target("sha,sse4.1,ssse3"))) static void mix_fast(uint32_t state[8], const uint8_t *p, size_t blocks) {
  const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
  __m128i low = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)state), 0xb1);
  __m128i high = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(state + 4)), 0x1b);
  __m128i abef = _mm_alignr_epi8(low, high, 8), cdgh = _mm_blend_epi16(high, low, 0xf0);
  for (; blocks > 0; blocks--, p += SHA256_BLOCK) {
    __m128i w[4], abefBefore = abef, cdghBefore = cdgh;
    for (int i = 0; i < 16; i++) {
      if (i < 4) {
        w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(p + 16 * i)), swap);
      } else {
        __m128i sum = _mm_sha256msg1_epu32(w[i & 3], w[(i + 1) & 3]);
        sum = _mm_add_epi32(sum, _mm_alignr_epi8(w[(i + 3) & 3], w[(i + 2) & 3], 4));
        w[i & 3] = _mm_sha256msg2_epu32(sum, w[(i + 3) & 3]);
      }
      __m128i k = _mm_add_epi32(w[i & 3], _mm_loadu_si128((const __m128i *)(constants + 4 * i)));
      cdgh = _mm_sha256rnds2_epu32(cdgh, abef, k);
      abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(k, 0x0e));
    }
    abef = _mm_add_epi32(abef, abefBefore);
    cdgh = _mm_add_epi32(cdgh, cdghBefore);
  }
  low = _mm_shuffle_epi32(abef, 0x1b);
  high = _mm_shuffle_epi32(cdgh, 0xb1);
  _mm_storeu_si128((__m128i *)state, _mm_blend_epi16(low, high, 0xf0));
  _mm_storeu_si128((__m128i *)(state + 4), _mm_alignr_epi8(high, low, 8));
}
#endif

static void mix(struct sha256 *sha, const uint8_t *p, size_t blocks) {
#if defined(__x86_64__)
  if (sha->fast) {
    mix_fast(sha->state, p, blocks);
    return;
  }
#endif
  mix_portable(sha->state, p, blocks);
}

void sha256_start(struct sha256 *sha) {
  *sha = (struct sha256){.state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab,
                                   0x5be0cd19}};
#if defined(__x86_64__)
  sha->fast = has_instructions();
#endif
}

void sha256_add(struct sha256 *sha, const void *data, size_t length) {
  const uint8_t *p = data;
  size_t filled = sha->length % SHA256_BLOCK;
  sha->length += length;
  if (filled > 0) {
    size_t n = length < SHA256_BLOCK - filled ? length : SHA256_BLOCK - filled;
    memcpy(sha->block + filled, p, n);
    p += n;
    length -= n;
    if (filled + n < SHA256_BLOCK) {
      return;
    }
    mix(sha, sha->block, 1);
  }
  if (length >= SHA256_BLOCK) {
    mix(sha, p, length / SHA256_BLOCK);
    p += length - length % SHA256_BLOCK;
  }
  if (length % SHA256_BLOCK > 0) {
    memcpy(sha->block, p, length % SHA256_BLOCK);
  }
}

void sha256_finish(struct sha256 *sha, uint8_t digest[SHA256_LENGTH]) {
  uint64_t bits = sha->length * 8;
  size_t filled = sha->length % SHA256_BLOCK;
  sha->block[filled++] = 0x80;
  if (filled > SHA256_BLOCK - 8) {
    memset(sha->block + filled, 0, SHA256_BLOCK - filled);
    mix(sha, sha->block, 1);
    filled = 0;
  }
  memset(sha->block + filled, 0, SHA256_BLOCK - 8 - filled);
  for (int i = 0; i < 8; i++) {
    sha->block[SHA256_BLOCK - 1 - i] = (uint8_t)(bits >> (8 * i));
  }
  mix(sha, sha->block, 1);
  for (int i = 0; i < 32; i++) {
    digest[i] = (uint8_t)(sha->state[i / 4] >> (24 - 8 * (i % 4)));
  }
}
