/*
 * unpack: what the runner sends becomes files below one root.
 *
 *  - A path is walked from the root name by name, and no link is followed on the way or at its end.
 *  - A file is complete before it takes its name.
 *  - A directory that refuses while it is filled is opened up (1777) by its owner and gets its mode at the end, also after
 *    a failure.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "contents.h"
#include "hand.h"
#include "later.h"
#include "places.h"
#include "removal.h"

enum { UNPACK_OWNERS = 1, OPEN_MODE = 01777 };

struct unpack {
  struct hand *hand;
  struct record_input input;
  struct later later;
  int root;
  int parent;           /* the directory of the last entry, whose path follows */
  size_t parentLength;
  bool isRoot;          /* whom we act as */
  int file;             /* being written; -1: none */
  bool renames;         /* it is written under a temporary name */
  mode_t fileMode;
  int64_t mtimeNs;
  char temporary[32];
  char name[NAME_BYTES_MAX + 1];
  char path[PATH_BYTES_MAX + 1];
  char parentPath[PATH_BYTES_MAX + 1];
};

static int act_as(struct unpack *unpack, bool root) {
  if (root != unpack->isRoot) {
    if (!hand_become(unpack->hand, root)) {
      return EPERM;
    }
    unpack->isRoot = root;
  }
  return 0;
}

static bool has_owners(const struct unpack *unpack) {
  return unpack->hand->spec->flags & UNPACK_OWNERS;
}

/* Components are not empty, `.` or `..`, and short enough; so nothing leaves the root. */
static bool is_safe(const char *path) {
  for (;;) {
    size_t length = strcspn(path, "/");
    if (length == 0 || length > NAME_BYTES_MAX || (path[0] == '.' && (length == 1 || (length == 2 && path[1] == '.')))) {
      return false;
    }
    if (path[length] == 0) {
      return true;
    }
    path += length + 1;
  }
}

static int open_below(int root, const char *path, size_t length) {
  char name[NAME_BYTES_MAX + 1];
  int at = openat(root, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
  for (size_t done = 0; at >= 0 && done < length;) {
    size_t n = strcspn(path + done, "/");
    memcpy(name, path + done, n);
    name[n] = 0;
    done += n + 1;
    int next = openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int code = errno;
    close(at);
    errno = code;
    at = next;
  }
  return at;
}

/* The entry's path is split; its parent, nearly always that of the entry before, is opened. */
static int enter_parent(struct unpack *unpack, const struct incoming_entry *entry) {
  if (entry->pathLength == 0 || entry->pathLength > PATH_BYTES_MAX || memchr(entry->path, 0, entry->pathLength)) {
    return EINVAL;
  }
  memcpy(unpack->path, entry->path, entry->pathLength);
  unpack->path[entry->pathLength] = 0;
  if (!is_safe(unpack->path)) {
    return EINVAL;
  }
  const char *slash = strrchr(unpack->path, '/');
  size_t length = slash ? (size_t)(slash - unpack->path) : 0;
  strcpy(unpack->name, slash ? slash + 1 : unpack->path);
  if (unpack->parent >= 0 && length == unpack->parentLength && memcmp(unpack->path, unpack->parentPath, length) == 0) {
    return 0;
  }
  int fd = open_below(unpack->root, unpack->path, length);
  if (fd < 0) {
    return errno == ELOOP ? ENOTDIR : errno;
  }
  int code = place_check_file_system(fd);
  if (code) {
    close(fd);
    return code;
  }
  if (unpack->parent >= 0) {
    close(unpack->parent);
  }
  unpack->parent = fd;
  unpack->parentLength = length;
  memcpy(unpack->parentPath, unpack->path, length);
  return 0;
}

static void forget_parent(struct unpack *unpack) {
  if (unpack->parent >= 0) {
    close(unpack->parent);
    unpack->parent = -1;
  }
}

/* Its owner lets everybody write to the parent until the end. True: worth another try. */
static bool open_up(struct unpack *unpack, int code) {
  struct stat status;
  if ((code != EACCES && code != EPERM) || !has_owners(unpack) || fstat(unpack->parent, &status) != 0 ||
      (status.st_mode & 07777) == OPEN_MODE) {
    return false;
  }
  bool before = unpack->isRoot, done = false;
  if (act_as(unpack, status.st_uid == 0) == 0 && later_add(&unpack->later, unpack->path, unpack->parentLength,
                                                           status.st_mode & 07777, status.st_uid == 0, false) == 0) {
    done = fchmodat(unpack->parent, ".", OPEN_MODE, 0) == 0;
  }
  return act_as(unpack, before) == 0 && done;
}

static int make_link(const char *target, int directory, const char *name) {
  return symlinkat(target, directory, name) == 0 ? 0 : errno;
}

/* The temporary name takes the name; in a sticky directory only the owner of what was there may do that. */
static int replace(struct unpack *unpack, const char *temporary) {
  if (renameat(unpack->parent, temporary, unpack->parent, unpack->name) == 0) {
    return 0;
  }
  int code = errno;
  struct stat status;
  if (code == EPERM && has_owners(unpack) &&
      fstatat(unpack->parent, unpack->name, &status, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(status.st_mode)) {
    bool before = unpack->isRoot;
    if (act_as(unpack, status.st_uid == 0) == 0) {
      unlinkat(unpack->parent, unpack->name, 0);
    }
    code = act_as(unpack, before);
    code = code ? code : renameat(unpack->parent, temporary, unpack->parent, unpack->name) == 0 ? 0 : errno;
  }
  return code;
}

static int unpack_link(struct unpack *unpack, const struct incoming_entry *entry) {
  char target[LINK_BYTES_MAX + 1], temporary[32];
  if (entry->linkLength == 0 || entry->linkLength > LINK_BYTES_MAX || memchr(entry->link, 0, entry->linkLength)) {
    return EINVAL;
  }
  memcpy(target, entry->link, entry->linkLength);
  target[entry->linkLength] = 0;
  int code = make_link(target, unpack->parent, unpack->name);
  if (open_up(unpack, code)) {
    code = make_link(target, unpack->parent, unpack->name);
  }
  if (code != EEXIST) {
    return code;
  }
  contents_temporary_name(temporary);
  code = make_link(target, unpack->parent, temporary);
  code = code ? code : replace(unpack, temporary);
  if (code) {
    unlinkat(unpack->parent, temporary, 0);
  }
  return code;
}

static int make_directory(struct unpack *unpack, mode_t mode) {
  return mkdirat(unpack->parent, unpack->name, 0700) == 0 &&
                 fchmodat(unpack->parent, unpack->name, has_owners(unpack) ? OPEN_MODE : mode | 0700, 0) == 0
             ? 0
             : errno;
}

static int unpack_directory(struct unpack *unpack, const struct incoming_entry *entry) {
  struct stat status;
  mode_t mode = entry->mode & 07777;
  int code = make_directory(unpack, mode);
  if (open_up(unpack, code)) {
    code = make_directory(unpack, mode);
  }
  if (code == EEXIST) {
    if (fstatat(unpack->parent, unpack->name, &status, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISDIR(status.st_mode)) {
      return ENOTDIR;
    }
    bool ours = status.st_uid == (unpack->isRoot ? 0 : unpack->hand->spec->uid);
    return ours ? later_add(&unpack->later, unpack->path, strlen(unpack->path), mode, unpack->isRoot, true) : 0;
  }
  return code ? code : later_add(&unpack->later, unpack->path, strlen(unpack->path), mode, unpack->isRoot, true);
}

static int create(struct unpack *unpack, const char *name) {
  unpack->file = openat(unpack->parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  return unpack->file >= 0 ? 0 : errno;
}

static int begin_file(struct unpack *unpack, const struct incoming_entry *entry) {
  unpack->renames = false;
  unpack->fileMode = entry->mode & 07777;
  unpack->mtimeNs = entry->mtimeNs;
  int code = create(unpack, unpack->name);
  if (open_up(unpack, code)) {
    code = create(unpack, unpack->name);
  }
  if (code != EEXIST) {
    return code;
  }
  struct stat status;
  if (fstatat(unpack->parent, unpack->name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(status.st_mode)) {
    return EISDIR;
  }
  unpack->renames = true;
  contents_temporary_name(unpack->temporary);
  contents_forget_on_end(unpack->parent, unpack->temporary);
  code = create(unpack, unpack->temporary);
  if (open_up(unpack, code)) {
    code = create(unpack, unpack->temporary);
  }
  return code;
}

static int write_file(struct unpack *unpack, const struct incoming *record) {
  for (uint32_t done = 0; done < record->length;) {
    ssize_t n = write(unpack->file, record->payload + done, record->length - done);
    if (n < 0 && errno != EINTR) {
      return errno;
    }
    done += n > 0 ? (uint32_t)n : 0;
  }
  unpack->hand->bytes += record->length;
  return 0;
}

static int end_file(struct unpack *unpack) {
  int code = fchmod(unpack->file, unpack->fileMode) == 0 ? 0 : errno;
  if (!code && unpack->mtimeNs > 0) {
    struct timespec time = {.tv_sec = unpack->mtimeNs / 1000000000, .tv_nsec = unpack->mtimeNs % 1000000000};
    futimens(unpack->file, (struct timespec[2]){time, time});
  }
  code = code ? code : unpack->renames ? replace(unpack, unpack->temporary) : 0;
  if (!code) {
    close(unpack->file);
    unpack->file = -1;
    contents_keep();
  }
  return code;
}

/* What was being written when it failed goes. */
static void abandon_file(struct unpack *unpack) {
  if (unpack->file >= 0) {
    close(unpack->file);
    unlinkat(unpack->parent, unpack->renames ? unpack->temporary : unpack->name, 0);
    contents_keep();
  }
}

static int remove_entry(struct unpack *unpack) {
  int code = removal_run(unpack->parent, unpack->name, true);
  if (open_up(unpack, code)) {
    code = removal_run(unpack->parent, unpack->name, true);
  }
  if ((code == EACCES || code == EPERM) && has_owners(unpack)) {
    bool before = unpack->isRoot;
    code = act_as(unpack, !before);
    code = code ? code : removal_run(unpack->parent, unpack->name, true);
    act_as(unpack, before);
  }
  forget_parent(unpack);
  return code == ENOENT ? 0 : code;
}

static int unpack_entry(struct unpack *unpack, const struct incoming *record) {
  struct incoming_entry entry;
  if (unpack->file >= 0 || !record_parse_entry(record, &entry)) {
    return EPROTO;
  }
  int code = act_as(unpack, has_owners(unpack) && entry.root);
  code = code ? code : enter_parent(unpack, &entry);
  if (code) {
    return code;
  }
  unpack->hand->entries++;
  switch (entry.type) {
    case 'f': return begin_file(unpack, &entry);
    case 'd': return unpack_directory(unpack, &entry);
    case 'l': return unpack_link(unpack, &entry);
    case 'x': return remove_entry(unpack);
    default: return EINVAL;
  }
}

static int unpack_all(struct unpack *unpack) {
  for (;;) {
    struct incoming record;
    int code = record_input_next(&unpack->input, &record);
    if (code) {
      return code;
    }
    switch (record.kind) {
      case 'S': code = unpack_entry(unpack, &record); break;
      case 'D': code = unpack->file >= 0 ? write_file(unpack, &record) : EPROTO; break;
      case 'F': code = unpack->file >= 0 ? end_file(unpack) : EPROTO; break;
      default: return unpack->file >= 0 ? EPROTO : 0;
    }
    if (code) {
      return code;
    }
  }
}

/* Deepest first, so that a directory is not closed before what is in it. */
static int give_modes(struct unpack *unpack) {
  struct later_mode mode;
  int first = 0;
  later_sort(&unpack->later);
  while (later_take(&unpack->later, &mode)) {
    int code = act_as(unpack, mode.root);
    int fd = code ? -1 : open_below(unpack->root, mode.path, strlen(mode.path));
    code = code ? code : fd < 0 || fchmodat(fd, ".", mode.mode, 0) != 0 ? errno : 0;
    first = first ? first : code == ENOENT ? 0 : code; /* it may have been removed since */
    if (fd >= 0) {
      close(fd);
    }
  }
  return first;
}

int hand_unpack(struct hand *hand) {
  static struct unpack unpack; /* of this process, which runs one verb and ends */
  struct stat status;
  unpack = (struct unpack){.hand = hand, .parent = -1, .file = -1};
  if (!record_input_open(&unpack.input)) {
    return ENOMEM;
  }
  int fd = place_open_to_read(hand, hand->spec->paths[0], &status);
  if (fd < 0 || !S_ISDIR(status.st_mode)) {
    return fd < 0 ? -fd : ENOTDIR;
  }
  unpack.root = fd;
  int code = unpack_all(&unpack);
  hand->failed = code && unpack.path[0] ? unpack.path : NULL;
  abandon_file(&unpack);
  int modes = give_modes(&unpack);
  return code ? code : modes;
}
