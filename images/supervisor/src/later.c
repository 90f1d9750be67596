#include "later.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int later_add(struct later *later, const char *path, size_t length, mode_t mode, bool root, bool asked) {
  if (later->count == later->size) {
    size_t size = later->size ? later->size * 2 : 64;
    struct later_mode *modes = realloc(later->modes, size * sizeof *modes);
    if (!modes) {
      return ENOMEM;
    }
    later->modes = modes;
    later->size = size;
  }
  char *copy = strndup(path, length);
  if (!copy) {
    return ENOMEM;
  }
  later->modes[later->count] = (struct later_mode){copy, mode, root, asked, later->count};
  later->count++;
  return 0;
}

/* They are taken from the end. A directory's path is longer than that of any directory it is in. */
static int by_turn(const void *a, const void *b) {
  const struct later_mode *one = a, *two = b;
  size_t lengthOne = strlen(one->path), lengthTwo = strlen(two->path);
  if (lengthOne != lengthTwo) {
    return lengthOne < lengthTwo ? -1 : 1;
  }
  if (one->asked != two->asked) {
    return one->asked ? -1 : 1;
  }
  return one->index > two->index ? -1 : 1;
}

void later_sort(struct later *later) {
  if (later->count > 1) {
    qsort(later->modes, later->count, sizeof *later->modes, by_turn);
  }
}

bool later_take(struct later *later, struct later_mode *mode) {
  if (later->count == 0) {
    return false;
  }
  *mode = later->modes[--later->count];
  return true;
}
