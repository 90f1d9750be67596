/* The runner's orders to the gateway: their bytes lie inside what was given, and every length is within its bound. */
#include <stdlib.h>
#include <string.h>

#include "gateway-records.h"

static volatile uint8_t sum;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  uint8_t *buffer = malloc(size ? size : 1);
  memcpy(buffer, data, size);
  for (size_t at = 0; at < size;) {
    struct order order;
    long n = order_parse(buffer + at, size - at, &order);
    if (n <= 0) {
      break;
    }
    if ((size_t)n > size - at || n > RECORD_HEADER + RECORD_MAX || order.data < buffer + at ||
        order.data + order.length != buffer + at + n || (order.length > 0 && order.kind != 'D' && order.kind != 'U')) {
      abort();
    }
    for (size_t i = 0; i < order.length; i++) {
      sum ^= order.data[i];
    }
    at += (size_t)n;
  }
  free(buffer);
  return 0;
}
