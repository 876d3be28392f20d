/*
 * A two-layer perceptron that trains through Equishard, on data that it makes: points of a plane, to be told
 * whether they lie inside a ring.
 *
 *     mpirun -np 2 build/perceptron tests/examples/perceptron.yaml : -np 1 build/equishard serve
 *
 * Each trainer draws its own points, computes its gradient and pushes it; owners reduce the gradients and apply
 * Muon to the matrices, AdamW to the biases. Exits with status 1 if the loss does not fall below a tenth of
 * what it is at first.
 */
#include <equishard.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { inputs = 2, hidden = 32, batch = 64, steps = 300, parameters = 4 };

typedef struct {
  float w1[hidden][inputs], b1[hidden], w2[1][hidden], b2[1];
} network;

/* Equishard prints what went wrong; the program only has to end with the status. */
static void check(eqs_status status)
{
  if (status != EQS_OK) MPI_Abort(MPI_COMM_WORLD, (int)status);
}

static float uniform(unsigned *state)
{
  *state = *state * 1664525u + 1013904223u;
  return (float)(*state >> 8) / (float)(1 << 23) - 1;
}

static void initialize(network *net)
{
  unsigned state = 1;
  memset(net, 0, sizeof *net);
  for (int j = 0; j < hidden; j++) {
    for (int i = 0; i < inputs; i++) net->w1[j][i] = uniform(&state);
    net->b1[j] = uniform(&state);
    net->w2[0][j] = 0.3f * uniform(&state);
  }
}

/* Mean squared error over a batch, and its gradient, for the points of one trainer and step. */
static double forward_backward(const network *net, unsigned seed, network *gradient)
{
  double loss = 0;
  memset(gradient, 0, sizeof *gradient);
  for (int s = 0; s < batch; s++) {
    float x[inputs] = {uniform(&seed), uniform(&seed)}, h[hidden], y = net->b2[0];
    float radius = sqrtf(x[0] * x[0] + x[1] * x[1]), target = radius > 0.4f && radius < 0.9f ? 1 : -1;
    for (int j = 0; j < hidden; j++) {
      float a = net->b1[j];
      for (int i = 0; i < inputs; i++) a += net->w1[j][i] * x[i];
      h[j] = tanhf(4 * a);
      y += net->w2[0][j] * h[j];
    }
    float error = y - target, scale = 2 * error / batch;
    loss += (double)error * error / batch;
    gradient->b2[0] += scale;
    for (int j = 0; j < hidden; j++) {
      float back = 4 * scale * net->w2[0][j] * (1 - h[j] * h[j]);
      gradient->w2[0][j] += scale * h[j];
      gradient->b1[j] += back;
      for (int i = 0; i < inputs; i++) gradient->w1[j][i] += back * x[i];
    }
  }
  return loss;
}

int main(int argc, char **argv)
{
  MPI_Init(&argc, &argv);
  if (argc != 2) {
    fprintf(stderr, "usage: perceptron CONFIGURATION\n");
    MPI_Abort(MPI_COMM_WORLD, EQS_USAGE);
  }

  eqs_session *session;
  MPI_Comm trainers;
  int rank, size;
  check(eqs_session_open(MPI_COMM_WORLD, argv[1], &session));
  check(eqs_session_trainers(session, &trainers));
  MPI_Comm_rank(trainers, &rank);
  MPI_Comm_size(trainers, &size);

  network net, gradient = {0};
  initialize(&net);
  const eqs_parameter_info info[parameters] = {
      {.struct_size = sizeof *info,
       .name = "layer1.weight",
       .ndim = 2,
       .shape = {hidden, inputs},
       .gradient_placement = EQS_PARTIAL},
      {.struct_size = sizeof *info,
       .name = "layer1.bias",
       .ndim = 1,
       .shape = {hidden},
       .gradient_placement = EQS_PARTIAL},
      {.struct_size = sizeof *info,
       .name = "layer2.weight",
       .ndim = 2,
       .shape = {1, hidden},
       .gradient_placement = EQS_PARTIAL},
      {.struct_size = sizeof *info, .name = "layer2.bias", .ndim = 1, .shape = {1}, .gradient_placement = EQS_PARTIAL},
  };
  float *weights[parameters] = {&net.w1[0][0], net.b1, &net.w2[0][0], net.b2};
  const float *gradients[parameters] = {&gradient.w1[0][0], gradient.b1, &gradient.w2[0][0], gradient.b2};
  eqs_parameter *handles[parameters];
  for (int p = 0; p < parameters; p++) check(eqs_parameter_add(session, &info[p], weights[p], &handles[p]));
  check(eqs_session_start(session));

  double first = 0, loss = 0;
  for (int step = 0; step < steps; step++) {
    loss = forward_backward(&net, 7919u * (unsigned)(step * size + rank + 1), &gradient);
    MPI_Allreduce(MPI_IN_PLACE, &loss, 1, MPI_DOUBLE, MPI_SUM, trainers);
    loss /= size;
    if (step == 0) first = loss;
    for (int p = 0; p < parameters; p++) check(eqs_push(handles[p], gradients[p]));
    check(eqs_step(session));
    for (int p = 0; p < parameters; p++) check(eqs_pull(handles[p], weights[p]));
    if (rank == 0 && (step % 50 == 0 || step == steps - 1)) printf("step %3d: loss %.4f\n", step, loss);
  }
  check(eqs_session_close(&session));
  MPI_Finalize();
  return loss < 0.1 * first ? EXIT_SUCCESS : EXIT_FAILURE;
}
