#include "commands.h"

#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "calls.h"
#include "lanes.h"
#include "post.h"

enum { MORE_PIECES = 1, LAST_INPUT = 1, OFFER_DIRECT = 1 };

enum refusal { REFUSED_IN_USE = 1, REFUSED_TOO_MANY, REFUSED_SPEC, REFUSED_RESOURCES };

static void hello(struct supervisor *supervisor, struct lane *lane, const struct frame *frame) {
  uint32_t orphanMs = get32(frame->payload + 20);
  lanes_take(supervisor, lane, frame->flags & OFFER_DIRECT);
  supervisor->attached = true;
  supervisor->orphanUs = (uint64_t)orphanMs * 1000;
  supervisor->outbox.epoch = lane->parser.epoch;
  outbox_clear(&supervisor->outbox);
  memset(supervisor->swallowed, 0, sizeof supervisor->swallowed);
  for (unsigned i = 0; i < CALLS_MAX; i++) {
    struct call *call = &supervisor->calls[i];
    call->resumed = false;
    if (call->state == CALL_ASSEMBLING) {
      calls_forget(call);
    }
  }
  post_welcome(supervisor, frame->payload);
}

static bool swallow(struct supervisor *supervisor, const struct frame *frame) {
  for (unsigned i = 0; i < SWALLOWED_MAX; i++) {
    if (supervisor->swallowed[i] == frame->call) {
      if (!(frame->flags & MORE_PIECES)) {
        supervisor->swallowed[i] = 0;
      }
      return true;
    }
  }
  return false;
}

static void refuse(struct supervisor *supervisor, const struct frame *frame, enum refusal reason, const char *text) {
  post_refused(supervisor, frame->call, reason, text);
  for (unsigned i = 0; (frame->flags & MORE_PIECES) && i < SWALLOWED_MAX; i++) {
    if (supervisor->swallowed[i] == 0) {
      supervisor->swallowed[i] = frame->call;
      break;
    }
  }
}

/* Numbers that differ by the size of the group range would share a private group. */
static bool shares_group(const struct supervisor *supervisor, const struct call *added) {
  for (unsigned i = 0; i < CALLS_MAX; i++) {
    const struct call *call = &supervisor->calls[i];
    if (call != added && call->state >= CALL_STARTING && call->gid == added->gid) {
      return true;
    }
  }
  return false;
}

static bool append_piece(struct call *call, const struct frame *frame) {
  uint8_t *pieces = realloc(call->pieces, call->piecesLength + frame->length + 1);
  if (!pieces) {
    return false;
  }
  memcpy(pieces + call->piecesLength, frame->payload, frame->length);
  call->pieces = pieces;
  call->piecesLength += frame->length;
  return true;
}

static void spawn_call(struct supervisor *supervisor, const struct frame *frame) {
  struct call *call = calls_find(supervisor, frame->call);
  if (frame->call == 0 || swallow(supervisor, frame)) {
    return;
  }
  if (call && call->state != CALL_ASSEMBLING) {
    refuse(supervisor, frame, REFUSED_IN_USE, "the call number is in use");
    return;
  }
  if (!call && !(call = calls_add(supervisor, frame->call))) {
    refuse(supervisor, frame, REFUSED_TOO_MANY, "64 calls are there already; release one that has ended");
    return;
  }
  const char *wrong = NULL;
  enum refusal reason = REFUSED_SPEC;
  if (shares_group(supervisor, call)) {
    reason = REFUSED_IN_USE, wrong = "the call number shares its group with a call that is still there";
  } else if (call->piecesLength + frame->length > SPEC_MAX) {
    wrong = "the spec is longer than 8 MiB";
  } else if (!append_piece(call, frame)) {
    reason = REFUSED_RESOURCES, wrong = "no memory for the spec";
  } else if (!(frame->flags & MORE_PIECES)) {
    wrong = calls_start(supervisor, call);
  }
  if (wrong) {
    calls_forget(call);
    refuse(supervisor, frame, reason, wrong);
  }
}

static void resume(struct supervisor *supervisor, struct call *call, uint64_t offset) {
  uint64_t from = offset < call->output.base ? call->output.base : offset < call->output.end ? offset : call->output.end;
  call->resumed = true;
  call->sent = from;
  call->exitSent = call->endSent = false;
  call->inAckDue = true;
  calls_acknowledge(supervisor, call, from);
}

static void command_call(struct supervisor *supervisor, struct call *call, const struct frame *frame) {
  const uint8_t *p = frame->payload;
  switch (frame->type) {
    case FRAME_STDIN:
      if (frame->length >= 8) {
        calls_stdin(supervisor, call, get64(p), p + 8, frame->length - 8, frame->flags & LAST_INPUT);
      }
      break;
    case FRAME_ACK:
      if (frame->length == 8) {
        calls_acknowledge(supervisor, call, get64(p));
      }
      break;
    case FRAME_RESUME:
      if (frame->length == 8) {
        resume(supervisor, call, get64(p));
      }
      break;
    case FRAME_SIGNAL:
      if (frame->length == 5) {
        calls_signal(call, (int)get32(p), p[4] == 1);
      }
      break;
    case FRAME_KILL:
      if (frame->length == 5) {
        calls_kill(supervisor, call, p[4], (uint64_t)get32(p) * 1000);
      }
      break;
    case FRAME_RESIZE:
      if (frame->length == 4) {
        calls_resize(call, get16(p), get16(p + 2));
      }
      break;
    case FRAME_RELEASE:
      if (call->state == CALL_ENDED) {
        calls_forget(call);
      }
      break;
    default: break;
  }
}

void command_run(struct supervisor *supervisor, struct lane *lane, const struct frame *frame) {
  switch (frame->type) {
    case FRAME_HELLO: hello(supervisor, lane, frame); break;
    case FRAME_PING:
      if (frame->length == 8) {
        post_pong(supervisor, frame->payload);
      }
      break;
    case FRAME_SPAWN: spawn_call(supervisor, frame); break;
    case FRAME_LIST: post_listed(supervisor); break;
    case FRAME_SHUTDOWN: supervisor->stop = true; break;
    default: {
      struct call *call = calls_find(supervisor, frame->call);
      if (call && call->state >= CALL_STARTING) {
        command_call(supervisor, call, frame);
      }
    }
  }
}
