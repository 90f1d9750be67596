#include "gateway.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { IN_SIZE = 4 * (RECORD_HEADER + RECORD_MAX), LOOPBACK = 127, LISTENER_KEY = 1 << 16 };

bool endpoint_inside(const struct endpoint *endpoint, struct sockaddr_in *address) {
  *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(endpoint->port)};
  memcpy(&address->sin_addr, endpoint->address, 4);
  return endpoint->address[0] == LOOPBACK && endpoint->port != 0;
}

struct endpoint endpoint_of(const struct sockaddr_in *address) {
  struct endpoint endpoint = {.port = ntohs(address->sin_port)};
  memcpy(endpoint.address, &address->sin_addr, 4);
  return endpoint;
}

uint64_t gateway_key(bool listener, unsigned slot, uint32_t number) {
  return (uint64_t)(slot | (listener ? LISTENER_KEY : 0)) << 32 | number;
}

static bool obey_one(struct gateway *gateway, const struct order *order) {
  switch (order->kind) {
    case 'L': return listeners_open(gateway, order);
    case 'l': listeners_close(gateway, order->number); return true;
    case 'U': listeners_answer(gateway, order); return true;
    default: return connections_order(gateway, order);
  }
}

/* False: the grammar is broken. */
static bool obey(struct gateway *gateway) {
  struct order order;
  while (!(gateway->ordersWait = outgoing_room(&gateway->out) < OUTGOING_CONTROL)) {
    long n = order_parse(gateway->in + gateway->inStart, gateway->inEnd - gateway->inStart, &order);
    if (n == 0) {
      return true;
    }
    if (n < 0 || !obey_one(gateway, &order)) {
      return false;
    }
    gateway->inStart += (size_t)n;
  }
  return true;
}

static void serve(struct gateway *gateway) {
  while (gateway->eventAt < gateway->eventCount && outgoing_room(&gateway->out) >= OUTGOING_ANY) {
    const struct epoll_event *event = &gateway->events[gateway->eventAt++];
    unsigned slot = (unsigned)(event->data.u64 >> 32);
    if (slot & LISTENER_KEY) {
      listeners_ready(gateway, slot & ~(unsigned)LISTENER_KEY, (uint32_t)event->data.u64);
    } else {
      connections_ready(gateway, slot, (uint32_t)event->data.u64, event->events);
    }
  }
}

/* Room for at least one more record than is there already. */
static size_t in_room(struct gateway *gateway) {
  if (gateway->inStart == gateway->inEnd) {
    gateway->inStart = gateway->inEnd = 0;
  } else if (IN_SIZE - gateway->inEnd < RECORD_HEADER + RECORD_MAX) {
    memmove(gateway->in, gateway->in + gateway->inStart, gateway->inEnd - gateway->inStart);
    gateway->inEnd -= gateway->inStart;
    gateway->inStart = 0;
  }
  return IN_SIZE - gateway->inEnd;
}

/* False: stdin has ended. */
static bool listen_to_runner(struct gateway *gateway) {
  size_t room = in_room(gateway);
  ssize_t n = read(0, gateway->in + gateway->inEnd, room);
  gateway->inEnd += n > 0 ? (size_t)n : 0;
  return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static uint64_t now_ms(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
}

static int timeout_ms(struct gateway *gateway) {
  if (gateway->acceptAtMs == 0) {
    return -1;
  }
  uint64_t now = now_ms();
  if (now >= gateway->acceptAtMs) {
    listeners_resume(gateway);
    return 0;
  }
  return (int)(gateway->acceptAtMs - now);
}

/*
 * Sleeps until something can be done. What could not be, for want of room in stdout, is not looked for: orders need a little,
 * sockets much, so the runner is heard even while the data it has not taken yet stops all reading of sockets.
 */
static bool wait_for_news(struct gateway *gateway, bool *ended) {
  size_t room = outgoing_room(&gateway->out);
  bool idle = gateway->eventAt == gateway->eventCount;
  bool busy = (gateway->ordersWait && room >= OUTGOING_CONTROL) || (!idle && room >= OUTGOING_ANY);
  struct pollfd fds[] = {
      {.fd = room >= OUTGOING_CONTROL ? 0 : -1, .events = POLLIN},
      {.fd = gateway->out.end > 0 ? 1 : -1, .events = POLLOUT},
      {.fd = idle && room >= OUTGOING_ANY ? gateway->epoll : -1, .events = POLLIN},
  };
  if (poll(fds, 3, busy ? 0 : timeout_ms(gateway)) < 0) {
    return errno == EINTR;
  }
  if (fds[2].revents) {
    int n = epoll_wait(gateway->epoll, gateway->events, TURN_EVENTS, 0);
    gateway->eventAt = 0;
    gateway->eventCount = n > 0 ? n : 0;
  }
  *ended = fds[0].revents && !listen_to_runner(gateway);
  return true;
}

static bool prepare(struct gateway *gateway) {
  for (unsigned i = 0; i < LISTENERS_MAX; i++) {
    gateway->listeners[i].fd = -1;
  }
  gateway->lastAccepted = UINT32_MAX;
  gateway->in = malloc(IN_SIZE);
  gateway->epoll = epoll_create1(EPOLL_CLOEXEC);
  signal(SIGPIPE, SIG_IGN);
  return gateway->in && outgoing_open(&gateway->out) && gateway->epoll >= 0 && fcntl(0, F_SETFL, O_NONBLOCK) == 0 &&
         fcntl(1, F_SETFL, O_NONBLOCK) == 0;
}

int gateway_run(void) {
  struct gateway *gateway = calloc(1, sizeof *gateway);
  if (!gateway || !prepare(gateway)) {
    return 1;
  }
  for (bool ended = false; !ended;) {
    if (!obey(gateway)) {
      return 1;
    }
    serve(gateway);
    int code = outgoing_flush(&gateway->out);
    if ((code != 0 && code != EAGAIN) || !wait_for_news(gateway, &ended)) {
      return 1;
    }
  }
  return 0; /* sockets that are still open are reset with the process: that is how they were made */
}
