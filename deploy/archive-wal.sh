#!/bin/sh
# Store a segment of Postgres' log in an archive, for a restore to a point in time (docs/backups.md):
#   archive_command = 'sh /srv/maxxit/deploy/archive-wal.sh %p %f /archive'
# A segment that is there already must be the same: Postgres repeats a call whose success it did not store.
set -eu
segment=$1 stored=$3/$2.gz
if [ -e "$stored" ]; then
    gunzip -c "$stored" | cmp -s - "$segment" || { echo "$stored is another segment" >&2; exit 1; }
    exit 0
fi
gzip -c "$segment" >"$stored.part"
sync "$stored.part"
mv "$stored.part" "$stored"
