#!/usr/bin/env bash
# Installs what is missing, builds, runs the tests, and says in the last line how it went: `N passed, N failed`
#
# N counts test cases (of cmocka), single checks (a line `ok ...` or `FAIL ...` of a check script) and builds that must
# be free of warnings. Whatever stops a stage early counts as failed. The build lies outside the tree, see --help.
set -u
root=$(cd "$(dirname "$0")/.." && pwd -P)
. "$root/tests/packages.sh"

usage() {
  cat <<'END'
usage: tests/run.sh [options]
  --all               also: gcc and clang with warnings as errors, the suite under AddressSanitizer + UBSan and under
                      ThreadSanitizer, failing allocations, fuzzing, format, a short run of the benchmarks, everything
                      once more on a bare Debian, and there against the libcurl of Debian's backports
  --no-clean-root     with --all: without the bare Debian and the backports
  --filter REGEX      only the tests whose name (unit.wheel, behaviour.close, ...) matches; no other checks
  --fuzz-seconds N    how long each fuzz target runs (30)
  --update-docs       write docs/OPTIONS.md anew from the option tables, then stop
environment
  CPOOL_BUILD_DIR     where to build (default: ${XDG_CACHE_HOME:-~/.cache}/libcpool/<hash of this tree's path>)
  CPOOL_JOBS          tests at the same time (2)
END
}

# value OPTION [VALUE]...
value() {
  [ -n "${2:-}" ] || { printf '%s needs a value\n\n%s\n' "$1" "$(usage)" >&2; return 2; }
  printf '%s\n' "$2"
}

all=no clean_root=yes filter="" fuzz_seconds=30 update_docs=no
while [ $# -gt 0 ]; do
  case $1 in
    --all) all=yes ;;
    --no-clean-root) clean_root=no ;;
    --filter) filter=$(value "$@") || exit 2 && shift ;;
    --fuzz-seconds) fuzz_seconds=$(value "$@") || exit 2 && shift ;;
    --update-docs) update_docs=yes ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
  esac
  shift
done

path_hash=$(printf '%s' "$root" | cksum | cut -d' ' -f1)
build=${CPOOL_BUILD_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/libcpool/$path_hash}
jobs=${CPOOL_JOBS:-2}
mkdir -p "$build" && build=$(cd "$build" && pwd -P) || exit 1

# ---- Stages and the summary -----------------------------------------------------------------------------------------

passed=0 failed=0 skipped=0 stage_now="" started=$SECONDS
failures=() times=() alone=()

count() { # PASSED FAILED [WHAT]
  passed=$((passed + $1)) failed=$((failed + $2))
  [ "$2" = 0 ] || failures+=("$stage_now${3:+: $3}")
}

# stage NAME COMMAND...: a command that fails without having counted a failure counts as one
stage() {
  local began=$SECONDS failed_before=$failed status
  stage_now=$1
  shift
  printf '\n== %s\n' "$stage_now"
  "$@" 9>&- # the lock ends with this script, whatever a stage leaves running
  status=$?
  [ $status = 0 ] || [ "$failed" -gt "$failed_before" ] || count 0 1 "ended with status $status"
  times+=("$(printf '%6d s  %s' $((SECONDS - began)) "$stage_now")")
  stage_now=""
  return $status
}

finish() {
  local code=$?
  trap - EXIT
  [ -z "$stage_now" ] || count 0 1 "did not end"
  printf '\n== summary\n'
  [ ${#times[@]} = 0 ] || printf '%s\n' "${times[@]}"
  printf '%6d s  in all\n' $((SECONDS - started))
  [ "$skipped" = 0 ] || echo "skipped: $skipped"
  [ ${#alone[@]} = 0 ] || printf 'passed only when nothing ran beside it: %s\n' "${alone[@]}"
  [ ${#failures[@]} = 0 ] || printf 'failed: %s\n' "${failures[@]}"
  echo "$passed passed, $failed failed"
  [ "$failed" = 0 ] && [ "$passed" -gt 0 ] || code=1
  exit $code
}

# quietly COMMAND...: shows the output only when the command fails
quietly() {
  local log=$build/command.log status
  "$@" >"$log" 2>&1 </dev/null
  status=$?
  [ $status = 0 ] || tail -n 200 "$log"
  return $status
}

# checks COMMAND...: counts the lines `ok ...` and `FAIL ...` that the command prints
checks() {
  local log=$build/checks.log status good bad
  "$@" </dev/null | tee "$log"
  status=${PIPESTATUS[0]}
  good=$(grep -c '^ok ' "$log") bad=$(grep -c '^FAIL ' "$log")
  [ "$good" = 0 ] || count "$good" 0
  [ "$bad" = 0 ] || count 0 "$bad" "$(sed -n 's/^FAIL //p' "$log" | paste -sd';')"
  return "$status"
}

# build_in DIR TARGET OPTION...: configures and builds
build_in() {
  local dir=$build/$1 target=$2 generator=()
  shift 2
  [ -f "$dir/CMakeCache.txt" ] || ! command -v ninja >/dev/null || generator=(-G Ninja)
  quietly cmake -S "$root" -B "$dir" ${generator[@]+"${generator[@]}"} "$@" &&
    quietly cmake --build "$dir" --target "$target" --parallel "$(nproc)"
}

# tests_in DIR OPTION...: runs ctest and counts what its log shows, case by case. What fails is run once more with nothing
# beside it: on a machine that does something else, deadlines of a second are missed. The summary names what passed so.
tests_in() {
  local dir=$build/$1 logs=$build/$1/Testing/Temporary status expected good bad skip programs names
  shift
  [ -z "$filter" ] || set -- -R "$filter" "$@"
  expected=$(ctest --test-dir "$dir" -N "$@" | sed -n 's/^Total Tests: //p')
  if [ "${expected:-0}" = 0 ]; then
    echo "no test matches"
    [ -n "$filter" ] && return 0
    return 1
  fi
  rm -rf "$logs"
  mkdir -p "$logs"
  $no_aslr ctest --test-dir "$dir" --parallel "$jobs" --output-on-failure "$@" </dev/null
  status=$?
  # Per program: the cases that cmocka saw pass and fail; a program that fails without a failed case (a crash, a leak,
  # a timeout) is one failure, and one that ctest passes without naming a case is one pass. Which programs failed stands
  # in the first file, as NUMBER:NAME; the log itself says "Test Passed." also of a program that could not be started.
  touch "$logs/LastTestsFailed.log" "$logs/LastTest.log"
  read -r programs good bad skip names < <(awk '
    function close_program() {
      if (name == "") return
      programs++
      if (name in failed && bad == 0) bad = 1
      if (!(name in failed) && ok + skip == 0) ok = 1
      all_ok += ok; all_bad += bad; all_skip += skip
      if (bad) names = names " " name
    }
    FILENAME ~ /LastTestsFailed/ { sub(/^[0-9]+:/, ""); failed[$0]; next }
    /^[0-9]+\/[0-9]+ Testing: / { close_program(); name = $3; ok = bad = skip = 0 }
    /^\[       OK \] / { ok++ }
    /^\[  SKIPPED \] [0-9]+ test/ { skip += $4 }
    /^\[  FAILED  \] [0-9]+ test/ { bad += $4 }
    END { close_program(); printf "%d %d %d %d%s\n", programs, all_ok, all_bad, all_skip, names }' \
    "$logs/LastTestsFailed.log" "$logs/LastTest.log")
  if [ $status != 0 ] && [ "${bad:-0}" != 0 ]; then
    printf '\nonce more, one at a time:%s\n' " $names"
    if $no_aslr ctest --test-dir "$dir" --rerun-failed --output-on-failure </dev/null; then
      alone+=("$stage_now: $names")
      good=$((${good:-0} + bad)) bad=0 status=0
    fi
  fi
  count "${good:-0}" 0
  skipped=$((skipped + ${skip:-0}))
  [ "${bad:-0}" = 0 ] || count 0 "$bad" "$names"
  [ "${programs:-0}" = "$expected" ] || count 0 $((expected - ${programs:-0})) "tests that never ran"
  return $status
}

# ---- What the stages run --------------------------------------------------------------------------------------------

no_aslr=""
export ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1
export UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS=second_deadlock_stack=1:halt_on_error=1

warning_free_build() { # DIR OPTION...
  local dir=$1
  shift
  build_in "$dir" all -DCPOOL_WERROR=ON "$@" || return 1
  count 1 0
}

options_doc_is_current() {
  if [ ! -x "$build/debug/options_doc" ]; then
    echo "FAIL docs: tests/support/options_doc.c, which prints docs/OPTIONS.md, is missing"
    return 1
  fi
  "$build/debug/options_doc" >"$build/OPTIONS.md" && diff -u "$root/docs/OPTIONS.md" "$build/OPTIONS.md" || {
    echo "FAIL docs: docs/OPTIONS.md differs from the option tables (tests/run.sh --update-docs writes it)"
    return 1
  }
  echo "ok docs: docs/OPTIONS.md equals the option tables"
}

under_sanitizer() { # DIR SANITIZERS
  build_in "$1" all -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_FLAGS_DEBUG="-O1 -g" -DCPOOL_SANITIZE="$2" \
    -DCPOOL_BUILD_BENCH=OFF -DCPOOL_BUILD_EXAMPLES=OFF -DCPOOL_WERROR=ON && tests_in "$1" -LE allocfail
}

under_thread_sanitizer() {
  local status
  # The run-time library of gcc 12 cannot place its shadow memory on kernels that randomise more address bits than it knows.
  ! setarch "$(uname -m)" -R true 2>/dev/null || no_aslr="setarch $(uname -m) -R"
  under_sanitizer tsan thread
  status=$?
  no_aslr=""
  return $status
}

fuzz() {
  local source name corpus dir=$build/fuzz status=0
  build_in fuzz all -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_FLAGS_DEBUG="-O1 -g" \
    -DCPOOL_SANITIZE=fuzzer-no-link,address,undefined -DCPOOL_BUILD_FUZZ=ON -DCPOOL_BUILD_SHARED=OFF \
    -DCPOOL_BUILD_TESTS=OFF -DCPOOL_BUILD_BENCH=OFF -DCPOOL_BUILD_EXAMPLES=OFF || return 1
  for source in "$root"/tests/fuzz/fuzz_*.c; do
    name=$(basename "$source" .c)
    corpus=$dir/corpus/$name
    mkdir -p "$corpus"
    if quietly timeout $((fuzz_seconds + 120)) "$dir/$name" -max_total_time="$fuzz_seconds" -timeout=10 -verbosity=0 \
      -artifact_prefix="$dir/$name-" "$corpus"; then
      echo "$name: $fuzz_seconds s, $(find "$corpus" -type f | wc -l) inputs kept"
      count 1 0
    else
      count 0 1 "$name"
      status=1
    fi
  done
  return $status
}

formatted() {
  local files
  mapfile -t files < <(find "$root"/{include,src,tests,bench,examples} -name '*.[ch]' | sort)
  quietly clang-format-14 --dry-run -Werror "${files[@]}" || return 1
  count 1 0
}

bench_smoke() {
  timeout 900 "$root/bench/run.sh" --quick </dev/null || return 1
  count 1 0
}

on_bare_debian() {
  "$root/tests/clean-root.sh" </dev/null || return 1
  count 1 0
}

against_backports() {
  "$root/tests/clean-root.sh" --backports </dev/null
  case $? in
    0) count 1 0 ;;
    77) skipped=$((skipped + 1)) ;; # it has said why
    *) return 1 ;;
  esac
}

# ---- The run --------------------------------------------------------------------------------------------------------

trap finish EXIT
trap 'exit 130' HUP INT TERM

exec 9>"$build/lock"
if ! flock -n 9; then
  echo "another run uses $build; waiting for it"
  flock 9
fi

packages=$PACKAGES_TEST
[ $all = no ] || packages=$PACKAGES_ALL
stage "packages" packages_install "$packages" || exit 1
echo "building in $build"

build_debug() {
  build_in debug all -DCMAKE_BUILD_TYPE=Debug
}

if [ $update_docs = yes ]; then
  stage "docs/OPTIONS.md" build_debug && "$build/debug/options_doc" >"$build/OPTIONS.md" &&
    cp "$build/OPTIONS.md" "$root/docs/OPTIONS.md" && count 1 0
  exit
fi

stage "build" build_debug || exit 1
stage "tests" tests_in debug -LE allocfail
if [ -z "$filter" ]; then
  stage "layers" checks "$root/tests/check-layers.sh"
  stage "documents" checks "$root/tests/check-docs.sh"
  stage "README" checks "$root/tests/check-readme.sh" "$build/debug"
  stage "option table" checks options_doc_is_current
  stage "installed tree" checks "$root/tests/install/run.sh" "$build/debug"
fi

if [ $all = yes ]; then
  stage "gcc, release, warnings are errors" warning_free_build gcc -DCMAKE_C_COMPILER=gcc &&
    stage "tests, release" tests_in gcc -LE allocfail
  stage "clang, warnings are errors" warning_free_build clang -DCMAKE_C_COMPILER=clang
  stage "AddressSanitizer and UBSan" under_sanitizer asan address,undefined
  [ -n "$filter" ] || stage "every allocation fails once" tests_in asan -L allocfail
  stage "ThreadSanitizer" under_thread_sanitizer
fi
if [ $all = yes ] && [ -z "$filter" ]; then
  stage "fuzzing" fuzz
  stage "format" formatted
  [ ! -e "$root/bench/run.sh" ] || stage "benchmarks, quick" bench_smoke
  [ $clean_root = no ] || stage "bare Debian" on_bare_debian
  [ $clean_root = no ] || stage "libcurl of Debian's backports" against_backports
fi
