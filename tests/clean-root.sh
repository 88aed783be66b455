#!/usr/bin/env bash
# Runs the two commands, examples/quickstart.sh and tests/run.sh, on a bare Debian 12 that has never seen the project
#
# 1. debootstrap makes a minimal root from the mirror that this machine's apt uses; a tarball of it is kept for two weeks
# 2. HEAD is exported into a fresh copy of it, with this machine's name service, proxy, certificate and apt settings
# 3. both commands run inside, in mount and pid namespaces of their own, so that nothing of them stays behind
# With --backports only tests/run.sh runs, against the libcurl of Debian's backports; where none can be had the script says
# so and exits with 77.
# It needs root (or sudo) and the right to make namespaces; without them it fails, it does not pass.
set -u
root=$(cd "$(dirname "$0")/.." && pwd -P)
. "$root/tests/packages.sh"
suite=bookworm
limit_s=1500 # for each command
commands=(examples/quickstart.sh tests/run.sh) backports=no

case $* in
  "") ;;
  --backports) commands=(tests/run.sh) backports=yes ;;
  *) echo "usage: tests/clean-root.sh [--backports]" >&2 && exit 2 ;;
esac

die() {
  echo "bare Debian: NOT TESTED: $*" >&2
  exit 1
}

if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || die "this needs root, and sudo is not there"
  exec sudo --preserve-env=http_proxy,https_proxy,no_proxy,XDG_CACHE_HOME,CPOOL_BUILD_DIR "$0" "$@"
fi

packages_install "debootstrap=debootstrap util-linux=unshare git=git
  debian-archive-keyring=/usr/share/keyrings/debian-archive-keyring.gpg" || die "a tool is missing"
unshare --mount --pid --fork --propagation private mount -t tmpfs none /mnt ||
  die "this environment forbids mount or pid namespaces"
arch=$(dpkg --print-architecture)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/libcpool/clean-root
mkdir -p "$cache/archives" && rm -f "$cache"/failed-*.log || die "no cache directory"
work=$(mktemp -d) || exit 1
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 130' HUP INT TERM

# ---- 1. The base ----------------------------------------------------------------------------------------------------

# Lines "URI release" of what apt is configured for.
apt_sources=$(apt-get update --print-uris 2>/dev/null | sed -nE "s|^'(.*)/dists/([^/]+)/InRelease'.*$|\1 \2|p" | sort -u |
  awk -v suite="$suite" '$2 == suite || $2 == suite "-updates" || $2 == suite "-security"')
mirror=$(awk -v suite="$suite" '$2 == suite { print $1; exit }' <<<"$apt_sources")
if [ -z "$mirror" ]; then
  mirror=http://deb.debian.org/debian
  apt_sources="$mirror $suite"
fi
apt_proxy=""
eval "$(apt-config shell apt_proxy Acquire::http::Proxy)"
[ -z "$apt_proxy" ] || [ "$apt_proxy" = DIRECT ] || export http_proxy=${http_proxy:-$apt_proxy}

# Prints the version that the backports have of libcurl.
backports_libcurl() {
  local apt=(-o Dir::Etc::sourcelist="$work/apt.list" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::State::lists="$work/apt" -o Dir::Cache="$work/apt")
  mkdir -p "$work/apt/partial" && echo "deb $mirror $suite-backports main" >"$work/apt.list" &&
    timeout 120 apt-get "${apt[@]}" update -qq >/dev/null 2>&1 &&
    apt-cache "${apt[@]}" madison libcurl4-openssl-dev |
    awk -F' *[|] *' -v suite="$suite-backports/" 'index($3, suite) { print $2; exit }'
}

if [ $backports = yes ]; then
  libcurl=$(backports_libcurl)
  [ -n "$libcurl" ] || { echo "backports: no libcurl can be had from $mirror $suite-backports: not tested" && exit 77; }
  echo "backports: libcurl $libcurl"
  apt_sources+=$'\n'"$mirror $suite-backports"
fi

base=$cache/$suite-$arch.tar
find "$base" -mtime +14 -delete 2>/dev/null
if [ ! -f "$base" ]; then
  echo "debootstrap of $suite from $mirror"
  if ! timeout 900 debootstrap --variant=minbase --arch="$arch" \
    --keyring=/usr/share/keyrings/debian-archive-keyring.gpg "$suite" "$work/base" "$mirror" >"$work/log" 2>&1; then
    tail -n 30 "$work/log" "$work/base/debootstrap/debootstrap.log" >&2
    die "debootstrap failed"
  fi
  rm -f "$work"/base/var/cache/apt/archives/*.deb
  tar -C "$work/base" -cf "$base.$$" . && mv "$base.$$" "$base" || die "cannot keep the base in $cache"
  rm -rf "$work/base"
fi

# ---- 2. The project and the machine's settings ----------------------------------------------------------------------

inside=$work/root
mkdir -p "$inside/opt/libcpool"
tar -C "$inside" -xf "$base" || die "cannot unpack $base"
git -c safe.directory="$root" -C "$root" archive HEAD | tar -C "$inside/opt/libcpool" -x &&
  [ -f "$inside/opt/libcpool/CMakeLists.txt" ] || die "git archive HEAD failed"
[ -z "$(git -c safe.directory="$root" -C "$root" status --porcelain)" ] ||
  echo "note: HEAD is tested; the work tree has changes that are not in it"

awk '{ print "deb", $1, $2, "main" }' <<<"$apt_sources" >"$inside/etc/apt/sources.list"
cp -L /etc/resolv.conf /etc/hosts "$inside/etc/"
[ $backports = no ] ||
  printf 'Package: *curl*\nPin: release n=%s-backports\nPin-Priority: 990\n' "$suite" >"$inside/etc/apt/preferences"
for dir in auth.conf.d keyrings trusted.gpg.d; do
  [ ! -d /etc/apt/$dir ] || cp -RL /etc/apt/$dir "$inside/etc/apt/"
done
[ ! -f /etc/apt/auth.conf ] || cp /etc/apt/auth.conf "$inside/etc/apt/"
# Of apt's own settings, how to reach the mirror; not the hooks, which call programs that are not inside.
apt-config dump | grep -E '^Acquire::(http|https|Check-|Retries|ForceIPv)' >"$inside/etc/apt/apt.conf.d/90-host"
for certificates in /etc/ssl/certs/ca-certificates.crt $(sed -n 's/^Acquire::.*::CaInfo "\(.*\)";/\1/p' \
  "$inside/etc/apt/apt.conf.d/90-host"); do
  [ ! -f "$certificates" ] || install -D -m 644 "$certificates" "$inside$certificates"
done

# ---- 3. The commands ------------------------------------------------------------------------------------------------

environment=(PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 TERM=dumb)
for name in http_proxy https_proxy no_proxy; do
  [ -z "${!name-}" ] || environment+=("$name=${!name}")
done

run_inside() {
  echo
  echo "== inside: $1"
  timeout --kill-after=30 "$limit_s" unshare --mount --pid --fork --kill-child --propagation private \
    sh -ec '
      root=$1 cache=$2
      shift 2
      mount -t proc proc "$root/proc"
      mkdir -p "$root/dev/pts" && mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts" &&
        rm -f "$root/dev/ptmx" && ln -s pts/ptmx "$root/dev/ptmx"
      mkdir -p "$root/dev/shm" && mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
      mount --bind "$cache" "$root/var/cache/apt/archives"
      exec chroot "$root" env -i "$@"' sh "$inside" "$cache/archives" "${environment[@]}" \
    "/opt/libcpool/$1" >"$work/output" 2>&1 </dev/null &
  wait $!
}

failed=0
for command in "${commands[@]}"; do
  began=$SECONDS
  run_inside "$command"
  status=$?
  tail -n 40 "$work/output"
  if [ $status = 0 ]; then
    echo "bare Debian: $command works ($((SECONDS - began)) s)"
  else
    echo "bare Debian: $command FAILED with status $status ($((SECONDS - began)) s)" >&2
    cp "$work/output" "$cache/failed-$(basename "$command").log"
    echo "the whole output is in $cache/failed-$(basename "$command").log" >&2
    failed=1
  fi
done
exit $failed
