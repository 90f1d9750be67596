/*
 * The two ways on which the stream between runner and supervisor can lie: PID 1's stdin and stdout, which the engine carries,
 * and two pipes of its own, which a runner on the same machine opens through /proc. Promises:
 *  - the stream lies where the last HELLO came; what arrives elsewhere is obeyed from the next HELLO on, and only that;
 *  - the pipes are made when a HELLO on stdin asks for them, new ones each time: nobody who had the old ones hears or says more;
 *  - they have no name, and only who may look into PID 1 can open them, which no tool can.
 */
#ifndef LANES_H
#define LANES_H

#include "supervisor.h"

/* False: stdin or stdout cannot be used. */
bool lanes_prepare(struct supervisor *supervisor);

/* A HELLO came on this lane: here the stream is from now on. The pipes are offered where they are asked for and can be had. */
void lanes_take(struct supervisor *supervisor, struct lane *lane, bool offer);

/* The next frame of any lane that may be obeyed now. */
bool lanes_next(struct supervisor *supervisor, struct frame *frame, struct lane **lane);

/* Writes what is in the outbox. */
void lanes_flush(struct supervisor *supervisor);

/* Before the loop sleeps: listen on the lanes whose frames can be obeyed. */
void lanes_watch(struct supervisor *supervisor);

/* A descriptor of a lane is ready; false: the key is of no lane. */
bool lanes_ready(struct supervisor *supervisor, uint64_t key);

/* Stdin had no writer some time ago: look again. */
void lanes_retry(struct supervisor *supervisor);

#endif
