# SPDX-License-Identifier: Apache-2.0
# Numbered steps with a progress line, for the scripts in this folder; to be sourced.
# It knows nothing about what the steps do.
#
#   startSteps NAME COUNT            logs go to build/logs/NAME
#   runStep TITLE COMMAND...         output to a log; the end of it is shown on failure
#   showStep TITLE COMMAND...        output to the terminal
#   skipStep TITLE REASON
#   runStepOrGoOn TITLE COMMAND...   as runStep; a failure is the caller's to handle

repositoryRoot=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
stepName='' stepCount=0 stepNumber=0 stepsBegan=$SECONDS stepTicker=''

startSteps() {
  stepName=$1 stepCount=$2 stepNumber=0 stepsBegan=$SECONDS
  stepLogs=$repositoryRoot/build/logs/$stepName
  mkdir -p "$stepLogs"
  trap 'stopTicker; exit 130' INT TERM
}

# "42 s", "3 min 05 s"
elapsed() {
  local seconds=$(($1))
  if [ $seconds -lt 60 ]; then
    printf '%d s' $seconds
  else
    printf '%d min %02d s' $((seconds / 60)) $((seconds % 60))
  fi
}

# What a build or a test run says about how far it is: "[12/340]", " 7/43 Test ".
howFar() {
  tail -c 65536 "$1" 2>/dev/null | tr '\r' '\n' |
    grep -oE '^\[[0-9]+/[0-9]+\]|^ *[0-9]+/[0-9]+ Test' | tail -n 1 |
    tr -d '[] ' | sed 's/Test//'
}

# Rewrites one line each second on a terminal; else a line every 30 seconds.
tick() {
  local title=$1 log=$2 began=$SECONDS period=30 far
  [ -t 2 ] && period=1
  while sleep $period >/dev/null 2>&1; do
    far=$(howFar "$log")
    if [ -t 2 ]; then
      printf '\r\033[K%s ... %s%s' "$title" "${far:+$far, }" \
        "$(elapsed SECONDS-began)" >&2
    else
      printf '%s ... %s%s\n' "$title" "${far:+$far, }" \
        "$(elapsed SECONDS-began)" >&2
    fi
  done
}

stopTicker() {
  [ -n "$stepTicker" ] || return 0
  kill "$stepTicker" 2>/dev/null
  wait "$stepTicker" 2>/dev/null
  stepTicker=''
}

nextTitle() {
  stepNumber=$((stepNumber + 1))
  stepTitle="[$stepNumber/$stepCount] $1"
}

runStepOrGoOn() {
  nextTitle "$1"
  shift
  local log=$stepLogs/$stepNumber.log began=$SECONDS status=0
  printf '%s ...' "$stepTitle" >&2
  [ -t 2 ] || echo >&2
  tick "$stepTitle" "$log" &
  stepTicker=$!
  "$@" >"$log" 2>&1 || status=$?
  stopTicker
  [ ! -t 2 ] || printf '\r\033[K' >&2
  if [ $status -eq 0 ]; then
    printf '%s: done, %s\n' "$stepTitle" "$(elapsed SECONDS-began)" >&2
  else
    printf '%s: failed after %s; the end of %s:\n' "$stepTitle" \
      "$(elapsed SECONDS-began)" "${log#"$PWD"/}" >&2
    tail -n 25 "$log" | sed 's/^/    /' >&2
  fi
  return $status
}

runStep() { runStepOrGoOn "$@" || exit 1; }

showStep() {
  nextTitle "$1"
  shift
  printf '%s\n' "$stepTitle" >&2
  "$@"
}

skipStep() {
  nextTitle "$1"
  printf '%s: not needed, %s\n' "$stepTitle" "$2" >&2
}

# Asks for the password before output is redirected, if packages are missing.
prepareInstall() {
  "$repositoryRoot/tools/install-deps" --missing >/dev/null && return
  [ "$(id -u)" = 0 ] || ! command -v sudo >/dev/null || sudo -v
}

# Configures a preset and builds the targets named, or everything.
configureAndBuild() {
  local preset=$1
  shift
  (cd "$repositoryRoot" &&
    cmake --preset "$preset" && cmake --build --preset "$preset" ${1:+--target "$@"})
}
