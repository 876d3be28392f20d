/*
 * The configuration: YAML text to groups and settings. Everything is checked here, before anything is allocated:
 * messages begin with "file:line: ".
 */
#ifndef EQS_MODEL_CONFIG_H
#define EQS_MODEL_CONFIG_H

#include "dist/speeds.h"
#include "model/group_key.h"
#include "model/rename.h"
#include "model/sources.h"

/* Names that belong to a key: those that its value can be, or the keys of the mapping that it is set to. */
typedef struct {
  const char *of;
  const char *const *name;
  int names;
} eqs_name_list;

/* Of keys outside of groups, and of `match` in them; the mapping of the whole is "configuration". */
enum { EQS_CONFIG_CHOICES = 5, EQS_CONFIG_MAPPINGS = 7 };
extern const eqs_name_list eqs_config_choices[EQS_CONFIG_CHOICES], eqs_config_mappings[EQS_CONFIG_MAPPINGS];

/* One entry of `roles`: parameters whose name the glob matches, and whose module's class. */
typedef struct {
  char *glob;
  char *module_type; /* a glob too; NULL: any */
  eqs_role role;     /* EQS_ROLES: as without the entry */
  bool stacked;      /* the first dimension counts layers */
} eqs_role_pattern;

typedef enum { EQS_MODE_SERVICE, EQS_MODE_EMBEDDED } eqs_mode;

typedef struct {
  eqs_mode mode; /* default service */
  bool mode_given;
  bool reduce_sum;       /* `reduce: sum`; default mean */
  double clip_grad_norm; /* 0: none */
  bool skip_nonfinite;   /* `on_nonfinite: skip`; default error */
  eqs_schedule schedule;
  double deadline; /* `deadline:` seconds; default 1800 */
  struct {
    char *directory;     /* NULL if not given */
    int64_t every;       /* steps; 0: only when asked */
    double minutes;      /* 0: not by time */
    int64_t keep;        /* newest K; 0: all; default 3 */
    int64_t keep_every;  /* and those of steps that are multiples of it; 0: no others */
    bool async;          /* written in the background; default true */
    bool partial;        /* parameters that the restored checkpoint does not have begin anew; default false: an error */
    eqs_renames *rename; /* of those that it has; NULL if not given */
  } checkpoint;
  struct {
    char *path;    /* NULL if not given */
    int64_t every; /* steps; default 1 */
  } metrics;
  char *calibration; /* path; NULL if not given */
  eqs_speeds speeds; /* of an owner: built in, until eqs_config_calibrate */
  int files;         /* of the sources, for messages */
  char **file;
  int groups_line; /* of `groups` in the first file; 1 if only files that it includes have some */
  int groups;
  eqs_group_config *group;
  int role_patterns; /* `roles:`, in order, first match wins */
  eqs_role_pattern *role_pattern;
  char *text; /* the YAML text, as it goes into checkpoints: the file's, followed by those it includes */
} eqs_config;

/* Parse. EQS_USAGE: an error, with file and line. The sources may be freed afterwards. */
eqs_status eqs_config_parse(const eqs_sources *sources, eqs_config **config);

/* Free; sets *config to NULL. */
void eqs_config_free(eqs_config **config);

#endif
