/* Everything PID 1 knows. One of these exists, in main(). */
#ifndef SUPERVISOR_H
#define SUPERVISOR_H

#include <time.h>

#include "call.h"
#include "counters.h"
#include "frames.h"

enum { SWALLOWED_MAX = 16 };

enum { LANE_ATTACHED, LANE_DIRECT, LANES };

/* A way for the stream: see lanes.h. Descriptors are -1 where there is none. */
struct lane {
  int in;
  int out;
  int farIn; /* the runner's ends of the pipes, until it has them open */
  int farOut;
  bool inWatched;
  bool outWatched;
  bool inWidened;
  bool outWidened;
  struct parser parser;
};

struct supervisor {
  int epoll;
  uint64_t nowUs;
  bool attached;     /* somebody reads; set by HELLO, cleared when the stream breaks */
  bool stop;
  uint64_t inRetryAtUs; /* stdin had no writer: look again then */
  uint64_t lastFrameUs;
  uint64_t orphanUs;
  bool childrenLeft; /* PID 1 has any child: without one, no call has a process */
  uint64_t killedAtUs; /* when a tree was last seen to be killed, or 0 */
  uint64_t lookAtUs;   /* who dies is looked for from then on */
  struct counters counters;
  struct start_report *reports; /* one per call, shared with its child */
  uint32_t swallowed[SWALLOWED_MAX]; /* refused calls of which more pieces will come */
  unsigned firstCall; /* whose output goes first this time */
  struct call calls[CALLS_MAX];
  struct lane lanes[LANES];
  struct lane *lane; /* where the stream is */
  struct outbox outbox;
};

static inline uint64_t clock_us(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_nsec / 1000;
}

enum { LAZY_US = 2000 };

/* Marks what is in the outbox as not to be delayed; the rest may wait for company a little. */
static inline void post_urgent(struct supervisor *supervisor) {
  supervisor->outbox.urgent = true;
}

static inline void post_lazy(struct supervisor *supervisor) {
  if (!supervisor->outbox.urgent && supervisor->outbox.lazyAtUs == 0) {
    supervisor->outbox.lazyAtUs = supervisor->nowUs + LAZY_US;
  }
}

#endif
