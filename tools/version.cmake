# Writes ${OUT} with the version and the commit of the sources; only when they changed.
execute_process(COMMAND git -C ${SOURCE} describe --always --dirty --exclude=*
  OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
if(failed)
  set(commit unknown)
endif()
set(text "#pragma once\n\nnamespace onpa {\n\ninline constexpr const char* kVersion = \"${VERSION}\";\ninline constexpr const char* kCommit = \"${commit}\";\n\n}  // namespace onpa\n")
set(old)
if(EXISTS ${OUT})
  file(READ ${OUT} old)
endif()
if(NOT text STREQUAL old)
  file(WRITE ${OUT} "${text}")
endif()
