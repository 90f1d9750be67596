/* The spec of a call, parsed in place: strings point into the buffer it came in, which must outlive it. */
#ifndef SPEC_H
#define SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SPEC_MAX = 8 * 1024 * 1024, PROBES_MAX = 16 };

enum hand_verb {
  HAND_NONE,
  HAND_STAT,
  HAND_READ,
  HAND_WRITE,
  HAND_WALK,
  HAND_MKDIR,
  HAND_MOVE,
  HAND_REMOVE,
  HAND_UNPACK,
  HAND_GATEWAY,
  HAND_PROBE,
  HAND_VERBS,
};

/* One try to get out of the sandbox. */
struct probe {
  bool udp;
  bool ipv6;
  uint8_t address[16]; /* the first four of them, or all */
  uint16_t port;
  uint16_t timeoutMs;
  const uint8_t *payload; /* of UDP */
  size_t length;
};

struct spec {
  char **argv; /* NULL at the end; likewise below */
  char **env;
  const char *cwd;
  const uint8_t *script;
  size_t scriptLength;
  uint32_t killAfterMs;
  uint32_t idleMs;
  uint32_t graceMs;
  uint32_t drainMs;
  bool keep;
  bool hasStdin;
  bool terminal;
  uint16_t columns;
  uint16_t rows;
  bool aux;
  uint32_t umask;
  uint32_t uid;
  uint32_t gid;

  enum hand_verb verb;
  char **paths;
  char **prune;
  char *to;
  uint8_t flags;
  bool hasMode;
  uint32_t mode;
  uint64_t offset;
  uint64_t length;
  const uint8_t *expected; /* sha256, or NULL */
  uint32_t depthMax;
  uint64_t entriesMax;
  uint64_t contentMax;
  uint64_t fileMax;
  struct probe *probes;
  size_t probeCount;
};

/* NULL, or what is wrong with it. Writes into the buffer (strings get their NUL). spec_free() in both cases. */
const char *spec_parse(struct spec *spec, uint8_t *buffer, size_t length);
void spec_free(struct spec *spec);

#endif
