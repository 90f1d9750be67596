#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "filter.h"
#include "hand.h"
#include "privileges.h"

enum { SCRIPT_FD = 9 };

/* What the child gets (theirs) and what stays here. */
struct plumbing {
  int theirs[4]; /* 0, 1, 2 and 3 of the child; -1: none */
  int script;
  struct spawned ours;
};

static void close_fd(int *fd) {
  if (*fd >= 0) {
    close(*fd);
    *fd = -1;
  }
}

static bool make_pipe(int *reading, int *writing) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    return false;
  }
  *reading = ends[0];
  *writing = ends[1];
  return true;
}

static bool nonblocking(int fd) {
  return fcntl(fd, F_SETFL, O_NONBLOCK) == 0;
}

/* What is made between these two is the tools' own, so that they can open it again (`> /dev/stderr`). */
static bool become_tools(const struct spec *spec) {
  return setresgid(0, spec->gid, 0) == 0 && setresuid(0, spec->uid, 0) == 0;
}

static void become_root(void) {
  int code = errno;
  if (setresuid(0, 0, 0) != 0 || setresgid(0, 0, 0) != 0) {
    _exit(70);
  }
  errno = code;
}

static bool make_terminal(const struct spec *spec, struct plumbing *plumbing) {
  int unlock = 0;
  unsigned number;
  char path[32];
  if (!become_tools(spec)) {
    return false;
  }
  int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
  int slave = -1;
  if (master >= 0 && ioctl(master, TIOCSPTLCK, &unlock) == 0 && ioctl(master, TIOCGPTN, &number) == 0) {
    snprintf(path, sizeof path, "/dev/pts/%u", number);
    slave = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
  }
  become_root();
  plumbing->ours.out = master;
  plumbing->theirs[0] = slave;
  if (slave < 0) {
    return false;
  }
  struct winsize size = {.ws_row = spec->rows, .ws_col = spec->columns};
  ioctl(master, TIOCSWINSZ, &size);
  plumbing->ours.in = fcntl(master, F_DUPFD_CLOEXEC, FIRST_OWN_FD);
  plumbing->theirs[1] = fcntl(slave, F_DUPFD_CLOEXEC, FIRST_OWN_FD);
  plumbing->theirs[2] = fcntl(slave, F_DUPFD_CLOEXEC, FIRST_OWN_FD);
  return plumbing->ours.in >= 0 && plumbing->theirs[1] >= 0 && plumbing->theirs[2] >= 0;
}

static bool make_script(const struct spec *spec, struct plumbing *plumbing) {
  int fd = (int)syscall(SYS_memfd_create, "script", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  plumbing->script = fd;
  for (size_t done = 0; fd >= 0 && done < spec->scriptLength;) {
    ssize_t n = write(fd, spec->script + done, spec->scriptLength - done);
    if (n <= 0) {
      return false;
    }
    done += (size_t)n;
  }
  if (fd >= 0) {
    lseek(fd, 0, SEEK_SET);
    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
  }
  return fd >= 0;
}

static bool make_pipes(const struct spec *spec, struct plumbing *plumbing) {
  bool in = spec->hasStdin ? make_pipe(&plumbing->theirs[0], &plumbing->ours.in) && nonblocking(plumbing->ours.in)
                           : (plumbing->theirs[0] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;
  return in && make_pipe(&plumbing->ours.out, &plumbing->theirs[1]) && nonblocking(plumbing->ours.out) &&
         make_pipe(&plumbing->ours.error, &plumbing->theirs[2]) && nonblocking(plumbing->ours.error);
}

static bool make_plumbing(const struct spec *spec, struct plumbing *plumbing) {
  if (spec->terminal) {
    if (!make_terminal(spec, plumbing)) {
      return false;
    }
  } else {
    /* A hand's stay root's: not every kernel keeps tools from its /proc/PID/fd. */
    bool theirs = !spec->verb;
    if (theirs && !become_tools(spec)) {
      return false;
    }
    bool made = make_pipes(spec, plumbing);
    if (theirs) {
      become_root();
    }
    if (!made) {
      return false;
    }
  }
  if (spec->aux && (!make_pipe(&plumbing->ours.aux, &plumbing->theirs[3]) || !nonblocking(plumbing->ours.aux))) {
    return false;
  }
  return !spec->script || make_script(spec, plumbing);
}

static void close_theirs(struct plumbing *plumbing) {
  for (int i = 0; i < 4; i++) {
    close_fd(&plumbing->theirs[i]);
  }
  close_fd(&plumbing->script);
}

static void close_ours(struct spawned *ours) {
  close_fd(&ours->in);
  close_fd(&ours->out);
  close_fd(&ours->error);
  close_fd(&ours->aux);
}

static _Noreturn void give_up(struct start_report *report, enum stage stage) {
  report->code = errno;
  report->stage = stage;
  _exit(127);
}

/* Of the first process, which handles these and no others (prepare_signals() in main.c) and blocks two. */
static void default_signals(void) {
  const int changed[] = {SIGCHLD, SIGTERM, SIGPIPE};
  sigset_t none;
  for (size_t i = 0; i < sizeof changed / sizeof *changed; i++) {
    sigaction(changed[i], &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
  }
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
}

static void first_to_go(void) {
  int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (fd >= 0) {
    if (write(fd, "1000", 4) != 4) {
      /* An engine without it (gVisor) has no such killer either. */
    }
    close(fd);
  }
}

/* argv[0] without a slash is looked up in the PATH of the spec's environment; empty elements are not the directory. */
static void execute(const struct spec *spec) {
  const char *path = NULL;
  char file[4096];
  if (strchr(spec->argv[0], '/')) {
    execve(spec->argv[0], spec->argv, spec->env);
    return;
  }
  for (char **env = spec->env; *env && !path; env++) {
    path = strncmp(*env, "PATH=", 5) == 0 ? *env + 5 : NULL;
  }
  int code = ENOENT;
  while (path && *path) {
    size_t length = strcspn(path, ":");
    int n = snprintf(file, sizeof file, "%.*s/%s", (int)(length < sizeof file ? length : 0), path, spec->argv[0]);
    path += length + (path[length] == ':');
    if (length == 0 || n < 0 || (size_t)n >= sizeof file) {
      continue;
    }
    execve(file, spec->argv, spec->env);
    if (errno != ENOENT && errno != ENOTDIR && errno != EACCES) {
      return;
    }
    code = errno == EACCES ? EACCES : code;
  }
  errno = code;
}

static _Noreturn void run_tool(const struct spec *spec, uint32_t gid, struct start_report *report) {
  gid_t groups[1] = {gid};
  first_to_go();
  privileges_bound_nothing();
  if (setgroups(1, groups) != 0 || setresgid(spec->gid, spec->gid, spec->gid) != 0 ||
      setresuid(spec->uid, spec->uid, spec->uid) != 0 || privileges_set(0) != 0) {
    give_up(report, STAGE_RESOURCES);
  }
  if (spec->terminal && ioctl(0, TIOCSCTTY, 0) != 0) {
    give_up(report, STAGE_RESOURCES);
  }
  if (filter_ensure() != 0) {
    give_up(report, STAGE_RESOURCES);
  }
  umask(spec->umask);
  if (spec->cwd && chdir(spec->cwd) != 0) {
    give_up(report, STAGE_CWD);
  }
  execute(spec);
  give_up(report, STAGE_EXEC);
}

static _Noreturn void run_hand(const struct spec *spec, uint32_t gid, struct start_report *report) {
  gid_t groups[1] = {gid};
  privileges_close_from(3);
  if (setgroups(1, groups) != 0) {
    give_up(report, STAGE_RESOURCES);
  }
  umask(spec->umask);
  _exit(hand_run(spec));
}

static _Noreturn void run_child(const struct spec *spec, uint32_t gid, struct plumbing *plumbing, struct start_report *report) {
  default_signals();
  setsid();
  if (!privileges_drop_priority()) {
    give_up(report, STAGE_RESOURCES);
  }
  for (int i = 0; i < 4; i++) {
    if (plumbing->theirs[i] >= 0 && dup2(plumbing->theirs[i], i) < 0) {
      give_up(report, STAGE_RESOURCES);
    }
  }
  if (plumbing->script >= 0 && dup2(plumbing->script, SCRIPT_FD) < 0) {
    give_up(report, STAGE_RESOURCES);
  }
  if (spec->verb) {
    run_hand(spec, gid, report);
  }
  run_tool(spec, gid, report);
}

int spawn(const struct spec *spec, uint32_t gid, struct start_report *report, struct spawned *spawned) {
  struct plumbing plumbing = {.theirs = {-1, -1, -1, -1}, .script = -1, .ours = {0, -1, -1, -1, -1}};
  *report = (struct start_report){0};
  bool made = make_plumbing(spec, &plumbing);
  pid_t pid = made ? fork() : -1;
  int code = errno;
  if (pid == 0) {
    run_child(spec, gid, &plumbing, report);
  }
  close_theirs(&plumbing);
  if (pid < 0) {
    close_ours(&plumbing.ours);
    return code ? code : ENOMEM;
  }
  *spawned = plumbing.ours;
  spawned->pid = pid;
  return 0;
}
