/*
 * A walk down a tree that may be deep or wide, and change meanwhile: no recursion, few descriptors, one list of names per
 * level. Going up again past the kept descriptors uses `..`, and only to the very directory it came from.
 */
#ifndef LEVELS_H
#define LEVELS_H

#include <stddef.h>
#include <sys/stat.h>

enum { LEVELS_MAX = 4096, LEVELS_KEPT = 64 };

struct level {
  int fd; /* -1: closed for the time being */
  dev_t device;
  ino_t inode;
  char *names;
  char **sorted;
  size_t count;
  size_t next;
};

struct levels {
  struct level *stack;
  size_t depth;
  size_t size;
};

/* Enters the directory behind fd, which it owns from then on. 0 or errno (ELOOP: too deep); on failure fd is closed. */
int levels_enter(struct levels *levels, int fd);

/* The next name of the current directory by bytes, or NULL. */
const char *levels_next(struct levels *levels);
int levels_fd(const struct levels *levels);

/* Back to the parent. 0 or errno (ESTALE: it was moved meanwhile); the level is gone in any case. */
int levels_leave(struct levels *levels);
void levels_free(struct levels *levels);

#endif
