/* write: a whole new content, or nothing. It is complete in a temporary file before it takes the name. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "contents.h"
#include "hand.h"
#include "places.h"

enum { WRITE_CREATE = 1, WRITE_REPLACE = 2, WRITE_PARENTS = 4, WRITE_MODE = 8, COPY_BYTES = 262144 };

/* What is under the name now. */
struct present {
  bool exists;
  struct stat status;
};

static int look(const struct place *place, struct present *present) {
  present->exists = fstatat(place->directory, place->name, &present->status, AT_SYMLINK_NOFOLLOW) == 0;
  return present->exists || errno == ENOENT ? 0 : errno;
}

/* A rename needs no permission on what it replaces; writing does, so this asks as open(2) would. */
static bool may_write(const struct spec *spec, const struct stat *status) {
  mode_t needed = status->st_uid == spec->uid ? S_IWUSR : status->st_gid == spec->gid ? S_IWGRP : S_IWOTH;
  return status->st_mode & needed;
}

static int check_expected(const struct spec *spec, const struct place *place) {
  uint8_t digest[SHA256_LENGTH];
  struct stat status;
  int fd = openat(place->directory, place->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  int code = fd < 0 || fstat(fd, &status) != 0 ? errno : place_check(fd, &status);
  int reading = code ? -code : place_reopen(fd, O_RDONLY);
  code = reading < 0 ? -reading : contents_digest(reading, digest);
  if (reading >= 0) {
    close(reading);
  }
  if (fd >= 0) {
    close(fd);
  }
  return code ? code : memcmp(digest, spec->expected, SHA256_LENGTH) == 0 ? 0 : EBADMSG;
}

static int check(const struct spec *spec, const struct place *place, const struct present *present) {
  if (!present->exists) {
    return spec->expected ? EBADMSG : spec->flags & WRITE_REPLACE ? ENOENT : 0;
  }
  if (spec->flags & WRITE_CREATE) {
    return EEXIST;
  }
  if (!S_ISREG(present->status.st_mode)) {
    return S_ISDIR(present->status.st_mode) ? EISDIR : ENXIO;
  }
  if (!may_write(spec, &present->status)) {
    return EACCES;
  }
  return spec->expected ? check_expected(spec, place) : 0;
}

static bool same(const struct present *a, const struct present *b) {
  return a->exists == b->exists &&
         (!a->exists || (a->status.st_ino == b->status.st_ino && a->status.st_dev == b->status.st_dev &&
                         a->status.st_size == b->status.st_size && a->status.st_mtim.tv_sec == b->status.st_mtim.tv_sec &&
                         a->status.st_mtim.tv_nsec == b->status.st_mtim.tv_nsec));
}

/* Everything on 0 into fd. 0 or errno. */
static int copy_input(int fd, uint8_t digest[SHA256_LENGTH], uint64_t *bytes) {
  uint8_t *buffer = malloc(COPY_BYTES);
  struct sha256 sha;
  sha256_start(&sha);
  int code = buffer ? 0 : ENOMEM;
  while (!code) {
    ssize_t n = read(0, buffer, COPY_BYTES);
    if (n <= 0) {
      code = n == 0 ? 0 : errno;
      break;
    }
    sha256_add(&sha, buffer, (size_t)n);
    *bytes += (uint64_t)n;
    for (ssize_t done = 0; done < n && !code;) {
      ssize_t written = write(fd, buffer + done, (size_t)(n - done));
      code = written < 0 && errno != EINTR ? errno : 0;
      done += written > 0 ? written : 0;
    }
  }
  sha256_finish(&sha, digest);
  free(buffer);
  return code;
}

static mode_t mode_for(const struct spec *spec, const struct present *present) {
  if (spec->flags & WRITE_MODE) {
    return spec->mode;
  }
  return present->exists ? present->status.st_mode & 01777 : (spec->hasMode ? spec->mode : 0666) & ~spec->umask;
}

/* The temporary file takes the place. */
static int put_in_place(const struct spec *spec, const struct place *temporary, const struct place *place,
                        const struct present *before) {
  struct present now;
  if (spec->expected && (look(place, &now) != 0 || !same(before, &now))) {
    return EBADMSG;
  }
  return place_rename(temporary, place, !(spec->flags & WRITE_CREATE));
}

int hand_write(struct hand *hand) {
  const struct spec *spec = hand->spec;
  struct place place, temporary;
  struct present before;
  struct stat status;
  uint8_t digest[SHA256_LENGTH];
  int code = place_find(hand, spec->paths[0], PLACE_FOLLOW | (spec->flags & WRITE_PARENTS ? PLACE_PARENTS : 0), &place);
  code = code == EINVAL ? EISDIR : code;
  if (code || (code = look(&place, &before)) || (code = check(spec, &place, &before))) {
    return code;
  }
  temporary.directory = place.directory;
  contents_temporary_name(temporary.name);
  contents_forget_on_end(temporary.directory, temporary.name);
  int fd = openat(place.directory, temporary.name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) {
    return errno;
  }
  code = copy_input(fd, digest, &hand->bytes);
  if (!code && (fchmod(fd, mode_for(spec, &before)) != 0 || fstat(fd, &status) != 0)) {
    code = errno;
  }
  code = code ? code : put_in_place(spec, &temporary, &place, &before);
  if (code) {
    unlinkat(temporary.directory, temporary.name, 0);
    return code;
  }
  contents_keep();
  records_entry(&hand->out, &status, spec->paths[0], NULL, digest);
  hand->entries = 1;
  return 0;
}
