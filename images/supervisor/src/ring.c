#include "ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { RING_FIRST = 4096, RING_GROWTH = 64, SEGMENTS_FIRST = 8 }; /* of a large one, only the pages that are written exist */

static uint32_t used(const struct ring *ring) {
  return (uint32_t)(ring->end - ring->base);
}

bool ring_full(const struct ring *ring) {
  return used(ring) >= RING_MAX || ring->segmentCount >= RING_SEGMENTS_MAX;
}

static bool grow(struct ring *ring) {
  uint32_t size = ring->size ? ring->size * RING_GROWTH : RING_FIRST;
  uint8_t *buffer = malloc(size);
  if (!buffer) {
    return false;
  }
  struct bytes pieces[2];
  for (uint64_t at = ring->base; at < ring->end;) {
    ring_peek(ring, at, ring->size, pieces);
    for (int i = 0; i < 2; i++) {
      for (size_t done = 0; done < pieces[i].length;) {
        uint32_t to = (uint32_t)(at & (size - 1));
        size_t n = pieces[i].length - done < size - to ? pieces[i].length - done : size - to;
        memcpy(buffer + to, (const uint8_t *)pieces[i].data + done, n);
        done += n;
        at += n;
      }
    }
  }
  free(ring->buffer);
  ring->buffer = buffer;
  ring->size = size;
  return true;
}

/* Room at the end, as up to two pieces; grows a ring that is nearly full. Its bytes. */
static size_t room(struct ring *ring, size_t max, struct iovec pieces[2]) {
  while (ring->size < RING_MAX && used(ring) * 4 >= ring->size * 3) {
    if (!grow(ring)) {
      break;
    }
  }
  if (ring->size == 0) {
    return 0;
  }
  size_t length = ring->size - used(ring);
  uint32_t at = (uint32_t)(ring->end & (ring->size - 1));
  length = length < max ? length : max;
  size_t first = length < ring->size - at ? length : ring->size - at;
  pieces[0] = (struct iovec){ring->buffer + at, first};
  pieces[1] = (struct iovec){ring->buffer, length - first};
  return length;
}

static bool grow_segments(struct ring *ring) {
  uint32_t size = ring->segmentSize ? ring->segmentSize * 2 : SEGMENTS_FIRST;
  struct segment *segments = malloc(size * sizeof *segments);
  if (!segments) {
    return false;
  }
  for (uint32_t i = 0; i < ring->segmentCount; i++) {
    segments[i] = ring->segments[(ring->segmentFirst + i) & (ring->segmentSize - 1)];
  }
  free(ring->segments);
  ring->segments = segments;
  ring->segmentSize = size;
  ring->segmentFirst = 0;
  return true;
}

static struct segment *segment_at(const struct ring *ring, uint32_t index) {
  return &ring->segments[(ring->segmentFirst + index) & (ring->segmentSize - 1)];
}

/* Makes the bytes that were put at the end part of the ring. Room for a segment was made before. */
static void commit(struct ring *ring, size_t length, uint8_t stream) {
  if (ring->segmentCount == 0 || segment_at(ring, ring->segmentCount - 1)->stream != stream) {
    *segment_at(ring, ring->segmentCount++) = (struct segment){ring->end, stream};
  }
  ring->end += length;
}

static bool can_add(struct ring *ring) {
  return !ring_full(ring) && (ring->segmentCount < ring->segmentSize || grow_segments(ring));
}

long ring_read(struct ring *ring, int fd, uint8_t stream) {
  struct iovec pieces[2];
  size_t length = can_add(ring) ? room(ring, OUT_BYTES_MAX, pieces) : 0;
  if (length == 0) {
    return -ENOBUFS;
  }
  ssize_t n;
  do {
    n = readv(fd, pieces, pieces[1].iov_len > 0 ? 2 : 1);
  } while (n < 0 && errno == EINTR);
  if (n > 0) {
    commit(ring, (size_t)n, stream);
  }
  return n < 0 ? -errno : n;
}

size_t ring_put(struct ring *ring, const uint8_t *data, size_t length, uint8_t stream) {
  size_t done = 0;
  while (done < length) {
    struct iovec pieces[2];
    size_t n = can_add(ring) ? room(ring, length - done, pieces) : 0;
    if (n == 0) {
      break;
    }
    memcpy(pieces[0].iov_base, data + done, pieces[0].iov_len);
    if (pieces[1].iov_len > 0) {
      memcpy(pieces[1].iov_base, data + done + pieces[0].iov_len, pieces[1].iov_len);
    }
    commit(ring, n, stream);
    done += n;
  }
  return done;
}

uint8_t ring_peek(const struct ring *ring, uint64_t offset, size_t max, struct bytes pieces[2]) {
  pieces[0] = pieces[1] = (struct bytes){0};
  if (offset < ring->base || offset >= ring->end || ring->segmentCount == 0) {
    return 0;
  }
  uint32_t low = 0, high = ring->segmentCount - 1;
  while (low < high) {
    uint32_t middle = (low + high + 1) / 2;
    if (segment_at(ring, middle)->start <= offset) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  uint64_t end = low + 1 < ring->segmentCount ? segment_at(ring, low + 1)->start : ring->end;
  size_t length = end - offset < max ? (size_t)(end - offset) : max;
  uint32_t at = (uint32_t)(offset & (ring->size - 1));
  size_t first = length < ring->size - at ? length : ring->size - at;
  pieces[0] = (struct bytes){ring->buffer + at, first};
  pieces[1] = (struct bytes){ring->buffer, length - first};
  return segment_at(ring, low)->stream;
}

void ring_drop(struct ring *ring, uint64_t below) {
  if (below > ring->end) {
    below = ring->end;
  }
  if (below <= ring->base) {
    return;
  }
  ring->base = below;
  while (ring->segmentCount > 1 && segment_at(ring, 1)->start <= below) {
    ring->segmentFirst = (ring->segmentFirst + 1) & (ring->segmentSize - 1);
    ring->segmentCount--;
  }
  if (ring->base == ring->end) {
    ring->segmentCount = 0;
  }
}

void ring_free(struct ring *ring) {
  free(ring->buffer);
  free(ring->segments);
  uint64_t base = ring->end;
  *ring = (struct ring){.base = base, .end = base};
}
