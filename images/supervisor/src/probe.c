/*
 * probe: whether there is a way out of the sandbox, as a tool would find it. Every interface is told, then what became of each
 * try; all tries are made at once. What is said is what the kernel answers a process with the effective user of the tools.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "hand.h"

enum { ANSWER_MAX = 512 };

struct attempt {
  int fd; /* -1: it is over */
  int code;
  uint64_t untilMs;
  uint8_t answer[ANSWER_MAX];
  size_t answered;
};

static uint64_t now_ms(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
}

static int flags_of(int fd, const char *name, uint32_t *flags) {
  struct ifreq request = {0};
  strncpy(request.ifr_name, name, sizeof request.ifr_name - 1);
  if (ioctl(fd, SIOCGIFFLAGS, &request) != 0) {
    return errno;
  }
  *flags = (uint16_t)request.ifr_flags;
  return 0;
}

static int tell_interfaces(struct hand *hand) {
  struct if_nameindex *all = if_nameindex();
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  int code = !all || fd < 0 ? errno : 0;
  for (const struct if_nameindex *each = all; !code && each->if_name; each++) {
    uint32_t flags = 0;
    code = flags_of(fd, each->if_name, &flags);
    if (!code) {
      records_interface(&hand->out, flags, each->if_name);
      hand->entries++;
    }
  }
  if (all) {
    if_freenameindex(all);
  }
  if (fd >= 0) {
    close(fd);
  }
  return code;
}

static void finish(struct attempt *attempt, int code) {
  attempt->code = code;
  close(attempt->fd);
  attempt->fd = -1;
}

static socklen_t address_of(const struct probe *probe, struct sockaddr_storage *storage) {
  *storage = (struct sockaddr_storage){.ss_family = probe->ipv6 ? AF_INET6 : AF_INET};
  if (probe->ipv6) {
    struct sockaddr_in6 *address = (struct sockaddr_in6 *)storage;
    address->sin6_port = htons(probe->port);
    memcpy(&address->sin6_addr, probe->address, 16);
    return sizeof *address;
  }
  struct sockaddr_in *address = (struct sockaddr_in *)storage;
  address->sin_port = htons(probe->port);
  memcpy(&address->sin_addr, probe->address, 4);
  return sizeof *address;
}

static void begin(const struct probe *probe, struct attempt *attempt, uint64_t nowMs) {
  struct sockaddr_storage address;
  socklen_t length = address_of(probe, &address);
  attempt->untilMs = nowMs + probe->timeoutMs;
  attempt->fd = socket(address.ss_family, (probe->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (attempt->fd < 0) {
    attempt->code = errno;
  } else if (connect(attempt->fd, (const struct sockaddr *)&address, length) != 0) {
    if (errno != EINPROGRESS) {
      finish(attempt, errno);
    }
  } else if (!probe->udp) {
    finish(attempt, 0);
  } else if (send(attempt->fd, probe->payload, probe->length, MSG_NOSIGNAL) < 0) {
    finish(attempt, errno);
  }
}

static void look(const struct probe *probe, struct attempt *attempt) {
  if (probe->udp) {
    ssize_t n = recv(attempt->fd, attempt->answer, ANSWER_MAX, 0);
    attempt->answered = n > 0 ? (size_t)n : 0;
    if (n >= 0 || (errno != EAGAIN && errno != EINTR)) {
      finish(attempt, n < 0 ? errno : 0);
    }
    return;
  }
  int code = 0;
  socklen_t length = sizeof code;
  if (getsockopt(attempt->fd, SOL_SOCKET, SO_ERROR, &code, &length) != 0) {
    code = errno;
  }
  finish(attempt, code);
}

/* Ends those whose time is over. How long until the next one's is; -1: none waits. */
static int expire(struct attempt *attempts, size_t count) {
  uint64_t now = now_ms();
  int wait = -1;
  for (size_t i = 0; i < count; i++) {
    if (attempts[i].fd >= 0 && attempts[i].untilMs <= now) {
      finish(&attempts[i], ETIMEDOUT);
    }
    if (attempts[i].fd >= 0) {
      int left = (int)(attempts[i].untilMs - now);
      wait = wait < 0 || left < wait ? left : wait;
    }
  }
  return wait;
}

int hand_probe(struct hand *hand) {
  const struct spec *spec = hand->spec;
  struct attempt attempts[PROBES_MAX];
  struct pollfd fds[PROBES_MAX];
  int code = tell_interfaces(hand), wait;
  if (code) {
    return code;
  }
  for (size_t i = 0; i < spec->probeCount; i++) {
    attempts[i] = (struct attempt){0};
    begin(&spec->probes[i], &attempts[i], now_ms());
  }
  while ((wait = expire(attempts, spec->probeCount)) >= 0) {
    for (size_t i = 0; i < spec->probeCount; i++) {
      fds[i] = (struct pollfd){.fd = attempts[i].fd, .events = spec->probes[i].udp ? POLLIN : POLLOUT};
    }
    if (poll(fds, spec->probeCount, wait) < 0 && errno != EINTR) {
      return errno;
    }
    for (size_t i = 0; i < spec->probeCount; i++) {
      if (attempts[i].fd >= 0 && fds[i].revents) {
        look(&spec->probes[i], &attempts[i]);
      }
    }
  }
  for (size_t i = 0; i < spec->probeCount; i++) {
    records_probe(&hand->out, (uint8_t)i, attempts[i].code, attempts[i].answer, attempts[i].answered);
    hand->entries++;
  }
  return 0;
}
