#include "model/calibration.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/text_file.h"

enum { largest_file = 1 << 20 };

eqs_status eqs_calibration_read(const char *path, char **text)
{
  return eqs_text_file_read(path, largest_file, text);
}

/* A positive number; *value stays where the member is null or missing. */
static eqs_status read_speed(const char *path, const json_t *object, const char *key, double *value)
{
  const json_t *member = json_object_get(object, key);
  if (member == NULL || json_is_null(member)) return EQS_OK;
  if (!json_is_number(member) || !(json_number_value(member) > 0))
    return eqs_fail(EQS_USAGE, "%s: \"%s\" is not a positive number", path, key);
  *value = json_number_value(member);
  return EQS_OK;
}

static eqs_status read_curve(const char *path, const json_t *object, const char *key, eqs_speed_curve *curve)
{
  const json_t *member = json_object_get(object, key);
  eqs_speed_curve read = {0};
  if (member == NULL || json_is_null(member)) return EQS_OK;
  size_t count = json_array_size(member);
  if (count < 1 || count > eqs_speed_points)
    return eqs_fail(EQS_USAGE, "%s: \"%s\" is not a list of 1 to %d pairs", path, key, eqs_speed_points);
  for (size_t i = 0; i < count; i++) {
    const json_t *pair = json_array_get(member, i);
    read.order[i] = json_number_value(json_array_get(pair, 0));
    read.speed[i] = json_number_value(json_array_get(pair, 1));
    double previous = i > 0 ? read.order[i - 1] : 0;
    if (json_array_size(pair) != 2 || !(read.order[i] > previous) || !(read.speed[i] > 0))
      return eqs_fail(EQS_USAGE, "%s: \"%s\": entry %zu is not [order, speed] with a larger order than before", path,
                      key, i);
  }
  read.count = (int)count;
  *curve = read;
  return EQS_OK;
}

static bool has_text(const json_t *object, const char *key, const char *text)
{
  const char *value = json_string_value(json_object_get(object, key));
  return value != NULL && strcmp(value, text) == 0;
}

eqs_status eqs_calibration_parse(const char *path, const char *text, eqs_speeds *speeds)
{
  eqs_status status = EQS_OK;
  json_error_t error;
  eqs_speeds read = eqs_built_in_speeds;
  json_t *object = json_loads(text, JSON_REJECT_DUPLICATES, &error);
  if (object == NULL) return eqs_fail(EQS_USAGE, "%s:%d: %s", path, error.line, error.text);
  if (!has_text(object, "format", "equishard-calibration") ||
      json_integer_value(json_object_get(object, "version")) != 1)
    EQS_TRY(eqs_fail(EQS_USAGE, "%s: not a calibration of version 1 (equishard bench calibrate)", path));
  EQS_TRY(read_curve(path, object, "gemm", &read.gemm));
  EQS_TRY(read_curve(path, object, "symmetric", &read.symmetric));
  EQS_TRY(read_speed(path, object, "eigen", &read.eigen));
  EQS_TRY(read_speed(path, object, "triad", &read.triad));
  EQS_TRY(read_speed(path, object, "message_latency", &read.message_latency));
  EQS_TRY(read_speed(path, object, "message_bandwidth", &read.message_bandwidth));
  *speeds = read;
cleanup:
  json_decref(object);
  return status;
}

eqs_status eqs_config_calibrate(eqs_config *config)
{
  eqs_status status = EQS_OK;
  char *text = NULL;
  if (config->calibration == NULL) return EQS_OK;
  EQS_TRY(eqs_calibration_read(config->calibration, &text));
  EQS_TRY(eqs_calibration_parse(config->calibration, text, &config->speeds));
cleanup:
  free(text);
  return status;
}
