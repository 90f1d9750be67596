/* SHA-256 (FIPS 180-4), with the processor's own instructions where it has them. */
#ifndef SHA256_H
#define SHA256_H

#include <stdbool.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SHA256_LENGTH = 32, SHA256_BLOCK = 64 };

struct sha256 {
  uint32_t state[8];
  bool fast; /* the processor has instructions for it; asking is slow in a virtual machine */
  uint64_t length;
  uint8_t block[SHA256_BLOCK];
};

void sha256_start(struct sha256 *sha);
void sha256_add(struct sha256 *sha, const void *data, size_t length);
void sha256_finish(struct sha256 *sha, uint8_t digest[SHA256_LENGTH]);

#endif
