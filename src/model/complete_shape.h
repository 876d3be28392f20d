/* What the parameters of a model say of the model as a whole. */
#ifndef EQS_MODEL_COMPLETE_SHAPE_H
#define EQS_MODEL_COMPLETE_SHAPE_H

#include "model/config.h"
#include "model/model_shape.h"

/*
 * Complete what is known by what the parameters tell: the embedding's rows and columns; the number of rows of a head,
 * if q and k are normed per head, as Qwen3 and Gemma 3 do; the number of heads, if there is a sink for each, as in
 * gpt-oss. Linear in the number of parameters.
 *
 * given      [in]  or NULL
 * completed  [out]
 */
void eqs_complete_model_shape(const eqs_config *config, const eqs_model_shape *given, int64_t parameters,
                              const eqs_parameter_info *info, eqs_model_shape *completed);

#endif
