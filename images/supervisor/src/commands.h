/* What the runner asks for, frame by frame. Frames that make no sense for their call's state change nothing. */
#ifndef COMMANDS_H
#define COMMANDS_H

#include "supervisor.h"

void command_run(struct supervisor *supervisor, struct lane *lane, const struct frame *frame);

#endif
