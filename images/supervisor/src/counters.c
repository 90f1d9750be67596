#include "counters.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

static uint32_t read_field(int fd, const char *field) {
  char text[1024];
  ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof text - 1, 0);
  if (n <= 0) {
    return COUNT_UNKNOWN;
  }
  text[n] = 0;
  size_t length = strlen(field);
  for (const char *line = text; line; line = strchr(line, '\n')) {
    line += *line == '\n';
    if (strncmp(line, field, length) == 0 && line[length] == ' ') {
      return (uint32_t)strtoul(line + length, NULL, 10);
    }
  }
  return COUNT_UNKNOWN;
}

static int open_first(const char *v1, const char *v2) {
  int fd = open(v1, O_RDONLY | O_CLOEXEC);
  return fd >= 0 ? fd : open(v2, O_RDONLY | O_CLOEXEC);
}

/* That PID 1 is listed tells that the files are of this sandbox's cgroup and of no other. */
static int open_tasks(const char *members, const char *current) {
  char line[2] = "";
  int fd = open(members, O_RDONLY | O_CLOEXEC);
  bool ours = fd >= 0 && getpid() == 1 && read(fd, line, 2) == 2 && line[0] == '1' && line[1] == '\n';
  if (fd >= 0) {
    close(fd);
  }
  return ours ? open(current, O_RDONLY | O_CLOEXEC) : -1;
}

void counters_open(struct counters *counters) {
  counters->memoryFd = open_first("/sys/fs/cgroup/memory/memory.oom_control", "/sys/fs/cgroup/memory.events");
  counters->pidsFd = open_first("/sys/fs/cgroup/pids/pids.events", "/sys/fs/cgroup/pids.events");
  counters->tasksFd = open_tasks("/sys/fs/cgroup/pids/cgroup.procs", "/sys/fs/cgroup/pids/pids.current");
  if (counters->tasksFd < 0) {
    counters->tasksFd = open_tasks("/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/pids.current");
  }
}

uint32_t counters_oom_kills(const struct counters *counters) {
  return read_field(counters->memoryFd, "oom_kill");
}

uint32_t counters_pids_hits(const struct counters *counters) {
  return read_field(counters->pidsFd, "max");
}

uint32_t counters_tasks(const struct counters *counters) {
  char text[16];
  ssize_t n = counters->tasksFd < 0 ? -1 : pread(counters->tasksFd, text, sizeof text - 1, 0);
  text[n > 0 ? n : 0] = 0;
  return n > 0 ? (uint32_t)strtoul(text, NULL, 10) : COUNT_UNKNOWN;
}

uint32_t counters_since(uint32_t before, uint32_t now) {
  return before == COUNT_UNKNOWN || now == COUNT_UNKNOWN ? COUNT_UNKNOWN : now - before;
}

static bool is_full(const char *path) {
  struct statvfs fs;
  return statvfs(path, &fs) == 0 && ((fs.f_blocks > 0 && fs.f_bavail == 0) || (fs.f_files > 0 && fs.f_favail == 0)) &&
         !(fs.f_flag & ST_RDONLY);
}

uint8_t full_file_systems(const char *home) {
  return (uint8_t)((is_full("/workspace") ? FULL_WORKSPACE : 0) | (is_full("/tmp") ? FULL_TMP : 0) |
                   (home && is_full(home) ? FULL_HOME : 0));
}
