"""A proxy before an AWS service of JSON 1.1 that throttles, fails, cuts connections, takes only a part, and says things twice."""

import collections
import http.server
import json
import random
import threading
import urllib.error
import urllib.request

FAULTS = ("throttled", "failed", "unavailable", "cut before", "cut behind")
# calls that tell what became of each record: where the records are, where that is told, and how one is refused
BATCHES = {
    "PutRecords": ("Records", "FailedRecordCount", {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "Rate exceeded for shard"}),
    "PutRecordBatch": ("RequestResponses", "FailedPutCount", {"ErrorCode": "ServiceUnavailableException", "ErrorMessage": "Slow down."}),
}
SENT_ON = ("x-amz-target", "content-type", "authorization", "x-amz-date")


class Proxy:
    """Stands before CloudWatch Logs (in small pages), Kinesis or Firehose.

    `faults` is the share of answers that go wrong, in one of the ways of `kinds`: "cut before" cuts the connection before the call, "cut behind" when the service
    has done it. `partial` is the share of batches of which only some records are taken, `twice` that of pages with events of the page before.
    `counts` says how often what happened.
    """

    def __init__(self, target, faults=0.0, twice=0.0, partial=0.0, page=40, seed=7):
        self.target, self.faults, self.twice, self.partial, self.page, self.kinds = target, faults, twice, partial, page, FAULTS
        self.denied, self.counts, self.random = set(), collections.Counter(), random.Random(seed)
        self.last, self.lock = [], threading.Lock()
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                proxy.handle(self)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def happens(self, share, what):
        with self.lock:
            happens = self.random.random() < share
            self.counts[what] += happens
            return happens

    def fault(self):
        with self.lock:
            if self.random.random() >= self.faults:
                return None
            kind = self.random.choice(self.kinds)
            self.counts[kind] += 1
            return kind

    def handle(self, request):
        body = request.rfile.read(int(request.headers.get("content-length", 0)))
        operation = request.headers.get("x-amz-target", "").rpartition(".")[2]
        call = json.loads(body or b"{}")
        self.counts[operation] += 1
        fault = self.fault()
        if call.get("logGroupName") in self.denied:
            return self.answer(request, 400, {"__type": "AccessDeniedException", "message": "not this one"})
        if fault == "throttled":
            return self.answer(request, 400, {"__type": "ThrottlingException", "message": "Rate exceeded"})
        if fault == "failed":
            return self.answer(request, 500, {"__type": "InternalFailure"})
        if fault == "unavailable":
            return self.answer(request, 503, {"__type": "ServiceUnavailableException"})
        if fault == "cut before":
            request.close_connection = True
            return None
        if operation == "FilterLogEvents":
            call["limit"] = self.page
        refused = self.leave_out(operation, call)
        if operation in BATCHES and not call["Records"]:
            # the service takes no call without records
            status, answer = 200, {BATCHES[operation][0]: [], "Encrypted": False}
        else:
            status, answer = self.forward(request, call)
        if status is None:
            request.close_connection = True
            return None
        if refused and status == 200:
            told, n_failed, how = BATCHES[operation]
            taken = iter(answer[told])
            answer[told] = [how if is_refused else next(taken) for is_refused in refused]
            answer[n_failed] = sum(refused)
        if operation == "FilterLogEvents" and status == 200:
            if self.happens(self.twice, "twice"):
                of_group = [event for group, event in self.last if group == call["logGroupName"]]
                answer["events"] = of_group[-5:] + answer["events"] + answer["events"][:3]
            self.last = [(call["logGroupName"], event) for event in answer["events"]]
        return self.answer(request, status, answer, cut=fault == "cut behind")

    def leave_out(self, operation, call):
        """Takes records out of a batch, some or all; whether each was, or nothing if it stays whole."""
        if operation not in BATCHES or not self.happens(self.partial, "partial"):
            return None
        with self.lock:
            refused = [self.random.random() < 0.5 for _ in call["Records"]]
        refused[0] = True
        call["Records"] = [record for record, is_refused in zip(call["Records"], refused) if not is_refused]
        return refused

    def forward(self, request, call):
        headers = {k: v for k, v in request.headers.items() if k.lower() in SENT_ON}
        try:
            with urllib.request.urlopen(urllib.request.Request(self.target, json.dumps(call).encode(), headers), timeout=20) as answered:
                return answered.status, json.loads(answered.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")
        except OSError:
            return None, None

    @staticmethod
    def answer(request, status, value, cut=False):
        body = json.dumps(value).encode()
        request.send_response(status)
        request.send_header("content-type", "application/x-amz-json-1.1")
        request.send_header("content-length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[: len(body) // 2] if cut else body)
        request.close_connection = cut
        return None
