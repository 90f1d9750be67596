#include "kills.h"

#include <signal.h>

#include "calls.h"
#include "tree.h"

enum {
  STEP_FIRST_US = 1000,
  STEP_MAX_US = 50000,
  USER_KILL_US = 2000000,
  GIVE_UP_US = 10000000,
  DEAD_WAIT_US = 1000000,
};

/* It would be counted; sound, for what is counted can only fork into more. */
bool kills_only_leaders(const struct supervisor *supervisor) {
  uint32_t known = 1;
  for (unsigned i = 0; i < CALLS_MAX; i++) {
    known += supervisor->calls[i].leader != 0;
  }
  return counters_tasks(&supervisor->counters) == known;
}

void kills_begin(struct supervisor *supervisor, struct call *call) {
  call->killing = KILL_TREE;
  call->killStartedUs = call->stepAtUs = supervisor->nowUs;
  call->stepUs = STEP_FIRST_US;
}

/* Not before its time, unless it is known to be the last look: a walk at every death would take longer than the dying. */
void kills_look_again(struct supervisor *supervisor, struct call *call) {
  bool wait = call->killing == KILL_TREE && supervisor->lookAtUs > supervisor->nowUs && !kills_only_leaders(supervisor);
  uint64_t atUs = wait ? supervisor->lookAtUs : supervisor->nowUs;
  call->stepAtUs = atUs < call->stepAtUs ? atUs : call->stepAtUs;
}

/* The end of a call promises that its processes count no more: the next one may need their places. */
static bool awaits_dead(const struct supervisor *supervisor, struct call *call, const struct tree *tree) {
  if (tree->found > 0 || tree->dead == 0) {
    call->deadSinceUs = 0;
    return false;
  }
  call->deadSinceUs = call->deadSinceUs ? call->deadSinceUs : supervisor->nowUs;
  return supervisor->nowUs - call->deadSinceUs < DEAD_WAIT_US;
}

/* After a look that killed whoever was there: how many that were, and what comes next. */
static void after_kill(struct supervisor *supervisor, struct call *call, const struct tree *tree, uint64_t lookUs) {
  uint64_t spentUs = supervisor->nowUs - call->killStartedUs;
  if (call->exit.killed < tree->found) {
    call->exit.killed = tree->found;
  }
  supervisor->killedAtUs = tree->found + tree->dead > 0 ? supervisor->nowUs : supervisor->killedAtUs;
  bool over = tree->found == 0 && !awaits_dead(supervisor, call, tree);
  if (over || spentUs > GIVE_UP_US) {
    call->stepAtUs = supervisor->nowUs + STEP_MAX_US;
    if (call->state == CALL_REAPING || call->state == CALL_KEPT) {
      calls_close(supervisor, call);
    }
    return;
  }
  if (spentUs > USER_KILL_US && !call->killedUser) {
    call->killedUser = true;
    tree_kill_user(call->uid);
  }
  call->stepAtUs = supervisor->nowUs + (call->stepUs > lookUs ? call->stepUs : lookUs);
  call->stepUs = call->stepUs * 2 < STEP_MAX_US ? call->stepUs * 2 : STEP_MAX_US;
}

/* How long it took. PID 1 then leaves the processor to the dying for as long. */
static uint64_t look(struct supervisor *supervisor, struct tree *trees, unsigned count) {
  if (!supervisor->childrenLeft) {
    return 0;
  }
  if (!kills_only_leaders(supervisor)) {
    tree_kill(trees, count);
  } else {
    for (unsigned i = 0; i < count; i++) {
      trees[i].found = trees[i].leader > 0 && kill(trees[i].leader, SIGKILL) == 0;
    }
  }
  uint64_t lookUs = clock_us() - supervisor->nowUs;
  supervisor->nowUs += lookUs;
  supervisor->lookAtUs = supervisor->nowUs + lookUs;
  return lookUs;
}

/* All calls that are being killed share one walk: otherwise many at once would each pay for the processes of all. */
void kills_tick(struct supervisor *supervisor) {
  struct tree trees[CALLS_MAX];
  struct call *calls[CALLS_MAX];
  unsigned count = 0;
  for (unsigned i = 0; i < CALLS_MAX; i++) {
    struct call *call = &supervisor->calls[i];
    if (call->state >= CALL_RUNNING && call->state < CALL_CLOSING && call->killing == KILL_TREE &&
        call->stepAtUs <= supervisor->nowUs) {
      calls[count] = call;
      trees[count++] = (struct tree){.gid = call->gid, .leader = call->leader};
    }
  }
  if (count == 0) {
    return;
  }
  uint64_t lookUs = look(supervisor, trees, count);
  for (unsigned i = 0; i < count; i++) {
    after_kill(supervisor, calls[i], &trees[i], lookUs);
  }
}
