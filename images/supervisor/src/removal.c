#include "removal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hand.h"
#include "levels.h"
#include "places.h"

enum { REMOVE_RECURSIVE = 1 };

static int unlink_one(int directory, const char *name, int flags) {
  return unlinkat(directory, name, flags) == 0 ? 0 : errno;
}

static int enter(struct levels *levels, int directory, const char *name) {
  int fd = openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) {
    return errno;
  }
  int code = place_check_file_system(fd);
  if (code) {
    close(fd);
    return code;
  }
  return levels_enter(levels, fd);
}

/* Takes one name out of the current directory, or enters it. */
static int take(struct levels *levels, const char *name) {
  int code = unlink_one(levels_fd(levels), name, 0);
  if (code != EISDIR && code != EPERM) {
    return code;
  }
  struct stat status;
  if (fstatat(levels_fd(levels), name, &status, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISDIR(status.st_mode)) {
    return code;
  }
  code = unlink_one(levels_fd(levels), name, AT_REMOVEDIR);
  return code == ENOTEMPTY || code == EEXIST ? enter(levels, levels_fd(levels), name) : code;
}

/* The name that was handed out last: of the directory that has just been emptied. */
static const char *name_below(const struct levels *levels) {
  const struct level *level = &levels->stack[levels->depth - 1];
  return level->sorted[level->next - 1];
}

int removal_run(int directory, const char *name, bool recursive) {
  struct levels levels = {0};
  int code = unlink_one(directory, name, 0);
  if (code != EISDIR && code != EPERM) {
    return code;
  }
  int asDirectory = unlink_one(directory, name, AT_REMOVEDIR);
  if (asDirectory == 0 || asDirectory == ENOTDIR || !recursive || (asDirectory != ENOTEMPTY && asDirectory != EEXIST)) {
    return asDirectory == ENOTDIR ? code : asDirectory;
  }
  code = enter(&levels, directory, name);
  while (!code && levels.depth > 0) {
    const char *next = levels_next(&levels);
    if (next) {
      code = take(&levels, next);
      code = code == ENOENT ? 0 : code;
      continue;
    }
    code = levels_leave(&levels);
    if (!code) {
      code = levels.depth > 0 ? unlink_one(levels_fd(&levels), name_below(&levels), AT_REMOVEDIR)
                              : unlink_one(directory, name, AT_REMOVEDIR);
    }
  }
  levels_free(&levels);
  return code;
}

int hand_remove(struct hand *hand) {
  struct place place;
  int code = place_find(hand, hand->spec->paths[0], 0, &place);
  return code ? code : removal_run(place.directory, place.name, hand->spec->flags & REMOVE_RECURSIVE);
}
