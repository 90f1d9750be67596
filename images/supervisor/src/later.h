/* Modes of directories, given once everything in them is made: deeper ones first, and what was asked for has the last word. */
#ifndef LATER_H
#define LATER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct later_mode {
  char *path;
  mode_t mode;
  bool root; /* its owner */
  bool asked; /* by the runner; else it is only what was there before */
  size_t index;
};

struct later {
  struct later_mode *modes;
  size_t count;
  size_t size;
};

/* 0 or ENOMEM. */
int later_add(struct later *later, const char *path, size_t length, mode_t mode, bool root, bool asked);

void later_sort(struct later *later);

/* False: none is left. The path is valid for ever (the process is about to end). */
bool later_take(struct later *later, struct later_mode *mode);

#endif
