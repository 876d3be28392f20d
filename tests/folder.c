#include "folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

char folder[64];

void make_folder(void)
{
  strcpy(folder, "/tmp/equishard-test-XXXXXX");
  if (test_rank() == 0) ck_assert_ptr_nonnull(mkdtemp(folder));
  MPI_Bcast(folder, sizeof folder, MPI_CHAR, 0, MPI_COMM_WORLD);
}

void remove_folder(void)
{
  char command[128];
  MPI_Barrier(MPI_COMM_WORLD);
  snprintf(command, sizeof command, "rm -rf %s", folder);
  if (test_rank() == 0) ck_assert_int_eq(system(command), 0);
}
