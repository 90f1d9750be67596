/* The bytes of files, for the hand. */
#ifndef CONTENTS_H
#define CONTENTS_H

#include "hand.h"
#include "sha256.h"

/* From the start to the end. 0 or errno. */
int contents_digest(int fd, uint8_t digest[SHA256_LENGTH]);

/* 'D' records from where fd stands, at most max bytes. Adds to hand->bytes. 0 or errno. */
int contents_send(struct hand *hand, int fd, uint64_t max);

/* A name for a file that will be renamed: nothing else has it, and tools do not guess it. */
void contents_temporary_name(char name[32]);

/* Removes this temporary file should the hand be ended (SIGTERM) before contents_keep(). */
void contents_forget_on_end(int directory, const char *name);
void contents_keep(void);

#endif
