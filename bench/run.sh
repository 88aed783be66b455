#!/usr/bin/env bash
# Builds the benchmarks for release, runs them, and prints one table: question, measured, reach, ok or missed
#
# In full it also writes bench/README.md, which is this script's output and never edited by hand.
set -u
root=$(cd "$(dirname "$0")/.." && pwd -P)
. "$root/tests/packages.sh"

usage() {
  cat <<'END'
usage: bench/run.sh [--quick]
  --quick             few requests and rounds: shows that all runs, measures nothing, leaves bench/README.md alone
environment
  CPOOL_BUILD_DIR     where to build, in bench/ there (default: ${XDG_CACHE_HOME:-~/.cache}/libcpool/<hash of the tree>)
END
}

quick=()
while [ $# -gt 0 ]; do
  case $1 in
    --quick) quick=(--quick) ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
  esac
  shift
done

path_hash=$(printf '%s' "$root" | cksum | cut -d' ' -f1)
build=${CPOOL_BUILD_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/libcpool/$path_hash}/bench
mkdir -p "$build" && build=$(cd "$build" && pwd -P) || exit 1
packages_install "$PACKAGES_TEST" || exit 1

quietly() {
  "$@" >"$build/command.log" 2>&1 </dev/null && return 0
  tail -n 100 "$build/command.log" >&2
  return 1
}

generator=()
[ -f "$build/CMakeCache.txt" ] || ! command -v ninja >/dev/null || generator=(-G Ninja)
quietly cmake -S "$root" -B "$build" ${generator[@]+"${generator[@]}"} -DCMAKE_BUILD_TYPE=Release \
  -DCPOOL_BUILD_TESTS=OFF -DCPOOL_BUILD_EXAMPLES=OFF -DCPOOL_BUILD_BENCH=ON || exit 1

# In the order of the table. client and textbook are run by requests, ws_library and ws_textbook by ws.
names=(requests burst stream session stats memory handoff sse admission ws ws_registry ws_peers)
[ ! -e "$root/bench/storm.c" ] || names+=(storm)
targets=(bench_client bench_textbook bench_ws_library bench_ws_textbook)
for name in "${names[@]}"; do targets+=("bench_$name"); done
quietly cmake --build "$build" --parallel "$(nproc)" --target "${targets[@]}" || exit 1

rows=() failed=() began=$SECONDS
for name in "${names[@]}"; do
  # A missed reach is a row of the table, and may be an exit status of 1; a row is the least that a program owes.
  arguments=(${quick[@]+"${quick[@]}"})
  [ "$name" != storm ] || [ ${#quick[@]} = 0 ] || arguments=(1 10000) # its seed and number of requests
  output=$("$build/bench_$name" ${arguments[@]+"${arguments[@]}"} </dev/null)
  status=$?
  before=${#rows[@]}
  while IFS= read -r line; do
    case $line in
      question\|*) ;;
      *\|ok | *\|missed) rows+=("$line") ;;
    esac
  done <<<"$output"
  [ "$status" -le 1 ] && [ "${#rows[@]}" -gt "$before" ] || failed+=("$name (status $status)")
done

table() {
  local line
  echo "| question | measured | reach | |"
  echo "|---|---|---|---|"
  for line in "${rows[@]}"; do printf '| %s |\n' "${line//|/ | }"; done
}

version_of() { pkg-config --modversion "$1"; }

machine() {
  printf 'CPU: %s, %s of them; ' "$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1)" "$(nproc)"
  printf 'kernel %s; ' "$(uname -r)"
  printf 'libcurl %s, libwebsockets %s, libuv %s, ' "$(version_of libcurl)" "$(version_of libwebsockets)" \
    "$(version_of libuv)"
  printf 'c-ares %s, OpenSSL %s; ' "$(version_of libcares)" "$(version_of openssl)"
  printf 'nginx %s; ' "$(nginx -v 2>&1 | sed 's,.*/,,; s, .*,,')"
  printf '%s\n' "$(cc --version | head -n 1)"
}

readme() {
  cat <<END
<!-- README: what was measured, where and with which command; written by bench/run.sh -->
# Benchmarks

    bench/run.sh

printed this in $((SECONDS - began)) s:

$(table)

Machine: $(machine).

The client's threads are on CPU 0, nginx or another peer on CPU 1. CPU is user and system time of the client's process.
A ratio is of two runs that followed one another; its median is shown, with least and most of the rounds. The textbook
is bench/textbook.c: libcurl's documented multi + epoll pattern, easy handles kept, no time-outs, no limits, no
statistics. Both sides send the same bytes and collect head and body of each answer. Of WebSockets it is bench/ws_textbook.c:
a server as libwebsockets' examples write it, on CPU 1 as ours is; its clients are on CPU 0, and CPU is that of the server's
process. bench/ws_registry.c and bench/ws_peers.c measure ours alone. Each program's first lines say what it counts.
END
}

table
[ ${#quick[@]} -gt 0 ] || readme >"$root/bench/README.md" || exit 1
[ ${#failed[@]} = 0 ] || {
  printf 'did not run: %s\n' "${failed[@]}" >&2
  exit 1
}
