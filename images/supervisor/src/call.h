/* One call: its process, its streams, its clocks, and how far the runner knows about it. */
#ifndef CALL_H
#define CALL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "ring.h"
#include "spawn.h"
#include "spec.h"

enum { CALLS_MAX = 64, STREAMS = 3, TARGET_IN = 4, STDIN_CREDIT = RING_MAX };

/* On its way from the first piece of a spec to the runner's RELEASE. */
enum call_state {
  CALL_FREE,
  CALL_ASSEMBLING, /* pieces of the spec arrive */
  CALL_STARTING,   /* no process could be had: tried again while killed ones are still being taken away */
  CALL_RUNNING,    /* the leader lives */
  CALL_DRAINING,   /* the leader has ended; what it wrote is read */
  CALL_REAPING,    /* what outlived it is killed */
  CALL_KEPT,       /* what outlived it goes on; EXIT is out */
  CALL_CLOSING,    /* nobody is left; the rest of the output is read */
  CALL_ENDED,
};

enum cause { CAUSE_NONE, CAUSE_KILL_AFTER, CAUSE_IDLE, CAUSE_CANCELLED, CAUSE_OUTPUT_LIMIT, CAUSE_ORPHANED };

enum kill_phase {
  KILL_NONE,
  KILL_GRACE, /* TERM was sent */
  KILL_TREE,  /* STOP and KILL until nobody is found */
};

enum exit_kind { EXIT_EXITED, EXIT_SIGNALED, EXIT_NOT_STARTED };

struct exit_record {
  uint8_t kind;
  uint8_t cause;
  uint8_t stage;
  uint8_t full;
  int32_t code;
  uint64_t wallUs;
  uint64_t userUs;
  uint64_t sysUs;
  uint64_t maxRssBytes;
  int32_t descendants;
  uint32_t killed;
  uint32_t oomKills;
  uint32_t pidsHits;
  uint64_t end;
};

struct stream {
  int fd; /* -1 at end of file */
  bool watched;
  bool lingers; /* a terminal that nobody has open just now */
  bool widened; /* its pipe was made larger, because much came through */
};

struct call {
  uint32_t id;
  uint32_t gid;
  uint32_t uid;
  enum call_state state;
  bool resumed; /* the attached runner has asked for its frames */

  uint8_t *pieces; /* of the spec, while ASSEMBLING and STARTING */
  size_t piecesLength;
  struct spec spec; /* while STARTING; its strings are in the pieces */

  pid_t leader; /* 0 once it was waited for */
  pid_t session;
  bool terminal;
  bool keep;
  bool prompt; /* its output waits for no company */
  bool hand;
  char *home;
  struct start_report *report;

  struct stream streams[STREAMS];
  struct ring output;
  uint64_t sent;
  bool held; /* reading is stopped because the ring is full */
  uint64_t heldAtUs;

  int in;
  bool inWatched;
  bool inWidened;
  bool inEnd;       /* the runner has sent the last byte */
  bool inGone;      /* nobody reads any more */
  bool inAckDue;
  uint64_t inAcked;
  struct ring input; /* base: consumed by the process, end: received */

  uint64_t startedUs;
  uint64_t killAtUs; /* 0: no such clock; likewise below */
  uint64_t idleUs;
  uint64_t idleAtUs;
  uint64_t graceUs;
  uint64_t drainUs;
  uint64_t drainAtUs;
  uint64_t watchAtUs; /* its pipes are watched from then on: most commands are over before, and much comes in large pieces */
  uint64_t quietAtUs;
  uint64_t drainFrom; /* how much output there was when the leader ended */

  enum kill_phase killing;
  uint64_t graceAtUs;
  uint64_t killStartedUs;
  uint64_t stepAtUs;
  uint64_t stepUs;
  uint64_t deadSinceUs; /* nobody was alive from then on, but somebody had not been waited for */
  bool killedUser;

  uint32_t oomBefore;
  uint32_t pidsBefore;
  struct exit_record exit;
  bool exitDue; /* reached; sent once the output before it was */
  bool exitSent;
  bool endDue;
  bool endSent;
};

#endif
