// A test that skips itself; CTest expects this program to fail.

#include <gtest/gtest.h>

TEST(Example, SkipsItself) { GTEST_SKIP(); }
