//! The gate before the AWS faces: who sent a request, and whether the operation is open to it.
//!
//! | configured | who passes |
//! |---|---|
//! | nothing | everyone: such a server is reached over loopback alone |
//! | `[auth] bearer_tokens` | who brings a token |
//! | `[[aws.keys]]` | who signed with a key that has the right to the operation ([`crate::access`]); or brings a token, if there are any |
//!
//! What passes finds its [`Caller`] among its extensions. Rights are checked here; which log groups a request names is in
//! its body, so the face checks those where it dispatches ([`super::awslogs`]).
//!
//! Whoever is not known is turned away before its body is read into memory; of the others the body is read here, once,
//! under the face's cap and out of the budget, since the signature is of the bytes as they came. The handler gets it in
//! one piece and without a copy. Refusals are in the face's own words: AWS JSON answers 400, REST-JSON 403, as AWS does.
//!
//! OTLP/HTTP, which takes tokens, also takes requests that are signed, as AWS' own OTLP endpoints do ([`super::otlp`]).
//!
//! `GetSamplingRules` and `GetSamplingTargets` come unsigned from SDKs, which take the X-Ray port for a daemon that signs
//! for them. On that port, while it listens on loopback, they are answered unsigned: they show sampling rules and no
//! record. On any other address and on the HTTP port they must be signed.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Request, Response, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use bytes::Bytes;
use http::request::Parts;
use http_body_util::BodyExt;

use super::answer::{BodyFault, Failure};
use super::{DECODE_INLINE_BYTES, Intake, aside, metrics};
use crate::access::sigv4::{self, Verifier, is_signed};
use crate::access::{Asked, Caller, Denied};
use crate::model::{Clock, Signal};
use crate::net::body::{self, Caps};
use crate::net::{Budget, Encoding, Share, auth};

/// How long a request that is turned away may go on sending its body: who hangs up in the middle of it is not heard.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// What all faces ask the same.
#[derive(Debug)]
pub struct Gate {
    /// The keys.
    pub verifier: Verifier,
    /// The tokens.
    pub tokens: Arc<auth::Config>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Bodies are held out of it.
    pub budget: Arc<Budget>,
    /// Whose ledger counts records that were not even read.
    pub intake: Arc<dyn Intake>,
    /// The account in ARNs.
    pub account_id: String,
}

/// What differs between the faces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Face {
    /// Its name in metrics and in the ledger.
    pub(super) receiver: &'static str,
    /// What signatures must be for where the request does not tell.
    pub(super) services: &'static [&'static str],
    /// The status of refusals.
    pub(super) refused_status: StatusCode,
    /// Writes an error.
    pub(super) failure: fn(&HeaderMap, &Failure) -> Response<Body>,
    /// What is answered when a body could not be had.
    pub(super) unread: fn(BodyFault) -> Failure,
    /// The operations whose bodies hold records.
    pub(super) records: fn(&Asked) -> Option<Signal>,
    /// Whether its handlers check the log groups that a request names.
    pub(super) checks_groups: bool,
    /// Operations that are answered unsigned.
    pub(super) unsigned: &'static [&'static str],
    /// Bytes of a body on the wire.
    pub(super) max_body_bytes: usize,
}

/// Puts the gate before a face.
pub(super) fn guarded(router: Router, gate: Arc<Gate>, face: Face) -> Router {
    router.layer(from_fn_with_state(Arc::new((gate, face)), admit))
}

/// Lets through what is not signed, to be judged by who stands behind; what is signed passes the gate.
pub(super) fn guarded_if_signed(router: Router, gate: Arc<Gate>, face: Face) -> Router {
    router.layer(from_fn_with_state(Arc::new((gate, face)), admit_signed))
}

/// Why a request does not pass.
#[derive(Debug)]
enum Refused {
    /// Tokens are configured and keys are not.
    NoToken,
    Signature(sigv4::Error),
    Body(BodyFault),
    Denied(Denied),
}

impl Refused {
    /// As metrics have it.
    fn outcome(&self) -> Option<&'static str> {
        match self {
            Refused::NoToken => Some("missing"),
            Refused::Signature(error) => Some(error.outcome()),
            Refused::Denied(_) => Some("denied"),
            Refused::Body(_) => None,
        }
    }

    fn failure(self, face: &Face) -> Failure {
        let status = match &self {
            // who the caller is, is known
            Refused::Denied(_) if face.refused_status == StatusCode::UNAUTHORIZED => StatusCode::FORBIDDEN,
            _ => face.refused_status,
        };
        let (name, message) = match self {
            Refused::NoToken => (
                "UnrecognizedClientException",
                "This server has bearer tokens and no access keys: send a token, or configure [[aws.keys]].".to_string(),
            ),
            Refused::Signature(error) => (error.name(), error.to_string()),
            Refused::Denied(denied) => ("AccessDeniedException", denied.to_string()),
            Refused::Body(fault) => return (face.unread)(fault),
        };
        Failure::new(status, name, message)
    }
}

async fn admit(State(state): State<Arc<(Arc<Gate>, Face)>>, request: Request<Body>, next: Next) -> Response<Body> {
    let (gate, face) = &*state;
    let (head, body) = request.into_parts();
    let asked = Asked::of(&head);
    if gate.trusts(&head.headers) || (face.is_unsigned(&asked) && !is_signed(&head)) {
        return next.run(with_caller(head, body, Caller::trusted())).await;
    }
    let headers = head.headers.clone();
    let refused = match gate.verified(face, &asked, head, body).await {
        Ok(request) => {
            metrics::signature("verified");
            return next.run(request).await;
        }
        Err(refused) => refused,
    };
    if let Some(outcome) = refused.outcome() {
        metrics::signature(outcome);
        tracing::debug!(receiver = face.receiver, operation = asked.name, outcome, "a request was turned away");
    }
    let response = (face.failure)(&headers, &refused.failure(face));
    let operation = asked.operation.map_or("unknown", |operation| operation.name);
    metrics::answered(face.receiver, operation, response.status().as_u16());
    response
}

async fn admit_signed(State(state): State<Arc<(Arc<Gate>, Face)>>, request: Request<Body>, next: Next) -> Response<Body> {
    let authorization = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let is_signed = authorization.is_some_and(|value| value.starts_with("AWS4-"));
    if is_signed && state.0.verifier.is_required() {
        return admit(State(state), request, next).await;
    }
    if !state.0.trusts(request.headers()) {
        // it may send what belongs to no log group
        return next.run(request).await;
    }
    let (head, body) = request.into_parts();
    next.run(with_caller(head, body, Caller::trusted())).await
}

fn with_caller(mut head: Parts, body: Body, caller: Caller) -> Request<Body> {
    head.extensions.insert(caller);
    Request::from_parts(head, body)
}

impl Face {
    fn is_unsigned(&self, asked: &Asked) -> bool {
        asked.operation.is_some_and(|operation| self.unsigned.contains(&operation.name))
    }
}

impl Gate {
    /// Whether a request that is not signed may do everything: nothing is configured that it could bring, or it brings a token.
    fn trusts(&self, headers: &HeaderMap) -> bool {
        match self.tokens.is_required() {
            true => self.tokens.allows(headers),
            false => !self.verifier.is_required(),
        }
    }

    /// The request with its caller, to whom the operation is open.
    async fn verified(&self, face: &Face, asked: &Asked, head: Parts, body: Body) -> Result<Request<Body>, Refused> {
        if !self.verifier.is_required() {
            discard(body, face.max_body_bytes).await;
            return Err(Refused::NoToken);
        }
        let services = asked.service.as_slice();
        let services = if services.is_empty() { face.services } else { services };
        let pending = match self.verifier.begin(&head, services, self.clock.now_nanos()) {
            Ok(pending) => pending,
            Err(error) => {
                discard(body, face.max_body_bytes).await;
                return Err(Refused::Signature(error));
            }
        };
        let caps = Caps {
            max_body_bytes: face.max_body_bytes,
            max_inflated_bytes: face.max_body_bytes,
        };
        // what it is encoded with is the handler's business: signed are the bytes as they came
        let read = body::read(&head.headers, body, Encoding::Identity, caps, self.budget.share()).await;
        let body::Body { raw, share, .. } = read.map_err(|error| {
            let fault = BodyFault::from(error);
            if let Some(signal) = (face.records)(asked) {
                fault.count(self.intake.ledger(), face.receiver, signal);
            }
            Refused::Body(fault)
        })?;
        let signed = raw.clone();
        let verify = move || (pending.finish(&head, &signed), head);
        let (verified, head) = if raw.len() <= DECODE_INLINE_BYTES { verify() } else { aside(verify).await };
        let caller = verified.map_err(Refused::Signature)?;
        caller.may(asked, &self.account_id).map_err(Refused::Denied)?;
        if !face.checks_groups {
            caller.may_touch(asked, &[], &self.account_id, str::to_string).map_err(Refused::Denied)?;
        }
        Ok(with_caller(
            head,
            Body::new(Held {
                raw: Some(raw),
                share: Some(share),
            }),
            caller,
        ))
    }
}

/// Reads what is left of a body and forgets it: a client that is cut off while it sends would not read the answer.
pub(super) async fn discard(mut body: Body, max_bytes: usize) {
    let reading = async {
        let mut n_bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            n_bytes += frame.data_ref().map_or(0, Bytes::len);
            if n_bytes > max_bytes {
                return;
            }
        }
    };
    // one that takes longer is cut off
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, reading).await;
}

/// A body that was read already; gives its share of the budget back as it hands over its bytes, which who reads them
/// holds from then on.
#[derive(Debug)]
struct Held {
    raw: Option<Bytes>,
    share: Option<Share>,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        self.share = None;
        let raw = self.raw.take().filter(|raw| !raw.is_empty());
        Poll::Ready(raw.map(|raw| Ok(http_body::Frame::data(raw))))
    }

    fn is_end_stream(&self) -> bool {
        self.raw.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.raw.as_ref().map_or(0, Bytes::len) as u64)
    }
}

#[cfg(test)]
pub(super) mod tests;
