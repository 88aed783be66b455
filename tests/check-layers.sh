#!/usr/bin/env bash
# Checks that arrows between the folders of src/ point down, that each library is spoken to in one place, and the top level
#
# One line per rule, `ok ...` or `FAIL ...`; the status is non-zero when one failed.
set -u
shopt -s lastpipe # so that a rule at the end of a pipe can set the status
cd "$(dirname "$0")/.." || exit 1
status=0

# rule TEXT: reads offending lines from standard input; there must be none
rule() {
  local found
  found=$(cat)
  if [ -z "$found" ]; then
    echo "ok layers: $1"
  else
    echo "FAIL layers: $1"
    sed 's/^/    /' <<<"$found"
    status=1
  fi
}

includes() { # of the header that the pattern $1 describes, as file:line:text
  grep -rnE "^[[:space:]]*#[[:space:]]*include[[:space:]]*[<\"]$1[>\"]" src --include='*.[ch]'
}

# Which folders of src/ a folder may include.
may_include() {
  case $1 in
    base) echo base ;;
    core) echo core base ;;
    pool) echo pool base ;;
    dns) echo dns core base ;;
    web) echo web core base ;;
    http) echo http web pool dns core base ;;
    ws) echo ws web dns core base ;;
  esac
}

includes 'curl/.*' | grep -vE '^src/http/|^src/web/url\.c:' | rule "libcurl is included in src/http and src/web/url.c only"
includes 'openssl/.*' | grep -vE '^src/http/tls\.c:|^src/ws/client_tls\.c:' |
  rule "OpenSSL is included in src/http/tls.c and src/ws/client_tls.c only"
includes 'libwebsockets.*' | grep -vE '^src/ws/lws_[a-z]+\.[ch]:' | rule "libwebsockets is included in src/ws/lws_*.c only"
includes 'ares.*\.h' | grep -v '^src/dns/' | rule "c-ares is included in src/dns only"
includes 'uv\.h' | grep -vE '^src/core/|^src/[a-z]+/[a-z]+_loop\.[ch]:' | rule "libuv is included in src/core and *_loop only"

includes '[^">]+/[^">]+' | grep -oE '^src/[a-z]+/[^:]+:[0-9]+:.*"[^"]+"' | while IFS= read -r line; do
  from=${line#src/} from=${from%%/*}
  to=${line#*\"} to=${to%%/*}
  case " $(may_include "$from") " in
    *" $to "*) ;;
    *) echo "$line" ;;
  esac
done | rule "a folder of src/ includes those below it only"

includes '[^/">]+' | grep '"' | rule "includes of our own headers are written from src/"

if git rev-parse --git-dir >/dev/null 2>&1; then
  git ls-files --cached --others --exclude-standard
else
  find . -type f | sed 's|^\./||'
fi | cut -d/ -f1 | sort -u | grep -vxE 'CMakeLists\.txt|include|src|tests|bench|examples|docs|README\.md|LICENSE|\..*' |
  rule "nothing else lies at the top level"

find src include -type f | grep -vE '\.(c|h|in)$' | rule "src and include hold sources only"
exit $status
