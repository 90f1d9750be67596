/* walk: entries of trees, sorted, directories before their content, links never followed. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "contents.h"
#include "hand.h"
#include "levels.h"
#include "places.h"

enum { WALK_CONTENTS = 1, WALK_DIGESTS = 2, WALK_SHALLOW = 4, WALK_ROOT = 8 };

struct walk {
  struct hand *hand;
  struct levels levels;
  dev_t device; /* the file system that was looked at last, and what came of it */
  int deviceCode;
  bool deviceKnown;
  size_t length;
  char path[PATH_BYTES_MAX + 1];
};

static void unreadable(struct walk *walk, int code) {
  records_error(&walk->hand->out, 'e', code, walk->path);
}

static int check_device(struct walk *walk, int fd, dev_t device) {
  if (!walk->deviceKnown || walk->device != device) {
    walk->deviceCode = place_check_file_system(fd);
    walk->device = device;
    walk->deviceKnown = true;
  }
  return walk->deviceCode;
}

/* Opens what status was taken of, and nothing that has taken its name since. The descriptor or -errno. */
static int open_same(struct walk *walk, int directory, const char *name, const struct stat *status, int flags) {
  struct stat opened;
  int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | flags);
  if (fd < 0) {
    return -errno;
  }
  int code = fstat(fd, &opened) != 0 ? errno : 0;
  if (!code && (opened.st_ino != status->st_ino || opened.st_dev != status->st_dev)) {
    code = ESTALE;
  }
  code = code ? code : check_device(walk, fd, opened.st_dev);
  if (code) {
    close(fd);
    return -code;
  }
  return fd;
}

static bool wants_content(struct walk *walk, const struct stat *status) {
  const struct spec *spec = walk->hand->spec;
  uint64_t size = (uint64_t)status->st_size;
  if (!(spec->flags & WALK_CONTENTS) || size > spec->fileMax) {
    return false;
  }
  if (size > spec->contentMax - walk->hand->bytes) {
    walk->hand->truncated = true;
    return false;
  }
  return true;
}

static void say_file(struct walk *walk, int directory, const char *name, const struct stat *status) {
  struct hand *hand = walk->hand;
  uint8_t digest[SHA256_LENGTH];
  bool digested = hand->spec->flags & WALK_DIGESTS, content = wants_content(walk, status);
  int fd = digested || content ? open_same(walk, directory, name, status, 0) : -1;
  int code = (digested || content) && fd < 0 ? -fd : 0;
  if (!code && digested) {
    code = contents_digest(fd, digest);
  }
  records_entry(&hand->out, status, walk->path, NULL, !code && digested ? digest : NULL);
  if (!code && content) {
    code = contents_send(hand, fd, (uint64_t)status->st_size);
    if (!code) {
      records_file_end(&hand->out);
    }
  }
  if (code) {
    unreadable(walk, code);
  }
  if (fd >= 0) {
    close(fd);
  }
}

static void say(struct walk *walk, int directory, const char *name, const struct stat *status) {
  walk->hand->entries++;
  if (S_ISREG(status->st_mode)) {
    say_file(walk, directory, name, status);
    return;
  }
  char link[LINK_BYTES_MAX + 1] = "";
  if (S_ISLNK(status->st_mode)) {
    ssize_t n = readlinkat(directory, name, link, LINK_BYTES_MAX);
    link[n > 0 ? n : 0] = 0;
  }
  records_entry(&walk->hand->out, status, walk->path, link, NULL);
}

static bool is_pruned(const struct walk *walk, const char *name) {
  for (char **prune = walk->hand->spec->prune; *prune; prune++) {
    if (strcmp(*prune, name) == 0) {
      return true;
    }
  }
  return false;
}

static bool goes_deeper(const struct walk *walk, const char *name) {
  const struct spec *spec = walk->hand->spec;
  size_t below = walk->levels.depth; /* of the entries that would come */
  return !((spec->flags & WALK_SHALLOW) && below > 0) && below < spec->depthMax && !is_pruned(walk, name);
}

/* The name joins the path. False: the path is too long. */
static bool append(struct walk *walk, const char *name) {
  size_t length = strlen(name), slash = walk->length > 0 && walk->path[walk->length - 1] != '/';
  if (walk->length + slash + length > PATH_BYTES_MAX) {
    return false;
  }
  if (slash) {
    walk->path[walk->length++] = '/';
  }
  memcpy(walk->path + walk->length, name, length + 1);
  walk->length += length;
  return true;
}

static bool is_enough(struct walk *walk) {
  bool enough = walk->hand->entries >= walk->hand->spec->entriesMax;
  walk->hand->truncated = walk->hand->truncated || enough;
  return enough;
}

static void enter(struct walk *walk, int directory, const char *name, const struct stat *status) {
  int fd = open_same(walk, directory, name, status, O_DIRECTORY);
  int code = fd < 0 ? -fd : levels_enter(&walk->levels, fd);
  if (code) {
    unreadable(walk, code);
  }
}

/* One entry of the current directory; its path is in place, and stays if it was entered. */
static void visit(struct walk *walk, const char *name) {
  struct stat status;
  int directory = levels_fd(&walk->levels);
  if (fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) != 0) {
    unreadable(walk, errno);
    return;
  }
  say(walk, directory, name, &status);
  if (S_ISDIR(status.st_mode) && goes_deeper(walk, name)) {
    enter(walk, directory, name, &status);
  }
}

/* Everything below the root, whose level is entered. */
static int descend(struct walk *walk) {
  size_t lengths[LEVELS_MAX + 1];
  lengths[walk->levels.depth] = walk->length;
  while (walk->levels.depth > 0) {
    size_t depth = walk->levels.depth;
    walk->length = lengths[depth];
    walk->path[walk->length] = 0;
    const char *name = levels_next(&walk->levels);
    if (!name) {
      int code = levels_leave(&walk->levels);
      if (code) {
        return code;
      }
      continue;
    }
    if (is_enough(walk)) {
      return 0;
    }
    if (!append(walk, name)) {
      unreadable(walk, ENAMETOOLONG);
      continue;
    }
    visit(walk, name);
    if (walk->levels.depth > depth) {
      lengths[depth + 1] = walk->length;
    }
  }
  return 0;
}

static int walk_root(struct walk *walk, const char *root) {
  const struct spec *spec = walk->hand->spec;
  struct stat status;
  if (strlen(root) > PATH_BYTES_MAX) {
    return ENAMETOOLONG;
  }
  if (root[0] == 0 || (root[0] != '/' && walk->hand->cwdCode)) {
    return root[0] ? walk->hand->cwdCode : ENOENT;
  }
  walk->length = 0;
  append(walk, root);
  int path = place_open(AT_FDCWD, root, O_PATH | O_NOFOLLOW);
  if (path < 0 || fstat(path, &status) != 0) {
    return errno;
  }
  if (!S_ISDIR(status.st_mode)) {
    close(path);
    struct place place;
    int code = place_find(walk->hand, root, 0, &place);
    if (!code && !is_enough(walk)) {
      say(walk, place.directory, place.name, &status);
    }
    if (!code) {
      close(place.directory);
    }
    return code;
  }
  if ((spec->flags & WALK_ROOT) && !is_enough(walk)) {
    walk->hand->entries++;
    records_entry(&walk->hand->out, &status, walk->path, NULL, NULL);
  }
  if (spec->depthMax > 0) {
    enter(walk, path, ".", &status);
  }
  close(path);
  int code = descend(walk);
  levels_free(&walk->levels);
  return code;
}

int hand_walk(struct hand *hand) {
  struct walk walk = {.hand = hand};
  for (char **root = hand->spec->paths; *root; root++) {
    hand->failed = *root;
    int code = walk_root(&walk, *root);
    if (code) {
      return code;
    }
    if (hand->truncated && hand->entries >= hand->spec->entriesMax) {
      break;
    }
  }
  return 0;
}
