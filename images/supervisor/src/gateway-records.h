/*
 * Records between the runner and the gateway (docs/protocol.md, "The gateway"): orders are taken apart where they lie, what the
 * runner is told waits in one buffer until stdout takes it.
 */
#ifndef GATEWAY_RECORDS_H
#define GATEWAY_RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frames.h"
#include "records.h"

enum {
  DATA_FIXED = RECORD_HEADER + 4,
  DATA_TOLD_MAX = OUT_BYTES_MAX - DATA_FIXED, /* with it a 'D' to the runner fills one frame of output */
  DATAGRAM_FIXED = RECORD_HEADER + 10,
  DATAGRAM_MAX = 4096,
  OUTGOING_SIZE = 4 * OUT_BYTES_MAX,
  OUTGOING_CONTROL = 64, /* what is told because of one order, data aside, is never longer */
  OUTGOING_ANY = OUT_BYTES_MAX + OUTGOING_CONTROL, /* nor because of one event of a socket */
};

struct endpoint {
  uint8_t address[4];
  uint16_t port;
};

/* What the runner wants. Which fields are set depends on the kind. */
struct order {
  uint8_t kind;
  uint32_t number; /* of the listener ('L', 'l', 'U') or connection */
  uint8_t protocol;
  struct endpoint endpoint;
  uint32_t bytes; /* granted, of 'W' */
  const uint8_t *data;
  size_t length;
};

enum { PROTOCOL_TCP = 1, PROTOCOL_UDP = 2 };

/* Takes one order out of bytes. >0: its whole length; 0: more is needed; <0: it is malformed. */
long order_parse(const uint8_t *bytes, size_t length, struct order *order);

struct outgoing {
  uint8_t *buffer;
  size_t start;
  size_t end;
};

bool outgoing_open(struct outgoing *outgoing);

/* Bytes that can be added before all that waits was written. The caller looks before it adds. */
size_t outgoing_room(const struct outgoing *outgoing);

/* 'F', 'R', 'G'. */
void outgoing_number(struct outgoing *outgoing, char kind, uint32_t number);

/* 'L', 'C', 'W'. */
void outgoing_value(struct outgoing *outgoing, char kind, uint32_t number, uint32_t value);

void outgoing_accepted(struct outgoing *outgoing, uint32_t number, uint32_t listener, const struct endpoint *peer);

/* Where the bytes of a 'D' or 'U' go; what was put there becomes one with the function below. */
uint8_t *outgoing_bytes(struct outgoing *outgoing, size_t fixed);
void outgoing_data(struct outgoing *outgoing, uint32_t number, size_t length);
void outgoing_datagram(struct outgoing *outgoing, uint32_t listener, const struct endpoint *peer, size_t length);

/* Writes what is possible. 0, EAGAIN, or the errno of a stdout that is gone. */
int outgoing_flush(struct outgoing *outgoing);

#endif
