/* Connections: what their peers inside send is told, what the runner sends is handed to them; ends and resets as TCP has them. */
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "gateway.h"

enum { TELL_AFTER = CREDIT / 4 /* bytes that the peer took */ };

static int find(const struct gateway *gateway, uint32_t number) {
  for (int i = 0; i < CONNECTIONS_MAX; i++) {
    if (gateway->numbers[i] == number) {
      return i;
    }
  }
  return -1;
}

static void linger(int fd, bool reset) {
  struct linger option = {.l_onoff = reset};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &option, sizeof option);
}

static bool may_read(const struct connection *connection) {
  return !connection->readEnd && connection->mayTell > 0;
}

static bool has_queue(const struct connection *connection) {
  return connection->queue.base < connection->queue.end;
}

/*
 * A hang-up is reported whatever the mask says. While nothing may be read, only its moment is of interest, or it would be
 * reported for ever.
 */
static uint32_t wanted(const struct connection *connection) {
  if (connection->connecting) {
    return EPOLLOUT;
  }
  bool stalled = !connection->readEnd && connection->mayTell == 0;
  return (may_read(connection) ? EPOLLIN : 0u) | (has_queue(connection) ? EPOLLOUT : 0u) | (stalled ? EPOLLET : 0u);
}

static bool watch(struct gateway *gateway, unsigned slot, int operation) {
  struct connection *connection = &gateway->connections[slot];
  struct epoll_event event = {.events = wanted(connection), .data.u64 = gateway_key(false, slot, gateway->numbers[slot])};
  if (operation == EPOLL_CTL_MOD && event.events == connection->watched) {
    return true;
  }
  connection->watched = event.events;
  return epoll_ctl(gateway->epoll, operation, connection->fd, &event) == 0;
}

/* Until both sides have ended properly, closing resets: then the kernel does it too, if this process is killed. */
static bool settle(struct gateway *gateway, unsigned slot, int fd, uint32_t number, bool connecting) {
  int on = 1;
  gateway->numbers[slot] = number;
  gateway->connections[slot] =
      (struct connection){.fd = fd, .connecting = connecting, .mayTell = CREDIT, .mayArrive = CREDIT};
  linger(fd, true);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return watch(gateway, slot, EPOLL_CTL_ADD);
}

static void forget(struct gateway *gateway, unsigned slot) {
  close(gateway->connections[slot].fd);
  ring_free(&gateway->connections[slot].queue);
  gateway->numbers[slot] = 0;
}

static void end(struct gateway *gateway, unsigned slot, bool reset) {
  uint32_t number = gateway->numbers[slot];
  linger(gateway->connections[slot].fd, reset);
  forget(gateway, slot);
  outgoing_number(&gateway->out, 'G', number);
}

static void broken_by_peer(struct gateway *gateway, unsigned slot) {
  outgoing_number(&gateway->out, 'R', gateway->numbers[slot]);
  end(gateway, slot, true);
}

/* The runner's end of data has its turn once the peer took what came before. */
static void finish(struct gateway *gateway, unsigned slot) {
  struct connection *connection = &gateway->connections[slot];
  if (!connection->writeEnd || has_queue(connection) || connection->connecting) {
    return;
  }
  if (connection->readEnd) {
    end(gateway, slot, false); /* which says the end to the peer, too */
  } else if (shutdown(connection->fd, SHUT_WR) != 0) {
    broken_by_peer(gateway, slot);
  }
}

void connections_add(struct gateway *gateway, int fd, uint32_t listener, const struct endpoint *peer) {
  int slot = find(gateway, 0);
  uint32_t number = gateway->lastAccepted;
  do {
    number += 2;
  } while (find(gateway, number) >= 0);
  if (slot < 0 || !settle(gateway, (unsigned)slot, fd, number, false)) {
    linger(fd, true);
    close(fd);
    if (slot >= 0) {
      gateway->numbers[slot] = 0;
    }
    return;
  }
  gateway->lastAccepted = number;
  outgoing_accepted(&gateway->out, number, listener, peer);
}

/* 0, EINPROGRESS, or why it cannot be. */
static int begin(struct gateway *gateway, const struct order *order) {
  int slot = find(gateway, 0);
  struct sockaddr_in address;
  if (slot < 0 || !endpoint_inside(&order->endpoint, &address)) {
    return slot < 0 ? EMFILE : EINVAL;
  }
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    return errno;
  }
  int code = connect(fd, (const struct sockaddr *)&address, sizeof address) == 0 ? 0 : errno;
  if (code != 0 && code != EINPROGRESS) {
    close(fd);
  } else if (!settle(gateway, (unsigned)slot, fd, order->number, code != 0)) {
    forget(gateway, (unsigned)slot);
    code = ENOMEM;
  }
  return code;
}

static void take_queue(struct gateway *gateway, unsigned slot);

static int error_of(const struct connection *connection) {
  int code = 0;
  socklen_t length = sizeof code;
  return getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &code, &length) == 0 ? code : errno;
}

static void connected(struct gateway *gateway, unsigned slot) {
  struct connection *connection = &gateway->connections[slot];
  int code = error_of(connection);
  outgoing_value(&gateway->out, 'C', gateway->numbers[slot], (uint32_t)code);
  connection->connecting = false;
  if (code != 0) {
    forget(gateway, slot);
  } else {
    take_queue(gateway, slot);
  }
}

/* Bytes the peer took, or -1: the connection is broken. */
static long hand_over(struct connection *connection, const struct iovec *pieces, size_t count) {
  struct msghdr message = {.msg_iov = (struct iovec *)pieces, .msg_iovlen = count};
  ssize_t n = sendmsg(connection->fd, &message, MSG_NOSIGNAL);
  if (n >= 0) {
    connection->passed += (uint32_t)n;
    return n;
  }
  return errno == EAGAIN || errno == EINTR ? 0 : -1;
}

static void grant(struct gateway *gateway, unsigned slot) {
  struct connection *connection = &gateway->connections[slot];
  if (connection->passed >= TELL_AFTER && !connection->writeEnd) {
    outgoing_value(&gateway->out, 'W', gateway->numbers[slot], connection->passed);
    connection->mayArrive += connection->passed;
    connection->passed = 0;
  }
}

static void take_queue(struct gateway *gateway, unsigned slot) {
  struct connection *connection = &gateway->connections[slot];
  struct bytes pieces[2];
  long n = 1;
  while (n > 0 && ring_peek(&connection->queue, connection->queue.base, RING_MAX, pieces)) {
    const struct iovec vectors[2] = {{(void *)pieces[0].data, pieces[0].length}, {(void *)pieces[1].data, pieces[1].length}};
    n = hand_over(connection, vectors, 2);
    ring_drop(&connection->queue, connection->queue.base + (uint64_t)(n > 0 ? n : 0));
  }
  if (n < 0) {
    broken_by_peer(gateway, slot);
    return;
  }
  grant(gateway, slot);
  finish(gateway, slot);
}

static bool data(struct gateway *gateway, unsigned slot, const struct order *order) {
  struct connection *connection = &gateway->connections[slot];
  if (connection->writeEnd || order->length == 0 || order->length > connection->mayArrive) {
    return false;
  }
  connection->mayArrive -= (uint32_t)order->length;
  const struct iovec whole = {(void *)order->data, order->length};
  long n = connection->connecting || has_queue(connection) ? 0 : hand_over(connection, &whole, 1);
  size_t rest = n < 0 ? 0 : order->length - (size_t)n;
  if (n < 0 || ring_put(&connection->queue, order->data + n, rest, 1) < rest) {
    broken_by_peer(gateway, slot); /* or by the lack of memory for what it has not taken */
  } else {
    grant(gateway, slot);
  }
  return true;
}

static bool order_one(struct gateway *gateway, unsigned slot, const struct order *order) {
  struct connection *connection = &gateway->connections[slot];
  switch (order->kind) {
    case 'D': return data(gateway, slot, order);
    case 'F':
      if (connection->writeEnd) {
        return false;
      }
      connection->writeEnd = true;
      finish(gateway, slot);
      return true;
    case 'W':
      if (order->bytes > CREDIT - connection->mayTell) {
        return false;
      }
      connection->mayTell += order->bytes;
      return true;
    case 'R':
      if (connection->connecting) {
        outgoing_value(&gateway->out, 'C', order->number, ECANCELED);
        forget(gateway, slot);
      } else {
        end(gateway, slot, true);
      }
      return true;
    default: return false;
  }
}

bool connections_order(struct gateway *gateway, const struct order *order) {
  int slot = order->number ? find(gateway, order->number) : -1;
  if (order->kind == 'C') {
    if (order->number == 0 || order->number % 2 != 0 || slot >= 0) {
      return false;
    }
    int code = begin(gateway, order);
    if (code != EINPROGRESS) {
      outgoing_value(&gateway->out, 'C', order->number, (uint32_t)code);
    }
    return true;
  }
  if (slot < 0) {
    return order->number != 0; /* what crossed its 'G' */
  }
  if (!order_one(gateway, (unsigned)slot, order)) {
    return false;
  }
  if (gateway->numbers[slot]) {
    watch(gateway, (unsigned)slot, EPOLL_CTL_MOD);
  }
  return true;
}

/* One read. False: the connection is no more. */
static bool tell(struct gateway *gateway, unsigned slot) {
  struct connection *connection = &gateway->connections[slot];
  size_t max = connection->mayTell < DATA_TOLD_MAX ? connection->mayTell : DATA_TOLD_MAX;
  ssize_t n = recv(connection->fd, outgoing_bytes(&gateway->out, DATA_FIXED), max, 0);
  if (n > 0) {
    outgoing_data(&gateway->out, gateway->numbers[slot], (size_t)n);
    connection->mayTell -= (uint32_t)n;
    return true;
  }
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
    return true;
  }
  if (n < 0) {
    broken_by_peer(gateway, slot);
    return false;
  }
  connection->readEnd = true;
  outgoing_number(&gateway->out, 'F', gateway->numbers[slot]);
  finish(gateway, slot);
  return gateway->numbers[slot] != 0;
}

/*
 * Nothing may be read. Some kernels (gVisor) report errors also of a connection that has properly ended, with bytes that are
 * still to be read: only one that names its error is broken. One whose end was read can only have been reset since.
 */
static bool is_broken(const struct connection *connection, uint32_t events) {
  bool over = events & (EPOLLERR | EPOLLHUP);
  return over && (connection->readEnd || error_of(connection) != 0);
}

void connections_ready(struct gateway *gateway, unsigned slot, uint32_t number, uint32_t events) {
  struct connection *connection = &gateway->connections[slot];
  if (gateway->numbers[slot] != number) {
    return;
  }
  if (connection->connecting) {
    connected(gateway, slot);
  } else if (may_read(connection)) {
    if ((events & (EPOLLIN | EPOLLERR | EPOLLHUP)) && !tell(gateway, slot)) {
      return;
    }
  } else if (is_broken(connection, events)) {
    broken_by_peer(gateway, slot);
    return;
  }
  if (gateway->numbers[slot] == number && (events & EPOLLOUT) && has_queue(connection)) {
    take_queue(gateway, slot);
  }
  if (gateway->numbers[slot] == number) {
    watch(gateway, slot, EPOLL_CTL_MOD);
  }
}
