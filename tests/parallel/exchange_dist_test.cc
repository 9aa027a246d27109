#include <gtest/gtest.h>

#include "tests/parallel/exchange_suite.h"
#include "tests/testing/dist.h"

namespace switchyard::parallel {
namespace {

class MpiExchange : public ::testing::TestWithParam<exchange_suite::Behaviour> {};

TEST_P(MpiExchange, ConformsToTheSuite) { GetParam().check(switchyard::testing::world()); }

INSTANTIATE_TEST_SUITE_P(Suite, MpiExchange, ::testing::ValuesIn(exchange_suite::behaviours()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace switchyard::parallel
