/*
 * PID 1 of a sandbox: one loop over the stream, the calls' descriptors, their clocks and their ended processes.
 * It never waits for anything else, and never for one call on account of another.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "calls.h"
#include "commands.h"
#include "lanes.h"
#include "modes.h"
#include "post.h"
#include "privileges.h"

enum {
  EVENTS = 32,
  ORPHAN_US = 180000000,
};

static volatile sig_atomic_t childEnded;
static volatile sig_atomic_t terminated;

static void on_signal(int signal) {
  if (signal == SIGCHLD) {
    childEnded = 1;
  } else {
    terminated = 1;
  }
}

static int fail(const char *what) {
  dprintf(2, "glovebox supervisor: %s\n", what);
  return 70;
}

/* Signals arrive only while the loop sleeps, so none is missed between a look and the sleep. */
static void prepare_signals(sigset_t *sleeping) {
  sigset_t blocked;
  /* By the system call: a C library keeps a few numbers for itself, and somebody may have left those ignored. */
  const unsigned long byDefault[4] = {0};
  for (int signal = 1; signal < NSIG; signal++) {
    syscall(SYS_rt_sigaction, signal, byDefault, NULL, 8);
  }
  sigaction(SIGCHLD, &(struct sigaction){.sa_handler = on_signal, .sa_flags = SA_NOCLDSTOP}, NULL);
  sigaction(SIGTERM, &(struct sigaction){.sa_handler = on_signal}, NULL);
  sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
  sigemptyset(&blocked);
  sigemptyset(sleeping);
  sigaddset(&blocked, SIGCHLD);
  sigaddset(&blocked, SIGTERM);
  sigprocmask(SIG_SETMASK, &blocked, NULL);
}

static void obey(struct supervisor *supervisor) {
  struct frame frame;
  struct lane *lane;
  while (!supervisor->stop && lanes_next(supervisor, &frame, &lane)) {
    supervisor->lastFrameUs = supervisor->nowUs;
    command_run(supervisor, lane, &frame);
  }
}

static void handle(struct supervisor *supervisor, const struct epoll_event *event) {
  uint64_t key = event->data.u64;
  if (!lanes_ready(supervisor, key)) {
    struct call *call = calls_find(supervisor, (uint32_t)(key >> 8));
    if (call) {
      calls_ready(supervisor, call, (unsigned)(key & 0xff));
    }
  }
}

/* Posts and writes until nothing more fits or is there. Lazy frames wait for company until their time. */
static void speak(struct supervisor *supervisor) {
  struct outbox *outbox = &supervisor->outbox;
  for (;;) {
    post_news(supervisor);
    bool due = outbox->urgent || (outbox->lazyAtUs && outbox->lazyAtUs <= supervisor->nowUs) || outbox->start > 0;
    if (outbox->start == outbox->end || !due) {
      break;
    }
    lanes_flush(supervisor);
    if (supervisor->lane->outWatched) {
      break;
    }
  }
}

static int timeout_ms(const struct supervisor *supervisor, uint64_t nextUs) {
  uint64_t at = nextUs;
  uint64_t orphanAt = supervisor->lastFrameUs + supervisor->orphanUs;
  at = orphanAt < at ? orphanAt : at;
  at = supervisor->inRetryAtUs && supervisor->inRetryAtUs < at ? supervisor->inRetryAtUs : at;
  at = supervisor->outbox.lazyAtUs && supervisor->outbox.lazyAtUs < at ? supervisor->outbox.lazyAtUs : at;
  uint64_t waitUs = at > supervisor->nowUs ? at - supervisor->nowUs : 0;
  return waitUs > 60000000 ? 60000 : (int)((waitUs + 999) / 1000);
}

static void run(struct supervisor *supervisor, const sigset_t *sleeping) {
  struct epoll_event events[EVENTS];
  for (;;) {
    supervisor->nowUs = clock_us();
    if (terminated || supervisor->nowUs - supervisor->lastFrameUs >= supervisor->orphanUs) {
      break;
    }
    lanes_retry(supervisor);
    obey(supervisor);
    if (supervisor->stop) {
      break;
    }
    uint64_t next = calls_tick(supervisor);
    speak(supervisor);
    lanes_watch(supervisor);
    int n = epoll_pwait(supervisor->epoll, events, EVENTS, timeout_ms(supervisor, next), sleeping);
    supervisor->nowUs = clock_us();
    for (int i = 0; i < n; i++) {
      handle(supervisor, &events[i]);
    }
    if (childEnded) {
      childEnded = 0;
      calls_reap(supervisor);
    }
  }
}

/*
 * --processes N: at most that many of one user, for an engine whose own limit is on more than the tools (gVisor's kernel is
 * made of host threads, and falls when it cannot have one). Inherited by everything. Where the host's kernel counts, it would
 * count the processes of all sandboxes together.
 */
static const char *bound_processes(int argc, char **argv) {
  for (int i = 1; i + 1 < argc; i++) {
    if (strcmp(argv[i], "--processes") == 0) {
      rlim_t max = strtoul(argv[i + 1], NULL, 10);
      return max > 0 && setrlimit(RLIMIT_NPROC, &(struct rlimit){max, max}) == 0 ? NULL : "cannot limit its processes";
    }
  }
  return NULL;
}

static bool may_run(int argc, char **argv) {
#ifdef GLOVEBOX_TEST
  if (argc == 2 && strcmp(argv[1], "--any-pid") == 0) {
    return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0;
  }
#endif
  (void)argc, (void)argv;
  return getpid() == 1;
}

int main(int argc, char **argv) {
  static struct supervisor supervisor; /* large, and its pages are touched only as they are used */
  sigset_t sleeping;
  if (!may_run(argc, argv)) {
    return fail("runs only as the first process of a sandbox; the runner starts it there");
  }
  prepare_signals(&sleeping);
  const char *wrong = privileges_prepare(FIRST_OWN_FD);
  if (!wrong) {
    wrong = modes_set(argc, argv);
  }
  if (!wrong) {
    wrong = bound_processes(argc, argv);
  }
  if (wrong) {
    return fail(wrong);
  }
  supervisor.epoll = epoll_create1(EPOLL_CLOEXEC);
  supervisor.reports = mmap(NULL, CALLS_MAX * sizeof *supervisor.reports, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                            -1, 0);
  if (supervisor.epoll < 0 || supervisor.reports == MAP_FAILED || !lanes_prepare(&supervisor)) {
    return fail("cannot prepare its stream");
  }
  counters_open(&supervisor.counters);
  supervisor.lastFrameUs = supervisor.nowUs = clock_us();
  supervisor.orphanUs = ORPHAN_US;
  run(&supervisor, &sleeping);
  return 0; /* the kernel ends everything else with the first process */
}
