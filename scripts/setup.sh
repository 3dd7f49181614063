# shellcheck shell=bash disable=SC2034 # read by those who source it
# What ./run, ./test and the other scripts share: words, packages, Rust, the
# .deb. Sourced, never run. `top` is the source tree; `tools` a cache for
# programs that cargo builds and Debian has not.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$top/target}
case $target in /*) ;; *) target=$top/$target ;; esac
tools=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/hostd/tools
cargo_deb_version=3.8.0
PATH=$PATH:/usr/sbin:/sbin
command -v cargo >/dev/null || PATH=${CARGO_HOME:-${HOME:-/root}/.cargo}/bin:$PATH
export PATH
# The logs are files; what a developer has set for his shell is not for tests.
export CARGO_TERM_COLOR=never CARGO_TERM_PROGRESS_WHEN=never RUST_BACKTRACE=0

if [ -t 2 ] && [ "${NO_COLOR:-}" = "" ]; then
    bold=$'\e[1m' red=$'\e[31m' green=$'\e[32m' yellow=$'\e[33m' plain=$'\e[0m'
else
    bold='' red='' green='' yellow='' plain=''
fi

say() { printf '%s\n' "$*" >&2; }
note() { printf '%s%s%s\n' "$yellow" "$*" "$plain" >&2; }
# die WHAT [NEXT]: the reason, then what to do about it.
die() {
    printf '%s%s%s\n' "$red" "$1" "$plain" >&2
    [ $# -lt 2 ] || printf 'Next: %s\n' "$2" >&2
    exit 1
}

# --- packages ---------------------------------------------------------------

# packages_of SET...: their names, one a line.
packages_of() {
    local set
    for set in "$@"; do
        if [ "$set" = lab ]; then
            sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$top/lab/image/host-packages"
        else
            awk -v set="$set" '$1 == set { print $2 }' "$top/scripts/packages"
        fi
    done | sort -u
}

# What a command of each package is called, for systems without dpkg.
commands_of() {
    local set
    for set in "$@"; do
        if [ "$set" = lab ]; then
            printf '%s\n' qemu-system-x86_64 qemu-img mmdebstrap mke2fs sfdisk cpio zstd modprobe
        else
            awk -v set="$set" '$1 == set && $3 != "-" { print $3 }' "$top/scripts/packages"
        fi
    done | sort -u
}

missing_packages() {
    local wanted have
    wanted=$(packages_of "$@")
    # shellcheck disable=SC2086 # one word a package
    have=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' $wanted 2>/dev/null |
        awk '$2 == "installed" { print $1 }' | sort -u)
    comm -23 <(printf '%s\n' "$wanted") <(printf '%s\n' "$have")
}

distribution() { (. /etc/os-release 2>/dev/null && echo "${PRETTY_NAME:-unknown}") || echo unknown; }
codename() { (. /etc/os-release 2>/dev/null && echo "${VERSION_CODENAME:-}") || true; }

# Asks for sudo's password now, in the foreground, and keeps it fresh while the
# script runs: steps in the background cannot ask.
sudo_ready=
want_root() {
    [ "$(id -u)" -ne 0 ] || return 0
    [ -z "$sudo_ready" ] || return 0
    command -v sudo >/dev/null || die "$1 needs root, and sudo is not installed." "run it as root, or: $2"
    if ! sudo -n true 2>/dev/null; then
        [ -t 0 ] || die "$1 needs root, and nobody is here to type sudo's password." "$2"
        say "$1 needs root: sudo asks for your password."
        sudo -v || die "sudo refused." "$2"
    fi
    sudo_ready=1
    (while sleep 50 && kill -0 $$ 2>/dev/null; do sudo -n -v 2>/dev/null || exit 0; done) </dev/null >/dev/null 2>&1 &
    keep_alive=$!
}
keep_alive=

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 apt-get -y \
        -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 "$@"
}

# apt_install PACKAGE...: as it is; with fresh lists; then with QEMU's tools in
# the version of this release, for machines that have newer ones from backports
# (qemu-system-x86 and qemu-utils must be of one version).
apt_install() {
    echo "apt-get install $*"
    apt_get install --no-install-recommends "$@" && return 0
    echo "--- once more with fresh package lists"
    # A third party's broken list is no reason to stop.
    apt_get update || true
    apt_get install --no-install-recommends "$@" && return 0
    local release others=() package
    release=$(codename)
    case " $* " in *" qemu-system-x86 "* | *" qemu-utils "*) ;; *) return 1 ;; esac
    [ -n "$release" ] || return 1
    for package in "$@"; do
        case $package in qemu-utils | qemu-system-x86) ;; *) others+=("$package") ;; esac
    done
    echo "--- once more with QEMU's packages all from $release"
    apt_get install --no-install-recommends --allow-downgrades \
        "${others[@]}" "qemu-system-x86/$release" "qemu-utils/$release"
}

# need_packages SET...: says what is missing and installs it. With a function
# `step` (scripts/jobs.sh) it shows progress.
need_packages() {
    local missing command absent=()
    if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
        for command in $(commands_of "$@"); do
            command -v "$command" >/dev/null || absent+=("$command")
        done
        [ ${#absent[@]} -gt 0 ] || { note "$(distribution): packages are installed by hand here; all commands that are needed were found."; return 0; }
        die "$(distribution) has no apt-get, so missing packages cannot be installed for you.
Not found: ${absent[*]}
Debian calls the packages: $(packages_of "$@" | tr '\n' ' ')
(riemann-client comes from riemann-c-client; mmdebstrap is packaged by Fedora and Arch too.)" \
            "install the equivalents, then run this again. hostd itself needs only Rust and a C linker: cargo build --release"
    fi
    missing=$(missing_packages "$@")
    [ -n "$missing" ] || return 0
    missing=$(tr '\n' ' ' <<<"$missing"); missing=${missing% }
    say "Missing Debian packages: ${bold}$missing${plain}"
    want_root "Installing packages" "apt-get install $missing"
    # shellcheck disable=SC2086 # one word a package
    step "packages" 1200 apt_install $missing
    missing=$(missing_packages "$@" | tr '\n' ' ')
    [ -z "$missing" ] || die "These packages are still missing: $missing" "apt-get install $missing"
}

# --- Rust -------------------------------------------------------------------

how_to_get_rust() {
    if command -v rustup >/dev/null; then
        echo "rustup update stable && rustup default stable"
    elif apt-cache show rustup >/dev/null 2>&1; then
        echo "apt-get install rustup && rustup default stable   (as your own user for the second part)"
    else
        echo "install rustup as Rust's own site (the page \"Install Rust\") tells, which is one command; this release of your distribution has no package of it, and its rustc is too old"
    fi
}

# need_rust [COMPONENT...]: cargo, new enough, with fmt and clippy if asked.
need_rust() {
    local want have component
    want=$(sed -n 's/^rust-version *= *"\([0-9.]*\)".*/\1/p' "$top/Cargo.toml" | head -n 1)
    { command -v cargo && command -v rustc; } >/dev/null ||
        die "Rust is not installed (cargo and rustc are not in PATH); hostd needs $want or newer." "$(how_to_get_rust)"
    have=$(rustc --version 2>&1 | sed -n 's/^rustc \([0-9]*\.[0-9]*\.[0-9]*\).*/\1/p')
    [ -n "$have" ] || die "rustc does not say its version: $(rustc --version 2>&1 | head -n 1)" "$(how_to_get_rust)"
    if [ "$(printf '%s\n' "$want" "$have" | sort -V | head -n 1)" != "$want" ]; then
        die "Rust $have ($(command -v rustc)) is too old: hostd needs $want or newer." "$(how_to_get_rust)"
    fi
    for component in "$@"; do
        cargo "$component" --version >/dev/null 2>&1 ||
            die "cargo $component is missing." "rustup component add rustfmt clippy   (without rustup: your distribution's packages rustfmt and rust-clippy)"
    done
}

# --- the build --------------------------------------------------------------

build_release() { cargo build --release --locked --package hostd --bins; }
build_lab_tool() { cargo build --release --locked --package hostd-lab --bins; }

# The lab makes its agent in a folder of its own unless it is told of one.
export_lab() { export HOSTD_LAB_AGENT=$target/release/lab-agent; }

cargo_deb() {
    local root=$tools/cargo-deb-$cargo_deb_version
    if [ ! -x "$root/bin/cargo-deb" ]; then
        echo "installing cargo-deb $cargo_deb_version into $root (once, two minutes)"
        # From outside the tree: its target folder and lock file are not ours.
        (cd / && CARGO_TARGET_DIR=$tools/build cargo install cargo-deb --version "$cargo_deb_version" \
            --locked --no-default-features --features gzip --root "$root") || return
        rm -rf "$tools/build"
    fi
    "$root/bin/cargo-deb" "$@"
}

# Where the package is; its name says the version, its stamp what it is made of.
deb_path() {
    local version arch
    version=$(sed -n '/^\[package\]/,/^\[/s/^version *= *"\(.*\)"/\1/p' "$top/Cargo.toml")
    arch=$(dpkg --print-architecture)
    echo "$target/debian/hostd_$version-1_$arch.deb"
}

deb_inputs() {
    (cd "$top" && {
        echo "$cargo_deb_version"
        find Cargo.toml README.md hardware-notes.md debian systemd udev polkit dbus etc vm-configs -type f -print0 |
            LC_ALL=C sort -z | xargs -0 sha256sum
        sha256sum <"$target/release/hostd"
        sha256sum <"$target/release/hostctl"
    }) | sha256sum
}

# build_deb: after build_release; does nothing when nothing has changed.
build_deb() {
    local deb inputs
    deb=$(deb_path)
    inputs=$(deb_inputs)
    if [ -f "$deb" ] && [ "$(cat "$deb.inputs" 2>/dev/null)" = "$inputs" ]; then
        echo "$deb is up to date"
        return 0
    fi
    rm -f "$deb.inputs"
    # --no-build: the binaries are those that were just tested.
    (cd "$top" && cargo_deb --no-build --no-strip --locked --fast --deb-revision 1 --output "$deb") || return
    printf '%s\n' "$inputs" >"$deb.inputs"
}
