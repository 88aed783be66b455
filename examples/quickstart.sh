#!/usr/bin/env bash
# See it work: installs what is missing, builds, and fetches 10000 times through 64 connections from an origin of its own
#
#     examples/quickstart.sh                        the demonstration
#     examples/quickstart.sh -n 100 https://...     the same program, with your arguments
set -eu
root=$(cd "$(dirname "$0")/.." && pwd -P)
. "$root/tests/packages.sh"

path_hash=$(printf '%s' "$root" | cksum | cut -d' ' -f1)
build=${CPOOL_BUILD_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/libcpool/$path_hash}/quickstart
mkdir -p "$build"
work=$(mktemp -d)
nginx_pid=""

stop() {
  local i
  if [ -n "$nginx_pid" ]; then
    kill "$nginx_pid" 2>/dev/null || :
    for i in $(seq 50); do
      kill -0 "$nginx_pid" 2>/dev/null || break
      sleep 0.1
    done
    kill -KILL "$nginx_pid" 2>/dev/null || :
  fi
  rm -rf "$work"
}
trap stop EXIT
trap 'exit 130' HUP INT TERM

# Shows the output only when the command fails.
quietly() {
  "$@" >"$work/log" 2>&1 </dev/null || {
    tail -n 100 "$work/log" >&2
    return 1
  }
}

if [ $# -gt 0 ]; then
  packages_install "$PACKAGES_BUILD"
else
  packages_install "$PACKAGES_QUICKSTART"
fi

echo "building in $build"
quietly cmake -S "$root" -B "$build" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCPOOL_BUILD_TESTS=OFF -DCPOOL_BUILD_BENCH=OFF
quietly cmake --build "$build" --target cpool-fetch --parallel "$(nproc)"

if [ $# -gt 0 ]; then
  "$build/cpool-fetch" "$@"
  exit
fi

# nginx answers its first command only once it listens, so a port that is taken shows at once and the next one is tried.
start_origin() {
  local port try
  echo "hello from the origin" >"$work/index.html"
  for try in $(seq 20); do
    port=$((20000 + RANDOM % 12000))
    cat >"$work/nginx.conf" <<END
$([ "$(id -u)" != 0 ] || echo "user $(id -un) $(id -gn);")
worker_processes 1;
pid $work/nginx.pid;
error_log $work/error.log;
events { worker_connections 1024; }
http {
  access_log off;
  keepalive_requests 1000000;
  client_body_temp_path $work/body;
  proxy_temp_path $work/proxy;
  fastcgi_temp_path $work/fastcgi;
  uwsgi_temp_path $work/uwsgi;
  scgi_temp_path $work/scgi;
  server { listen 127.0.0.1:$port; root $work; default_type text/plain; }
}
END
    if nginx -q -e "$work/error.log" -p "$work" -c "$work/nginx.conf" >"$work/log" 2>&1; then
      nginx_pid=$(cat "$work/nginx.pid")
      url=http://127.0.0.1:$port/
      return 0
    fi
    grep -q "Address already in use" "$work/log" "$work/error.log" || break
  done
  cat "$work/log" "$work/error.log" >&2
  return 1
}

start_origin
echo "nginx serves $url"
echo "cpool-fetch -n 10000 -c 64 $url"
"$build/cpool-fetch" -n 10000 -c 64 "$url"
