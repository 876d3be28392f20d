/*
 * Update rules, behind one small interface. A rule turns the direction D of a matrix into its update U in two
 * phases, because ν may be one number for a tensor whose matrices live on different owners:
 *
 *     factor   D -> factor, and this matrix's part of ν
 *     update   factor -> U, with ν summed over the matrices that share it
 *
 * The formulas are Lau and Su's (arXiv 2605.18106). A new rule is a file that defines an eqs_rule, and a line
 * in the table of rules.c.
 */
#ifndef EQS_RULES_RULE_H
#define EQS_RULES_RULE_H

#include "polar/polar.h"

typedef struct eqs_rule eqs_rule;

typedef enum {
  EQS_MOMENTUM_NONE,        /* D = G */
  EQS_MOMENTUM_EMA,         /* M <- βM + (1-β)G;  D = M */
  EQS_MOMENTUM_NESTEROV,    /* B <- μB + G;  D = G + μB */
  EQS_MOMENTUM_HEAVY_BALL,  /* B <- μB + G;  D = B */
  EQS_MOMENTUM_POLAR_FIRST, /* M <- βM + (1-β) polar(G);  the update is ν(G)^α M */
  EQS_MOMENTA
} eqs_momentum;

typedef enum { EQS_ROW_INVERSE_EPS, EQS_ROW_INVERSE, EQS_ROW_MODES } eqs_row_mode;
typedef enum { EQS_ROW_THEN_POLAR, EQS_POLAR_THEN_ROW, EQS_ORDERS } eqs_order;
typedef enum { EQS_NU_TENSOR, EQS_NU_MATRIX, EQS_NU_SCOPES } eqs_nu_scope;

/*
 * What ε is measured by. EQS_EPS_ABSOLUTE: it is the number itself, as in the paper's runs, whose learning rates rest
 * on it. EQS_EPS_RELATIVE: in (DᵀD + εI)^(-1/2) it is ε ||D||²_F / k, k the smaller side of D (the mean eigenvalue of
 * the smaller Gram matrix), beside norms of rows ε times their root mean square, beside ν ε ||D||_F; so the size of D
 * does not matter.
 */
typedef enum { EQS_EPS_ABSOLUTE, EQS_EPS_RELATIVE, EQS_EPS_MODES } eqs_eps_mode;

/* A factor on the update that follows from the matrix's shape m×n alone. */
typedef enum {
  EQS_SCALE_NONE,
  EQS_SCALE_SQRT_MAX_1_ROWS_OVER_COLS, /* √max(1, m/n) (Muon) */
  EQS_SCALE_SQRT_ROWS_OVER_COLS,       /* √(m/n) (Scion) */
  EQS_SCALE_02_SQRT_MAX_DIM,           /* 0.2 √max(m, n) (Moonlight) */
  EQS_SCALES
} eqs_scale;

/* Names as in the configuration, indexed by the enum. */
extern const char *const eqs_momentum_names[EQS_MOMENTA];
extern const char *const eqs_row_mode_names[EQS_ROW_MODES];
extern const char *const eqs_order_names[EQS_ORDERS];
extern const char *const eqs_nu_scope_names[EQS_NU_SCOPES];
extern const char *const eqs_eps_mode_names[EQS_EPS_MODES];
extern const char *const eqs_scale_names[EQS_SCALES];

/* Keys of a parameter group that only some rules use: bits of eqs_rule.keys. */
enum {
  EQS_KEY_MOMENTUM = 1 << 0,
  EQS_KEY_BETA = 1 << 1,
  EQS_KEY_BETAS = 1 << 2,
  EQS_KEY_ALPHA = 1 << 3,
  EQS_KEY_EPS = 1 << 4,
  EQS_KEY_SOLVER = 1 << 5,
  EQS_KEY_STEPS = 1 << 6,
  EQS_KEY_FORM = 1 << 7,
  EQS_KEY_ROW_MODE = 1 << 8,
  EQS_KEY_ORDER = 1 << 9,
  EQS_KEY_SIDE = 1 << 10,
  EQS_KEY_CENTER = 1 << 11,
  EQS_KEY_SCALE = 1 << 12,
  EQS_KEY_NU_SCOPE = 1 << 13,
  EQS_KEY_LAYOUT = 1 << 14, /* with head_dim and split */
  EQS_KEY_EPS_MODE = 1 << 15,
  EQS_KEY_RESTARTS = 1 << 16,
  EQS_KEY_COEFFICIENTS = 1 << 17, /* of solver custom, as is the next */
  EQS_KEY_NORMALISATION = 1 << 18,

  EQS_KEYS_OF_POLAR = EQS_KEY_EPS | EQS_KEY_EPS_MODE | EQS_KEY_SOLVER | EQS_KEY_STEPS | EQS_KEY_FORM |
                      EQS_KEY_RESTARTS | EQS_KEY_COEFFICIENTS | EQS_KEY_NORMALISATION
};

/* What is in force for one parameter. */
typedef struct {
  const eqs_rule *rule;
  double weight_decay;
  eqs_momentum momentum;
  double beta;     /* β, or μ of nesterov and heavy_ball */
  double betas[2]; /* adamw */
  double alpha, eps;
  eqs_eps_mode eps_mode;
  eqs_solver solver;
  eqs_normalisation normalisation; /* of solver custom */
  int steps;
  eqs_form form;
  const eqs_polar_lists *lists; /* the group's; NULL if it gives none */
  eqs_row_mode row_mode;
  eqs_order order;
  eqs_side side;
  bool center;
  eqs_scale scale;
  eqs_nu_scope nu_scope;
  bool several; /* the tensor holds several matrices: eqs_polar_options.guarded */
} eqs_rule_options;

/* What a rule finds out about a matrix on the way. */
typedef struct {
  double nu;           /* this matrix's part of ν(D); 0 where the rule has none */
  double squares;      /* and of ||D||²_F, D what ν is of */
  double damping;      /* ε / (ε + mean eigenvalue) of a damped Gram matrix, else 0 */
  int64_t rows;        /* of this rank's rows that are normed, those that are not zero */
  int64_t damped_rows; /* and of these, those shorter than ε */
  double *row_norms;   /* [in] NULL, or where to put the norms of this rank's rows that are normed */
  uint32_t largest[2]; /* magnitudes of this rank's part of the rule's states */
  bool nonfinite;      /* why EQS_FAILED is returned: the direction is not finite. The same on all members */
} eqs_rule_findings;

struct eqs_rule {
  const char *name, *about; /* about: what it is for, in a line */
  unsigned keys;            /* EQS_KEY_...: the group's keys that it uses */
  eqs_momentum momentum;    /* default */
  eqs_solver solver;        /* default */
  eqs_scale scale;          /* default */
  bool center;              /* default for the roles lm_head and router */
  bool row_wise;            /* the update of a row follows from this row alone (and from ε), if it is not centered */
  bool element_wise;        /* applies to tensors of any shape; no matrices, layouts or heads */
  bool uses_nu;             /* ν is needed (unless α = 0) */
  bool damped;              /* its formula has (DᵀD + εI)^(-1/2), so that ε enters with every damping solver */
  bool polar_first;         /* its factor is a polar factor: momentum polar_first makes sense */
  eqs_side side;            /* default */
  int states;               /* how many states of the parameter's shape it keeps itself, momentum aside */
  const char *state_names[2];

  /*
   * D -> factor.
   *
   * options  [in]
   * step     [in] 1 for the first step of this parameter
   * states   [in, out] `states` matrices
   * d        [in, out] direction D; on return the factor
   * findings [in, out] zero at first, but for row_norms; a rule with states gives `largest`
   *
   * Collective over d's grid.
   */
  eqs_status (*factor)(const eqs_rule_options *options, int64_t step, eqs_matrix *states, eqs_matrix *d,
                       eqs_rule_findings *findings);

  /*
   * factor -> U = scale · u, shape factor included: the scale is left to who applies U, who goes through memory anyway.
   * findings [in, out]: ν and ||D||² as they count for the tensor; u [in, out], scale [out]. Collective over u's grid.
   */
  eqs_status (*update)(const eqs_rule_options *options, eqs_rule_findings *findings, eqs_matrix *u, double *scale);

  /*
   * An upper bound of the elements of the factor of a direction whose elements are up to d; states: the largest of
   * each, before it and after it. NULL: 2.5, as of polar factors and rows over their norms, where there are no states.
   */
  double (*largest)(const eqs_rule_options *options, int64_t step, double d, double *states);

  /* Floating-point operations of one update of an m×n matrix, on all ranks together. */
  double (*flops)(const eqs_rule_options *options, int64_t m, int64_t n);
};

/* Whether a rule's update is around a polar factor; else it is bound by the memory. */
bool eqs_rule_has_polar(const eqs_rule *rule);

/* The polar factor of a rule that has one (eqs_rule_has_polar). */
eqs_polar_options eqs_rule_polar_options(const eqs_rule_options *options);

/* Options with the defaults of a rule: weight_decay 0, beta 0.95, betas 0.9 0.95, alpha 1, eps 1e-8, steps 5, ... */
eqs_rule_options eqs_rule_defaults(const eqs_rule *rule);

/* Why options cannot be had together, or NULL: for example momentum polar_first with row norms. */
const char *eqs_rule_refusal(const eqs_rule_options *options);

/*
 * Whether the buffer of one kind of momentum, by its name, is what another would have in its place. Nesterov and heavy
 * ball keep the same sum; the average of ema is smaller by the factor 1 - β; that of polar_first is of another
 * quantity.
 */
bool eqs_momentum_same_buffer(const char *kind, const char *other);

/*
 * The two phases with centering around them (`center`): D is centered before the rule, the update after it.
 * Arguments as those of eqs_rule.factor and eqs_rule.update. Collective over the matrix's grid.
 */
eqs_status eqs_rule_factor(const eqs_rule_options *options, int64_t step, eqs_matrix *states, eqs_matrix *d,
                           eqs_rule_findings *findings);
eqs_status eqs_rule_update(const eqs_rule_options *options, eqs_rule_findings *findings, eqs_matrix *u, double *scale);

/*
 * An upper bound of what an update of an m×n matrix, one of `count` of its tensor, is made of: the elements of U, with
 * what is multiplied into it on the way. d and states as in eqs_rule.largest.
 */
double eqs_rule_largest(const eqs_rule_options *options, int64_t step, int64_t m, int64_t n, int64_t count, double d,
                        double *states);

/* What an update is multiplied by for its shape m×n. */
double eqs_shape_scale(eqs_scale scale, int64_t m, int64_t n);

/*
 * Predicted seconds of one update of an m×n matrix on a grid (of which rows and cols are read), momentum and weight
 * included; and bytes of a rank's workspace for it: what is kept for later calls, and what is freed.
 */
double eqs_rule_seconds(const eqs_rule_options *options, const eqs_speeds *speeds, const eqs_grid *grid, int64_t m,
                        int64_t n);
void eqs_rule_workspace(const eqs_rule_options *options, const eqs_grid *grid, int64_t m, int64_t n, int64_t *kept,
                        int64_t *freed);

/* Whether ε is beside the eigenvalues of a Gram matrix or the norms of rows. */
bool eqs_rule_is_damped(const eqs_rule_options *options);

/* max(ν, ε)^α, or max(ν, ε ||D||_F)^α. */
double eqs_nu_scale(const eqs_rule_options *options, const eqs_rule_findings *findings);

#endif
