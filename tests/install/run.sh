#!/usr/bin/env bash
# Installs a build into a temporary prefix and uses it in every way the documentation promises: tests/install/run.sh BUILD_DIR
#
# One line per promise, `ok ...` or `FAIL ...`; the status is non-zero when one failed.
set -u
here=$(cd "$(dirname "$0")" && pwd -P)
build=${1:?usage: tests/install/run.sh BUILD_DIR}
cc=${CC:-gcc}
cxx=${CXX:-g++}
status=0
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
export LC_ALL=C # one sort order for comm

# promise TEXT COMMAND...: the output is shown only when the command fails
promise() {
  local text=$1
  shift
  if "$@" >"$work/log" 2>&1; then
    echo "ok install: $text"
  else
    echo "FAIL install: $text"
    sed 's/^/    /' "$work/log"
    status=1
  fi
}

install_tree() {
  cmake --install "$build" --prefix "$work/first" && mv "$work/first" "$work/moved" && prefix=$work/moved &&
    so=$(find "$prefix" -name libcpool.so) && [ -n "$so" ] && libdir=${so%/*} &&
    export PKG_CONFIG_PATH=$libdir/pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}
}

# Where CMake put them: beside the prefix's documentation, whatever the system calls that directory.
documents() {
  local name
  for name in LICENSE OPTIONS.md; do
    find "$prefix" -path "*/doc/cpool/$name" -type f | grep . || { echo "no doc/cpool/$name"; return 1; }
  done
}

flags() {
  pkg-config "$@" cpool
}

# shellcheck disable=SC2046
with_pkg_config() {
  "$cc" -Wall -Werror "$here/main.c" $(flags --cflags --libs) -o "$work/shared" || return 1
  LD_LIBRARY_PATH=$libdir "$work/shared" && readelf -d "$work/shared" | grep -q "NEEDED.*libcpool.so"
}

# shellcheck disable=SC2046
with_pkg_config_static() {
  cp -r "$prefix" "$work/static-only" && rm "$work/static-only${libdir#"$prefix"}"/libcpool.so* || return 1
  PKG_CONFIG_PATH=$work/static-only${libdir#"$prefix"}/pkgconfig flags --static --cflags --libs >"$work/flags" &&
    "$cc" -Wall -Werror "$here/main.c" $(cat "$work/flags") -o "$work/static" && "$work/static" || return 1
  ! readelf -d "$work/static" | grep "NEEDED.*libcpool"
}

with_cmake() {
  cp "$here/main.c" "$here/CMakeLists.txt" "$work/" && cmake -S "$work" -B "$work/user" -DCMAKE_C_COMPILER="$cc" \
    -DCMAKE_PREFIX_PATH="$prefix" -DEXPECTED_VERSION="$version" && cmake --build "$work/user" && "$work/user/user_shared" && "$work/user/user_static"
}

# shellcheck disable=SC2046
with_cplusplus() {
  "$cxx" -std=c++11 -Wall -Wextra -pedantic -Werror -x c++ "$here/main.c" -x none $(flags --cflags --libs) \
    -o "$work/plusplus" && LD_LIBRARY_PATH=$libdir "$work/plusplus"
}

# shellcheck disable=SC2046
with_c99() {
  echo '#include <cpool.h>' | "$cc" -std=c99 -pedantic -Wall -Wextra -Werror $(flags --cflags) -x c -fsyntax-only -
}

right_soname() {
  readelf -d "$so" | grep -F "Library soname: [libcpool.so.${version%%.*}]" && [ -e "$so.$version" ]
}

one_version() {
  version=$(sed -n 's/^#define CPOOL_VERSION_[A-Z]* *\([0-9]*\)$/\1/p' "$prefix/include/cpool.h" | paste -sd.) &&
    [ "$(flags --modversion)" = "$version" ]
}

# The compiler's own list of declarations, so that the check shares nothing with the generator of the export list.
exports_equal_header() {
  gcc -fsyntax-only -aux-info "$work/aux" "$prefix/include/cpool.h" &&
    sed -n 's/^.*[ *]\(cpool_[a-z0-9_]*\) (.*$/\1/p' "$work/aux" | sort -u >"$work/declared" &&
    nm -D --defined-only "$so" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort -u >"$work/exported" || return 1
  [ -s "$work/declared" ] || return 1
  comm -3 "$work/declared" "$work/exported" >"$work/differences"
  [ ! -s "$work/differences" ] || { echo "declared only, or exported only (indented):"; cat "$work/differences"; return 1; }
}

# In a static library every internal name meets the names of the program.
static_names_are_prefixed() {
  ! nm -g --defined-only "$libdir/libcpool.a" | awk 'NF == 3 && $3 !~ /^cpool_/ { print $3 }' | grep .
}

promise "a tree installs, and can be moved" install_tree
if [ "$status" = 0 ]; then
  promise "the licence and the option table, which the header points to, are there" documents
  promise "header and cpool.pc name one version" one_version
  promise "the soname is the major version" right_soname
  promise "the shared library exports what the header declares" exports_equal_header
  promise "names in the static library begin with cpool_" static_names_are_prefixed
  promise "pkg-config links the shared library" with_pkg_config
  promise "pkg-config --static links the static library" with_pkg_config_static
  promise "find_package gives both targets" with_cmake
  promise "C++11 compiles, links and runs" with_cplusplus
  promise "C99 compiles the header pedantically" with_c99
fi
exit $status
