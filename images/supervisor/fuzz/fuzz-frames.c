/* The frame parser, fed in pieces of odd sizes: every frame lies inside the buffer, and zeros with a HELLO get through. */
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "frames.h"

static volatile uint8_t sum;

static void feed(struct parser *parser, const uint8_t *data, size_t size, size_t piece, size_t *frames) {
  struct frame frame;
  for (size_t done = 0; done < size;) {
    size_t room = parser_room(parser);
    size_t n = size - done < piece ? size - done : piece;
    n = n < room ? n : room;
    if (n == 0) {
      abort(); /* a full buffer holds a whole frame, so there is always room after the frames are taken */
    }
    memcpy(parser->buffer + parser->end, data + done, n);
    parser->end += n;
    done += n;
    while (parser_next(parser, &frame)) {
      const uint8_t *end = parser->buffer + sizeof parser->buffer;
      if (frame.length > FRAME_PAYLOAD_MAX || frame.payload + frame.length > end || parser->epoch == 0) {
        abort();
      }
      for (uint32_t i = 0; i < frame.length; i++) {
        sum ^= frame.payload[i];
      }
      ++*frames;
    }
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static struct parser parser;
  static const uint8_t zeros[FRAME_MAX];
  uint8_t hello[FRAME_HEADER + 24 + FRAME_TRAILER] = {0}, *p = hello;
  size_t frames = 0, last = 0;
  if (size == 0) {
    return 0;
  }
  parser.epoch = 0;
  parser.start = parser.end = 0;
  feed(&parser, data + 1, size - 1, (size_t)data[0] + 1, &frames);
  put32(put32(put8(put8(put16(p, FRAME_MAGIC), FRAME_HELLO), 0), 0), 24);
  put32(hello + FRAME_HEADER, 0x600dca11);
  put32(hello + FRAME_HEADER + 24, 0x600dca11);
  feed(&parser, zeros, sizeof zeros, 65536, &frames);
  feed(&parser, hello, sizeof hello, 65536, &last);
  if (last != 1 || parser.epoch != 0x600dca11) {
    abort();
  }
  return 0;
}
