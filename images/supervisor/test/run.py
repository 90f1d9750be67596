"""Runs the driver: run.py PROGRAM [WORD...]. Prints one line a test; the exit code says whether all held."""

import sys
import time
import traceback

import calls_test
import direct_test
import files_test
import gateway_test
import kill_test
import probe_test
import stream_test
from sandbox import Sandbox


def main():
    words = sys.argv[2:]
    failed = 0
    for module in (stream_test, direct_test, calls_test, kill_test, files_test, gateway_test, probe_test):
        sandbox = None
        for name in [n for n in dir(module) if n.startswith("test_")]:
            if words and not any(word in name for word in words):
                continue
            started = time.monotonic()
            try:
                sandbox = sandbox or Sandbox()
                getattr(module, name)(sandbox)
                said = "ok  "
            except Exception:
                said = "FAIL"
                failed += 1
                traceback.print_exc()
                sandbox = discard(sandbox)
            print(f"{said} {name[5:].replace('_', ' ')} ({time.monotonic() - started:.2f} s)", flush=True)
        if sandbox:
            sandbox.close()
    return 1 if failed else 0


def discard(sandbox):
    """After a failure the next test gets a new one."""
    if sandbox:
        try:
            sandbox.close()
        except Exception:
            traceback.print_exc()
    return None


if __name__ == "__main__":
    sys.exit(main())
