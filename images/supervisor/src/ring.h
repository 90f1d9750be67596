/*
 * Bytes between two absolute offsets, each tagged with the stream it came from: what a call has written and the runner
 * has not acknowledged, or what the runner has sent and the call has not read. Grown on demand, never past its bound.
 */
#ifndef RING_H
#define RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frames.h"

enum { RING_MAX = 262144, RING_SEGMENTS_MAX = 4096 };

struct segment {
  uint64_t start;
  uint8_t stream;
};

struct ring {
  uint8_t *buffer;
  uint32_t size;
  uint64_t base; /* the first byte that is kept */
  uint64_t end;
  struct segment *segments; /* circular; the first one covers base */
  uint32_t segmentSize;
  uint32_t segmentFirst;
  uint32_t segmentCount;
};

/* No byte can be added until some are dropped. */
bool ring_full(const struct ring *ring);

/* One read(2) from fd. Bytes added, 0 at end of file, or -errno (-ENOBUFS: full, or out of memory). */
long ring_read(struct ring *ring, int fd, uint8_t stream);

/* Bytes copied in; less than length when there is no room. */
size_t ring_put(struct ring *ring, const uint8_t *data, size_t length, uint8_t stream);

/* The bytes from offset on that lie in one segment, at most max, as two pieces. Their stream, or 0 for none. */
uint8_t ring_peek(const struct ring *ring, uint64_t offset, size_t max, struct bytes pieces[2]);

void ring_drop(struct ring *ring, uint64_t below);
void ring_free(struct ring *ring);

#endif
