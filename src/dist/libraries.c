#include "dist/libraries.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <string.h>

/* What the dynamic section of a loaded library says about its relocations. */
typedef struct {
  ElfW(Addr) base;
  const ElfW(Sym) * symbols;
  const char *names;
  const ElfW(Rela) * tables[2]; /* DT_RELA, DT_JMPREL */
  size_t sizes[2];              /* bytes */
} relocations;

static relocations relocations_of(const struct link_map *library)
{
  relocations found = {.base = library->l_addr};
  for (const ElfW(Dyn) *entry = library->l_ld; entry->d_tag != DT_NULL; entry++) {
    const void *address = (const void *)entry->d_un.d_ptr; /* glibc has added the base */
    switch (entry->d_tag) {
    case DT_SYMTAB: found.symbols = address; break;
    case DT_STRTAB: found.names = address; break;
    case DT_RELA: found.tables[0] = address; break;
    case DT_RELASZ: found.sizes[0] = entry->d_un.d_val; break;
    case DT_JMPREL: found.tables[1] = address; break;
    case DT_PLTRELSZ: found.sizes[1] = entry->d_un.d_val; break;
    default: break;
    }
  }
  return found;
}

/* The slot that holds the address of an imported function: an entry of the GOT, or a pointer to the function. */
static void **find_slot(const relocations *library, const char *symbol)
{
  if (library->symbols == NULL || library->names == NULL) return NULL;
  for (int table = 0; table < 2; table++) {
    for (size_t i = 0; library->tables[table] && i < library->sizes[table] / sizeof(ElfW(Rela)); i++) {
      const ElfW(Rela) *relocation = &library->tables[table][i];
      const ElfW(Sym) *target = &library->symbols[ELF64_R_SYM(relocation->r_info)];
      if (target->st_shndx == SHN_UNDEF && relocation->r_addend == 0 &&
          strcmp(library->names + target->st_name, symbol) == 0)
        return (void **)(library->base + relocation->r_offset);
    }
  }
  return NULL;
}

/*
 * A slot that no call has gone through yet may still hold the address of the library's own stub, which finds the
 * function, writes it to the slot and calls it. So go through it once, with an empty product: all sizes 0.
 */
static void bind_slot(void **slot)
{
  typedef void gemm(const char *, const char *, const int *, const int *, const int *, const void *, const void *,
                    const int *, const void *, const int *, const void *, void *, const int *);
  static const int zero = 0, one = 1;
  double scalar = 0, element = 0; /* a float of 0 too */
  gemm *call;
  memcpy(&call, slot, sizeof call);
  call("N", "N", &zero, &zero, &zero, &scalar, &element, &one, &element, &one, &scalar, &element, &one);
}

static const char *file_name(const char *path)
{
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

static const struct link_map *find_library(const char *part_of_name)
{
  struct link_map *library = NULL;
  void *program = dlopen(NULL, RTLD_LAZY | RTLD_NOLOAD);
  if (program == NULL || dlinfo(program, RTLD_DI_LINKMAP, &library) != 0) library = NULL;
  while (library != NULL && strstr(file_name(library->l_name), part_of_name) == NULL) library = library->l_next;
  if (program) dlclose(program);
  return library;
}

const char *eqs_library_answering(const char *caller, const char *symbol)
{
  const struct link_map *library = find_library(caller);
  if (library == NULL) return NULL;
  relocations found = relocations_of(library);
  void **slot = find_slot(&found, symbol);
  if (slot == NULL) return NULL;
  if (strcmp(symbol, "sgemm_") == 0 || strcmp(symbol, "dgemm_") == 0) bind_slot(slot);
  Dl_info answer;
  return dladdr(*slot, &answer) != 0 ? answer.dli_fname : NULL;
}
