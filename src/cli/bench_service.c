#include "cli/bench.h"
eqs_status eqs_bench_service(int argc, char **argv)
{
  (void)argc, (void)argv;
  return EQS_FAILED;
}
