/* The few capabilities PID 1 works with, and how everything else is given up. */
#ifndef PRIVILEGES_H
#define PRIVILEGES_H

#include <stdbool.h>
#include <stdint.h>

/* Capabilities as bits of a set. */
enum {
  PRIVILEGE_KILL = 1 << 5,
  PRIVILEGE_USERS = 1 << 6 | 1 << 7, /* SETGID, SETUID */
  PRIVILEGE_SETPCAP = 1 << 8,
};

/*
 * Once, at the start: no descriptor from outside, low numbers taken (so that a dup2 to one never hits ours), privileges cut
 * down to what is needed, no core dumps, first in line for the processor where that is allowed. NULL, or what is wrong.
 */
const char *privileges_prepare(int firstOwnFd);

/* Exactly these, effective and permitted; none inheritable. 0 or -1. */
int privileges_set(uint32_t capabilities);

/* The bounding set of this process, which held what privileges_prepare() left, is empty from now on. */
void privileges_bound_nothing(void);

/* This process is no more urgent than any other, and can never be again. */
bool privileges_drop_priority(void);

void privileges_close_from(int first);

#endif
