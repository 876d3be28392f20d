/*
 * The configuration: YAML text to groups and settings. Everything is checked here, before anything is allocated:
 * messages begin with "file:line: ".
 */
#ifndef EQS_MODEL_CONFIG_H
#define EQS_MODEL_CONFIG_H

#include "dist/speeds.h"
#include "model/group_key.h"
#include "model/model_shape.h"
#include "model/rename.h"

/* The texts of a configuration file and of the files that it includes, the file itself first. */
typedef struct {
  char *path;
  char *text; /* zero-terminated */
} eqs_source;

typedef struct {
  int count;
  eqs_source *sources;
} eqs_sources;

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

struct eqs_config {
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
    bool at_once;        /* `async: false`; default true */
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
};

/*
 * Read a file and the files it includes: relative to the including file, no cycles, each file once, after all that
 * include it, and otherwise in the order of `include`; so do their groups follow one another. Of other keys, and of
 * those in `defaults`, `checkpoint` and `metrics`, the first file that gives one counts. EQS_IO: not to be read;
 * EQS_USAGE: not YAML, or too large.
 */
eqs_status eqs_sources_read(const char *path, eqs_sources *sources);

/* The same from a text; messages call it by `name`, from whose folder it includes. */
eqs_status eqs_sources_read_text(const char *text, const char *name, eqs_sources *sources);
void eqs_sources_free(eqs_sources *sources);

/* Sources as one block of bytes, for a broadcast, and back. `bytes` is allocated. */
eqs_status eqs_sources_pack(const eqs_sources *sources, char **bytes, int64_t *size);
eqs_status eqs_sources_unpack(const void *bytes, int64_t size, eqs_sources *sources);

/* Parse. EQS_USAGE: an error, with file and line. The sources may be freed afterwards. */
eqs_status eqs_config_parse(const eqs_sources *sources, eqs_config **config);

/* Free; sets *config to NULL. */
void eqs_config_free(eqs_config **config);

/* What is not sure about what a parameter gets, and worth a warning: bits. */
enum {
  EQS_DOUBT_SHAPE_ALONE = 1 << 0, /* nothing but two dimensions says that it is a matrix */
  EQS_DOUBT_ROWS_ALONE = 1 << 1,  /* nothing but as many rows as the embedding has says that it is a head */
  EQS_DOUBT_FUSED = 1 << 2,       /* it is fused of several matrices and treated as one */
  EQS_DOUBT_HEADS = 1 << 3,       /* its heads are to be apart, and their size is not known */
  EQS_DOUBT_STORAGE = 1 << 4,     /* its shape says that it is stored as inputs × outputs, its class is not known */
};

/* What a parameter gets. */
typedef struct {
  eqs_role role;
  int group;                /* index into config->group; -1: none, of a frozen parameter */
  eqs_rule_options options; /* with the role's default of `center` */
  eqs_tensor_layout layout; /* row for element-wise rules, which see the whole tensor as one matrix */
  eqs_inside inside;        /* what the tensor consists of, by its name */
  unsigned doubts;          /* EQS_DOUBT_... */
  int64_t count;            /* matrices */
  eqs_view *views;          /* allocated; free with eqs_assignment_free. Of one shape, but for `split` */
} eqs_assignment;

/*
 * What a parameter is: by info->role, the configuration's `roles`, or name, class and shape (eqs_recognize). A matrix
 * that nothing else is known of is a head if it has as many rows as the embedding.
 *
 * info     [in]  name, without the prefixes of wrappers; module_type, ndim, shape, role, stacked
 * model    [in]  completed by eqs_model_survey; NULL: nothing is known
 * stacked  [out] whether the first dimension counts layers
 * doubts   [out] EQS_DOUBT_SHAPE_ALONE or EQS_DOUBT_ROWS_ALONE; or 0
 */
eqs_recognition eqs_config_recognize(const eqs_config *config, const eqs_model_shape *model,
                                     const eqs_parameter_info *info, bool *stacked, unsigned *doubts);

/*
 * Role, group, options and matrices of a parameter. The layout of a group that gives none:
 * - row_norm and hybrid, whose rows are units: eqs_role_unit_layout;
 * - muon, polar, right_spectral and left_spectral: eqs_role_matrix_layout. A polar factor has no units, so nothing is
 *   transposed but what a module stores as inputs × outputs (Conv1D), for the shape factors;
 * - rules with a polar factor: q, k and v that are fused in one tensor are apart, where the model's heads are known or
 *   q, k and v are as large as its input; so are gate and up of a dense MLP under rules without units. Fused experts
 *   (OLMoE) stay whole, and so do heads;
 * - element-wise rules (adamw): none.
 * `layout: unfused` is the same with gate and up apart everywhere, `layout: auto` with heads apart and convolutions
 * flattened, too.
 *
 * info, model  [in] as eqs_config_recognize
 *
 * EQS_USAGE: no group matches; the rule cannot apply to the shape; the layout does not fit; info->role is none. The
 * message names the parameter, and the group's file and line.
 */
eqs_status eqs_config_assign(const eqs_config *config, const eqs_model_shape *model, const eqs_parameter_info *info,
                             eqs_assignment *assignment);
void eqs_assignment_free(eqs_assignment *assignment);

#endif
