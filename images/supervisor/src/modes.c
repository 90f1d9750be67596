#include "modes.h"

#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>

static int set_mode(const char *path, mode_t mode) {
  struct stat status;
  if (lstat(path, &status) != 0 || !S_ISDIR(status.st_mode)) {
    return -1;
  }
  if ((status.st_mode & 07777) == mode) {
    return 0;
  }
  setfsuid(status.st_uid);
  int result = chmod(path, mode);
  setfsuid(0);
  return result;
}

const char *modes_set(int argc, char **argv) {
  for (int i = 1; i + 1 < argc; i++) {
    if (strcmp(argv[i], "--mode") != 0) {
      continue;
    }
    char *path;
    unsigned long mode = strtoul(argv[++i], &path, 8);
    if (mode > 07777 || path[0] != ':' || path[1] != '/') {
      return "--mode wants OCTAL:/DIRECTORY";
    }
    if (set_mode(path + 1, (mode_t)mode) != 0) {
      return "cannot set the mode of one of its directories";
    }
  }
  return NULL;
}
