/*
 * The system calls of tools where the engine has not filtered them: gVisor's runsc ignores a container's seccomp profile
 * unless it was told to take it. What the engine's profile forbids for the sake of kill and containment is forbidden here:
 * new namespaces (and with them capabilities, and a way out of the call's group), other processes' memory, keys, io_uring.
 */
#ifndef FILTER_H
#define FILTER_H

/* For this process and all it will start. 0: there is a filter now, ours or the engine's; -1: none, see errno. */
int filter_ensure(void);

#endif
