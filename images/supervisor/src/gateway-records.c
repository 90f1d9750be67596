#include "gateway-records.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bytes.h"

enum { ENDPOINT = 6 };

/* The length of what comes before the bytes of an order, and whether there may be any. */
struct shape {
  uint8_t kind;
  uint8_t fixed;
  bool bytes;
};

static const struct shape shapes[] = {
    {'L', 5 + ENDPOINT, false}, {'l', 4, false}, {'C', 4 + ENDPOINT, false}, {'D', 4, true},
    {'F', 4, false},            {'R', 4, false}, {'W', 8, false},            {'U', 4 + ENDPOINT, true},
};

static const struct shape *shape_of(uint8_t kind) {
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
    if (shapes[i].kind == kind) {
      return &shapes[i];
    }
  }
  return NULL;
}

static struct endpoint get_endpoint(const uint8_t *p) {
  return (struct endpoint){.address = {p[0], p[1], p[2], p[3]}, .port = get16(p + 4)};
}

static uint8_t *put_endpoint(uint8_t *p, const struct endpoint *endpoint) {
  memcpy(p, endpoint->address, 4);
  return put16(p + 4, endpoint->port);
}

long order_parse(const uint8_t *bytes, size_t length, struct order *order) {
  if (length < RECORD_HEADER) {
    return 0;
  }
  const struct shape *shape = shape_of(bytes[0]);
  uint32_t whole = get32(bytes + 1);
  if (!shape || whole > RECORD_MAX || whole < shape->fixed || (whole > shape->fixed && !shape->bytes)) {
    return -1;
  }
  if (length - RECORD_HEADER < whole) {
    return 0;
  }
  const uint8_t *p = bytes + RECORD_HEADER;
  *order = (struct order){
      .kind = bytes[0], .number = get32(p), .data = p + shape->fixed, .length = whole - (size_t)shape->fixed};
  switch (order->kind) {
    case 'L': order->protocol = p[4], order->endpoint = get_endpoint(p + 5); break;
    case 'C':
    case 'U': order->endpoint = get_endpoint(p + 4); break;
    case 'W': order->bytes = get32(p + 4); break;
    default: break;
  }
  return (long)(RECORD_HEADER + whole);
}

bool outgoing_open(struct outgoing *outgoing) {
  *outgoing = (struct outgoing){.buffer = malloc(OUTGOING_SIZE)};
  return outgoing->buffer != NULL;
}

size_t outgoing_room(const struct outgoing *outgoing) {
  return OUTGOING_SIZE - outgoing->end;
}

/* Where a payload of this length goes, its header already there. */
static uint8_t *begin(struct outgoing *outgoing, char kind, size_t length) {
  uint8_t *p = outgoing->buffer + outgoing->end;
  outgoing->end += RECORD_HEADER + length;
  return put32(put8(p, (uint8_t)kind), (uint32_t)length);
}

void outgoing_number(struct outgoing *outgoing, char kind, uint32_t number) {
  put32(begin(outgoing, kind, 4), number);
}

void outgoing_value(struct outgoing *outgoing, char kind, uint32_t number, uint32_t value) {
  put32(put32(begin(outgoing, kind, 8), number), value);
}

void outgoing_accepted(struct outgoing *outgoing, uint32_t number, uint32_t listener, const struct endpoint *peer) {
  put_endpoint(put32(put32(begin(outgoing, 'A', 8 + ENDPOINT), number), listener), peer);
}

uint8_t *outgoing_bytes(struct outgoing *outgoing, size_t fixed) {
  return outgoing->buffer + outgoing->end + fixed;
}

void outgoing_data(struct outgoing *outgoing, uint32_t number, size_t length) {
  put32(begin(outgoing, 'D', 4 + length), number);
}

void outgoing_datagram(struct outgoing *outgoing, uint32_t listener, const struct endpoint *peer, size_t length) {
  put_endpoint(put32(begin(outgoing, 'U', 4 + ENDPOINT + length), listener), peer);
}

int outgoing_flush(struct outgoing *outgoing) {
  while (outgoing->start < outgoing->end) {
    ssize_t n = write(1, outgoing->buffer + outgoing->start, outgoing->end - outgoing->start);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      return errno;
    }
    outgoing->start += (size_t)n;
  }
  outgoing->start = outgoing->end = 0;
  return 0;
}
