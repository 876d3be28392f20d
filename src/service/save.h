/* The checkpoint that an owner writes in the background. */
#ifndef EQS_SERVICE_SAVE_H
#define EQS_SERVICE_SAVE_H

#include "service/session.h"

/* Wait until this owner has nothing left to do for it. EQS_PEER_LOST. */
eqs_status eqs_finish_save(eqs_session *session);

/* How the last one ended on this owner; EQS_OK without one. Not collective. */
eqs_status eqs_save_result(const eqs_session *session);

/* Wait for it and agree on how it ended. Collective over the owners. */
eqs_status eqs_agree_on_save(eqs_session *session);

#endif
