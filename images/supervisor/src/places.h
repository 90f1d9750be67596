/* Where a path leads, for the hand: parents opened, the last name kept apart, special file systems refused. */
#ifndef PLACES_H
#define PLACES_H

#include "hand.h"

enum { NAME_BYTES_MAX = 255 };

struct place {
  int directory;
  char name[NAME_BYTES_MAX + 1];
};

enum place_flags {
  PLACE_FOLLOW = 1,  /* a link in the last place is followed, to where a file would be made */
  PLACE_PARENTS = 2, /* missing parents are made */
};

/* 0 or errno. EINVAL where the last name is empty, `.` or `..`; EACCES on procfs and its like. */
int place_find(const struct hand *hand, const char *path, int flags, struct place *place);

/* rename(2); without replace, EEXIST where something is. */
int place_rename(const struct place *from, const struct place *to, bool replace);

/* openat(2) for paths of any length. */
int place_open(int directory, const char *path, int flags);

/* As a regular file or directory, for reading; links followed. The descriptor or -errno (ENXIO: something else). */
int place_open_to_read(const struct hand *hand, const char *path, struct stat *status);

/* Reads what an O_PATH descriptor stands for. The descriptor or -errno. Only for what place_check() let through. */
int place_reopen(int fd, int flags);

/* 0; EACCES on a file system that is not for files; ENXIO for what is neither a regular file nor a directory. */
int place_check(int fd, const struct stat *status);
int place_check_file_system(int fd);

#endif
