/* Weights on their way: from trainers to owners, outside of a step, and what is left of those to the trainers. */
#ifndef EQS_SERVICE_WEIGHTS_H
#define EQS_SERVICE_WEIGHTS_H

#include "service/session.h"

/*
 * Move weights from the trainers to the owners, as they are in `weight` of every parameter that travels; where it is
 * NULL, the rows of this trainer stay as they are. Collective over the session.
 */
eqs_status eqs_move_weights(eqs_session *session, const bool *travels, const void *const *weight);

/* Wait until all weights have arrived; what trainers did not pull is thrown away. Collective over the session. */
eqs_status eqs_finish_pulls(eqs_session *session);

#endif
