#!/usr/bin/env bash
# Runs imgmount from a checkout: builds it when the sources changed (about half a minute), then starts it.
#   ./mount.sh samples/hello.vmdk /tmp/hello       mount an image
#   ./mount.sh umount /tmp/hello                   every other verb works the same way: info, map, check, list, …
# Environment: IMAGEMOUNT_BUILD_DIR, where builds are kept (default: .build in the checkout, or, where that cannot be
# written, imagemount in the user's cache folder).
set -euo pipefail
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)

say() { printf 'mount.sh: %s\n' "$*" >&2; }

# --- what the machine must have -------------------------------------------------------------------------------------
dotnet=$(command -v dotnet || true)
if [ -z "$dotnet" ]; then
  for candidate in "${DOTNET_ROOT:-}/dotnet" "$HOME/.dotnet/dotnet" /usr/share/dotnet/dotnet /usr/lib/dotnet/dotnet; do
    [ -x "$candidate" ] && dotnet=$candidate && break
  done
fi
if [ -z "$dotnet" ]; then
  say "the .NET 10 SDK is missing. Debian does not package it; the way to get it:"
  say "  https://learn.microsoft.com/dotnet/core/install/linux-debian   (package dotnet-sdk-10.0)"
  exit 1
fi
# The built program looks for the runtime here: a dotnet unpacked into a home directory is found no other way.
export DOTNET_ROOT=${DOTNET_ROOT:-$(dirname "$(readlink -f "$dotnet")")}

if [ ! -e /dev/fuse ] && [ "$(id -u)" -eq 0 ]; then modprobe fuse 2>/dev/null || true; fi
# Only a hint here, because info, map and check need neither; imgmount itself refuses a mount that cannot work.
if [ ! -e /dev/fuse ]; then
  say "/dev/fuse is missing, so mounting will fail: load the kernel module 'fuse' (root: modprobe fuse);"
  say "  in a container, pass the device in (--device /dev/fuse)"
elif [ "$(id -u)" -ne 0 ] && ! command -v fusermount3 >/dev/null; then
  say "fusermount3 is missing, so mounting will fail for a user who is not root: apt-get install fuse3"
fi

# --- the build ------------------------------------------------------------------------------------------------------
builds=${IMAGEMOUNT_BUILD_DIR:-$here/.build}
if ! mkdir -p "$builds" 2>/dev/null || [ ! -w "$builds" ]; then
  builds=${XDG_CACHE_HOME:-$HOME/.cache}/imagemount
  mkdir -p "$builds"
fi

# A build is named after the content of everything it is made from, so that an edit, a checkout of another version, or
# a deleted file gives another build, and touching a file does not.
fingerprint() {
  (cd "$here" &&
    find src Directory.Build.props Directory.Packages.props \
      \( -name bin -o -name obj \) -prune -o -type f -print0 |
    LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c 1-16)
}

# Removes builds of other sources, but never one whose program is still serving a mount: it loads parts on demand.
remove_old_builds() {
  local old
  for old in "$builds"/imgmount-*; do
    if [ ! -d "$old" ] || [ "$old" = "$1" ]; then continue; fi
    # shellcheck disable=SC2010  # links are read, names are ours
    ls -l /proc/[0-9]*/exe 2>/dev/null | grep -qF -- "-> $old/" || rm -rf "$old"
  done
}

publish() {
  local log=$builds/build.log version
  # No node or server process stays behind. Invariant globalization: the SDK refuses to start where libicu is missing,
  # as on a minimal Debian.
  export MSBUILDDISABLENODEREUSE=1 DOTNET_CLI_USE_MSBUILD_SERVER=0 MSBUILDTERMINALLOGGER=off
  export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1 DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1
  if ! version=$("$dotnet" --version 2>"$log"); then
    cat "$log" >&2
    say "$dotnet does not run (its message is above)"
    return 1
  fi
  case "${version%%.*}" in
    [1-9][0-9]) ;;
    *) say "found .NET SDK '$version' ($dotnet), but 10 or later is needed (package dotnet-sdk-10.0):"
       say "  https://learn.microsoft.com/dotnet/core/install/linux-debian"
       return 1 ;;
  esac
  [ -t 2 ] && say "building imgmount (once; later runs start at once)"
  # --artifacts-path keeps these outputs apart from those of 'dotnet build', whose restore differs (no runtime id).
  # ReadyToRun: machine code is made now rather than at every start. NuGetAudit=false: without it a machine that has all
  # packages, but no network, could not build.
  "$dotnet" publish "$here/src/ImageMount.Cli/ImageMount.Cli.csproj" --nologo -v quiet -c Release \
      --use-current-runtime --no-self-contained -p:PublishReadyToRun=true -p:NuGetAudit=false -p:UseSharedCompilation=false \
      --artifacts-path "$builds/artifacts" -o "$1.part" >"$log" 2>&1 </dev/null || {
    # The same message comes once per project.
    sed -E 's/^.*(error|warning) (NU[0-9]+)/\1 \2/; s/ \[[^]]*\]$//' "$log" | awk '!seen[$0]++' | tail -n 25 >&2
    say "the build failed; the whole log is $log"
    return 1
  }
  rm -rf "$1"
  mv "$1.part" "$1"
}

build=$builds/imgmount-$(fingerprint)
if [ ! -x "$build/imgmount" ]; then
  # One build at a time; whoever waited finds it done. The lock is on a descriptor that imgmount does not inherit.
  (
    flock 9
    [ -x "$build/imgmount" ] || publish "$build" || exit 1
    remove_old_builds "$build"
  ) 9>"$builds/lock" || exit 1
fi

# For scripts that start the program themselves (scripts/bench): build, then only say where it is.
if [ "${IMAGEMOUNT_BUILD_ONLY:-}" = 1 ]; then
  printf '%s\n' "$build/imgmount"
  exit 0
fi
exec "$build/imgmount" "$@"
