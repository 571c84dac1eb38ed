// Chooses the CPU level, once: the best that was built and that this CPU runs.
#include <cstring>

#include "kernels.h"

namespace elman {

#define ELMAN_BUILT(name)       \
  namespace name {              \
  extern const Level the_level; \
  }
#include "levels.inc"  // ELMAN_BUILT(…) for each level, best last; written by the build
#undef ELMAN_BUILT

namespace {

#define ELMAN_BUILT(name) &name::the_level,
const Level* const kBuilt[] = {
#include "levels.inc"
};
#undef ELMAN_BUILT

struct Choice {
  const Level* runnable[sizeof kBuilt / sizeof *kBuilt];
  int count = 0;
  const Level* current;

  // A level that only stands in for a CPU that is absent is listed first, so that it is never the default.
  Choice() {
    for (const Level* level : kBuilt)
      if (level->supported()) runnable[count++] = level;
    current = runnable[count - 1];
  }
};

Choice& choice() {
  static Choice the_choice;
  return the_choice;
}

}  // namespace

const Level* const* levels(int* count) {
  *count = choice().count;
  return choice().runnable;
}

const Level& level() { return *choice().current; }

bool use_level(const char* name) {
  for (int i = 0; i < choice().count; ++i)
    if (std::strcmp(choice().runnable[i]->name, name) == 0) {
      choice().current = choice().runnable[i];
      return true;
    }
  return false;
}

}  // namespace elman
