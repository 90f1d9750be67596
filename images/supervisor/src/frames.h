/*
 * Frames of the stream (docs/protocol.md): a parser that finds its way back after half a frame, and the outbox.
 *
 *  - A frame whose trailer is not the epoch is dropped whole, so that its payload is never read as frames.
 *  - Only HELLO brings its own epoch along.
 *  - Control answers always have room: output stops at OUTBOX_OUTPUT_MAX, input stops when the rest runs out.
 */
#ifndef FRAMES_H
#define FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
  FRAME_MAGIC = 0x4742,
  FRAME_HEADER = 12,
  FRAME_TRAILER = 4,
  FRAME_PAYLOAD_MAX = 65536,
  FRAME_MAX = FRAME_HEADER + FRAME_PAYLOAD_MAX + FRAME_TRAILER,
  OUT_HEADER = 9,
  OUT_BYTES_MAX = 65536 - FRAME_HEADER - OUT_HEADER - FRAME_TRAILER, /* a full frame is what a runner reads at once: none is cut */
  PROTOCOL_VERSION = 1,
};

enum frame_type {
  FRAME_HELLO = 0x01,
  FRAME_PING,
  FRAME_SPAWN,
  FRAME_STDIN,
  FRAME_ACK,
  FRAME_RESUME,
  FRAME_SIGNAL,
  FRAME_KILL,
  FRAME_RESIZE,
  FRAME_RELEASE,
  FRAME_LIST,
  FRAME_SHUTDOWN,
  FRAME_WELCOME = 0x81,
  FRAME_PONG,
  FRAME_STARTED,
  FRAME_OUT,
  FRAME_STDIN_ACK,
  FRAME_EXIT,
  FRAME_END,
  FRAME_LISTED,
  FRAME_REFUSED,
};

struct frame {
  uint8_t type;
  uint8_t flags;
  uint32_t call;
  uint32_t length;
  const uint8_t *payload;
};

struct parser {
  uint32_t epoch; /* 0 until the first HELLO */
  size_t start;
  size_t end;
  uint8_t buffer[2 * FRAME_MAX];
};

/* Room for more bytes at parser->buffer + parser->end; makes some if there is none. */
size_t parser_room(struct parser *parser);

/* The next frame for us, valid until the next parser_room(); false: more bytes are needed. */
bool parser_next(struct parser *parser, struct frame *frame);

enum {
  OUTBOX_SIZE = 4 * FRAME_MAX,
  OUTBOX_OUTPUT_MAX = 3 * FRAME_MAX,
  OUTBOX_ANSWER_MAX = 8192, /* no answer to one frame is longer */
};

struct outbox {
  uint32_t epoch;
  size_t start;
  size_t end;
  bool urgent;        /* something waits that must not */
  uint64_t lazyAtUs;  /* when the rest must go too */
  uint8_t buffer[OUTBOX_SIZE];
};

struct bytes {
  const void *data;
  size_t length;
};

/* Bytes that can still be appended. */
size_t outbox_room(struct outbox *outbox);

/* Appends one frame of up to three pieces. The caller has checked outbox_room(). */
void outbox_frame(struct outbox *outbox, enum frame_type type, uint8_t flags, uint32_t call, const struct bytes *pieces,
                  size_t count);

void outbox_clear(struct outbox *outbox);

/* Writes what is possible. 0, EAGAIN, or the errno of a stream that is gone. */
int outbox_flush(struct outbox *outbox, int fd);

#endif
