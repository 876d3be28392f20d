#include "dist/speeds.h"

#include <math.h>

const eqs_speeds eqs_built_in_speeds = {
    .gemm = {6, {64, 128, 256, 512, 1024, 2048}, {5.5e10, 1.3e11, 1.65e11, 1.65e11, 1.65e11, 1.65e11}},
    .symmetric = {6, {64, 128, 256, 512, 1024, 2048}, {9.5e10, 1.9e11, 1.9e11, 1.85e11, 1.6e11, 1.5e11}},
    .eigen = 2.5e10,
    .triad = 1.9e10,
    .message_latency = 1e-6,
    .message_bandwidth = 5e9,
};

double eqs_speed_at(const eqs_speed_curve *curve, int64_t order)
{
  int last = curve->count - 1, i = 0;
  double n = (double)order;
  if (n <= curve->order[0]) return curve->speed[0] * n / curve->order[0];
  if (n >= curve->order[last]) return curve->speed[last];
  while (n > curve->order[i + 1]) i++;
  double part = log(n / curve->order[i]) / log(curve->order[i + 1] / curve->order[i]);
  return curve->speed[i] + part * (curve->speed[i + 1] - curve->speed[i]);
}
