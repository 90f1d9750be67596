/* The spec parser: strings end inside the buffer, whatever the lengths say. */
#include <stdlib.h>
#include <string.h>

#include "spec.h"

static volatile size_t sum;

static void touch(char **list) {
  for (; list && *list; list++) {
    sum += strlen(*list);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct spec spec;
  uint8_t *buffer = malloc(size ? size : 1);
  memcpy(buffer, data, size);
  if (!spec_parse(&spec, buffer, size)) {
    touch(spec.argv);
    touch(spec.env);
    touch(spec.paths);
    touch(spec.prune);
    sum += spec.cwd ? strlen(spec.cwd) : 0;
    sum += spec.to ? strlen(spec.to) : 0;
    for (size_t i = 0; i < spec.scriptLength; i++) {
      sum += spec.script[i];
    }
    if (spec.expected) {
      sum += spec.expected[31];
    }
    for (size_t i = 0; i < spec.probeCount; i++) {
      for (size_t j = 0; j < spec.probes[i].length; j++) {
        sum += spec.probes[i].payload[j];
      }
    }
    bool paths = spec.verb < HAND_GATEWAY;
    if (spec.uid == 0 || spec.gid == 0 || (spec.verb == HAND_NONE ? !spec.argv[0] : paths != (spec.paths[0] != NULL)) ||
        spec.probeCount > PROBES_MAX || (spec.verb == HAND_PROBE) != (spec.probeCount > 0)) {
      abort();
    }
  }
  spec_free(&spec);
  free(buffer);
  return 0;
}
