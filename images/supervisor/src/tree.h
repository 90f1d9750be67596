/*
 * The processes of a call: whoever has its private supplementary group, wherever it was re-parented to, whatever session,
 * name or state it took. Found in /proc, because nothing else survives a double fork on every kernel we run on.
 */
#ifndef TREE_H
#define TREE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { TREE_GROUPS_MAX = 8, TREES_MAX = 64 };

struct process {
  pid_t pid;
  bool dead; /* it has ended, wholly, and counts as a process until its parent has waited for it */
  unsigned groupCount;
  uint32_t groups[TREE_GROUPS_MAX];
};

bool process_in(const struct process *process, uint32_t gid);

/* Calls visit for every process but PID 1, those that are dead included. -1: no /proc. */
int tree_scan(void (*visit)(void *context, const struct process *process), void *context);

/* Living processes of the call; leader (or 0) is one of them even before it has taken the group. */
unsigned tree_count(uint32_t gid, pid_t leader, unsigned *dead);

/* One signal to each. How many were reached. */
unsigned tree_signal(uint32_t gid, pid_t leader, int signal);

struct tree {
  uint32_t gid;
  pid_t leader; /* or 0 */
  unsigned found;
  unsigned dead;
};

/*
 * STOP until no new one turns up, then KILL all; one walk over /proc for up to TREES_MAX of them. `found`: how many were
 * still there, dying or new; 0 means that two looks found none. `dead`: ended, but not waited for. Does not wait.
 */
void tree_kill(struct tree *trees, unsigned count);

/* KILL at once everything that runs as this user, which no fork can outrun; hands and PID 1 are spared. */
void tree_kill_user(uint32_t uid);

#endif
