#include "checkpoint/suggest.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/rename.h"

enum {
  most_segments = 32, /* of a name */
  most_rules = 8,
  most_tries = 64,     /* entries from which rules are derived */
  most_targets = 16,   /* parameters that an entry is compared with: the most similar */
  longest_rule = 256,  /* bytes of a pattern */
  most_work = 2000000, /* rules times entries: a second or two */
  largest_model = 20000
};

/* A parameter of the model. */
typedef struct {
  const eqs_checkpoint_parameter *parameter;
  bool taken; /* an entry has its name, as it is or by the rules found so far */
} target;

/* A parameter of the checkpoint, an entry. */
typedef struct {
  const eqs_checkpoint_parameter *entry;
  target *found; /* the parameter that it is; NULL: none so far */
} source;

typedef struct {
  char pattern[longest_rule], replacement[longest_rule];
} rename_rule;

typedef struct {
  int64_t targets, sources;
  target *target; /* in alphabetical order of name */
  source *source;
  int64_t work;
  int rules;
  rename_rule rule[most_rules]; /* the one that was found last goes first: it is for what is left */
} search;

/* What a rule does to the entries. */
typedef struct {
  rename_rule rule;
  int64_t hits, misses; /* entries that become parameters, that still are none */
  target **hit;         /* of every source */
  bool ambiguous;       /* another rule does as much to others */
} trial;

static target *find_target(const search *all, const char *name)
{
  int64_t low = 0, high = all->targets;
  while (low < high) {
    int64_t middle = (low + high) / 2;
    int order = strcmp(name, all->target[middle].parameter->name);
    if (order == 0) return &all->target[middle];
    if (order < 0)
      high = middle;
    else
      low = middle + 1;
  }
  return NULL;
}

/* `model` is sorted. */
static eqs_status begin(const eqs_checkpoint_contents *stored, const eqs_checkpoint_contents *model, search *all)
{
  eqs_status status = EQS_OK;
  EQS_TRY(eqs_allocate(&all->target, model->parameters, sizeof *all->target));
  EQS_TRY(eqs_allocate(&all->source, stored->parameters, sizeof *all->source));
  for (; all->targets < model->parameters; all->targets++)
    all->target[all->targets].parameter = &model->parameter[all->targets];
  for (; all->sources < stored->parameters; all->sources++) {
    source *next = &all->source[all->sources];
    next->entry = &stored->parameter[all->sources];
    next->found = find_target(all, next->entry->name);
    if (next->found != NULL) next->found->taken = true;
  }
cleanup:
  return status;
}

/* ----- names and patterns ----- */

typedef struct {
  int count;
  const char *begin[most_segments + 1]; /* behind the last: one behind the dot that would follow */
} segments;

/* Names with characters that mean something in patterns or in YAML are left alone. */
static bool split(const char *name, segments *parts)
{
  *parts = (segments){0};
  if (strpbrk(name, "*?[]\\\"") != NULL || strlen(name) >= longest_rule / 2) return false;
  for (const char *at = name; *at != '\0'; at++)
    if (iscntrl((unsigned char)*at)) return false;
  for (const char *at = name;; at++) {
    if (parts->count == most_segments) return false;
    parts->begin[parts->count++] = at;
    at += strcspn(at, ".");
    if (*at == '\0') {
      parts->begin[parts->count] = at + 1;
      return true;
    }
  }
}

static size_t length_of(const segments *parts, int i)
{
  return (size_t)(parts->begin[i + 1] - parts->begin[i] - 1);
}

static bool same_segment(const segments *a, int i, const segments *b, int j)
{
  return length_of(a, i) == length_of(b, j) && memcmp(a->begin[i], b->begin[j], length_of(a, i)) == 0;
}

/* Where two names differ: what is between `prefix` segments at their beginnings and `suffix` at their ends. */
typedef struct {
  int prefix, suffix;
} overlap;

static overlap compare(const segments *a, const segments *b)
{
  overlap common = {0};
  int most = a->count < b->count ? a->count : b->count;
  while (common.prefix < most && same_segment(a, common.prefix, b, common.prefix)) common.prefix++;
  while (common.suffix < most - common.prefix &&
         same_segment(a, a->count - 1 - common.suffix, b, b->count - 1 - common.suffix))
    common.suffix++;
  return common;
}

/* How numbers become stars: none; those that are segments; all. */
typedef enum { AS_THEY_ARE, WHOLE_SEGMENTS, ALL_DIGITS } numbers;

static bool is_number(const char *text, size_t length)
{
  for (size_t i = 0; i < length; i++)
    if (!isdigit((unsigned char)text[i])) return false;
  return length > 0;
}

/* A range of segments with dots between, its numbers as stars; *values gets the numbers. */
static void append(const segments *parts, int first, int end, numbers generalise, char *text, char *values)
{
  size_t length = strlen(text), noted = values != NULL ? strlen(values) : 0;
  for (int i = first; i < end; i++) {
    const char *at = parts->begin[i], *stop = at + length_of(parts, i);
    bool whole = is_number(at, length_of(parts, i));
    if (length > 0) text[length++] = '.';
    while (at < stop) {
      bool star = generalise != AS_THEY_ARE && isdigit((unsigned char)*at) && (whole || generalise == ALL_DIGITS);
      if (!star) {
        text[length++] = *at++;
        continue;
      }
      text[length++] = '*';
      for (; at < stop && isdigit((unsigned char)*at); at++)
        if (values != NULL) values[noted++] = *at;
      if (values != NULL) values[noted++] = ' ';
    }
  }
  text[length] = '\0';
  if (values != NULL) values[noted] = '\0';
}

/* The numbers in what differs stand for one another only if they are the same. */
static numbers generalise_middle(const segments *a, const segments *b, overlap common, numbers wanted)
{
  char ignored[2][longest_rule] = {"", ""}, values[2][2 * longest_rule] = {"", ""};
  append(a, common.prefix, a->count - common.suffix, wanted, ignored[0], values[0]);
  append(b, common.prefix, b->count - common.suffix, wanted, ignored[1], values[1]);
  return strcmp(values[0], values[1]) == 0 ? wanted : AS_THEY_ARE;
}

/* One side of a rule: "model.layers.*.attn.*"; `kept` segments of the common end are part of it. */
static void write_side(const segments *parts, overlap common, int kept, bool any_prefix, numbers generalise,
                       numbers middle, char *text)
{
  int end = parts->count - common.suffix;
  text[0] = '\0';
  if (any_prefix)
    strcpy(text, "*");
  else
    append(parts, 0, common.prefix, generalise, text, NULL);
  append(parts, common.prefix, end, middle, text, NULL);
  append(parts, end, end + kept, generalise, text, NULL);
  if (common.suffix > kept) strcat(text, text[0] != '\0' ? ".*" : "*");
}

/* ----- trying rules ----- */

static bool takes(const search *all, const source *from, target *to, target *const *hit)
{
  const eqs_checkpoint_parameter *parameter = to->parameter;
  if (to->taken || !eqs_parameter_has_shape(from->entry, parameter->ndim, parameter->shape)) return false;
  for (int64_t s = 0; s < from - all->source; s++)
    if (hit[s] == to) return false;
  return true;
}

/* What a rule would do, before the others; *possible: it does nothing to what fits already, and fits what it gives. */
static eqs_status try_rule(search *all, const rename_rule *rule, trial *made, bool *possible)
{
  eqs_status status = EQS_OK;
  eqs_renames *renames = NULL;
  char *name = NULL;
  made->rule = *rule;
  made->hits = made->misses = 0;
  made->ambiguous = false;
  *possible = true;
  all->work += all->sources;
  EQS_TRY(eqs_renames_add(rule->pattern, rule->replacement, &renames));
  for (int64_t s = 0; s < all->sources && *possible; s++) {
    const source *from = &all->source[s];
    made->hit[s] = NULL;
    EQS_TRY(eqs_renames_apply(renames, from->entry->name, &name));
    target *to = find_target(all, name);
    bool changed = strcmp(name, from->entry->name) != 0;
    free(name);
    name = NULL;
    if (!changed || (from->found != NULL && to == from->found)) continue;
    if (from->found == NULL && to == NULL) {
      made->misses++;
    } else if (from->found == NULL && takes(all, from, to, made->hit)) {
      made->hit[s] = to;
      made->hits++;
    } else {
      *possible = false;
    }
  }
cleanup:
  free(name);
  eqs_renames_free(&renames);
  return status;
}

static bool is_simpler(const trial *a, const trial *b)
{
  if (a->misses != b->misses) return a->misses < b->misses;
  return strlen(a->rule.pattern) < strlen(b->rule.pattern);
}

static void swap(trial *a, trial *b)
{
  trial kept = *a;
  *a = *b;
  *b = kept;
}

/* Keep the rule that does most. Of those that do the same, the simplest; those that do as much to others are a doubt.
 */
static eqs_status consider(search *all, const rename_rule *rule, trial *best, trial *next)
{
  eqs_status status = EQS_OK;
  bool possible;
  if (memcmp(rule, &best->rule, sizeof *rule) == 0 || memcmp(rule, &next->rule, sizeof *rule) == 0) return EQS_OK;
  EQS_TRY(try_rule(all, rule, next, &possible));
  if (!possible || next->hits == 0 || next->hits < best->hits) goto cleanup;
  if (next->hits > best->hits) {
    swap(best, next);
    goto cleanup;
  }
  bool same = memcmp(best->hit, next->hit, (size_t)all->sources * sizeof *best->hit) == 0;
  bool doubtful = best->ambiguous || !same;
  if (is_simpler(next, best)) swap(best, next);
  best->ambiguous = doubtful;
cleanup:
  return status;
}

/* All rules that an entry and a parameter give. */
static eqs_status consider_pair(search *all, const segments *from, const segments *to, trial *best, trial *next)
{
  eqs_status status = EQS_OK;
  overlap common = compare(from, to);
  for (numbers generalise = WHOLE_SEGMENTS; generalise <= ALL_DIGITS; generalise++) {
    numbers middle = generalise_middle(from, to, common, generalise);
    for (int variant = 0; variant < 4; variant++) {
      rename_rule rule = {{0}, {0}};
      int kept = variant % 2;
      bool any_prefix = variant / 2 != 0, adds = from->count == common.prefix + common.suffix;
      if (kept > common.suffix || (any_prefix && common.prefix == 0) || (any_prefix && adds && !kept)) continue;
      write_side(from, common, kept, any_prefix, generalise, middle, rule.pattern);
      write_side(to, common, kept, any_prefix, generalise, middle, rule.replacement);
      EQS_TRY(consider(all, &rule, best, next));
    }
  }
cleanup:
  return status;
}

/* Parameters that an entry may be, the most similar first. */
typedef struct {
  int count;
  int score[most_targets];
  segments parts[most_targets];
} similar;

static void add_similar(similar *list, const segments *parts, int score)
{
  int at = list->count < most_targets ? list->count++ : most_targets;
  while (at > 0 && list->score[at - 1] < score) {
    at--;
    if (at + 1 < most_targets) {
      list->score[at + 1] = list->score[at];
      list->parts[at + 1] = list->parts[at];
    }
  }
  if (at == most_targets) return;
  list->score[at] = score;
  list->parts[at] = *parts;
}

/* Segments that two names have in common, in the same order. */
static int similarity(const segments *a, const segments *b)
{
  int most[most_segments + 1] = {0}; /* of the segments of a so far, with those of b up to each */
  for (int i = 0; i < a->count; i++) {
    int before = 0; /* of the segments before i, up to j */
    for (int j = 0; j < b->count; j++) {
      int above = most[j + 1];
      if (same_segment(a, i, b, j))
        most[j + 1] = before + 1;
      else if (most[j] > above)
        most[j + 1] = most[j];
      before = above;
    }
  }
  return most[b->count];
}

/* Whether another entry, to which the rule does nothing, is as similar to the parameter that the rule makes of one. */
static bool has_rival(const search *all, const source *from, const trial *best)
{
  segments mine, other, wanted;
  const target *to = best->hit[from - all->source];
  if (to == NULL || !split(to->parameter->name, &wanted) || !split(from->entry->name, &mine)) return true;
  for (int64_t s = 0; s < all->sources; s++) {
    const eqs_checkpoint_parameter *entry = all->source[s].entry;
    if (all->source[s].found != NULL || best->hit[s] != NULL || !split(entry->name, &other)) continue;
    if (eqs_parameter_has_shape(entry, to->parameter->ndim, to->parameter->shape) &&
        similarity(&other, &wanted) >= similarity(&mine, &wanted))
      return true;
  }
  return false;
}

static eqs_status best_rule(search *all, const source *from, trial *best, trial *next)
{
  eqs_status status = EQS_OK;
  similar *list = NULL;
  segments mine, other;
  best->hits = 0;
  best->rule = next->rule = (rename_rule){{0}, {0}};
  if (!split(from->entry->name, &mine)) return EQS_OK;
  EQS_TRY(eqs_allocate(&list, 1, sizeof *list));
  for (int64_t t = 0; t < all->targets; t++) {
    const eqs_checkpoint_parameter *parameter = all->target[t].parameter;
    if (all->target[t].taken || !eqs_parameter_has_shape(from->entry, parameter->ndim, parameter->shape) ||
        !split(parameter->name, &other))
      continue;
    if (similarity(&mine, &other) > 0) add_similar(list, &other, similarity(&mine, &other));
  }
  for (int i = 0; i < list->count; i++) EQS_TRY(consider_pair(all, &mine, &list->parts[i], best, next));
  if (best->hits > 0 && has_rival(all, from, best)) best->ambiguous = true;
cleanup:
  free(list);
  return status;
}

static void keep_rule(search *all, const trial *found)
{
  memmove(&all->rule[1], &all->rule[0], (size_t)all->rules * sizeof *all->rule);
  all->rule[0] = found->rule;
  all->rules++;
  for (int64_t s = 0; s < all->sources; s++) {
    if (found->hit[s] == NULL) continue;
    all->source[s].found = found->hit[s];
    found->hit[s]->taken = true;
  }
}

/* Rules for what is left, from one entry after another. */
static eqs_status find_rules(search *all)
{
  eqs_status status = EQS_OK;
  trial best = {0}, next = {0};
  int tries = 0;
  EQS_TRY(eqs_allocate(&best.hit, all->sources, sizeof *best.hit));
  EQS_TRY(eqs_allocate(&next.hit, all->sources, sizeof *next.hit));
  for (int64_t s = 0; s < all->sources && tries < most_tries && all->rules < most_rules; s++) {
    if (all->source[s].found != NULL || all->work > most_work) continue;
    tries++;
    EQS_TRY(best_rule(all, &all->source[s], &best, &next));
    if (best.hits > 0 && !best.ambiguous) keep_rule(all, &best);
  }
cleanup:
  free(best.hit);
  free(next.hit);
  return status;
}

/* ----- the result ----- */

static int by_text(const void *a, const void *b)
{
  return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Whether the rules together, as a configuration would have them, do what they were found for, and join nothing. */
static eqs_status check(const search *all, bool *good)
{
  eqs_status status = EQS_OK;
  eqs_renames *renames = NULL;
  char **name = NULL;
  *good = true;
  for (int r = 0; r < all->rules; r++)
    EQS_TRY(eqs_renames_add(all->rule[r].pattern, all->rule[r].replacement, &renames));
  EQS_TRY(eqs_allocate(&name, all->sources, sizeof *name));
  for (int64_t s = 0; s < all->sources; s++) {
    EQS_TRY(eqs_renames_apply(renames, all->source[s].entry->name, &name[s]));
    if (find_target(all, name[s]) != all->source[s].found) *good = false;
  }
  qsort(name, (size_t)all->sources, sizeof *name, by_text);
  for (int64_t s = 1; s < all->sources; s++)
    if (strcmp(name[s - 1], name[s]) == 0) *good = false;
cleanup:
  for (int64_t s = 0; name != NULL && s < all->sources; s++) free(name[s]);
  free(name);
  eqs_renames_free(&renames);
  return status;
}

static void print_rules(const search *all, char *text, size_t size)
{
  size_t length = 0;
  for (int r = 0; r < all->rules && length < size; r++)
    length += (size_t)snprintf(text + length, size - length, "%s\"%s\": \"%s\"", r == 0 ? "{" : ", ",
                               all->rule[r].pattern, all->rule[r].replacement);
  if (length < size) length += (size_t)snprintf(text + length, size - length, "}");
  if (length >= size) text[0] = '\0'; /* half a rule is none */
}

eqs_status eqs_suggest_renames(const eqs_checkpoint_contents *stored, const eqs_checkpoint_contents *model, char *text,
                               size_t size)
{
  eqs_status status = EQS_OK;
  eqs_checkpoint_contents sorted = {0};
  search all = {0};
  int64_t missing = 0, still_missing = 0;
  bool good;
  text[0] = '\0';
  if (stored->parameters == 0 || stored->parameters > largest_model || model->parameters > largest_model) return EQS_OK;
  EQS_TRY(eqs_contents_sort(model, &sorted));
  EQS_TRY(begin(stored, &sorted, &all));
  for (int64_t t = 0; t < all.targets; t++) missing += !all.target[t].taken;
  EQS_TRY(find_rules(&all));
  for (int64_t t = 0; t < all.targets; t++) still_missing += !all.target[t].taken;
  if (all.rules == 0 || 2 * still_missing > missing) goto cleanup;
  EQS_TRY(check(&all, &good));
  if (good) print_rules(&all, text, size);
cleanup:
  free(all.target);
  free(all.source);
  eqs_contents_free(&sorted);
  return status;
}
