/*
 * The gateway: what the loopback of a sandbox carries for the runner (docs/protocol.md, "The gateway"). Promises:
 *  - it moves bytes and datagrams and reads none of them: no names, no HTTP, no TLS;
 *  - it listens on addresses of 127.0.0.0/8 only and connects to no others; nobody can share a listener with it;
 *  - of a connection it holds at most CREDIT bytes, and no connection, however slow, keeps it from the others;
 *  - however it ends, what was open then is reset: nobody takes half an answer for a whole one.
 */
#ifndef GATEWAY_H
#define GATEWAY_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "gateway-records.h"
#include "ring.h"

enum { CONNECTIONS_MAX = 256, LISTENERS_MAX = 64, CREDIT = RING_MAX, TURN_EVENTS = 64 };

struct listener {
  int fd; /* -1: a free slot */
  uint32_t number;
  uint8_t protocol;
};

struct connection {
  int fd;
  bool connecting;
  bool readEnd;       /* the peer sends no more, and the runner was told */
  bool writeEnd;      /* the runner sends no more */
  uint32_t watched;   /* what epoll looks for */
  uint32_t mayTell;   /* credit: bytes of 'D' that the runner takes */
  uint32_t mayArrive; /* bytes of 'D' that the runner may send */
  uint32_t passed;    /* bytes the peer took since the last 'W' */
  struct ring queue;  /* for the peer */
};

struct gateway {
  int epoll; /* of sockets */
  struct outgoing out;
  uint8_t *in;
  size_t inStart;
  size_t inEnd;
  bool ordersWait; /* for room in out; likewise the events from eventAt on */
  struct epoll_event events[TURN_EVENTS];
  int eventAt;
  int eventCount;
  struct listener listeners[LISTENERS_MAX];
  uint64_t acceptAtMs; /* no descriptor could be had: try again then; else 0 */
  uint32_t lastAccepted;
  uint32_t numbers[CONNECTIONS_MAX]; /* of the connection in each slot; 0: a free one */
  struct connection connections[CONNECTIONS_MAX];
};

/* Until stdin ends. The exit code: 0, or 1 after an order that breaks the grammar or when its stdout is gone. */
int gateway_run(void);

/* An address that leads nowhere but to this sandbox; false: it is of another kind, or has no port. */
bool endpoint_inside(const struct endpoint *endpoint, struct sockaddr_in *address);
struct endpoint endpoint_of(const struct sockaddr_in *address);

/* What an epoll event is about: a slot, and who was in it. */
uint64_t gateway_key(bool listener, unsigned slot, uint32_t number);

/* Orders to listeners. False: the order breaks the grammar. */
bool listeners_open(struct gateway *gateway, const struct order *order);
void listeners_close(struct gateway *gateway, uint32_t number);
void listeners_answer(struct gateway *gateway, const struct order *order);

/* The outgoing buffer has room for OUTGOING_ANY; likewise below. */
void listeners_ready(struct gateway *gateway, unsigned slot, uint32_t number);

/* After a while without descriptors. */
void listeners_resume(struct gateway *gateway);

/* A socket that was accepted becomes a connection, or is reset where there are too many. */
void connections_add(struct gateway *gateway, int fd, uint32_t listener, const struct endpoint *peer);

/* 'C', 'D', 'F', 'R', 'W'. False: the order breaks the grammar. */
bool connections_order(struct gateway *gateway, const struct order *order);
void connections_ready(struct gateway *gateway, unsigned slot, uint32_t number, uint32_t events);

#endif
