#include "checkpoint/save_optimizer.h"

#include "checkpoint/optimizer_contents.h"
#include "checkpoint/write.h"
#include "dist/communicator.h"

eqs_status eqs_checkpoint_save_optimizer(const eqs_optimizer *optimizer, const eqs_checkpoint_directory *to,
                                         eqs_saver *saver, const eqs_checkpoint_item *items, int count)
{
  eqs_status status = EQS_OK;
  eqs_checkpoint_contents contents = {0};
  EQS_TRY(eqs_agree(optimizer->owners, eqs_optimizer_contents(optimizer, &contents)));
  contents.items = count;
  contents.item = items;
  status =
      saver != NULL ? eqs_saver_begin(saver, to, &contents) : eqs_checkpoint_save(optimizer->owners, to, &contents);
cleanup:
  eqs_contents_free(&contents);
  return status;
}

eqs_status eqs_checkpoint_write_optimizer(const eqs_optimizer *optimizer, const char *file)
{
  eqs_status status = EQS_OK;
  eqs_checkpoint_contents contents = {0};
  EQS_TRY(eqs_agree(optimizer->owners, eqs_optimizer_contents(optimizer, &contents)));
  EQS_TRY(eqs_checkpoint_write(optimizer->owners, file, &contents));
cleanup:
  eqs_contents_free(&contents);
  return status;
}
