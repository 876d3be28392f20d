/*
 * Calibrations: the speeds of an owner as `equishard bench calibrate` writes them, JSON: {"format":
 * "equishard-calibration", "version": 1, "gemm": [[order, flop/s], ...], "symmetric": ..., "eigen": flop/s, "triad":
 * bytes/s, "message_latency": s, "message_bandwidth": bytes/s}. Numbers that are null or missing stay built in.
 */
#ifndef EQS_MODEL_CALIBRATION_H
#define EQS_MODEL_CALIBRATION_H

#include "dist/speeds.h"
#include "model/config.h"

/* The text of a file, to be freed. EQS_IO: it cannot be read; EQS_USAGE: it is larger than a calibration can be. */
eqs_status eqs_calibration_read(const char *path, char **text);

/* Speeds from the text of a file; path is for messages. EQS_USAGE: another form, or a speed that is not positive. */
eqs_status eqs_calibration_parse(const char *path, const char *text, eqs_speeds *speeds);

/* The configuration's `calibration`, if it has one, becomes its speeds: both of the above. Not collective. */
eqs_status eqs_config_calibrate(eqs_config *config);

#endif
