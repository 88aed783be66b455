#!/usr/bin/env bash
# Checks README.md and docs/ against the tree: tests/check-readme.sh [BUILD_DIR]
#
# Links lead somewhere, files and names exist, docs/DESIGN.md has every file and every state of src/, and, with the
# directory of a build, the program in README.md compiles without a warning and fetches from a server.
# One line per check, `ok ...` or `FAIL ...`; the status is non-zero when one failed.
# shellcheck disable=SC2016,SC2317
set -u
cd "$(dirname "$0")/.." || exit 1
build=${1:-}
status=0
docs=(README.md docs/*.md)

# none TEXT: reads offending lines from standard input; there must be none
none() {
  local found
  found=$(cat)
  if [ -z "$found" ]; then
    echo "ok readme: $1"
  else
    echo "FAIL readme: $1"
    sed 's/^/    /' <<<"$found"
    status=1
  fi
}

# ---- Documents ------------------------------------------------------------------------------------------------------

dead_links() {
  local doc link
  for doc in "${docs[@]}"; do
    grep -oE '\]\([^)#]+' "$doc" | cut -c3- | grep -vE '^[a-z]+:' | while IFS= read -r link; do
      [ -e "$(dirname "$doc")/$link" ] || echo "$doc: $link"
    done
  done
}

missing_files() {
  local name
  grep -ohE '`(src|include|tests|examples|bench|docs)/[A-Za-z0-9_./-]+`' "${docs[@]}" | tr -d '`' | sort -u |
    while IFS= read -r name; do
      [ -e "$name" ] || echo "$name"
    done
  grep -ohE '`test_[a-z0-9_]+\.c`' "${docs[@]}" | tr -d '`' | sort -u | while IFS= read -r name; do
    [ -n "$(find tests -name "$name")" ] || echo "$name"
  done
}

# cpool_foo and CPOOL_FOO as whole words; those that end in _ or are followed by * stand for several.
unknown_names() {
  local name
  find include src tests bench CMakeLists.txt \( -name '*.[ch]' -o -name '*.sh' -o -name CMakeLists.txt \) \
    -exec cat {} + >"$work/code"
  grep -ohE '`[^`]*`' "${docs[@]}" | grep -oE '\b(cpool|CPOOL)_[A-Za-z0-9_]*\b\*?' | grep -vE '(_|\*)$' | sort -u |
    while IFS= read -r name; do
      grep -qwF -- "$name" "$work/code" || echo "$name"
    done
}

undocumented_files() {
  local file name
  for file in src/*/*.c src/*/*.h; do
    name=${file#src/}
    grep -qF "\`${name%.*}\`" docs/DESIGN.md || echo "$file"
  done | sort -u
}

# The values of the enums that are states, or what moves them.
undocumented_states() {
  local value
  cat src/*/*.h | awk '
    /^ *enum cpool__[a-z_]*(_state|_abort|decision_kind)( |$)/ && /\{/ { on = 1 }
    on { print }
    on && /\}/ { on = 0 }' | sed 's|/\*.*||' | grep -oE 'CPOOL__[A-Z0-9_]+' | sort -u | while IFS= read -r value; do
    grep -qwF "$value" docs/DESIGN.md || echo "$value"
  done
}

# ---- The program in README.md ---------------------------------------------------------------------------------------

nginx_pid=""
work=$(mktemp -d) || exit 1
stop() {
  local i
  if [ -n "$nginx_pid" ] && kill "$nginx_pid" 2>/dev/null; then
    for ((i = 0; i < 50; i++)); do
      kill -0 "$nginx_pid" 2>/dev/null || break
      sleep 0.1
    done
  fi
  rm -rf "$work"
}
trap stop EXIT
trap 'exit 1' HUP INT TERM

# nginx answers its first command only once it listens, so a port that is taken shows at once.
start_server() {
  local try port
  echo "hello from the server" >"$work/index.html"
  for ((try = 0; try < 20; try++)); do
    port=$((20000 + RANDOM % 12000))
    cat >"$work/nginx.conf" <<END
$([ "$(id -u)" != 0 ] || echo "user $(id -un) $(id -gn);")
pid $work/nginx.pid;
error_log $work/error.log;
events {}
http {
  access_log off;
  client_body_temp_path $work/body;
  proxy_temp_path $work/proxy;
  fastcgi_temp_path $work/fastcgi;
  uwsgi_temp_path $work/uwsgi;
  scgi_temp_path $work/scgi;
  server { listen 127.0.0.1:$port; root $work; }
}
END
    if PATH=$PATH:/usr/sbin nginx -q -e "$work/error.log" -p "$work" -c "$work/nginx.conf" >"$work/log" 2>&1; then
      nginx_pid=$(cat "$work/nginx.pid")
      url=http://127.0.0.1:$port/
      return 0
    fi
  done
  cat "$work/log" "$work/error.log"
  return 1
}

# Prints what is wrong.
example() {
  local so out
  so=$(find "$build" -name libcpool.so | head -n 1)
  [ -n "$so" ] || { echo "no libcpool.so in $build"; return; }
  awk '/^```c$/ { on = 1; next } /^```/ && on { exit } on' README.md >"$work/example.c"
  [ -s "$work/example.c" ] || { echo "README.md has no C block"; return; }
  "${CC:-gcc}" -std=c11 -Wall -Wextra -Werror -Iinclude "$work/example.c" -o "$work/example" -L"$(dirname "$so")" -lcpool \
    -Wl,-rpath,"$(dirname "$so")" 2>&1 || return
  out=$(timeout 60 "$work/example" "$url" 2>&1) || echo "status $? from a good URL"
  [ "$out" = "success: HTTP 200, 22 bytes" ] || echo "it printed: $out"
  ! timeout 60 "$work/example" ftp://nowhere/ >/dev/null 2>&1 || echo "no failure from a refused URL"
}

dead_links | none "links lead to files of the tree"
missing_files | none "files named in README.md and docs/ exist"
unknown_names | none "names of the library in README.md and docs/ exist"
undocumented_files | none "docs/DESIGN.md has a line for each file of src/"
undocumented_states | none "docs/DESIGN.md has each state of src/"
if [ -n "$build" ]; then
  if start_server >"$work/start" 2>&1; then
    example | none "the program in README.md compiles and fetches"
  else
    none "the program in README.md compiles and fetches" <"$work/start"
  fi
fi
exit $status
