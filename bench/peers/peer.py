"""What the comparison programs share: child processes measured from outside, allocator, tables."""

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

REPOSITORY = Path(__file__).resolve().parents[2]


def jemalloc():
    """Path of a jemalloc library to preload, or None. JEMALLOC names one; Ray's wheel brings one along."""
    named = os.environ.get("JEMALLOC")
    folders = [Path(p) / "ray/core" for p in sys.path] + [
        Path("/usr/lib/x86_64-linux-gnu"),
        Path("/usr/lib64"),
        Path("/usr/lib"),
    ]
    found = [named] if named else [str(f) for d in folders for f in sorted(d.glob("libjemalloc.so*"))]
    return found[0] if found else None


def child(command, threads=2, preload=None, cwd=None):
    """Runs a command to its end; returns (last JSON line of its stdout or {}, usage of the process).

    Usage: user and system CPU seconds and peak resident MiB, from the kernel.
    """
    env = dict(os.environ, RAYON_NUM_THREADS=str(threads), OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
    if preload:
        env["LD_PRELOAD"] = preload
    process = subprocess.Popen(command, env=env, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    errors = []
    # Both pipes are drained, then the usage of this very child is asked for.
    import threading

    drain = threading.Thread(target=lambda: errors.append(process.stderr.read()))
    drain.start()
    out = process.stdout.read()
    drain.join()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    usage = {"user_s": used.ru_utime, "system_s": used.ru_stime, "peak_mib": used.ru_maxrss / 1024}
    lines = [line for line in out.splitlines() if line.startswith("{")]
    if process.returncode not in (0, 1) or not lines:
        raise SystemExit(f"{' '.join(map(str, command))}\nfailed with {process.returncode}:\n{out}{''.join(errors)}")
    return json.loads(lines[-1]), usage


def build(*arguments):
    """Builds something of this repository in release mode."""
    subprocess.run(["cargo", "build", "--release", *arguments], cwd=REPOSITORY, check=True)


def target(*parts):
    """A path below the build folder."""
    return Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")).joinpath("release", *parts)


def interleave(contestants, rounds):
    """Calls each contestant (name -> function giving a dict of numbers) in turn; medians by name."""
    runs = {name: [] for name in contestants}
    for turn in range(rounds):
        for name, run in contestants.items():
            try:
                result = run()
            except SystemExit as failed:
                if turn:
                    raise
                print(f"# {name} left out: {str(failed).splitlines()[-1][:160]}", file=sys.stderr, flush=True)
                continue
            runs[name].append(result)
            print(f"# round {turn + 1}: {name}: {brief(result)}", file=sys.stderr, flush=True)
    of = lambda rows: {k: median(r[k] for r in rows) for k in rows[0] if isinstance(rows[0][k], (int, float))}
    return {name: of(rows) for name, rows in runs.items() if rows}


def brief(result):
    """Numbers of a run on one line."""
    return ", ".join(f"{k} {v:,.4g}" for k, v in result.items() if isinstance(v, (int, float)))


def table(results, columns):
    """Prints results by name under the given columns (key -> format)."""
    width = max(map(len, results))
    print(" " * width, *(f"{c:>18}" for c in columns))
    for name, row in results.items():
        cells = [format(row[c], f) if c in row else "" for c, f in columns.items()]
        print(f"{name:<{width}}", *(f"{cell:>18}" for cell in cells))


def finish(name, results, ratios):
    """Prints the last line: everything as JSON."""
    print(json.dumps({"bench": name, "results": results, "ratios": {k: round(v, 3) for k, v in ratios.items()}}))
