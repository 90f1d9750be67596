#!/bin/sh
# Builds the supervisor: a static program for this machine's processor, in build/. See README.md.
#
#   build.sh          build/supervisor-<arch>, stripped
#   build.sh --test   build/supervisor-test-<arch>: the same, and may be run as any process (--any-pid)
#   build.sh --asan   build/supervisor-asan: with address and undefined-behaviour sanitizers, may be run as any process
#   build.sh --fuzz   build/fuzz-frames, -gateway, -spec, -unpack: libFuzzer harnesses (clang)
#
# Prints one line. What is up to date (by a hash of the sources, kept beside the result) is not built again.
set -eu
cd "$(dirname "$0")"
mkdir -p build

arch=$(uname -m)
warnings="-std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror"
# A bookworm image by digest: the compiler that is used where this machine has none.
builder=debian:bookworm-slim@sha256:4724b8cc51e33e398f0e2e15e18d5ec2851ff0c2280647e1310bc1642182655d

case "${1:-}" in
  '') kind=release out=build/supervisor-$arch extra='' ;;
  --test) kind=test out=build/supervisor-test-$arch extra=-DGLOVEBOX_TEST ;;
  --asan) kind=asan out=build/supervisor-asan ;;
  --fuzz) kind=fuzz out=build/fuzz-frames ;;
  *) echo "build.sh: unknown argument $1; use --test, --asan, --fuzz or none" >&2; exit 2 ;;
esac

sources=$(cat src/*.[ch] fuzz/*.c build.sh 2>/dev/null | sha256sum | cut -c1-64)
if [ -x "$out" ] && [ "$(cat "$out.sources" 2>/dev/null)" = "$sources" ]; then
  echo "supervisor: $out is up to date"
  exit 0
fi

need_clang() {
  command -v clang >/dev/null || { echo "supervisor: $kind needs clang with its sanitizers; on Debian: apt-get install clang" >&2; exit 1; }
}

# Compiles and links everything in src with "$@"; the temporary name keeps a working program in place meanwhile.
compile() {
  "$@" $warnings -static -Os -fno-asynchronous-unwind-tables -ffunction-sections -fdata-sections -Wl,--gc-sections $extra \
    -s src/*.c -o "$out.new"
}

static_cc() {
  command -v cc >/dev/null && printf 'int main(void){return 0;}' >build/probe.c &&
    cc -static build/probe.c -o build/probe 2>/dev/null
}

install_musl() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
  echo "supervisor: no static C compiler here; installing musl-tools with apt-get" >&2
  apt-get install -y -q musl-tools >build/apt.log 2>&1 ||
    { apt-get update -q >build/apt.log 2>&1 && apt-get install -y -q musl-tools >>build/apt.log 2>&1; }
}

in_container() {
  command -v docker >/dev/null && docker info >/dev/null 2>&1 || return 1
  echo "supervisor: building in a container of $builder" >&2
  tar -c build.sh src | docker run --rm -i "$builder" sh -ec '
    exec 3>&1 >&2
    mkdir /build && cd /build && tar -x
    apt-get update -q && apt-get install -y -q musl-tools
    ./build.sh && cat build/supervisor-$(uname -m) >&3' >"$out.new" 2>build/container.log && chmod 755 "$out.new"
}

case $kind in
  asan)
    need_clang
    clang $warnings -g -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all -DGLOVEBOX_TEST \
      src/*.c -o "$out.new"
    ;;
  fuzz)
    need_clang
    sanitizers=-fsanitize=address,undefined
    objects=build/fuzz-objects
    rm -rf "$objects" && mkdir "$objects"
    parts=$(cd "$objects" && ls ../../src/*.c | grep -v /main.c)
    (cd "$objects" && clang $warnings -g -O1 -fsanitize=fuzzer-no-link $sanitizers -fno-sanitize-recover=all -DGLOVEBOX_TEST -c $parts)
    for harness in fuzz/fuzz-*.c; do
      name=build/$(basename "$harness" .c)
      clang $warnings -g -O1 -fsanitize=fuzzer $sanitizers -fno-sanitize-recover=all -DGLOVEBOX_TEST -Isrc \
        "$harness" "$objects"/*.o -o "$name.new"
      mv "$name.new" "$name"
    done
    out=build/fuzz-frames
    cp "$out" "$out.new"
    ;;
  *)
    if command -v musl-gcc >/dev/null; then compile musl-gcc
    elif static_cc; then compile cc
    elif install_musl; then compile musl-gcc
    elif [ $kind = release ] && in_container; then :
    else
      echo "supervisor: no way to build it here. Install musl-tools (Debian, Ubuntu) or musl-dev and gcc (Alpine), or start Docker, then run $0 again." >&2
      exit 1
    fi
    ;;
esac
mv "$out.new" "$out"
echo "$sources" >"$out.sources"
rm -f build/probe build/probe.c
echo "supervisor: built $out ($(wc -c <"$out") bytes)"
