#!/usr/bin/env bash
# Checks that each test which docs/TESTING.md names, as `behaviour/test_close.c:close_always_finishes`, exists
#
# One line per result, `ok ...` or `FAIL ...`; the status is non-zero when one failed.
set -u
cd "$(dirname "$0")/.." || exit 1
doc=docs/TESTING.md
if [ ! -f "$doc" ]; then
  echo "FAIL docs: $doc is missing"
  exit 1
fi

missing=""
count=0
# shellcheck disable=SC2016
while IFS=: read -r file case_name; do
  count=$((count + 1))
  if [ ! -f "tests/$file" ]; then
    missing+="    tests/$file does not exist"$'\n'
  elif [ -n "$case_name" ] && ! grep -qE "^static void $case_name\(" "tests/$file"; then
    missing+="    tests/$file has no case $case_name"$'\n'
  elif [ -n "$case_name" ] && [ "$(grep -cw "$case_name" "tests/$file")" -lt 2 ]; then
    missing+="    tests/$file never runs $case_name"$'\n'
  fi
done < <(grep -oE '`(unit|behaviour|support|fuzz)/[A-Za-z0-9_]+\.c(:[A-Za-z0-9_]+)?`' "$doc" | tr -d '`' | sort -u)

if [ -n "$missing" ]; then
  echo "FAIL docs: $doc names tests that are not there"
  printf '%s' "$missing"
  exit 1
fi
if [ "$count" = 0 ]; then
  echo "FAIL docs: $doc names no test"
  exit 1
fi
echo "ok docs: the $count tests and files that $doc names exist"
