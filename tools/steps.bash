# For other scripts to source: runs steps one after the other, goes on where one fails, and sums up with times.

step_lines=()
steps_failed=0

# step NAME COMMAND...: run one step and remember how it went.
step() {
  local name=$1 begin=$SECONDS result=passed
  shift
  printf '\n── %s\n' "$name"
  if ! "$@"; then
    result=FAILED
    steps_failed=$((steps_failed + 1))
  fi
  step_lines+=("$(printf '%-6s %4d s  %s' "$result" $((SECONDS - begin)) "$name")")
}

# steps_done: print the summary; false if anything failed.
steps_done() {
  printf '\n'
  printf '%s\n' "${step_lines[@]}"
  [ "$steps_failed" = 0 ]
}
