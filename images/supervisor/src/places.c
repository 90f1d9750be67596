#include "places.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { LINKS_MAX = 40, CHUNK_BYTES = 4000 };

int place_check_file_system(int fd) {
  static const uint32_t refused[] = {
      0x9fa0 /* proc */,         0x62656572 /* sysfs */,   0x27e0eb /* cgroup */,     0x63677270 /* cgroup2 */,
      0x1cd1 /* devpts */,       0x64626720 /* debugfs */, 0x74726163 /* tracefs */,  0x73636673 /* securityfs */,
      0xcafe4a11 /* bpf */,      0x6165676c /* pstore */,  0xde5e81e4 /* efivarfs */, 0x19800202 /* mqueue */,
      0x6e736673 /* namespace */, 0x50495045 /* pipe */,   0x534f434b /* socket */,   0x09041934 /* anonymous inode */,
      0x42494e4d /* binfmt */,   0x62656570 /* configfs */, 0x65735543 /* fusectl */, 0xf97cff8c /* selinux */,
  };
  struct statfs fs;
  if (fstatfs(fd, &fs) != 0) {
    return EACCES; /* gVisor's procfs has no answer (ENOSYS); what does not say what it is, is not opened */
  }
  for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
    if ((uint32_t)fs.f_type == refused[i]) {
      return EACCES;
    }
  }
  return 0;
}

int place_check(int fd, const struct stat *status) {
  if (!S_ISREG(status->st_mode) && !S_ISDIR(status->st_mode)) {
    return ENXIO;
  }
  return place_check_file_system(fd);
}

int place_open(int directory, const char *path, int flags) {
  char chunk[CHUNK_BYTES + 1];
  int at = directory;
  while (strlen(path) > CHUNK_BYTES) {
    size_t length = CHUNK_BYTES;
    while (length > 0 && path[length] != '/') {
      length--;
    }
    if (length == 0) {
      errno = ENAMETOOLONG;
      break;
    }
    memcpy(chunk, path, length);
    chunk[length] = 0;
    int next = openat(at, chunk, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int code = errno;
    if (at != directory) {
      close(at);
    }
    if (next < 0) {
      errno = code;
      return -1;
    }
    at = next;
    path += length;
    while (*path == '/') {
      path++;
    }
  }
  int fd = strlen(path) > CHUNK_BYTES ? -1 : openat(at, *path ? path : ".", flags | O_CLOEXEC);
  int code = errno;
  if (at != directory) {
    close(at);
  }
  errno = code;
  return fd;
}

static int base_of(const struct hand *hand, const char *path) {
  if (path[0] == 0) {
    errno = ENOENT;
    return -1;
  }
  if (path[0] != '/' && hand->cwdCode) {
    errno = hand->cwdCode;
    return -1;
  }
  return AT_FDCWD;
}

/* Opens a directory, making what is missing on the way. */
static int open_making(int base, const char *path) {
  char name[NAME_BYTES_MAX + 1];
  int at = place_open(base, path[0] == '/' ? "/" : ".", O_PATH | O_DIRECTORY);
  while (at >= 0) {
    path += strspn(path, "/");
    size_t length = strcspn(path, "/");
    if (length == 0) {
      return at;
    }
    int next = -1;
    errno = ENAMETOOLONG;
    if (length <= NAME_BYTES_MAX) {
      memcpy(name, path, length);
      name[length] = 0;
      next = openat(at, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
      if (next < 0 && errno == ENOENT && (mkdirat(at, name, 0777) == 0 || errno == EEXIST)) {
        next = openat(at, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
      }
    }
    int code = errno;
    close(at);
    errno = code;
    at = next;
    path += length;
  }
  return -1;
}

/* Splits off the last name. The parent, "" for none, is written to parent. */
static int split(const char *path, char parent[PATH_BYTES_MAX + 1], char name[NAME_BYTES_MAX + 1]) {
  size_t end = strlen(path);
  if (end > PATH_BYTES_MAX) {
    return ENAMETOOLONG;
  }
  while (end > 1 && path[end - 1] == '/') {
    end--;
  }
  size_t start = end;
  while (start > 0 && path[start - 1] != '/') {
    start--;
  }
  size_t length = end - start;
  if (length > NAME_BYTES_MAX) {
    return ENAMETOOLONG;
  }
  memcpy(name, path + start, length);
  name[length] = 0;
  memmove(parent, path, start);
  parent[start] = 0;
  bool dots = strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
  return length == 0 || dots ? EINVAL : 0;
}

static int open_parent(int base, const char *parent, bool make) {
  int fd = make ? open_making(base, parent) : place_open(base, parent[0] ? parent : ".", O_PATH | O_DIRECTORY);
  return fd < 0 ? -errno : fd;
}

int place_find(const struct hand *hand, const char *path, int flags, struct place *place) {
  char parent[PATH_BYTES_MAX + 1], link[LINK_BYTES_MAX + 1];
  int base = base_of(hand, path), code = 0;
  if (base == -1) {
    return errno;
  }
  for (int links = 0; links <= LINKS_MAX; links++) {
    if ((code = split(path, parent, place->name)) != 0) {
      break;
    }
    int fd = open_parent(base, parent, flags & PLACE_PARENTS);
    if (base >= 0) {
      close(base);
      base = -1;
    }
    if (fd < 0) {
      return -fd;
    }
    ssize_t length = flags & PLACE_FOLLOW ? readlinkat(fd, place->name, link, sizeof link - 1) : -1;
    if (length <= 0) {
      place->directory = fd;
      code = place_check_file_system(fd);
      if (code) {
        close(fd);
      }
      return code;
    }
    link[length] = 0;
    path = link;
    base = fd;
    code = ELOOP;
  }
  if (base >= 0) {
    close(base);
  }
  return code;
}

int place_reopen(int fd, int flags) {
  char path[40];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  int opened = open(path, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  return opened < 0 ? -errno : opened;
}

int place_open_to_read(const struct hand *hand, const char *path, struct stat *status) {
  int base = base_of(hand, path);
  int fd = base == -1 ? -1 : place_open(base, path, O_PATH);
  if (fd < 0) {
    return -errno;
  }
  int code = fstat(fd, status) == 0 ? place_check(fd, status) : errno;
  int opened = code ? -code : place_reopen(fd, O_RDONLY);
  close(fd);
  return opened;
}
