/* Removing a name, and all below it. */
#ifndef REMOVAL_H
#define REMOVAL_H

#include <stdbool.h>

/* 0 or errno. Links are removed, never followed. */
int removal_run(int directory, const char *name, bool recursive);

#endif
