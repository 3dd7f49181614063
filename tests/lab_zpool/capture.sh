#!/bin/sh
# capture.sh PART...: makes pools, harms them and saves what `zpool` and the
# kstat say of each. Runs in the lab as root, there only: it destroys pools.
# PART: files (pools on files in memory), dm (device-mapper on virtio-disk4 and
# 5), pulled0 and pulled1 (before and after virtio-disk1 is pulled).
# The fixtures are written to /captures.
# shellcheck disable=SC2046 # what `paths` prints are words without blanks
set -u
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 TZ=UTC
V=/vdevs OUT=/captures P=/sys/module/zfs/parameters
mkdir -p $V $OUT
mountpoint -q $V || mount -t tmpfs -o size=2G tmpfs $V
modprobe zfs

say() { echo "capture: $*" >&2; }
# file NAME...: sparse files for vdevs.
file() { for f; do rm -f "$V/$f"; truncate -s "${SIZE:-128M}" "$V/$f"; done; }
paths() { for f; do printf '%s/%s ' $V "$f"; done; }
# data POOL MIB: random data in it, on the disks.
data() { dd if=/dev/urandom of="/$1/data" bs=1M count="$2" status=none; zpool sync "$1"; }
freeze() { echo 1 >$P/zfs_scan_suspend_progress; }
thaw() { echo 0 >$P/zfs_scan_suspend_progress; }
# end POOL: away with it and its files.
end() { thaw; zpool destroy -f "$1"; rm -rf "${V:?}"/*; }
until_true() { # SECONDS COMMAND
    n=$(($1 * 5)); shift
    while ! eval "$*" >/dev/null 2>&1; do
        n=$((n - 1)); [ $n -gt 0 ] || { say "never came true: $*"; return 1; }
        sleep 0.2
    done
}
# take NAME POOL [ARGS]: the four files of a capture.
take() {
    name=$1 pool=$2; shift 2
    timeout -k 2 20 zpool status -j --json-int "$@" "$pool" >$OUT/"$name".json || say "$name: status failed"
    timeout -k 2 20 zpool status -pPs "$@" "$pool" >$OUT/"$name".txt
    timeout -k 2 20 zpool list -j --json-int -v "$pool" >$OUT/"$name".list.json
    echo "$pool $(cat /proc/spl/kstat/zfs/"$pool"/state)" >$OUT/"$name".kstat
    say "$name: $(cat $OUT/"$name".kstat)"
}
# middle POOL: lets a scan run until it has issued something, then stops it.
middle() {
    n=0
    while [ $n -lt 100 ]; do
        thaw; sleep 0.05; freeze; zpool sync "$1"
        zpool status -j --json-int "$1" | grep -q '"issued":[1-9]' && return
        n=$((n + 1))
    done
    say "no middle for $1"
}
slow() { # few blocks a transaction group
    echo 1 >$P/zfs_scan_legacy; echo 1 >$P/zfs_resilver_min_time_ms
    echo 1 >$P/zfs_scrub_min_time_ms 2>/dev/null
}

layouts() {
    file f0 f1; zpool create -f tank $(paths f0 f1); data tank 4; take 20-stripe tank; end tank
    file f0; zpool create -f tank $(paths f0); take 21-single tank; end tank
    file f0 f1 f2; zpool create -f tank mirror $(paths f0 f1 f2); take 22-mirror3 tank; end tank
    file f0 f1 f2 f3; zpool create -f tank mirror $(paths f0 f1) mirror $(paths f2 f3); take 23-two-mirrors tank; end tank
    file f0 f1 f2; zpool create -f tank raidz1 $(paths f0 f1 f2); take 24-raidz1 tank; end tank
    file f0 f1 f2 f3 f4; zpool create -f tank raidz3 $(paths f0 f1 f2 f3 f4); take 25-raidz3 tank; end tank
    file f0 f1 f2 f3 f4 f5 f6 f7 f8 f9 f10 f11
    zpool create -f tank raidz2 $(paths f0 f1 f2 f3) special mirror $(paths f4 f5) dedup mirror $(paths f6 f7) \
        log mirror $(paths f8 f9) cache $(paths f10) spare $(paths f11)
    data tank 4; take 26-all-classes tank
    zpool offline -f tank $V/f8; zpool offline tank $V/f10; take 27-log-and-cache-lost tank
    zpool offline -f tank $V/f5; take 28-special-degraded tank; end tank
    file f0 f1 f2 f3 f4 f5
    zpool create -f tank raidz2 $(paths f0 f1 f2 f3) special $(paths f4) dedup $(paths f5); take 29-single-special-and-dedup tank; end tank
    file f0 f1 f2 f3; zpool create -f -d tank raidz1 $(paths f0 f1 f2); take 30-features-off tank; end tank
    mkdir -p "$V/a b"; file f0 'ü'; truncate -s 128M "$V/a b/c d"
    zpool create -f 'my.pool-1:x' mirror $V/f0 "$V/ü" "$V/a b/c d"
    take 31-odd-names my.pool-1:x; end my.pool-1:x
}

draid() {
    file f0 f1 f2 f3 f4 f5 f6 f7; zpool create -f tank draid2:4d:8c:1s $(paths f0 f1 f2 f3 f4 f5 f6 f7)
    data tank 24; take 32-draid2 tank
    zpool offline -f tank $V/f3; take 33-draid2-faulted tank
    freeze; zpool replace tank $V/f3 draid2-0-0; sleep 1; take 34-draid2-spare-rebuild tank
    thaw; zpool wait -t resilver tank; take 35-draid2-spare-in-use tank
    end tank
    file f0 f1 f2 f3 f4 f5; zpool create -f tank draid1:3d:6c:1s $(paths f0 f1 f2 f3 f4 f5); data tank 24
    zpool offline -f tank $V/f3; zpool replace -s tank $V/f3 draid1-0-0
    take 87-draid1-rebuild tank; zpool wait -t resilver tank; take 88-draid1-rebuild-done tank; end tank
}

lost() {
    file f0 f1 f2; zpool create -f tank raidz1 $(paths f0 f1 f2); data tank 8
    zpool offline tank $V/f1; take 36-offline tank
    data tank 16; slow; freeze; zpool online tank $V/f1; sleep 1; take 37-online-again-0 tank
    middle tank; take 38-online-again-middle tank
    thaw; zpool wait -t resilver tank; take 39-online-again-done tank; end tank
    file f0 f1 f2 f3; zpool create -f tank raidz2 $(paths f0 f1 f2 f3); data tank 8
    zpool offline -f tank $V/f1; take 40-faulted tank
    zpool offline -f tank $V/f2; take 41-two-faulted tank; end tank
    file f0 f1 f2 f3; zpool create -f tank raidz2 $(paths f0 f1 f2 f3); data tank 8
    zpool export tank; dd if=/dev/zero of=$V/f1 bs=1M count=128 conv=notrunc status=none
    zpool import -d $V tank; take 42-wiped tank
    zpool export tank; rm $V/f2; zpool import -d $V tank; take 43-wiped-and-missing tank; end tank
    file f0 f1; zpool create -f tank mirror $(paths f0 f1); data tank 8
    zpool offline -f tank $V/f0; take 44-mirror-degraded tank; end tank
}

# over FILE...: bytes over a member, not over its labels.
over() { for f; do dd if=/dev/urandom of=$V/"$f" bs=1M seek=5 count=100 conv=notrunc status=none; done; }
# scrubbed POOL: a whole scrub.
scrubbed() { zpool scrub "$1"; zpool wait -t scrub "$1"; }

errors() {
    file f0 f1 f2 f3; zpool create -f tank raidz2 $(paths f0 f1 f2 f3); data tank 16
    over f1; scrubbed tank; take 45-checksum-errors tank; end tank
    file f0 f1 f2 f3; zpool create -f tank raidz2 $(paths f0 f1 f2 f3); data tank 16
    over f1 f2; scrubbed tank; take 46-checksum-errors-two tank; end tank
    file f0 f1 f2; zpool create -f tank raidz1 $(paths f0 f1 f2); data tank 16
    over f1 f2; scrubbed tank; take 47-data-errors tank; take 48-data-errors-listed tank -v; end tank
}

replacing() {
    slow
    file f0 f1 f2 f3 f4; zpool create -f tank raidz2 $(paths f0 f1 f2 f3); data tank 24
    freeze; zpool replace tank $V/f0 $V/f4; sleep 1; take 49-replace-whole-0 tank
    middle tank; take 50-replace-whole-middle tank
    zpool offline -f tank $V/f2; take 51-replace-whole-second-lost tank
    thaw; zpool wait -t resilver tank; take 52-replace-whole-done tank; end tank
    file f0 f1 f2 f3 f4 f5; zpool create -f tank raidz2 $(paths f0 f1 f2 f3); data tank 24
    zpool offline -f tank $V/f1
    freeze; zpool replace tank $V/f1 $V/f4; sleep 1; take 53-replace-faulted-0 tank
    middle tank; take 54-replace-faulted-middle tank
    zpool offline -f tank $V/f2; take 55-replace-faulted-second-lost tank
    zpool replace tank $V/f2 $V/f5; sleep 1; take 56-replace-deferred tank
    thaw; zpool wait -t resilver tank; sleep 1; zpool wait -t resilver,replace tank; take 57-replace-faulted-done tank; end tank
    file f0 f1 f2 f3; zpool create -f tank raidz2 $(paths f0 f1 f2) spare $V/f3; data tank 24
    zpool offline -f tank $V/f1; freeze; zpool replace tank $V/f1 $V/f3; sleep 1; take 58-spare-resilver-0 tank
    middle tank; take 59-spare-resilver-middle tank
    thaw; zpool wait -t resilver tank; take 60-spare-in-use tank
    zpool detach tank $V/f1; take 61-spare-kept tank; end tank
    file f0 f1; zpool create -f tank $(paths f0); data tank 16
    freeze; zpool attach tank $V/f0 $V/f1; sleep 1; take 62-attach-0 tank; middle tank; take 63-attach-middle tank
    thaw; zpool wait -t resilver tank; take 64-attach-done tank; end tank
    file f0 f1 f2; zpool create -f tank mirror $(paths f0 f1); data tank 24
    zpool offline -f tank $V/f1
    freeze; zpool replace -s tank $V/f1 $V/f2; sleep 1; take 65-rebuild tank
    thaw; zpool wait -t resilver tank; take 66-rebuild-done tank; end tank
}

scrubs() {
    slow
    file f0 f1 f2; zpool create -f tank raidz1 $(paths f0 f1 f2); data tank 24
    freeze; zpool scrub tank; sleep 1; take 67-scrub-0 tank; middle tank; take 68-scrub-middle tank
    zpool scrub -p tank; sleep 1; take 69-scrub-paused tank
    zpool scrub tank; zpool scrub -s tank; take 70-scrub-cancelled tank
    thaw; scrubbed tank; take 71-scrub-done tank; end tank
}

others() {
    file f0 f1 f2 f3 f4 f5; zpool create -f tank mirror $(paths f0 f1) mirror $(paths f2 f3) mirror $(paths f4 f5); data tank 4
    zpool remove tank mirror-1; zpool wait -t remove tank; take 72-vdev-removed tank
    zpool checkpoint tank; take 73-checkpoint tank; end tank
    file f0 f1 f2; zpool create -f tank mirror $(paths f0 f1) log $V/f2
    zpool remove tank $V/f2; zpool add -f tank mirror $(file f3 f4; paths f3 f4)
    zpool initialize tank; zpool initialize -s tank; take 74-initialize tank -i
    zpool trim tank; sleep 1; take 75-trim tank -t; end tank
    file f0 f1 f2 f3; zpool create -f tank raidz1 $(paths f0 f1 f2); data tank 24
    before=$(cat $P/raidz_expand_max_reflow_bytes)
    echo 4194304 >$P/raidz_expand_max_reflow_bytes
    zpool attach tank raidz1-0 $V/f3; sleep 2; take 76-raidz-expand tank
    echo "$before" >$P/raidz_expand_max_reflow_bytes
    zpool wait -t raidz_expand tank; take 77-raidz-expand-done tank; end tank
    file f0 f1; zpool create -f tank mirror $(paths f0 f1)
    id=$(cat /sys/module/spl/parameters/spl_hostid)
    echo $((id + 1)) >/sys/module/spl/parameters/spl_hostid; take 78-hostid tank
    echo "$id" >/sys/module/spl/parameters/spl_hostid; end tank
}

# dead DEVICE, alive DEVICE: what a device-mapper device answers.
D4=/dev/disk/by-id/virtio-disk4 D5=/dev/disk/by-id/virtio-disk5
table() { echo "0 $(blockdev --getsz "$2") $1 ${3:-}"; }
load() { dmsetup suspend --nolockfs --noflush "$1"; dmsetup load "$1" --table "$2"; dmsetup resume "$1"; }

dm() {
    modprobe dm-mod
    for how in wait continue; do
        dmsetup create d4 --table "$(table linear $D4 "$D4 0")"; dmsetup create d5 --table "$(table linear $D5 "$D5 0")"
        zpool create -f -o failmode=$how tank mirror /dev/mapper/d4 /dev/mapper/d5; data tank 4
        load d4 "$(table error $D4)"; load d5 "$(table error $D5)"
        (dd if=/dev/zero of=/tank/more bs=64k count=16 conv=fsync status=none &) 2>/dev/null
        until_true 40 grep -q SUSPENDED /proc/spl/kstat/zfs/tank/state
        case $how in wait) take 79-suspended-wait tank ;; *) take 80-suspended-continue tank ;; esac
        load d4 "$(table linear $D4 "$D4 0")"; load d5 "$(table linear $D5 "$D5 0")"
        zpool clear tank; until_true 40 '! grep -q SUSPENDED /proc/spl/kstat/zfs/tank/state'
        [ $how = wait ] && take 81-suspended-cleared tank
        sleep 2; zpool destroy -f tank; udevadm settle; dmsetup remove --retry d4; dmsetup remove --retry d5
    done
    # One side answers every write with an error: taken out of use by ZFS.
    dmsetup create d4 --table "$(table linear $D4 "$D4 0")"
    zpool create -f tank mirror /dev/mapper/d4 $D5; data tank 4
    load d4 "$(table error $D4)"; data tank 4; sleep 1; take 82-io-errors tank
    zpool destroy -f tank; udevadm settle; dmsetup remove --retry d4
}

pulled0() {
    zpool create -f tank raidz2 /dev/disk/by-id/virtio-disk0 /dev/disk/by-id/virtio-disk1 /dev/disk/by-id/virtio-disk2 /dev/disk/by-id/virtio-disk3
    data tank 8; take 84-disks tank
}
pulled1() {
    date >/tank/more; zpool sync tank
    until_true 30 "date >/tank/more; zpool sync tank; ! grep -q ONLINE /proc/spl/kstat/zfs/tank/state"
    take 85-disk-pulled tank
    zpool export tank; zpool import tank; take 86-disk-gone-at-import tank; zpool destroy -f tank
}

for part; do
    case $part in
        files) layouts; draid; lost; errors; replacing; scrubs; others ;;
        layouts | draid | lost | errors | replacing | scrubs | others | dm | pulled0 | pulled1) $part ;;
        *) say "there is no part $part"; exit 2 ;;
    esac
done
