// A service with the X-Ray SDK: answers GETs; /call also calls NEXT. Prints its port when it listens.
const xray = require("aws-xray-sdk-core");
const http = require("http");

xray.captureHTTPsGlobal(http);
xray.middleware.setDefaultName("node-shop");

function answer(segment, request, response) {
  segment.addAnnotation("tenant", "a");
  segment.addMetadata("cart", { items: [1, 2.5, null], note: "für später" }, "shop");
  if (request.url !== "/call") {
    response.end("done");
    return;
  }
  http.get(process.env.NEXT, (next) => {
    next.resume();
    next.on("end", () => response.end("called"));
  });
}

const server = http.createServer((request, response) => {
  const segment = xray.middleware.traceRequestResponseCycle(request, response);
  xray.getNamespace().run(() => {
    xray.setSegment(segment);
    answer(segment, request, response);
  });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
