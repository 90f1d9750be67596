/* What the sandbox has run into: its cgroup's kills and refused forks (v1 or v2), and file systems that are full. */
#ifndef COUNTERS_H
#define COUNTERS_H

#include <stdint.h>

#define COUNT_UNKNOWN UINT32_MAX

struct counters {
  int memoryFd; /* kept open: each reading is one pread */
  int pidsFd;
  int tasksFd;
};

void counters_open(struct counters *counters);
uint32_t counters_oom_kills(const struct counters *counters);
uint32_t counters_pids_hits(const struct counters *counters);

/* Processes and threads that exist, PID 1 and those that nobody has waited for included. */
uint32_t counters_tasks(const struct counters *counters);

/* How much a counter grew; unknown if either reading is. */
uint32_t counters_since(uint32_t before, uint32_t now);

enum { FULL_WORKSPACE = 1, FULL_TMP = 2, FULL_HOME = 4 };

/* home may be NULL. */
uint8_t full_file_systems(const char *home);

#endif
