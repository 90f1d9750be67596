/* Ends the trees of calls that are to be killed, and knows when nobody of them is left. */
#ifndef KILLS_H
#define KILLS_H

#include "supervisor.h"

/* From now on, whoever is found of the call is killed. */
void kills_begin(struct supervisor *supervisor, struct call *call);

/* A child has ended: it may have been the last one of a call that is being killed. */
void kills_look_again(struct supervisor *supervisor, struct call *call);

/* Looks for those whose time has come, and closes the calls that have nobody left. */
void kills_tick(struct supervisor *supervisor);

/* Nothing is there but PID 1 and one thread of each leader. One reading of a counter; false where there is none. */
bool kills_only_leaders(const struct supervisor *supervisor);

#endif
