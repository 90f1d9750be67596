/* How a call gets its process. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "calls.h"
#include "post.h"
#include "streams.h"

enum {
  WATCH_US = 1000, /* less than STARTED and output wait for company anyway */
  RETRY_US = 5000,
  RETRY_FOR_US = 1000000, /* after processes were killed: the kernel counts them until they are gone for good */
  ROOM_FOR_NEWS = 1024,
};

static uint64_t us(uint32_t ms) {
  return (uint64_t)ms * 1000;
}

static const char *home_of(const struct spec *spec) {
  for (char **env = spec->env; *env; env++) {
    if (strncmp(*env, "HOME=/", 6) == 0) {
      return *env + 5;
    }
  }
  return NULL;
}

static void take_terms(struct supervisor *supervisor, struct call *call, const struct spec *spec) {
  const char *home = home_of(spec);
  call->home = home ? strdup(home) : NULL;
  call->keep = spec->keep;
  call->prompt = spec->verb == HAND_GATEWAY;
  call->hand = spec->verb != 0;
  call->terminal = spec->terminal;
  call->uid = spec->uid;
  call->inGone = !spec->hasStdin && !spec->terminal;
  call->oomBefore = counters_oom_kills(&supervisor->counters);
  call->pidsBefore = counters_pids_hits(&supervisor->counters);
  call->startedUs = supervisor->nowUs;
  call->killAtUs = spec->killAfterMs ? supervisor->nowUs + us(spec->killAfterMs) : 0;
  call->idleUs = us(spec->idleMs);
  call->idleAtUs = spec->idleMs ? supervisor->nowUs + call->idleUs : 0;
  call->graceUs = us(spec->graceMs);
  call->drainUs = us(spec->drainMs);
}

static void drop_spec(struct call *call) {
  spec_free(&call->spec);
  free(call->pieces);
  call->pieces = NULL;
  call->piecesLength = 0;
}

void calls_do_not_start(struct supervisor *supervisor, struct call *call, int code) {
  drop_spec(call);
  ring_free(&call->input);
  call->exit.kind = EXIT_NOT_STARTED;
  call->exit.stage = STAGE_RESOURCES;
  call->exit.code = code;
  call->exit.oomKills = counters_since(call->oomBefore, counters_oom_kills(&supervisor->counters));
  call->exit.pidsHits = counters_since(call->pidsBefore, counters_pids_hits(&supervisor->counters));
  call->state = CALL_ENDED;
  call->exitDue = call->endDue = call->inGone = true;
}

static bool is_being_cleared(const struct supervisor *supervisor) {
  return supervisor->killedAtUs != 0 && supervisor->nowUs - supervisor->killedAtUs < RETRY_FOR_US;
}

static void start(struct supervisor *supervisor, struct call *call) {
  struct spawned spawned;
  int code = spawn(&call->spec, call->gid, call->report, &spawned);
  if (code == EAGAIN && is_being_cleared(supervisor) && supervisor->nowUs - call->startedUs < RETRY_FOR_US) {
    call->state = CALL_STARTING;
    call->stepAtUs = supervisor->nowUs + RETRY_US;
    return;
  }
  if (code != 0) {
    calls_do_not_start(supervisor, call, code);
    return;
  }
  drop_spec(call);
  supervisor->childrenLeft = true;
  call->state = CALL_RUNNING;
  call->leader = call->session = spawned.pid;
  call->in = spawned.in;
  call->inGone = spawned.in < 0;
  call->streams[0].fd = spawned.out;
  call->streams[1].fd = spawned.error;
  call->streams[2].fd = spawned.aux;
  call->watchAtUs = supervisor->nowUs + (call->prompt ? 0 : WATCH_US);
  if (call->resumed) {
    post_started(supervisor, call);
  }
}

const char *calls_start(struct supervisor *supervisor, struct call *call) {
  const char *wrong = spec_parse(&call->spec, call->pieces, call->piecesLength);
  if (!wrong) {
    take_terms(supervisor, call, &call->spec);
    start(supervisor, call);
  }
  return wrong;
}

void calls_start_again(struct supervisor *supervisor, struct call *call) {
  if (outbox_room(&supervisor->outbox) < ROOM_FOR_NEWS) {
    call->stepAtUs = supervisor->nowUs + RETRY_US;
    return;
  }
  start(supervisor, call);
  if (call->state == CALL_RUNNING && (call->input.end > call->input.base || call->inEnd)) {
    streams_feed(supervisor, call);
  }
}
