#include "post.h"

#include <string.h>
#include <sys/stat.h>

#include "bytes.h"
#include "tree.h"

enum { OFFER_LENGTH = 24, DIRECT_OFFERED = 1, EXIT_LENGTH = 64, LISTED_ENTRY = 24, WELCOME_ENTRY = 32, SMALL_FRAME = 256 };
enum { SMALL_OUTPUT = 8192, MUCH_INPUT = 65536 };

static void post(struct supervisor *supervisor, enum frame_type type, uint8_t flags, uint32_t call, const uint8_t *from,
                 const uint8_t *to) {
  if (supervisor->attached) {
    struct bytes piece = {from, (size_t)(to - from)};
    outbox_frame(&supervisor->outbox, type, flags, call, &piece, 1);
  }
}

/* What the runner knows of a state. */
static uint8_t public_state(enum call_state state) {
  return state == CALL_STARTING || state == CALL_RUNNING ? 1 : state == CALL_ENDED ? 3 : 2;
}

static bool is_call(const struct call *call) {
  return call->state >= CALL_STARTING;
}

/* Where a runner on this machine finds its ends of the pipes: descriptors of PID 1, and their inodes to know them by. */
static uint8_t *put_offer(uint8_t *p, const struct lane *direct) {
  struct stat in, out;
  if (direct->farIn < 0 || fstat(direct->in, &in) != 0 || fstat(direct->out, &out) != 0) {
    return p;
  }
  p = put32(put32(p, (uint32_t)direct->in), (uint32_t)direct->out);
  return put64(put64(p, in.st_ino), out.st_ino);
}

void post_welcome(struct supervisor *supervisor, const uint8_t nonce[16]) {
  uint8_t payload[36 + CALLS_MAX * WELCOME_ENTRY + OFFER_LENGTH], *p = payload;
  uint32_t count = 0;
  memcpy(p, nonce, 16);
  p = put32(p + 16, PROTOCOL_VERSION);
  uint8_t *flagsAt = p;
  p = put32(p, 0);
  p = put32(p, counters_pids_hits(&supervisor->counters));
  p = put32(p, counters_oom_kills(&supervisor->counters));
  uint8_t *countAt = p;
  p += 4;
  for (unsigned i = 0; i < CALLS_MAX; i++) {
    const struct call *call = &supervisor->calls[i];
    if (is_call(call)) {
      count++;
      p = put32(p, call->id);
      p = put32(p, public_state(call->state));
      p = put64(p, call->output.base);
      p = put64(p, call->output.end);
      p = put64(p, call->input.end);
    }
  }
  put32(countAt, count);
  uint8_t *end = put_offer(p, &supervisor->lanes[LANE_DIRECT]);
  put32(flagsAt, end > p ? DIRECT_OFFERED : 0);
  p = end;
  post(supervisor, FRAME_WELCOME, 0, 0, payload, p);
  post_urgent(supervisor);
}

void post_pong(struct supervisor *supervisor, const uint8_t token[8]) {
  post(supervisor, FRAME_PONG, 0, 0, token, token + 8);
  post_urgent(supervisor);
}

void post_started(struct supervisor *supervisor, const struct call *call) {
  uint8_t payload[4];
  post(supervisor, FRAME_STARTED, 0, call->id, payload, put32(payload, (uint32_t)call->session));
  post_lazy(supervisor);
}

struct census {
  const struct supervisor *supervisor;
  uint32_t counts[CALLS_MAX];
};

static void count_process(void *context, const struct process *process) {
  struct census *census = context;
  for (unsigned i = 0; i < CALLS_MAX; i++) {
    const struct call *call = &census->supervisor->calls[i];
    if (!process->dead && is_call(call) && (process_in(process, call->gid) || process->pid == call->leader)) {
      census->counts[i]++;
    }
  }
}

void post_listed(struct supervisor *supervisor) {
  uint8_t payload[4 + CALLS_MAX * LISTED_ENTRY], *p = payload + 4;
  struct census census = {.supervisor = supervisor};
  uint32_t count = 0;
  tree_scan(count_process, &census);
  for (unsigned i = 0; i < CALLS_MAX; i++) {
    const struct call *call = &supervisor->calls[i];
    if (is_call(call)) {
      count++;
      p = put32(p, call->id);
      p = put32(p, public_state(call->state));
      p = put32(p, (uint32_t)call->leader);
      p = put32(p, census.counts[i]);
      p = put64(p, call->output.end);
    }
  }
  put32(payload, count);
  post(supervisor, FRAME_LISTED, 0, 0, payload, p);
  post_urgent(supervisor);
}

void post_refused(struct supervisor *supervisor, uint32_t call, uint32_t reason, const char *text) {
  uint8_t payload[SMALL_FRAME], *p = put32(payload, reason);
  size_t length = strlen(text) < SMALL_FRAME - 4 ? strlen(text) : SMALL_FRAME - 4;
  memcpy(p, text, length);
  post(supervisor, FRAME_REFUSED, 0, call, payload, p + length);
  post_urgent(supervisor);
}

static void post_exit(struct supervisor *supervisor, const struct call *call) {
  const struct exit_record *record = &call->exit;
  uint8_t payload[EXIT_LENGTH], *p = payload;
  p = put8(p, record->kind);
  p = put8(p, record->cause);
  p = put8(p, record->stage);
  p = put8(p, record->full);
  p = put32(p, (uint32_t)record->code);
  p = put64(p, record->wallUs);
  p = put64(p, record->userUs);
  p = put64(p, record->sysUs);
  p = put64(p, record->maxRssBytes);
  p = put32(p, (uint32_t)record->descendants);
  p = put32(p, record->killed);
  p = put32(p, record->oomKills);
  p = put32(p, record->pidsHits);
  p = put64(p, record->end);
  post(supervisor, FRAME_EXIT, 0, call->id, payload, p);
}

/* One frame of output up to limit. False: none to send. */
static bool post_output(struct supervisor *supervisor, struct call *call, uint64_t limit) {
  uint8_t header[OUT_HEADER];
  struct bytes pieces[3];
  size_t max = OUT_BYTES_MAX;
  if (limit - call->sent < max) {
    max = (size_t)(limit - call->sent);
  }
  uint8_t stream = max ? ring_peek(&call->output, call->sent, max, pieces + 1) : 0;
  if (stream == 0) {
    return false;
  }
  put8(put64(header, call->sent), stream);
  pieces[0] = (struct bytes){header, sizeof header};
  outbox_frame(&supervisor->outbox, FRAME_OUT, 0, call->id, pieces, 3);
  call->sent += pieces[1].length + pieces[2].length;
  if (!call->prompt && call->sent - call->output.base < SMALL_OUTPUT) {
    post_lazy(supervisor);
  } else {
    post_urgent(supervisor);
  }
  return true;
}

/* The next thing to say of a call. False: nothing. */
static bool post_next(struct supervisor *supervisor, struct call *call) {
  uint8_t number[8];
  if (call->inAckDue) {
    call->inAckDue = false;
    if (call->input.base - call->inAcked >= MUCH_INPUT) {
      post_urgent(supervisor); /* the runner may have used up its credit */
    }
    call->inAcked = call->input.base;
    post(supervisor, FRAME_STDIN_ACK, call->inGone, call->id, number, put64(number, call->input.base));
    post_lazy(supervisor);
    return true;
  }
  bool exitNext = call->exitDue && !call->exitSent;
  if (post_output(supervisor, call, exitNext ? call->exit.end : call->output.end)) {
    return true;
  }
  if (exitNext) {
    call->exitSent = true;
    post_exit(supervisor, call);
    post_urgent(supervisor);
    return true;
  }
  if (call->endDue && !call->endSent) {
    call->endSent = true;
    post(supervisor, FRAME_END, 0, call->id, number, put64(number, call->output.end));
    post_urgent(supervisor);
    return true;
  }
  return false;
}

static bool room_for_output(struct supervisor *supervisor) {
  return outbox_room(&supervisor->outbox) >= OUTBOX_SIZE - OUTBOX_OUTPUT_MAX + FRAME_MAX;
}

void post_news(struct supervisor *supervisor) {
  if (!supervisor->attached) {
    return;
  }
  for (bool any = true; any;) {
    any = false;
    for (unsigned i = 0; i < CALLS_MAX; i++) {
      unsigned at = (supervisor->firstCall + i) % CALLS_MAX;
      struct call *call = &supervisor->calls[at];
      if (!is_call(call) || !call->resumed) {
        continue;
      }
      if (!room_for_output(supervisor)) {
        supervisor->firstCall = at;
        return;
      }
      any = post_next(supervisor, call) || any;
    }
  }
}
