#include "checkpoint/hdf5_file.h"

#include <stdio.h>
#include <string.h>

enum { text_size = 1024 };

void eqs_hdf5_silence(void)
{
  H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

hid_t eqs_hdf5_access(void)
{
  const hsize_t large = 64 << 10, page = 4096; /* tensors begin on pages of the file cache */
  hid_t access = H5Pcreate(H5P_FILE_ACCESS);
  if (access < 0) return access;
  if (H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110) < 0 ||
      H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) < 0 || H5Pset_alignment(access, large, page) < 0 ||
      H5Pset_file_locking(access, false, true) < 0) { /* network file systems often have no locks */
    H5Pclose(access);
    return -1;
  }
  return access;
}

void eqs_hdf5_close(hid_t id)
{
  if (id >= 0) H5Idec_ref(id);
}

static herr_t take_first(unsigned n, const H5E_error2_t *error, void *text)
{
  (void)n;
  if (error->desc == NULL || error->desc[0] == '\0') return 0;
  snprintf(text, text_size, "%s", error->desc);
  return 1;
}

const char *eqs_hdf5_error(void)
{
  static const char system_error[] = "error message = '";
  static char text[text_size];
  text[0] = '\0';
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_first, text);
  char *cause = strstr(text, system_error); /* among file, time, descriptor, address, ... */
  if (cause) memmove(text, cause + strlen(system_error), strlen(cause + strlen(system_error)) + 1);
  text[strcspn(text, cause ? "'" : "\n")] = '\0';
  return text;
}

const char *eqs_hdf5_version(void)
{
  static char text[40];
  unsigned major, minor, release;
  H5get_libversion(&major, &minor, &release);
  snprintf(text, sizeof text, "%u.%u.%u", major, minor, release);
  return text;
}
