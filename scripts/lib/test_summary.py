"""Adds up the trx files of scripts/test: shows failures in full and skips with their reasons; last line the counts.

A result file that is missing or cut short, a runner that exited non-zero without a failed test, and a project that ran
no test at all each count as one failure: silence must never look like success.
"""
import argparse
import os
import re
import sys
import xml.etree.ElementTree as ElementTree

NAMESPACE = "{http://microsoft.com/schemas/VisualStudio/TeamTest/2010}"


def text_of(result, path):
    found = result.find("/".join(NAMESPACE + part for part in path.split("/")))
    return (found.text or "").strip() if found is not None else ""


def read_results(path):
    """-> [(outcome, test name, message, stack, seconds)]; raises when the file is unusable."""
    rows = []
    for result in ElementTree.parse(path).getroot().iter(NAMESPACE + "UnitTestResult"):
        hours, minutes, seconds = result.get("duration", "0:0:0").split(":")
        rows.append((result.get("outcome"), result.get("testName"),
                     text_of(result, "Output/ErrorInfo/Message"), text_of(result, "Output/ErrorInfo/StackTrace"),
                     int(hours) * 3600 + int(minutes) * 60 + float(seconds)))
    return rows


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--strict", default="0")
    parser.add_argument("--filtered", default="")
    parser.add_argument("results")
    parser.add_argument("projects", nargs="+")
    options = parser.parse_args()

    passed = failed = 0
    skips, slowest = [], []
    for name in options.projects:
        folder = os.path.join(options.results, name)
        with open(os.path.join(folder, "status"), encoding="utf-8") as file:
            status = int(file.read())
        with open(os.path.join(folder, "output"), encoding="utf-8", errors="replace") as file:
            output = file.read()
        trouble = None
        rows = []
        try:
            rows = read_results(os.path.join(folder, "results.trx"))
        except (OSError, ElementTree.ParseError) as error:
            trouble = f"no usable result file ({error.__class__.__name__})"
        bad = [row for row in rows if row[0] not in ("Passed", "NotExecuted")]
        skipped = [row for row in rows if row[0] == "NotExecuted"]
        if trouble is None and re.search(r"(?i)\btest run (was )?aborted", output):
            trouble = "the run was cut short (a crash, or a test that hung); the tests after it did not run"
        elif trouble is None and status != 0 and not bad:
            ended = "took too long and was ended" if status in (124, 137) else f"exited with {status}"
            trouble = f"the runner {ended}, though no test says that it failed"
        if trouble is None and not rows and not options.filtered:
            trouble = "ran no test"
        for _, test, message, stack, _ in bad:
            print(f"\nFAILED {test}\n{message}\n{stack}")
        if trouble is not None and not (options.filtered and not rows and status == 0):
            failed += 1
            lines = [line for line in output.splitlines() if line.strip() and not re.match(r"\s*at ", line)]
            print(f"\nFAILED {name}: {trouble}")
            print("\n".join("  | " + line for line in lines[-25:]))
        good = len(rows) - len(bad) - len(skipped)
        passed += good
        failed += len(bad)
        skips += [(name, row[1], row[2]) for row in skipped]
        slowest += [(row[4], row[1]) for row in rows]
        print(f"   {name}: {good} passed, {len(bad)} failed, {len(skipped)} skipped, "
              f"{sum(row[4] for row in rows):.1f} s of tests")

    for name, test, reason in skips:
        print(f"SKIPPED {name} {test}: {reason or 'no reason given'}")
    if skips and options.strict == "1":
        print("Skipped tests count as failures here (CI=true): the machine lacks what they need; see scripts/setup.")
    for seconds, test in sorted(slowest, reverse=True)[:5]:
        if seconds >= 5:
            print(f"   slow: {seconds:.1f} s {test}")
    print(f"{passed} passed, {failed} failed, {len(skips)} skipped", flush=True)
    return 1 if failed or passed == 0 or (skips and options.strict == "1") else 0


sys.exit(main())
