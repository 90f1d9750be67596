#include "privileges.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CAPABILITIES_MAX = 64 };

/* The kernel's interface (capset(2)), whose headers a bare C library does not bring. */
enum { CAPABILITY_VERSION_3 = 0x20080522 };

struct capability_header {
  uint32_t version;
  int pid;
};

struct capability_sets {
  uint32_t effective;
  uint32_t permitted;
  uint32_t inheritable;
};

/* Where the kernel has no close_range: the ones that are open, a few at a time, for closing changes the list. */
static bool close_listed(int first) {
  for (;;) {
    int fds[64], count = 0;
    DIR *directory = opendir("/proc/self/fd");
    if (!directory) {
      return false;
    }
    for (struct dirent *entry; count < 64 && (entry = readdir(directory));) {
      int fd = entry->d_name[0] == '.' ? -1 : atoi(entry->d_name);
      if (fd >= first && fd != dirfd(directory)) {
        fds[count++] = fd;
      }
    }
    closedir(directory);
    for (int i = 0; i < count; i++) {
      close(fds[i]);
    }
    if (count == 0) {
      return true;
    }
  }
}

void privileges_close_from(int first) {
#ifdef SYS_close_range
  if (syscall(SYS_close_range, (unsigned)first, ~0u, 0u) == 0) {
    return;
  }
#endif
  if (close_listed(first)) {
    return;
  }
  struct rlimit files;
  int end = getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < 65536 ? (int)files.rlim_cur : 65536;
  for (int fd = first; fd < end; fd++) {
    close(fd);
  }
}

int privileges_set(uint32_t low) {
  struct capability_header header = {.version = CAPABILITY_VERSION_3};
  struct capability_sets data[2] = {{.effective = low, .permitted = low}};
  return (int)syscall(SYS_capset, &header, data);
}

static uint32_t permitted_capabilities(void) {
  struct capability_header header = {.version = CAPABILITY_VERSION_3};
  struct capability_sets data[2] = {{0}};
  return syscall(SYS_capget, &header, data) == 0 ? data[0].permitted : 0;
}

/* What PID 1 works with, and the most that its children could inherit. */
static const uint32_t needed = PRIVILEGE_KILL | PRIVILEGE_USERS | PRIVILEGE_SETPCAP;

static void bound(uint64_t keep) {
  for (unsigned cap = 0; cap < CAPABILITIES_MAX; cap++) {
    if (!(keep >> cap & 1) && prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1) {
      prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
    }
  }
}

void privileges_bound_nothing(void) {
  for (unsigned cap = 0; needed >> cap; cap++) {
    if (needed >> cap & 1) {
      prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
    }
  }
}

/*
 * PID 1 has to be heard among a thousand processes that all want the processor, or it could not end them. It weighs more within
 * its own sandbox only: what all of that may use is the engine's to say. Where it may not (user namespaces), it does without.
 */
static void go_first(void) {
  setpriority(PRIO_PROCESS, 0, -20);
}

bool privileges_drop_priority(void) {
  const int raising[] = {RLIMIT_NICE, RLIMIT_RTPRIO};
  for (size_t i = 0; i < sizeof raising / sizeof *raising; i++) {
    struct rlimit limit, none = {0, 0};
    bool allowed = getrlimit(raising[i], &limit) == 0 && limit.rlim_max != 0;
    if (allowed && setrlimit(raising[i], &none) != 0) {
      return false;
    }
  }
  return setpriority(PRIO_PROCESS, 0, 0) == 0;
}

const char *privileges_prepare(int firstOwnFd) {
  privileges_close_from(3);
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) {
    return "cannot open /dev/null";
  }
  for (int fd = null; fd < firstOwnFd - 1;) {
    if ((fd = fcntl(null, F_DUPFD_CLOEXEC, fd + 1)) < 0) {
      return "cannot take the low descriptors";
    }
  }
  if (getuid() != 0) {
    return "needs uid 0";
  }
  if ((permitted_capabilities() & needed) != needed) {
    return "needs the capabilities KILL, SETUID, SETGID and SETPCAP";
  }
  go_first();
  bound(needed);
  if (setgroups(0, NULL) != 0 || privileges_set(needed) != 0) {
    return "cannot give up groups and capabilities";
  }
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return "cannot set no_new_privs";
  }
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  struct rlimit none = {0, 0};
  return setrlimit(RLIMIT_CORE, &none) == 0 ? NULL : "cannot forbid core dumps";
}
