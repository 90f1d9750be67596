#!/usr/bin/env bash
# Makes sure that a container engine answers. Quiet when one does; else, as root on Debian or Ubuntu, installs and starts
# Docker, saying so; else prints the exact next step and exits 1. Looks where the runner looks (src/engine/find-engine.ts),
# except for Podman's sockets: the runner says why it runs no sandbox there, which is no reason not to install Docker.
set -euo pipefail

log=/var/log/glovebox-dockerd.log
wait_seconds=60

main() {
  if answers; then exit 0; fi
  if [ -n "${DOCKER_HOST:-}" ]; then
    stop_with "DOCKER_HOST is $DOCKER_HOST, and no engine answers there. Start it, or unset DOCKER_HOST."
  fi
  local context
  context=$(chosen_context)
  if [ -n "$context" ]; then
    stop_with "The docker context \"$context\" is chosen, and its engine does not answer. Start it, or: docker context use default"
  fi
  if [ -S /var/run/docker.sock ] && [ ! -w /var/run/docker.sock ]; then
    stop_with "You may not open /var/run/docker.sock. Run: sudo usermod -aG docker \"\$USER\"   and log in again."
  fi
  if [ "$(id -u)" -ne 0 ]; then
    if command -v dockerd >/dev/null; then stop_with "Docker is installed and does not run. Run: sudo make engine"; fi
    stop_with "No container engine answers. Run: sudo make engine   (Debian, Ubuntu), or see https://docs.docker.com/engine/install/"
  fi
  if ! command -v dockerd >/dev/null; then install_docker; fi
  add_gvisor
  start_docker
}

# Each place that an engine may listen at, the first that answers wins.
answers() {
  if [ -n "${DOCKER_HOST:-}" ]; then
    case "$DOCKER_HOST" in
      unix://*) answers_at "${DOCKER_HOST#unix://}" ;;
      *) answers_cli ;;
    esac
    return
  fi
  if [ -n "$(chosen_context)" ]; then answers_cli; return; fi
  local socket
  for socket in /var/run/docker.sock "${XDG_RUNTIME_DIR:-/nowhere}/docker.sock"; do
    if answers_at "$socket"; then return 0; fi
  done
  return 1
}

answers_at() {
  [ -S "$1" ] || return 1
  if command -v curl >/dev/null; then
    curl --silent --fail --max-time 5 --output /dev/null --unix-socket "$1" http://engine/_ping
  elif command -v node >/dev/null; then
    timeout 10 node -e '
      const request = require("node:http").get({ socketPath: process.argv[1], path: "/_ping", timeout: 5000 });
      request.on("response", (answer) => process.exit(answer.statusCode === 200 ? 0 : 1));
      request.on("timeout", () => process.exit(1)).on("error", () => process.exit(1));' "$1"
  else
    DOCKER_HOST="unix://$1" answers_cli
  fi
}

# TLS and contexts are left to the docker CLI where it is there, and to the runner itself where it is not.
answers_cli() {
  if command -v docker >/dev/null; then timeout 10 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; else return 0; fi
}

chosen_context() {
  local file="${DOCKER_CONFIG:-$HOME/.docker}/config.json" name="${DOCKER_CONTEXT:-}"
  if [ -z "$name" ] && [ -f "$file" ]; then
    name=$(sed -n 's/.*"currentContext"[[:space:]]*:[[:space:]]*"\([^"]*\)".*/\1/p' "$file" | head -n 1)
  fi
  if [ "$name" != default ]; then printf '%s' "$name"; fi
}

install_docker() {
  if ! command -v apt-get >/dev/null; then
    stop_with "No container engine answers, and this is not Debian or Ubuntu. Install one: https://docs.docker.com/engine/install/"
  fi
  say "No container engine answers: installing docker.io with apt-get (a minute or two)."
  local try
  for try in 1 2 3; do
    if apt_get update && apt_get install --no-install-recommends docker.io iptables ca-certificates; then return; fi
    say "apt-get failed (try $try of 3)."
    sleep $((try * 3))
  done
  stop_with "docker.io could not be installed; the messages of apt-get are above. Run: apt-get install docker.io"
}

apt_get() {
  # A package that starts the engine while it is being installed must not fail the installation.
  DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 timeout 600 apt-get --quiet=2 --yes \
    -o Acquire::Retries=3 -o Acquire::http::Timeout=30 -o DPkg::Lock::Timeout=120 "$@" </dev/null >&2
}

# Only on an engine that nobody has configured and that does not run: gVisor where it is installed already.
add_gvisor() {
  local runsc file=/etc/docker/daemon.json
  runsc=$(command -v runsc || true)
  if [ -z "$runsc" ] || [ -e "$file" ] || pidof dockerd >/dev/null; then return; fi
  say "gVisor is installed: naming it in $file."
  mkdir -p /etc/docker
  printf '{\n  "runtimes": {\n    "runsc": { "path": "%s", "runtimeArgs": ["--platform=ptrace", "--network=none"] }\n  }\n}\n' \
    "$runsc" >"$file"
}

start_docker() {
  if ! pidof dockerd >/dev/null; then
    if [ -d /run/systemd/system ]; then
      say "Starting Docker with systemd."
      systemctl start docker || stop_with "systemd could not start Docker. See: journalctl -u docker"
    else
      say "Starting dockerd in the background; its log is $log."
      start_in_background
    fi
  fi
  local waited starts=1
  for ((waited = 0; waited < wait_seconds * 2; waited++)); do
    if answers; then
      say "The engine answers."
      return
    fi
    sleep 0.5
    # After a crash its first start can fail ("timeout waiting for containerd"); the next one succeeds.
    if [ ! -d /run/systemd/system ] && [ "$starts" -lt 3 ] && ! pidof dockerd >/dev/null; then
      starts=$((starts + 1))
      start_in_background
    fi
  done
  if [ -f "$log" ]; then tail -n 15 "$log" >&2; fi
  stop_with "dockerd did not answer within $wait_seconds seconds. See $log, or: journalctl -u docker"
}

start_in_background() {
  nohup setsid dockerd >>"$log" 2>&1 </dev/null &
  sleep 0.5
}

say() { printf 'engine: %s\n' "$*" >&2; }

stop_with() {
  say "$*"
  exit 1
}

main "$@"
