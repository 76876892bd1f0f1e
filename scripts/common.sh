# Sourced by the scripts beside it: one place for the settings of every dotnet call.
# shellcheck shell=bash

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly top
cd "$top" || exit 1

# No process may outlive a script: worker nodes, the build server and the compiler server would otherwise stay for
# minutes, hold files, and count as strays on a CI machine.
export MSBUILDDISABLENODEREUSE=1
export DOTNET_CLI_USE_MSBUILD_SERVER=0
export UseSharedCompilation=false
export DOTNET_CLI_TELEMETRY_OPTOUT=1
export DOTNET_NOLOGO=1
# The SDK refuses to start where libicu is missing, as on a minimal Debian; nothing here depends on cultures.
export DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1
# A look for known vulnerabilities needs the registry at every restore: a machine that has all packages could not build
# without a network.
export NuGetAudit=false
# Our output is read by people and by scripts: no colours or cursor movements from the tools below.
export DOTNET_CLI_UI_LANGUAGE=en
export MSBUILDTERMINALLOGGER=off

step() { printf '== %s\n' "$*"; }

# build CONFIGURATION: the whole solution, warnings as errors (Directory.Build.props). Quiet when it works.
build() {
  local log
  log=$(mktemp)
  if ! dotnet build ImageMount.sln -c "$1" --nologo -v quiet -clp:NoSummary -warnaserror >"$log" 2>&1; then
    sort -u "$log" | tail -n 60 >&2
    rm -f "$log"
    return 1
  fi
  rm -f "$log"
}
