# For other scripts to source: runs steps one after the other or side by side, goes on where one fails, and sums up
# with times. Ctrl-C, or SIGTERM, ends the steps with all that they have started, and waits for them.

set -m # each step is a process group of its own
lanes=2
begun=0
steps=$(mktemp --directory)
# Hundreds of short programs are started; each would be compiled anew, which together takes longer than most steps.
unset PYTHONDONTWRITEBYTECODE
trap 'rm -rf "$steps"' EXIT
trap end_steps INT TERM

# step NAME COMMAND...: run one step and remember how it went.
step() {
  local name=$1
  shift
  begun=$((begun + 1))
  printf '\n── %s\n' "$name"
  timed "$name" "$@" &
  wait "$!" || true
}

# beside NAME COMMAND...: run one step beside those that follow, as soon as a lane is free; what it prints is shown in
# one piece when it has ended.
beside() {
  while [ "$(jobs -pr | wc -l)" -ge "$lanes" ]; do wait -n || true; done
  begun=$((begun + 1))
  aside "$@" &
}

# steps_done: wait for steps that still run and print the summary; false unless all have passed.
steps_done() {
  wait
  printf '\n'
  cat "$steps/summary"
  [ "$(grep --count ^passed "$steps/summary")" = "$begun" ]
}

aside() {
  local output name=$1
  output=$(mktemp --tmpdir="$steps")
  timed "$@" >"$output" 2>&1
  printf '\n── %s\n' "$name" | flock "$steps" cat - "$output"
}

timed() {
  local name=$1 begin=$SECONDS result=passed
  shift
  "$@" </dev/null || result=FAILED
  printf '%-6s %4d s  %s\n' "$result" $((SECONDS - begin)) "$name" >>"$steps/summary"
}

# SIGINT, because it lets Python end tests in order, and these remove their hosts; where that has no effect, as in a
# background job of a shell without job control, SIGTERM follows. Who sends one signal may send two.
end_steps() {
  local signal group
  trap '' INT TERM
  for signal in INT TERM; do
    for group in $(jobs -pr); do kill "-$signal" -- "-$group" || true; done
    for _ in {1..60}; do
      if [ -z "$(jobs -pr)" ]; then break; fi
      sleep 0.5
    done
  done
  exit 130
}
