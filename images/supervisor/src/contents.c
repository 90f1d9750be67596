#include "contents.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

enum { DIGEST_BYTES = 65536, PIPE_BYTES = 262144 };

int contents_digest(int fd, uint8_t digest[SHA256_LENGTH]) {
  uint8_t *buffer = malloc(DIGEST_BYTES);
  struct sha256 sha;
  ssize_t n = -1;
  sha256_start(&sha);
  errno = ENOMEM;
  for (off_t at = 0; buffer && (n = pread(fd, buffer, DIGEST_BYTES, at)) > 0; at += n) {
    sha256_add(&sha, buffer, (size_t)n);
  }
  int code = n == 0 ? 0 : errno;
  free(buffer);
  sha256_finish(&sha, digest);
  return code;
}

int contents_send(struct hand *hand, int fd, uint64_t max) {
  if (max > PIPE_BYTES) {
    fcntl(1, F_SETPIPE_SZ, PIPE_BYTES);
  }
  for (uint64_t left = max; left > 0;) {
    uint8_t *room = records_room(&hand->out);
    ssize_t n = read(fd, room, left < RECORD_MAX ? (size_t)left : RECORD_MAX);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n <= 0) {
      return n < 0 ? errno : 0;
    }
    records_data(&hand->out, (size_t)n);
    hand->bytes += (uint64_t)n;
    left -= (uint64_t)n;
  }
  return 0;
}

void contents_temporary_name(char name[32]) {
  uint64_t random = 0;
  if (getrandom(&random, sizeof random, GRND_NONBLOCK) != sizeof random) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    random = (uint64_t)time.tv_nsec << 32 | (uint64_t)getpid();
  }
  snprintf(name, 32, ".gb-%016llx.tmp", (unsigned long long)random);
}

/* Of this process alone, for its signal handler. */
static struct {
  volatile int directory;
  char name[32];
} temporary = {.directory = -1};

static void on_end(int signal) {
  (void)signal;
  if (temporary.directory >= 0) {
    unlinkat(temporary.directory, temporary.name, 0);
  }
  _exit(1);
}

void contents_forget_on_end(int directory, const char *name) {
  snprintf(temporary.name, sizeof temporary.name, "%s", name);
  temporary.directory = directory;
  sigaction(SIGTERM, &(struct sigaction){.sa_handler = on_end}, NULL);
}

void contents_keep(void) {
  temporary.directory = -1;
}
