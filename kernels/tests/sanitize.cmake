# The handlers and their tests, every file here, in one program under AddressSanitizer and UBSan: `make sanitize`.
set(OPTIMISE -O1)  # compiles in half the time
add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g1 -Wall)
add_link_options(-fsanitize=address,undefined)
file(GLOB TESTS CONFIGURE_DEPENDS "${CMAKE_CURRENT_LIST_DIR}/*.cc")
add_executable(sanitize ${SOURCES} ${TESTS})
# Each handler that the Python module hands over must have its test.
file(STRINGS module.cc HANDLERS REGEX "add\\(\"hpjax_")
string(REGEX MATCHALL "\"hpjax_[a-z0-9_]+\"" TARGETS "${HANDLERS}")
string(REPLACE "\"" "" TARGETS "${TARGETS}")
string(REPLACE ";" " " TARGETS "${TARGETS}")
set_property(SOURCE ${CMAKE_CURRENT_LIST_DIR}/main.cc PROPERTY COMPILE_DEFINITIONS "HPJAX_TARGETS=\"${TARGETS}\"")
