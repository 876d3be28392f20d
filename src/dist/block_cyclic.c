#include "dist/block_cyclic.h"

int64_t eqs_local_count(int64_t n, int64_t block, int coord, int procs)
{
  int64_t whole_blocks = n / block, rounds = whole_blocks / procs, left_over = whole_blocks % procs;
  int64_t count = rounds * block;
  if (coord < left_over) count += block;
  if (coord == left_over) count += n % block;
  return count;
}

int64_t eqs_global_index(int64_t local, int64_t block, int coord, int procs)
{
  return (local / block * procs + coord) * block + local % block;
}

int eqs_index_owner(int64_t global, int64_t block, int procs)
{
  return (int)(global / block % procs);
}

int64_t eqs_local_index(int64_t global, int64_t block, int procs)
{
  return global / block / procs * block + global % block;
}
