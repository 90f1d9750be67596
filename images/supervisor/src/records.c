#include "records.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bytes.h"
#include "sha256.h"

/* Sparse files can claim more than readers with doubles for numbers can hold. */
#define SIZE_TOLD_MAX ((INT64_C(1) << 53) - 1)

enum { OUT_BYTES = 4 * (RECORD_HEADER + RECORD_MAX), IN_BYTES = 2 * (RECORD_HEADER + RECORD_MAX) };

bool records_open(struct records *records) {
  *records = (struct records){.buffer = malloc(OUT_BYTES)};
  return records->buffer != NULL;
}

void records_flush(struct records *records) {
  for (size_t done = 0; done < records->length;) {
    ssize_t n = write(1, records->buffer + done, records->length - done);
    if (n < 0 && errno != EINTR) {
      _exit(1);
    }
    done += n > 0 ? (size_t)n : 0;
  }
  records->length = 0;
}

/* Where a payload of this length goes, its header already there. */
static uint8_t *begin(struct records *records, char kind, size_t length) {
  if (OUT_BYTES - records->length < RECORD_HEADER + length) {
    records_flush(records);
  }
  uint8_t *p = records->buffer + records->length;
  records->length += RECORD_HEADER + length;
  return put32(put8(p, (uint8_t)kind), (uint32_t)length);
}

static uint8_t type_of(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG: return 'f';
    case S_IFDIR: return 'd';
    case S_IFLNK: return 'l';
    case S_IFIFO: return 'p';
    case S_IFSOCK: return 's';
    case S_IFCHR: return 'c';
    default: return 'b';
  }
}

static uint8_t *put_bytes(uint8_t *p, const void *data, size_t length) {
  if (length > 0) {
    memcpy(p, data, length);
  }
  return p + length;
}

void records_entry(struct records *records, const struct stat *status, const char *path, const char *link,
                   const uint8_t *digest) {
  size_t pathLength = strlen(path), linkLength = link ? strlen(link) : 0, digestLength = digest ? SHA256_LENGTH : 0;
  uint8_t *p = begin(records, 'S', RECORD_ENTRY_FIXED + 2 + pathLength + 2 + linkLength + 1 + digestLength);
  p = put8(p, type_of(status->st_mode));
  p = put8(p, 0);
  p = put16(p, 0);
  p = put32(p, status->st_mode & 07777);
  p = put32(p, status->st_uid);
  p = put32(p, status->st_gid);
  p = put32(p, (uint32_t)status->st_nlink);
  p = put64(p, status->st_size > SIZE_TOLD_MAX ? SIZE_TOLD_MAX : (uint64_t)status->st_size);
  p = put64(p, (uint64_t)((int64_t)status->st_mtim.tv_sec * 1000000000 + status->st_mtim.tv_nsec));
  p = put64(p, status->st_ino);
  p = put64(p, status->st_dev);
  p = put_bytes(put16(p, (uint16_t)pathLength), path, pathLength);
  p = put_bytes(put16(p, (uint16_t)linkLength), link, linkLength);
  put_bytes(put8(p, (uint8_t)digestLength), digest, digestLength);
}

uint8_t *records_room(struct records *records) {
  if (OUT_BYTES - records->length < RECORD_HEADER + RECORD_MAX) {
    records_flush(records);
  }
  return records->buffer + records->length + RECORD_HEADER;
}

void records_data(struct records *records, size_t length) {
  begin(records, 'D', length);
}

void records_file_end(struct records *records) {
  begin(records, 'F', 0);
}

void records_error(struct records *records, char kind, int code, const char *path) {
  size_t length = strlen(path) < PATH_BYTES_MAX ? strlen(path) : PATH_BYTES_MAX;
  put_bytes(put32(begin(records, kind, 4 + length), (uint32_t)code), path, length);
}

void records_interface(struct records *records, uint32_t flags, const char *name) {
  put_bytes(put32(begin(records, 'I', 4 + strlen(name)), flags), name, strlen(name));
}

void records_probe(struct records *records, uint8_t index, int code, const uint8_t *answer, size_t length) {
  put_bytes(put32(put8(begin(records, 'P', 5 + length), index), (uint32_t)code), answer, length);
}

void records_end(struct records *records, bool truncated, uint64_t entries, uint64_t bytes) {
  put64(put64(put8(begin(records, 'Z', 17), truncated), entries), bytes);
}

bool record_input_open(struct record_input *input) {
  *input = (struct record_input){.buffer = malloc(IN_BYTES)};
  return input->buffer != NULL;
}

long record_parse(const uint8_t *bytes, size_t length, struct incoming *record) {
  if (length < RECORD_HEADER) {
    return 0;
  }
  *record = (struct incoming){.kind = bytes[0], .length = get32(bytes + 1), .payload = bytes + RECORD_HEADER};
  if (record->length > RECORD_MAX || !memchr("SDFZ", record->kind, 4) ||
      (record->length > 0 && (record->kind == 'F'))) {
    return -1;
  }
  return length - RECORD_HEADER < record->length ? 0 : (long)(RECORD_HEADER + record->length);
}

bool record_parse_entry(const struct incoming *record, struct incoming_entry *entry) {
  const uint8_t *p = record->payload, *end = p + record->length;
  if (record->kind != 'S' || record->length < RECORD_ENTRY_FIXED + 5) {
    return false;
  }
  *entry = (struct incoming_entry){.type = p[0], .root = p[1] == 0, .mode = get32(p + 4), .mtimeNs = (int64_t)get64(p + 28)};
  p += RECORD_ENTRY_FIXED;
  entry->pathLength = get16(p);
  entry->path = p + 2;
  if (end - entry->path < entry->pathLength + 3) {
    return false;
  }
  p = entry->path + entry->pathLength;
  entry->linkLength = get16(p);
  entry->link = p + 2;
  if (end - entry->link < entry->linkLength + 1) {
    return false;
  }
  p = entry->link + entry->linkLength;
  return (p[0] == 0 || p[0] == SHA256_LENGTH) && end - p == 1 + p[0];
}

int record_input_next(struct record_input *input, struct incoming *record) {
  for (;;) {
    long n = record_parse(input->buffer + input->start, input->end - input->start, record);
    if (n != 0) {
      input->start += n > 0 ? (size_t)n : 0;
      return n > 0 ? 0 : EPROTO;
    }
    memmove(input->buffer, input->buffer + input->start, input->end - input->start);
    input->end -= input->start;
    input->start = 0;
    ssize_t got = read(0, input->buffer + input->end, IN_BYTES - input->end);
    if (got == 0) {
      return EPIPE;
    }
    if (got < 0 && errno != EINTR) {
      return errno;
    }
    input->end += got > 0 ? (size_t)got : 0;
  }
}
