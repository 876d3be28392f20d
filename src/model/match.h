/* The `match` of a parameter group: which parameters it takes. */
#ifndef EQS_MODEL_MATCH_H
#define EQS_MODEL_MATCH_H

#include "model/role.h"
#include "model/yaml.h"

/* Characters of a glob: of "*[*[..." the time that fnmatch takes grows with the square. */
enum { EQS_LONGEST_GLOB = 1000 };

typedef struct eqs_match eqs_match;

/* Keys of the mapping. */
enum { EQS_MATCH_KEYS = 5 };
extern const char *const eqs_match_keys[EQS_MATCH_KEYS];

/* value absent: everything matches. */
eqs_status eqs_match_read(eqs_yaml_value value, eqs_match **match);

/* Sets *match to NULL. */
void eqs_match_free(eqs_match **match);

/* Whether a parameter has all that is asked for. module_type may be NULL. */
bool eqs_match_accepts(const eqs_match *match, const char *name, eqs_role role, const char *module_type, int ndim,
                       const int64_t *shape);

/* Whether a match says which parameters are meant: by name, role or module class, and not by shape alone. */
bool eqs_match_tells_what(const eqs_match *match);

/* Whether a match asks for nothing. */
bool eqs_match_accepts_all(const eqs_match *match);

#endif
