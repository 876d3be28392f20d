/* The libraries in use, for people who wonder whether BLIS answers ScaLAPACK. */
#include <mpi.h>
#include <stdio.h>
#include <string.h>

#include "checkpoint/hdf5_file.h"
#include "dist/kernels.h"
#include "dist/libraries.h"

static const char *or_unknown(const char *path)
{
  return path != NULL ? path : "unknown";
}

const char *eqs_libraries(void)
{
  static char text[4096];
  char mpi[MPI_MAX_LIBRARY_VERSION_STRING];
  int length;
  MPI_Get_library_version(mpi, &length);
  mpi[strcspn(mpi, ",\n")] = '\0';
  const char *own = eqs_library_answering("libequishard", "sgemm_");
  if (own == NULL) own = eqs_library_answering("", "sgemm_"); /* linked into the program */
  snprintf(text, sizeof text,
           "MPI: %s\n"
           "HDF5: %s\n"
           "BLIS: %s, %s kernels\n"
           "sgemm of Equishard: %s\n"
           "sgemm of ScaLAPACK: %s\n"
           "dgemm of ScaLAPACK: %s\n",
           mpi, eqs_hdf5_version(), eqs_blis_version(), eqs_blis_kernels(), or_unknown(own),
           or_unknown(eqs_library_answering("libscalapack", "sgemm_")),
           or_unknown(eqs_library_answering("libscalapack", "dgemm_")));
  return text;
}
