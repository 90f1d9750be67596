/* Records of the hand: what it writes to 1, and what it is given on 0. */
#ifndef RECORDS_H
#define RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

enum {
  RECORD_HEADER = 5,
  RECORD_MAX = 65536,
  RECORD_ENTRY_FIXED = 52,
  PATH_BYTES_MAX = 61000, /* with the longest link target and a digest, an entry still fits a record */
  LINK_BYTES_MAX = 4095,
};

struct records {
  uint8_t *buffer;
  size_t length;
};

bool records_open(struct records *records);

/* 'S'. link and digest may be NULL. */
void records_entry(struct records *records, const struct stat *status, const char *path, const char *link,
                   const uint8_t *digest);

/* Room for one 'D' of RECORD_MAX bytes; what was put there becomes one with records_data(). */
uint8_t *records_room(struct records *records);
void records_data(struct records *records, size_t length);

/* 'F', a record without payload. */
void records_file_end(struct records *records);

/* 'E', or 'e' where the verb goes on. */
void records_error(struct records *records, char kind, int code, const char *path);

/* Of a probe: 'I' and 'P'. */
void records_interface(struct records *records, uint32_t flags, const char *name);
void records_probe(struct records *records, uint8_t index, int code, const uint8_t *answer, size_t length);
void records_end(struct records *records, bool truncated, uint64_t entries, uint64_t bytes);

/* Writes out what is held; a reader that is gone ends the process. */
void records_flush(struct records *records);

/* An incoming record, its payload checked as far as the kind says. */
struct incoming {
  uint8_t kind;
  uint32_t length;
  const uint8_t *payload;
};

/* An incoming 'S'. Paths and targets are not terminated. */
struct incoming_entry {
  uint8_t type;
  bool root;
  uint32_t mode;
  int64_t mtimeNs;
  const uint8_t *path;
  uint16_t pathLength;
  const uint8_t *link;
  uint16_t linkLength;
};

struct record_input {
  uint8_t *buffer;
  size_t start;
  size_t end;
};

bool record_input_open(struct record_input *input);

/* Takes one record out of bytes. >0: its whole length; 0: more is needed; <0: it is malformed. */
long record_parse(const uint8_t *bytes, size_t length, struct incoming *record);

/* False: malformed. */
bool record_parse_entry(const struct incoming *record, struct incoming_entry *entry);

/* The next record on 0. 0 or errno; EPIPE: the input ended before its 'Z', EPROTO: malformed. */
int record_input_next(struct record_input *input, struct incoming *record);

#endif
