// main of every single-process test program.

#include <gmock/gmock.h>

#include "tests/testing/skip_policy.h"

int main(int argc, char** argv) {
  testing::InitGoogleMock(&argc, argv);
  switchyard::testing::forbid_unlisted_skips();
  return RUN_ALL_TESTS();
}
