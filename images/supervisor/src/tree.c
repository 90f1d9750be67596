#include "tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { STATUS_MAX = 4096, ENTRIES_BYTES = 288, PASSES_MAX = 8, STOP_ROUNDS_MAX = 16 };
enum { KNOWN_MAX = 16384 };

/* Of getdents64(2); musl's readdir would allocate for every scan. */
struct entry {
  uint64_t inode;
  int64_t offset;
  uint16_t length;
  uint8_t type;
  char name[];
};

bool process_in(const struct process *process, uint32_t gid) {
  for (unsigned i = 0; i < process->groupCount; i++) {
    if (process->groups[i] == gid) {
      return true;
    }
  }
  return false;
}

static void take_groups(struct process *process, const char *p) {
  while (process->groupCount < TREE_GROUPS_MAX) {
    while (*p == ' ' || *p == '\t') {
      p++;
    }
    if (*p < '0' || *p > '9') {
      break;
    }
    process->groups[process->groupCount++] = (uint32_t)strtoul(p, (char **)&p, 10);
  }
}

/*
 * A name can hold what looks like another line on kernels that do not escape it, so every Groups line counts: a process
 * can pretend to be in a group, never to be out of one. A first thread that has ended shows as a zombie while others run.
 */
static void parse_status(struct process *process, char *text) {
  char state = 0;
  long threads = 0;
  for (char *line = text; line && *line;) {
    char *next = strchr(line, '\n');
    if (next) {
      *next++ = 0;
    }
    if (strncmp(line, "Groups:", 7) == 0) {
      take_groups(process, line + 7);
    } else if (strncmp(line, "State:", 6) == 0) {
      state = line[6 + strspn(line + 6, " \t")];
    } else if (strncmp(line, "Threads:", 8) == 0) {
      threads = strtol(line + 8, NULL, 10);
    }
    line = next;
  }
  process->dead = (state == 'Z' || state == 'X') && threads <= 1;
}

static bool read_process(int proc, const char *name, struct process *process) {
  char path[32], text[STATUS_MAX + 1];
  size_t length = strlen(name);
  if (length > 12) {
    return false;
  }
  memcpy(path, name, length);
  memcpy(path + length, "/status", 8);
  int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return false;
  }
  ssize_t n = read(fd, text, STATUS_MAX);
  close(fd);
  if (n <= 0) {
    return false;
  }
  text[n] = 0;
  *process = (struct process){.pid = (pid_t)strtol(name, NULL, 10)};
  parse_status(process, text);
  return true;
}

/* Whom a kill has met already: a hash set by pid. */
struct known {
  struct met {
    pid_t pid;
    pid_t group; /* 0: it is dead */
  } at[KNOWN_MAX];
};

/* Where it is or belongs; NULL: no room. */
static struct met *place_of(struct known *known, pid_t pid) {
  uint32_t at = (uint32_t)pid * 2654435761u % KNOWN_MAX;
  for (unsigned i = 0; i < KNOWN_MAX; i++, at = (at + 1) % KNOWN_MAX) {
    if (known->at[at].pid == pid || known->at[at].pid == 0) {
      return &known->at[at];
    }
  }
  return NULL;
}

static const struct met *find(struct known *known, pid_t pid) {
  const struct met *met = known ? place_of(known, pid) : NULL;
  return met && met->pid == pid ? met : NULL;
}

/*
 * One listing of those above *last, which becomes the highest; who is known is passed over. *ended: of its last names, one was
 * dead or gone by its turn.
 */
static long scan_above(int proc, pid_t *last, bool *ended, struct known *known,
                       void (*visit)(void *context, const struct process *process), void *context) {
  _Alignas(struct entry) char buffer[ENTRIES_BYTES];
  pid_t above = *last;
  long n;
  while ((n = syscall(SYS_getdents64, proc, buffer, sizeof buffer)) > 0) {
    *ended = false;
    for (long at = 0; at < n;) {
      const struct entry *entry = (const struct entry *)(buffer + at);
      at += entry->length;
      pid_t pid = entry->name[0] >= '1' && entry->name[0] <= '9' ? (pid_t)strtol(entry->name, NULL, 10) : 0;
      if (pid <= above || pid == getpid()) {
        continue;
      }
      *last = pid > *last ? pid : *last;
      const struct met *met = find(known, pid);
      struct process process = {.dead = !met || met->group == 0};
      if (!met && read_process(proc, entry->name, &process)) {
        visit(context, &process);
      }
      *ended = *ended || process.dead;
    }
  }
  return n;
}

/*
 * Few names at a time: each is looked at while it is fresh. A process that forks and ends again and again is always there
 * under a higher number than the last one read; in one long list it would be gone by the time its turn comes. Met among the
 * last names it is gone on beyond the end of the listing, so whoever is above them is listed again.
 */
static int scan(struct known *known, void (*visit)(void *context, const struct process *process), void *context) {
  int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (proc < 0) {
    return -1;
  }
  pid_t last = 0;
  bool ended = true;
  long n = 0;
  for (int pass = 0; pass < PASSES_MAX && ended && n == 0; pass++) {
    n = lseek(proc, 0, SEEK_SET) < 0 ? -1 : scan_above(proc, &last, &ended, known, visit, context);
  }
  close(proc);
  return n < 0 ? -1 : 0;
}

int tree_scan(void (*visit)(void *context, const struct process *process), void *context) {
  return scan(NULL, visit, context);
}

struct sweep {
  struct tree *trees;
  unsigned count;
  int signal;
  struct known *known; /* of a kill */
  unsigned fresh;
  pid_t group; /* the last one that was stopped as a whole */
};

static struct tree *tree_of(const struct sweep *sweep, const struct process *process) {
  for (unsigned i = 0; i < sweep->count; i++) {
    struct tree *tree = &sweep->trees[i];
    if (process_in(process, tree->gid) || (tree->leader > 0 && process->pid == tree->leader)) {
      return tree;
    }
  }
  return NULL;
}

static void sweep_visit(void *context, const struct process *process) {
  struct sweep *sweep = context;
  struct tree *tree = tree_of(sweep, process);
  if (!tree) {
    return;
  }
  tree->dead += process->dead;
  tree->found += !process->dead;
  if (!process->dead && sweep->signal) {
    kill(process->pid, sweep->signal);
  }
}

/* Nobody found counts only when found twice: the first look may have met the moment in which pids start again from below. */
unsigned tree_count(uint32_t gid, pid_t leader, unsigned *dead) {
  struct tree tree = {.gid = gid, .leader = leader};
  struct sweep sweep = {.trees = &tree, .count = 1};
  for (int look = 0; look < 2 && tree.found == 0; look++) {
    tree.dead = 0;
    tree_scan(sweep_visit, &sweep);
  }
  *dead = tree.dead;
  return tree.found;
}

unsigned tree_signal(uint32_t gid, pid_t leader, int signal) {
  struct tree tree = {.gid = gid, .leader = leader};
  struct sweep sweep = {.trees = &tree, .count = 1, .signal = signal};
  tree_scan(sweep_visit, &sweep);
  return tree.found;
}

/*
 * A signal to a process group is one walk under the kernel's lock, which no fork in it outruns. All of it is of the tree: a
 * group is of one session, and whoever PID 1 starts begins one of its own. 1: it has not done so yet, and is in PID 1's.
 */
static pid_t group_of(pid_t pid) {
  pid_t group = getpgid(pid);
  return group > 1 && group != getpgrp() ? group : 1;
}

static void stop_visit(void *context, const struct process *process) {
  struct sweep *sweep = context;
  struct tree *tree = tree_of(sweep, process);
  if (!tree) {
    return;
  }
  tree->dead += process->dead;
  tree->found += !process->dead;
  struct met *met = place_of(sweep->known, process->pid);
  pid_t group = process->dead ? 0 : group_of(process->pid);
  if (met) {
    *met = (struct met){.pid = process->pid, .group = group};
  }
  if (process->dead) {
    return;
  }
  sweep->fresh++;
  if (group > 1 && group != sweep->group) {
    sweep->group = group;
    kill(-group, SIGSTOP);
  }
  kill(process->pid, met ? SIGSTOP : SIGKILL);
}

/* Only who is still in the group in which it was met: else its pid may be somebody else's by now. */
static void kill_known(const struct known *known) {
  for (unsigned i = 0; i < KNOWN_MAX; i++) {
    const struct met *met = &known->at[i];
    if (met->group != 0 && group_of(met->pid) == met->group) {
      kill(met->pid, SIGKILL);
    }
  }
}

void tree_kill(struct tree *trees, unsigned count) {
  struct sweep sweep = {.trees = trees, .count = count, .known = calloc(1, sizeof *sweep.known)};
  if (!sweep.known) {
    sweep.signal = SIGKILL;
    tree_scan(sweep_visit, &sweep);
    return;
  }
  for (int round = 0; round < STOP_ROUNDS_MAX && (round < 2 || sweep.fresh > 0); round++) {
    sweep.fresh = 0;
    scan(sweep.known, stop_visit, &sweep);
  }
  kill_known(sweep.known);
  free(sweep.known);
}

/*
 * kill(-1) is one walk under the kernel's lock. As the tools' user it reaches exactly that user's processes: real uid 0
 * would reach hands too, so it goes as well; the saved one stays 0 and brings both back.
 */
void tree_kill_user(uint32_t uid) {
  if (setresuid(uid, uid, 0) == 0) {
    kill(-1, SIGKILL);
    if (setresuid(0, 0, 0) != 0) {
      _exit(70);
    }
  }
}
