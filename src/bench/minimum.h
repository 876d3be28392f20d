/* The least that an update can cost: what efficiencies are measured against. */
#ifndef EQS_BENCH_MINIMUM_H
#define EQS_BENCH_MINIMUM_H

#include "rules/rule.h"

/*
 * Floating-point operations of a polar factor of an m×n matrix, m ≤ n (or n×m), where products of commuting symmetric
 * matrices count once per pair of indices: of K quintic steps the lesser of the Gram form's and the direct form's,
 *
 *     min(3m²n + (4K - 3) m³, K (3m²n + m³))
 *
 * Cubic steps have no square of the Gram matrix: a product less each. Of the exact solver: what it asks for.
 */
double eqs_minimal_polar_flops(const eqs_polar_options *options, int64_t m, int64_t n);

/* What a whole update of an m×n matrix costs at least. */
typedef struct {
  double flops; /* of the rule's polar factor; 0 if it has none */
  double bytes; /* gradient, weight and states read once, weight and states written once, float32 */
} eqs_least_cost;

eqs_least_cost eqs_minimal_update(const eqs_rule_options *options, int64_t m, int64_t n);

#endif
