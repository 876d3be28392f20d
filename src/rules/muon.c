/* U = √max(1, m/n) polar(D) (Jordan et al. 2024). */
#include "rules/rules.h"
#include "rules/shared.h"

const eqs_rule eqs_rule_muon = {
    .name = "muon",
    .about = "polar factor of the momentum, for hidden matrices",
    .keys = EQS_KEY_MOMENTUM | EQS_KEY_BETA | EQS_KEY_CENTER | EQS_KEY_SCALE | EQS_KEY_LAYOUT | EQS_KEYS_OF_POLAR,
    .momentum = EQS_MOMENTUM_NESTEROV,
    .solver = EQS_POLAR_EXPRESS_5,
    .scale = EQS_SCALE_SQRT_MAX_1_ROWS_OVER_COLS,
    .polar_first = true,
    .factor = eqs_factor_polar,
    .update = eqs_update_by_nu,
    .flops = eqs_factor_polar_flops,
};
