# Equishard. `make help` lists the targets.
BUILD ?= build
CC = mpicc
PKG_CONFIG ?= pkg-config
LIBRARIES = hdf5-openmpi yaml-0.1 jansson libxxhash

OPTIMIZE ?= -O3 -march=$(ARCH) -fno-math-errno
ARCH ?= native
SANITIZE ?=
WARNINGS = -Wall -Wextra -Wconversion -Wno-sign-conversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Werror
CPPFLAGS += -D_GNU_SOURCE -Iinclude -Isrc $(shell $(PKG_CONFIG) --cflags $(LIBRARIES) 2>/dev/null)
CFLAGS += -std=c11 -g $(OPTIMIZE) $(SANITIZE) $(WARNINGS) -fPIC -fvisibility=hidden -MMD -MP
# BLIS before ScaLAPACK: the first BLAS in the symbol search answers everybody's calls.
# The choice of BLIS's kernels (src/dist/kernels.c) belongs to every program that links the archive.
LDLIBS += -Wl,-u,eqs_blis_kernels -Wl,--no-as-needed -lblis -lscalapack-openmpi -llapack -Wl,--as-needed \
          $(shell $(PKG_CONFIG) --libs $(LIBRARIES) 2>/dev/null) -ldl -lm -lpthread

ROOMS = base dist polar rules model optimizer checkpoint weights service
LIBRARY_SOURCES = $(foreach room,$(ROOMS),$(wildcard src/$(room)/*.c))
COMMAND_SOURCES = $(wildcard src/bench/*.c src/cli/*.c)
TEST_FOLDERS = unit distributed equivariance
TEST_SOURCES = $(foreach folder,$(TEST_FOLDERS),$(wildcard tests/$(folder)/test_*.c))
HELPER_SOURCES = $(filter-out $(TEST_SOURCES),$(wildcard tests/*.c $(TEST_FOLDERS:%=tests/%/*.c) tests/fuzz/*.c))

objects = $(patsubst %.c,$(BUILD)/objects/%.o,$(1))
LIBRARY = $(BUILD)/libequishard.so
ARCHIVE = $(BUILD)/objects/libequishard.a
COMMAND = $(BUILD)/equishard
TESTS = $(patsubst tests/%.c,$(BUILD)/tests/%,$(TEST_SOURCES))
EXAMPLES = $(patsubst tests/examples/%.c,$(BUILD)/%,$(wildcard tests/examples/*.c))

.PHONY: all run test test-all lint format check-memory tests-memory fuzz bench clean help bootstrap tests examples
.DELETE_ON_ERROR:
.SECONDARY:

all: bootstrap ## install what is missing, build the library and the command
	@$(MAKE) --no-print-directory $(LIBRARY) $(COMMAND)

bootstrap:
	@launch/bootstrap.sh

run: all ## train the example model; RUN='--name x --trainers 2' passes options on
	launch/pretrain.sh $(RUN)

tests: $(TESTS) examples $(LIBRARY) $(COMMAND)
examples: $(EXAMPLES)

test: bootstrap ## every test, in 15 minutes on 2 cores; ONLY='service polar': those with such names
	@$(MAKE) --no-print-directory tests
	tests/run --build $(BUILD) $(ONLY)

test-all: bootstrap ## the slow tests too
	@$(MAKE) --no-print-directory tests
	tests/run --build $(BUILD) --all $(ONLY)

# Parsers of untrusted text, under clang's fuzzer: the rooms that read it and plan with it, with sanitizers.
FUZZERS = $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_ROOMS = base polar rules model optimizer
FUZZ_SECONDS ?= 60
fuzz: bootstrap ## fuzz what reads untrusted text, FUZZ_SECONDS each
	@launch/bootstrap.sh fuzz
	@$(MAKE) --no-print-directory $(FUZZERS)
	tests/fuzz/run --build $(BUILD) --seconds $(FUZZ_SECONDS)

bench: all ## measure against the machine's peak; BENCH='--repeat 3' passes options on
	launch/bench.sh $(BENCH)

check-memory: tests-memory ## the C suites with AddressSanitizer, UBSan and a leak check; ONLY as above
	tests/run --build $(BUILD)-memory --memory $(ONLY)

tests-memory: bootstrap
	@$(MAKE) --no-print-directory BUILD=$(BUILD)-memory OPTIMIZE="-O1 -march=$(ARCH) -fno-omit-frame-pointer" \
	  SANITIZE="-fsanitize=address,undefined -fno-sanitize-recover=all" tests

lint: ## clang-format, cppcheck, shellcheck
	@launch/bootstrap.sh lint
	@clang-format --dry-run -Werror $(shell git ls-files '*.c' '*.h')
	@cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr --error-exitcode=1 \
	  --suppress=missingIncludeSystem --suppress=sizeofDereferencedVoidPointer -D_GNU_SOURCE -Iinclude -Isrc src tests
	@shellcheck $(shell git ls-files 'launch/*.sh' 'tests/*.sh' tests/run tests/fuzz/run .ci/run)

format: ## lay the C sources out
	clang-format -i $(shell git ls-files -co --exclude-standard '*.c' '*.h')

clean: ## remove what was built
	rm -rf $(BUILD) $(BUILD)-memory

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

$(ARCHIVE): $(call objects,$(LIBRARY_SOURCES))
	@rm -f $@
	@ar rcs $@ $^

$(LIBRARY): $(call objects,$(LIBRARY_SOURCES))
	@echo "  $@"
	@$(CC) -shared $(CFLAGS) -Wl,-z,defs -Wl,-Bsymbolic-functions -o $@ $^ $(LDLIBS)

$(COMMAND): $(call objects,$(COMMAND_SOURCES)) $(ARCHIVE)
	@echo "  $@"
	@$(CC) $(CFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/tests/%: $(BUILD)/objects/tests/%.o $(call objects,$(HELPER_SOURCES)) $(ARCHIVE)
	@mkdir -p $(@D)
	@$(CC) $(CFLAGS) -o $@ $^ $(LDLIBS) $(shell $(PKG_CONFIG) --libs check)

FUZZ_OBJECTS = $(patsubst %.c,$(BUILD)/fuzz/objects/%.o,$(foreach room,$(FUZZ_ROOMS),$(wildcard src/$(room)/*.c)) \
               $(addprefix src/checkpoint/,contents.c tiles.c index.c image.c hdf5_encode.c serialize.c) \
               src/weights/safetensors.c)
FUZZ_CC = OMPI_CC=clang $(CC)
FUZZ_CFLAGS = -std=c11 -g -O1 -march=$(ARCH) -fno-omit-frame-pointer -fno-math-errno -Wall -Wextra -Werror \
              -fsanitize=address,undefined -fno-sanitize-recover=all -MMD -MP

# What is not instrumented comes from the library.
$(BUILD)/fuzz/fuzz_%: $(BUILD)/fuzz/objects/tests/fuzz/fuzz_%.o $(FUZZ_OBJECTS) $(ARCHIVE)
	@echo "  $@"
	@$(FUZZ_CC) $(FUZZ_CFLAGS) -fsanitize=fuzzer -o $@ $^ $(LDLIBS)

$(BUILD)/fuzz/objects/%.o: %.c
	@mkdir -p $(@D)
	@echo "  $< (fuzz)"
	@$(FUZZ_CC) $(CPPFLAGS) $(FUZZ_CFLAGS) -fsanitize=fuzzer-no-link -c -o $@ $<

$(BUILD)/%: tests/examples/%.c $(LIBRARY)
	@echo "  $@"
	@$(CC) -std=c11 -O2 -Wall -Wextra -Werror $(SANITIZE) -Iinclude -o $@ $< -L$(BUILD) -lequishard -Wl,-rpath,'$$ORIGIN' -lm

$(BUILD)/objects/%.o: %.c
	@mkdir -p $(@D)
	@echo "  $<"
	@$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

$(BUILD)/objects/tests/%.o: CPPFLAGS += -Itests
# The fuzzers' entries, all in one program that reads what they have found: each by its file's name.
$(BUILD)/objects/tests/fuzz/%.o: CPPFLAGS += -DLLVMFuzzerTestOneInput=$(notdir $*)
# The kernel (src/dist/tile.h) is fused multiply-adds, which C11 leaves to the option. Its vectors stay inside a file, so
# that it does not matter how a function returns one where the processor has none.
$(BUILD)/objects/src/dist/half_product.o $(BUILD)/objects/src/dist/whole_product.o: CFLAGS += -ffp-contract=fast -Wno-psabi
-include $(shell find $(BUILD)/objects $(BUILD)/fuzz -name '*.d' 2>/dev/null)
