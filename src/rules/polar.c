/*
 * U = max(ν, ε)^α polar(D), ν = <D, polar(D)>: α = 0 is Muon's direction, α = 1 PolarGrad (Lau, Long and Su 2025,
 * arXiv 2505.21799).
 */
#include "rules/rules.h"
#include "rules/shared.h"

const eqs_rule eqs_rule_polar = {
    .name = "polar",
    .about = "polar factor times a power of the nuclear norm (PolarGrad), for hidden matrices",
    .keys = EQS_KEY_MOMENTUM | EQS_KEY_BETA | EQS_KEY_ALPHA | EQS_KEY_CENTER | EQS_KEY_SCALE | EQS_KEY_NU_SCOPE |
            EQS_KEY_LAYOUT | EQS_KEYS_OF_POLAR,
    .momentum = EQS_MOMENTUM_EMA,
    .solver = EQS_EXACT,
    .uses_nu = true,
    .polar_first = true,
    .factor = eqs_factor_polar,
    .update = eqs_update_by_nu,
    .flops = eqs_factor_polar_flops,
};
