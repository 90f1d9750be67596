#include "frames.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "bytes.h"

enum { HELLO_LENGTH = 24 };

size_t parser_room(struct parser *parser) {
  if (parser->start == parser->end) {
    parser->start = parser->end = 0;
  } else if (parser->start > 0 && sizeof parser->buffer - parser->end < FRAME_MAX) {
    memmove(parser->buffer, parser->buffer + parser->start, parser->end - parser->start);
    parser->end -= parser->start;
    parser->start = 0;
  }
  return sizeof parser->buffer - parser->end;
}

static bool is_header(const uint8_t *p) {
  return get16(p) == FRAME_MAGIC && p[2] >= FRAME_HELLO && p[2] <= FRAME_SHUTDOWN && get32(p + 8) <= FRAME_PAYLOAD_MAX &&
         (p[2] != FRAME_HELLO || get32(p + 8) == HELLO_LENGTH);
}

/* Garbage can be long (a new runner sends 65,552 zeros first): jump to the next byte that can begin a frame. */
static void skip_garbage(struct parser *parser) {
  const uint8_t *from = parser->buffer + parser->start + 1;
  const uint8_t *end = parser->buffer + parser->end;
  const uint8_t *next = from < end ? memchr(from, FRAME_MAGIC & 0xff, (size_t)(end - from)) : NULL;
  parser->start = next ? (size_t)(next - parser->buffer) : parser->end;
}

bool parser_next(struct parser *parser, struct frame *frame) {
  while (parser->end - parser->start >= FRAME_HEADER) {
    const uint8_t *p = parser->buffer + parser->start;
    if (!is_header(p)) {
      skip_garbage(parser);
      continue;
    }
    uint32_t length = get32(p + 8);
    if (parser->end - parser->start < FRAME_HEADER + length + FRAME_TRAILER) {
      return false;
    }
    parser->start += FRAME_HEADER + length + FRAME_TRAILER;
    uint32_t trailer = get32(p + FRAME_HEADER + length);
    uint32_t expected = p[2] == FRAME_HELLO ? get32(p + FRAME_HEADER) : parser->epoch;
    if (expected == 0 || trailer != expected) {
      continue;
    }
    parser->epoch = expected;
    *frame = (struct frame){.type = p[2], .flags = p[3], .call = get32(p + 4), .length = length, .payload = p + FRAME_HEADER};
    return true;
  }
  return false;
}

size_t outbox_room(struct outbox *outbox) {
  if (outbox->start == outbox->end) {
    outbox->start = outbox->end = 0;
  } else if (outbox->start > 0 && sizeof outbox->buffer - outbox->end < FRAME_MAX) {
    memmove(outbox->buffer, outbox->buffer + outbox->start, outbox->end - outbox->start);
    outbox->end -= outbox->start;
    outbox->start = 0;
  }
  return sizeof outbox->buffer - outbox->end;
}

void outbox_frame(struct outbox *outbox, enum frame_type type, uint8_t flags, uint32_t call, const struct bytes *pieces,
                  size_t count) {
  size_t length = 0;
  for (size_t i = 0; i < count; i++) {
    length += pieces[i].length;
  }
  uint8_t *p = outbox->buffer + outbox->end;
  p = put16(p, FRAME_MAGIC);
  p = put8(p, (uint8_t)type);
  p = put8(p, flags);
  p = put32(p, call);
  p = put32(p, (uint32_t)length);
  for (size_t i = 0; i < count; i++) {
    if (pieces[i].length > 0) {
      memcpy(p, pieces[i].data, pieces[i].length);
      p += pieces[i].length;
    }
  }
  p = put32(p, outbox->epoch);
  outbox->end = (size_t)(p - outbox->buffer);
}

void outbox_clear(struct outbox *outbox) {
  outbox->start = outbox->end = 0;
  outbox->urgent = false;
  outbox->lazyAtUs = 0;
}

int outbox_flush(struct outbox *outbox, int fd) {
  while (outbox->start < outbox->end) {
    ssize_t n = write(fd, outbox->buffer + outbox->start, outbox->end - outbox->start);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      return errno;
    }
    outbox->start += (size_t)n;
  }
  outbox_clear(outbox);
  return 0;
}
