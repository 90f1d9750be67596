/*
 * The built-in hand: file verbs and those of the network, run in a fork of the supervisor (docs/protocol.md, "The hand").
 *
 *  - Paths are resolved with the effective user of the tools; nothing is done that the user could not do, except that
 *    what the runner imports may be given to root.
 *  - Only regular files and directories are ever opened, and none on procfs and its like.
 *  - Every failure is an errno returned upwards; hand_run() alone reports it.
 */
#ifndef HAND_H
#define HAND_H

#include <stdbool.h>

#include "records.h"
#include "spec.h"

struct hand {
  const struct spec *spec;
  int cwdCode; /* errno of entering the working directory: relative paths fail with it */
  struct records out;
  const char *failed; /* the path that an error is about; NULL: the first path of the spec */
  uint64_t entries;
  uint64_t bytes;
  bool truncated;
};

/* Reads 0, writes records to 1. The exit code: 0 done, 1 failed. The gateway is a process of this kind, with records of its own. */
int hand_run(const struct spec *spec);

/* Verbs: 0 or errno. What they say goes to hand->out. */
int hand_stat(struct hand *hand);
int hand_read(struct hand *hand);
int hand_write(struct hand *hand);
int hand_walk(struct hand *hand);
int hand_mkdir(struct hand *hand);
int hand_move(struct hand *hand);
int hand_remove(struct hand *hand);
int hand_unpack(struct hand *hand);
int hand_probe(struct hand *hand);

/* Acts as the tools' user from now on, or as root again. Only unpack goes back and forth. */
bool hand_become(const struct hand *hand, bool root);

#endif
