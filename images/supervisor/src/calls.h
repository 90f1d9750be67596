/* The life of calls: started, read, fed, timed, killed, ended. Called from the loop; nothing here waits. */
#ifndef CALLS_H
#define CALLS_H

#include "supervisor.h"

struct call *calls_find(struct supervisor *supervisor, uint32_t id);

/* A slot for a new call, or NULL. */
struct call *calls_add(struct supervisor *supervisor, uint32_t id);
void calls_forget(struct call *call);

/* Starts what its pieces say; from then on the call owns its process. NULL, or why the spec was refused. */
const char *calls_start(struct supervisor *supervisor, struct call *call);

/* Tries again to start a call for which no process could be had. */
void calls_start_again(struct supervisor *supervisor, struct call *call);

/* Its process could not be had, or is not wanted any more. */
void calls_do_not_start(struct supervisor *supervisor, struct call *call, int code);

/* A descriptor of the call is ready. */
void calls_ready(struct supervisor *supervisor, struct call *call, unsigned which);

void calls_stdin(struct supervisor *supervisor, struct call *call, uint64_t offset, const uint8_t *data, size_t length,
                 bool end);

/* The runner holds output below the offset: there may be room to read on. */
void calls_acknowledge(struct supervisor *supervisor, struct call *call, uint64_t offset);

/* Nobody of it is left: reads the rest of its output, and ends it once that is read. */
void calls_close(struct supervisor *supervisor, struct call *call);

void calls_signal(struct call *call, int signal, bool foreground);
void calls_kill(struct supervisor *supervisor, struct call *call, enum cause cause, uint64_t graceUs);
void calls_resize(struct call *call, uint16_t columns, uint16_t rows);

/* Waits for every child that has ended. */
void calls_reap(struct supervisor *supervisor);

/* Runs every clock that is due; the earliest one that is not, or UINT64_MAX. */
uint64_t calls_tick(struct supervisor *supervisor);

#endif
