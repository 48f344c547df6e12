"""Asks the advisory service about every version in constraints.lock: `make audit`.

    python tests/audit.py PIP_AUDIT

Ends with status 1 if an advisory names one of them. Where the service cannot be reached it says so and ends with 0: a
laptop on a train is no reason to stop.
"""

import json
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).parent.parent / "constraints.lock"
_TIMEOUT_S = 300


def main(pip_audit: str) -> int:
    """Runs the program and says what it found; returns the exit status."""
    options = ["--disable-pip", "--require-hashes", "-f", "json", "--progress-spinner", "off"]
    command = [pip_audit, *options, "-r", str(LOCK)]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        found = json.loads(run.stdout)["dependencies"]
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError) as error:
        words = run.stderr.strip().splitlines() if isinstance(error, ValueError | KeyError) else [str(error)]
        print(f"make audit: nothing was compared, the advisory service did not answer ({(words or ['?'])[-1][:200]}).")
        return 0
    named = [one for one in found if one.get("vulns")]
    for one in named:
        for advisory in one["vulns"]:
            remedy = ", ".join(advisory.get("fix_versions") or ()) or "no fixed version yet"
            print(f"{one['name']} {one['version']}: {advisory['id']} (fixed in: {remedy})")
    print(f"make audit: {len(found)} versions compared, {len(named)} of them named by an advisory.")
    return 1 if named else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
