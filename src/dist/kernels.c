/*
 * Which of its sets of kernels BLIS takes. BLIS 0.9 does not know AMD's processors from Zen 5 on (flame/blis issue 912)
 * nor those of other makers, and falls back to plain C: a fifth of the speed where there is AVX-512. There we
 * choose by what the processor can do, unless the user has chosen (BLIS_ARCH_TYPE).
 */
#include "dist/kernels.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* From BLIS; its header would declare a second set of BLAS prototypes. */
extern void bli_init(void);
extern int bli_arch_query_id(void);
extern const char *bli_arch_string(int id);
extern const char *bli_info_get_version_str(void);

const char *eqs_blis_kernels(void)
{
  bli_init(); /* where nothing has been computed yet, it would end the process over a choice of kernels */
  return bli_arch_string(bli_arch_query_id());
}

const char *eqs_blis_version(void)
{
  return bli_info_get_version_str();
}

#if defined(__x86_64__)
#include <cpuid.h>

/* Intel's processors are known to BLIS by their features, AMD's by family, up to 19h (Zen 3 and 4). */
static bool known_to_blis(void)
{
  enum { last_known_family = 0x19 };
  unsigned eax, ebx, ecx, edx;
  char vendor[13] = "";
  if (!__get_cpuid(0, &eax, &ebx, &ecx, &edx)) return true;
  memcpy(vendor, &ebx, 4);
  memcpy(vendor + 4, &edx, 4);
  memcpy(vendor + 8, &ecx, 4);
  if (strcmp(vendor, "GenuineIntel") == 0) return true;
  if (strcmp(vendor, "AuthenticAMD") != 0 || !__get_cpuid(1, &eax, &ebx, &ecx, &edx)) return false;
  unsigned family = (eax >> 8 & 0xf) + (eax >> 20 & 0xff);
  return family <= last_known_family;
}

static const char *best_kernels(void)
{
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl"))
    return "skx";
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? "haswell" : NULL;
}

/* BLIS looks at the variable at its first call, which comes later than this. "generic" is the last of its sets. */
__attribute__((constructor)) static void choose_kernels(void)
{
  const char *wanted = best_kernels(), *name = "";
  if (wanted == NULL || known_to_blis()) return;
  for (int id = 0; strcmp(name, "generic") != 0; id++) {
    char number[16];
    name = bli_arch_string(id);
    snprintf(number, sizeof number, "%d", id);
    if (strcmp(name, wanted) == 0) setenv("BLIS_ARCH_TYPE", number, 0);
  }
}
#endif
