/*
 * Starts the process of a call. Promises for what is started from argv:
 *  - tools' user and group, one supplementary group (the call's), no capability in any set, bounding set empty;
 *  - a filter of system calls, the engine's or ours; without one nothing is started;
 *  - no_new_privs, no core dumps, first to go when memory runs out, own session, default signals;
 *  - no descriptor but 0, 1, 2 and, where asked, 3 and 9.
 * A hand keeps real uid 0 (tools cannot signal it) and acts with the effective user of the tools.
 */
#ifndef SPAWN_H
#define SPAWN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "spec.h"

enum { FIRST_OWN_FD = 16 }; /* ours are never below: dup2 to a low number cannot hit one */

enum stage { STAGE_NONE, STAGE_SPEC, STAGE_RESOURCES, STAGE_CWD, STAGE_EXEC };

/* Shared with the child until it executes: why it did not. */
struct start_report {
  int32_t stage;
  int32_t code;
};

struct spawned {
  pid_t pid;
  int in;     /* our ends; -1 where there is none. The terminal is both in and out, as two descriptors */
  int out;
  int error;
  int aux;
};

/* 0 or errno (out of processes, descriptors, memory). */
int spawn(const struct spec *spec, uint32_t gid, struct start_report *report, struct spawned *spawned);

#endif
