#include "hand.h"

int hand_run(const struct spec *spec) {
  (void)spec;
  return 1;
}
