/* Little-endian numbers in byte buffers: the only encoding of the stream. */
#ifndef BYTES_H
#define BYTES_H

#include <stdint.h>

static inline uint16_t get16(const uint8_t *p) {
  return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t get32(const uint8_t *p) {
  return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t get64(const uint8_t *p) {
  return (uint64_t)get32(p) | (uint64_t)get32(p + 4) << 32;
}

/* The put functions return the place after what they wrote. */
static inline uint8_t *put8(uint8_t *p, uint8_t v) {
  *p = v;
  return p + 1;
}

static inline uint8_t *put16(uint8_t *p, uint16_t v) {
  return put8(put8(p, (uint8_t)v), (uint8_t)(v >> 8));
}

static inline uint8_t *put32(uint8_t *p, uint32_t v) {
  return put16(put16(p, (uint16_t)v), (uint16_t)(v >> 16));
}

static inline uint8_t *put64(uint8_t *p, uint64_t v) {
  return put32(put32(p, (uint32_t)v), (uint32_t)(v >> 32));
}

#endif
