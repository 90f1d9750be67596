#include "lanes.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
  IN_RETRY_US = 250000,
  PIPE_BYTES = 262144,
  MUCH_AT_ONCE = 32768,
  KEY_IN = 0xfc, /* and one more for each lane; no call has such keys, for none has the number 0 */
  KEY_OUT = 0xfe,
};

static unsigned number_of(const struct supervisor *supervisor, const struct lane *lane) {
  return (unsigned)(lane - supervisor->lanes);
}

static void watch(struct supervisor *supervisor, struct lane *lane, bool in, bool want) {
  bool *watched = in ? &lane->inWatched : &lane->outWatched;
  uint64_t key = (in ? KEY_IN : KEY_OUT) + number_of(supervisor, lane);
  struct epoll_event event = {.events = in ? EPOLLIN : EPOLLOUT, .data.u64 = key};
  int fd = in ? lane->in : lane->out;
  if (want != *watched && epoll_ctl(supervisor->epoll, want ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, fd, &event) == 0) {
    *watched = want;
  }
}

static void close_fd(int *fd) {
  if (*fd >= 0) {
    close(*fd);
    *fd = -1;
  }
}

static void close_in(struct supervisor *supervisor, struct lane *lane) {
  watch(supervisor, lane, true, false);
  close_fd(&lane->in);
}

static void close_out(struct supervisor *supervisor, struct lane *lane) {
  watch(supervisor, lane, false, false);
  close_fd(&lane->out);
}

static void close_far(struct lane *lane) {
  close_fd(&lane->farIn);
  close_fd(&lane->farOut);
}

static void close_direct(struct supervisor *supervisor) {
  struct lane *direct = &supervisor->lanes[LANE_DIRECT];
  close_in(supervisor, direct);
  close_out(supervisor, direct);
  close_far(direct);
  direct->parser.epoch = 0;
  direct->parser.start = direct->parser.end = 0;
}

/* The far ends are kept until the runner has them open: a pipe without them is at its end at once. */
static void open_direct(struct supervisor *supervisor) {
  struct lane *direct = &supervisor->lanes[LANE_DIRECT];
  int in[2], out[2];
  if (pipe2(in, O_CLOEXEC | O_NONBLOCK) != 0) {
    return;
  }
  if (pipe2(out, O_CLOEXEC | O_NONBLOCK) != 0) {
    close(in[0]);
    close(in[1]);
    return;
  }
  direct->in = in[0];
  direct->farIn = in[1];
  direct->farOut = out[0];
  direct->out = out[1];
  direct->inWidened = direct->outWidened = false;
}

bool lanes_prepare(struct supervisor *supervisor) {
  struct lane *attached = &supervisor->lanes[LANE_ATTACHED], *direct = &supervisor->lanes[LANE_DIRECT];
  attached->out = 1; /* and in 0: the rest is zero, and stays untouched for the sake of its pages */
  attached->farIn = attached->farOut = -1;
  direct->in = direct->out = direct->farIn = direct->farOut = -1;
  supervisor->lane = attached;
  return fcntl(0, F_SETFL, O_NONBLOCK) == 0 && fcntl(1, F_SETFL, O_NONBLOCK) == 0;
}

void lanes_take(struct supervisor *supervisor, struct lane *lane, bool offer) {
  struct lane *attached = &supervisor->lanes[LANE_ATTACHED];
  if (lane == attached) {
    close_direct(supervisor);
    if (offer) {
      open_direct(supervisor);
    }
  } else {
    close_far(lane);
    attached->parser.epoch = 0; /* but it stays where it is: the rest of a frame must not be read as frames */
    watch(supervisor, attached, false, false);
  }
  supervisor->lane = lane;
}

/* Where the stream is not, only a HELLO gets through the parser, and it needs no room: it clears the outbox. */
static bool may_obey(struct supervisor *supervisor, const struct lane *lane) {
  return lane != supervisor->lane || outbox_room(&supervisor->outbox) >= OUTBOX_ANSWER_MAX;
}

bool lanes_next(struct supervisor *supervisor, struct frame *frame, struct lane **from) {
  for (unsigned i = 0; i < LANES; i++) {
    struct lane *lane = &supervisor->lanes[i];
    if (may_obey(supervisor, lane) && parser_next(&lane->parser, frame)) {
      *from = lane;
      return true;
    }
  }
  return false;
}

static void widen(int fd, bool *widened) {
  if (!*widened) {
    *widened = true;
    fcntl(fd, F_SETPIPE_SZ, PIPE_BYTES);
  }
}

/* Stdin is a FIFO to some engines, and may get a writer again; a runner that let go of the pipes comes back on stdin. */
static void read_lane(struct supervisor *supervisor, struct lane *lane) {
  struct parser *parser = &lane->parser;
  bool attached = lane == &supervisor->lanes[LANE_ATTACHED];
  size_t room = parser_room(parser);
  ssize_t n = room ? read(lane->in, parser->buffer + parser->end, room) : -1;
  if (n > 0) {
    parser->end += (size_t)n;
    if (n >= MUCH_AT_ONCE) {
      widen(lane->in, &lane->inWidened);
    }
    supervisor->inRetryAtUs = attached ? 0 : supervisor->inRetryAtUs;
  } else if (room && (n == 0 || (errno != EAGAIN && errno != EINTR))) {
    if (attached) {
      supervisor->inRetryAtUs = supervisor->nowUs + IN_RETRY_US;
    } else {
      close_in(supervisor, lane);
    }
  }
}

void lanes_flush(struct supervisor *supervisor) {
  struct lane *lane = supervisor->lane;
  struct outbox *outbox = &supervisor->outbox;
  int code = outbox_flush(outbox, lane->out);
  if (code == EAGAIN && !lane->outWidened) {
    widen(lane->out, &lane->outWidened);
    code = outbox_flush(outbox, lane->out);
  }
  if (code != 0 && code != EAGAIN) {
    supervisor->attached = false;
    outbox_clear(outbox);
    if (lane == &supervisor->lanes[LANE_DIRECT]) {
      close_out(supervisor, lane);
    }
  }
  if (lane->out >= 0) {
    watch(supervisor, lane, false, code == EAGAIN);
  }
}

void lanes_watch(struct supervisor *supervisor) {
  struct lane *attached = &supervisor->lanes[LANE_ATTACHED], *direct = &supervisor->lanes[LANE_DIRECT];
  watch(supervisor, attached, true, may_obey(supervisor, attached) && supervisor->inRetryAtUs == 0);
  if (direct->in >= 0) {
    watch(supervisor, direct, true, may_obey(supervisor, direct));
  }
}

bool lanes_ready(struct supervisor *supervisor, uint64_t key) {
  if (key < KEY_IN || key >= KEY_OUT + LANES) {
    return false;
  }
  struct lane *lane = &supervisor->lanes[key - (key < KEY_OUT ? KEY_IN : KEY_OUT)];
  if (key < KEY_OUT && lane->in >= 0) {
    read_lane(supervisor, lane);
  }
  return true;
}

void lanes_retry(struct supervisor *supervisor) {
  if (supervisor->inRetryAtUs && supervisor->inRetryAtUs <= supervisor->nowUs) {
    read_lane(supervisor, &supervisor->lanes[LANE_ATTACHED]);
  }
}
