/* The bytes of a call: from its pipes or terminal into the ring, from the runner to its stdin. */
#ifndef STREAMS_H
#define STREAMS_H

#include "supervisor.h"

/* Which descriptor of which call an epoll event is about. */
uint64_t streams_key(uint32_t call, unsigned which);

void streams_watch(struct supervisor *supervisor, struct call *call);

/* One read of one stream. */
void streams_read(struct supervisor *supervisor, struct call *call, unsigned which);

/* Reads whatever is there now, each stream at most a ring's worth. True while any is open. */
bool streams_read_all(struct supervisor *supervisor, struct call *call);

/* Likewise once all writers are gone. False: the ring is full, call again when it is not. */
bool streams_read_rest(struct supervisor *supervisor, struct call *call);

/* There is room again after a full ring. */
void streams_release(struct supervisor *supervisor, struct call *call);

/* The runner has taken some of what it was sent. */
void streams_taken(struct supervisor *supervisor, struct call *call);

/* Bytes for stdin that are new. */
void streams_accept(struct supervisor *supervisor, struct call *call, const uint8_t *data, size_t length);
void streams_feed(struct supervisor *supervisor, struct call *call);
void streams_close_input(struct call *call);
void streams_close(struct call *call);

#endif
