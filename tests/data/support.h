// What the tests of data/ share: a folder that goes away, and errors by code and text.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/error.h"
#include "tests/support/temp_folder.h"

namespace onpa::testing {

/// Fails unless `call` throws an Error with `code` whose message contains every one of `parts`.
template <class Call>
void expect_error(ExitCode code, const std::vector<std::string>& parts, const Call& call) {
  try {
    call();
    ADD_FAILURE() << "no error, want one with \"" << parts.front() << '"';
  } catch (const Error& e) {
    EXPECT_EQ(static_cast<int>(e.code()), static_cast<int>(code)) << e.what();
    for (const std::string& part : parts) {
      EXPECT_NE(std::string(e.what()).find(part), std::string::npos)
          << "got \"" << e.what() << "\", want \"" << part << "\" in it";
    }
  }
}

}  // namespace onpa::testing
