#include "optimizer/kept_state.h"

#include <stdlib.h>

void eqs_kept_state_free(eqs_kept_state *kept)
{
  for (int s = 0; s < kept->states; s++) free(kept->state_name[s]);
  for (int a = 0; a < kept->attributes; a++) {
    free((char *)kept->attribute[a].name);
    free((char *)kept->attribute[a].text);
  }
  free(kept->attribute);
  *kept = (eqs_kept_state){0};
}
