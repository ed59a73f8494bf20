//! Calls that stand in no segment: jobs, scripts and workers whose only instrumentation is that of a client.

use super::*;

#[test]
fn a_call_that_is_all_there_is_has_a_caller_and_a_callee() {
    let told = calls(vec![with(
        span(1, None, "nightly", "CLIENT", 0, 4 * SECOND),
        &[("rpc.system", "aws-api"), ("rpc.service", "S3"), ("http.status_code", "503")],
    )]);
    assert_eq!(
        outline(&told),
        [
            "->nightly/ op-nightly: 1 [0, 1, 0] [0, 0, 0] 0 4",
            "nightly/>S3/AWS::S3 op-nightly: 1 [0, 1, 0] [0, 1, 0] 4 0",
        ]
    );
    let graph = ServiceGraph::of(&told);
    let nodes: Vec<(&str, &str, bool)> = graph.nodes.iter().map(|node| (node.service.name.as_str(), node.kind(), node.is_root)).collect();
    assert_eq!(nodes, [("S3", "aws", false), ("nightly", "service", true)]);
    assert_eq!(graph.edges.len(), 1);
    // its parent is elsewhere, or late
    let orphan = with(
        span(1, Some(9), "worker", "PRODUCER", 0, SECOND),
        &[("messaging.system", "kafka"), ("messaging.destination.name", "jobs")],
    );
    assert_eq!(
        outline(&calls(vec![orphan.clone()]))[1],
        "worker/>jobs/Queue::kafka op-worker: 1 [0, 0, 0] [0, 0, 0] 1 0"
    );
    // once that is there, the call is a part of it
    let told = calls(vec![span(9, None, "worker", "SERVER", 0, 2 * SECOND), orphan]);
    assert_eq!(outline(&told).len(), 2);
    assert!(outline(&told).iter().any(|line| line.starts_with("worker/client>worker/")));
}

#[test]
fn a_call_that_somebody_answers_calls_nobody_else() {
    let told = calls(vec![
        span(1, None, "script", "CLIENT", 0, 4 * SECOND),
        span(2, Some(1), "web", "SERVER", SECOND, 2 * SECOND),
    ]);
    assert_eq!(
        outline(&told),
        [
            "->script/ op-script: 1 [0, 0, 0] [0, 0, 0] 0 4",
            "script/>web/ op-web: 1 [0, 0, 0] [0, 0, 0] 4 2",
        ]
    );
}
