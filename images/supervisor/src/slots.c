/* The slots that calls live in. */
#include <stdlib.h>

#include "calls.h"

enum { GROUP_FIRST = 20000, GROUPS = 40000 };

struct call *calls_find(struct supervisor *supervisor, uint32_t id) {
  for (unsigned i = 0; i < CALLS_MAX && id != 0; i++) {
    if (supervisor->calls[i].state != CALL_FREE && supervisor->calls[i].id == id) {
      return &supervisor->calls[i];
    }
  }
  return NULL;
}

struct call *calls_add(struct supervisor *supervisor, uint32_t id) {
  for (unsigned i = 0; i < CALLS_MAX; i++) {
    struct call *call = &supervisor->calls[i];
    if (call->state == CALL_FREE) {
      *call = (struct call){.id = id, .gid = GROUP_FIRST + id % GROUPS, .state = CALL_ASSEMBLING, .resumed = true, .in = -1};
      call->report = &supervisor->reports[i];
      for (unsigned s = 0; s < STREAMS; s++) {
        call->streams[s].fd = -1;
      }
      return call;
    }
  }
  return NULL;
}

void calls_forget(struct call *call) {
  spec_free(&call->spec);
  free(call->pieces);
  free(call->home);
  ring_free(&call->output);
  ring_free(&call->input);
  *call = (struct call){0};
}
