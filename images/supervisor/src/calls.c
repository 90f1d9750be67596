#include "calls.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "kills.h"
#include "streams.h"
#include "tree.h"

enum {
  QUIET_US = 20000,
  GRACE_LOOK_US = 20000,
  KEPT_LOOK_US = 1000000,
  DRAIN_BYTES_MAX = 1048576, /* more than pipes hold: what comes after was written after the leader's end */
};

/* Who is left of a call whose leader was waited for. */
static unsigned members(const struct supervisor *supervisor, const struct call *call, unsigned *dead) {
  *dead = 0;
  return !supervisor->childrenLeft || kills_only_leaders(supervisor) ? 0 : tree_count(call->gid, 0, dead);
}

static void take_counters(struct supervisor *supervisor, struct call *call) {
  call->exit.full = full_file_systems(call->home);
  call->exit.oomKills = counters_since(call->oomBefore, counters_oom_kills(&supervisor->counters));
  call->exit.pidsHits = counters_since(call->pidsBefore, counters_pids_hits(&supervisor->counters));
}

void calls_close(struct supervisor *supervisor, struct call *call) {
  call->state = CALL_CLOSING;
  if (!streams_read_rest(supervisor, call)) {
    return;
  }
  streams_close(call);
  if (!call->exitDue) {
    call->exit.end = call->output.end;
    call->exitDue = true;
  }
  call->endDue = true;
  call->state = CALL_ENDED;
}

/* The leader has ended. Is its output complete, and what becomes of the others? */
static void drain_step(struct supervisor *supervisor, struct call *call) {
  bool open = streams_read_all(supervisor, call);
  bool enough = call->output.end - call->drainFrom > DRAIN_BYTES_MAX;
  if (!enough && (call->held || (open && supervisor->nowUs < call->drainAtUs && supervisor->nowUs < call->quietAtUs))) {
    return;
  }
  if (call->killing == KILL_TREE) {
    call->state = CALL_REAPING;
    kills_look_again(supervisor, call);
    return;
  }
  unsigned dead, alive = members(supervisor, call, &dead);
  if (alive > 0 && call->killing == KILL_GRACE && supervisor->nowUs < call->graceAtUs) {
    call->quietAtUs = supervisor->nowUs + GRACE_LOOK_US;
    call->drainAtUs = call->quietAtUs > call->drainAtUs ? call->quietAtUs : call->drainAtUs;
    return;
  }
  call->exit.descendants = (int32_t)alive;
  if (alive == 0 && dead == 0) {
    calls_close(supervisor, call);
  } else if (alive > 0 && call->keep && call->killing == KILL_NONE) {
    call->state = CALL_KEPT;
    call->stepAtUs = supervisor->nowUs + KEPT_LOOK_US;
    call->exit.end = call->output.end;
    call->exitDue = true;
  } else {
    call->state = CALL_REAPING;
    kills_begin(supervisor, call);
  }
}

static uint64_t microseconds(struct timeval time) {
  return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_usec;
}

static void leader_ended(struct supervisor *supervisor, struct call *call, int status, const struct rusage *usage) {
  call->leader = 0;
  call->state = CALL_DRAINING;
  call->drainFrom = call->output.end;
  call->drainAtUs = supervisor->nowUs + call->drainUs;
  call->quietAtUs = supervisor->nowUs + QUIET_US;
  call->heldAtUs = supervisor->nowUs;
  call->exit.kind = WIFEXITED(status) ? EXIT_EXITED : EXIT_SIGNALED;
  call->exit.code = WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status);
  if (call->report->stage != STAGE_NONE) {
    call->exit.kind = EXIT_NOT_STARTED;
    call->exit.stage = (uint8_t)call->report->stage;
    call->exit.code = call->report->code;
  }
  call->exit.wallUs = supervisor->nowUs - call->startedUs;
  call->exit.userUs = microseconds(usage->ru_utime);
  call->exit.sysUs = microseconds(usage->ru_stime);
  call->exit.maxRssBytes = (uint64_t)usage->ru_maxrss * 1024;
  take_counters(supervisor, call);
  streams_close_input(call);
}

/* A child that ended may have been the last one somebody waits for. */
static void look_again(struct supervisor *supervisor, struct call *call) {
  switch (call->state) {
    case CALL_KEPT:
    case CALL_REAPING: kills_look_again(supervisor, call); break;
    case CALL_DRAINING: call->quietAtUs = call->killing ? supervisor->nowUs : call->quietAtUs; break;
    default: break;
  }
}

/* All are waited for before anybody looks who is left. */
void calls_reap(struct supervisor *supervisor) {
  struct call *ended[CALLS_MAX];
  unsigned count = 0;
  bool any = false;
  int status;
  struct rusage usage;
  for (;;) {
    pid_t pid = wait4(-1, &status, WNOHANG, &usage);
    if (pid < 0 && errno == EINTR) {
      continue;
    }
    if (pid <= 0) {
      supervisor->childrenLeft = pid == 0;
      break;
    }
    any = true;
    for (unsigned i = 0; i < CALLS_MAX; i++) {
      if (supervisor->calls[i].leader == pid) {
        ended[count] = &supervisor->calls[i];
        leader_ended(supervisor, ended[count++], status, &usage);
        break;
      }
    }
  }
  for (unsigned i = 0; i < count; i++) {
    drain_step(supervisor, ended[i]);
  }
  for (unsigned i = 0; any && i < CALLS_MAX; i++) {
    look_again(supervisor, &supervisor->calls[i]);
  }
}

void calls_ready(struct supervisor *supervisor, struct call *call, unsigned which) {
  if (which == TARGET_IN) {
    streams_feed(supervisor, call);
  } else {
    streams_read(supervisor, call, which);
  }
  if (call->state == CALL_DRAINING) {
    drain_step(supervisor, call);
  } else if (call->state == CALL_CLOSING) {
    calls_close(supervisor, call);
  }
}

void calls_acknowledge(struct supervisor *supervisor, struct call *call, uint64_t offset) {
  ring_drop(&call->output, offset < call->sent ? offset : call->sent);
  if (!call->held) {
    streams_taken(supervisor, call);
    return;
  }
  streams_release(supervisor, call);
  if (call->state == CALL_DRAINING) {
    drain_step(supervisor, call);
  } else if (call->state == CALL_CLOSING) {
    calls_close(supervisor, call);
  }
}

void calls_stdin(struct supervisor *supervisor, struct call *call, uint64_t offset, const uint8_t *data, size_t length,
                 bool end) {
  if (call->inGone) {
    call->inAckDue = true;
    return;
  }
  uint64_t have = call->input.end;
  if (offset > have || call->inEnd) {
    return;
  }
  uint64_t known = have - offset;
  if (known > length) {
    return;
  }
  call->inEnd = end;
  streams_accept(supervisor, call, data + known, length - (size_t)known);
}

void calls_signal(struct call *call, int signal, bool foreground) {
  if (signal < 1 || signal >= NSIG || call->state == CALL_ENDED || call->state == CALL_ASSEMBLING) {
    return;
  }
  if (!foreground) {
    tree_signal(call->gid, call->leader, signal);
    return;
  }
  pid_t group = call->leader;
  if (call->terminal && call->streams[0].fd >= 0) {
    pid_t terminalGroup = tcgetpgrp(call->streams[0].fd);
    group = terminalGroup > 1 ? terminalGroup : group;
  }
  if (group > 1 && kill(-group, signal) != 0 && call->leader) {
    kill(call->leader, signal); /* it has not called setsid yet */
  }
}

void calls_kill(struct supervisor *supervisor, struct call *call, enum cause cause, uint64_t graceUs) {
  if (call->state < CALL_STARTING || call->state > CALL_KEPT || call->killing == KILL_TREE) {
    return;
  }
  if (call->state <= CALL_RUNNING && call->exit.cause == CAUSE_NONE) {
    call->exit.cause = (uint8_t)cause;
  }
  call->killAtUs = call->idleAtUs = 0;
  if (call->state == CALL_STARTING) {
    calls_do_not_start(supervisor, call, EAGAIN);
    return;
  }
  uint64_t graceAtUs = supervisor->nowUs + graceUs;
  if (graceUs > 0) {
    if (call->killing == KILL_NONE) {
      tree_signal(call->gid, call->leader, SIGTERM);
      tree_signal(call->gid, call->leader, SIGCONT);
      call->graceAtUs = graceAtUs;
    }
    call->graceAtUs = graceAtUs < call->graceAtUs ? graceAtUs : call->graceAtUs;
    call->killing = KILL_GRACE;
    return;
  }
  kills_begin(supervisor, call);
  call->graceAtUs = supervisor->nowUs;
}

void calls_resize(struct call *call, uint16_t columns, uint16_t rows) {
  struct winsize size = {.ws_row = rows, .ws_col = columns};
  if (call->terminal && call->streams[0].fd >= 0) {
    ioctl(call->streams[0].fd, TIOCSWINSZ, &size);
  }
}

static bool due(uint64_t atUs, uint64_t nowUs) {
  return atUs != 0 && atUs <= nowUs;
}

static void run_clocks(struct supervisor *supervisor, struct call *call) {
  uint64_t now = supervisor->nowUs;
  if (call->state == CALL_STARTING && due(call->stepAtUs, now)) {
    calls_start_again(supervisor, call);
  }
  if (due(call->watchAtUs, now)) {
    call->watchAtUs = 0;
    if (!call->held) {
      streams_watch(supervisor, call);
    }
  }
  if (call->state == CALL_RUNNING && due(call->killAtUs, now)) {
    calls_kill(supervisor, call, CAUSE_KILL_AFTER, call->graceUs);
  }
  if (call->state == CALL_RUNNING && due(call->idleAtUs, now) && !call->held) {
    calls_kill(supervisor, call, CAUSE_IDLE, call->graceUs);
  }
  if (call->killing == KILL_GRACE && due(call->graceAtUs, now) && call->state <= CALL_KEPT) {
    kills_begin(supervisor, call);
  }
  if (call->state == CALL_DRAINING && !call->held && (due(call->drainAtUs, now) || due(call->quietAtUs, now))) {
    drain_step(supervisor, call);
  }
  if (call->state == CALL_KEPT && call->killing != KILL_TREE && due(call->stepAtUs, now)) {
    unsigned dead, alive = members(supervisor, call, &dead);
    call->stepAtUs = now + KEPT_LOOK_US;
    if (alive == 0 && dead == 0) {
      calls_close(supervisor, call);
    } else if (alive == 0) {
      call->state = CALL_REAPING;
      kills_begin(supervisor, call);
    }
  }
}

static uint64_t earlier(uint64_t a, uint64_t b) {
  return b != 0 && b < a ? b : a;
}

static uint64_t next_clock(const struct call *call) {
  uint64_t at = earlier(UINT64_MAX, call->watchAtUs);
  if (call->state == CALL_RUNNING) {
    at = earlier(at, call->killAtUs);
    at = call->held ? at : earlier(at, call->idleAtUs);
  }
  if (call->killing == KILL_GRACE) {
    at = earlier(at, call->graceAtUs);
  }
  if (call->state == CALL_DRAINING && !call->held) {
    at = earlier(earlier(at, call->drainAtUs), call->quietAtUs);
  }
  if (call->state == CALL_STARTING || call->state == CALL_REAPING || call->state == CALL_KEPT ||
      call->killing == KILL_TREE) {
    at = earlier(at, call->stepAtUs);
  }
  return at;
}

uint64_t calls_tick(struct supervisor *supervisor) {
  uint64_t next = UINT64_MAX;
  for (unsigned i = 0; i < CALLS_MAX; i++) {
    struct call *call = &supervisor->calls[i];
    if (call->state >= CALL_STARTING && call->state < CALL_CLOSING) {
      run_clocks(supervisor, call);
    }
  }
  kills_tick(supervisor);
  for (unsigned i = 0; i < CALLS_MAX; i++) {
    const struct call *call = &supervisor->calls[i];
    if (call->state >= CALL_STARTING && call->state < CALL_CLOSING) {
      uint64_t at = next_clock(call);
      next = at < next ? at : next;
    }
  }
  return next;
}
