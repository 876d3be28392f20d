#include "model/wrappers.h"

#include <stdbool.h>
#include <string.h>

#include "base/memory.h"

static bool is_wrapper(const char *segment, size_t length)
{
  static const char *const wrappers[] = {
      "module",                     /* DataParallel, DistributedDataParallel, AveragedModel, DeepSpeed */
      "_orig_mod",                  /* torch.compile */
      "_fsdp_wrapped_module",       /* FullyShardedDataParallel */
      "_fpw_module",                /* the same before torch 2.0, and FairScale's */
      "_checkpoint_wrapped_module", /* torch's checkpoint_wrapper, offload_wrapper */
      "_forward_module",            /* Lightning Fabric */
      "_dmp_wrapped_module",        /* torchrec's DistributedModelParallel */
  };
  for (size_t i = 0; i < sizeof wrappers / sizeof *wrappers; i++)
    if (strlen(wrappers[i]) == length && memcmp(wrappers[i], segment, length) == 0) return true;
  return false;
}

void eqs_canonical_name(char *name)
{
  char *end = name;
  for (const char *dot = strchr(name, '.'); dot != NULL; dot = strchr(name, '.')) {
    size_t length = (size_t)(dot - name);
    if (!is_wrapper(name, length)) {
      memmove(end, name, length + 1);
      end += length + 1;
    }
    name += length + 1;
  }
  memmove(end, name, strlen(name) + 1);
}

eqs_status eqs_copy_canonical_name(char **copy, const char *name)
{
  eqs_status status = eqs_copy_text(copy, name);
  if (status == EQS_OK && *copy != NULL) eqs_canonical_name(*copy);
  return status;
}

eqs_status eqs_fail_same_name(const char *first, const char *second)
{
  if (strcmp(first, second) == 0) return eqs_fail(EQS_USAGE, "parameter '%.500s' is added twice", first);
  return eqs_fail(EQS_USAGE,
                  "parameters '%.300s' and '%.300s' have one name once the prefixes of wrappers (module., _orig_mod., "
                  "...) are left out: name an attribute of the model otherwise",
                  first, second);
}
