# packages: the one list of what is needed from the system, and how it gets there; sourced by bash scripts
# shellcheck shell=bash disable=SC2034
#
# An entry is debian-package=probe. The probe decides, so that a tool or library installed by other means counts:
# a command's name, pc:NAME for a pkg-config module, so:NAME for a library that is loaded at run time, or a file's path.

PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

PACKAGES_BUILD="gcc=gcc libc6-dev=/usr/include/stdio.h make=make cmake=cmake ninja-build=ninja pkg-config=pkg-config
  libcurl4-openssl-dev=pc:libcurl libuv1-dev=pc:libuv libc-ares-dev=pc:libcares libssl-dev=pc:openssl
  libwebsockets-dev=pc:libwebsockets libwebsockets-evlib-uv=so:libwebsockets-evlib_uv.so
  zlib1g-dev=pc:zlib libcjson-dev=pc:libcjson"
PACKAGES_QUICKSTART="$PACKAGES_BUILD nginx-light=nginx openssl=openssl"
PACKAGES_TEST="$PACKAGES_BUILD libbrotli-dev=pc:libbrotlidec libzstd-dev=pc:libzstd g++=g++ libcmocka-dev=pc:cmocka libnghttp2-dev=pc:libnghttp2
  openssl=openssl
  nginx-light=nginx haproxy=haproxy dnsmasq-base=dnsmasq nghttp2-server=nghttpd python3=python3
  python3-websockets=/usr/lib/python3/dist-packages/websockets/__init__.py
  tinyproxy-bin=tinyproxy microsocks=microsocks iproute2=ip"
PACKAGES_ALL="$PACKAGES_TEST clang=clang libclang-rt-14-dev=/usr/lib/llvm-14/lib/clang/14.0.6/lib/linux
  llvm=llvm-symbolizer clang-format-14=clang-format-14 git=git debootstrap=debootstrap util-linux=unshare
  nodejs=node node-ws=/usr/share/nodejs/ws chromium=chromium"

# Runs a command as root: directly, or through sudo.
packages_as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    echo "this needs root, and sudo is not there: $*" >&2
    return 1
  fi
}

# Prints the packages of the list $1 whose probe finds nothing.
packages_missing() {
  local entry package probe
  for entry in $1; do
    package=${entry%%=*} probe=${entry#*=}
    case $probe in
      /*) [ -e "$probe" ] ;;
      so:*) compgen -G "/usr/lib*/${probe#so:}" || compgen -G "/usr/lib/*/${probe#so:}" ||
        compgen -G "/usr/local/lib/${probe#so:}" ;;
      pc:*) command -v pkg-config >/dev/null && pkg-config --exists "${probe#pc:}" ;;
      *) command -v "$probe" >/dev/null ;;
    esac >/dev/null || echo "$package"
  done
}

# Installs what is missing of the list $1; touches nothing when nothing is. Servers among the packages are not started,
# now or at boot: the tests start their own.
packages_install() {
  local missing package status=0
  missing=$(packages_missing "$1" | tr '\n' ' ')
  [ -n "$missing" ] || return 0
  echo "installing: $missing"
  if ! command -v apt-get >/dev/null; then
    echo "no apt-get here: install the equivalents of: $missing" >&2
    return 1
  fi
  # The shell that runs as root also takes the policy away again, however apt ends.
  # shellcheck disable=SC2086
  packages_as_root env DEBIAN_FRONTEND=noninteractive sh -c '
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
      trap "rm -f $policy" EXIT
      trap "exit 1" HUP INT TERM
      printf "#!/bin/sh\nexit 101\n" >"$policy" && chmod 755 "$policy"
    fi
    apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@" </dev/null' sh $missing || status=1
  if [ "$status" = 0 ] && command -v systemctl >/dev/null; then
    for package in $missing; do
      case $package in
        nginx-light) packages_as_root systemctl disable --quiet nginx || : ;;
        haproxy) packages_as_root systemctl disable --quiet haproxy || : ;;
      esac
    done
  fi
  missing=$(packages_missing "$1" | tr '\n' ' ')
  if [ -n "$missing" ]; then
    echo "still missing: $missing" >&2
    return 1
  fi
}
