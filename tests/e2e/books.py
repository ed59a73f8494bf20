"""The books of a server: every record that it accepted is a row now, or was deleted or has expired. Looked at when a test ends.

The check is strict, and nothing escapes it in silence: a server that was stopped is started again for it, each server that a test makes
is checked, and one that cannot add up says why (`lake.no_ledger(why)`). One that ended though its test did not stop it fails the test. The summary of a run tells how many there were of each.
"""

import collections
import threading

# the tables whose rows are records to the ledger (`Table::holds_records`), by signal. Evaluations of rules are log records of our own.
# Points that lines of logs hold (EMF) and that metric filters make count as metrics of the receiver that took the lines.
TABLES = {
    "logs": ("logs", "alerts"),
    "traces": ("spans",),
    "metrics": ("metric_points", "metric_histograms", "metric_exp_histograms", "metric_summaries"),
}
PATIENCE_SECONDS = 20


class Tally:
    """What became of the servers of some tests: JSON, since it goes from one process of pytest to another."""

    def __init__(self):
        self.outcomes = collections.Counter()

    def add(self, lines):
        self.outcomes.update(lines)

    def text(self):
        checked = sum(n for line, n in self.outcomes.items() if line.startswith("checked"))
        others = [(line, n) for line, n in sorted(self.outcomes.items()) if not line.startswith("checked")]
        return [f"{checked} servers add up exactly"] + [f"{n} {line}" for line, n in others]


class Made:
    """All servers that were made; each is to be settled by [`settle`]."""

    def __init__(self):
        self.lock, self.lakes = threading.Lock(), []

    def add(self, lake):
        with self.lock:
            self.lakes.append(lake)

    def unsettled(self):
        with self.lock:
            return [lake for lake in self.lakes if not lake.is_settled]


MADE = Made()


def settle(lakes, has_passed):
    """Checks the books of the servers of a test that passed, and ends them all. What became of each, for the tally."""
    told = []
    try:
        for lake in lakes:
            lake.is_settled = True
            if has_passed:
                told.append(lake.check_ledger())
    finally:
        for lake in lakes:
            lake.is_settled = True
            lake.close()
    return told


def without_fail_points(args):
    """The arguments without `--fail-points …`: a server that is started to be looked at is not to die."""
    args = list(args)
    if "--fail-points" in args:
        at = args.index("--fail-points")
        del args[at : at + 2]
    return args


def kept(lake):
    """`{signal: records}` that are to be there, by the ledger: those of all nodes of the store."""
    kept = dict.fromkeys(TABLES, 0)
    for row in complete(lake, "SELECT signal, outcome, sum(records) AS n FROM ledger GROUP BY 1, 2"):
        assert row["signal"] in kept, f"the ledger has a signal that this check does not know: {row}"
        if row["outcome"] in ("accepted", "deleted", "expired"):
            kept[row["signal"]] += int(row["n"]) if row["outcome"] == "accepted" else -int(row["n"])
    return kept


def there(lake):
    """`{signal: rows}` that are there."""
    counts = ", ".join(f"(SELECT count(*) FROM {table}) AS {table}" for tables in TABLES.values() for table in tables)
    (row,) = complete(lake, f"SELECT {counts}")
    return {signal: sum(int(row[table]) for table in tables) for signal, tables in TABLES.items()}


def complete(lake, query):
    answer = lake.post("/api/v1/sql", {"query": query, "limit": 10_000})
    assert answer["coverage"]["complete"] and not answer["truncated"], answer["coverage"]
    names = [column["name"] for column in answer["columns"]]
    return [dict(zip(names, row)) for row in answer["rows"]]


def told(lake):
    """`{(receiver, signal): {outcome: records}}` as the ledger has it, over all nodes."""
    sums = collections.defaultdict(collections.Counter)
    for row in complete(lake, "SELECT receiver, signal, outcome, sum(records) AS n FROM ledger WHERE node IS NOT NULL GROUP BY 1, 2, 3"):
        sums[row["receiver"], row["signal"]][row["outcome"]] = int(row["n"])
    return sums


def compare(lake):
    """What does not add up, as text; nothing if all does."""
    books, rows = kept(lake), there(lake)
    wrong = []
    for signal in TABLES:
        # of a span in progress the completed one takes the place
        replaced = lake.n_replaced_spans if signal == "traces" else 0
        if books[signal] != rows[signal] + replaced:
            wrong.append(
                f"{signal}: the ledger has {books[signal]} that are neither deleted nor expired, there are {rows[signal]} rows"
                + (f", {replaced} were replaced" if replaced else "")
            )
    sums = told(lake) if lake.sent else {}
    for (receiver, signals), sent in lake.sent.items():
        counted = sum((sums.get((receiver, signal), collections.Counter()) for signal in signals), collections.Counter())
        if sent["retries"]:
            # an answer that the client did not wait for may have been a yes
            agree = counted.get("accepted", 0) >= sent["accepted"]
        else:
            agree = all(counted.get(outcome, 0) == sent.get(outcome, 0) for outcome in ("accepted", "rejected", "refused", "dropped"))
        if not agree:
            wrong.append(f"{receiver}, {signals}: the client was told {dict(sent)}, the ledger has {dict(counted)}")
    return "; ".join(wrong)


def check(lake):
    """Asserts that the books add up; gives a line for the tally."""
    if lake.ready is None:
        return "never started"
    code = lake.process.poll() if lake.process is not None else None
    assert code is None, f"{lake.folder.name} ended with {code}, and the test did not ask for that\n{lake.log_tail()}"
    if lake.why_no_ledger:
        return f"exempt: {lake.why_no_ledger}"
    is_running = lake.process is not None
    if not is_running:
        if lake.was_checked:
            return lake.was_checked
        lake.close()
        lake.args = without_fail_points(lake.args)
        lake.start()
    tokens = (lake.config or {}).get("auth", {}).get("bearer_tokens", [])
    if tokens:
        lake.session.headers["Authorization"] = f"Bearer {tokens[0]}"
    wrong = None

    def agrees():
        nonlocal wrong
        wrong = compare(lake)
        return not wrong

    try:
        lake.wait_until(agrees, PATIENCE_SECONDS, every=0.3, what="the ledger adds up")
    except AssertionError as error:
        raise AssertionError(f"{lake.folder.name}: {wrong}\n{error}") from None
    return "checked" if is_running else "checked after a start for that"
