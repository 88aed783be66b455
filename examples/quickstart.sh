#!/usr/bin/env bash
# See it work: installs what is missing, builds, and fetches 10 000 times from an origin of its own, over http and https
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

# nginx answers its first command only once it listens, so a port that is taken shows at once and the next pair is tried.
start_origin() {
  local port try i
  mkdir "$work/html"
  echo "hello from the origin" >"$work/html/index.html"
  quietly openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout "$work/key.pem" -out "$work/cert.pem" || return 1
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
  ssl_certificate $work/cert.pem;
  ssl_certificate_key $work/key.pem;
  server {
    listen 127.0.0.1:$port;
    listen 127.0.0.1:$((port + 1)) ssl;
    root $work/html;
  }
}
END
    if nginx -q -e "$work/error.log" -p "$work" -c "$work/nginx.conf" >"$work/log" 2>&1; then
      for i in $(seq 100); do # its file comes a moment after
        [ ! -s "$work/nginx.pid" ] || break
        sleep 0.05
      done
      nginx_pid=$(cat "$work/nginx.pid")
      http_url=http://127.0.0.1:$port/
      https_url=https://127.0.0.1:$((port + 1))/
      return 0
    fi
    grep -q "Address already in use" "$work/log" "$work/error.log" || break
  done
  cat "$work/log" "$work/error.log" >&2
  return 1
}

start_origin
set -- -n 10000 -c 64 --cacert "$work/cert.pem" "$http_url" "$https_url"
printf '\n$ cpool-fetch %s\n' "$*"
"$build/cpool-fetch" "$@"
printf '\nTry your own: examples/quickstart.sh -n 100 https://...   (all options: --help)\n'
