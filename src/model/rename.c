#include "model/rename.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/wrappers.h"

enum { max_length = 1024 }; /* of a pattern and of a replacement, in bytes */

/* What one place of a pattern matches: any text, or one of some bytes. */
typedef struct {
  bool is_star;
  unsigned char accepts[32]; /* a bit for every byte */
} element;

typedef struct {
  int elements;
  element *element;
  char *replacement;
} rule;

struct eqs_renames {
  int count;
  rule *rules;
};

typedef struct {
  size_t begin, length;
} span;

static void accept_byte(element *of, unsigned byte)
{
  of->accepts[byte / 8] |= (unsigned char)(1u << byte % 8);
}

static bool accepts(const element *of, char character)
{
  unsigned byte = (unsigned char)character;
  return of->accepts[byte / 8] >> byte % 8 & 1;
}

/* Behind the ']' of the bracket expression that begins at `at`; NULL if it has none. */
static const char *bracket_end(const char *at)
{
  at++;
  if (*at == '!' || *at == '^') at++;
  if (*at == ']') at++;
  for (; *at != ']'; at++) {
    if (*at == '\\') at++;
    if (*at == '\0') return NULL;
    if (*at == '[' && at[1] != '\0' && strchr(":.=", at[1])) {
      const char closing[] = {at[1], ']', '\0'}, *end = strstr(at + 2, closing);
      if (end != NULL) at = end + 1;
    }
  }
  return at + 1;
}

/* fnmatch knows what a bracket expression accepts. */
static void accept_bracket(element *of, const char *begin, const char *end)
{
  char expression[max_length + 1];
  memcpy(expression, begin, (size_t)(end - begin));
  expression[end - begin] = '\0';
  for (unsigned byte = 1; byte < 256; byte++) {
    const char text[] = {(char)byte, '\0'};
    if (fnmatch(expression, text, 0) == 0) accept_byte(of, byte);
  }
}

/* Read one element; what follows it in the pattern. */
static const char *read_element(const char *at, element *made)
{
  *made = (element){.is_star = *at == '*'};
  const char *end = *at == '[' ? bracket_end(at) : NULL;
  if (end != NULL) {
    accept_bracket(made, at, end);
    return end;
  }
  if (made->is_star) return at + 1;
  if (*at == '?') {
    memset(made->accepts, 0xff, sizeof made->accepts);
    return at + 1;
  }
  if (*at == '\\') at++;
  if (*at == '\0') return at; /* a backslash before nothing: it accepts nothing */
  accept_byte(made, (unsigned char)*at);
  return at + 1;
}

static int count_stars(const char *text)
{
  int stars = 0;
  for (; *text != '\0'; text++) stars += *text == '*';
  return stars;
}

static eqs_status check_text(const char *what, const char *text)
{
  size_t length = strlen(text);
  if (length == 0) return eqs_fail(EQS_USAGE, "rename: the %s is empty", what);
  if (length > max_length) return eqs_fail(EQS_USAGE, "rename: the %s is longer than %d bytes", what, max_length);
  return EQS_OK;
}

static eqs_status make_rule(const char *pattern, const char *replacement, rule *made)
{
  eqs_status status = EQS_OK;
  EQS_TRY(check_text("pattern", pattern));
  EQS_TRY(check_text("replacement", replacement));
  EQS_TRY(eqs_copy_text(&made->replacement, replacement));
  EQS_TRY(eqs_allocate(&made->element, (int64_t)strlen(pattern), sizeof *made->element));
  int stars = 0;
  for (const char *at = pattern; *at != '\0'; made->elements++) {
    at = read_element(at, &made->element[made->elements]);
    stars += made->element[made->elements].is_star;
  }
  if (count_stars(replacement) > stars)
    return eqs_fail(EQS_USAGE, "rename: \"%.200s\" has more * than its pattern \"%.200s\"", replacement, pattern);
cleanup:
  return status;
}

eqs_status eqs_renames_add(const char *pattern, const char *replacement, eqs_renames **renames)
{
  eqs_status status = EQS_OK;
  if (*renames == NULL) EQS_TRY(eqs_allocate(renames, 1, sizeof **renames));
  EQS_TRY(eqs_grow(&(*renames)->rules, (*renames)->count, sizeof *(*renames)->rules));
  rule *made = &(*renames)->rules[(*renames)->count++];
  *made = (rule){0};
  EQS_TRY(make_rule(pattern, replacement, made));
cleanup:
  return status;
}

eqs_status eqs_renames_read(eqs_yaml_value value, eqs_renames **renames)
{
  eqs_status status = EQS_OK;
  eqs_yaml_mapping mapping = {0};
  *renames = NULL;
  EQS_TRY(eqs_allocate(renames, 1, sizeof **renames));
  EQS_TRY(eqs_yaml_read_mapping(value, "rename", &mapping));
  for (int i = 0; i < mapping.count; i++) {
    const eqs_yaml_pair *pair = &mapping.pairs[i];
    const char *replacement;
    EQS_TRY(eqs_yaml_read_text(pair->value, "the replacement", &replacement));
    if (eqs_renames_add(pair->name, replacement, renames) != EQS_OK)
      EQS_TRY(eqs_yaml_fail(pair->value, "%s", eqs_error_message()));
  }
cleanup:
  eqs_yaml_mapping_free(&mapping);
  if (status != EQS_OK) eqs_renames_free(renames);
  return status;
}

void eqs_renames_free(eqs_renames **renames)
{
  eqs_renames *freed = *renames;
  if (freed == NULL) return;
  for (int i = 0; i < freed->count; i++) {
    free(freed->rules[i].element);
    free(freed->rules[i].replacement);
  }
  free(freed->rules);
  free(freed);
  *renames = NULL;
}

/*
 * Whether a name matches, and what the stars capture. Where it does not go on, the latest star takes one byte more:
 * those before it need never take more, since what is between two stars matches a fixed number of bytes.
 */
static bool matches(const rule *pattern, const char *name, span *captures)
{
  int e = 0, after_star = -1, stars = 0;
  for (size_t at = 0; name[at] != '\0';) {
    const element *next = e < pattern->elements ? &pattern->element[e] : NULL;
    if (next != NULL && next->is_star) {
      captures[stars++] = (span){.begin = at};
      after_star = ++e;
    } else if (next != NULL && accepts(next, name[at])) {
      e++;
      at++;
    } else if (after_star >= 0) {
      span *latest = &captures[stars - 1];
      at = latest->begin + ++latest->length;
      e = after_star;
    } else {
      return false;
    }
  }
  for (; e < pattern->elements && pattern->element[e].is_star; e++) captures[stars++] = (span){.begin = strlen(name)};
  return e == pattern->elements;
}

static eqs_status replace(const char *replacement, const char *name, const span *captures, char **renamed)
{
  size_t length = strlen(replacement) + strlen(name) + 1; /* every capture is used at most once */
  eqs_status status = eqs_allocate_raw(renamed, (int64_t)length, 1);
  if (status != EQS_OK) return status;
  char *end = *renamed;
  for (; *replacement != '\0'; replacement++) {
    if (*replacement != '*') {
      *end++ = *replacement;
      continue;
    }
    memcpy(end, name + captures->begin, captures->length);
    end += captures->length;
    captures++;
  }
  *end = '\0';
  return EQS_OK;
}

eqs_status eqs_renames_apply(const eqs_renames *renames, const char *name, char **renamed)
{
  eqs_status status = EQS_OK;
  span captures[max_length];
  char *canonical = NULL;
  *renamed = NULL;
  EQS_TRY(eqs_copy_canonical_name(&canonical, name));
  for (int i = 0; renames != NULL && i < renames->count && *renamed == NULL; i++) {
    const rule *pattern = &renames->rules[i];
    const char *matching = matches(pattern, canonical, captures) ? canonical : name;
    if (matching == name && !matches(pattern, name, captures)) continue;
    EQS_TRY(replace(pattern->replacement, matching, captures, renamed));
    eqs_canonical_name(*renamed);
  }
  if (*renamed != NULL) goto cleanup;
  *renamed = canonical;
  canonical = NULL;
cleanup:
  free(canonical);
  return status;
}
