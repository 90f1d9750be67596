#include "levels.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ENTRIES_BYTES = 32768 };

/* Of getdents64(2). */
struct directory_entry {
  uint64_t inode;
  int64_t offset;
  uint16_t length;
  uint8_t type;
  char name[];
};

static int by_bytes(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

static int sort_names(struct level *level) {
  level->sorted = malloc((level->count + 1) * sizeof *level->sorted);
  if (!level->sorted) {
    return ENOMEM;
  }
  char *name = level->names;
  for (size_t i = 0; i < level->count; i++) {
    level->sorted[i] = name;
    name += strlen(name) + 1;
  }
  if (level->count > 1) {
    qsort(level->sorted, level->count, sizeof *level->sorted, by_bytes);
  }
  return 0;
}

static int read_names(struct level *level) {
  _Alignas(struct directory_entry) char entries[ENTRIES_BYTES];
  size_t used = 0, size = 0;
  long n;
  while ((n = syscall(SYS_getdents64, level->fd, entries, sizeof entries)) > 0) {
    if (size - used < (size_t)n) {
      size = size * 2 + (size_t)n;
      char *names = realloc(level->names, size);
      if (!names) {
        return ENOMEM;
      }
      level->names = names;
    }
    for (long at = 0; at < n;) {
      const struct directory_entry *entry = (const struct directory_entry *)(entries + at);
      at += entry->length;
      if (strcmp(entry->name, ".") != 0 && strcmp(entry->name, "..") != 0) {
        size_t length = strlen(entry->name) + 1;
        memcpy(level->names + used, entry->name, length);
        used += length;
        level->count++;
      }
    }
  }
  return n < 0 ? errno : sort_names(level);
}

static void drop(struct level *level) {
  if (level->fd >= 0) {
    close(level->fd);
  }
  free(level->names);
  free(level->sorted);
}

int levels_enter(struct levels *levels, int fd) {
  struct stat status;
  int code = levels->depth >= LEVELS_MAX ? ELOOP : fstat(fd, &status) != 0 ? errno : 0;
  if (!code && levels->depth == levels->size) {
    size_t size = levels->size ? levels->size * 2 : 16;
    struct level *stack = realloc(levels->stack, size * sizeof *stack);
    code = stack ? 0 : ENOMEM;
    levels->stack = stack ? stack : levels->stack;
    levels->size = stack ? size : levels->size;
  }
  if (code) {
    close(fd);
    return code;
  }
  struct level *level = &levels->stack[levels->depth];
  *level = (struct level){.fd = fd, .device = status.st_dev, .inode = status.st_ino};
  code = read_names(level);
  if (code) {
    drop(level);
    return code;
  }
  levels->depth++;
  if (levels->depth > LEVELS_KEPT) {
    struct level *far = &levels->stack[levels->depth - 1 - LEVELS_KEPT];
    close(far->fd);
    far->fd = -1;
  }
  return 0;
}

const char *levels_next(struct levels *levels) {
  struct level *level = &levels->stack[levels->depth - 1];
  return level->next < level->count ? level->sorted[level->next++] : NULL;
}

int levels_fd(const struct levels *levels) {
  return levels->stack[levels->depth - 1].fd;
}

int levels_leave(struct levels *levels) {
  struct level *level = &levels->stack[--levels->depth];
  int code = 0;
  if (levels->depth > 0 && level[-1].fd < 0) {
    struct stat status;
    int fd = openat(level->fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0) {
      code = errno;
    } else if (status.st_ino != level[-1].inode || status.st_dev != level[-1].device) {
      code = ESTALE;
    }
    if (code && fd >= 0) {
      close(fd);
    }
    level[-1].fd = code ? -1 : fd;
  }
  drop(level);
  return code;
}

void levels_free(struct levels *levels) {
  while (levels->depth > 0) {
    drop(&levels->stack[--levels->depth]);
  }
  free(levels->stack);
  *levels = (struct levels){0};
}
