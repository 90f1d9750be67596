/* The records of an import: every payload, path and link lies inside what was given. */
#include <stdlib.h>
#include <string.h>

#include "records.h"

static volatile uint8_t sum;

static void touch(const uint8_t *from, size_t length) {
  for (size_t i = 0; i < length; i++) {
    sum ^= from[i];
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  uint8_t *buffer = malloc(size ? size : 1);
  memcpy(buffer, data, size);
  for (size_t at = 0; at < size;) {
    struct incoming record;
    struct incoming_entry entry;
    long n = record_parse(buffer + at, size - at, &record);
    if (n <= 0) {
      break;
    }
    touch(record.payload, record.length);
    if (record_parse_entry(&record, &entry)) {
      touch(entry.path, entry.pathLength);
      touch(entry.link, entry.linkLength);
    }
    at += (size_t)n;
  }
  free(buffer);
  return 0;
}
