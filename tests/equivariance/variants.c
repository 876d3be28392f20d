#include "equivariance/variants.h"

#include "rules/rule.h"

/*
 * Polar factors of X depend on X through h(XXᵀ)X alone, one-sided rules and their damping too: both sides may be
 * rotated. Centering keeps of the left rotations those that leave the vector of ones where it is, and adds shared
 * shifts. Norms of rows keep of the left rotations the permutations with signs, centering takes the signs; they add
 * the scale of each row where nothing comes before them.
 */
enum {
  both_sides = TEST_ROTATE_ROWS | TEST_ROTATE_COLS,
  both_sides_centered = TEST_ROTATE_BESIDE_ONES | TEST_ROTATE_COLS | TEST_SHIFT_ROWS,
  rows = TEST_PERMUTE_ROWS | TEST_FLIP_ROWS | TEST_ROTATE_COLS,
  rows_centered = TEST_PERMUTE_ROWS | TEST_ROTATE_COLS | TEST_SHIFT_ROWS
};

static const test_family
    muon = {.moves = both_sides, .centered_moves = both_sides_centered, .polar_first = true},
    polar = {.moves = both_sides, .centered_moves = both_sides_centered, .polar_first = true, .has_nu = true},
    row_norm = {.moves = rows | TEST_SCALE_ROWS, .centered_moves = rows_centered},
    row_then_polar = {.moves = rows | TEST_SCALE_ROWS, .centered_moves = rows_centered, .has_nu = true},
    polar_then_row = {.moves = rows, .centered_moves = rows_centered, .has_nu = true}, adamw = {.element_wise = true};

const test_variant test_variants[test_variant_count] = {
    {"rule: muon", &muon},
    {"rule: muon, solver: jordan", &muon},
    {"rule: muon, solver: gram_polar_express, form: gram", &muon},
    {"rule: polar, alpha: 1", &polar},
    {"rule: polar, alpha: 0", &polar},
    {"rule: polar, solver: you, form: gram_restart", &polar},
    {"rule: right_spectral, alpha: 1", &polar},
    {"rule: right_spectral, alpha: 0, eps: 1e-2", &polar},
    {"rule: left_spectral, alpha: 1, eps: 1e-2", &polar},
    {"rule: left_spectral, alpha: 0", &polar},
    {"rule: row_norm", &row_norm},
    {"rule: row_norm, row_mode: inverse", &row_norm},
    {"rule: hybrid, alpha: 1, side: right", &row_then_polar},
    {"rule: hybrid, alpha: 1, side: left, row_mode: inverse", &row_then_polar},
    {"rule: hybrid, alpha: 0, side: right", &row_then_polar},
    {"rule: hybrid, alpha: 0, side: left", &row_then_polar},
    {"rule: hybrid, order: polar_then_row, alpha: 1, side: right", &polar_then_row},
    {"rule: hybrid, order: polar_then_row, alpha: 1, side: left", &polar_then_row},
    {"rule: hybrid, order: polar_then_row, alpha: 0, side: right, row_mode: inverse", &polar_then_row},
    {"rule: hybrid, order: polar_then_row, alpha: 0, side: left", &polar_then_row},
    {"rule: adamw", &adamw},
};

bool test_has_momentum(const test_variant *variant, int momentum)
{
  if (variant->family->element_wise) return momentum == EQS_MOMENTUM_NONE;
  return momentum != EQS_MOMENTUM_POLAR_FIRST || variant->family->polar_first;
}
