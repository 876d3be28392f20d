/*
 * The optimizer on all ranks of MPI_COMM_WORLD as owners, from the text of a configuration: what is between the
 * gradients that trainers pushed and the weights that they pull. Tensors are replicated, float64, rounded to float32.
 */
#ifndef EQS_TESTS_JOB_H
#define EQS_TESTS_JOB_H

#include "equivariance/tensors.h"
#include "harness.h"
#include "optimizer/optimizer.h"

typedef struct {
  eqs_config *config;
  eqs_plan *plan;
  eqs_optimizer *optimizer;
} test_job;

/* Whether the complete product of cases is to be run: EQUISHARD_TEST_ALL. */
bool test_everything(void);

/*
 * All of it is collective. Weights begin at zero. A parameter without a gradient since the last step is absent in
 * the next.
 */
void test_job_open(test_job *job, const char *configuration, int64_t parameters, const eqs_parameter_info *info);
void test_job_set_weight(test_job *job, int64_t p, const double *tensor);
void test_job_set_gradient(test_job *job, int64_t p, const double *tensor);
void test_job_step(test_job *job);
double *test_job_weight(const test_job *job, int64_t p); /* on all ranks; to be freed */
void test_job_close(test_job *job);

/* What is in force for a parameter. */
const eqs_rule_options *test_job_options(const test_job *job, int64_t p);

/* What a tensor is registered as. */
eqs_parameter_info test_info(const char *name, const test_tensor *tensor);

/*
 * The grids to force, as configurations name them: all ranks as 1×P, P×1 and P×Q; where there are ranks to spare
 * also one that leaves some idle. Returns how many.
 */
enum { test_max_forced = 6 };
int test_forced_grids(char grids[test_max_forced][16]);

/* Text that grows. */
typedef struct {
  char *text;
  size_t length;
} test_text;
void test_append(test_text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void test_text_free(test_text *text);

/* Append the keys `layout` and `head_dim` of a tensor. */
void test_append_layout(test_text *text, const test_tensor *tensor);

#endif
