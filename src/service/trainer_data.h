/* The trainers' own data in checkpoints. */
#ifndef EQS_SERVICE_TRAINER_DATA_H
#define EQS_SERVICE_TRAINER_DATA_H

#include "checkpoint/contents.h"
#include "service/session.h"

/*
 * Pack the items of a checkpoint: those that the first trainer's count for, with the settings of the groups, and those
 * of this trainer. Not collective. EQS_USAGE.
 */
eqs_status eqs_pack_items(const eqs_session *session, const eqs_trainer_item *items, int count, eqs_wire *shared,
                          eqs_wire *own);

/* session->own_items of all trainers, on all ranks. Collective over the session. */
eqs_status eqs_share_own_items(eqs_session *session, eqs_wire *all);

/* The items of both wires; keys and bytes point into them. `items` is allocated. */
eqs_status eqs_unpack_items(eqs_wire *shared, eqs_wire *own, eqs_checkpoint_item **items, int *count);

/* What a restored checkpoint has, into session->trainer_data; and the settings from there. Not collective. */
eqs_status eqs_keep_restored_items(eqs_session *session, const eqs_checkpoint_contents *contents);
eqs_status eqs_restore_settings(eqs_session *session);

#endif
