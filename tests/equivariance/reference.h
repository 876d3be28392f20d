/*
 * The rules in float64, one process, by their definitions: D (DᵀD + εI)^(-1/2) and its approximations are functions
 * of the eigenvalues of the Gram matrix.
 */
#ifndef EQS_TESTS_REFERENCE_H
#define EQS_TESTS_REFERENCE_H

#include "equivariance/tensors.h"
#include "rules/rule.h"

/* A tensor on its way: weight, and momentum or the two averages of adamw; float64, zeros at first but for weight. */
typedef struct {
  const test_tensor *tensor;
  const eqs_rule_options *options;
  double lr;
  int64_t step;
  double *weight, *states[2];
} test_reference;

/* weight is copied. */
test_reference test_reference_begin(const test_tensor *tensor, const eqs_rule_options *options, double lr,
                                    const double *weight);
void test_reference_step(test_reference *reference, const double *gradient);
void test_reference_end(test_reference *reference);

#endif
