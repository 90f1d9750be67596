#include "hand.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway.h"
#include "privileges.h"

enum { UNPACK_OWNERS = 1 };

bool hand_become(const struct hand *hand, bool root) {
  if (root) {
    return setresuid(0, 0, 0) == 0 && setresgid(0, 0, 0) == 0;
  }
  return setresgid(0, hand->spec->gid, 0) == 0 && setresuid(0, hand->spec->uid, 0) == 0;
}

static int run_verb(struct hand *hand) {
  switch (hand->spec->verb) {
    case HAND_STAT: return hand_stat(hand);
    case HAND_READ: return hand_read(hand);
    case HAND_WRITE: return hand_write(hand);
    case HAND_WALK: return hand_walk(hand);
    case HAND_MKDIR: return hand_mkdir(hand);
    case HAND_MOVE: return hand_move(hand);
    case HAND_REMOVE: return hand_remove(hand);
    case HAND_UNPACK: return hand_unpack(hand);
    case HAND_PROBE: return hand_probe(hand);
    default: return ENOSYS;
  }
}

/* What goes back and forth between users keeps the two capabilities for it; they work only while it is root. */
static bool drop(struct hand *hand) {
  bool owners = hand->spec->verb == HAND_UNPACK && (hand->spec->flags & UNPACK_OWNERS);
  return privileges_set(PRIVILEGE_USERS) == 0 && hand_become(hand, false) && (owners || privileges_set(0) == 0);
}

int hand_run(const struct spec *spec) {
  struct hand hand = {.spec = spec, .failed = spec->paths[0] ? NULL : ""};
  if (spec->verb == HAND_GATEWAY) {
    return drop(&hand) ? gateway_run() : 1;
  }
  if (!records_open(&hand.out)) {
    return 1;
  }
  int code = EPERM;
  if (drop(&hand)) {
    hand.cwdCode = chdir(spec->cwd ? spec->cwd : "/workspace") == 0 ? 0 : errno;
    code = run_verb(&hand);
  }
  if (code == 0) {
    records_end(&hand.out, hand.truncated, hand.entries, hand.bytes);
  } else {
    records_error(&hand.out, 'E', code, hand.failed ? hand.failed : spec->paths[0]);
  }
  records_flush(&hand.out);
  return code == 0 ? 0 : 1;
}
