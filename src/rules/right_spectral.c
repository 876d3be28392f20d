/* U = max(ν, ε)^α D (DᵀD + εI)^(-1/2), equivariant under rotations on one side (arXiv 2605.18106). */
#include "rules/rules.h"
#include "rules/shared.h"

const eqs_rule eqs_rule_right_spectral = {
    .name = "right_spectral",
    .about = "damped polar factor by the Gram matrix of the columns, for heads and embeddings whose rows are classes",
    .keys = EQS_KEY_MOMENTUM | EQS_KEY_BETA | EQS_KEY_ALPHA | EQS_KEY_CENTER | EQS_KEY_SCALE | EQS_KEY_NU_SCOPE |
            EQS_KEY_LAYOUT | EQS_KEYS_OF_POLAR,
    .momentum = EQS_MOMENTUM_EMA,
    .solver = EQS_POLAR_EXPRESS,
    .center = true,
    .uses_nu = true,
    .damped = true,
    .polar_first = true,
    .factor = eqs_factor_polar,
    .update = eqs_update_by_nu,
    .flops = eqs_factor_polar_flops,
};
