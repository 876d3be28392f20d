/* Roles of parameters, from name, module type and shape together. */
#ifndef EQS_MODEL_RECOGNIZE_H
#define EQS_MODEL_RECOGNIZE_H

#include "model/role.h"

/* What is known of a parameter. */
typedef struct {
  eqs_role role;
  eqs_inside inside;
  eqs_storage storage;
  bool named;   /* the name says so; else the module's class, or the shape */
  bool guessed; /* neither name nor class says what it is: the role follows from the shape alone */
} eqs_recognition;

/*
 * Recognise a parameter (src/model/families.c has the table of names and classes). The class of the module counts
 * before the number of dimensions. A tensor of more dimensions than a matrix is a stack of them, of layers or experts,
 * where its name or class is that of a matrix; else it is a convolution or something else.
 *
 * name         without the prefixes of wrappers
 * module_type  may be NULL
 * stacked      whether the first dimension counts layers
 */
eqs_recognition eqs_recognize(const char *name, const char *module_type, bool stacked, int ndim, const int64_t *shape);

/* The same of a role that is given. */
eqs_recognition eqs_recognize_as(eqs_role role, const char *name, const char *module_type, bool stacked, int ndim,
                                 const int64_t *shape);

#endif
