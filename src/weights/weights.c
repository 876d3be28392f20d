#include "weights/weights.h"

#include <fnmatch.h>

static bool matches_one(int count, const char *const *globs, const char *name)
{
  for (int i = 0; i < count; i++)
    if (fnmatch(globs[i], name, 0) == 0) return true;
  return false;
}

bool eqs_name_chosen(const eqs_name_choice *choice, const char *name)
{
  return (choice->matches == 0 || matches_one(choice->matches, choice->match, name)) &&
         !matches_one(choice->excludes, choice->exclude, name);
}
