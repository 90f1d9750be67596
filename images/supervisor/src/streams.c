#include "streams.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
  PIPE_BYTES = 262144,
  WIDEN_AFTER = 32768,
  INPUT_ACK_BYTES = 65536,
  SMALL_PIECE = 16384,
  MUCH_UNTAKEN = 65536,
  MOMENT_US = 1000,
  QUIET_US = 20000,
  END_OF_TRANSMISSION = 4, /* what ^D types */
};

uint64_t streams_key(uint32_t call, unsigned which) {
  return (uint64_t)call << 8 | which;
}

/* Always added or removed, never masked: a hang-up is reported whatever the mask says. */
static void watch(struct supervisor *supervisor, int fd, uint64_t key, uint32_t events, bool *watched) {
  struct epoll_event event = {.events = events, .data.u64 = key};
  if (fd >= 0 && !*watched && epoll_ctl(supervisor->epoll, EPOLL_CTL_ADD, fd, &event) == 0) {
    *watched = true;
  }
}

static void unwatch(struct supervisor *supervisor, int fd, bool *watched) {
  if (*watched) {
    epoll_ctl(supervisor->epoll, EPOLL_CTL_DEL, fd, NULL);
    *watched = false;
  }
}

void streams_watch(struct supervisor *supervisor, struct call *call) {
  for (unsigned i = 0; i < STREAMS; i++) {
    watch(supervisor, call->streams[i].fd, streams_key(call->id, i), EPOLLIN, &call->streams[i].watched);
  }
}

static void look_away(struct supervisor *supervisor, struct call *call) {
  for (unsigned i = 0; i < STREAMS; i++) {
    unwatch(supervisor, call->streams[i].fd, &call->streams[i].watched);
    call->streams[i].lingers = false;
  }
}

static void hold(struct supervisor *supervisor, struct call *call) {
  if (call->held) {
    return;
  }
  call->held = true;
  call->heldAtUs = supervisor->nowUs;
  look_away(supervisor, call);
}

/* Clocks about output stood still meanwhile: nobody could see whether there was any. */
void streams_release(struct supervisor *supervisor, struct call *call) {
  if (!call->held || ring_full(&call->output)) {
    return;
  }
  call->held = false;
  call->drainAtUs += call->drainAtUs ? supervisor->nowUs - call->heldAtUs : 0;
  call->quietAtUs = call->quietAtUs ? supervisor->nowUs + QUIET_US : 0;
  call->idleAtUs = call->idleAtUs ? supervisor->nowUs + call->idleUs : 0;
  streams_watch(supervisor, call);
}

static void close_stream(struct stream *stream) {
  if (stream->fd >= 0) {
    close(stream->fd); /* which takes it out of the epoll set, too: it has no duplicate */
    *stream = (struct stream){.fd = -1};
  }
}

/*
 * A terminal has no user just now (EIO). While its leader lives it must not be closed: that would hang the leader up on its
 * way out, and /dev/tty opens it again. Only a change is of interest then, since the hang-up itself stays.
 */
static void linger(struct supervisor *supervisor, struct call *call, unsigned which, bool lingers) {
  struct stream *stream = &call->streams[which];
  if (stream->lingers != lingers) {
    unwatch(supervisor, stream->fd, &stream->watched);
    stream->lingers = lingers;
    watch(supervisor, stream->fd, streams_key(call->id, which), lingers ? EPOLLIN | EPOLLET : EPOLLIN, &stream->watched);
  }
}

/* Bytes read, 0 at the end of the stream (now closed), -1 when there is nothing to do now. */
static long read_once(struct supervisor *supervisor, struct call *call, unsigned which) {
  struct stream *stream = &call->streams[which];
  if (stream->fd < 0 || call->held) {
    return -1;
  }
  long n = ring_read(&call->output, stream->fd, (uint8_t)(which + 1));
  if (n > 0) {
    linger(supervisor, call, which, false);
    call->idleAtUs = call->idleAtUs ? supervisor->nowUs + call->idleUs : 0;
    call->quietAtUs = call->quietAtUs ? supervisor->nowUs + QUIET_US : 0;
    if (!stream->widened && call->output.end > WIDEN_AFTER) {
      stream->widened = true;
      fcntl(stream->fd, F_SETPIPE_SZ, PIPE_BYTES);
    }
  } else if (n == -ENOBUFS) {
    hold(supervisor, call);
  } else if (n == -EIO && call->terminal && call->leader) {
    linger(supervisor, call, which, true);
  } else if (n != -EAGAIN) {
    unwatch(supervisor, stream->fd, &stream->watched);
    close_stream(stream); /* end of file; EIO is how a terminal says it */
    return 0;
  }
  if (!call->held && ring_full(&call->output)) {
    hold(supervisor, call);
  }
  return n > 0 ? n : -1;
}

/*
 * The runner has not taken yet what it was sent, and a command goes on in small pieces: each of them would cost a change of
 * processes and a frame, for nothing. So its pipe fills until the runner has taken some, or for a moment.
 */
static bool may_wait(const struct call *call, long length) {
  return length > 0 && length < SMALL_PIECE && !call->hand && !call->held && call->state == CALL_RUNNING &&
         call->sent - call->output.base >= MUCH_UNTAKEN;
}

void streams_read(struct supervisor *supervisor, struct call *call, unsigned which) {
  if (which < STREAMS && may_wait(call, read_once(supervisor, call, which))) {
    look_away(supervisor, call);
    call->watchAtUs = supervisor->nowUs + MOMENT_US;
  }
}

void streams_taken(struct supervisor *supervisor, struct call *call) {
  if (call->watchAtUs && !call->held && call->state == CALL_RUNNING) {
    call->watchAtUs = 0;
    streams_watch(supervisor, call);
  }
}

bool streams_read_all(struct supervisor *supervisor, struct call *call) {
  bool open = false;
  for (unsigned i = 0; i < STREAMS; i++) {
    long total = 0, n;
    while (total < RING_MAX && (n = read_once(supervisor, call, i)) > 0) {
      total += n;
    }
    open = open || call->streams[i].fd >= 0;
  }
  return open;
}

bool streams_read_rest(struct supervisor *supervisor, struct call *call) {
  for (unsigned i = 0; i < STREAMS; i++) {
    while (read_once(supervisor, call, i) > 0) {
    }
  }
  return !call->held;
}

void streams_accept(struct supervisor *supervisor, struct call *call, const uint8_t *data, size_t length) {
  if (!call->inWidened && call->input.end > WIDEN_AFTER && call->in >= 0) {
    call->inWidened = true;
    fcntl(call->in, F_SETPIPE_SZ, PIPE_BYTES);
  }
  size_t room = STDIN_CREDIT - (size_t)(call->input.end - call->input.base);
  length = length < room ? length : room;
  if (call->input.base == call->input.end && call->in >= 0 && length > 0) {
    ssize_t n = write(call->in, data, length);
    if (n > 0) {
      call->input.base += (uint64_t)n;
      call->input.end += (uint64_t)n;
      data += n;
      length -= (size_t)n;
    }
  }
  ring_put(&call->input, data, length, 1);
  streams_feed(supervisor, call);
}

static void finish_input(struct supervisor *supervisor, struct call *call) {
  const char end = END_OF_TRANSMISSION;
  if (call->terminal && write(call->in, &end, 1) < 0 && errno == EAGAIN) {
    watch(supervisor, call->in, streams_key(call->id, TARGET_IN), EPOLLOUT, &call->inWatched);
    return;
  }
  unwatch(supervisor, call->in, &call->inWatched);
  close(call->in);
  call->in = -1;
}

void streams_feed(struct supervisor *supervisor, struct call *call) {
  struct bytes pieces[2];
  while (call->in >= 0 && ring_peek(&call->input, call->input.base, RING_MAX, pieces)) {
    ssize_t n = write(call->in, pieces[0].data, pieces[0].length);
    if (n < 0 && errno == EAGAIN) {
      watch(supervisor, call->in, streams_key(call->id, TARGET_IN), EPOLLOUT, &call->inWatched);
      break;
    }
    if (n < 0 && errno != EINTR) {
      unwatch(supervisor, call->in, &call->inWatched);
      streams_close_input(call);
      return;
    }
    ring_drop(&call->input, call->input.base + (n > 0 ? (uint64_t)n : 0));
  }
  bool empty = call->input.base == call->input.end;
  if (empty || call->input.base - call->inAcked >= INPUT_ACK_BYTES) {
    call->inAckDue = call->inAckDue || call->input.base != call->inAcked;
  }
  if (call->in >= 0 && empty) {
    unwatch(supervisor, call->in, &call->inWatched);
    if (call->inEnd) {
      finish_input(supervisor, call);
    }
  }
}

void streams_close_input(struct call *call) {
  if (!call->inGone) {
    call->inGone = call->inAckDue = true;
  }
  if (call->in >= 0) {
    close(call->in);
    call->in = -1;
    call->inWatched = false;
  }
  ring_free(&call->input);
}

void streams_close(struct call *call) {
  for (unsigned i = 0; i < STREAMS; i++) {
    close_stream(&call->streams[i]);
  }
  streams_close_input(call);
}
