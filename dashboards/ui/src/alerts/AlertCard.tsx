// One alert, short (in the list) or whole (on its own page).

import type { JSX } from 'preact';
import type { Alert, AlertNotification, LogHit } from '../api/types';
import { common, href } from '../state/router';
import { measure } from '../text/number';
import { letter, severityClass } from '../text/severity';
import { clock, full, inOtherZone, millisOf, span, zoneLabel } from '../text/time';

const WORDS = { firing: 'FIRING', pending: 'PENDING', resolved: 'RESOLVED', inactive: 'OK' } as const;
/** How much of the past before the alert a link into the logs shows. */
const BEFORE_MS = 15 * 60_000;
const AFTER_MS = 5 * 60_000;

/** The rows the rule counts: its query, with the group it fired for, from a quarter of an hour before it began until it ended. */
export function evidenceLink(a: Alert): string {
  const link = a.link.includes('/search?') ? new URLSearchParams(a.link.slice(a.link.indexOf('?'))) : null;
  const query = link?.get('q') ?? a.query;
  const page = link?.get('table') === 'spans' ? 'traces' : 'search';
  const to = (from: string, until: string): string => (page === 'traces' ? href('traces', { q: query, f: [], from, to: until, spans: 'all' }) : href('search', { q: query, f: [], from, to: until }));
  const began = millisOf(a.fired_at_unix_nano ?? a.since_unix_nano ?? a.last_evaluated_unix_nano ?? '');
  if (!began) return to('-1h', 'now');
  const ended = a.state === 'resolved' && a.resolved_at_unix_nano ? millisOf(a.resolved_at_unix_nano) + AFTER_MS : null;
  return to(String(began - BEFORE_MS), ended === null ? 'now' : String(ended));
}

export function StateMark({ state }: { state: Alert['state'] }): JSX.Element {
  return <span class={`state state-${state}`}><i class="state-dot" />{WORDS[state] ?? state}</span>;
}

function Since({ alert }: { alert: Alert }): JSX.Element | null {
  const { tz } = common.value;
  const nanos = alert.state === 'resolved' ? (alert.resolved_at_unix_nano ?? alert.since_unix_nano) : alert.since_unix_nano;
  if (!nanos) return null;
  const at = millisOf(nanos);
  const word = alert.state === 'resolved' ? 'ago' : '';
  return <time class="muted mono" title={inOtherZone(at, tz)}>{span(Date.now() - at)}{word ? ` ${word}` : ''} · since {full(at, tz).slice(0, -4)} {zoneLabel(tz, at)}</time>;
}

export function AlertCard({ alert: a, whole }: { alert: Alert; whole: boolean }): JSX.Element {
  const samples = whole ? a.samples : a.samples.slice(0, 3);
  const Title = whole ? 'h1' : 'h3';
  const last = a.notifications.reduce<AlertNotification | null>((best, n) => (!best || n.time_unix_nano > best.time_unix_nano ? n : best), null);
  return (
    <article class={`alert state-${a.state}`} aria-label={a.rule}>
      <div class="alert-top">
        <StateMark state={a.state} />
        <Since alert={a} />
      </div>
      <Title class="alert-title">
        {whole ? a.rule : <a href={href('alert', { id: a.id })}>{a.rule}</a>}
        {a.group_key ? <span class="alert-group">{a.group_key}</span> : null}
        {a.severity ? <span class="badge">{a.severity}</span> : null}
      </Title>
      <p class="alert-summary">{a.summary}</p>
      {a.error ? <p class="wrong">The last evaluation failed: {a.error}</p> : null}
      <dl class="facts">
        <div><dt>value</dt><dd class="big">{measure(a.value)}</dd></div>
        <div><dt>threshold</dt><dd class="big">{measure(a.threshold)}</dd></div>
        {last && !whole ? <div><dt>last notice</dt><dd><Delivery notice={last} /></dd></div> : null}
        {!last ? <div><dt>notices</dt><dd class="muted">none sent</dd></div> : null}
        {whole && a.last_evaluated_unix_nano ? <div><dt>last evaluated</dt><dd>{span(Date.now() - millisOf(a.last_evaluated_unix_nano))} ago</dd></div> : null}
      </dl>
      {whole && a.condition ? <p class="alert-summary"><span class="muted">Fires when</span> {a.condition}</p> : null}
      {whole && a.reason ? <p class="alert-summary muted">{a.reason}</p> : null}
      {whole && a.description ? <p class="alert-summary">{a.description}</p> : null}
      {whole ? <pre class="rule-query" tabIndex={0} aria-label="Query of the rule">{a.query}</pre> : null}
      {samples.length ? (
        <ul class="samples" aria-label="Sample lines">
          {samples.map((h) => <Sample key={h.id} hit={h} query={a} />)}
        </ul>
      ) : null}
      <div class="buttons">
        <a class="button" href={evidenceLink(a)}>Search its lines</a>
        {a.trace_link ? <a class="button" href={`..${a.trace_link}`}>Open a trace</a> : null}
        {whole && a.runbook && /^https?:/.test(a.runbook) ? <a class="button" href={a.runbook} target="_blank" rel="noopener noreferrer">Runbook</a> : null}
        {!whole ? <a class="button" href={href('alert', { id: a.id })}>Details</a> : null}
      </div>
    </article>
  );
}

function Sample({ hit, query }: { hit: LogHit; query: Alert }): JSX.Element {
  const { tz } = common.value;
  const at = millisOf(hit.time_unix_nano);
  const link = hit.trace_id ? href('trace', { id: hit.trace_id, span: hit.span_id ?? '', log: hit.id }) : hit.time_unix_nano ? `${evidenceLink(query)}&sel=${hit.id}.${hit.time_unix_nano}` : evidenceLink(query);
  return (
    <li class={severityClass(hit.severity)}>
      <b class="letter" title={hit.severity}>{letter(hit.severity)}</b>
      <time title={inOtherZone(at, tz)}>{clock(at, tz)}</time>
      <span class="sample-service">{hit.service_name}</span>
      <a href={link} class="sample-body">{hit.body.slice(0, 300)}</a>
    </li>
  );
}

export function Delivery({ notice: n }: { notice: AlertNotification }): JSX.Element {
  const { tz } = common.value;
  const at = millisOf(n.time_unix_nano);
  return (
    <span class={`delivery ${n.status}`}>
      <b>{n.channel.toUpperCase()} {n.status}</b>{' '}
      <time title={inOtherZone(at, tz)}>{span(Date.now() - at)} ago</time>
      {n.attempts > 1 ? `, ${n.attempts} attempts` : ''}
      {n.error ? <span class="wrong">: {n.error}</span> : null}
    </span>
  );
}
