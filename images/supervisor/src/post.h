/* What the runner is told: answers at once, the news of calls as room and order allow. */
#ifndef POST_H
#define POST_H

#include "supervisor.h"

void post_welcome(struct supervisor *supervisor, const uint8_t nonce[16]);
void post_pong(struct supervisor *supervisor, const uint8_t token[8]);
void post_started(struct supervisor *supervisor, const struct call *call);
void post_listed(struct supervisor *supervisor);
void post_refused(struct supervisor *supervisor, uint32_t call, uint32_t reason, const char *text);

/* Output, EXIT, END and STDIN_ACK of all calls, as far as there is room; calls take turns. */
void post_news(struct supervisor *supervisor);

#endif
