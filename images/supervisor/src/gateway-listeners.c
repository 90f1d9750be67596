/* Where tools knock: sockets that listen, and sockets that datagrams come to. */
#include <errno.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "gateway.h"

enum { BACKLOG = 256, ACCEPTS_PER_TURN = 16, DATAGRAMS_PER_TURN = 15, RETRY_MS = 50 };

static bool watch(struct gateway *gateway, unsigned slot) {
  const struct listener *listener = &gateway->listeners[slot];
  struct epoll_event event = {.events = EPOLLIN, .data.u64 = gateway_key(true, slot, listener->number)};
  return epoll_ctl(gateway->epoll, EPOLL_CTL_ADD, listener->fd, &event) == 0;
}

static bool accepts(const struct listener *listener) {
  return listener->fd >= 0 && listener->protocol == PROTOCOL_TCP;
}

static struct listener *find(struct gateway *gateway, uint32_t number) {
  for (unsigned i = 0; i < LISTENERS_MAX; i++) {
    if (gateway->listeners[i].fd >= 0 && gateway->listeners[i].number == number) {
      return &gateway->listeners[i];
    }
  }
  return NULL;
}

static struct listener *free_slot(struct gateway *gateway) {
  for (unsigned i = 0; i < LISTENERS_MAX; i++) {
    if (gateway->listeners[i].fd < 0) {
      return &gateway->listeners[i];
    }
  }
  return NULL;
}

/*
 * No SO_REUSEPORT, and no SO_REUSEADDR for datagrams: with either, somebody else could have a part of what comes. On a stream
 * socket SO_REUSEADDR lets nobody in who listens, and is needed while old connections of the port are remembered.
 */
static int open_socket(uint8_t protocol, const struct endpoint *endpoint) {
  struct sockaddr_in address;
  int on = 1;
  if (!endpoint_inside(endpoint, &address)) {
    return -EINVAL;
  }
  int fd = socket(AF_INET, (protocol == PROTOCOL_TCP ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    return -errno;
  }
  if ((protocol == PROTOCOL_TCP && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0) ||
      bind(fd, (const struct sockaddr *)&address, sizeof address) != 0 ||
      (protocol == PROTOCOL_TCP && listen(fd, BACKLOG) != 0)) {
    int code = errno;
    close(fd);
    return -code;
  }
  return fd;
}

bool listeners_open(struct gateway *gateway, const struct order *order) {
  if ((order->protocol != PROTOCOL_TCP && order->protocol != PROTOCOL_UDP) || find(gateway, order->number)) {
    return false;
  }
  struct listener *listener = free_slot(gateway);
  int fd = listener ? open_socket(order->protocol, &order->endpoint) : -EMFILE;
  if (fd >= 0) {
    *listener = (struct listener){fd, order->number, order->protocol};
    bool later = accepts(listener) && gateway->acceptAtMs != 0;
    if (!later && !watch(gateway, (unsigned)(listener - gateway->listeners))) {
      listener->fd = -1;
      close(fd);
      fd = -ENOMEM;
    }
  }
  outgoing_value(&gateway->out, 'L', order->number, fd < 0 ? (uint32_t)-fd : 0);
  return true;
}

void listeners_close(struct gateway *gateway, uint32_t number) {
  struct listener *listener = find(gateway, number);
  if (listener) {
    close(listener->fd);
    listener->fd = -1;
  }
}

void listeners_answer(struct gateway *gateway, const struct order *order) {
  const struct listener *listener = find(gateway, order->number);
  struct sockaddr_in address;
  if (listener && listener->protocol == PROTOCOL_UDP && order->length <= DATAGRAM_MAX &&
      endpoint_inside(&order->endpoint, &address)) {
    sendto(listener->fd, order->data, order->length, MSG_NOSIGNAL | MSG_DONTWAIT, (const struct sockaddr *)&address,
           sizeof address); /* a datagram that cannot be sent now is lost, as datagrams may be */
  }
}

/* Nothing was taken from the queue, so it would be reported again at once and for ever. */
static void pause_accepting(struct gateway *gateway) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  gateway->acceptAtMs = (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000 + RETRY_MS;
  for (unsigned i = 0; i < LISTENERS_MAX; i++) {
    if (accepts(&gateway->listeners[i])) {
      epoll_ctl(gateway->epoll, EPOLL_CTL_DEL, gateway->listeners[i].fd, NULL);
    }
  }
}

void listeners_resume(struct gateway *gateway) {
  gateway->acceptAtMs = 0;
  for (unsigned i = 0; i < LISTENERS_MAX; i++) {
    if (accepts(&gateway->listeners[i]) && !watch(gateway, i)) {
      pause_accepting(gateway);
      return;
    }
  }
}

static void accept_some(struct gateway *gateway, const struct listener *listener) {
  for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    int fd = accept4(listener->fd, (struct sockaddr *)&address, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      struct endpoint peer = endpoint_of(&address);
      connections_add(gateway, fd, listener->number, &peer);
    } else if (errno == EAGAIN) {
      return;
    } else if (errno != EINTR && errno != ECONNABORTED) {
      pause_accepting(gateway);
      return;
    }
  }
}

static void receive_some(struct gateway *gateway, const struct listener *listener) {
  for (int i = 0; i < DATAGRAMS_PER_TURN; i++) {
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    ssize_t n = recvfrom(listener->fd, outgoing_bytes(&gateway->out, DATAGRAM_FIXED), DATAGRAM_MAX, MSG_TRUNC,
                         (struct sockaddr *)&address, &length);
    if (n < 0) {
      return;
    }
    if (n <= DATAGRAM_MAX) {
      struct endpoint peer = endpoint_of(&address);
      outgoing_datagram(&gateway->out, listener->number, &peer, (size_t)n);
    }
  }
}

void listeners_ready(struct gateway *gateway, unsigned slot, uint32_t number) {
  const struct listener *listener = &gateway->listeners[slot];
  if (listener->fd < 0 || listener->number != number) {
    return;
  }
  if (listener->protocol == PROTOCOL_TCP) {
    accept_some(gateway, listener);
  } else {
    receive_some(gateway, listener);
  }
}
