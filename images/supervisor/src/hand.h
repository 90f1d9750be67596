/* The built-in hand: file verbs, run in a fork of the supervisor (docs/protocol.md, "The hand"). */
#ifndef HAND_H
#define HAND_H

#include "spec.h"

/* Reads 0, writes records to 1. The exit code: 0 done, 1 failed. */
int hand_run(const struct spec *spec);

#endif
