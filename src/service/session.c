#include "service/session.h"

#include <stdlib.h>

void eqs_session_free(eqs_session **result)
{
  eqs_session *session = *result;
  if (session == NULL) return;
  eqs_saver_destroy(&session->saver);
  eqs_directory_lock_release(&session->lock);
  eqs_owner_step_destroy(&session->step);
  eqs_push_sender_destroy(&session->push_sender);
  eqs_push_receiver_destroy(&session->push_receiver);
  eqs_pull_sender_destroy(&session->pull_sender);
  eqs_pull_receiver_destroy(&session->pull_receiver);
  eqs_pull_sender_destroy(&session->frozen_sender);
  eqs_pull_receiver_destroy(&session->frozen_receiver);
  eqs_optimizer_destroy(&session->optimizer);
  eqs_plan_free(&session->plan);
  eqs_config_free(&session->config);
  for (int64_t p = 0; p < session->parameters; p++) {
    for (int64_t a = 0; a < session->parameter[p].aliases; a++) free(session->parameter[p].alias[a]);
    free(session->parameter[p].alias);
    free(session->parameter[p].given_name);
    free((char *)session->parameter[p].info.name);
    free((char *)session->parameter[p].info.module_type);
    free((char *)session->parameter[p].info.role);
  }
  eqs_handles_close(&session->handles);
  eqs_lookup_free(&session->names);
  eqs_lookup_free(&session->addresses);
  free(session->parameter);
  free(session->resume_path);
  free(session->restored_group);
  free(session->settings);
  free(session->restored_step);
  eqs_wire_free(&session->own_items);
  eqs_wire_free(&session->trainer_data);
  eqs_roster_free(&session->roster);
  free(session);
  *result = NULL;
}
