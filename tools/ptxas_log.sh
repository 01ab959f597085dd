#!/bin/sh
# Runs a compiler command and moves what `ptxas -v` says out of its messages, into OBJECT.ptxas.
object=
previous=
for word in "$@"; do
  [ "$previous" = -o ] && object=$word
  previous=$word
done
[ -n "$object" ] || exec "$@"
said=$object.said
"$@" 2>"$said"
status=$?
ptxas='^ptxas info\|^ *[0-9]* bytes stack frame'
grep "$ptxas" "$said" >"$object.ptxas"
grep -v "$ptxas" "$said" >&2
rm -f "$said"
exit $status
