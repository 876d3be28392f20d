/* The matrices inside a tensor: which elements form them. */
#ifndef EQS_MODEL_LAYOUT_H
#define EQS_MODEL_LAYOUT_H

#include <stdbool.h>

#include "base/status.h"
#include "dist/fragment.h"

typedef enum {
  EQS_LAYOUT_ROW,                      /* m×n or E×m×n: as stored; rows are the units */
  EQS_LAYOUT_COL,                      /* m×n or E×m×n: transposed; columns are the units (down projections) */
  EQS_LAYOUT_HEADS_QKV,                /* (H·h)×d, h = head_dim: H matrices h×d */
  EQS_LAYOUT_HEADS_O,                  /* d×(H·h): H matrices d×h */
  EQS_LAYOUT_GATE_UP_CONCAT_PAIR,      /* E×2r×d, gate rows then up rows: E matrices r×2d, (gate_j, up_j) in row j */
  EQS_LAYOUT_GATE_UP_INTERLEAVED_PAIR, /* E×d×2r, gate and up columns alternate: E matrices r×2d, likewise */
  EQS_LAYOUT_GATE_UP_CONCAT_SPLIT,     /* E×2r×d: 2E matrices r×d */
  EQS_LAYOUT_GATE_UP_INTERLEAVED_SPLIT, /* E×d×2r: 2E matrices d×r */
  EQS_LAYOUT_HEADS_QKV_COL, /* d×(H·h), stored as inputs × outputs: H matrices h×d, the transposed columns of a head */
  EQS_LAYOUT_HEADS_O_COL, /* (H·h)×d, likewise: H matrices d×h */
  EQS_LAYOUT_FLATTEN,     /* out×in×k...: one matrix out×(in·k...), as convolutions act */
  EQS_LAYOUTS
} eqs_tensor_layout;

/* Names as in the configuration, indexed by the enum. */
#define EQS_LAYOUT_NAMES                                                                                               \
  [EQS_LAYOUT_ROW] = "row", [EQS_LAYOUT_COL] = "col", [EQS_LAYOUT_HEADS_QKV] = "heads_qkv",                            \
  [EQS_LAYOUT_HEADS_O] = "heads_o", [EQS_LAYOUT_GATE_UP_CONCAT_PAIR] = "gate_up_concat_pair",                          \
  [EQS_LAYOUT_GATE_UP_INTERLEAVED_PAIR] = "gate_up_interleaved_pair",                                                  \
  [EQS_LAYOUT_GATE_UP_CONCAT_SPLIT] = "gate_up_concat_split",                                                          \
  [EQS_LAYOUT_GATE_UP_INTERLEAVED_SPLIT] = "gate_up_interleaved_split", [EQS_LAYOUT_HEADS_QKV_COL] = "heads_qkv_col",  \
  [EQS_LAYOUT_HEADS_O_COL] = "heads_o_col", [EQS_LAYOUT_FLATTEN] = "flatten"
extern const char *const eqs_layout_names[EQS_LAYOUTS];

/* Whether the layout cuts heads out, and so needs head_dim. */
bool eqs_layout_has_heads(eqs_tensor_layout layout);

/* Sizes of the pieces of a fused tensor (q, k and v in one), which follow one another `repeat` times. */
typedef struct {
  int64_t repeat; /* 1: once */
  int pieces;     /* 0: the tensor is one piece */
  int64_t *size;
} eqs_split;

/*
 * The matrices of a tensor, in the order of the stack, then of the repeated groups, then of the pieces, then of heads
 * or gate and up.
 *
 * layout, head_dim  [in] head_dim with heads_qkv, heads_o and their _col only
 * split             [in] the pieces are of the tensor's rows, or, for col and the _col, of its columns. Together they
 * are all of them; the layout applies to each piece. NULL: one piece stacked           [in] for flatten: whether the
 * first dimension counts layers ndim, shape       [in] 2 dimensions or more: the last two are those of a matrix, the
 * others count the stack E (for pairs and splits 2 mean E = 1). For flatten all but the first are a matrix's columns
 * count, views      [out] allocated; free with free(). All of one shape, except that pieces of different sizes give
 *                        views of different shapes. None when the tensor has no elements
 *
 * EQS_USAGE: the layout does not fit the shape; the message says why.
 */
eqs_status eqs_layout_views(eqs_tensor_layout layout, int64_t head_dim, const eqs_split *split, bool stacked, int ndim,
                            const int64_t *shape, int64_t *count, eqs_view **views);

/*
 * A tensor of any shape as one matrix, for element-wise rules: all dimensions but the last are rows, the last is
 * columns; one dimension of n elements is n×1, a scalar 1×1. Otherwise as eqs_layout_views.
 */
eqs_status eqs_layout_whole(int ndim, const int64_t *shape, int64_t *count, eqs_view **views);

/* Of a tensor, and of a model: so many that sizes of states, squares and workspaces in bytes fit an int64_t. */
#define EQS_MAX_ELEMENTS (INT64_C(1) << 48)

/* Elements of a tensor. EQS_USAGE: an impossible shape, or more than EQS_MAX_ELEMENTS. */
eqs_status eqs_shape_elements(int ndim, const int64_t *shape, int64_t *elements);

/* "[64, 2048, 1024]" */
void eqs_shape_text(int ndim, const int64_t *shape, char *text, size_t size);

/* "64x2048x1024", "scalar" */
void eqs_shape_brief(int ndim, const int64_t *shape, char *text, size_t size);

#endif
