/* stat, read, mkdir, move: verbs on one name. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "contents.h"
#include "hand.h"
#include "places.h"

enum { STAT_FOLLOW = 1, STAT_DIGEST = 2, MKDIR_PARENTS = 1, MOVE_REPLACE = 1, RENAME_KEEP = 1 };

int hand_stat(struct hand *hand) {
  const struct spec *spec = hand->spec;
  const char *path = spec->paths[0];
  uint8_t digest[32];
  char link[LINK_BYTES_MAX + 1] = "";
  struct stat status;
  if (path[0] != '/' && (hand->cwdCode || !path[0])) {
    return path[0] ? hand->cwdCode : ENOENT;
  }
  int fd = place_open(AT_FDCWD, path, O_PATH | (spec->flags & STAT_FOLLOW ? 0 : O_NOFOLLOW));
  if (fd < 0 || fstat(fd, &status) != 0) {
    return errno;
  }
  if (S_ISLNK(status.st_mode)) {
    ssize_t n = readlinkat(fd, "", link, LINK_BYTES_MAX);
    link[n > 0 ? n : 0] = 0;
  }
  bool digested = (spec->flags & STAT_DIGEST) && S_ISREG(status.st_mode);
  if (digested) {
    int code = place_check(fd, &status);
    int reading = code ? -code : place_reopen(fd, O_RDONLY);
    code = reading < 0 ? -reading : contents_digest(reading, digest);
    if (code) {
      return code;
    }
  }
  records_entry(&hand->out, &status, path, link, digested ? digest : NULL);
  hand->entries = 1;
  return 0;
}

int hand_read(struct hand *hand) {
  struct stat status;
  int fd = place_open_to_read(hand, hand->spec->paths[0], &status);
  if (fd < 0) {
    return -fd;
  }
  if (S_ISDIR(status.st_mode)) {
    return EISDIR;
  }
  if (hand->spec->offset > INT64_MAX || lseek(fd, (off_t)hand->spec->offset, SEEK_SET) < 0) {
    return EINVAL;
  }
  records_entry(&hand->out, &status, hand->spec->paths[0], NULL, NULL);
  hand->entries = 1;
  return contents_send(hand, fd, hand->spec->length);
}

int hand_mkdir(struct hand *hand) {
  const struct spec *spec = hand->spec;
  struct place place;
  struct stat status;
  bool parents = spec->flags & MKDIR_PARENTS;
  int code = place_find(hand, spec->paths[0], parents ? PLACE_PARENTS : 0, &place);
  if (code == EINVAL && parents) {
    int fd = place_open_to_read(hand, spec->paths[0], &status);
    return fd < 0 ? -fd : S_ISDIR(status.st_mode) ? 0 : EEXIST;
  }
  if (code) {
    return code;
  }
  if (mkdirat(place.directory, place.name, 0777) != 0) {
    code = errno;
    bool there = fstatat(place.directory, place.name, &status, 0) == 0 && S_ISDIR(status.st_mode);
    return code == EEXIST && parents && there ? 0 : code;
  }
  return spec->hasMode && fchmodat(place.directory, place.name, spec->mode, 0) != 0 ? errno : 0;
}

/* musl has no wrapper for renameat2; where the file system cannot promise it, a look before must do. */
int place_rename(const struct place *from, const struct place *to, bool replace) {
  if (replace) {
    return renameat(from->directory, from->name, to->directory, to->name) == 0 ? 0 : errno;
  }
  if (syscall(SYS_renameat2, from->directory, from->name, to->directory, to->name, RENAME_KEEP) == 0) {
    return 0;
  }
  if (errno != EINVAL && errno != ENOSYS) {
    return errno;
  }
  struct stat status;
  if (fstatat(to->directory, to->name, &status, AT_SYMLINK_NOFOLLOW) == 0) {
    return EEXIST;
  }
  return renameat(from->directory, from->name, to->directory, to->name) == 0 ? 0 : errno;
}

int hand_move(struct hand *hand) {
  struct place from, to;
  int code = place_find(hand, hand->spec->paths[0], 0, &from);
  if (code) {
    return code;
  }
  code = place_find(hand, hand->spec->to, 0, &to);
  if (code) {
    hand->failed = hand->spec->to;
    return code;
  }
  code = place_rename(&from, &to, hand->spec->flags & MOVE_REPLACE);
  hand->failed = code == EEXIST || code == ENOTEMPTY || code == EISDIR || code == ENOTDIR ? hand->spec->to : NULL;
  return code;
}
